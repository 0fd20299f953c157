"""Random numbers of a Python proposal: one draw of noise per parameter and step."""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Mapping

from learned_opt_rl.expressions._language import (
    Binary,
    Name,
    Number,
    Position,
    Unary,
)
from learned_opt_rl.expressions._text import Reader, place
from learned_opt_rl.expressions.convert._calls import bind
from learned_opt_rl.expressions.convert._kinds import Key, Shape, Value, refuse
from learned_opt_rl.expressions.convert._values import Values

_LONGEST = 100  # characters of a key's origin, which loops could grow without end

_DRAWS = {
    "jax.random.normal": "key shape dtype?",
    "jax.random.uniform": "key shape dtype? minval? maxval?",
    "jax.random.bernoulli": "key p? shape",
    "jax.random.rademacher": "key shape dtype?",
}
"""The distributions, with their parameters."""

_KEYS = {"jax.random.split": "key num?", "jax.random.fold_in": "key data"}
"""The functions that make keys of a key."""


class Noise(Reader):
    """Converts the functions of jax.random; a part of `Formulas`."""

    values: Values
    scope: ChainMap[str, Value]
    no_random: str
    drawn: Key | None = None  # the key of all draws

    def value(self, node: ast.expr) -> Value:
        """Convert an expression."""
        raise NotImplementedError

    def path(self, node: ast.expr) -> str | None:
        """Return the full path of ``jnp.where`` and the like, else ``None``."""
        raise NotImplementedError

    def random(self, path: str, node: ast.Call) -> Value:
        """Convert a draw of noise, or of keys for it."""
        at = place(node)
        parameters = _DRAWS.get(path) or _KEYS.get(path)
        if parameters is None or not isinstance(self.scope.get("key"), Key):
            raise refuse(at, self.no_random)
        bound = bind(parameters, node.args, node.keywords, at)
        match bound.get("data"):
            # Only the step's name counts, so that it may be an integer.
            case ast.Call(func=ast.Attribute(value=data, attr="astype")):
                bound["data"] = data
        read = {n: self.value(given) for n, given in bound.items() if n != "dtype"}
        if path in _KEYS:
            return _keys(path, read, at)
        if not isinstance(read.pop("shape", None), Shape):
            problem = "draw noise in the shape of the parameters; write g.shape"
            raise refuse(at, problem, "shape_error")
        if not isinstance(read["key"], Key):
            raise refuse(at, "this is not a key; use the argument key")
        if self.drawn not in (None, read["key"]):
            problem = "noise is drawn once in a step; use the first draw again"
            raise refuse(at, problem)
        self.drawn = read["key"]
        return _noise(self.values, path, read, at)


def _keys(path: str, arguments: Mapping[str, Value], at: Position) -> Value:
    """Return the keys that are made of a key."""
    key = arguments["key"]
    if not isinstance(key, Key):
        raise refuse(at, "only the argument key and keys made of it are keys; use key")
    if path == "jax.random.fold_in":
        data = arguments["data"]
        # The step is a number that is new in each step, like the key itself.
        shown = "t" if data == Name("iteration") else None
        shown = str(data.value) if isinstance(data, Number) else shown
        if shown is None or len(key.origin) > _LONGEST:
            raise refuse(at, "fold a written number or t into a key, and few times")
        return Key(f"{key.origin}+{shown}")
    number = arguments.get("num", Number(2.0))
    if not isinstance(number, Number) or number.value not in range(1, 9):
        raise refuse(at, "split a key into a written number of keys, at most 8")
    if len(key.origin) > _LONGEST:
        raise refuse(at, "keys are split too often; split once")
    return tuple(Key(f"{key.origin}/{i}") for i in range(int(number.value)))


def _noise(
    values: Values, path: str, arguments: Mapping[str, Value], at: Position
) -> Value:
    """Return a draw as a function of ``rand``, which is standard normal."""
    rand = Name("rand", at)
    if path == "jax.random.normal":
        return rand
    if path == "jax.random.rademacher":
        # jax's normal and rademacher of one key have opposite signs.
        sign = Binary("<", rand, Number(0.0), at)
        return values.choose(sign, Number(1.0), Unary("-", Number(1.0)), at)
    scaled = Binary("/", rand, Number(2.0**0.5), at)
    erf = values.call("erf", [scaled], at)
    # The distribution function of a normal number is uniform in [0, 1].
    unit = Binary("*", Number(0.5), Binary("+", Number(1.0), erf, at), at)
    if path == "jax.random.bernoulli":
        share = values.number(arguments.get("p", Number(0.5)), at)
        return Binary("<", unit, share, at)
    low = values.number(arguments.get("minval", Number(0.0)), at)
    high = values.number(arguments.get("maxval", Number(1.0)), at)
    width = values.apply("-", [high, low], at)
    product = values.apply("*", [unit, width], at)
    return values.apply("+", [low, product], at)
