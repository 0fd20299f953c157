"""Delayed chains: the first action decides the reward that comes at the end.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, appendix A.3.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.checks import suggest
from learned_opt_rl.envs.adapter import Environment, sharing_draws

OPTIMAL_RETURN = 1.0
"""Expected undiscounted return of the best agent: noise is 0 on average, and the first
action decides the rest."""

_NOISE_BITS = 20  # Oh et al. 2020, appendix A.3.


@dataclasses.dataclass(frozen=True)
class Mode:
    """A family of chains; the length is drawn once per agent, uniformly.

    Attributes:
        name: The name in result rows.
        min_length: Steps of the shortest episode.
        max_length: Steps of the longest.
        noisy: Whether every reward but the last is +1 or -1 by chance, instead of 0.
        distractor: Whether the observation is two informative and 20 random bits,
            instead of one-hot over all states.
        lifetime: Updates of an agent in meta-training.

    Raises:
        ValueError: ``min_length`` is below 2 or above ``max_length``.

    Example:
        >>> Mode("mine", 3, 4).observation_shape
        (14,)
    """

    name: str
    min_length: int
    max_length: int
    noisy: bool = False
    distractor: bool = False
    lifetime: int = 781  # 1e6 steps in updates of 64 * 20.

    def __post_init__(self) -> None:
        if not 2 <= self.min_length <= self.max_length:
            raise ValueError(
                f"min_length={self.min_length} must be at least 2, and no more than "
                f"max_length={self.max_length}"
            )

    @property
    def observation_shape(self) -> tuple[int]:
        """Shape of an observation."""
        return (2 + (_NOISE_BITS if self.distractor else 4 * (self.max_length - 1)),)


_MODES = {
    mode.name: mode
    for mode in (
        Mode("short", 5, 30),
        Mode("short_noisy", 5, 30, noisy=True),
        Mode("long", 5, 50),
        Mode("long_noisy", 5, 50, noisy=True),
        Mode("distractor", 5, 30, distractor=True, lifetime=1562),
    )
}

NAMES: tuple[str, ...] = tuple(_MODES)
"""The names of the modes."""


class State(NamedTuple):
    """A state of a chain.

    Attributes:
        length: int32 scalar, steps of every episode.
        first_is_good: bool scalar, whether action 0 is the good one in this episode.
        chose_well: bool scalar, whether the first action was good; False before it.
        time: int32 scalar, steps since the episode began.
    """

    length: jax.Array
    first_is_good: jax.Array
    chose_well: jax.Array
    time: jax.Array


def get_mode(name: str) -> Mode:
    """Return the mode of a name of `NAMES`, or raise ValueError."""
    if name not in _MODES:
        raise ValueError(f"name={name!r} is unknown; {suggest(name, NAMES)}")
    return _MODES[name]


def sample_length(key: jax.Array, mode: Mode) -> jax.Array:
    """Draw the length of an agent's chain, int32 scalar."""
    return jax.random.randint(key, (), mode.min_length, mode.max_length + 1)


def observe(key: jax.Array, state: State, mode: Mode) -> jax.Array:
    """Return the observation of a state, float32 ``mode.observation_shape``.

    The key is for the random bits. Without distractor, states are numbered: two at the
    beginning, by the good action, then four at each time, by the good and the chosen
    action. The time itself is not observed.
    """
    informative = jnp.stack([state.first_is_good, state.chose_well])
    if mode.distractor:
        bits = jnp.append(informative, jax.random.bernoulli(key, shape=(_NOISE_BITS,)))
        return bits.astype(jnp.float32)
    return jax.nn.one_hot(_index(state), mode.observation_shape[0])


def _observe_index(key: jax.Array, state: State, mode: Mode) -> jax.Array:
    del key, mode
    return _index(state).astype(jnp.float32)[None]


def _index(state: State) -> jax.Array:
    good, well = state.first_is_good.astype(jnp.int32), state.chose_well
    later = 2 + 4 * (state.time - 1) + 2 * good + well.astype(jnp.int32)
    return jnp.where(state.time == 0, good, later)


def transition(
    key: jax.Array, state: State, action: jax.Array, mode: Mode
) -> tuple[State, jax.Array, jax.Array]:
    """Take one step, without a reset; return the state, the reward and the end.

    The action is an int32 scalar, 0 or 1. It has no effect after the first step: the
    chain only delays the reward.
    """
    well = (action == 0) == state.first_is_good
    well = jnp.where(state.time == 0, well, state.chose_well)
    time = state.time + 1
    done = time >= state.length
    noise = jax.random.rademacher(key, (), jnp.float32) if mode.noisy else 0.0
    reward = jnp.where(done, jnp.where(well, 1.0, -1.0), noise)
    return state._replace(chose_well=well, time=time), reward, done


def environment(
    mode: str | Mode, *, length: jax.Array | int | None = None
) -> Environment:
    """Build an environment of chains.

    An agent's environments share a length, which ``reset_many`` draws from its key. The
    state has it as ``state.env.length``.

    Args:
        mode: A name of `NAMES`, or a mode of your own.
        length: Use this length instead of a drawn one; may be traced.

    Raises:
        ValueError: The name is unknown, or the length does not fit the mode.

    References:
        Oh et al. 2020, appendix A.3. The numbering of states is our choice.

    Example:
        >>> env = environment("short", length=5)
        >>> env.observation_shape, env.num_actions
        ((118,), 2)
    """
    mode = get_mode(mode) if isinstance(mode, str) else mode
    if isinstance(length, int) and not mode.min_length <= length <= mode.max_length:
        raise ValueError(
            f"length={length} must be {mode.min_length} to {mode.max_length} in mode "
            f"{mode.name!r}"
        )

    def draw(key: jax.Array) -> jax.Array:
        return sample_length(key, mode) if length is None else jnp.int32(length)

    def build(observe: Any, shape: tuple[int, ...]) -> Environment:
        def begin(key: jax.Array, length: jax.Array) -> tuple[jax.Array, State]:
            good_key, key = jax.random.split(key)
            good, nothing = jax.random.bernoulli(good_key), jnp.bool_(False)
            state = State(length, good, nothing, jnp.int32(0))
            return observe(key, state, mode), state

        def step(key: jax.Array, state: State, action: Any) -> Any:
            key, show_key, begin_key = jax.random.split(key, 3)
            inner, reward, done = transition(key, state, action, mode)
            after = observe(show_key, inner, mode), inner
            first = begin(begin_key, state.length)
            observation, inner = jax.tree.map(
                functools.partial(jnp.where, done), first, after
            )
            return observation, inner, reward, done

        return sharing_draws(
            f"chain/{mode.name}",
            draw,
            begin,
            step,
            observation_shape=shape,
            num_actions=2,
            optimal_return=OPTIMAL_RETURN,
        )

    tabular = None if mode.distractor else build(_observe_index, (1,))
    return build(observe, mode.observation_shape).with_tabular(tabular)
