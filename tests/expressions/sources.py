"""Random Python proposals and printed formulas, from the idioms that people write."""

from typing import NamedTuple


def _words(text):
    return text.split()


def _lines(text):
    return text.strip().split("\n")


_NUMBERS = _words("0 1 2 3 0.5 1.0 2.0 -1.5 1e-8 -1 7")
_UNARY = _words("""
jnp.exp jnp.log jnp.abs jnp.sqrt jnp.square jnp.tanh jnp.sign jnp.floor jnp.ceil
jnp.sin jnp.log1p jnp.expm1 jnp.arctan jnp.arcsin jnp.arccosh jnp.arcsinh
jnp.arctanh jnp.round jnp.cbrt jnp.log2 jnp.log10 jnp.isnan jnp.isfinite jnp.isinf
jnp.reciprocal jnp.negative jnp.exp2 jnp.trunc jnp.positive jnp.logical_not jnp.cosh
jnp.zeros_like jnp.ones_like jax.nn.sigmoid jax.nn.softplus jax.nn.log_sigmoid
jax.nn.relu jax.nn.silu jax.nn.gelu jax.nn.elu jax.nn.leaky_relu jax.nn.relu6
jax.nn.hard_tanh jax.nn.soft_sign
jax.nn.mish jax.nn.hard_sigmoid jax.nn.hard_silu
jax.lax.stop_gradient jax.scipy.special.erf np.abs jax.scipy.special.expit abs
lax.rsqrt jnp.asarray jnp.array nn.tanh exp helper square
""")
_BINARY = _words("""
jnp.maximum jnp.minimum jnp.power jnp.add jnp.subtract jnp.multiply jnp.divide
jnp.mod jnp.floor_divide jnp.logical_and jnp.logical_or jnp.logical_xor jnp.greater
jnp.less_equal jnp.hypot jnp.logaddexp jnp.heaviside jnp.fmax jnp.fmod jnp.arctan2
jnp.equal pow max min jnp.full_like np.maximum jax.lax.max jax.nn.leaky_relu
jax.nn.elu helper bend
""")
_OPERATORS = _words("+ - * / ** // % & | ^ < <= > >= == != + - * / * +")
_FORMS = _lines(
    """
jnp.where({a}, {b}, {c})
jnp.where({a} > {b}, {b}, {c})
where({a} < 1, {b}, {c})
jnp.clip({a}, {b}, {c})
jnp.clip({a}, -1.0, 1.0)
jnp.clip({a}, min={b})
{n}.clip(0.5, 2)
jnp.clip({a}, None, {b})
{n}.clip(max={b})
jnp.select([{a} > 0, {b} > 1], [{a}, {b}], {c})
({a}).astype(float)
({a} > {b}).astype(float)
({a} > 0).astype(int)
({a}).astype(bool)
(w_{k} := {a}) + w_{k}
sum(({a}, {b}, {c}))
({a}, {b})[0]
(lambda x, y=2.0: x * y)({a})
(lambda x, y=2: x + y)({a}, y={b})
helper({a}, factor={b})
jnp.stack([{a}, {b}]).sum(axis=0)
jnp.max(jnp.stack([{a}, {b}]), axis=0)
jnp.array({a}, dtype=float)
math.sqrt(2.0) * {a}
{n} * math.log(1 + epsilon)
(1.0 * ({a} > 1) + ({b} > 0))
({a} > 0) + ({b} > 0)
({a} > 0) * ({b} > 0)
(({a} > 0) & ~({b} > 1))
({a} > 0) - ({b} > 0)
jnp.pi * {a}
jnp.full_like({n}, {a})
(+{a})
-({a})
~({a})
({a} > 0) / 2
2 ** ({a} > 0)
{a} if {b} else 1
1 < {n} < 2
{a} and {b}
not {a}
jnp.nan_to_num({a}, nan=0.0, posinf=9.0, neginf=-9.0)
alias({a})
jnp.square({n})
jnp.nan_to_num({a})
jnp.nan_to_num({a}, nan={b})
jnp.copysign({a}, {b})
jax.nn.gelu({a}, approximate=False)
jnp.std(jnp.stack([{a}, {b}]), axis=0)
jnp.abs(jnp.stack([{a}, {b}]))[1]
(2 * jnp.stack([{a}, {b}]) - {c})[0]
jnp.where(jnp.stack([{a} > 0, {b} > 1]), {c}, 2.0)[0]
({a} if COUNT % 2 == 1 else {b})
({a} if not COUNT > 2 and 1 else {b})
[{a}, {b}, {c}][COUNT - 2]
sum([{a}, {b}, {c}][1:])
jnp.zeros({n}.shape) + jnp.full({n}.shape, {a})
jnp.broadcast_to({a}, {n}.shape)
jax.lax.cond(COUNT > 1, lambda _: {a}, lambda _: {b}, operand=None)
jnp.float32({a}) ** -2
abs(-COUNT) * {a}
jnp.where({a}, 1, 2) ** -1
({a} > 0) // ({b} > 0)
max(epsilon, 0.1)
"""
)
# Each is the body of a drift, with "; " between lines.
IDIOMS = _lines(
    """
return 1.0 * ((ratio > 1 + epsilon) + (advantage > 0)) * (ratio - 1) ** 2
return ratio * ((ratio > 1) * (advantage > 0)) + ((ratio > 1) ^ (advantage > 0))
both = (ratio > 1) + (advantage > 0) + (ratio > 2); return ratio * both
both = jnp.maximum(ratio > 1, advantage > 0) + (ratio > 2); return ratio * both
both = jnp.where(ratio > 1, advantage > 0, ratio > 2); return ratio * (both + both)
return ratio * sum([ratio > 1, advantage > 0])
return ratio * ((ratio > 1).astype(int) + (advantage > 0).astype(jnp.int32))
return ratio / (1 + (advantage > 0)) + 2.0 ** (advantage > 0)
return ratio // 0.3 + advantage % 0.7 - advantage // -0.3 + ratio % -0.7
return jnp.floor_divide(advantage, 0.1) + jnp.mod(advantage, 3) + 7 // 2 - -7 // 2
ratio -= 1; ratio *= 2.0; ratio /= 3; ratio **= 2; return ratio
low, high = 1 - epsilon, 1 + epsilon; return jnp.clip(ratio, low, high)
return ratio.clip(1 - epsilon, 1 + epsilon) + ratio.clip(max=1).round()
return jnp.clip(advantage, max=0.5) + jnp.clip(advantage, min=-0.5)
return (x := jnp.log(ratio)) * x + (x - 1)
x = y = ratio - 1; return x * y
x: jnp.ndarray = ratio; y: float; return x
def scaled(x, by=2.0): return x * by; return scaled(ratio, by=3) + scaled(x=ratio)
soft = lambda x, beta=1.0: jax.nn.softplus(beta * x) / beta; return soft(ratio, 3)
act = jax.nn.tanh; return act(ratio) + (lambda f, x: f(x))(jnp.exp, ratio)
return jax.nn.log_sigmoid(ratio) + jax.nn.softplus(-ratio) * jax.nn.sigmoid(ratio)
return jnp.expm1(ratio) + jnp.log1p(ratio) + jnp.power(ratio, 2) + jnp.square(ratio)
import numpy as np; return np.pi * ratio + np.sqrt(2.0) * np.abs(ratio)
from jax.numpy import where as pick, exp; return pick(ratio > 1, exp(ratio), 0)
import math; return ratio * math.sqrt(1 + epsilon) - math.log(2) * math.pi
from jax.scipy.special import erf, expit; return erf(ratio) + expit(advantage)
from typing import Any; return ratio * jnp.float32(2) + jnp.array(0.5, dtype=float)
return jnp.where(ratio > 1, 1, 0) / 2 + jnp.where(ratio > 1, ratio, -1)
return max(epsilon, 0.3) * ratio + pow(ratio, 2) + abs(advantage)
return jnp.select([ratio > 2, ratio > 1], [ratio, advantage], 0.5)
return jax.nn.leaky_relu(advantage, 0.2) + jax.nn.elu(advantage, alpha=0.5)
return jnp.heaviside(advantage, 0.5) * jnp.hypot(ratio, advantage)
return jnp.logical_and(ratio, advantage > 0).astype(ratio.dtype) * ratio
"""
)
# Code that Python or jax does not run, or that means something else there.
MISTAKES = _lines(
    """
(ratio > 1) - (advantage > 0) -> of conditions differs from - of numbers
-(ratio > 1) -> - of conditions
jnp.sign(ratio > 1) -> sign of conditions
(epsilon > 0.1) + (epsilon < 0.3) -> + of conditions
~(epsilon > 0.1) -> ~ of one Python condition is a number
jnp.where(ratio > 1, 2, 1) ** -1 -> in integers
2 ** -jnp.where(ratio > 1, 2, 1) -> in integers
jnp.power(2, -1) -> in integers
jax.lax.div(jnp.where(ratio > 1, 3, 1), 2) -> is not part of the language
(ratio > 1) // (advantage > 0) -> in integers
jnp.zeros_like(ratio > 1) -> the dtype of a condition
ratio.astype(int) -> write astype(jnp.float32)
epsilon.astype(float) -> a Python number has no .astype
1 / 0 -> Python does not divide by 0
math.sqrt(ratio) -> math.sqrt takes one number; write jnp.sqrt(x)
jnp.clip(ratio) -> this clip has no bounds
jnp.arctangent(ratio) -> did you mean 'arctan
(lambda x, y=1: x)(ratio, 1, 2) -> this call takes (x, y)
(lambda x: x)(ratio, x=1) -> this call takes (x)
jnp.exp(ratio, where=ratio > 1) -> the keyword where does not fit
ratio.mean() -> a function of one sample
jnp.cumsum(ratio) -> is not part of the language
"""
)
_HEADER = '''"""A module."""
import jax
import math
import numpy as np
import jax.numpy as jnp
from jax import lax, nn
from jax.numpy import exp, square, where

ALPHA = 0.5
COUNT: int = 3


helper = lambda x, factor=ALPHA: x * factor - 1
bend = lambda x, power: jnp.abs(x) ** power
alias = jnp.tanh


'''
_SIGNATURES = {
    "drift": ("ratio, advantage, epsilon", ["ratio", "advantage", "epsilon"]),
    "optimizer": (
        "w, g, var1, var2, t, d, t_p, b_p, l_p, key",
        ["w", "g", "var1", "t_p", "g", "w"],
    ),
}


class Grammar(NamedTuple):
    names: list
    numbers: list
    operators: list
    unary: list
    binary: list
    forms: list  # templates of up to three expressions a, b, c, a name n, a digit k


def written(random, grammar, depth):
    """Write an expression; calls of functions may have any operand."""
    if depth == 0 or random.random() < 0.15:
        named = random.random() < 0.7
        return random.choice(grammar.names if named else grammar.numbers)
    below = [written(random, grammar, depth - 1) for _ in range(3)]
    choice = random.randrange(10)
    if choice < 4:
        return f"({below[0]} {random.choice(grammar.operators)} {below[1]})"
    if choice < 6:
        return f"{random.choice(grammar.unary)}({below[0]})"
    if choice < 7:
        return f"{random.choice(grammar.binary)}({below[0]}, {below[1]})"
    form, (a, b, c) = random.choice(grammar.forms), below
    return f"({form.format(a=a, b=b, c=c, n=grammar.names[0], k=random.randrange(3))})"


_STATEMENTS = [
    "v{0} = {1}",
    "v{0}: float = {1}",
    "v{0}, u{0} = {1}, {2}",
    "v{0} = u{0} = {1}",
    "{3} {4}= {1}\n    v{0} = {3}",
    "v{0} = {1}\n    for i in range(2):\n        v{0} += i * {2}",
    "def h{0}(x, y={2}):\n        return x * y\n    v{0} = h{0}({1})",
]


def proposal(random, kind):
    """Write a Python function of the idioms; many are not valid Python or jax."""
    header, inputs = _SIGNATURES[kind]
    names = [*inputs, "ALPHA", "COUNT"]
    grammar = Grammar(names, _NUMBERS, _OPERATORS, _UNARY, _BINARY, _FORMS)
    lines = []
    for index in range(random.randrange(4)):
        value, other = (written(random, grammar, depth) for depth in (2, 1))
        name, operator = random.choice(inputs[:2]), random.choice("+-*/%|")
        form = random.choice(_STATEMENTS)
        lines.append(form.format(index, value, other, name, operator))
        names.append(f"v{index}")
    result = f"{inputs[0]} * 1.0 + {written(random, grammar, 3)}"
    if kind == "optimizer":
        result += ", var1 + g, var2"
    body = "".join(f"    {line}\n" for line in lines)
    return f"{_HEADER}def f({header}):\n{body}    return {result}\n"


# Where the name is jax's own.
OF_JAX = _words("""
sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp log2 log10 log1p
sqrt cbrt abs sign floor ceil round square exp2 mod atan2 hypot
""")
_SYMBOLIC_1 = _words("""
sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp log log2 log10 log1p
sqrt cbrt abs Abs sign floor ceil ceiling round relu erf erfc square cube inv neg
safe_log gamma safe_sqrt sqrt_abs log_abs atanh_clip exp2 Heaviside frac sec coth -
""")
_SYMBOLIC_2 = _words("""
max min Max Min pow safe_pow mod Mod cond greater less greater_equal less_equal plus
sub mult div logical_or logical_and atan2 pow_abs Eq hypot Pow
""")
_SYMBOLIC_FORMS = _lines(
    """
clamp({a}, {b}, {c})
fma({a}, {b}, {c})
ifelse({a}, {b}, {c})
max({a}, {b}, {c})
Piecewise(({a}, {b} > {c}), ({c}, True))
Piecewise(({a}, {b} > 0), ({b}, {c} < 1), (0.0, True))
Piecewise((1.0, ({a} > 0) | ({b} > 0)), (0.0, True))
log({a}, 2)
Heaviside({a}, {b})
pi*{a}
E*{a}
{a}**(1/2)
{a}**2
{a} ^ 3
1.0e-5*{a}
2.5f0*{a}
Rational(1, 3)*{a}
(+{a})
"""
)


_SYMBOLIC = Grammar(
    names=["x0", "x1", "x2", "x₀"],
    numbers=["0.5", "-1.3", "2", "1.0e-3"],
    operators=list("+-*/^<>+-*"),
    unary=_SYMBOLIC_1,
    binary=_SYMBOLIC_2,
    forms=_SYMBOLIC_FORMS,
)


def formula(random):
    """Write a formula as PySR or SymPy print it."""
    return written(random, _SYMBOLIC, 3)
