"""brax: locomotion with continuous actions.

Episodes last at most 1000 steps. Every episode of an environment starts from the state
of the first one, because brax would otherwise draw a new state at every step. This is
brax's own `AutoResetWrapper`, which the published results used through purejaxrl.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from learned_opt_rl.envs.adapter import (
    Environment,
    adapt,
    in_32_bits,
    require,
    versions,
)

ENVIRONMENTS = ("ant", "humanoid", "hopper", "walker2d")
BACKENDS = ("positional", "generalized", "mjx", "spring")
"""A name without a backend means the first."""
EPISODE_LENGTH = 1000

NAMES = ENVIRONMENTS + tuple(
    f"{name}/{backend}" for name in ENVIRONMENTS for backend in BACKENDS[1:]
)


@in_32_bits
def make(name: str) -> Environment:
    """Build ``"ant"``, or with another physics backend ``"ant/spring"``."""
    head, slash, backend = name.partition("/")
    backend = backend if slash else BACKENDS[0]
    if backend not in BACKENDS:
        raise ValueError(
            f"name={name!r}: backend {backend!r} is not supported; "
            f"choose one of {', '.join(BACKENDS)}, for example '{head}/spring'"
        )
    with _quiet():
        with contextlib.redirect_stdout(io.StringIO()):  # "Failed to import warp"
            brax = require("brax.envs", "brax")
        env = brax.create(head, episode_length=EPISODE_LENGTH, backend=backend)
        env.env = _KeepsLast(env.env)  # Inside the AutoResetWrapper.
        return dataclasses.replace(
            from_brax(env, name),
            details=(
                ("backend", backend),
                *versions("brax", "mujoco"),
                ("episode_length", str(EPISODE_LENGTH)),
                ("reset", "to the first state (brax's AutoResetWrapper)"),
            ),
        )


def from_brax(env: Any, name: str) -> Environment:
    """Wrap an environment of ``brax.envs.create``, which resets itself."""
    return adapt(_Gymnax(env), name=name)


class _KeepsLast:
    """A brax environment that also puts its observation into ``info``.

    The AutoResetWrapper around it replaces the last observation of an episode, but
    leaves ``info`` alone.
    """

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, rng: jax.Array) -> Any:
        return self._keep(self._env.reset(rng))

    def step(self, state: Any, action: jax.Array) -> Any:
        return self._keep(self._env.step(state, action))

    def _keep(self, state: Any) -> Any:
        return state.replace(info={**state.info, "final_observation": state.obs})


class _Box(NamedTuple):
    shape: tuple[int, ...]
    low: float
    high: float


class _Gymnax:
    """A brax environment with gymnax's methods."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def action_space(self, params: None) -> _Box:
        return _Box((self._env.action_size,), -1.0, 1.0)

    def reset(self, key: jax.Array, params: None) -> tuple[jax.Array, Any]:
        with _quiet():
            state = self._env.reset(key)
        return state.obs, state

    def step(self, key: jax.Array, state: Any, action: jax.Array, params: None) -> Any:
        # brax's wrappers write into the dictionary of their argument.
        state = state.replace(info=dict(state.info))
        with _quiet():
            state = self._env.step(state, action)
        return state.obs, state, state.reward, state.done > 0.5, state.info


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence brax's warnings when it is imported, built or traced.

    brax also broadcasts silently, which a user may have forbidden jax.
    """
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        for message in (
            "JAXopt is no longer maintained",
            "Brax System, piplines and environments",
            "Accessing `.*` directly from `Data` is deprecated",
        ):
            warnings.filterwarnings("ignore", message)
        yield
