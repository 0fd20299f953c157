"""The configuration of a meta-training: everything that its numbers depend on."""

import dataclasses
import json
import numbers
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any, get_args

from learned_opt_rl import agents, checks
from learned_opt_rl.agents import networks
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.families.lpg import Architecture
from learned_opt_rl.rundir import settings
from learned_opt_rl.training import presets
from learned_opt_rl.training.meta_gradients.objective import Objective
from learned_opt_rl.training.meta_gradients.tasks import task

METHOD = "meta_gradients"
PRESETS = tuple(presets.table(METHOD))
"""Names of the presets; ``presets.json`` describes each."""

LIFETIME_GRADIENTS = ("plain", "clip", "norm", "adam")
"""What a lifetime may add to the meta-gradient; see `MetaGradientConfig`."""

_AT_LEAST = "give at least 1"
_COUNTS = {
    **dict.fromkeys(("lifetimes", "minibatch", "workers", "rollout"), _AT_LEAST),
    **dict.fromkeys(("updates", "steps", "log_every"), _AT_LEAST),
    "lifetime": "give a number of updates, or None for the mode's",
    "validation_rollout": "give a number of steps, or None for that of rollout",
}
"""What to give for fields that are whole numbers, for the message."""

_LEAVE_OUT = ("0 to leave the term out", {"least": 0})
_NUMBERS: dict[str, tuple[str, Any]] = {
    "learning_rate": ("for example 0.0001", {"above": 0}),
    "bandit_temperature": ("for example 0.1", {"above": 0}),
    "predictor_rate": ("for example 0.1", {"above": 0}),
    "clip": ("for example 0.5, or None for no bound", {"above": 0}),
    "max_grad_norm": ("for example 0.5, or None for no bound", {"above": 0}),
    "value_rate": (
        "for example 0.01, or None for the predictor's optimizer",
        {"above": 0},
    ),
    "gae_lambda": ("for example 0.95", {"least": 0, "most": 1}),
    "advantage_decay": ("for example 0.99, or None", {"least": 0, "most": 0.9999}),
    **dict.fromkeys(("bandit_bonus", "target_entropy"), _LEAVE_OUT),
    **dict.fromkeys(("policy_l2", "target_l2"), _LEAVE_OUT),
}
"""What to give for the other numbers, and their bounds."""

_LISTS: dict[str, tuple[str, dict[str, float]]] = {
    "gammas": ("(0.99,)", {"least": 0, "most": 1}),
    "policy_entropy": ("(0.05,)", {"least": 0}),
    "agent_rates": ("(20.0, 40.0)", {"above": 0}),
    "agent_alpha_y": ("(0.5,)", {"least": 0}),
}
"""An example of each tuple, and the bounds of entries; the first two need an entry."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaGradientConfig(Objective):
    """A meta-training of LPG; the defaults are GROOVE's.

    Attributes:
        architecture: Sizes and conventions of the rule: fields of `lpg.Architecture`.
        environments: Grid worlds and chains; each has the same number of lifetimes.
        agent: Column of `agents.preset` for the agents of all environments, for example
            ``"groove_tabular"``; ``None`` for each environment's own.
        start: ``"random"``, ``"zeros"``, an artifact, or a folder or file of weights,
            see `training.learned.Learned.start`.
        lifetimes: Agents that learn side by side, over all environments.
        minibatch: Lifetimes of one environment that are differentiated together.
        workers: Environments of each agent.
        rollout: Steps of each worker per update, T.
        validation_rollout: Steps of the rollout that judges an agent after its updates;
            ``None`` for ``rollout``.
        updates: Agent updates per meta-step, K.
        lifetime: Updates in the life of an agent; ``None`` for the mode's.
        stagger: Whether the first lives are of different lengths, so that agents of
            all ages are trained on.
        bandit: Whether a bandit chooses each agent's learning rate and ``alpha_y``;
            otherwise every agent has the middle ones. Each environment must have
            several pairs of them.
        bandit_bonus: Weight of the bandit's bonus for rare arms, rho.
        bandit_temperature: The bandit's temperature, tau.
        agent_rates: Learning rates of actors; those of `agents.lpg_arms` if empty. Not
            for tables and networks at once.
        agent_alpha_y: Weights of the prediction's loss; the same if empty.
        baseline: Whether agents have a baseline, see `LPGConfig`.
        predictor_rate: Learning rate of predictors under SGD, as a multiple of the
            actor's. Under Adam it is the published multiple.
        max_grad_norm: Bound on each gradient of an agent under SGD; ``None`` for no
            bound. Agents under Adam have the published bound.
        value_rate: Adam's learning rate of the value critics; ``None`` for the
            predictor's optimizer and rate, as in GROOVE.
        gammas: Discounts; each life draws one.
        gae_lambda: Decay of the advantages of the meta-objective.
        advantage_decay: Decay of the running averages that normalize a life's
            advantages; ``None`` to normalize each judged rollout by itself.
        policy_entropy: Weights of the actor's entropy bonus; each life draws one.
        target_entropy: Weight of the predictor's entropy bonus.
        policy_l2: Weight of the penalty on pi_hat squared.
        target_l2: Weight of the penalty on y_hat squared.
        learning_rate: Adam's learning rate of the rule.
        clip: Bound on the norm of the meta-gradient; ``None`` for no bound.
        lifetime_gradients: What a lifetime adds to the meta-gradient. ``"plain"``: its
            gradient. ``"clip"``: its gradient, to whose norm ``clip`` applies instead.
            ``"norm"``: its gradient over its norm. ``"adam"``: the step of an Adam of
            its own, after ``clip``; the rule moves by the mean of these steps.
        steps: Meta-steps; may be raised later.
        log_every: Meta-steps between two rows of the log.
        seed: Seed of everything.
        rematerialize: Whether to compute an update's activations again in the backward
            pass: a third more arithmetic, and the memory of one update instead of K.
        compat: Whether to reproduce two defects of GROOVE; see `MetaConfig`.

    Raises:
        ValueError: A value is out of range, an environment has no levels, or tables
            are asked for where it has no tabular states.

    References:
        Oh et al. 2020, sections 3.3 and 3.4; Jackson et al. 2023 (GROOVE).

    Example:
        >>> preset("lpg-study").steps, preset("lpg-study").clip
        (5000, 0.55)
    """

    architecture: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environments: tuple[str, ...] = ("gridworld/all_shortlife",)
    agent: str | None = None
    start: str = "random"
    lifetimes: int = 512
    minibatch: int = 32
    workers: int = 64
    rollout: int = 20
    validation_rollout: int | None = None
    lifetime: int | None = None
    stagger: bool = True
    bandit: bool = False
    bandit_bonus: float = 0.2
    bandit_temperature: float = 0.1
    agent_rates: tuple[float, ...] = ()
    agent_alpha_y: tuple[float, ...] = ()
    baseline: bool = False
    predictor_rate: float = 0.1
    max_grad_norm: float | None = 0.5
    value_rate: float | None = None
    gammas: tuple[float, ...] = (0.99,)
    policy_entropy: tuple[float, ...] = (5e-2,)
    learning_rate: float = 1e-4
    clip: float | None = 0.5
    lifetime_gradients: str = "plain"
    steps: int = 30_000
    log_every: int = 10
    seed: int = 0
    rematerialize: bool = True

    def __post_init__(self) -> None:
        self.rule_architecture  # noqa: B018
        self._check_numbers()
        self._check_lists()
        self._check_environments()
        for name in self.environments:
            self._check_environment(name)

    def _check_numbers(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if field.type is bool:
                _require(isinstance(value, bool), name, repr(value), "True or False")
            if value is None and NoneType in get_args(field.type):
                continue
            if name in _COUNTS:
                checks.positive_int(name, value, _COUNTS[name])
            if name in _NUMBERS:
                example, bounds = _NUMBERS[name]
                checks.finite(name, value, f"give {example}", **bounds)
        how = self.lifetime_gradients
        checks.one_of("lifetime_gradients", how, LIFETIME_GRADIENTS)
        if how == "clip" and self.clip is None:
            raise ValueError(
                "lifetime_gradients='clip' needs a bound, but clip=None; give for "
                "example clip=0.1"
            )
        seed = self.seed
        whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
        # numpy's generators take no negative seed.
        accepted = "a whole number from 0 to 4294967295; give for example 0"
        _require(whole and 0 <= seed < 2**32, "seed", repr(seed), accepted)

    def _check_lists(self) -> None:
        for name, (example, bounds) in _LISTS.items():
            values, give = getattr(self, name), f"give for example {example}"
            accepted = f"a tuple of numbers; {give}"
            _require(isinstance(values, tuple), name, repr(values), accepted)
            if name in ("gammas", "policy_entropy"):
                _require(values, name, values, f"one or more numbers; {give}")
            for i, value in enumerate(values):
                fix = f"change this entry of {name}={values}"
                checks.finite(f"{name}[{i}]", value, fix, **bounds)

    def _check_environments(self) -> None:
        names = self.environments
        listed = isinstance(names, tuple) and names and len(set(names)) == len(names)
        accepted = (
            "a tuple of one or more names, each once; give for example "
            "('gridworld/small',)"
        )
        _require(listed, "environments", repr(names), accepted)
        try:
            agents.lpg_arms(names[0], column=self.agent)
        except ValueError as error:
            raise ValueError(f"agent={self.agent!r}: {error}") from error
        together = self.minibatch * len(names)
        accepted = (
            f"a multiple of minibatch={self.minibatch} times the number of "
            f"environments, {len(names)}; take {together} or a multiple"
        )
        fits = self.lifetimes % together == 0
        _require(fits, "lifetimes", self.lifetimes, accepted)
        tables = [networks.tabular(self.agent_config(name)) for name in names]
        if self.agent_rates and any(tables) and not all(tables):
            raise ValueError(
                f"agent_rates={self.agent_rates}: no rate serves both tables and "
                f"networks, which the agents of {', '.join(names)} are; leave "
                "agent_rates out, or take environments of one kind"
            )

    def _check_environment(self, name: str) -> None:
        rows = task(name).env.tabular
        if networks.tabular(self.agent_config(name)) and rows is None:
            raise ValueError(
                f"agent={self.agent!r}: {name!r} has no tabular states for "
                "tables; leave agent out for the environment's own agents"
            )
        shortest = self.lifetime or task(name).lifetime[0]
        if shortest < self.updates:
            raise ValueError(
                f"lifetime={shortest} of {name!r} is shorter than a meta-step of "
                f"updates={self.updates}; raise lifetime or lower updates"
            )
        if self.bandit and len(self.arms(name)) == 1:
            rate = self.arms(name)[0][0]
            rates = ",".join(f"{factor * rate:g}" for factor in (0.5, 1, 2))
            raise ValueError(
                f"bandit=True: {name!r} has one arm. Pass agent_rates={rates} "
                "agent_alpha_y=0.1,0.5,1"
            )

    @property
    def rule_architecture(self) -> Architecture:
        """The rule's architecture, or ValueError."""
        sizes, accepted = self.architecture, "a mapping; give for example {'width': 32}"
        _require(isinstance(sizes, Mapping), "architecture", sizes, accepted)
        known = [field.name for field in dataclasses.fields(Architecture)]
        for name, value in self.architecture.items():
            if name not in known:
                raise ValueError(
                    f"architecture.{name}={value!r} is not a field of the "
                    f"architecture; {checks.suggest(name, known)}"
                )
        return Architecture(**self.architecture)

    def arms(self, environment: str) -> list[tuple[float, float]]:
        """Return the pairs of an actor's learning rate and ``alpha_y``.

        Empty fields stand for the published values. Without the bandit there is one
        pair, of the middle values.
        """
        published = agents.lpg_arms(environment, column=self.agent)
        rates = self.agent_rates or published.learning_rates
        alphas = self.agent_alpha_y or published.alpha_y
        if not self.bandit:
            rates, alphas = ([x[len(x) // 2]] for x in (rates, alphas))
        return [(rate, alpha) for rate in rates for alpha in alphas]

    def agent_config(self, environment: str) -> LPGConfig:
        """Return the configuration of the agents of an environment."""
        config = agents.preset(
            environment,
            self.workers * self.rollout,
            "lpg",
            column=self.agent,
            num_envs=self.workers,
            num_steps=self.rollout,
            baseline=self.baseline,
        )
        # Tables are trained by SGD, networks by Adam.
        if config.hidden or config.conv:
            return config
        return dataclasses.replace(config, max_grad_norm=self.max_grad_norm)

    @property
    def each(self) -> int:
        """Lifetimes of each environment."""
        return self.lifetimes // len(self.environments)

    @property
    def steps_per_meta_step(self) -> int:
        """Environment steps of all lifetimes in a meta-step."""
        steps = self.rollout * self.updates + (self.validation_rollout or self.rollout)
        return self.lifetimes * self.workers * steps

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them; ``algorithm`` is ``"lpg"``."""
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        whole = dataclasses.asdict(self.rule_architecture)
        return {"algorithm": "lpg", **fields, "architecture": whole}


def preset(name: str, **overrides: Any) -> MetaGradientConfig:
    """Return published settings, or our own for a CPU.

    Args:
        name: One of `PRESETS`; ``presets.json`` gives the source of each.
        **overrides: Fields of `MetaGradientConfig` that differ. ``architecture``
            changes only the entries that are given.

    Raises:
        ValueError: The preset or a field does not exist, or a value is out of range.

    Example:
        >>> preset("lpg-cpu", steps=10).environments
        ('gridworld/small',)
    """
    known = [field.name for field in dataclasses.fields(MetaGradientConfig)]
    return MetaGradientConfig(**presets.settings(METHOD, name, overrides, known))


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields from ``NAME=VALUE`` texts; see `settings.parse`.

    Sizes of the rule are written ``architecture.width=32``.
    """
    return settings.parse(texts, MetaGradientConfig, architecture=Architecture)


def _require(holds: Any, name: str, value: Any, accepted: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value}: must be {accepted}")
