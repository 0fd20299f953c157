"""The functions of jax that have an equal in the language."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._nodes import (
    Binary,
    Call,
    Expression,
    Number,
    Unary,
)
from learned_opt_rl.expressions._python_errors import place, refuse
from learned_opt_rl.expressions._python_values import Closure, Value
from learned_opt_rl.expressions._vocabulary import MAX_ARGUMENTS, nearest

if TYPE_CHECKING:
    from learned_opt_rl.expressions._python_body import Body

Arguments: TypeAlias = dict[str, ast.expr]
Builder: TypeAlias = Callable[["Body", Arguments, ast.Call], Value]


def call(body: Body, node: ast.Call) -> Value:
    """Convert a call."""
    path = dotted(body, node.func)
    if path is not None:
        if path == "jax.lax.cond":
            return _cond(body, node)
        if path not in _CALLS:
            raise refuse(node, f"{path[:64]} has no equal here; {_nearest_call(path)}")
        parameters, builder = _CALLS[path]
        return builder(body, _bound(node, parameters), node)
    if isinstance(node.func, ast.Name) and node.func.id not in body.scope:
        return _builtin(body, node, node.func.id)
    if isinstance(node.func, ast.Attribute):
        return _method(body, node, node.func)
    function = body.value(node.func)
    if not isinstance(function, Closure) or node.keywords:
        raise refuse(node, "only functions can be called, without keywords")
    return body.call(function, [body.value(a) for a in node.args], node)


def dotted(body: Body, node: ast.expr) -> str | None:
    """The full path of ``jnp.where`` and its like, ``None`` for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id in body.scope:
        return None
    module = body.modules.get(node.id)
    return module and ".".join([module, *reversed(parts)]) if parts else None


def _nearest_call(path: str) -> str:
    if path.startswith("jax.random."):
        return "random numbers come as the argument rand"
    last = {known.rpartition(".")[2] for known in _CALLS}
    return nearest(path.rpartition(".")[2][:64], last)


def no_attribute(node: ast.Attribute) -> ExpressionError:
    """The error for ``x.attribute``."""
    if node.attr in ("shape", "T", "ndim", "reshape", "ravel", "flatten", "at"):
        return refuse(
            node,
            f".{node.attr} changes or asks for a shape; all arrays here already have "
            "the shape of the parameters",
            "shape_error",
        )
    return refuse(node, f"the attribute {node.attr[:40]!r} has no equal here")


def _bound(node: ast.Call, parameters: str) -> Arguments:
    """Arguments by parameter; ``"x y?"`` names one required and one optional one."""
    names = [parameter.rstrip("?") for parameter in parameters.split()]
    if any(isinstance(a, ast.Starred) for a in node.args) or len(node.args) > len(
        names
    ):
        raise refuse(node, f"this call takes ({', '.join(names)})")
    bound = dict(zip(names, node.args, strict=False))
    for keyword in node.keywords:
        name = _OLD_KEYWORDS.get(keyword.arg or "", keyword.arg)
        if name not in names or name in bound:
            raise refuse(
                keyword,
                f"the keyword {keyword.arg or '**'} does not fit; this call takes "
                f"({', '.join(names)})",
            )
        bound[name] = keyword.value
    missing = [p for p in parameters.split() if p not in bound and p[-1] != "?"]
    if missing:
        raise refuse(
            node, f"this call lacks {missing[0]!r}; it takes ({', '.join(names)})"
        )
    return {name: bound[name] for name in names if name in bound}


_OLD_KEYWORDS = {"a_min": "min", "a_max": "max"}


def _builtin(body: Body, node: ast.Call, name: str) -> Value:
    """``abs``, ``sum``, ``len``: what Python itself offers."""
    if name in ("min", "max") and node.args:
        raise refuse(
            node,
            f"{name} asks for the truth value of a whole array, which is ambiguous; "
            f"write jnp.{name}imum(a, b)",
        )
    if name not in ("abs", "sum", "len", "float") or len(node.args) != 1:
        raise refuse(node, f"the function {name[:40]!r} has no equal here")
    if node.keywords:
        raise refuse(node, f"{name} takes no keywords")
    if name == "abs":
        return Call("abs", (body.real(node.args[0]),), place(node))
    value = body.value(node.args[0])
    if name == "float" and isinstance(value, Number):
        return value
    if not isinstance(value, tuple) or name == "float":
        wanted = "a written number" if name == "float" else "a tuple"
        raise refuse(node, f"{name} needs {wanted} here; write it without")
    if name == "len":
        return Number(float(len(value)), place(node))
    return _added(body, value, node)


def _method(body: Body, node: ast.Call, function: ast.Attribute) -> Value:
    """``x.mean()`` and its like."""
    name = function.attr
    if name in _REDUCTIONS:
        rewritten = ast.Call(function, [function.value, *node.args], node.keywords)
        ast.copy_location(rewritten, node)
        bound = _bound(rewritten, _REDUCTION_PARAMETERS)
        return _reduce(_REDUCTIONS[name])(body, bound, node)
    if name == "astype" and len(node.args) == 1 and not node.keywords:
        path = dotted(body, node.args[0])
        python = isinstance(node.args[0], ast.Name) and node.args[0].id == "float"
        if python or path in ("jax.numpy.float32", "jax.numpy.float64"):
            return body.real(function.value)
        raise refuse(node, "only astype(jnp.float32) can be converted")
    raise no_attribute(function)


def _cond(body: Body, node: ast.Call) -> Value:
    """``lax.cond(condition, if_true, if_false, *operands)``, both sides evaluated."""
    if len(node.args) < 3 or node.keywords:
        raise refuse(node, "write jax.lax.cond(condition, if_true, if_false, ...)")
    condition = body.keep(body.condition(node.args[0]), "condition")
    operands = [body.keep(body.value(operand)) for operand in node.args[3:]]
    sides = [body.value(side) for side in node.args[1:3]]
    results = []
    for side, at in zip(sides, node.args[1:3], strict=True):
        if not isinstance(side, Closure):
            raise refuse(at, "jax.lax.cond takes functions: lambda: ...")
        results.append(body.call(side, operands, at))
    return _chosen(body, condition, results[0], results[1], node)


def _chosen(
    body: Body, condition: Value, left: Value, right: Value, node: ast.Call
) -> Value:
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) == len(right):
        return tuple(
            body.keep(_chosen(body, condition, a, b, node))
            for a, b in zip(left, right, strict=True)
        )
    values = (condition, left, right)
    numbers = [body.as_number(v) for v in values[1:] if isinstance(v, Expression)]
    if not isinstance(condition, Expression) or len(numbers) < 2:
        raise refuse(node, "both sides have to return as many numbers")
    return Call("where", (condition, *numbers), place(node))


def _added(body: Body, values: tuple[Value, ...], node: ast.AST) -> Expression:
    numbers = _numbers(body, values, node)
    total = numbers[0]
    for number in numbers[1:]:
        total = Binary("+", total, number, place(node))
    return total


def _numbers(body: Body, values: tuple[Value, ...], node: ast.AST) -> list[Expression]:
    numbers = [body.as_number(v) for v in values if isinstance(v, Expression)]
    if len(numbers) < len(values) or not numbers:
        raise refuse(node, "a tuple of numbers is needed here")
    return numbers


# ------------------------------------------------------------------------- builders


def _map(name: str) -> Builder:
    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        return Call(name, tuple(body.real(a) for a in arguments.values()), place(node))

    return build


def _ordered(name: str, *order: str) -> Builder:
    """A function whose arguments the language takes in another order."""

    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        missing = [parameter for parameter in order if parameter not in arguments]
        if missing:
            raise refuse(node, f"this call lacks {missing[0]!r}; give all of {order}")
        values = [body.real(arguments[parameter]) for parameter in order]
        return Call(name, tuple(values), place(node))

    return build


def _operator(operator: str) -> Builder:
    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        left, right = (body.real(argument) for argument in arguments.values())
        return Binary(operator, left, right, place(node))

    return build


def _logic(operator: str) -> Builder:
    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        left, right = (body.condition(argument) for argument in arguments.values())
        return Binary(operator, left, right, place(node))

    return build


def _where(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    condition = body.expression(arguments["condition"])
    if not body.type_of(condition).boolean:
        condition = Binary("!=", condition, Number(0.0), condition.at)
    left, right = body.real(arguments["x"]), body.real(arguments["y"])
    return Call("where", (condition, left, right), place(node))


def _reduce(name: str) -> Builder:
    """A reduction of a whole leaf, or over the first axis of a stack."""

    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        axis = arguments.get("axis")
        value = body.value(arguments["a"])
        if isinstance(value, tuple):
            if not (isinstance(axis, ast.Constant) and axis.value == 0):
                raise refuse(node, "a stack is reduced with axis=0", "shape_error")
            return _over_stack(body, name, value, node)
        if axis is not None and not (
            isinstance(axis, ast.Constant) and axis.value is None
        ):
            raise refuse(
                axis, "only a whole tensor can be reduced; drop axis", "shape_error"
            )
        return Call(name, (body.real(arguments["a"]),), place(node))

    return build


def _over_stack(
    body: Body, name: str, values: tuple[Value, ...], node: ast.Call
) -> Value:
    if name in ("max_all", "min_all") and 1 < len(values) <= MAX_ARGUMENTS:
        return Call(name[:3], tuple(_numbers(body, values, node)), place(node))
    if name not in ("sum", "mean"):
        raise refuse(node, f"{name} over a stack cannot be converted; write it out")
    total = _added(body, values, node)
    if name == "sum":
        return total
    return Binary("/", total, Number(float(len(values))), place(node))


def _same(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    """``jnp.array(x)`` and its like, of a number or of a tuple."""
    value = body.value(arguments["x"])
    return body.as_number(value) if isinstance(value, Expression) else value


def _stack(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    axis = arguments.get("axis")
    value = body.value(arguments["arrays"])
    first = axis is None or (isinstance(axis, ast.Constant) and axis.value == 0)
    if not isinstance(value, tuple) or not first:
        raise refuse(node, "a stack is of a tuple, along axis 0", "shape_error")
    return value


def _power(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    whole = ast.BinOp(arguments["x"], ast.Pow(), arguments["y"])
    return body.value(ast.copy_location(whole, node))


def _full(value: float | None) -> Builder:
    def build(body: Body, arguments: Arguments, node: ast.Call) -> Value:
        body.value(arguments["a"])
        if value is None:
            return body.real(arguments["fill_value"])
        return Number(value, place(node))

    return build


def _not(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    return Unary("not", body.condition(arguments["x"]), place(node))


def _negative(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    return Unary("-", body.real(arguments["x"]), place(node))


def _reciprocal(body: Body, arguments: Arguments, node: ast.Call) -> Value:
    return Binary("/", Number(1.0), body.real(arguments["x"]), place(node))


_REDUCTION_PARAMETERS = "a axis? keepdims?"
_REDUCTIONS = {
    "sum": "sum",
    "mean": "mean",
    "max": "max_all",
    "min": "min_all",
    "amax": "max_all",
    "amin": "min_all",
    "var": "variance",
    "std": "std",
    "median": "median",
}
_JNP = (
    "sin cos tan sinh cosh tanh arctan exp expm1 log log1p log2 log10 sqrt cbrt square "
    "abs sign floor ceil round isnan isfinite"
)
_LAX = (
    "sin cos tan tanh exp expm1 log log1p sqrt rsqrt cbrt square abs sign floor ceil "
    "erf stop_gradient"
)
_NN = "relu sigmoid softplus silu elu gelu leaky_relu"
_OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
_OPERATORS |= {"true_divide": "/", "less": "<", "less_equal": "<=", "greater": ">"}
_OPERATORS |= {"greater_equal": ">=", "equal": "==", "not_equal": "!="}
_CALLS: dict[str, tuple[str, Builder]] = {
    **{f"jax.numpy.{name}": ("x", _map(name)) for name in _JNP.split()},
    **{f"jax.lax.{name}": ("x", _map(name)) for name in _LAX.split()},
    **{f"jax.nn.{name}": ("x", _map(name)) for name in _NN.split()},
    **{f"jax.numpy.{n}": ("x y", _operator(o)) for n, o in _OPERATORS.items()},
    **{
        f"jax.numpy.{n}": (_REDUCTION_PARAMETERS, _reduce(f))
        for n, f in _REDUCTIONS.items()
    },
    "jax.numpy.absolute": ("x", _map("abs")),
    "jax.nn.tanh": ("x", _map("tanh")),
    "jax.nn.swish": ("x", _map("silu")),
    "jax.scipy.special.erf": ("x", _map("erf")),
    "jax.numpy.minimum": ("x y", _map("min")),
    "jax.numpy.maximum": ("x y", _map("max")),
    "jax.lax.min": ("x y", _map("min")),
    "jax.lax.max": ("x y", _map("max")),
    "jax.numpy.clip": ("arr min max", _ordered("clip", "arr", "min", "max")),
    "jax.lax.clamp": ("min x max", _ordered("clip", "x", "min", "max")),
    "jax.numpy.where": ("condition x y", _where),
    "jax.lax.select": ("condition x y", _where),
    "jax.numpy.logical_and": ("x y", _logic("and")),
    "jax.numpy.logical_or": ("x y", _logic("or")),
    "jax.numpy.logical_not": ("x", _not),
    "jax.numpy.negative": ("x", _negative),
    "jax.numpy.reciprocal": ("x", _reciprocal),
    "jax.numpy.power": ("x y", _power),
    "jax.numpy.nan_to_num": (
        "x copy? nan? posinf? neginf?",
        _ordered("nan_to_num", "x", "nan", "posinf", "neginf"),
    ),
    "jax.numpy.linalg.norm": ("a", _reduce("norm")),
    "jax.numpy.zeros_like": ("a", _full(0.0)),
    "jax.numpy.ones_like": ("a", _full(1.0)),
    "jax.numpy.full_like": ("a fill_value", _full(None)),
    "jax.numpy.array": ("x", _same),
    "jax.numpy.asarray": ("x", _same),
    "jax.numpy.float32": ("x", _same),
    "jax.numpy.stack": ("arrays axis?", _stack),
}
"""By full path: the parameters (``?`` marks optional ones) and what to build."""
