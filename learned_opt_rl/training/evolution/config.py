"""The configuration of a campaign: everything that its numbers depend on."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from learned_opt_rl import envs, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.checks import positive_int
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.rundir import settings
from learned_opt_rl.training import presets
from learned_opt_rl.training.evolution.strategy import (
    EvosaxStrategy,
    OpenAIES,
    SearchSettings,
)
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.lifetimes import AgentSettings, LifeConfig, agent_run

Normalizer = Literal["none", "published", "published-sgd"]
HorizonUnit = Literal["steps", "episodes", "lifetimes"]
OWN_STRATEGY = "openai_es"

PRESETS = tuple(presets.table("evolution"))
"""Names of the presets; ``presets.json`` describes each."""


@dataclasses.dataclass(frozen=True)
class EvolutionConfig(SearchSettings):
    """A campaign of meta-training by evolution.

    The fields of `SearchSettings`, such as ``population`` and ``sigma``, are keywords.
    Strategies other than ``"openai_es"`` use only these two of them.

    Attributes:
        algorithm: What is evolved: ``"open"``, ``"open_separated"``,
            ``"no_features"``, ``"optim4rl"``, ``"lpo"``, ``"lpg"``, or
            ``"expression"`` for the constants of an expression.
        architecture: Its sizes; ``{"text": ...}`` for an expression.
        environments: Every member trains an agent in each of them.
        horizons: Lengths of the runs, as pairs ``(first generation, steps)``: one pair,
            or a curriculum. Learned rules see only the proportion of a run that has
            passed, so the weights carry over.
        agent: PPO settings that differ from `agents.preset`; for ``"lpg"`` those of
            `training.lifetimes.AgentSettings`.
        start: ``"zeros"``, ``"random"``, ``"declared"`` or the name of an artifact; see
            `Learned.start`.
        rollouts: Agents per member and environment, with different seeds; their mean
            counts.
        normalizer: Divisor of returns before the mean over environments: ``"none"``, or
            the published returns of ``"published"`` Adam or of ``"published-sgd"``.
        validate_every: Generations between two validations of the mean.
        validation_seeds: Agents per validation and environment; always the same.
        generations: Number of generations; the last one ends with a validation. It may
            be raised later.
        seed: Seed of everything.
        strategy: ``"openai_es"``, or one of `strategy.STRATEGIES`.
        environments_per_generation: Number of environments that each generation draws,
            the same for all members; ``None`` for all. Validations use all.
        horizon_unit: ``"steps"`` of an environment, or ``"episodes"`` where they have a
            fixed length (``"DeepSea-bsuite/10"``), so that larger ones get longer runs;
            or ``"lifetimes"``, for ``"lpg"`` only: a run of length 1 is as long as the
            environment's mode says, or draws for each agent.

    Raises:
        ValueError: A value is out of range, or an environment has no normalizer or no
            tuned learning rate.

    Example:
        >>> config = EvolutionConfig("open", {"carry": None, "width": 16})
        >>> config.population, config.horizon(0)
        (64, 10000000)
    """

    algorithm: str
    architecture: Mapping[str, Any]
    environments: tuple[str, ...] = ("Breakout-MinAtar",)
    horizons: tuple[tuple[int, int], ...] = ((0, 10_000_000),)
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    start: str = "zeros"
    rollouts: int = 1
    normalizer: Normalizer = "none"
    validate_every: int = 24
    validation_seeds: int = 8
    generations: int = 500
    seed: int = 0
    strategy: str = OWN_STRATEGY
    environments_per_generation: int | None = None
    horizon_unit: HorizonUnit = "steps"

    def __post_init__(self) -> None:
        for name in ("rollouts", "validate_every", "validation_seeds", "generations"):
            positive_int(name, getattr(self, name))
        _check_horizons(self.horizons)
        names = self.environments
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"environments={names} must name at least one environment, each once"
            )
        self._check_draws()
        self.normalizers()
        es, learned = self.es, self.learned
        if isinstance(es, EvosaxStrategy):
            es.check_size(learned.size)
        for _, steps in self.horizons:
            for name, config in self.runs(steps).items():
                _check_rule(learned, config, name)

    @property
    def es(self) -> OpenAIES | EvosaxStrategy:
        """The evolution strategy."""
        if self.strategy == OWN_STRATEGY:
            fields = dataclasses.fields(SearchSettings)
            return OpenAIES(
                **{field.name: getattr(self, field.name) for field in fields}
            )
        if self.shaping != "centered_ranks":
            raise ValueError(
                f"shaping={self.shaping!r} needs the antithetic pairs of strategy="
                f"{OWN_STRATEGY!r}; strategy={self.strategy!r} has none"
            )
        if self.compat or self.learning_rate_floor:
            raise ValueError(
                f"compat={self.compat} and learning_rate_floor="
                f"{self.learning_rate_floor} are settings of strategy="
                f"{OWN_STRATEGY!r}; leave them out with strategy={self.strategy!r}"
            )
        return EvosaxStrategy(self.strategy, self.population, self.sigma)

    def _check_draws(self) -> None:
        drawn, most = self.environments_per_generation, len(self.environments)
        if drawn is not None:
            positive_int("environments_per_generation", drawn)
            if drawn > most:
                raise ValueError(
                    f"environments_per_generation={drawn} must be at most the number "
                    f"of environments, {most}"
                )
        if self.learned.is_update_rule and self.horizon_unit == "lifetimes":
            if any(length != 1 for _, length in self.horizons):
                raise ValueError(
                    f"horizons={self.horizons} with horizon_unit='lifetimes': an agent "
                    "has one lifetime; give horizons=1, or horizon_unit=steps"
                )
        elif self.horizon_unit not in ("steps", "episodes"):
            lifetimes = " or lifetimes" if self.learned.is_update_rule else ""
            raise ValueError(
                f"horizon_unit={self.horizon_unit!r} must be steps or episodes"
                f"{lifetimes}"
            )
        for name in self.environments:
            self.steps_per_unit(name)

    @functools.cached_property
    def learned(self) -> Learned:
        """The learned rule."""
        return Learned(self.algorithm, self.architecture)

    def horizon(self, generation: int) -> int:
        """Return the length of a run in a generation, counted in `horizon_unit`."""
        return [steps for first, steps in self.horizons if first <= generation][-1]

    def steps_per_unit(self, environment: str) -> int:
        """Return the environment steps in one `horizon_unit`."""
        if self.horizon_unit == "steps":
            return 1
        if self.horizon_unit == "lifetimes":
            life = self._run(environment, None)
            return life.num_rollouts * life.batch_size
        steps = envs.episode_length(environment)
        if steps is None:
            raise ValueError(
                f"horizon_unit='episodes': episodes of environment={environment!r} "
                "have no fixed length; use horizon_unit=steps"
            )
        return steps

    def runs(self, length: int) -> dict[str, PPOConfig | LifeConfig]:
        """Return the run of this length, in `horizon_unit`, in each environment."""
        own = self.horizon_unit == "lifetimes"
        return {
            name: self._run(name, None if own else length * self.steps_per_unit(name))
            for name in self.environments
        }

    def _run(self, environment: str, steps: int | None) -> PPOConfig | LifeConfig:
        return agent_run(self.learned, environment, steps, self.agent)

    def drawn(self, generation: int) -> tuple[str, ...]:
        """Return the environments that a generation trains in, the same if resumed."""
        count = self.environments_per_generation
        if count is None:
            return self.environments
        # 0 to 2 are the campaign's other keys (Campaign._key).
        key = jax.random.fold_in(jax.random.key(self.seed), 3)
        key, places = jax.random.fold_in(key, generation), len(self.environments)
        chosen = jax.random.choice(key, places, (count,), replace=False)
        return tuple(self.environments[i] for i in sorted(chosen.tolist()))

    def programs(self, environments: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Split environments into those that one compiled program trains in.

        All share one program, unless generations draw environments: then each has its
        own, since compiling every combination would take longer than training.
        """
        if self.environments_per_generation is None:
            return [environments]
        return [(name,) for name in environments]

    def only(self, environments: tuple[str, ...]) -> "EvolutionConfig":
        """Return the same campaign in some of its environments, none of them drawn."""
        if environments == self.environments:
            return self
        return dataclasses.replace(
            self, environments=environments, environments_per_generation=None
        )

    def normalizers(self) -> tuple[float, ...]:
        """Return the divisor of each environment's returns."""
        if self.normalizer == "none":
            return (1.0,) * len(self.environments)
        if self.normalizer not in ("published", "published-sgd"):
            raise ValueError(
                f"normalizer={self.normalizer!r} must be none, published or "
                "published-sgd"
            )
        known = published(self.normalizer.partition("-")[2] or "adam")
        missing = [name for name in self.environments if name not in known]
        if missing:
            raise ValueError(
                f"normalizer={self.normalizer!r} has no return of "
                f"{', '.join(missing)}, only of {', '.join(known)}; use none"
            )
        return tuple(known[name] for name in self.environments)

    def validation_due(self, done: int) -> bool:
        """Return whether the mean is validated after this many generations."""
        return done % self.validate_every == 0 or done == self.generations

    def steps_per_member(self, length: int) -> int:
        """Return the steps of one rollout of a member, over all environments."""
        configs = self.runs(length).values()
        return sum(config.num_rollouts * config.batch_size for config in configs)

    def steps_per_generation(self, length: int) -> int:
        """Return the steps of all members' rollouts."""
        return self.steps_per_member(length) * self.population * self.rollouts

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "EvolutionConfig":
        """Build a configuration from the fields of `as_json`, with defaults.

        Raises:
            ValueError: A field is unknown, missing or out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(fields.keys() - names)
        missing = sorted({"algorithm", "architecture"} - fields.keys())
        if unknown or missing:
            problem = "unknown" if unknown else "missing"
            raise ValueError(
                f"fields of the campaign are {problem}: {', '.join(unknown or missing)}"
            )
        return cls(**settings.tuples(fields))


def preset(name: str, **overrides: Any) -> EvolutionConfig:
    """Return a campaign with published settings.

    Args:
        name: One of `PRESETS`; ``presets.json`` gives the source of each.
        **overrides: Fields of `EvolutionConfig` that differ. ``architecture`` and
            ``agent`` change only the entries that are given.

    Raises:
        ValueError: The preset or a field does not exist, or a value is out of range.

    Example:
        >>> preset("open-breakout").start, preset("open-breakout").horizons
        ('zeros', ((0, 200000),))
    """
    known = [field.name for field in dataclasses.fields(EvolutionConfig)]
    return EvolutionConfig(**presets.settings("evolution", name, overrides, known))


def _check_horizons(horizons: Iterable[tuple[int, int]]) -> None:
    firsts = [first for first, _ in horizons]
    if not firsts or firsts[0] != 0 or sorted(set(firsts)) != firsts:
        raise ValueError(
            f"horizons={horizons} must be pairs of a generation and a length, with "
            "increasing generations from 0 on, for example "
            "((0, 200000), (100, 1000000))"
        )


def _check_rule(
    learned: Learned, config: PPOConfig | LifeConfig, environment: str
) -> None:
    """Raise ValueError if the rule cannot be built; compute nothing."""
    vector = jax.ShapeDtypeStruct((learned.size,), jnp.float32)

    def build(vector: jax.Array) -> jax.Array:
        learned.rule(vector, config, environment)
        return vector

    try:
        jax.eval_shape(build, vector)
    except ValueError as error:
        raise ValueError(
            f"algorithm={learned.algorithm!r} cannot be evolved on "
            f"environment={environment!r}: {error}"
        ) from error


def parse_settings(texts: Iterable[str], algorithm: str) -> dict[str, Any]:
    """Return the values of a campaign's fields from ``NAME=VALUE`` texts.

    See `settings.parse`. Fields of the agent and of the algorithm's architecture are
    written ``agent.hidden=16x16`` and ``architecture.width=16``.
    """
    family = families.find(algorithm)
    agent = AgentSettings if family.kind == "update_rule" else PPOConfig
    groups = {"agent": agent, "architecture": family.sizes or family.architecture}
    return settings.parse(texts, EvolutionConfig, **groups)
