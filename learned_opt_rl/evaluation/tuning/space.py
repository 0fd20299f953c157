"""The settings of a rule that can be tuned, and which of them to try next."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from learned_opt_rl import artifacts, expressions
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

    Drifts also have the settings of the Adam that they run with. ``only`` are the names
    to search; the others stay at their start.

    Raises:
        ValueError: The rule has nothing to tune, or not what ``only`` names.
        UnknownArtifactError: No rule has this name.

    Example:
        >>> search_space("adam")
        {'learning_rate': 0.001, 'b1': 0.9, 'b2': 0.999, 'anneal': True}
    """
    plain = rules.is_handcrafted(rule)
    if tuned_rule.is_path(rule) or (plain and ":" in rule):
        raise ValueError(
            f"rule={rule!r} has fixed settings; name a rule without any, such as 'adam'"
        )
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


def next_place(
    space: Mapping[str, Any],
    only: Sequence[str],
    tried: Sequence[tuple[Mapping[str, Any], float]],
    seed: int,
) -> dict[str, Any]:
    """Return the place to try next, given others and their scores; the start at first.

    A place has the decimal logarithm of a factor for each number: up to 2 for a
    learning rate, else up to 1. It depends only on the arguments, so that a killed
    search resumes to the same places.

    Raises:
        MissingExtraError: optuna is not installed.

    References:
        Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE, the
        tree-structured Parzen estimator); Akiba et al. 2019 (optuna).
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            f"tuning needs optuna ({error}): pip install 'learned-opt-rl[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # announces every search
    within: dict[str, Any] = {}
    for name in only or space:
        end = 2.0 if name == "learning_rate" else 1.0
        within[name] = optuna.distributions.FloatDistribution(-end, end)
        if isinstance(space[name], bool):
            within[name] = optuna.distributions.CategoricalDistribution([False, True])
    if not tried:
        return {n: space[n] if isinstance(space[n], bool) else 0.0 for n in within}
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trial = optuna.trial.create_trial
    for place, score in tried:
        known = trial(params=dict(place), distributions=within, value=score)
        study.add_trial(known)
    return study.ask(within).params


def setting_at(name: str, start: Any, place: Any) -> Any:
    """Return a setting, given its start and its entry in a place.

    The factor of a decay, or of a constant in [0.5, 1), is that of its distance from 1.

    Example:
        >>> setting_at("learning_rate", 0.7, -1.0), setting_at("b1", 0.9, -1.0)
        (0.07, 0.99)
    """
    if isinstance(start, bool):
        return place
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
    make = artifacts.rule_module(card.algorithm).from_artifact
    has_rate = "learning_rate" in inspect.signature(make).parameters
    constants = {}
    if card.representation == "expression":
        artifact = artifacts.load(card.name)
        has_rate = "lr" in expressions.parse(artifact.text or "").inputs
        # Float32 on disk: 0.2 would be 0.20000000298.
        weights: Any = artifact.weights
        constants = {f"constants.{n}": float(f"{c:.6g}") for n, c in weights.items()}
    if has_rate and card.kind == "optimizer":
        space["learning_rate"] = card.architecture.get("learning_rate") or 1.0
    return space | constants
