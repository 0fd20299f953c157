"""Rules given as Python objects under names of the user's choice.

A value is an optax optimizer, a function ``horizon -> optimizer``, a drift ``(ratio,
advantage) -> drift``, an update rule of `rules.lpg`, a `rules.Rule`, or a text for
`rules.resolve`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.agents.config import Config
from learned_opt_rl.checks import as_names
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.runs import own_rules
from learned_opt_rl.evaluation.runs.rules import (
    Rule,
    is_handcrafted,
    of_own,
    resolve,
    weights_digest,
)
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules.lpg import UpdateRule


class GivenRule(NamedTuple):
    """A rule under a name of the user's choice."""

    resolve: Callable[[Config, str], Rule]  # from a configuration and an environment
    sha256: str  # of what the rule computes; see `_digest`


def given_rules(
    rules: Mapping[str, Any] | Iterable[str],
) -> tuple[tuple[str, ...], dict[str, GivenRule]]:
    """Return the names of rules, and those among them that are given as objects.

    Args:
        rules: Values by name, or just names for `rules.resolve`. The value
            ``...`` selects the library's rule of that name.

    Raises:
        ValueError: A name is that of another rule, or a value is not a rule.

    Example:
        >>> names, given = given_rules({"mine": optax.sgd(0.1), "adam": ...})
        >>> names, list(given)
        (('mine', 'adam'), ['mine'])
    """
    if not isinstance(rules, Mapping):
        names = as_names(rules) if isinstance(rules, Iterable) else (rules,)
        if all(isinstance(name, str) for name in names):
            return names, {}
        raise ValueError(
            f"rules={rules!r}: must be names, or a dict of rules by name. Pass "
            "{'mine': RULE}"
        )
    found = {}
    for name, value in rules.items():
        if value is not ... and value != name:
            _check_name(name)
            found[name] = _given(name, value)
    return tuple(rules), found


def _check_name(name: Any) -> None:
    """Refuse the name of another rule: its rows would have the wrong name."""
    if not isinstance(name, str) or not re.fullmatch(r"[^:@+/~.][^:@+/]*", name):
        what, other = "is not a plain name", "mine"
    elif own_rules.is_own(name) or name.endswith(".json"):
        what, other = "looks like a file or one of optax's optimizers", "mine"
    elif is_handcrafted(name) or _is_artifact(name):
        what, other = "already names a rule of the library", f"my-{name}"
    else:
        return
    raise ValueError(
        f"rules={{{name!r}: ...}}: {name!r} {what}. Choose a name without : @ + and /, "
        f"such as {other!r}, or give the value ... for the rule of that name"
    )


def _is_artifact(name: str) -> bool:
    try:
        artifacts.card(name)
    except ArtifactError:
        return False
    return True


def _given(name: str, value: Any) -> GivenRule:
    if isinstance(value, str):
        content = json.dumps([value, weights_digest(value)])
        digest = hashlib.sha256(content.encode()).hexdigest()
        return GivenRule(lambda config, env: resolve(value, config, env), digest)
    if isinstance(value, Rule):
        parts = [value.optimizer(jax.random.key(0)), value.drift, value.update_rule]
        return GivenRule(lambda config, env: value, _digest(*parts))
    own = own_rules.of_object(name, value, given=True)
    made = own.make(**_EXAMPLE if own.kind == "optimizer" else {})
    return GivenRule(lambda config, env: of_own(name, own, config, env), _digest(made))


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
