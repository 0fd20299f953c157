"""What a campaign is: everything its numbers depend on, and nothing else."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from learned_opt_rl import agents
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.training.evolution.evosax_strategy import EvosaxStrategy
from learned_opt_rl.training.evolution.learned import Learned
from learned_opt_rl.training.evolution.strategy import OpenAIES, Shaping, Strategy

Normaliser = Literal["none", "published", "published-sgd"]
"""What returns are divided by; see `EvolutionConfig`."""

OWN_STRATEGY = "openai_es"


@dataclasses.dataclass(frozen=True)
class EvolutionConfig:
    """A campaign of meta-training by evolution.

    Attributes:
        algorithm: What is evolved: ``"open"``, ``"open_separated"``,
            ``"no_features"``, ``"optim4rl"``, ``"lpo"``, or ``"expression"``: the
            constants of a closed form.
        architecture: Its sizes; of a closed form ``{"text": ...}``.
        environments: Every member trains an agent in each of them.
        horizons: Lengths of the runs in environment steps, as pairs ``(from which
            generation, steps)``: one pair, or a curriculum. Learned rules see only the
            proportion of a run that is over, so they go on at another length.
        agent: Settings of PPO that differ from `agents.preset`.
        start: ``"zeros"``, ``"random"``, ``"declared"`` or the name of an artifact; see
            `Learned.start`.
        population: As for `OpenAIES`, like the next six.
        sigma: Standard deviation of the noise.
        sigma_decay: Its factor per generation.
        learning_rate: Of the mean.
        learning_rate_decay: Its factor per generation.
        beta1: Of the mean's Adam.
        shaping: ``"centred_ranks"``; all members then have the same seeds. With
            ``"pairs"`` every antithetic pair has seeds, and so levels, of its own.
        rollouts: Agents per member and environment, of different seeds; their mean
            counts.
        normaliser: ``"none"``, or what returns are divided by before the mean over
            environments: the published ones of ``"published"`` Adam or
            ``"published-sgd"``.
        validate_every: Generations between two validations of the mean.
        validation_seeds: Agents per validation and environment; always the same.
        generations: When it is over, with a validation; it may be raised later.
        seed: Of everything.
        strategy: ``"openai_es"``, or one of `evosax_strategy.STRATEGIES`: these take
            population and sigma, and have rates and decays of their own.

    Raises:
        ValueError: A value is out of range, or there is no normaliser or tuned
            learning rate for an environment.

    References:
        Goldie et al. 2024 (OPEN), section 5.2 and appendix C.3; Goldie et al. 2025,
        table 8.

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
    population: int = 64
    sigma: float = 0.03
    sigma_decay: float = 0.999
    learning_rate: float = 0.03
    learning_rate_decay: float = 0.999
    beta1: float = 0.99
    shaping: Shaping = "centred_ranks"
    rollouts: int = 1
    normaliser: Normaliser = "none"
    validate_every: int = 24
    validation_seeds: int = 8
    generations: int = 500
    seed: int = 0
    strategy: str = OWN_STRATEGY

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("rollouts", "validate_every", "validation_seeds", "generations"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a positive whole number")
        _check_horizons(self.horizons)
        if not self.environments or len(set(self.environments)) < len(
            self.environments
        ):
            raise ValueError(
                f"environments={self.environments} must be one or more, each once"
            )
        self.es  # noqa: B018
        self.normalisers()
        learned = self.learned
        for _, steps in self.horizons:
            for name, config in self.runs(steps).items():
                _check_rule(learned, config, name)

    @property
    def es(self) -> Strategy:
        """The evolution strategy."""
        if self.strategy == OWN_STRATEGY:
            names = [field.name for field in dataclasses.fields(OpenAIES)]
            return OpenAIES(**{name: getattr(self, name) for name in names})
        if self.shaping != "centred_ranks":
            raise ValueError(
                f"shaping={self.shaping!r} needs the antithetic pairs of strategy="
                f"{OWN_STRATEGY!r}; strategy={self.strategy!r} has none"
            )
        return EvosaxStrategy(self.strategy, self.population, self.sigma)

    @property
    def learned(self) -> Learned:
        """What is evolved."""
        return Learned(self.algorithm, self.architecture)

    def horizon(self, generation: int) -> int:
        """Environment steps of a run in a generation."""
        return [steps for first, steps in self.horizons if first <= generation][-1]

    def runs(self, steps: int) -> dict[str, PPOConfig]:
        """The run of so many steps in each environment."""
        return {
            name: agents.preset(name, steps, **self.agent) for name in self.environments
        }

    def normalisers(self) -> tuple[float, ...]:
        """What the returns of each environment are divided by."""
        if self.normaliser == "none":
            return (1.0,) * len(self.environments)
        if self.normaliser not in ("published", "published-sgd"):
            raise ValueError(
                f"normaliser={self.normaliser!r} must be none, published or "
                "published-sgd"
            )
        known = published(self.normaliser.partition("-")[2] or "adam")
        missing = [name for name in self.environments if name not in known]
        if missing:
            raise ValueError(
                f"normaliser={self.normaliser!r} knows no return of "
                f"{', '.join(missing)}, only of {', '.join(known)}; use none"
            )
        return tuple(known[name] for name in self.environments)

    def validation_due(self, done: int) -> bool:
        """Whether the mean is validated after so many generations."""
        return done % self.validate_every == 0 or done == self.generations

    def steps_per_member(self, steps: int) -> int:
        """Environment steps of one rollout of a member over all environments."""
        configs = self.runs(steps).values()
        return sum(config.num_rollouts * config.batch_size for config in configs)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them; our own strategy goes without saying.

        Campaigns from before there was a choice thus are what they were.
        """
        fields = json.loads(json.dumps(dataclasses.asdict(self)))
        if self.strategy == OWN_STRATEGY:
            del fields["strategy"]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "EvolutionConfig":
        """The inverse of `as_json`.

        Args:
            fields: Values by name; those that are missing are the defaults.

        Returns:
            The configuration.

        Raises:
            ValueError: A field is unknown or missing, or as the configuration.
        """
        values = dict(fields)
        values["environments"] = tuple(values.get("environments", cls.environments))
        horizons = values.get("horizons", cls.horizons)
        values["horizons"] = tuple((first, steps) for first, steps in horizons)
        agent = values.get("agent", {})
        values["agent"] = {k: _tuples(v) for k, v in agent.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"no configuration of a campaign: {error}") from error


def differences(old: EvolutionConfig, new: EvolutionConfig) -> list[str]:
    """What two campaigns differ in, besides how long they are to go on.

    Args:
        old: One.
        new: The other.

    Returns:
        One text per field, as ``"sigma: 0.03 -> 0.01"``.

    Example:
        >>> old = EvolutionConfig("open", {"carry": None, "width": 16})
        >>> new = dataclasses.replace(old, sigma=0.01, generations=9)
        >>> differences(old, new)
        ['sigma: 0.03 -> 0.01']
    """
    implied = {"strategy": OWN_STRATEGY}
    before, after = implied | old.as_json(), implied | new.as_json()
    return [
        f"{name}: {_text(before[name])} -> {_text(after[name])}"
        for name in before
        if name != "generations" and before[name] != after[name]
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_horizons(horizons: Iterable[tuple[int, int]]) -> None:
    firsts = [first for first, _ in horizons]
    if not firsts or firsts[0] != 0 or sorted(set(firsts)) != firsts:
        raise ValueError(
            f"horizons={horizons} must be pairs of a generation and steps, the first "
            "from generation 0 and each from a later one, as ((0, 200000), (100, "
            "1000000))"
        )


def _check_rule(learned: Learned, config: PPOConfig, environment: str) -> None:
    """Raises what building the rule raises; nothing is computed."""
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
