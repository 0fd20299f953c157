"""The functions of the language, and the names that they have elsewhere.

The checker, the evaluator, the printers and the importers all read this table. To add a
function, add a row to ``_FUNCTIONS``; where one jax function does not compute it, add
its implementation to ``_evaluate`` as well. A function of jax, PySR or SymPy that a
formula of the language expresses is a row of ``_DERIVED`` instead.
"""

import keyword
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias, cast

from learned_opt_rl.expressions._language import (
    DECLARATIONS,
    INPUTS,
    OPERATORS,
    UNARY_OPERATORS,
)

# How a function is typed. map: numbers to a number, per element; test: a number to a
# condition; where: a condition and two numbers; reduce: a whole tensor to one number;
# normalize: a whole tensor to a tensor.
Rule: TypeAlias = Literal["map", "test", "where", "reduce", "normalize"]


class Builtin(NamedTuple):
    """One function of the language, with ``least`` to ``most`` arguments."""

    rule: Rule
    # With #1, #2 for the arguments and #* for all.
    latex: str
    # Paths below jax. The first computes the function, unless _evaluate has an
    # implementation of its own; Python proposals may call any of them.
    jax: tuple[str, ...] = ()
    least: int = 1
    most: int = 1
    # Names in PySR, Julia and SymPy, where they are not the name here.
    symbolic: tuple[str, ...] = ()


# By row: name; rule; the number of arguments, or its least and most; LaTeX, which is
# called with all arguments where it has no #; jax; symbolic. 16 is Limits.ARGUMENTS.
_FUNCTIONS = r"""
sin; map; 1; \sin; numpy.sin lax.sin
cos; map; 1; \cos; numpy.cos lax.cos
tan; map; 1; \tan; numpy.tan lax.tan
arcsin; map; 1; \arcsin; numpy.arcsin numpy.asin lax.asin; asin safe_asin
arccos; map; 1; \arccos; numpy.arccos numpy.acos lax.acos; acos safe_acos
arctan; map; 1; \arctan; numpy.arctan numpy.atan lax.atan; atan
arctan2; map; 2; \arctan2; numpy.arctan2 numpy.atan2 lax.atan2; atan2
sinh; map; 1; \sinh; numpy.sinh lax.sinh
cosh; map; 1; \cosh; numpy.cosh lax.cosh
tanh; map; 1; \tanh; numpy.tanh lax.tanh nn.tanh
arcsinh; map; 1; arsinh; numpy.arcsinh numpy.asinh lax.asinh; asinh
arccosh; map; 1; arcosh; numpy.arccosh numpy.acosh lax.acosh; acosh safe_acosh
arctanh; map; 1; artanh; numpy.arctanh numpy.atanh lax.atanh; atanh safe_atanh
exp; map; 1; \exp\left(#1\right); numpy.exp lax.exp
expm1; map; 1; \left(\exp\left(#1\right) - 1\right); numpy.expm1 lax.expm1
log; map; 1; \log; numpy.log lax.log; safe_log
log1p; map; 1; \log\left(1 + #1\right); numpy.log1p lax.log1p; safe_log1p
log2; map; 1; \log_{2}\left(#1\right); numpy.log2; safe_log2
log10; map; 1; \log_{10}\left(#1\right); numpy.log10; safe_log10
sqrt; map; 1; \sqrt{#1}; numpy.sqrt lax.sqrt; safe_sqrt Sqrt
rsqrt; map; 1; \frac{1}{\sqrt{#1}}; lax.rsqrt
cbrt; map; 1; \sqrt[3]{#1}; numpy.cbrt lax.cbrt; Cbrt
hypot; map; 2; hypot; numpy.hypot
square; map; 1; \left(#1\right)^{2}; numpy.square lax.square
abs; map; 1; \left\lvert #1 \right\rvert;
    numpy.abs numpy.absolute numpy.fabs lax.abs; Abs
sign; map; 1; sgn; numpy.sign lax.sign
floor; map; 1; \left\lfloor #1 \right\rfloor; numpy.floor lax.floor
ceil; map; 1; \left\lceil #1 \right\rceil; numpy.ceil lax.ceil; ceiling
round; map; 1; round; numpy.round numpy.rint
relu; map; 1; relu; nn.relu
sigmoid; map; 1; sigmoid; nn.sigmoid lax.logistic scipy.special.expit
softplus; map; 1; softplus; nn.softplus
silu; map; 1; silu; nn.silu nn.swish
elu; map; 1; elu; nn.elu
gelu; map; 1; gelu; nn.gelu
leaky_relu; map; 1; leakyrelu; nn.leaky_relu
erf; map; 1; erf; lax.erf scipy.special.erf
erfc; map; 1; erfc; lax.erfc scipy.special.erfc
# Not gamma, which is a common name for a constant.
gamma_function; map; 1; \Gamma; scipy.special.gamma; gamma
stop_gradient; map; 1; stopgradient; lax.stop_gradient
mod; map; 2; \left(#1 \bmod #2\right); numpy.mod numpy.remainder; Mod
floor_divide; map; 2; \left\lfloor \frac{#1}{#2} \right\rfloor; numpy.floor_divide; fld
min; map; 2 16; \min; numpy.minimum lax.min; Min fmin
max; map; 2 16; \max; numpy.maximum lax.max; Max fmax
clip; map; 3; clip; numpy.clip lax.clamp; clamp
nan_to_num; map; 1 4; nantonum; numpy.nan_to_num
isnan; test; 1; isnan; numpy.isnan
isfinite; test; 1; isfinite; numpy.isfinite lax.is_finite
where; where; 3; \begin{cases} #2 & \text{if } #1 \\ #3 & \text{otherwise} \end{cases};
    numpy.where lax.select; ifelse ITE
norm; reduce; 1; \left\lVert #1 \right\rVert_{2}; numpy.linalg.norm
mean; reduce; 1; mean; numpy.mean
sum; reduce; 1; sum; numpy.sum
variance; reduce; 1; var; numpy.var
std; reduce; 1; std; numpy.std
median; reduce; 1; median; numpy.median
max_all; reduce; 1; \max_{i}\left(#1\right); numpy.max numpy.amax
min_all; reduce; 1; \min_{i}\left(#1\right); numpy.min numpy.amin
size; reduce; 1; size
rms_normalize; normalize; 1; rms
"""


def _rows(table: str) -> Iterator[list[str]]:
    """Yield the cells of a table; a semicolon continues a row on the next line."""
    for row in table.replace(";\n", ";").strip().split("\n"):
        if not row.startswith("#"):
            yield [cell.strip() for cell in row.split(";")]


def _builtin(
    rule: str, arguments: str, latex: str, jax: str = "", symbolic: str = ""
) -> Builtin:
    if "#" not in latex:
        name = latex if latex[0] == "\\" else rf"\operatorname{{{latex}}}"
        latex = rf"{name}\left(#*\right)"
    least, *most = map(int, arguments.split())
    paths, names = tuple(jax.split()), tuple(symbolic.split())
    return Builtin(cast(Rule, rule), latex, paths, least, (most or [least])[0], names)


FUNCTIONS = {name: _builtin(*cells) for name, *cells in _rows(_FUNCTIONS)}
"""Every function, by name. ``clip(x, low, high)``, ``where(condition, a, b)`` and
``nan_to_num(x, nan, above, below)`` take their arguments in this order; what follows
the ``x`` of ``nan_to_num`` may be left out, as in jax. ``min`` and ``max`` take two or
more. ``mod`` and ``floor_divide`` round down, as in Python."""

RESERVED = frozenset(
    {*FUNCTIONS, *DECLARATIONS, *INPUTS, "momentum", "true", "false", *keyword.kwlist}
)
"""Words that cannot be the name of a memory slot, a constant or a local."""


class Derived(NamedTuple):
    """A function of other libraries as a formula of the language."""

    # Its parameters; ``?`` marks optional ones.
    parameters: str
    # In the language, over a, b, c in the place of the arguments. A formula after "|"
    # is for one more argument.
    formula: str
    jax: str = ""  # paths below jax, separated by spaces
    symbolic: str = ""  # names in PySR, Julia and SymPy, separated by spaces


# By row: parameters; formula; jax; symbolic.
_DERIVED = """
x; a; numpy.positive; Integer Float S
p q; a / b; numpy.true_divide; Rational
x; 1 / a; numpy.reciprocal lax.reciprocal; inv
x; a**3;; cube
x y; a**b; numpy.pow numpy.float_power lax.integer_pow
x; 2**a; numpy.exp2 lax.exp2; exp2
x; 10**a;; exp10
x base?; log(a) | log(a) / log(b);; log
# The sum is infinite where the difference of two infinities is NaN.
x y; where(isnan(a - b), a + b, max(a, b) + log1p(exp(-abs(a - b)))); numpy.logaddexp
# The protected functions of PySR before version 1 and of Operon.
x y; abs(a)**b;; pow_abs powabs
x; sqrt(abs(a));; sqrt_abs sqrtabs
x; log(abs(a));; log_abs logabs
x; log2(abs(a));; log2_abs
x; log10(abs(a));; log10_abs
x; log1p(abs(a));; log1p_abs
x; arccosh(abs(a) + 1);; acosh_abs
x; arctanh(mod(a + 1, 2) - 1);; atanh_clip
x y; a / sqrt(1 + b**2);; aq
x y; where(a, b, 0);; cond
x y z; a * b + c;; fma muladd
x; 1 / cos(a);; sec
x; 1 / sin(a);; csc
x; 1 / tan(a);; cot
x; 1 / cosh(a);; sech
x; 1 / sinh(a);; csch
x; 1 / tanh(a);; coth
x; a - floor(a);; frac
x; sign(a) * floor(abs(a)); numpy.trunc numpy.fix; trunc
x y; sign(a) * mod(abs(a), abs(b)); numpy.fmod lax.rem; rem
# SymPy's value at 0 is 1/2 unless it is given.
x zero?; where(a > 0, 1, where(a < 0, 0, 0.5)) | where(a > 0, 1, where(a < 0, 0, b));
    ; Heaviside
x zero; where(a > 0, 1, where(a < 0, 0, where(isnan(a), a, b))); numpy.heaviside
x y; where(a, 1, 0) != where(b, 1, 0); numpy.logical_xor; xor Xor
x; not (isfinite(a) or isnan(a)); numpy.isinf
x y; where(isnan(a), b, where(isnan(b), a, max(a, b))); numpy.fmax
x y; where(isnan(a), b, where(isnan(b), a, min(a, b))); numpy.fmin
x; -softplus(-a); nn.log_sigmoid
x; a / (abs(a) + 1); nn.soft_sign
x; min(max(a, 0), 6); nn.relu6
x; min(max(a + 3, 0), 6) / 6; nn.hard_sigmoid
x; a * (min(max(a + 3, 0), 6) / 6); nn.hard_silu nn.hard_swish
x; where(a > 1, 1, where(a < -1, -1, a)); nn.hard_tanh
x; a * tanh(softplus(a)); nn.mish
x negative_slope?; leaky_relu(a) | where(a >= 0, a, b * a); nn.leaky_relu
x alpha?; elu(a) | where(a > 0, a, b * expm1(where(a > 0, 0, a))); nn.elu
x; log(a / (1 - a)); scipy.special.logit
# Only the inverse of 0 shows its sign.
x y; where(where(a < 0, 1, 0) != where(b < 0 or 1 / b < 0, 1, 0), -a, a); numpy.copysign
"""


DERIVED = [Derived(*cells) for cells in _rows(_DERIVED)]
"""Functions of jax and of symbolic regression that are short formulas here. An
argument that a formula reads more than once gets a name first."""


def templates() -> Iterator[Derived]:
    """Yield every function and operator that importers convert, as a formula.

    A later row replaces an earlier one of the same name. Reductions are left out.
    """
    for name, row in FUNCTIONS.items():
        if row.rule in ("map", "test", "where"):
            arguments = ", ".join("abcd"[: row.least])
            parameters = "condition x y" if row.rule == "where" else "x y z w"
            parameters = " ".join(parameters.split()[: row.least])
            symbolic = " ".join((name, *row.symbolic))
            call = f"{name}({arguments})"
            yield Derived(parameters, call, " ".join(row.jax), symbolic)
    for table, parameters, formula in (
        (UNARY_OPERATORS, "x", "{} a"),
        (OPERATORS, "x y", "a {} b"),
    ):
        for symbol, row in table.items():
            paths = f"numpy.{row.jax} lax.{row.lax}" if row.lax else f"numpy.{row.jax}"
            yield Derived(parameters, formula.format(symbol), paths, row.symbolic)
    yield from DERIVED


NUMBERS = {"pi": math.pi, "e": math.e, "euler_gamma": 0.5772156649015329}
"""The constants of jax.numpy."""
SYMBOLIC_NUMBERS = {
    **dict.fromkeys(("pi", "π"), math.pi),
    **dict.fromkeys(("E", "ℯ"), math.e),
    "GoldenRatio": (1 + math.sqrt(5)) / 2,
    "EulerGamma": NUMBERS["euler_gamma"],
}
"""The constants that Julia and SymPy print."""

_COMPLEX = "complex numbers are not part of the language; search over real functions"
_INFINITE = "this is not a finite number; the expression has no value where it occurs"
_SPECIAL = "the language has no such function; leave it out of the search"
NOT_HERE: dict[str, str] = {
    **dict.fromkeys(("I", "re", "im", "arg", "conj", "conjugate", "complex"), _COMPLEX),
    **dict.fromkeys(("nan", "NaN", "oo", "zoo", "inf", "Inf"), _INFINITE),
    **dict.fromkeys(("LambertW", "factorial", "binomial", "besselj"), _SPECIAL),
    **dict.fromkeys(
        ("Derivative", "Integral", "Sum", "Product", "Limit", "Subs", "DiracDelta"),
        "only the value of an element can be computed; call doit() on the expression",
    ),
    "sinc": "Julia's sinc(x) is sin(pi*x)/(pi*x) and SymPy's is sin(x)/x; write the "
    "quotient that is meant",
    **dict.fromkeys(
        ("rand", "randn"),
        "random numbers cannot be drawn here; pass the input rand as a variable",
    ),
}
"""Why names that symbolic regression prints are not part of the language."""
