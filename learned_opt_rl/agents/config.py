"""The hyper-parameters of a run, one dataclass per agent.

``gamma``, ``gae_lambda``, ``alpha_y``, ``input_divisor``, ``max_grad_norm``,
``clip_eps`` and the coefficients ending in ``_coef`` may be traced values. A
configuration made inside a vmapped function then gives one program for a population
of settings, and so does an optimizer made there with a traced learning rate. The other
fields shape the program.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from jax.core import Tracer

from learned_opt_rl.checks import positive_int

if TYPE_CHECKING:
    from learned_opt_rl.features import Horizon


Activation = Literal["relu", "tanh"]
"""Nonlinearity of the hidden layers."""

ConvLayer = tuple[int, int, int]
"""``(filters, kernel, stride)``, with a square kernel and without padding."""

Truncation = Literal["bootstrap", "terminate"]
"""How an agent treats an episode that a time limit cut."""


def _truncation(default: Truncation) -> Any:
    # Runs of versions without this field treated every end as a termination.
    return dataclasses.field(default=default, metadata={"formerly": "terminate"})


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Hyper-parameters that the agents share.

    Attributes:
        total_timesteps: Environment steps (``1e7`` is fine). Steps that do not fill a
            rollout are not played.
        num_envs: Environments played in parallel.
        num_steps: Steps of each environment per rollout.
        gamma: Discount. An LPG agent passes it to rules that take it as an input.
        max_grad_norm: Bound on the gradient norm, of each network separately.
        hidden: Widths of the hidden layers, of each network. ``()`` makes A2C and LPG
            agents tabular: one linear map without bias.
        activation: Nonlinearity of the hidden layers, ``"relu"`` or ``"tanh"``.
        conv: Convolutions before the hidden layers, ``(filters, kernel, stride)`` each,
            for observations that are images. ``()`` flattens images.
        input_divisor: Divisor of observations, for example 255 for pixels.
        truncation: What follows an episode that a time limit cut. ``"bootstrap"`` takes
            the value of its final observation, where the environment gives that
            observation (see `envs.Step`). ``"terminate"`` takes no value, as after any
            other end; the published runs did so, and `preset` has it for every
            environment with published settings.

    Raises:
        ValueError: A value is out of range, or the sizes do not fit together.

    References:
        Pardo et al., "Time Limits in Reinforcement Learning", 2018 (bootstrapping).
    """

    total_timesteps: int = 10_000_000
    num_envs: int = 64
    num_steps: int = 20
    gamma: float = 0.99
    max_grad_norm: float | None = 0.5
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    conv: tuple[ConvLayer, ...] = ()
    input_divisor: float = 1.0
    truncation: Truncation = _truncation("bootstrap")

    def __post_init__(self) -> None:
        _to_whole(self, "total_timesteps", "num_envs", "num_steps")
        # Values from JSON come as lists, which jit could not hash.
        _put(self, "hidden", tuple(_whole("hidden", width) for width in self.hidden))
        _put(self, "conv", tuple(map(_conv_layer, self.conv)))
        if self.activation not in ("relu", "tanh"):
            raise ValueError(f'activation={self.activation!r} must be "relu" or "tanh"')
        if self.truncation not in ("bootstrap", "terminate"):
            raise ValueError(
                f'truncation={self.truncation!r} must be "bootstrap" or "terminate"'
            )
        _check_positive(self, "input_divisor")
        _check_share(self, "gamma")
        if self.total_timesteps < self.batch_size:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one rollout of "
                f"num_envs * num_steps = {self.batch_size} steps; raise it, or lower "
                "num_envs or num_steps"
            )

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
        """Optimizer steps in the run."""
        return self.num_rollouts

    def horizon(self) -> "Horizon":
        """Return the number and grouping of updates, for learned optimizers."""
        from learned_opt_rl.features import Horizon

        return Horizon(self.num_updates)


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(RunConfig):
    """Hyper-parameters that PPO and A2C share, besides those of `RunConfig`.

    Attributes:
        gae_lambda: Decay of generalized advantage estimation.
        vf_coef: Weight of the value loss.
        ent_coef: Weight of the entropy bonus.
        normalize_observations: Whether to subtract the running mean from observations
            and divide them by the running standard deviation.
        normalize_rewards: Whether to divide rewards by the running standard deviation
            of the discounted return. Reported returns are raw in any case.
    """

    max_grad_norm: float = 0.5
    gae_lambda: float = 0.95
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    normalize_observations: bool = False
    normalize_rewards: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share(self, "gae_lambda")
        _check_positive(self, "max_grad_norm")


@dataclasses.dataclass(frozen=True)
class PPOConfig(ActorCriticConfig):
    """Hyper-parameters of PPO. The defaults are those of the papers for MinAtar.

    Attributes:
        epochs: Passes over each rollout.
        minibatches: Optimizer steps per pass.
        clip_eps: Half-width of the clipping of ratios and of value changes.

    Raises:
        ValueError: A value is out of range, or the sizes do not fit together.

    References:
        Goldie et al. 2024 (OPEN), table 3.

    Example:
        >>> config = PPOConfig(total_timesteps=1_000_000)
        >>> config.num_rollouts, config.num_updates
        (122, 3904)
    """

    num_steps: int = 128
    epochs: int = 4
    minibatches: int = 8
    clip_eps: float = 0.2
    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        _to_whole(self, "epochs", "minibatches")
        super().__post_init__()
        _check_positive(self, "clip_eps")
        if self.batch_size % self.minibatches:
            raise ValueError(
                f"minibatches={self.minibatches} does not divide the rollout of "
                f"num_envs * num_steps = {self.batch_size} steps; choose a divisor"
            )

    @property
    def num_updates(self) -> int:
        """Optimizer steps in the run."""
        return self.num_rollouts * self.epochs * self.minibatches

    def horizon(self) -> "Horizon":
        """Return the number and grouping of updates, for learned optimizers."""
        from learned_opt_rl.features import Horizon

        return Horizon(self.num_updates, self.epochs, self.minibatches)


@dataclasses.dataclass(frozen=True)
class A2CConfig(ActorCriticConfig):
    """Hyper-parameters of A2C. The defaults are those of GROOVE for MinAtar.

    Raises:
        ValueError: A value is out of range, or the sizes do not fit together.

    References:
        Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016.
        Jackson et al. 2023 (GROOVE), which uses A2C as the antagonist.

    Example:
        >>> A2CConfig(total_timesteps=128_000).num_updates
        100
    """


@dataclasses.dataclass(frozen=True)
class LPGConfig(RunConfig):
    """Hyper-parameters of an LPG agent. The defaults are those of GROOVE for MinAtar.

    Attributes:
        alpha_y: Weight of the prediction's loss.
        max_grad_norm: Bound on the gradient norm of actor and predictor; ``None`` for
            no bound.
        lifetime: Updates after which the agent no longer changes; ``None`` for never. A
            rule with lifetime inputs gets this number, or else ``num_updates``.
        baseline: Whether a third network f predicts pi_hat from the observation, and
            the actor follows pi_hat - f.
        truncation: Only ``"terminate"``: a rule decides itself what follows the end of
            an episode, and the published rules know one kind of end.

    Raises:
        ValueError: A value is out of range, or the sizes do not fit together.

    References:
        Jackson et al. 2023 (GROOVE), whose SGD agents bound the norm by 0.5 and whose
        Adam agents do not bound it.
        Oh et al. 2020, equation 7 (the baseline, on Atari).

    Example:
        >>> LPGConfig(total_timesteps=128_000).num_updates
        100
    """

    alpha_y: float = 0.5
    lifetime: int | None = None
    baseline: bool = False
    truncation: Truncation = _truncation("terminate")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truncation != "terminate":
            raise ValueError(
                f'truncation={self.truncation!r} must be "terminate" for an LPG agent, '
                "whose rule has no value to bootstrap from"
            )
        if self.lifetime is not None:
            _to_whole(self, "lifetime")
        if not isinstance(self.alpha_y, Tracer) and not self.alpha_y >= 0:
            raise ValueError(f"alpha_y={self.alpha_y} must not be negative")
        if self.max_grad_norm is not None:
            _check_positive(self, "max_grad_norm", ", or None")


Config = PPOConfig | A2CConfig | LPGConfig
"""The configuration of any agent."""


def _put(config: RunConfig, name: str, value: Any) -> None:
    object.__setattr__(config, name, value)  # The dataclasses are frozen.


def _to_whole(config: RunConfig, *names: str) -> None:
    for name in names:
        _put(config, name, _whole(name, getattr(config, name)))


def _whole(name: str, value: Any) -> int:
    return positive_int(name, value, whole_floats=True)


def _conv_layer(layer: Any) -> tuple[int, int, int]:
    if not isinstance(layer, tuple | list) or len(layer) != 3:
        raise ValueError(
            f"conv={layer!r} must be layers of (filters, kernel, stride), for example "
            "conv=((16, 3, 1),)"
        )
    filters, kernel, stride = (_whole("conv", size) for size in layer)
    return filters, kernel, stride


def _check_share(config: RunConfig, name: str) -> None:
    value = getattr(config, name)
    if not isinstance(value, Tracer) and not 0 <= value <= 1:
        raise ValueError(f"{name}={value} must be in [0, 1]")


def _check_positive(config: RunConfig, name: str, otherwise: str = "") -> None:
    value = getattr(config, name)
    if not isinstance(value, Tracer) and (value is None or not value > 0):
        raise ValueError(f"{name}={value} must be positive{otherwise}")
