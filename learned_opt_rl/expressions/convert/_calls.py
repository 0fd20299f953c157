"""The functions of jax that a Python proposal may call."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from learned_opt_rl.expressions._functions import FUNCTIONS, templates
from learned_opt_rl.expressions._language import Binary, Call, Limits, Number, Position
from learned_opt_rl.expressions.convert._values import Builder, Value, Values, refuse

_OLD_KEYWORDS = {"a_min": "min", "a_max": "max"}


def bind(
    parameters: str,
    positional: list[ast.expr],
    keywords: list[ast.keyword],
    at: Position,
) -> dict[str, ast.expr]:
    """Assign arguments to parameters; ``"x y?"`` has a required and an optional one."""
    names = [parameter.rstrip("?") for parameter in parameters.split()]
    takes = f"this call takes ({', '.join(names)})"
    starred = any(isinstance(argument, ast.Starred) for argument in positional)
    if starred or len(positional) > len(names):
        raise refuse(at, f"{takes}; write these arguments out")
    bound = dict(zip(names, positional, strict=False))
    for keyword in keywords:
        name = _OLD_KEYWORDS.get(keyword.arg or "", keyword.arg)
        if name not in names or name in bound:
            raise refuse(at, f"the keyword {keyword.arg or '**'} does not fit; {takes}")
        bound[name] = keyword.value
    required = [p for p in parameters.split() if not p.endswith("?")]
    missing = [name for name in required if name not in bound]
    if missing:
        raise refuse(at, f"this call has no {missing[0]!r}; {takes}")
    return {name: bound[name] for name in names if name in bound}


def reduction(name: str) -> Builder:
    """Reduce a whole leaf, or a stack over its first axis."""

    def build(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
        value, axis = arguments["a"], arguments.get("axis")
        if not isinstance(value, tuple):
            if axis is not None:
                problem = "only a whole tensor can be reduced; drop axis"
                raise refuse(at, problem, "shape_error")
            reduced = Call(name, (values.number(value, at),), at)
            if name in ("max_all", "min_all") and values.is_condition(value):
                return Binary("!=", reduced, Number(0.0), at)
            return reduced
        if axis != Number(0.0):
            raise refuse(at, "a stack is reduced with axis=0; write it", "shape_error")
        if name in ("max_all", "min_all") and 1 < len(value) <= Limits.ARGUMENTS:
            return values.call(name[:3], value, at)
        if name not in ("sum", "mean"):
            raise refuse(at, f"{name} of a stack cannot be converted; write it out")
        total = values.total(value, at)
        count = Number(float(len(value)))
        return total if name == "sum" else Binary("/", total, count, at)

    return build


def _stack(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    value, axis = arguments["arrays"], arguments.get("axis")
    if not isinstance(value, tuple) or axis not in (None, Number(0.0)):
        raise refuse(at, "write a stack of a tuple, along axis 0", "shape_error")
    return value


def _clip(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Clip on the sides that are given and not None."""
    value, low, high = (arguments.get(name) for name in ("arr", "min", "max"))
    if low is not None and high is not None:
        return values.call("clip", (value, low, high), at)
    if low is None and high is None:
        raise refuse(at, "this clip has no bounds; write jnp.clip(x, low, high)")
    side = ("max", low) if high is None else ("min", high)
    return values.call(side[0], (value, side[1]), at)


def _select(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Convert ``jnp.select`` to nested conditions."""
    conditions, choices = arguments["condlist"], arguments["choicelist"]
    result = arguments.get("default", Number(0.0))
    form = "write two lists of the same length: jnp.select([c], [a], b)"
    if not isinstance(conditions, tuple) or not isinstance(choices, tuple):
        raise refuse(at, form)
    if len(conditions) != len(choices):
        raise refuse(at, form)
    for condition, choice in zip(conditions[::-1], choices[::-1], strict=True):
        condition = values.condition(condition, at)
        result = values.choose(condition, choice, values.keep(result), at)
    return result


def _filled(number: float | None) -> Builder:
    """Fill an array of floats with a number, or with the argument."""

    def build(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
        if values.is_whole(values.number(arguments["a"], at)):
            problem = "the result has the dtype of a condition or of integers; write "
            raise refuse(at, f"{problem}jnp.zeros_like(x) of an array of floats")
        if number is None:
            return values.floating(arguments["fill_value"], at)
        return Number(number, at)

    return build


def _divide(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Convert ``lax.div``, but not of integers, where it rounds."""
    left, right = (values.number(arguments[name], at) for name in ("x", "y"))
    values.refuse_integers((left, right), at)
    return values.apply("/", [left, right], at, python=False)


def _float(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    return values.floating(arguments["x"], at)


REDUCTION = "a axis? keepdims?"
# Functions of jax with parameters or a conversion of their own.
_OTHER: dict[str, tuple[str, str | Builder]] = {
    "numpy.clip": ("arr min? max?", _clip),
    "lax.clamp": ("min x max", "clip(b, a, c)"),
    "lax.div": ("x y", _divide),
    "numpy.nan_to_num": ("x copy? nan posinf neginf", "nan_to_num(a, b, c, d)"),
    "numpy.linalg.norm": ("a", "norm(a)"),
    "numpy.vdot": ("a b", "sum(a * b)"),
    "numpy.array": ("x dtype?", "a"),
    "numpy.asarray": ("x dtype?", "a"),
    **dict.fromkeys(("numpy.float32", "numpy.float64"), ("x", _float)),
    "numpy.zeros_like": ("a dtype?", _filled(0.0)),
    "numpy.ones_like": ("a dtype?", _filled(1.0)),
    "numpy.full_like": ("a fill_value dtype?", _filled(None)),
    "numpy.stack": ("arrays axis?", _stack),
    "numpy.select": ("condlist choicelist default?", _select),
}


_PATHS: dict[str, tuple[str, str | Builder]] = {
    **{path: (t.parameters, t.formula) for t in templates() for path in t.jax.split()},
    **{
        path: (REDUCTION, reduction(name))
        for name, row in FUNCTIONS.items()
        if row.rule == "reduce"
        for path in row.jax
    },
    **_OTHER,
}
CALLS = {f"jax.{path}": entry for path, entry in _PATHS.items()}
"""By full path: the parameters (``?`` marks optional ones), a template or a builder."""
METHODS = {
    path.rpartition(".")[2]: entry
    for path, entry in CALLS.items()
    if entry[0] == REDUCTION or path in ("jax.numpy.clip", "jax.numpy.round")
}
"""By name, the methods of arrays, whose first argument is the array: ``x.mean()``."""
