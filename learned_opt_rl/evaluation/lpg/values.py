"""Fixed policies of grid worlds and their exact values."""

import functools

import jax
import jax.numpy as jnp

from learned_opt_rl.envs.gridworld import Level, Mode, action_values

# Action values closer than this differ by rounding only.
_TIE = 1e-5


def require_tabular(mode: Mode) -> None:
    """Raise unless agents see the number of the state."""
    if mode.observation != "tabular":
        raise ValueError(
            f"mode {mode.name!r} shows its states as {mode.observation!r}, but the "
            "analysis needs one prediction per state; choose a mode with "
            "observation='tabular', for example 'all_shortlife' or 'dense'"
        )


@functools.partial(jax.jit, static_argnames="mode")
def near_optimal_policy(
    level: Level,
    mode: Mode,
    gamma: float | jax.Array = 0.995,
    epsilon: float | jax.Array = 0.1,
) -> jax.Array:
    """Return the epsilon-greedy policy of the exact optimal action values.

    The values are those at the beginning of an episode, and the policy has no clock.
    The best actions (equal up to 1e-5) share 1 - epsilon; all actions share epsilon. A
    softmax would hardly prefer the way to an object to the way back, because a step
    costs only the share 1 - gamma of a value.

    Args:
        level: The level; `vmap` over a batch of them.
        mode: Mode of the level, with tabular observations.
        gamma: Discount.
        epsilon: Probability of a random action.

    Returns:
        float32 ``[states, num_actions]``, by the index of the tabular observation.

    Raises:
        ValueError: The mode is not tabular.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode, sample_level
        >>> mode = get_mode("debug")
        >>> level = sample_level(jax.random.key(0), mode)
        >>> policy = near_optimal_policy(level, mode, epsilon=0.5)
        >>> policy.shape, round(policy.min().item(), 3)
        ((64, 5), 0.1)
    """
    require_tabular(mode)
    of_actions = action_values(level, mode)
    value = jax.lax.fori_loop(
        0,
        level.max_steps - 1,
        lambda _, value: jnp.max(of_actions(value, gamma), axis=1),
        jnp.zeros((2**mode.num_slots, mode.num_cells)),
    )
    values = of_actions(value, gamma)
    best = values >= jnp.max(values, axis=1, keepdims=True) - _TIE
    greedy = best / jnp.sum(best, axis=1, keepdims=True)
    policy = (1 - epsilon) * greedy + epsilon / mode.num_actions
    return jnp.moveaxis(policy, 1, -1).reshape(-1, mode.num_actions)


@functools.partial(jax.jit, static_argnames="mode")
def true_values(
    level: Level, mode: Mode, policy: jax.Array, gamma: float | jax.Array
) -> jax.Array:
    """Compute the discounted values of a fixed policy.

    Episodes begin in every free cell equally often, with all objects present, and end
    by an object or at the level's step limit. Late in an episode a state is worth less,
    because of the limit, but policy and predictions have no clock. So the value of a
    state is the mean over the visits to it, to which a prediction without bootstrapping
    converges. If the limit is far away, this is the solution of the linear system
    v = r + gamma P v.

    Args:
        level: The level; `vmap` over a batch of them.
        mode: Mode of the level, with tabular observations.
        policy: float ``[states, num_actions]``, probabilities.
        gamma: Discount; `vmap` over several.

    Returns:
        float32 ``[states]``, NaN for states that are never visited.

    Raises:
        ValueError: The mode is not tabular, or the policy has another shape.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode, sample_level
        >>> mode = get_mode("debug")
        >>> level = sample_level(jax.random.key(0), mode)
        >>> true_values(level, mode, near_optimal_policy(level, mode), 0.9).shape
        (64,)
    """
    require_tabular(mode)
    require_policy(policy, mode)
    presences, horizon = 2**mode.num_slots, mode.max_steps
    of_actions = action_values(level, mode)
    probs = policy.reshape(presences, mode.num_cells, -1)
    probs = jnp.moveaxis(probs, -1, 1)

    def backup(value: jax.Array, discount: jax.Array | float) -> jax.Array:
        return jnp.sum(probs * of_actions(value, discount), axis=1)

    # Expectations pull values back in time; their transpose pushes visits forward.
    nothing = jnp.zeros((presences, mode.num_cells))
    forward = jax.vjp(lambda value: backup(value, 1.0), nothing)[1]
    first = (
        nothing.at[all_present(level)].set(level.free / jnp.sum(level.free)),
        jnp.int32(0),
    )

    def play(carry: tuple[jax.Array, jax.Array], _: None):
        visits, time = carry
        visits = jnp.where(time < level.max_steps, visits, 0.0)
        return (forward(visits)[0], time + 1), visits

    _, visits = jax.lax.scan(play, first, length=horizon)

    def earlier(carry: tuple[jax.Array, jax.Array], x: tuple[jax.Array, jax.Array]):
        value, total = carry
        visits, time = x
        value = jnp.where(time < level.max_steps, backup(value, gamma), 0.0)
        return (value, total + visits * value), None

    inputs = visits, jnp.arange(horizon)
    (_, total), _ = jax.lax.scan(earlier, (nothing, nothing), inputs, reverse=True)
    number = jnp.sum(visits, axis=0)
    # Products of many small probabilities may round to 0.
    known = number > 1e-20
    return jnp.where(known, total / jnp.where(known, number, 1.0), jnp.nan).reshape(-1)


def all_present(level: Level) -> jax.Array:
    """Return the number of the presence in which every object is present."""
    return 2**level.num_objects - 1


def require_policy(policy: jax.Array, mode: Mode) -> None:
    """Raise unless a policy has a row for each state."""
    shape = 2**mode.num_slots * mode.num_cells, mode.num_actions
    if jnp.shape(policy) != shape:
        raise ValueError(
            f"policy has shape {jnp.shape(policy)}, but mode {mode.name!r} has "
            f"{shape[0]} states and {shape[1]} actions: it must be {shape}"
        )
