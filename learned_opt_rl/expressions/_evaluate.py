"""Evaluation in JAX, the only part of the language that needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._nodes import (
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Unary,
)
from learned_opt_rl.expressions._vocabulary import ELEMENTWISE, INPUTS, nearest

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function

_RMS_EPSILON = 1e-5
# Up to here a whole exponent is a chain of products, exact for negative bases too.
_MAX_WHOLE_EXPONENT = 16


def init_memory(
    function: Function, shape: tuple[int, ...], dtype: Any
) -> dict[str, jax.Array]:
    """One array per slot, at its start."""
    dtype = jnp.float32 if dtype is None else dtype
    return {slot.name: jnp.full(shape, slot.initial, dtype) for slot in function.memory}


def evaluate(
    function: Function,
    inputs: Mapping[str, Any],
    memory: Mapping[str, Any],
    constants: Mapping[str, Any],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Check names and shapes, step the momenta, run the body."""
    slots = [slot.name for slot in function.memory]
    _check_keys("inputs", inputs, function.inputs, INPUTS[function.kind])
    _check_keys("memory", memory, slots, slots)
    _check_keys("constants", constants, (), function.init_constants())
    kinds = INPUTS[function.kind]
    tensors = {n: jnp.asarray(v) for n, v in inputs.items() if kinds[n] == ELEMENTWISE}
    carried = {name: jnp.asarray(memory[name]) for name in slots}
    shape = _leaf_shape({**tensors, **carried})
    dtype = _compute_dtype([*tensors.values(), *carried.values()])
    wide = {n: _spread(v, shape, dtype) for n, v in {**tensors, **carried}.items()}
    scalars = {n: v for n, v in inputs.items() if n not in tensors}
    scalars |= {**function.init_constants(), **constants}
    values = wide | {n: _scalar(n, v, dtype) for n, v in scalars.items()}
    for slot in function.memory:
        if slot.decay is not None:
            decay = jnp.asarray(slot.decay, dtype)
            values[slot.name] = decay * values[slot.name] + (1 - decay) * values["g"]
    output = run(function, values, shape, dtype)
    new = {name: values[name].astype(carried[name].dtype) for name in slots}
    return output, new


def run(
    function: Function, values: dict[str, jax.Array], shape: tuple[int, ...], dtype: Any
) -> jax.Array:
    """Run the body, which writes into ``values``, and return the result."""
    slots = {slot.name for slot in function.memory}
    for assignment in function.body:
        value = _compute(assignment.value, values, dtype)
        if assignment.target in slots:
            value = jnp.broadcast_to(value, shape)
        values[assignment.target] = value
    return jnp.broadcast_to(_compute(function.result, values, dtype), shape)


def _compute(
    node: Expression, values: Mapping[str, jax.Array], dtype: Any
) -> jax.Array:
    """The value of one expression, given the values of its names."""
    match node:
        case Number():
            return jnp.asarray(node.value, dtype)
        case Name():
            return values[node.name]
        case Unary():
            operand = _compute(node.operand, values, dtype)
            return ~operand if node.operator == "not" else -operand
        case Binary():
            left = _compute(node.left, values, dtype)
            whole = _whole_exponent(node)
            if whole is not None:
                return jax.lax.integer_pow(left, whole)
            return OPERATORS[node.operator](left, _compute(node.right, values, dtype))
        case Call():
            arguments = [_compute(a, values, dtype) for a in node.arguments]
            return IMPLEMENTATIONS[node.function](*arguments)


def _whole_exponent(node: Binary) -> int | None:
    """The exponent of a power, if it is written as a small whole number."""
    exponent, sign = node.right, 1
    if isinstance(exponent, Unary) and exponent.operator == "-":
        exponent, sign = exponent.operand, -1
    if node.operator != "^" or not isinstance(exponent, Number):
        return None
    if not exponent.value.is_integer() or exponent.value > _MAX_WHOLE_EXPONENT:
        return None
    return sign * int(exponent.value)


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean norm, whose derivative at the zero tensor is 0 rather than NaN."""
    squares = jnp.sum(x * x)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _fold(function: Callable[[Any, Any], jax.Array]) -> Callable[..., jax.Array]:
    return lambda *values: functools.reduce(function, values)


OPERATORS: dict[str, Callable[[Any, Any], jax.Array]] = {
    "+": jnp.add,
    "-": jnp.subtract,
    "*": jnp.multiply,
    "/": jnp.divide,
    "^": jnp.power,
    "<": jnp.less,
    "<=": jnp.less_equal,
    ">": jnp.greater,
    ">=": jnp.greater_equal,
    "==": jnp.equal,
    "!=": jnp.not_equal,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
}
_NUMPY = (
    "sin cos tan sinh cosh tanh arctan exp expm1 log log1p log2 log10 sqrt cbrt square "
    "abs sign floor ceil round isnan isfinite clip where mean sum std"
)
_NN = "relu sigmoid softplus silu elu gelu leaky_relu"
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in _NUMPY.split()},
    **{name: getattr(jax.nn, name) for name in _NN.split()},
    "erf": jax.lax.erf,
    "rsqrt": jax.lax.rsqrt,
    "stop_gradient": jax.lax.stop_gradient,
    "min": _fold(jnp.minimum),
    "max": _fold(jnp.maximum),
    "nan_to_num": lambda x, nan, above, below: jnp.where(
        jnp.isnan(x), nan, jnp.where(jnp.isinf(x), jnp.where(x > 0, above, below), x)
    ),
    "norm": _norm,
    "variance": jnp.var,
    # Of an empty leaf there is no right answer, nor an update to be wrong.
    "median": lambda x: jnp.median(x) if x.size else jnp.asarray(jnp.nan, x.dtype),
    "max_all": lambda x: jnp.max(x, initial=-jnp.inf),
    "min_all": lambda x: jnp.min(x, initial=jnp.inf),
    "size": lambda x: jnp.asarray(x.size, x.dtype),
    "rms_normalise": lambda x: x * jax.lax.rsqrt(_RMS_EPSILON + jnp.mean(x * x)),
}
"""What each function of the vocabulary computes."""


def _check_keys(
    what: str, given: Iterable[str], required: Iterable[str], known: Iterable[str]
) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise _call_error(
            f"{what} has the unknown name {unknown[0]!r}; {nearest(unknown[0], known)}"
        )
    missing = sorted(set(required) - set(given))
    if missing:
        fix = " (from init_memory)" if what == "memory" else ""
        raise _call_error(f"{what} lacks {missing[0]!r}; pass it by name{fix}")


def _leaf_shape(tensors: Mapping[str, jax.Array]) -> tuple[int, ...]:
    """The shape all element-wise values are of, or can be spread to."""
    full = [name for name, v in tensors.items() if v.ndim and name != "dorm"]
    leader = (full or [name for name, v in tensors.items() if v.ndim] or [None])[0]
    shape = () if leader is None else tensors[leader].shape
    for name, value in tensors.items():
        fits = value.shape in ((), shape)
        if not fits and not (name == "dorm" and value.shape == shape[-1:]):
            raise _call_error(
                f"{name!r} has shape {value.shape} and {leader!r} has {shape}; give "
                f"both the shape of the leaf, or {name!r} a scalar"
            )
    return shape


def _compute_dtype(tensors: Iterable[jax.Array]) -> Any:
    floats = [v.dtype for v in tensors if jnp.issubdtype(v.dtype, jnp.floating)]
    return jnp.result_type(jnp.float32, *floats)


def _spread(value: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.broadcast_to(value.astype(dtype), shape)


def _scalar(name: str, value: Any, dtype: Any) -> jax.Array:
    if jnp.shape(value):
        raise _call_error(
            f"{name!r} has shape {jnp.shape(value)}; give one scalar of shape ()"
        )
    return jnp.asarray(value, dtype)


def _call_error(problem: str) -> ExpressionError:
    return ExpressionError(problem, category="call_error")
