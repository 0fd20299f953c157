"""Resolve the name of a rule, as on a command line, to an optimizer.

A rule is written

- ``NAME`` for a handcrafted optimizer with its settings tuned for the environment:
  ``adam``, ``rmsprop``, ``lion`` or ``sgd``;
- ``NAME:RATE`` for a handcrafted optimizer with a fixed learning rate: ``adam:1e-3``;
- ``ARTIFACT`` or ``artifact:ARTIFACT`` for a learned rule;
- ``ARTIFACT@FEATURE`` for a learned optimizer without one of `FEATURES`, which the
  user's agent may not provide: ``minatar@no-dormancy``;
- ``OPTIMIZER+DRIFT`` for an optimizer with a drift: ``minatar+lpo/minatar``;
- ``PATH.json`` for a rule with the settings in a file of ``learned-opt-rl tune``;
- as in `own_rules` for a rule of your own: ``mine.txt``, ``./folder``,
  ``optax.adamw:3e-4`` or ``module:name``.

A drift alone runs with tuned Adam. An optimizer with a learning rate gets the rate
tuned for the environment. Only the agent lpg runs with an update rule.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from learned_opt_rl import agents, artifacts
from learned_opt_rl.agents.config import ActorCriticConfig, Config, LPGConfig, PPOConfig
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.artifacts.weights import read_limited
from learned_opt_rl.checks import nearest, suggest
from learned_opt_rl.errors import ArtifactError, UnknownArtifactError
from learned_opt_rl.evaluation.runs import own_rules, tuned_rule
from learned_opt_rl.evaluation.runs.own_rules import Own, positive
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules import pretrained, trained_horizon
from learned_opt_rl.rules.discovered import tuned_learning_rate
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rules.tuned import tuned

OptimizerFactory = Callable[[jax.Array], optax.GradientTransformation]
"""``key -> optimizer``; only learned optimizers with noise use the key."""


class Rule(NamedTuple):
    """An optimizer, with a learned part of the loss if there is one."""

    optimizer: OptimizerFactory  # makes the optimizer from a key
    drift: Drift | None = None  # replaces PPO's clip; None for PPO's own
    update_rule: UpdateRule | None = None  # the rule of the agent lpg, and of no other


HANDCRAFTED: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}
"""The baselines by name."""

FEATURES: dict[str, str] = {
    "no-dormancy": "the agent gives no dormancy; every neuron counts as 1",
    "no-batch-proportion": (
        "the agent gives the number of updates, but not how they are grouped; the "
        "batch proportion is 0"
    ),
    "no-horizon": "the agent gives no horizon; the artifact's own is used",
    "no-actor-mask": (
        "paths name neither actor nor critic; all leaves count as one exploring network"
    ),
}
"""Features that may be missing, and how the optimizer behaves without them."""

Settings = Mapping[str, Any]
"""Settings of a rule by name, in place of the tuned ones.

They are ``learning_rate``, ``anneal`` (linearly to 0), the other arguments of the
optimizer by optax's names, and ``constants.NAME`` for the constants of an expression.
Numbers may be traced; ``anneal`` is then 0 or 1.
"""

_PREFIXES = ("artifact", "open")
"""What may precede the name of a learned rule, with a colon."""


def artifact_name(rule: str) -> str:
    """Return the artifact that a rule would be, without prefix and missing feature."""
    prefix, colon, rest = rule.partition("@")[0].partition(":")
    return rest if colon and prefix in _PREFIXES else prefix + colon + rest


def parts(rule: str) -> tuple[str, str | None]:
    """Return optimizer and drift of ``OPTIMIZER+DRIFT``, else the rule and None."""
    # The plus of "adam:1e+3" belongs to a number, that of "./c++/a.txt" to a path.
    optimizer, *drift = re.split(r"\+(?!\d)", rule, maxsplit=1)
    whole = not drift or own_rules.file(rule) is not None
    return (rule, None) if whole else (optimizer, drift[0])


def weights_digest(rule: str) -> str | None:
    """Return the SHA-256 of a rule's weights or text; None for a rule without any.

    For a file of ``learned-opt-rl tune`` it covers the rule, its settings and weights,
    for ``OPTIMIZER+DRIFT`` both.
    """
    optimizer, drift = parts(rule)
    if drift is not None:
        both = [weights_digest(optimizer), weights_digest(drift)]
        known = both[1] and (both[0] or _has_no_weights(optimizer))
        return hashlib.sha256(json.dumps(both).encode()).hexdigest() if known else None
    if _has_no_weights(rule):
        return None
    try:
        if tuned_rule.is_path(rule):
            made = tuned_rule.read(rule)
            content = json.dumps([*made, weights_digest(made.rule)], sort_keys=True)
            return hashlib.sha256(content.encode()).hexdigest()
        file = own_rules.file(rule)
        if file is not None:
            return hashlib.sha256(read_limited(file, "")).hexdigest()
        return artifacts.card(artifact_name(rule)).weights.sha256
    except ArtifactError:
        return None


def _has_no_weights(rule: str) -> bool:
    return is_handcrafted(rule) or rule.startswith("optax.")


def handcrafted(
    rule: str, environment: str, num_updates: int, settings: Settings | None = None
) -> optax.GradientTransformation:
    """Build a baseline optimizer, without gradient clipping (the agent clips).

    ``NAME`` has the settings tuned for the environment (Goldie et al. 2024, appendix);
    ``NAME:RATE`` has optax's defaults with a fixed learning rate. Tuned learning rates
    that anneal fall linearly to 0 over ``num_updates`` optimizer steps. ``settings``
    replace the tuned ones.
    """
    name, colon, rate = rule.partition(":")
    if name not in HANDCRAFTED:
        raise ValueError(
            f"rule={rule!r} is not a handcrafted optimizer; choose one of "
            f"{', '.join(HANDCRAFTED)}"
        )
    if colon:
        return HANDCRAFTED[name](positive(rule, rate))
    try:
        settings = dict(tuned(name, environment) if settings is None else settings)
    except ValueError as error:
        raise ValueError(
            f"rule={rule!r}: {error}, as in '{name}:1e-3', or "
            f"{_tune_first(name, environment)}"
        ) from error
    learning_rate, anneal = settings.pop("learning_rate"), settings.pop("anneal", True)
    if anneal is not False:
        end = learning_rate * (1 - anneal)  # 0, unless traced
        learning_rate = optax.linear_schedule(learning_rate, end, num_updates)
    return HANDCRAFTED[name](learning_rate, **settings)


def resolve(
    rule: str, config: Config, environment: str, settings: Settings | None = None
) -> Rule:
    """Return the rule with a name; see the description of this module.

    The configuration gives schedules and horizons, and its type determines the agent.
    The environment determines tuned settings. The optimizer is made from a key, so that
    under ``vmap`` every seed has noise of its own. An unknown name is an
    `UnknownArtifactError`; a rule that is not tuned for the environment or not for this
    agent (drifts are for ppo, update rules for lpg) is a `ValueError`. ``settings``
    replace those tuned for the environment; a drift's Adam takes what is not a
    constant.
    """
    optimizer, drift = parts(rule)
    if drift is not None:
        return _combined(rule, optimizer, drift, config, environment, settings)
    if tuned_rule.is_path(rule):
        return _from_file(rule, config, environment)
    if own_rules.is_own(rule) and not is_handcrafted(rule):
        if settings is not None:  # A file of settings must not run code.
            raise ValueError(
                f"rule={rule!r} is user-defined and takes no settings of "
                "`learned-opt-rl tune`; name the rule itself"
            )
        own = own_rules.find(rule)
        if own is not None:
            return of_own(rule, own, config, environment)
    name, at, missing = rule.partition("@")
    # Looked up here, a misspelled name does not wait for the runs before it to end.
    card = None if is_handcrafted(rule) else _card(rule)
    kind = "handcrafted" if card is None else card.kind
    if at and kind != "optimizer":
        raise ValueError(
            f"rule={rule!r}: only a learned optimizer can lack a feature, but {name!r} "
            f"has the kind {kind!r}; leave {at + missing!r} out"
        )
    if card is not None and kind == "update_rule":
        return of_own(rule, _named(rule), config, environment)
    if isinstance(config, LPGConfig):
        raise _wrong_agent(rule, config)
    if card is None:
        plain = handcrafted(name, environment, config.num_updates, settings)
        return Rule(lambda key: plain)
    if kind == "drift":
        make = functools.partial(pretrained, card.name)
        return _drift(rule, make, config, environment, settings)
    return _learned(rule, card, config, environment, missing if at else None, settings)


def is_handcrafted(rule: str) -> bool:
    """Return whether a rule is one of `HANDCRAFTED`, with a rate or without."""
    return rule.partition("@")[0].partition(":")[0] in HANDCRAFTED


def _card(rule: str) -> Card:
    try:
        return artifacts.card(artifact_name(rule))
    except UnknownArtifactError as error:
        near = nearest(rule.partition(":")[0], HANDCRAFTED, 1)
        hint = f"; or do you mean the optimizer {near[0]!r}?" if near else ""
        raise UnknownArtifactError(f"{error}{hint}") from error


def _from_file(path: str, config: Config, environment: str) -> Rule:
    made = tuned_rule.read(path)
    settings = made.settings.get(environment, made.settings.get(tuned_rule.ALL))
    if settings is None:
        raise ValueError(
            f"rule={path!r} has no settings for environment={environment!r} (only for "
            f"{', '.join(made.settings)}); {_tune_first(made.rule, environment)}"
        )
    try:
        return resolve(made.rule, config, environment, settings)
    except (TypeError, KeyError) as error:  # The file may have been edited.
        raise ValueError(
            f"rule={path!r}: its settings do not fit {made.rule!r} ({error}); "
            f"{_tune_first(made.rule, environment)}"
        ) from error


def _tune_first(rule: str, environment: str) -> str:
    return (
        f"run `learned-opt-rl tune {rule} --environments {environment}` and name its "
        "tuned.json as the rule"
    )


def _parted(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the optimizer, and ``constants=`` if there are any."""
    prefix = "constants."
    mine = {n: v for n, v in settings.items() if not n.startswith(prefix)}
    constants = {n.removeprefix(prefix): settings[n] for n in settings.keys() - mine}
    return mine, {"constants": constants} if constants else {}


def _learned(
    rule: str,
    card: Card,
    config: Any,
    environment: str,
    missing: str | None,
    settings: Settings | None,
) -> Rule:
    extra: dict[str, Any] = {}
    if settings is not None:
        mine, constants = _parted(settings)
        extra = mine | constants
    elif "learning_rates" in card.architecture:
        extra["learning_rate"] = _tuned_rate(rule, card.name, environment)

    if missing not in (None, *FEATURES):
        raise ValueError(
            f"rule={rule!r}: {missing!r} is not a feature; {suggest(missing, FEATURES)}"
        )

    def optimizer(key: jax.Array) -> optax.GradientTransformation:
        options: dict[str, Any] = {"horizon": config.horizon(), "key": key}
        if missing == "no-horizon":
            # The artifact's own; passed explicitly, it does not warn.
            options["horizon"] = trained_horizon(card)
        elif missing == "no-batch-proportion":
            options["horizon"] = Horizon(config.num_updates)
        elif missing == "no-actor-mask":
            options["networks"] = {"network": "."}
        made = pretrained(card.name, **options, **extra)
        return _without_dormancy(made) if missing == "no-dormancy" else made

    return Rule(optimizer)


def _without_dormancy(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    optimizer = optax.with_extra_args_support(optimizer)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        extra.pop("dormancy", None)
        return optimizer.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _drift(
    rule: str,
    make: Callable[..., Drift],
    config: Any,
    environment: str,
    settings: Settings | None = None,
) -> Rule:
    _require_ppo(rule, config)
    mine, constants = (None, {}) if settings is None else _parted(settings)
    try:
        mine = tuned("adam", environment) if mine is None else mine
    except ValueError as error:
        raise ValueError(
            f"rule={rule!r} is a drift, which runs with tuned Adam, but {error}: name "
            f"'adam:1e-3+{rule}', or {_tune_first(rule, environment)}"
        ) from error
    adam = handcrafted("adam", environment, config.num_updates, mine)
    return Rule(lambda key: adam, make(**constants))


def _combined(
    rule: str,
    optimizer: str,
    drift: str,
    config: Any,
    environment: str,
    settings: Settings | None,
) -> Rule:
    _require_ppo(drift, config)
    base = resolve(optimizer, config, environment, settings)
    found = None if is_handcrafted(drift) else own_rules.find(drift) or _named(drift)
    wrong = f"{optimizer!r} is a drift" if base.drift is not None else ""
    if found is None or found.kind != "drift":
        wrong = f"{drift!r} is not a drift"
    if found is None or wrong:
        raise ValueError(
            f"rule={rule!r}: {wrong}; write OPTIMIZER+DRIFT, as in "
            "'minatar+lpo/minatar'"
        )
    return base._replace(drift=found.make())


def _named(rule: str) -> Own:
    card = _card(rule)
    return Own(card.kind, functools.partial(pretrained, card.name))


def of_artifact(artifact: artifacts.Artifact, config: Config, environment: str) -> Rule:
    """Return the rule of an artifact that need not be installed.

    A drift runs with tuned Adam, an update rule with the published optimizer.
    """
    own = own_rules.of_artifact(artifact)
    return of_own(artifact.card.name, own, config, environment)


def of_own(rule: str, own: Own, config: Any, environment: str) -> Rule:
    """Return the rule of a user-defined one, which messages call ``rule``."""
    # Agents of an update rule have an LPGConfig, or a life of training.lifetimes.
    if (own.kind == "update_rule") == isinstance(config, ActorCriticConfig):
        raise _wrong_agent(rule, config)
    if own.kind == "update_rule":
        plain = agents.lpg_optimizer(environment, config.num_updates)
        return Rule(lambda key: plain, update_rule=own.make())
    if own.kind == "drift":
        return _drift(rule, own.make, config, environment)
    horizon = config.horizon()
    return Rule(lambda key: own.make(horizon=horizon, key=key))


def _wrong_agent(rule: str, config: Any) -> ValueError:
    if isinstance(config, LPGConfig):
        return ValueError(
            f"rule={rule!r} is not an update rule, which the agent lpg needs; choose "
            "the agent ppo or a2c, or an update rule"
        )
    return ValueError(
        f"rule={rule!r} is an update rule, which needs an agent of its own; choose "
        "the agent lpg"
    )


def _require_ppo(rule: str, config: Any) -> None:
    if type(config) is not PPOConfig:
        raise ValueError(
            f"rule={rule!r} is a drift, which replaces PPO's clip; choose the agent ppo"
        )


def _tuned_rate(rule: str, name: str, environment: str) -> float:
    try:
        return tuned_learning_rate(name, environment)
    except ValueError as error:
        raise ValueError(
            f"rule={rule!r}: {error}, as in run(lambda key: pretrained({name!r}, "
            f"learning_rate=...), ...), or {_tune_first(rule, environment)}"
        ) from error
