"""The settings of a rule that can be tuned, and which of them to try next."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from learned_opt_rl import artifacts, expressions
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.runs import rules, tuned_rule

# Usual rates with PPO. All published ones are within a factor of a hundred.
_RATES = {"adam": 1e-3, "lion": 3e-4, "rmsprop": 1e-3, "sgd": 0.02}
# optax's names for the decays of running means.
_DECAYS = ("b1", "b2", "decay")
# Random settings at first; optuna's own 10 would be most of a small budget.
_RANDOM = 5


def search_space(rule: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return the start of each setting of a rule that can be tuned, by name.

    A learning rate is searched up to a factor of 100 from its start, a constant of an
    expression up to a factor of 10, and so is the distance from 1 of a decay or of a
    constant in [0.5, 1). Drifts also have the settings of the Adam that they run with.
    ``only`` are the names to search; the others stay at their start.

    Raises:
        ValueError: The rule has nothing to tune, or not what ``only`` names.
        UnknownArtifactError: There is no such rule.

    Example:
        >>> search_space("adam")
        {'learning_rate': 0.001, 'b1': 0.9, 'b2': 0.999, 'anneal': True}
    """
    if tuned_rule.is_path(rule) or (":" in rule and rules.is_handcrafted(rule)):
        raise ValueError(
            f"rule={rule!r} has fixed settings; name a rule without any, such as 'adam'"
        )
    plain = rules.is_handcrafted(rule)
    space = _handcrafted(rule.partition("@")[0]) if plain else _learned(rule)
    if not space:
        raise ValueError(
            f"rule={rule!r} has no learning rate and no constants to tune; name a rule "
            f"that has one, such as {', '.join(rules.HANDCRAFTED)}"
        )
    for name in only:
        if name not in space:
            raise ValueError(
                f"only={name!r} is not a setting of {rule!r}; {suggest(name, space)}"
            )
    return space


def settings_at(space: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings at a place, the decimal logarithms of factors by name.

    Example:
        >>> settings_at({"learning_rate": 0.001, "b1": 0.9}, {"b1": -1.0})
        {'learning_rate': 0.001, 'b1': 0.99}
    """
    return {name: _value(name, space[name], place.get(name)) for name in space}


def next_place(
    space: Mapping[str, Any],
    only: Sequence[str],
    tried: Sequence[tuple[Mapping[str, Any], float]],
    seed: int,
) -> dict[str, Any]:
    """Return the place to try next, given others and their scores; the start at first.

    The place depends only on the arguments, so that a killed search resumes to the same
    places.

    References:
        Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE, the
        tree-structured Parzen estimator); Akiba et al. 2019 (optuna).
    """
    optuna = require_optuna()
    distributions = optuna.distributions
    within = {
        name: distributions.CategoricalDistribution([False, True])
        if isinstance(space[name], bool)
        else distributions.FloatDistribution(*_ends(name))
        for name in only or space
    }
    if not tried:
        return {n: space[n] if isinstance(space[n], bool) else 0.0 for n in within}
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for place, score in tried:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(place), distributions=within, value=score
            )
        )
    return study.ask(within).params


def described(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as text, in one cell each."""
    return [
        str(v).lower() if isinstance(v, bool) else f"{v:g}" for v in settings.values()
    ]


def require_optuna() -> Any:
    """Import optuna, or raise `MissingExtraError`."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            f"tuning needs optuna ({error}): pip install 'learned-opt-rl[tune]'"
        ) from error
    # It would announce every search.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _ends(name: str) -> tuple[float, float]:
    return (-2.0, 2.0) if name == "learning_rate" else (-1.0, 1.0)


def _value(name: str, start: Any, place: Any) -> Any:
    if isinstance(start, bool) or place is None:
        return start if place is None else place
    # Few digits, so that a table shows what ran.
    if name != "learning_rate" and 0.5 <= start < 1:
        distance = float(f"{(1 - start) * 10**place:.2g}")
        return round(max(1 - distance, 0.0), 6)
    return float(f"{start * 10**place if start else place:.3g}")


def _handcrafted(name: str) -> dict[str, Any]:
    arguments = inspect.signature(rules.HANDCRAFTED[name]).parameters
    decays = {n: arguments[n].default for n in _DECAYS if n in arguments}
    return {"learning_rate": _RATES[name], **decays, "anneal": True}


def _learned(rule: str) -> dict[str, Any]:
    card = artifacts.card(rules.artifact_name(rule))
    space = _handcrafted("adam") if card.kind == "drift" else {}
    if card.kind == "optimizer" and _has_rate(card):
        space["learning_rate"] = card.architecture.get("learning_rate") or 1.0
    if card.representation == "expression":
        weights: Any = artifacts.load(card.name).weights
        # Float32 on disk: 0.2 would be 0.20000000298.
        space |= {f"constants.{n}": float(f"{c:.6g}") for n, c in weights.items()}
    return space


def _has_rate(card: Card) -> bool:
    if card.representation == "expression":
        text = artifacts.load(card.name).text or ""
        return "lr" in expressions.parse(text).inputs
    make = artifacts.rule_module(card.algorithm).from_artifact
    return "learning_rate" in inspect.signature(make).parameters
