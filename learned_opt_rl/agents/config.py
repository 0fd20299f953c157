"""The hyper-parameters of a run, one dataclass per agent.

``gamma``, ``gae_lambda``, ``alpha_y``, ``input_divisor``, ``max_grad_norm``,
``clip_eps`` and the coefficients ending in ``_coef`` may be traced values: a
configuration made within a vmapped function gives one program for a whole population
of settings (and so does an optimiser made there with a traced learning rate). The
other fields shape the program.
"""

import dataclasses
from typing import TYPE_CHECKING

from learned_opt_rl.agents import _config_checks as checks
from learned_opt_rl.agents.networks import Activation, ConvLayer

if TYPE_CHECKING:
    from learned_opt_rl.features import Horizon

_SIZES = ("total_timesteps", "num_envs", "num_steps")


class _Rollouts:
    """Counts of a run of rollouts."""

    total_timesteps: int
    num_envs: int
    num_steps: int

    @property
    def batch_size(self) -> int:
        """Transitions per rollout."""
        return self.num_envs * self.num_steps

    @property
    def num_rollouts(self) -> int:
        """Rollouts in the run."""
        return self.total_timesteps // self.batch_size


@dataclasses.dataclass(frozen=True)
class PPOConfig(_Rollouts):
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
        normalize_observations: Whether agents see observations less their running
            mean, over their running deviation.
        normalize_rewards: Whether they learn from rewards over the running deviation
            of the discounted return. The returns reported are raw in any case.
        conv: Convolutions before the hidden layers, ``(filters, kernel, stride)`` each,
            for observations that are images; ``()`` for none, images flattened.
        input_divisor: What observations are divided by, as 255 for pixels.

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
    normalize_observations: bool = False
    normalize_rewards: bool = False
    conv: tuple[ConvLayer, ...] = ()
    input_divisor: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values."""
        checks.whole_numbers(self, *_SIZES, "epochs", "minibatches")
        checks.network(self)
        checks.shares(self, "gamma", "gae_lambda")
        checks.positive(self, "clip_eps", "max_grad_norm")
        if self.batch_size % self.minibatches:
            raise ValueError(
                f"minibatches={self.minibatches} does not divide the rollout of "
                f"num_envs * num_steps = {self.batch_size} steps; choose a divisor"
            )
        checks.length(self)

    @property
    def num_updates(self) -> int:
        """Optimiser steps in the run."""
        return self.num_rollouts * self.epochs * self.minibatches

    def horizon(self) -> "Horizon":
        """The run as learned optimisers see it: how many steps, grouped how."""
        from learned_opt_rl.features import Horizon

        return Horizon(self.num_updates, self.epochs, self.minibatches)


class _OneUpdatePerRollout(_Rollouts):
    """Counts of a run that makes one optimiser step on each rollout."""

    @property
    def num_updates(self) -> int:
        """Optimiser steps in the run, one per rollout."""
        return self.num_rollouts

    def horizon(self) -> "Horizon":
        """The run as learned optimisers see it: no epochs, no minibatches."""
        from learned_opt_rl.features import Horizon

        return Horizon(self.num_updates)


@dataclasses.dataclass(frozen=True)
class A2CConfig(_OneUpdatePerRollout):
    """Hyper-parameters of a run of A2C; the defaults are GROOVE's for MinAtar.

    Attributes:
        total_timesteps: Environment steps (``1e7`` is fine); what does not fill a
            rollout is not played.
        num_envs: Environments played in parallel.
        num_steps: Steps of each environment per rollout, and so per update.
        gamma: Discount.
        gae_lambda: Decay of generalised advantage estimation.
        vf_coef: Weight of the value loss.
        ent_coef: Weight of the entropy bonus.
        max_grad_norm: Bound on the gradient norm, of actor and critic separately.
        hidden: Widths of the hidden layers, of actor and of critic. ``()`` is the
            tabular agent: one linear map without bias.
        activation: Their nonlinearity, ``"relu"`` or ``"tanh"``.
        normalize_observations: As in `PPOConfig`.
        normalize_rewards: As in `PPOConfig`.
        conv: As in `PPOConfig`.
        input_divisor: As in `PPOConfig`.

    Raises:
        ValueError: If a value is out of range, or the sizes do not fit together.

    References:
        Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016.
        Jackson et al. 2023 (GROOVE), whose antagonist it is.

    Example:
        >>> A2CConfig(total_timesteps=128_000).num_updates
        100
    """

    total_timesteps: int = 10_000_000
    num_envs: int = 64
    num_steps: int = 20
    gamma: float = 0.99
    gae_lambda: float = 0.95
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    max_grad_norm: float = 0.5
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    normalize_observations: bool = False
    normalize_rewards: bool = False
    conv: tuple[ConvLayer, ...] = ()
    input_divisor: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values."""
        checks.whole_numbers(self, *_SIZES)
        checks.network(self)
        checks.shares(self, "gamma", "gae_lambda")
        checks.positive(self, "max_grad_norm")
        checks.length(self)


@dataclasses.dataclass(frozen=True)
class LPGConfig(_OneUpdatePerRollout):
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
        conv: As in `PPOConfig`.
        input_divisor: As in `PPOConfig`.

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
    conv: tuple[ConvLayer, ...] = ()
    input_divisor: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values."""
        lived = () if self.lifetime is None else ("lifetime",)
        checks.whole_numbers(self, *_SIZES, *lived)
        checks.network(self)
        checks.shares(self, "gamma")
        checks.not_negative(self, "alpha_y")
        if self.max_grad_norm is not None:
            checks.positive(self, "max_grad_norm", hint=", or None")
        checks.length(self)


Config = PPOConfig | A2CConfig | LPGConfig
"""Of any agent."""
