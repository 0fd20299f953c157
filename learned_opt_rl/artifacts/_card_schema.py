"""The schema of a card, as a table of checks."""

from collections.abc import Mapping
from typing import Any

from learned_opt_rl.artifacts import _schema as schema

# What people write when they do not know the licence; none of it is one.
_NOT_A_LICENCE = r"(?!(?i:none|unknown|custom|other|proprietary|noassertion|tbd)$)"
_SPDX_ID = r"\(?[A-Za-z0-9][A-Za-z0-9.+-]*\)?"

_NAME = schema.matches(
    r"[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63})?",
    "use 'name' or 'namespace/name' of lower-case letters, digits, '-' and '_'",
)
_IDENTIFIER = schema.matches(
    r"[a-z][a-z0-9_]{0,63}",
    "use the rule's identifier: lower-case letters, digits and '_'",
)
_LICENCE = schema.matches(
    rf"{_NOT_A_LICENCE}{_SPDX_ID}( (AND|OR|WITH) {_SPDX_ID})*",
    "use an SPDX identifier such as 'Apache-2.0' or 'MIT' (https://spdx.org/licenses)",
)
_SHA256 = schema.matches(
    r"[0-9a-f]{64}", "use the 64 lower-case hexadecimal digits that sha256sum prints"
)
_FILE_NAME = schema.matches(
    r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\.safetensors",
    "name a .safetensors file in the card's own folder",
)

_HTTPS = schema.matches(
    r"https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%@+-]+)+",
    "write a plain https:// address that ends in a file name",
)

_FILE_WEIGHTS = schema.record(
    file=_FILE_NAME,
    sha256=_SHA256,
    parameters=schema.positive_integer,
    format=schema.one_of("safetensors"),
)
_REMOTE_WEIGHTS = schema.record(
    url=_HTTPS,
    sha256=_SHA256,
    bytes=schema.positive_integer,
    parameters=schema.positive_integer,
    format=schema.one_of("flat_npy"),
)


def _check_weights(value: Any, path: str) -> None:
    remote = isinstance(value, Mapping) and "url" in value
    (_REMOTE_WEIGHTS if remote else _FILE_WEIGHTS)(value, path)


_CARD = schema.record(
    schema=schema.one_of(1),
    name=_NAME,
    title=schema.text,
    summary=schema.text,
    algorithm=_IDENTIFIER,
    representation=schema.one_of("network", "expression"),
    architecture=schema.mapping_of(schema.scalar),
    inputs=schema.list_of(schema.text),
    horizon=schema.optional(
        schema.record(
            total_updates=schema.positive_integer,
            epochs=schema.positive_integer,
            minibatches=schema.positive_integer,
        )
    ),
    training=schema.record(
        method=schema.text,
        environments=schema.list_of(schema.text),
        description=schema.text,
        command=schema.optional(schema.text),
        compute=schema.text,
        source=schema.optional(schema.text),
    ),
    license=_LICENCE,
    citation=schema.record(text=schema.text, url=schema.text),
    weights=_check_weights,
    results=schema.list_of(
        schema.record(
            environment=schema.text,
            steps=schema.positive_integer,
            seeds=schema.positive_integer,
            metric=schema.text,
            mean=schema.number,
            interval=schema.optional(schema.interval),
            method=schema.text,
            source=schema.text,
            command=schema.optional(schema.text),
        )
    ),
    known_failures=schema.list_of(schema.text),
)

_OPEN_TYPE = schema.one_of("recurrent", "feed_forward")
_OPEN_ARCHITECTURES = {
    "recurrent": schema.record(
        type=_OPEN_TYPE, carry=schema.positive_integer, width=schema.positive_integer
    ),
    "feed_forward": schema.record(type=_OPEN_TYPE, width=schema.positive_integer),
}

_LPG_ARCHITECTURE = schema.record(
    core=schema.one_of("gru", "lstm"),
    width=schema.positive_integer,
    embedding=schema.positive_integer,
    target_width=schema.positive_integer,
    gamma_input=schema.boolean,
    lifetime_inputs=schema.one_of("none", "relative", "raw"),
    policy_sign=schema.one_of("descend", "ascend"),
)


def check_card(data: Any) -> None:
    """Check the fields one by one, then those that depend on one another.

    Args:
        data: The parsed JSON.

    Raises:
        MismatchError: At the first field that is unknown, missing or wrong.
    """
    _CARD(data, "")
    if data["algorithm"] == "open":
        kind = data["architecture"].get("type")
        _OPEN_TYPE(kind, "architecture.type")
        _OPEN_ARCHITECTURES[kind](data["architecture"], "architecture")
    elif data["weights"]["format"] == "flat_npy":
        # The order of the flat vector is known for OPEN only.
        fix = "use 'safetensors' for algorithms other than 'open'"
        raise schema.MismatchError("weights.format", "is 'flat_npy'", fix)
    if data["algorithm"] == "lpg":
        _LPG_ARCHITECTURE(data["architecture"], "architecture")
