"""The configuration of a meta-training: everything that its numbers depend on."""

import dataclasses
import json
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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

_WHOLE = (
    "lifetimes",
    "minibatch",
    "workers",
    "rollout",
    "updates",
    "steps",
    "log_every",
)
_POSITIVE = {"learning_rate": 1e-4, "bandit_temperature": 0.1, "predictor_rate": 0.1}
"""Fields that must be positive, with an example for the message."""

_OPTIONAL = {
    "clip": "0.5, or None for no bound",
    "max_grad_norm": "0.5, or None for no bound",
    "value_rate": "0.01, or None for the predictor's optimizer",
}
_WEIGHTS = ("bandit_bonus", "target_entropy", "policy_l2", "target_l2")
_FLAGS = ("stagger", "bandit", "baseline", "rematerialize", "compat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaGradientConfig(Objective):
    """A meta-training of LPG; the defaults are GROOVE's.

    Attributes:
        architecture: Sizes and conventions of the rule: fields of `lpg.Architecture`.
        environments: Grid worlds and chains; each has the same number of lifetimes.
        agent: Column of `agents.preset` for the agents of all environments, for example
            ``"groove_tabular"``; ``None`` for each environment's own.
        start: ``"random"``, or the name of an artifact with these sizes.
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
        rematerialize: Whether to compute activations twice, for a fraction of memory.
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
        self._check_lifetimes()
        self._check_arms()

    def _check_numbers(self) -> None:
        for name in _WHOLE:
            checks.positive_int(name, getattr(self, name), "give at least 1")
        if self.lifetime is not None:
            fix = "give a number of updates, or None for the mode's"
            checks.positive_int("lifetime", self.lifetime, fix)
        if self.validation_rollout is not None:
            fix = "give a number of steps, or None for that of rollout"
            checks.positive_int("validation_rollout", self.validation_rollout, fix)
        if self.advantage_decay is not None:
            fix = "give for example 0.99, or None"
            decay = self.advantage_decay
            checks.finite("advantage_decay", decay, fix, least=0, most=0.9999)
        gradients = self.lifetime_gradients
        accepted = f"one of {', '.join(LIFETIME_GRADIENTS)}"
        known = gradients in LIFETIME_GRADIENTS
        _require(known, "lifetime_gradients", repr(gradients), accepted)
        if gradients == "clip" and self.clip is None:
            raise ValueError(
                "lifetime_gradients='clip' needs a bound, but clip=None; give for "
                "example clip=0.1"
            )
        for name, example in _POSITIVE.items():
            fix = f"give for example {example:g}"
            checks.finite(name, getattr(self, name), fix, above=0)
        for name, example in _OPTIONAL.items():
            if getattr(self, name) is not None:
                fix = f"give for example {example}"
                checks.finite(name, getattr(self, name), fix, above=0)
        for name in _WEIGHTS:
            fix = "give 0 to leave the term out"
            checks.finite(name, getattr(self, name), fix, least=0)
        fix = "give for example 0.95"
        checks.finite("gae_lambda", self.gae_lambda, fix, least=0, most=1)
        for name in _FLAGS:
            flag = getattr(self, name)
            _require(isinstance(flag, bool), name, repr(flag), "True or False")
        whole = isinstance(self.seed, numbers.Integral) and self.seed is not True
        # numpy's generators take no negative seed.
        fits = whole and self.seed is not False and 0 <= self.seed < 2**32
        accepted = "a whole number from 0 to 4294967295; give for example 0"
        _require(fits, "seed", repr(self.seed), accepted)

    def _check_lists(self) -> None:
        bounds: dict[str, dict[str, float]] = {
            "gammas": {"least": 0, "most": 1},
            "policy_entropy": {"least": 0},
            "agent_rates": {"above": 0},
            "agent_alpha_y": {"least": 0},
        }
        for name, bound in bounds.items():
            values = getattr(self, name)
            accepted = "a tuple of numbers; give for example (0.5,)"
            _require(isinstance(values, tuple), name, repr(values), accepted)
            if name in ("gammas", "policy_entropy"):
                accepted = "one or more numbers; give for example (0.5,)"
                _require(values, name, values, accepted)
            for i, value in enumerate(values):
                fix = f"change this entry of {name}={values}"
                checks.finite(f"{name}[{i}]", value, fix, **bound)

    def _check_environments(self) -> None:
        names = self.environments
        listed = isinstance(names, tuple) and names and len(set(names)) == len(names)
        accepted = (
            "a tuple of one or more names, each once; give for example "
            "('gridworld/small',)"
        )
        _require(listed, "environments", repr(names), accepted)
        for name in names:
            rows = task(name).env.tabular
            if networks.tabular(self.agent_config(name)) and rows is None:
                raise ValueError(
                    f"agent={self.agent!r}: {name!r} has no tabular states for "
                    "tables; leave agent out for the environment's own agents"
                )

    def _check_arms(self) -> None:
        for name in self.environments:
            if self.bandit and len(self.arms(name)) == 1:
                rate = self.arms(name)[0][0]
                rates = ",".join(f"{factor * rate:g}" for factor in (0.5, 1, 2))
                raise ValueError(
                    f"bandit=True: {name!r} has one arm. Pass agent_rates={rates} "
                    "agent_alpha_y=0.1,0.5,1"
                )
        tables = [networks.tabular(self.agent_config(x)) for x in self.environments]
        if self.agent_rates and any(tables) and not all(tables):
            raise ValueError(
                f"agent_rates={self.agent_rates}: no rate serves both tables and "
                f"networks, which the agents of {', '.join(self.environments)} are; "
                "leave agent_rates out, or take environments of one kind"
            )

    def _check_lifetimes(self) -> None:
        together = self.minibatch * len(self.environments)
        _require(
            self.lifetimes % together == 0,
            "lifetimes",
            self.lifetimes,
            f"a multiple of minibatch={self.minibatch} times the number of "
            f"environments, {len(self.environments)}; take {together} or a multiple",
        )
        for name in self.environments:
            shortest = self.lifetime
            if shortest is None:
                shortest = task(name).lifetime[0]
            if shortest < self.updates:
                raise ValueError(
                    f"lifetime={shortest} of {name!r} is shorter than a meta-step of "
                    f"updates={self.updates}; raise lifetime or lower updates"
                )

    @property
    def rule_architecture(self) -> Architecture:
        """The rule's architecture, or ValueError."""
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

        Without the bandit there is one.
        """
        given = self.agent_rates, self.agent_alpha_y
        return arms(environment, *given, self.agent, middle=not self.bandit)

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

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "MetaGradientConfig":
        """Build a configuration from the fields of `as_json`, with defaults."""
        given = {name: value for name, value in fields.items() if name != "algorithm"}
        lists = {n: tuple(v) for n, v in given.items() if isinstance(v, list)}
        return cls(**{**given, **lists})


def arms(
    environment: str,
    rates: Sequence[float],
    alphas: Sequence[float],
    agent: str | None = None,
    *,
    middle: bool = False,
) -> list[tuple[float, float]]:
    """Return the pairs of a learning rate and ``alpha_y``, or only the middle one.

    An empty sequence stands for the published values, of ``agent`` if it is given.
    """
    published = agents.lpg_arms(environment, column=agent)
    rates, alphas = rates or published.learning_rates, alphas or published.alpha_y
    if middle:
        rates, alphas = ([x[len(x) // 2]] for x in (rates, alphas))
    return [(rate, alpha) for rate in rates for alpha in alphas]


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
    values = presets.settings(METHOD, name, overrides, known)
    sizes = {**values.get("architecture", {}), **overrides.get("architecture", {})}
    return MetaGradientConfig.from_json({**values, **overrides, "architecture": sizes})


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields from ``NAME=VALUE`` texts; see `settings.parse`.

    Sizes of the rule are written ``architecture.width=32``.
    """
    return settings.parse(texts, MetaGradientConfig, architecture=Architecture)


def _require(holds: Any, name: str, value: Any, accepted: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value}: must be {accepted}")
