"""The functions of jax that a Python proposal may call."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from learned_opt_rl.expressions._functions import FUNCTIONS, templates
from learned_opt_rl.expressions._language import (
    Binary,
    Call,
    Limits,
    Name,
    Number,
    Position,
    shorten,
)
from learned_opt_rl.expressions.convert._kinds import (
    Builder,
    Flat,
    Shape,
    Stack,
    Value,
    refuse,
)
from learned_opt_rl.expressions.convert._values import Values

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
            problem = (
                f"the keyword {shorten(keyword.arg or '**')} does not fit; {takes}"
            )
            raise refuse(at, problem)
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
        if isinstance(value, tuple):
            if axis != Number(0.0) or not isinstance(value, Stack):
                problem = "a stack is reduced with axis=0; write "
                raise refuse(at, f"{problem}jnp.stack(...), axis=0", "shape_error")
            return _over_stack(name, values, value, at)
        if axis is not None:
            problem = "only a whole tensor can be reduced; drop axis"
            raise refuse(at, problem, "shape_error")
        value = value.array if isinstance(value, Flat) else value
        reduced = Call(name, (values.number(value, at),), at)
        if name in ("max_all", "min_all") and values.is_condition(value):
            return Binary("!=", reduced, Number(0.0), at)
        return reduced

    return build


def _over_stack(name: str, values: Values, stack: Stack, at: Position) -> Value:
    """Reduce a stack over its first axis."""
    if name in ("max_all", "min_all") and 1 < len(stack) <= Limits.ARGUMENTS:
        return values.call(name[:3], stack, at)
    if name not in ("sum", "mean", "variance", "std"):
        problem = "of a stack cannot be converted; use mean, max, min or std"
        raise refuse(at, f"{name} {problem}")
    count = Number(float(len(stack)))
    total = values.total(stack, at)
    if name == "sum":
        return total
    mean = Binary("/", total, count, at)
    if name == "mean":
        return mean
    mean = values.assigned("mean", mean)
    parts = [values.number(part, at) for part in stack]
    squares = [Call("square", (Binary("-", part, mean, at),), at) for part in parts]
    variance = Binary("/", values.total(tuple(squares), at), count, at)
    return variance if name == "variance" else Call("sqrt", (variance,), at)


def _of_truth(name: str) -> Builder:
    """Convert ``jnp.any`` and ``jnp.all``, which reduce the truth of a leaf."""

    def build(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
        value = arguments["a"]
        value = value.array if isinstance(value, Flat) else value
        if isinstance(value, Stack):
            value = Stack(values.truth(part, at) for part in value)
        else:
            value = values.truth(value, at)
        return reduction(name)(values, {**arguments, "a": value}, at)

    return build


def _norm(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    if arguments.get("axis") is not None or arguments.get("ord") is not None:
        problem = "this norm cannot be converted; write jnp.linalg.norm(g), or "
        raise refuse(at, f"{problem}jnp.sum(jnp.abs(g))", "shape_error")
    return reduction("norm")(values, {"a": arguments["a"]}, at)


def _dot(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Convert the scalar product of two whole arrays."""
    sides = [arguments["a"], arguments["b"]]
    if not all(isinstance(side, Flat) for side in sides):
        problem = "jnp.dot of arrays with two axes is a product of matrices; write "
        raise refuse(at, f"{problem}jnp.sum(a * b) for the scalar product")
    return _vdot(values, arguments, at)


def _vdot(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    sides = (arguments["a"], arguments["b"])
    whole = [side.array if isinstance(side, Flat) else side for side in sides]
    product = values.apply("*", whole, at, python=False)
    return reduction("sum")(values, {"a": product}, at)


def _flat(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Convert ``ravel`` and ``reshape(-1)``, which a reduction reads."""
    array, shape = arguments["a"], arguments.get("shape")
    if isinstance(shape, Shape):
        return array.array if isinstance(array, Flat) else array
    if shape is not None and values.known(shape) != -1:
        problem = ".reshape changes or reads a shape; all arrays here have the shape "
        raise refuse(at, f"{problem}of the parameters; remove it", "shape_error")
    return array if isinstance(array, Flat) else Flat(values.number(array, at))


def shape_of(values: Values, array: Value, at: Position) -> Shape:
    """Return the shape of an array like the parameters."""
    number = values.number(array, at)
    # The dormancy has a number per neuron, so jax would draw as many.
    if not values.type_of(number).elementwise or number == Name("dorm"):
        problem = "this is not an array of the shape of the parameters; write g.shape"
        raise refuse(at, problem, "shape_error")
    return Shape()


def _shape(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    return shape_of(values, arguments["a"], at)


def _of_shape(number: float | None) -> Builder:
    """Fill an array of the shape of the parameters."""

    def build(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
        _require_shape(arguments["shape"], at)
        fill = arguments.get("fill_value", Number(number or 0.0, at))
        return fill if values.is_condition(fill) else values.number(fill, at)

    return build


def _require_shape(shape: Value, at: Position) -> None:
    if not isinstance(shape, Shape):
        raise refuse(at, "only the shape of the parameters is known; write g.shape")


def _broadcast(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    _require_shape(arguments["shape"], at)
    value = arguments["a"]
    return value if values.is_condition(value) else values.number(value, at)


def _stack(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    value, axis = arguments["arrays"], arguments.get("axis")
    if not isinstance(value, tuple) or axis not in (None, Number(0.0)):
        raise refuse(at, "write a stack of a tuple, along axis 0", "shape_error")
    if len(value) > Limits.DEPTH:
        problem = f"a stack is too long; write at most {Limits.DEPTH} parts"
        raise refuse(at, problem, "size_error")
    return Stack(value)


def _array(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    value = arguments["x"]
    if isinstance(value, tuple):
        return _stack(values, {"arrays": value}, at)
    return value


def _nan_to_num(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    """Convert ``nan_to_num``, whose last arguments may be missing or None."""
    names = ("nan", "posinf", "neginf")
    given = [arguments.get(name) for name in names]
    if given[0] is None:
        given[0] = Number(0.0)
    while given[-1] is None:
        given.pop()
    if None in given:
        raise refuse(at, "jnp.nan_to_num has neginf without posinf; write both")
    value = values.number(arguments["x"], at)
    if values.is_whole(value):
        return arguments["x"]
    return values.call("nan_to_num", [value, *given], at)


def _gelu(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    approximate = values.known(arguments.get("approximate", Number(1.0)))
    if approximate is None:
        raise refuse(at, "write approximate=True or approximate=False")
    formula = "gelu(a)" if approximate else "a * erfc(-a * 0.7071067811865476) / 2"
    return values.build("x", formula, {"x": arguments["x"]}, at)


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


_REDUCTION = "a axis? keepdims?"
_METHODS = "mean sum var std max min any all clip round copy ravel reshape dot"
# Functions of jax with parameters or a conversion of their own.
_OTHER: dict[str, tuple[str, str | Builder]] = {
    "numpy.clip": ("arr min? max?", _clip),
    "lax.clamp": ("min x max", "clip(b, a, c)"),
    "lax.div": ("x y", _divide),
    "numpy.nan_to_num": ("x copy? nan? posinf? neginf?", _nan_to_num),
    "numpy.linalg.norm": ("a ord? axis? keepdims?", _norm),
    "numpy.any": (_REDUCTION, _of_truth("max_all")),
    "numpy.all": (_REDUCTION, _of_truth("min_all")),
    "numpy.vdot": ("a b", _vdot),
    "numpy.dot": ("a b", _dot),
    "numpy.copy": ("a", "a"),
    "numpy.ravel": ("a", _flat),
    "numpy.reshape": ("a shape", _flat),
    "numpy.shape": ("a", _shape),
    "numpy.broadcast_to": ("a shape", _broadcast),
    "numpy.array": ("x dtype?", _array),
    "numpy.asarray": ("x dtype?", _array),
    "nn.gelu": ("x approximate?", _gelu),
    "numpy.zeros": ("shape dtype?", _of_shape(0.0)),
    "numpy.ones": ("shape dtype?", _of_shape(1.0)),
    "numpy.full": ("shape fill_value dtype?", _of_shape(None)),
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
        path: (_REDUCTION, reduction(name))
        for name, row in FUNCTIONS.items()
        if row.rule == "reduce"
        for path in row.jax
    },
    **_OTHER,
}
CALLS = {f"jax.{path}": entry for path, entry in _PATHS.items()}
"""By full path: the parameters (``?`` marks optional ones), a template or a builder."""
METHODS = {name: CALLS[f"jax.numpy.{name}"] for name in _METHODS.split()}
METHODS["flatten"] = METHODS["ravel"]
"""By name, the methods of arrays, whose first argument is the array: ``x.mean()``."""
