"""Random numbers of a Python proposal: one draw of noise per parameter and step."""

from __future__ import annotations

from collections.abc import Mapping

from learned_opt_rl.expressions._language import Name, Number, Position
from learned_opt_rl.expressions.convert._kinds import (
    Arguments,
    Builder,
    Entry,
    Key,
    Value,
    refuse,
    require_shape,
)
from learned_opt_rl.expressions.convert._values import Values

# The distribution function of a normal number a, which is uniform in [0, 1].
_UNIT = "0.5 * (1 + erf(a / 1.4142135623730951))"
# By distribution: parameters, the formula of a normal number a, and further arguments.
_DRAWS: dict[str, tuple[str, str, dict[str, float]]] = {
    "normal": ("key shape dtype?", "a", {}),
    # jax's normal and rademacher of one key have opposite signs.
    "rademacher": ("key shape dtype?", "where(a < 0, 1, -1)", {}),
    "bernoulli": ("key p? shape", f"{_UNIT} < b", {"p": 0.5}),
    "uniform": (
        "key shape dtype? minval? maxval?",
        f"b + {_UNIT} * (c - b)",
        {"minval": 0.0, "maxval": 1.0},
    ),
}


def _require_key(value: Value, at: Position) -> Key:
    if isinstance(value, Key):
        return value
    raise refuse(at, "this is not a key; use the argument key, or keys made of it")


def _draw(formula: str, further: Mapping[str, float]) -> Builder:
    """Draw noise as a function of the input ``rand``, which is standard normal."""

    def build(values: Values, arguments: Arguments, at: Position) -> Value:
        key = _require_key(arguments["key"], at)
        require_shape(arguments["shape"], at)
        if values.drawn not in (None, key):
            raise refuse(at, "noise is drawn once in a step; use the first draw again")
        values.drawn = key
        given: dict[str, Value] = {"rand": Name("rand", at)}
        given |= {n: arguments.get(n, Number(least)) for n, least in further.items()}
        return values.build(" ".join(given), formula, given, at)

    return build


def _split(values: Values, arguments: Arguments, at: Position) -> Value:
    _require_key(arguments["key"], at)
    number = values.known(arguments.get("num", Number(2.0)))
    if number is None or number not in range(1, 9):
        raise refuse(at, "split a key into a written number of keys, at most 8")
    return tuple(Key() for _ in range(int(number)))


def _fold_in(values: Values, arguments: Arguments, at: Position) -> Value:
    _require_key(arguments["key"], at)
    return Key()


NOISE: dict[str, Entry] = {
    **{
        name: (takes, _draw(form, more)) for name, (takes, form, more) in _DRAWS.items()
    },
    "split": ("key num?", _split),
    "fold_in": ("key data", _fold_in),
}
"""By name, the functions of jax.random."""
