"""The functions that a Python proposal may call, of jax, of math and Python's own."""

import itertools
from collections.abc import Sequence

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
from learned_opt_rl.expressions.convert._hints import WHOLE_ARRAY, of_call
from learned_opt_rl.expressions.convert._kinds import (
    Arguments,
    Builder,
    Entry,
    Path,
    Shape,
    Stack,
    Value,
    refuse,
    require_shape,
)
from learned_opt_rl.expressions.convert._noise import NOISE
from learned_opt_rl.expressions.convert._static import Whole, literal
from learned_opt_rl.expressions.convert._values import Values

_OLD_KEYWORDS = {"a_min": "min", "a_max": "max"}
# Parameters that change nothing here.
_IGNORED = ("copy", "keepdims", "data")
# This bound keeps hostile code from unrolling forever.
_MAX_TURNS = 64
_DTYPES = {"float": "float float32 float64", "bool": "bool bool_", "int": "int int32"}
DTYPES = {
    f"{module}.{name}": kind
    for kind, names in _DTYPES.items()
    for name in names.split()
    for module in ("builtins", "jax.numpy")
}
"""By path, the kinds of dtypes."""


def bind(
    parameters: str, positional: Sequence[Value], keywords: Arguments, at: Position
) -> dict[str, Value]:
    """Assign arguments to parameters, which are written as in ``"x y? z*"``.

    ``?`` marks an optional parameter; ``*`` marks the last one, which takes the rest.
    """
    names = [parameter.rstrip("?*") for parameter in parameters.split()]
    takes = f"this call takes ({shorten(', '.join(names), 120)})"
    rest = {}
    if parameters.endswith("*"):
        last = names.pop()
        rest[last] = tuple(positional[len(names) :])
    elif len(positional) > len(names):
        raise refuse(at, f"{takes}; write these arguments out")
    bound = dict(zip(names, positional, strict=False))
    for given, value in keywords.items():
        name = given if given in names else _OLD_KEYWORDS.get(given, given)
        if name not in names or name in bound:
            problem = f"the keyword {shorten(given)} does not fit; {takes}"
            raise refuse(at, problem)
        bound[name] = value
    for name in parameters.split():
        if not name.endswith(("?", "*")) and name not in bound:
            raise refuse(at, f"this call has no {shorten(name)!r}; {takes}")
    return {name: bound[name] for name in names if name in bound} | rest


def called(
    values: Values,
    path: str,
    positional: Sequence[Value],
    keywords: Arguments,
    at: Position,
) -> Value:
    """Convert a call of the function with this path."""
    if path not in CALLS:
        raise refuse(at, of_call(path, CALLS))
    parameters, builder = CALLS[path]
    bound = bind(parameters, positional, keywords, at)
    dtype = bound.pop("dtype", None)
    read = {name: value for name, value in bound.items() if name not in _IGNORED}
    result = values.build(parameters, builder, read, at)
    if dtype is not None:
        result = _cast(values, result, dtype, at)
    # Python computes its own functions of numbers before jax runs.
    own = path.startswith(("builtins.", "math."))
    return result if own else values.array(result)


def turns(value: Value, at: Position) -> tuple[Value, ...]:
    """Return the values that a loop runs over."""
    if isinstance(value, tuple) and len(value) <= _MAX_TURNS:
        return value
    problem = f"a loop runs over range(n) with a written n of at most {_MAX_TURNS},"
    raise refuse(at, f"{problem} a tuple, or zip of them; write the steps out")


# ------------------------------------------------------------------------------ dtypes


def _cast(values: Values, value: Value, dtype: Value, at: Position) -> Value:
    """Convert a value to a dtype; a number cannot become an integer."""
    path = dtype.path if isinstance(dtype, Path) else f"jax.numpy.{dtype}"
    kind = DTYPES.get(path)
    if kind == "float":
        return values.floating(value, at)
    if kind == "bool":
        return values.truth(value, at)
    number = values.number(value, at)
    if kind == "int" and values.is_whole(number):
        return number
    raise refuse(at, "this astype cannot be converted; write astype(jnp.float32)")


def _astype(values: Values, arguments: Arguments, at: Position) -> Value:
    if values.is_static(arguments["x"]):
        raise refuse(at, "a Python number has no .astype; write jnp.float32(x)")
    return arguments["x"]


def _dtype(values: Values, arguments: Arguments, at: Position) -> Value:
    value = arguments["a"]
    if values.is_condition(value):
        return Path("jax.numpy.bool_")
    whole = values.is_whole(values.number(value, at))
    return Path("jax.numpy.int32" if whole else "jax.numpy.float32")


# -------------------------------------------------------------------------- reductions


def _reduction(name: str, *, truth: bool = False) -> Builder:
    """Reduce a whole leaf, or a stack over its first axis; or the truth of it."""

    def build(values: Values, arguments: Arguments, at: Position) -> Value:
        value, axis = arguments["a"], arguments.get("axis")
        if isinstance(value, tuple):
            if axis != Number(0.0) or not isinstance(value, Stack):
                problem = "a stack is reduced with axis=0; write "
                raise refuse(at, f"{problem}jnp.stack(...), axis=0", "shape_error")
            parts = (values.truth(part, at) for part in value) if truth else value
            return _over_stack(name, values, Stack(parts), at)
        if axis is not None or arguments.get("ord") is not None:
            problem = "only a whole tensor can be reduced, as in jnp.linalg.norm(g); "
            raise refuse(at, f"{problem}drop axis and ord", "shape_error")
        value = values.truth(value, at) if truth else value
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
    mean = Binary("/", total, count, at)
    if name in ("sum", "mean"):
        return total if name == "sum" else mean
    sides = {"x": stack, "y": values.assigned("mean", mean)}
    squares = values.build("x y", "square(a - b)", sides, at)
    variance = Binary("/", values.total(squares, at), count, at)
    return variance if name == "variance" else Call("sqrt", (variance,), at)


# ------------------------------------------------------------------------------ shapes


def _shape(values: Values, arguments: Arguments, at: Position) -> Value:
    """Return the shape of an array like the parameters."""
    number = values.number(arguments["a"], at)
    # The dormancy has a number per neuron, so jax would draw as many.
    if not values.type_of(number).elementwise or number == Name("dorm"):
        problem = "this is not an array of the shape of the parameters; write g.shape"
        raise refuse(at, problem, "shape_error")
    return Shape()


def _reshape(values: Values, arguments: Arguments, at: Position) -> Value:
    """Convert ``reshape(-1)``; an expression per element is the same in any shape."""
    match arguments["shape"]:
        case (shape,) if isinstance(shape, Shape) or values.known(shape) == -1:
            return arguments["a"]
    problem = ".reshape changes or reads a shape; all arrays here have the shape "
    raise refuse(at, f"{problem}of the parameters; remove it", "shape_error")


def _filled(number: float = 0.0) -> Builder:
    """Fill a shape, or that of an array of floats, with a number or an argument."""

    def build(values: Values, arguments: Arguments, at: Position) -> Value:
        fill = arguments.get("fill_value", Number(number, at))
        if "shape" in arguments:
            require_shape(arguments["shape"], at)
            return fill if values.is_condition(fill) else values.number(fill, at)
        if values.is_whole(values.number(arguments["a"], at)):
            problem = "the result has the dtype of a condition or of integers; write "
            raise refuse(at, f"{problem}jnp.zeros_like(x) of an array of floats")
        return values.floating(fill, at)

    return build


def _stack(values: Values, arguments: Arguments, at: Position) -> Value:
    value, axis = arguments["arrays"], arguments.get("axis")
    if not isinstance(value, tuple) or axis not in (None, Number(0.0)):
        raise refuse(at, "write a stack of a tuple, along axis 0", "shape_error")
    if len(value) > Limits.DEPTH:
        problem = f"a stack is too long; write at most {Limits.DEPTH} parts"
        raise refuse(at, problem, "size_error")
    return Stack(value)


def _array(values: Values, arguments: Arguments, at: Position) -> Value:
    value = arguments["x"]
    return _stack(values, {"arrays": value}, at) if isinstance(value, tuple) else value


# ------------------------------------------------------------------------- per element


def _nan_to_num(values: Values, arguments: Arguments, at: Position) -> Value:
    value = values.number(arguments["x"], at)
    if values.is_whole(value):
        return arguments["x"]
    given = {"nan": Number(0.0), **arguments}
    if "neginf" in given and "posinf" not in given:
        raise refuse(at, "jnp.nan_to_num has neginf without posinf; write both")
    limits = [given[n] for n in ("nan", "posinf", "neginf") if n in given]
    return values.call("nan_to_num", [value, *limits], at)


def _gelu(values: Values, arguments: Arguments, at: Position) -> Value:
    approximate = values.known(arguments.get("approximate", Number(1.0)))
    if approximate is None:
        raise refuse(at, "write approximate=True or approximate=False")
    formula = "gelu(a)" if approximate else "a * erfc(-a * 0.7071067811865476) / 2"
    return values.build("x", formula, {"x": arguments["x"]}, at)


def _clip(values: Values, arguments: Arguments, at: Position) -> Value:
    """Clip on the sides that are given and not None."""
    value, low, high = (arguments.get(name) for name in ("arr", "min", "max"))
    if low is not None and high is not None:
        return values.call("clip", (value, low, high), at)
    if low is None and high is None:
        raise refuse(at, "this clip has no bounds; write jnp.clip(x, low, high)")
    side = ("max", low) if high is None else ("min", high)
    return values.call(side[0], (value, side[1]), at)


def _select(values: Values, arguments: Arguments, at: Position) -> Value:
    """Convert ``jnp.select`` to nested conditions."""
    sides = (arguments["condlist"], arguments["choicelist"])
    lists = [side[::-1] for side in sides if isinstance(side, tuple)]
    if len(lists) < 2 or len(lists[0]) != len(lists[1]):
        form = "write two lists of the same length: jnp.select([c], [a], b)"
        raise refuse(at, form)
    result = arguments.get("default", Number(0.0))
    for condition, choice in zip(*lists, strict=True):
        condition = values.condition(condition, at)
        result = values.choose(condition, choice, values.keep(result), at)
    return result


# -------------------------------------------------------------------- Python's own


def _len(values: Values, arguments: Arguments, at: Position) -> Value:
    if not isinstance(arguments["x"], tuple):
        raise refuse(at, "len needs a tuple; write w.size for the number of parameters")
    return Number(Whole(len(arguments["x"])), at)


def _to_float(values: Values, arguments: Arguments, at: Position) -> Value:
    if not values.is_static(arguments["x"]):
        raise refuse(at, "float needs a written number here; write jnp.float32(x)")
    return values.floating(arguments["x"], at)


def _to_int(values: Values, arguments: Arguments, at: Position) -> Value:
    number = values.known(arguments["x"])
    if number is None:
        raise refuse(at, "int needs a written number here; write jnp.floor(x)")
    return literal(int(number), at)


def _extreme(name: str) -> Builder:
    def build(values: Values, arguments: Arguments, at: Position) -> Value:
        parts = arguments["values"]
        assert isinstance(parts, tuple)
        if len(parts) > 1 and all(map(values.is_static, parts)):
            return values.call(name, parts, at)
        raise refuse(at, f"{name} needs {WHOLE_ARRAY} jnp.{name}imum(a, b)")

    return build


def _range(values: Values, arguments: Arguments, at: Position) -> Value:
    bounds = [values.known(bound) for bound in arguments.values()]
    whole = [bound for bound in bounds if isinstance(bound, int)]
    if len(whole) < len(bounds) or whole[2:] == [0]:
        return turns(None, at)
    counted = itertools.islice(range(*whole), _MAX_TURNS + 1)
    return turns(tuple(literal(turn, at) for turn in counted), at)


def _enumerate(values: Values, arguments: Arguments, at: Position) -> Value:
    rows = enumerate(turns(arguments["x"], at))
    return tuple((literal(i, at), row) for i, row in rows)


def _zip(values: Values, arguments: Arguments, at: Position) -> Value:
    columns = [turns(column, at) for column in turns(arguments["iterables"], at)]
    return tuple(tuple(row) for row in zip(*columns, strict=False))


def _of_numbers(name: str, entry: Entry) -> Entry:
    """Return a function of Python's math, which takes no array."""
    parameters, builder = entry

    def build(values: Values, arguments: Arguments, at: Position) -> Value:
        if not all(map(values.is_static, arguments.values())):
            raise refuse(at, f"math.{name} takes one number; write jnp.{name}(x)")
        return values.build(parameters, builder, arguments, at)

    return parameters, build


# ------------------------------------------------------------------------------- table

_REDUCTION = "a axis? keepdims?"
_JAX: dict[str, Entry] = {
    **{path: (t.parameters, t.formula) for t in templates() for path in t.jax.split()},
    **{
        path: (_REDUCTION, _reduction(name))
        for name, row in FUNCTIONS.items()
        if row.rule == "reduce"
        for path in row.jax
    },
    **{f"random.{name}": entry for name, entry in NOISE.items()},
    "numpy.linalg.norm": ("a ord? axis? keepdims?", _reduction("norm")),
    "numpy.any": (_REDUCTION, _reduction("max_all", truth=True)),
    "numpy.all": (_REDUCTION, _reduction("min_all", truth=True)),
    "numpy.vdot": ("a b", "sum(a * b)"),
    "numpy.size": ("a", "size(a)"),
    "numpy.shape": ("a", _shape),
    "numpy.ravel": ("a", "a"),
    "numpy.reshape": ("a shape*", _reshape),
    "numpy.broadcast_to": ("fill_value shape", _filled()),
    "numpy.zeros": ("shape dtype?", _filled()),
    "numpy.ones": ("shape dtype?", _filled(1.0)),
    "numpy.full": ("shape fill_value dtype?", _filled()),
    "numpy.zeros_like": ("a dtype?", _filled()),
    "numpy.ones_like": ("a dtype?", _filled(1.0)),
    "numpy.full_like": ("a fill_value dtype?", _filled()),
    "numpy.stack": ("arrays axis?", _stack),
    **dict.fromkeys(("numpy.array", "numpy.asarray"), ("x dtype?", _array)),
    **dict.fromkeys(
        ("numpy.float32", "numpy.float64"),
        ("x", lambda v, x, at: v.floating(x["x"], at)),
    ),
    "numpy.astype": ("x dtype", _astype),
    "numpy.result_type": ("a", _dtype),
    "numpy.clip": ("arr min? max?", _clip),
    "lax.clamp": ("min x max", "clip(b, a, c)"),
    "numpy.nan_to_num": ("x copy? nan? posinf? neginf?", _nan_to_num),
    "numpy.select": ("condlist choicelist default?", _select),
    "nn.gelu": ("x approximate?", _gelu),
}
_PYTHON: dict[str, Entry] = {
    "abs": ("x", "abs(a)"),
    "pow": ("x y", lambda v, x, at: v.apply("**", [*x.values()], at)),
    "sum": ("x", lambda v, x, at: v.total(x["x"], at)),
    "len": ("x", _len),
    "float": ("x", _to_float),
    "int": ("x", _to_int),
    "min": ("values*", _extreme("min")),
    "max": ("values*", _extreme("max")),
    "range": ("start stop? step?", _range),
    "enumerate": ("x", _enumerate),
    "reversed": ("x", lambda v, x, at: turns(x["x"], at)[::-1]),
    "zip": ("iterables*", _zip),
    **dict.fromkeys(
        ("list", "tuple"), ("x", lambda v, x, at: tuple(turns(x["x"], at)))
    ),
}
_MATH = "sqrt exp log log2 log10 log1p expm1 pow sin cos tan tanh sinh cosh atan"
CALLS: dict[str, Entry] = {
    **{f"jax.{path}": entry for path, entry in _JAX.items()},
    **{f"builtins.{name}": entry for name, entry in _PYTHON.items()},
    **{
        f"math.{name}": _of_numbers(name, _JAX[f"numpy.{name}"])
        for name in _MATH.split()
    },
}
"""By full path: the parameters, as for `bind`, and a template or a builder."""
BUILTINS = {
    path.partition(".")[2]: path for path in (*CALLS, *DTYPES) if path[0] == "b"
}
"""By name, the paths of Python's own functions and types."""
_METHODS = "mean sum var std max min any all clip round ravel reshape astype"
METHODS = {name: f"jax.numpy.{name}" for name in _METHODS.split()}
METHODS["flatten"] = METHODS["ravel"]
"""By name, the paths of the methods of arrays, whose first argument is the array."""
ATTRIBUTES = {name: f"jax.numpy.{name}" for name in ("size", "shape")}
ATTRIBUTES["dtype"] = "jax.numpy.result_type"
"""By name, the paths of the functions that read an attribute of an array."""
