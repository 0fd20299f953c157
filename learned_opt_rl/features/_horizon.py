"""The length of a run, and where in the run an optimizer step is."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from learned_opt_rl import checks


def _positive_whole(name: str, value: Any) -> int:
    if isinstance(value, Tracer):
        raise ValueError(
            f"{name} is traced by jax, but a horizon is fixed when the optimizer is "
            "built; pass a Python number, and where the length depends on traced "
            "values pass training_proportion= to each tx.update"
        )
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 0:
        value = value.item()
    fix = "give the count of a real run"
    return checks.positive_int(name, value, fix, whole_floats=True)


@dataclasses.dataclass(frozen=True)
class Horizon:
    """The length of a training run, counted in optimizer updates.

    Attributes:
        total_updates: Optimizer steps (``tx.update`` calls) in the whole run.
        epochs: Passes over each rollout batch.
        minibatches: Optimizer steps per epoch.

    An algorithm without epochs and minibatches uses 1 for both.

    Raises:
        ValueError: A field is not a positive whole number, or the run is
            shorter than one rollout batch of ``epochs * minibatches`` steps.

    Example:
        >>> Horizon.ppo(1e7, num_envs=64, num_steps=128, epochs=4, minibatches=8)
        Horizon(total_updates=39040, epochs=4, minibatches=8)
    """

    total_updates: int
    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            whole = _positive_whole(f"Horizon.{field.name}", getattr(self, field.name))
            object.__setattr__(self, field.name, whole)
        if self.total_updates < self.epochs * self.minibatches:
            raise ValueError(
                f"Horizon.total_updates={self.total_updates} is less than one rollout "
                f"batch of epochs*minibatches={self.epochs * self.minibatches} "
                "optimizer steps; total_updates counts tx.update calls over the whole "
                "run (Horizon.ppo(...) computes it from environment steps)"
            )

    @classmethod
    def ppo(
        cls,
        total_timesteps: float,
        num_envs: int,
        num_steps: int,
        epochs: int,
        minibatches: int,
    ) -> Horizon:
        """Compute the horizon of a PPO-style run from its environment steps.

        Args:
            total_timesteps: Environment steps of the whole run (``1e7`` is fine).
            num_envs: Environments stepped in parallel.
            num_steps: Steps per environment and rollout.
            epochs: Passes over each rollout batch.
            minibatches: Minibatches per epoch.

        Returns:
            ``total_timesteps // num_steps // num_envs`` rollout batches of
            ``epochs * minibatches`` optimizer steps each.
        """
        timesteps = _positive_whole("total_timesteps", total_timesteps)
        envs = _positive_whole("num_envs", num_envs)
        steps = _positive_whole("num_steps", num_steps)
        rollouts = timesteps // steps // envs
        if rollouts < 1:
            raise ValueError(
                f"total_timesteps={timesteps} is less than one rollout of "
                f"num_envs*num_steps={envs * steps} steps; raise total_timesteps or "
                "shorten the rollout"
            )
        epochs = _positive_whole("epochs", epochs)
        minibatches = _positive_whole("minibatches", minibatches)
        return cls(rollouts * epochs * minibatches, epochs, minibatches)


def proportions(count: jax.Array, horizon: Horizon) -> tuple[jax.Array, jax.Array]:
    """Return training and batch proportion of optimizer step number ``count``.

    Returns:
        ``(t_p, b_p)``, float32 scalars in [0, 1]; ``count`` is 0 at the first step.
        ``t_p`` advances once per rollout batch and stays 1 past the horizon; ``b_p``
        advances once per epoch. A run of one rollout has ``t_p = 0``, one epoch has
        ``b_p = 0``.

    References:
        Goldie et al. 2024, section 5.3 (training and batch proportion).

    Example:
        >>> t_p, b_p = proportions(jnp.int32(3), Horizon(4, epochs=2, minibatches=1))
        >>> float(t_p), float(b_p)
        (1.0, 1.0)
    """
    per_rollout = horizon.epochs * horizon.minibatches
    last_rollout = max(horizon.total_updates // per_rollout - 1, 1)
    training = (count // per_rollout).astype(jnp.float32) / last_rollout
    epoch = (count // horizon.minibatches) % horizon.epochs
    batch = epoch.astype(jnp.float32) / max(horizon.epochs - 1, 1)
    return jnp.minimum(training, 1.0), batch
