"""The hyper-parameters of a run, one dataclass per agent."""

import dataclasses
from typing import TYPE_CHECKING

from learned_opt_rl.agents.networks import Activation

if TYPE_CHECKING:
    from learned_opt_rl.features import Horizon

_SIZES = ("total_timesteps", "num_envs", "num_steps")


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters of a run; the defaults are the papers' for MinAtar.

    Attributes:
        total_timesteps: Environment steps (``1e7`` is fine); what does not fill a
            rollout is not played.
        num_envs: Environments played in parallel.
        num_steps: Steps of each environment per rollout.
        epochs: Passes over each rollout.
        minibatches: Optimiser steps per pass.
        gamma: Discount.
        gae_lambda: Decay of generalised advantage estimation.
        clip_eps: Half-width of the clipping of ratios and of value changes.
        vf_coef: Weight of the value loss.
        ent_coef: Weight of the entropy bonus.
        max_grad_norm: Bound on the gradient norm, of actor and critic separately.
        hidden: Widths of the hidden layers, of actor and of critic.
        activation: Their nonlinearity, ``"relu"`` or ``"tanh"``.

    Raises:
        ValueError: If a value is out of range, or the sizes do not fit together.

    Example:
        >>> config = PPOConfig(total_timesteps=1_000_000)
        >>> config.num_rollouts, config.num_updates
        (122, 3904)
    """

    total_timesteps: int = 10_000_000
    num_envs: int = 64
    num_steps: int = 128
    epochs: int = 4
    minibatches: int = 8
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_eps: float = 0.2
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    max_grad_norm: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        """Checks the values."""
        _check_sizes(self, *_SIZES, "epochs", "minibatches")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1]")
        for name in ("clip_eps", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.batch_size % self.minibatches:
            raise ValueError(
                f"minibatches={self.minibatches} does not divide the rollout of "
                f"num_envs * num_steps = {self.batch_size} steps; choose a divisor"
            )
        _check_length(self)

    @property
    def batch_size(self) -> int:
        """Transitions per rollout."""
        return self.num_envs * self.num_steps

    @property
    def num_rollouts(self) -> int:
        """Rollouts in the run."""
        return self.total_timesteps // self.batch_size

    @property
    def num_updates(self) -> int:
        """Optimiser steps in the run."""
        return self.num_rollouts * self.epochs * self.minibatches

    def horizon(self) -> "Horizon":
        """The run as learned optimisers see it: how many steps, grouped how."""
        from learned_opt_rl.features import Horizon

        return Horizon(self.num_updates, self.epochs, self.minibatches)


@dataclasses.dataclass(frozen=True)
class LPGConfig:
    """Hyper-parameters of a run of an LPG agent; defaults are GROOVE's for MinAtar.

    Attributes:
        total_timesteps: Environment steps (``1e7`` is fine); what does not fill a
            rollout is not played.
        num_envs: Environments played in parallel.
        num_steps: Steps of each environment per rollout, and so per update.
        gamma: Discount, for rules that take it as an input; others ignore it.
        alpha_y: Weight of the prediction's loss.
        max_grad_norm: Bound on the gradient norm, of actor and predictor separately;
            ``None`` for no bound.
        hidden: Widths of the hidden layers, of actor and of predictor. ``()`` is the
            tabular agent: one linear map without bias.
        activation: Their nonlinearity, ``"relu"`` or ``"tanh"``.
        lifetime: Updates after which the agent stays as it is; ``None`` for no end. A
            rule with lifetime inputs is told this number, or ``num_updates``.

    Raises:
        ValueError: If a value is out of range, or the sizes do not fit together.

    References:
        Jackson et al. 2023 (GROOVE), whose SGD agents bound the norm by 0.5 and whose
        Adam agents do not bound it.

    Example:
        >>> LPGConfig(total_timesteps=128_000).num_updates
        100
    """

    total_timesteps: int = 10_000_000
    num_envs: int = 64
    num_steps: int = 20
    gamma: float = 0.99
    alpha_y: float = 0.5
    max_grad_norm: float | None = 0.5
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    lifetime: int | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        _check_sizes(self, *_SIZES, *(() if self.lifetime is None else ("lifetime",)))
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma={self.gamma} must be in [0, 1]")
        if not self.alpha_y >= 0:
            raise ValueError(f"alpha_y={self.alpha_y} must not be negative")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(
                f"max_grad_norm={self.max_grad_norm} must be positive, or None"
            )
        _check_length(self)

    @property
    def batch_size(self) -> int:
        """Transitions per rollout."""
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        """Updates in the run, one per rollout."""
        return self.total_timesteps // self.batch_size


def _check_sizes(config: PPOConfig | LPGConfig, *names: str) -> None:
    """Makes whole numbers of sizes, and raises for what is none."""
    for name in names:
        object.__setattr__(config, name, _whole(name, getattr(config, name)))
    hidden = tuple(_whole("hidden", width) for width in config.hidden)
    object.__setattr__(config, "hidden", hidden)
    if config.activation not in ("relu", "tanh"):
        raise ValueError(f'activation={config.activation!r} must be "relu" or "tanh"')


def _check_length(config: PPOConfig | LPGConfig) -> None:
    if config.total_timesteps < config.batch_size:
        raise ValueError(
            f"total_timesteps={config.total_timesteps} is less than one rollout of "
            f"num_envs * num_steps = {config.batch_size} steps; raise it, or lower "
            "num_envs or num_steps"
        )


def _whole(name: str, value: float) -> int:
    if not isinstance(value, int | float) or value < 1 or value % 1:
        raise ValueError(f"{name}={value!r} must be a positive whole number")
    return int(value)
