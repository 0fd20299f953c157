"""From the name of a rule, as on a command line, to an optimiser.

A rule is written ``NAME`` for a handcrafted optimiser with its tuned settings for the
environment at hand (``adam``, ``rmsprop``, ``lion``, ``sgd``), ``NAME:RATE`` for one
with a fixed learning rate (``adam:1e-3``), and ``artifact:NAME`` (or just ``NAME``, if
no handcrafted optimiser is called that) for a learned one.
"""

import functools
import importlib.resources
import inspect
import json
from collections.abc import Callable
from typing import Any

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.rules import pretrained

OptimizerFactory = Callable[[jax.Array], optax.GradientTransformation]
"""``key -> optimiser``; handcrafted ones ignore the key, learned ones explore by it."""

HANDCRAFTED: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}
"""The baselines by name."""

_PREFIXES = ("artifact", "open")


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
    settings = _tuned(name, environment)
    learning_rate = settings.pop("learning_rate")
    if settings.pop("anneal"):
        learning_rate = optax.linear_schedule(learning_rate, 0.0, num_updates)
    return HANDCRAFTED[name](learning_rate, **settings)


def resolve(rule: str, config: PPOConfig, environment: str) -> OptimizerFactory:
    """Turns the name of a rule into something that makes its optimiser.

    Args:
        rule: See the module's description.
        config: The run, for schedules and the horizon of learned optimisers.
        environment: The environment's name, for tuned settings.

    Returns:
        ``key -> optimiser``; under ``vmap`` each seed so explores by its own noise.

    Raises:
        UnknownArtifactError: If neither an optimiser nor an artifact has the name.
        ValueError: If a handcrafted optimiser is not tuned for the environment.

    Example:
        >>> import jax
        >>> make = resolve("lion", PPOConfig(), "Breakout-MinAtar")
        >>> optimizer = make(jax.random.key(0))
    """
    prefix, _, rest = rule.partition(":")
    if prefix in HANDCRAFTED:
        optimizer = handcrafted(rule, environment, config.num_updates)
        return lambda key: optimizer
    name = rest if prefix in _PREFIXES else rule

    # Found out here, a misspelt name does not wait for the runs before it to end.
    module = artifacts.rule_module(artifacts.card(name).algorithm)
    horizon = config.horizon()
    return lambda key: pretrained(
        name, **_accepted(module.from_artifact, horizon=horizon, key=key)
    )


def _accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The options a rule takes: not every one has a horizon or noise."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return options
    names = {p.name for p in parameters}
    return {name: value for name, value in options.items() if name in names}


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    file = importlib.resources.files("learned_opt_rl.evaluation") / "tuned.json"
    return json.loads(file.read_text(encoding="utf-8"))["environments"]


def _tuned(name: str, environment: str) -> dict[str, Any]:
    try:
        return dict(_table()[environment][name])
    except KeyError:
        known = [env for env, rules in _table().items() if name in rules]
        raise ValueError(
            f"nothing is tuned for rule={name!r} on environment={environment!r} (only "
            f"for {', '.join(known)}); give a learning rate, as in '{name}:1e-3'"
        ) from None


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
