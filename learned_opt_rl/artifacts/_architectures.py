"""What a card's ``architecture`` holds, algorithm by algorithm."""

from collections.abc import Callable, Mapping
from typing import Any

from learned_opt_rl.artifacts import _schema as schema

_Architecture = Mapping[str, Any]

_NETWORK_TYPE = schema.one_of("recurrent", "feed_forward")
_NETWORKS = {
    "recurrent": schema.record(
        type=_NETWORK_TYPE,
        carry=schema.positive_integer,
        width=schema.positive_integer,
    ),
    "feed_forward": schema.record(type=_NETWORK_TYPE, width=schema.positive_integer),
}


def _network(architecture: _Architecture, path: str) -> None:
    kind: Any = architecture.get("type")
    _NETWORK_TYPE(kind, f"{path}.type")
    _NETWORKS[kind](architecture, path)


def _with_optional(check: schema.Check, **stand_ins: object) -> schema.Check:
    """A check of a record whose fields named here may be left out."""

    def check_optional(value: Any, path: str) -> None:
        check(stand_ins | dict(value), path)

    return check_optional


# A linear head has no width.
_OPTIM4RL = _with_optional(
    schema.record(
        version=schema.one_of("arxiv2023", "rlc2024"),
        carry=schema.positive_integer,
        width=schema.positive_integer,
        learning_rate=schema.positive_number,
    ),
    width=1,
    learning_rate=1.0,
)
_LPO = schema.record(
    width=schema.positive_integer,
    clip_eps=schema.positive_number,
    margin=schema.positive_number,
)
_LPG = schema.record(
    core=schema.one_of("gru", "lstm"),
    width=schema.positive_integer,
    embedding=schema.positive_integer,
    target_width=schema.positive_integer,
    gamma_input=schema.boolean,
    lifetime_inputs=schema.one_of("none", "relative", "raw"),
    policy_sign=schema.one_of("descend", "ascend"),
)
_EXPRESSION_DRIFT = schema.record(offset=schema.number)
# Only functions that read lr have a learning rate, and a table of tuned ones.
_EXPRESSION_OPTIMIZER = _with_optional(
    schema.record(
        zero_mean=schema.boolean,
        learning_rate=schema.positive_number,
        learning_rates=schema.text,
    ),
    learning_rate=1.0,
    learning_rates="none",
)


def _expression(architecture: _Architecture, path: str) -> None:
    drift = "offset" in architecture
    (_EXPRESSION_DRIFT if drift else _EXPRESSION_OPTIMIZER)(architecture, path)


_CHECKS: dict[str, Callable[[_Architecture, str], None]] = {
    "expression": _expression,
    "lpg": _LPG,
    "lpo": _LPO,
    "no_features": _network,
    "open": _network,
    "open_separated": _network,
    "optim4rl": _OPTIM4RL,
}
_KINDS = {
    "lpg": "update_rule",
    "lpo": "drift",
    "no_features": "optimizer",
    "open": "optimizer",
    "open_separated": "optimizer",
    "optim4rl": "optimizer",
}


def check_architecture(algorithm: str, architecture: _Architecture) -> None:
    """Check the fields of a built-in algorithm; a plugin's are its own affair.

    Raises:
        MismatchError: A field is unknown, missing or wrong.
    """
    if algorithm in _CHECKS:
        _CHECKS[algorithm](architecture, "architecture")


def kind_of(algorithm: str, architecture: _Architecture) -> str | None:
    """The kind a built-in algorithm's artifacts have; ``None`` for a plugin's."""
    if algorithm == "expression":
        return "drift" if "offset" in architecture else "optimizer"
    return _KINDS.get(algorithm)
