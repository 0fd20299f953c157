"""Rules given as Python objects under names of the user's choice.

A value is an optax optimizer, a function ``horizon -> optimizer``, a drift ``(ratio,
advantage) -> drift``, an update rule of `rules.lpg`, a `rules.Rule`, or a text for
`rules.resolve`.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.agents.config import Config
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.runs import own_rules
from learned_opt_rl.evaluation.runs.own_rules import Own
from learned_opt_rl.evaluation.runs.rules import (
    Rule,
    is_handcrafted,
    of_own,
    resolve,
    weights_digest,
)
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules.lpg import UpdateRule

_ACCEPTED = (
    "an optax optimizer, a function horizon -> optimizer, a drift (ratio, advantage) "
    "-> drift, or the name of a rule"
)

_ZERO = 1e-5  # what float32 may leave of a drift at ratio 1


class GivenRule(NamedTuple):
    """A rule under a name of the user's choice."""

    resolve: Callable[[Config, str], Rule]  # from a configuration and an environment
    sha256: str  # of what the rule computes; see `_digest`


def given_rules(
    rules: Mapping[str, Any] | Iterable[str],
) -> tuple[tuple[str, ...], dict[str, GivenRule]]:
    """Return the names of rules, and those among them that are given as objects.

    Args:
        rules: Values by name, or just names for `rules.resolve`. ``...`` stands for
            the rule that has this name.

    Raises:
        ValueError: A name is that of another rule, or a value is not a rule.

    Example:
        >>> names, given = given_rules({"mine": optax.sgd(0.1), "adam": ...})
        >>> names, list(given)
        (('mine', 'adam'), ['mine'])
    """
    if isinstance(rules, str) or not isinstance(rules, Iterable):
        raise ValueError(
            f"rules={rules!r}: must be a dict of rules by name, or a list of names. "
            f"Pass [{rules!r}]"
        )
    if not isinstance(rules, Mapping):
        return tuple(rules), {}
    found = {}
    for name, value in rules.items():
        if value is not ... and value != name:
            _check_name(name)
            found[name] = _given(name, value)
    return tuple(rules), found


def _check_name(name: Any) -> None:
    """Refuse the name of another rule: its rows would have the wrong name."""
    taken = not isinstance(name, str) or not re.fullmatch(r"[^:@+/~.][^:@+/]*", name)
    taken = taken or is_handcrafted(name) or own_rules.is_own(name)
    if not taken and not name.endswith(".json"):
        try:
            artifacts.card(name)
        except ArtifactError:
            return
    raise ValueError(
        f"rules={{{name!r}: ...}}: {name!r} is or looks like the name of another rule. "
        "Choose a name without : @ + and /, such as 'mine'"
    )


def _given(name: str, value: Any) -> GivenRule:
    if isinstance(value, str):
        content = json.dumps([value, weights_digest(value)])
        digest = hashlib.sha256(content.encode()).hexdigest()
        return GivenRule(lambda config, env: resolve(value, config, env), digest)
    if isinstance(value, Rule):
        parts = [value.optimizer(jax.random.key(0)), value.drift, value.update_rule]
        return GivenRule(lambda config, env: value, _digest(*parts))
    own = _own(name, value)
    made = own.make(**_EXAMPLE if own.kind == "optimizer" else {})
    return GivenRule(lambda config, env: of_own(name, own, config, env), _digest(made))


def _own(name: str, value: Any) -> Own:
    if isinstance(value, UpdateRule):
        return Own("update_rule", lambda: value)
    if isinstance(value, optax.GradientTransformation):
        return Own("optimizer", lambda **_: value)
    inputs = _inputs(value) if callable(value) else 0
    if inputs == 2:
        _check_drift(name, value)
        return Own("drift", lambda: value)
    if inputs == 1:
        return own_rules.of_function(name, value)
    raise ValueError(
        f"rules={{{name!r}: {value!r}}}: must be {_ACCEPTED}. Pass one of these"
    )


def _check_drift(name: str, value: Callable[..., Any]) -> None:
    """Refuse other functions of two arguments, which would train something else."""
    ratio, advantage = jnp.array([0.5, 1.0, 1.0]), jnp.array([1.0, -1.0, 1.0])
    try:
        found = np.asarray(value(ratio, advantage))
        is_drift = found.shape == ratio.shape and bool(np.isfinite(found).all())
        is_drift = is_drift and bool((abs(found[1:]) <= _ZERO).all())
        reason = f"returns {found} for the ratios {ratio} and advantages {advantage}"
    except Exception as error:  # Code of the user may raise anything.
        is_drift, reason = False, f"raises {type(error).__name__}: {error}"
    if not is_drift:
        raise ValueError(
            f"rules={{{name!r}: {value!r}}}: a function of two arguments must be a "
            "drift (ratio, advantage) -> drift, a finite array of the ratio's shape "
            f"that is 0 at ratio 1, but it {reason}. Pass {_ACCEPTED}"
        )


def _inputs(function: Callable[..., Any]) -> int:
    """Return the number of positional arguments that a function needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


def _digest(*parts: Any) -> str:
    """Return the SHA-256 of the programs of a rule, which contain its constants.

    A comparison repeats the runs of a rule if this changes, as for a changed file.
    """
    programs = [_program(part) for part in parts if part is not None]
    return hashlib.sha256("\n".join(programs).encode()).hexdigest()


def _program(part: Any) -> str:
    if isinstance(part, UpdateRule):
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf).tolist(), part.weights)
        return repr((weights, part.architecture))
    if not isinstance(part, optax.GradientTransformation):
        return _lowered(part, jnp.ones(3), jnp.ones(3))
    state = _lowered(part.init, _PARAMS)
    return state + _lowered(part.update, _PARAMS, part.init(_PARAMS), _PARAMS)


def _lowered(function: Callable[..., Any], *arguments: Any) -> str:
    return jax.jit(lambda *a: function(*a)).lower(*arguments).as_text()


# A rule is identified by what it computes for a small agent with the usual names.
_EXAMPLE = {"horizon": Horizon(1000, 4, 8), "key": jax.random.key(0)}
_PARAMS = {
    network: {
        "Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)},
        "Dense_1": {"kernel": jnp.ones((3, 3)), "bias": jnp.zeros(3)},
        "Dense_2": {"kernel": jnp.ones((3, 1)), "bias": jnp.zeros(1)},
    }
    for network in ("actor", "critic")
}
