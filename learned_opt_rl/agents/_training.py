"""A whole run as one pure function, whatever the agent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax


class TrainResult(NamedTuple):
    """What a run leaves.

    Attributes:
        params: The agent at the end, ``{"actor": ..., "critic": ...}`` or, of an LPG
            agent, ``{"actor": ..., "predictor": ...}``.
        opt_state: The optimiser's state at the end.
        returns: float32 ``[num_rollouts]``, the learning curve: at the end of each
            rollout, the mean, over the environments that have finished an episode, of
            the return of the one each finished last; NaN while none has.
        final_return: float32 scalar, the last of them; NaN if no episode was finished.
    """

    params: Any
    opt_state: optax.OptState
    returns: jax.Array
    final_return: jax.Array


def train_by(
    loop: tuple[Callable[[jax.Array], Any], Callable[[Any], Any]], num_rollouts: int
) -> Callable[[jax.Array], TrainResult]:
    """Builds ``train(key)`` of an agent's ``start`` and ``iterate``."""
    start, iterate = loop

    def step(runner: Any, _: None) -> tuple[Any, jax.Array]:
        runner = iterate(runner)
        return runner, runner.mean_return

    def train(key: jax.Array) -> TrainResult:
        runner, returns = jax.lax.scan(step, start(key), length=num_rollouts)
        return TrainResult(runner.params, runner.opt_state, returns, returns[-1])

    return train
