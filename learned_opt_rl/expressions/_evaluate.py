"""Evaluation in JAX, the only part of the language that needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.scipy.special

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._functions import FUNCTIONS
from learned_opt_rl.expressions._language import (
    ELEMENTWISE,
    INPUTS,
    OPERATORS,
    UNARY_OPERATORS,
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Unary,
)

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function

_RMS_EPSILON = 1e-5
# Up to here a whole exponent is a chain of products, exact for negative bases too.
_MAX_WHOLE_EXPONENT = 16


def evaluate(
    function: Function,
    inputs: Mapping[str, Any],
    memory: Mapping[str, Any],
    constants: Mapping[str, Any],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Check names and shapes, step the momenta, run the body."""
    own = {constant.name: constant.value for constant in function.constants}
    _check_keys("inputs", inputs, function.inputs, INPUTS[function.kind])
    _check_keys("memory", memory, function.slots, function.slots)
    _check_keys("constants", constants, (), own)
    kinds = INPUTS[function.kind]
    tensors = {n: jnp.asarray(v) for n, v in inputs.items() if kinds[n] == ELEMENTWISE}
    carried = {name: jnp.asarray(memory[name]) for name in function.slots}
    arrays = {**tensors, **carried}
    shape = _leaf_shape(arrays)
    dtypes = [value.dtype for value in arrays.values()]
    floats = [one for one in dtypes if jnp.issubdtype(one, jnp.floating)]
    dtype = jnp.result_type(jnp.float32, *floats)
    values = {
        name: jnp.broadcast_to(value.astype(dtype), shape)
        for name, value in arrays.items()
    }
    for name, value in {**inputs, **own, **constants}.items():
        if name not in values:
            values[name] = _scalar(name, value, dtype)
    for slot in function.memory:
        if slot.decay is not None:
            decay = jnp.asarray(slot.decay, dtype)
            values[slot.name] = decay * values[slot.name] + (1 - decay) * values["g"]
    output = run(function, values, shape, dtype)
    new = {name: values[name].astype(old.dtype) for name, old in carried.items()}
    return output, new


def run(
    function: Function,
    values: dict[str, jax.Array],
    shape: tuple[int, ...],
    dtype: Any,
) -> jax.Array:
    """Run the body, which writes into ``values``, and return the result."""
    for assignment in function.body:
        value = _compute(assignment.value, values, dtype)
        if assignment.target in function.slots:
            value = jnp.broadcast_to(value, shape)
        values[assignment.target] = value
    return jnp.broadcast_to(_compute(function.result, values, dtype), shape)


def _compute(
    node: Expression, values: Mapping[str, jax.Array], dtype: Any
) -> jax.Array:
    """Compute one expression, given the values of its names."""
    match node:
        case Number():
            return jnp.asarray(node.value, dtype)
        case Name():
            return values[node.name]
        case Unary():
            return _UNARY[node.operator](_compute(node.operand, values, dtype))
        case Binary():
            left = _compute(node.left, values, dtype)
            whole = _whole_exponent(node)
            if whole is not None:
                return jax.lax.integer_pow(left, whole)
            return _BINARY[node.operator](left, _compute(node.right, values, dtype))
        case Call():
            arguments = [_compute(a, values, dtype) for a in node.arguments]
            return IMPLEMENTATIONS[node.function](*arguments)


def _whole_exponent(node: Binary) -> int | None:
    """Return the exponent of a power if it is written as a small whole number."""
    exponent, sign = node.right, 1
    if isinstance(exponent, Unary) and exponent.operator == "-":
        exponent, sign = exponent.operand, -1
    if node.operator != "**" or not isinstance(exponent, Number):
        return None
    if not exponent.value.is_integer() or exponent.value > _MAX_WHOLE_EXPONENT:
        return None
    return sign * int(exponent.value)


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean norm whose derivative at the zero tensor is 0 rather than NaN."""
    squares = jnp.sum(x * x)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _nan_to_num(
    x: jax.Array, nan: Any = 0.0, above: Any = None, below: Any = None
) -> jax.Array:
    return jnp.nan_to_num(x, nan=nan, posinf=above, neginf=below)


def _implementation(name: str) -> Callable[..., Any]:
    """Return the first jax function of a row, folded if it takes two of several."""
    builtin = FUNCTIONS[name]
    function: Any = jax
    for part in builtin.jax[0].split("."):
        function = getattr(function, part)
    if builtin.most > builtin.least:
        return lambda *values: functools.reduce(function, values)
    return function


_OWN: dict[str, Callable[..., Any]] = {
    "nan_to_num": _nan_to_num,
    "norm": _norm,
    # NaN for an empty leaf, whose update is empty too.
    "median": lambda x: jnp.median(x) if x.size else jnp.asarray(jnp.nan, x.dtype),
    "max_all": lambda x: jnp.max(x, initial=-jnp.inf),
    "min_all": lambda x: jnp.min(x, initial=jnp.inf),
    "size": lambda x: jnp.asarray(x.size, x.dtype),
    "rms_normalize": lambda x: x * jax.lax.rsqrt(_RMS_EPSILON + jnp.mean(x * x)),
}
IMPLEMENTATIONS = {name: _OWN.get(name) or _implementation(name) for name in FUNCTIONS}
"""The implementation of each function of the vocabulary."""
_BINARY = {symbol: getattr(jnp, row.jax) for symbol, row in OPERATORS.items()}
_UNARY = {symbol: getattr(jnp, row.jax) for symbol, row in UNARY_OPERATORS.items()}


def _check_keys(
    what: str, given: Iterable[str], required: Iterable[str], known: Iterable[str]
) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        hint = suggest(unknown[0], known)
        raise _call_error(f"{what} has the unknown name {unknown[0]!r}; {hint}")
    missing = sorted(set(required) - set(given))
    if missing:
        fix = " (from init_memory)" if what == "memory" else ""
        raise _call_error(f"{what} has no {missing[0]!r}; pass it by name{fix}")


def _leaf_shape(tensors: Mapping[str, jax.Array]) -> tuple[int, ...]:
    """Return the shape that all element-wise values have or are spread to."""
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


def _scalar(name: str, value: Any, dtype: Any) -> jax.Array:
    if jnp.shape(value):
        raise _call_error(
            f"{name!r} has shape {jnp.shape(value)}; give one scalar of shape ()"
        )
    return jnp.asarray(value, dtype)


def _call_error(problem: str) -> ExpressionError:
    return ExpressionError(problem, category="call_error")
