"""Delayed chains: one action matters, and what it was worth is told at the end.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, appendix A.3.
"""

import dataclasses
import difflib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.envs.adapter import (
    Environment,
    EpisodeState,
    Step,
    account,
    resets_of,
    start_account,
)

_NOISE_BITS = 20


@dataclasses.dataclass(frozen=True)
class Mode:
    """A family of chains; the length is drawn once per agent, uniformly.

    Attributes:
        name: What results are filed under.
        min_length: Steps of the shortest episode.
        max_length: Steps of the longest.
        noisy: Whether every reward but the last is +1 or -1 by chance, instead of 0.
        distractor: Whether the observation is two bits that tell and 20 that do not,
            instead of one-hot over all states.
        lifetime: Updates of an agent that meta-learning gives it.

    Raises:
        ValueError: If ``min_length`` is below 2 or above ``max_length``.

    Example:
        >>> Mode("mine", 3, 4).observation_shape
        (14,)
    """

    name: str
    min_length: int
    max_length: int
    noisy: bool = False
    distractor: bool = False
    lifetime: int = 781

    def __post_init__(self) -> None:
        """Checks the values."""
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
        chose_well: bool scalar, whether the first action was it; False before.
        time: int32 scalar, steps since the episode began.
    """

    length: jax.Array
    first_is_good: jax.Array
    chose_well: jax.Array
    time: jax.Array


def get_mode(name: str) -> Mode:
    """Looks a mode up.

    Args:
        name: One of `NAMES`.

    Returns:
        The mode.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> get_mode("short_noisy").noisy
        True
    """
    if name not in _MODES:
        near = difflib.get_close_matches(str(name), NAMES, 3, 0.4) or NAMES
        raise ValueError(f"name={name!r} is unknown; nearest: {', '.join(near)}")
    return _MODES[name]


def optimal_return(mode: Mode) -> float:
    """Gives what the best agent gets per episode in expectation, undiscounted.

    Args:
        mode: Any mode; noise is 0 on average, and the rest is the first action.

    Returns:
        1.0.

    Example:
        >>> optimal_return(get_mode("long"))
        1.0
    """
    del mode
    return 1.0


def sample_length(key: jax.Array, mode: Mode) -> jax.Array:
    """Draws the length of an agent's chain.

    Args:
        key: A PRNG key.
        mode: Gives the least and the greatest.

    Returns:
        int32 scalar.

    Example:
        >>> import jax
        >>> sample_length(jax.random.key(0), Mode("mine", 7, 7)).item()
        7
    """
    return jax.random.randint(key, (), mode.min_length, mode.max_length + 1)


def observe(key: jax.Array, state: State, mode: Mode) -> jax.Array:
    """Shows a state.

    Args:
        key: A PRNG key, for the bits that tell nothing.
        state: The state.
        mode: Its mode. Without distractor, states are numbered: two at the beginning,
            by the good action, then four at each time, by that and what was chosen.

    Returns:
        float32, of shape ``mode.observation_shape``; there is no entry for the time.
    """
    told = jnp.stack([state.first_is_good, state.chose_well])
    if mode.distractor:
        bits = jnp.append(told, jax.random.bernoulli(key, shape=(_NOISE_BITS,)))
        return bits.astype(jnp.float32)
    good, well = told.astype(jnp.int32)
    later = 2 + 4 * (state.time - 1) + 2 * good + well
    index = jnp.where(state.time == 0, good, later)
    return jax.nn.one_hot(index, mode.observation_shape[0])


def transition(
    key: jax.Array, state: State, action: jax.Array, mode: Mode
) -> tuple[State, jax.Array, jax.Array]:
    """Takes one step, without starting anew at the end of an episode.

    Args:
        key: A PRNG key, for noisy rewards.
        state: Before the step.
        action: int32 scalar, 0 or 1; of no effect after the first step.
        mode: The mode.

    Returns:
        The state after it, the reward (float32 scalar), and whether the episode is
        over (bool scalar).
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
    """Makes an environment of chains.

    An agent's environments share a length: ``reset_many`` draws one by its key. It is
    in the state, ``state.env.length``.

    Args:
        mode: A name of `NAMES`, or a mode of your own.
        length: Always this length, instead of a drawn one; may be traced.

    Returns:
        The environment.

    Raises:
        ValueError: If the name is unknown, or the length not of the mode.

    References:
        Oh et al. 2020, appendix A.3. How states are numbered is our choice.

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

    def choose(key: jax.Array) -> jax.Array:
        return sample_length(key, mode) if length is None else jnp.int32(length)

    def begin(key: jax.Array, length: jax.Array) -> tuple[jax.Array, State]:
        good_key, key = jax.random.split(key)
        good, nothing = jax.random.bernoulli(good_key), jnp.bool_(False)
        state = State(length, good, nothing, jnp.int32(0))
        return observe(key, state, mode), state

    def start(key: jax.Array, length: jax.Array) -> tuple[jax.Array, EpisodeState]:
        observation, state = begin(key, length)
        return observation, start_account(state)

    reset, batched_reset = resets_of(choose, start)

    def step(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        key, show_key, begin_key = jax.random.split(key, 3)
        inner, reward, done = transition(key, state.env, action, mode)
        after = observe(show_key, inner, mode), inner
        first = begin(begin_key, state.env.length)
        pick = functools.partial(jnp.where, done)
        observation, inner = jax.tree.map(pick, first, after)
        return Step(observation, account(state, inner, reward, done), reward, done)

    return Environment(
        f"chain/{mode.name}",
        reset,
        step,
        mode.observation_shape,
        2,
        batched_reset=batched_reset,
        optimal_return=optimal_return(mode),
    )


@functools.lru_cache
def make(name: str) -> Environment:
    """Builds the environment of a mode; the same name gives the same object.

    Args:
        name: One of `NAMES`.

    Returns:
        The environment.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> make("distractor").observation_shape
        (22,)
    """
    return environment(name)
