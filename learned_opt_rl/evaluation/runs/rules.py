"""From the name of a rule, as on a command line, to an optimiser.

A rule is written ``NAME`` for a handcrafted optimiser with its tuned settings for the
environment at hand (``adam``, ``rmsprop``, ``lion``, ``sgd``), ``NAME:RATE`` for one
with a fixed learning rate (``adam:1e-3``), and ``artifact:NAME`` (or just ``NAME``, if
no handcrafted optimiser is called that) for a learned one, perhaps without one of
`missing_features.FEATURES` (``minatar@no-dormancy``). A drift is run with tuned Adam;
an optimiser with a learning rate takes the one tuned for the environment. An update
rule is what an LPG agent is run with, and nothing else is.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from learned_opt_rl import agents, artifacts
from learned_opt_rl.agents.config import Config, LPGConfig, PPOConfig
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.evaluation.runs.missing_features import (
    options_without,
    withhold_dormancy,
)
from learned_opt_rl.evaluation.runs.names import artifact_name
from learned_opt_rl.rules import pretrained
from learned_opt_rl.rules.discovered import tuned_learning_rate
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rules.tuned import tuned

OptimizerFactory = Callable[[jax.Array], optax.GradientTransformation]
"""``key -> optimiser``; handcrafted ones ignore the key, learned ones explore by it."""


class Rule(NamedTuple):
    """What is run: an optimiser and, for the loss, perhaps something learned.

    Attributes:
        optimizer: Makes the optimiser from a key.
        drift: In place of PPO's clip; ``None`` for PPO's own.
        update_rule: What an LPG agent learns by; ``None`` for every other agent.

    Example:
        >>> import optax
        >>> rule = Rule(lambda key: optax.adam(1e-3))
    """

    optimizer: OptimizerFactory
    drift: Drift | None = None
    update_rule: UpdateRule | None = None


HANDCRAFTED: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}
"""The baselines by name."""


def handcrafted(
    rule: str, environment: str, num_updates: int
) -> optax.GradientTransformation:
    """Builds a baseline optimiser.

    Args:
        rule: ``NAME`` for the settings tuned for the environment, ``NAME:RATE`` for
            optax's defaults with a fixed learning rate.
        environment: The environment's name.
        num_updates: Optimiser steps in the run; tuned learning rates that anneal fall
            linearly to 0 over them.

    Returns:
        The optimiser, without gradient clipping (the agent clips).

    Raises:
        ValueError: If there is no such optimiser, the rate is no positive number, or
            nothing is tuned for the environment.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024,
        appendix (tuned settings).

    Example:
        >>> tuned = handcrafted("adam", "Breakout-MinAtar", num_updates=3904)
        >>> fixed = handcrafted("adam:1e-3", "Breakout-MinAtar", num_updates=3904)
    """
    name, colon, rate = rule.partition(":")
    if name not in HANDCRAFTED:
        raise ValueError(
            f"rule={rule!r} is no handcrafted optimiser; choose one of "
            f"{', '.join(HANDCRAFTED)}"
        )
    if colon:
        return HANDCRAFTED[name](_rate(rule, rate))
    try:
        settings = tuned(name, environment)
    except ValueError as error:
        raise ValueError(f"rule={rule!r}: {error}, as in '{name}:1e-3'") from error
    learning_rate = settings.pop("learning_rate")
    if settings.pop("anneal"):
        learning_rate = optax.linear_schedule(learning_rate, 0.0, num_updates)
    return HANDCRAFTED[name](learning_rate, **settings)


def resolve(rule: str, config: Config, environment: str) -> Rule:
    """Turns the name of a rule into what is run.

    Args:
        rule: See the module's description.
        config: The run, for schedules and the horizon of learned optimisers; its type
            says which agent is to run it.
        environment: The environment's name, for tuned settings.

    Returns:
        The rule; its optimiser is made from a key, so that under ``vmap`` each seed
        explores by its own noise.

    Raises:
        UnknownArtifactError: If neither an optimiser nor an artifact has the name.
        ValueError: If a rule is not tuned for the environment, or nothing that the
            agent is run with (a drift is for PPO, an update rule for LPG, and LPG is
            run with nothing else), or has no features to leave out.

    Example:
        >>> import jax
        >>> rule = resolve("lion", PPOConfig(), "Breakout-MinAtar")
        >>> optimizer = rule.optimizer(jax.random.key(0))
    """
    name, at, missing = rule.partition("@")
    learned = name.partition(":")[0] not in HANDCRAFTED
    # Found out here, a misspelt name does not wait for the runs before it to end.
    card = _card(rule) if learned else None
    kind = "handcrafted" if card is None else card.kind
    if at and kind != "optimizer":
        raise ValueError(
            f"rule={rule!r}: only learned optimisers can miss features, and {name!r} "
            f"is of kind {kind!r}; leave {at + missing!r} out"
        )
    if card is not None and kind == "update_rule":
        return _update_rule(rule, card, config, environment)
    if isinstance(config, LPGConfig):
        raise ValueError(
            f"rule={rule!r} is no update rule, and the agent lpg is run with nothing "
            "else; choose the agent ppo or a2c, or an update rule"
        )
    if card is None:
        plain = handcrafted(name, environment, config.num_updates)
        return Rule(lambda key: plain)
    if kind == "drift":
        return _drift(rule, card, config, environment)
    return _learned(rule, card, config, environment, missing if at else None)


def _card(rule: str) -> Card:
    try:
        return artifacts.card(artifact_name(rule))
    except UnknownArtifactError as error:
        near = difflib.get_close_matches(rule.partition(":")[0], HANDCRAFTED, 1)
        hint = f"; or do you mean the optimiser {near[0]!r}?" if near else ""
        raise UnknownArtifactError(f"{error}{hint}") from error


def _learned(
    rule: str, card: Card, config: Any, environment: str, missing: str | None
) -> Rule:
    """A learned optimiser, perhaps without one of `missing_features.FEATURES`."""
    from_artifact = artifacts.rule_module(card.algorithm).from_artifact
    extra: dict[str, Any] = {}
    if "learning_rates" in card.architecture:
        extra["learning_rate"] = _tuned_rate(rule, card.name, environment)

    def optimizer(key: jax.Array) -> optax.GradientTransformation:
        options: dict[str, Any] = {"horizon": config.horizon(), "key": key}
        if missing is not None:
            options = options_without(missing, config, options)
        options = _accepted(from_artifact, **options)
        made = pretrained(card.name, **options, **extra)
        return withhold_dormancy(made) if missing == "no-dormancy" else made

    if missing is not None:
        options_without(missing, config, {})  # says now that there is no such feature
    return Rule(optimizer)


def _drift(rule: str, card: Card, config: Any, environment: str) -> Rule:
    if type(config) is not PPOConfig:
        raise ValueError(
            f"rule={rule!r} is a drift, which takes the place of PPO's clip; the "
            "agent must be ppo"
        )
    try:
        adam = handcrafted("adam", environment, config.num_updates)
    except ValueError as error:
        raise ValueError(
            f"rule={rule!r} is a drift, which is run with tuned Adam, but {error}"
        ) from error
    return Rule(lambda key: adam, pretrained(card.name))


def _update_rule(rule: str, card: Card, config: Any, environment: str) -> Rule:
    if not isinstance(config, LPGConfig):
        raise ValueError(
            f"rule={rule!r} is an update rule, which makes an agent of its own; "
            "choose the agent lpg"
        )
    plain = agents.lpg_optimizer(environment, config.num_updates)
    return Rule(lambda key: plain, update_rule=pretrained(card.name))


def _tuned_rate(rule: str, name: str, environment: str) -> float:
    try:
        return tuned_learning_rate(name, environment)
    except ValueError as error:
        raise ValueError(
            f"rule={rule!r}: {error}, as in run(lambda key: pretrained({name!r}, "
            "learning_rate=...), ...)"
        ) from error


def _accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The options a rule takes: not every one has a horizon or noise."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return options
    names = {p.name for p in parameters}
    return {name: value for name, value in options.items() if name in names}


def _rate(rule: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 0 < rate < float("inf"):
        raise ValueError(
            f"rule={rule!r}: the learning rate {text!r} is not a positive number; "
            "write it as in 'adam:1e-3'"
        )
    return rate
