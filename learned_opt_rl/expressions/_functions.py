"""The functions of the language, and the names that they have elsewhere.

The checker, the evaluator, the printers and the importers all read this table. To add a
function, add a row to ``FUNCTIONS``; where one jax function does not compute it, add
its implementation to ``_evaluate`` as well. A function of jax, PySR or SymPy that a
formula of the language expresses is a row of ``DERIVED`` instead.
"""

import keyword
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from learned_opt_rl.expressions._language import (
    DECLARATIONS,
    INPUTS,
    OPERATORS,
    UNARY_OPERATORS,
    Limits,
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


def _row(
    rule: Rule,
    latex: str,
    jax: str = "",
    least: int = 1,
    most: int | None = None,
    symbolic: str = "",
) -> Builtin:
    """Build a row; LaTeX without ``#`` is a name to call with all arguments."""
    if "#" not in latex:
        name = latex if latex[0] == "\\" else rf"\operatorname{{{latex}}}"
        latex = rf"{name}\left(#*\right)"
    names = tuple(symbolic.split())
    return Builtin(rule, latex, tuple(jax.split()), least, most or least, names)


_MOST = Limits.ARGUMENTS
FUNCTIONS: dict[str, Builtin] = {
    "sin": _row("map", r"\sin", "numpy.sin lax.sin"),
    "cos": _row("map", r"\cos", "numpy.cos lax.cos"),
    "tan": _row("map", r"\tan", "numpy.tan lax.tan"),
    "arcsin": _row(
        "map", r"\arcsin", "numpy.arcsin numpy.asin lax.asin", symbolic="asin safe_asin"
    ),
    "arccos": _row(
        "map", r"\arccos", "numpy.arccos numpy.acos lax.acos", symbolic="acos safe_acos"
    ),
    "arctan": _row(
        "map", r"\arctan", "numpy.arctan numpy.atan lax.atan", symbolic="atan"
    ),
    "arctan2": _row(
        "map", r"\arctan2", "numpy.arctan2 numpy.atan2 lax.atan2", 2, symbolic="atan2"
    ),
    "sinh": _row("map", r"\sinh", "numpy.sinh lax.sinh"),
    "cosh": _row("map", r"\cosh", "numpy.cosh lax.cosh"),
    "tanh": _row("map", r"\tanh", "numpy.tanh lax.tanh nn.tanh"),
    "arcsinh": _row(
        "map", "arsinh", "numpy.arcsinh numpy.asinh lax.asinh", symbolic="asinh"
    ),
    "arccosh": _row(
        "map",
        "arcosh",
        "numpy.arccosh numpy.acosh lax.acosh",
        symbolic="acosh safe_acosh",
    ),
    "arctanh": _row(
        "map",
        "artanh",
        "numpy.arctanh numpy.atanh lax.atanh",
        symbolic="atanh safe_atanh",
    ),
    "exp": _row("map", r"\exp\left(#1\right)", "numpy.exp lax.exp"),
    "expm1": _row(
        "map", r"\left(\exp\left(#1\right) - 1\right)", "numpy.expm1 lax.expm1"
    ),
    "log": _row("map", r"\log", "numpy.log lax.log", symbolic="safe_log"),
    "log1p": _row(
        "map",
        r"\log\left(1 + #1\right)",
        "numpy.log1p lax.log1p",
        symbolic="safe_log1p",
    ),
    "log2": _row("map", r"\log_{2}\left(#1\right)", "numpy.log2", symbolic="safe_log2"),
    "log10": _row(
        "map", r"\log_{10}\left(#1\right)", "numpy.log10", symbolic="safe_log10"
    ),
    "sqrt": _row("map", r"\sqrt{#1}", "numpy.sqrt lax.sqrt", symbolic="safe_sqrt Sqrt"),
    "rsqrt": _row("map", r"\frac{1}{\sqrt{#1}}", "lax.rsqrt"),
    "cbrt": _row("map", r"\sqrt[3]{#1}", "numpy.cbrt lax.cbrt", symbolic="Cbrt"),
    "hypot": _row("map", "hypot", "numpy.hypot", 2),
    "square": _row("map", r"\left(#1\right)^{2}", "numpy.square lax.square"),
    "abs": _row(
        "map",
        r"\left\lvert #1 \right\rvert",
        "numpy.abs numpy.absolute numpy.fabs lax.abs",
        symbolic="Abs",
    ),
    "sign": _row("map", "sgn", "numpy.sign lax.sign"),
    "floor": _row("map", r"\left\lfloor #1 \right\rfloor", "numpy.floor lax.floor"),
    "ceil": _row(
        "map", r"\left\lceil #1 \right\rceil", "numpy.ceil lax.ceil", symbolic="ceiling"
    ),
    "round": _row("map", "round", "numpy.round numpy.rint"),
    "relu": _row("map", "relu", "nn.relu"),
    "sigmoid": _row("map", "sigmoid", "nn.sigmoid lax.logistic scipy.special.expit"),
    "softplus": _row("map", "softplus", "nn.softplus"),
    "silu": _row("map", "silu", "nn.silu nn.swish"),
    "elu": _row("map", "elu", "nn.elu"),
    "gelu": _row("map", "gelu", "nn.gelu"),
    "leaky_relu": _row("map", "leakyrelu", "nn.leaky_relu"),
    "erf": _row("map", "erf", "lax.erf scipy.special.erf"),
    "erfc": _row("map", "erfc", "lax.erfc scipy.special.erfc"),
    # Not gamma, which is a common name for a constant.
    "gamma_function": _row("map", r"\Gamma", "scipy.special.gamma", symbolic="gamma"),
    "stop_gradient": _row("map", "stopgradient", "lax.stop_gradient"),
    "mod": _row(
        "map",
        r"\left(#1 \bmod #2\right)",
        "numpy.mod numpy.remainder",
        2,
        symbolic="Mod",
    ),
    "floor_divide": _row(
        "map",
        r"\left\lfloor \frac{#1}{#2} \right\rfloor",
        "numpy.floor_divide",
        2,
        symbolic="fld",
    ),
    "min": _row("map", r"\min", "numpy.minimum lax.min", 2, _MOST, "Min fmin"),
    "max": _row("map", r"\max", "numpy.maximum lax.max", 2, _MOST, "Max fmax"),
    "clip": _row("map", "clip", "numpy.clip lax.clamp", 3, symbolic="clamp"),
    "nan_to_num": _row("map", "nantonum", "numpy.nan_to_num", 1, 4),
    "isnan": _row("test", "isnan", "numpy.isnan"),
    "isfinite": _row("test", "isfinite", "numpy.isfinite lax.is_finite"),
    "where": _row(
        "where",
        r"\begin{cases} #2 & \text{if } #1 \\ #3 & \text{otherwise} \end{cases}",
        "numpy.where lax.select",
        3,
        symbolic="ifelse ITE",
    ),
    "norm": _row("reduce", r"\left\lVert #1 \right\rVert_{2}", "numpy.linalg.norm"),
    "mean": _row("reduce", "mean", "numpy.mean"),
    "sum": _row("reduce", "sum", "numpy.sum"),
    "variance": _row("reduce", "var", "numpy.var"),
    "std": _row("reduce", "std", "numpy.std"),
    "median": _row("reduce", "median", "numpy.median"),
    "max_all": _row("reduce", r"\max_{i}\left(#1\right)", "numpy.max numpy.amax"),
    "min_all": _row("reduce", r"\min_{i}\left(#1\right)", "numpy.min numpy.amin"),
    "size": _row("reduce", "size"),
    "rms_normalize": _row("normalize", "rms"),
}
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


_HARD_SIGMOID = "min(max(a + 3, 0), 6) / 6"
# The sum is infinite where the difference of two infinities is NaN.
_LOGADDEXP = "where(isnan(a - b), a + b, max(a, b) + log1p(exp(-abs(a - b))))"
DERIVED: tuple[Derived, ...] = (
    Derived("x", "a", "numpy.positive", "Integer Float S"),
    Derived("p q", "a / b", "numpy.true_divide", "Rational"),
    Derived("x", "1 / a", "numpy.reciprocal lax.reciprocal", "inv"),
    Derived("x", "a**3", "", "cube"),
    Derived("x y", "a**b", "numpy.pow numpy.float_power lax.integer_pow"),
    Derived("x", "2**a", "numpy.exp2 lax.exp2", "exp2"),
    Derived("x", "10**a", "", "exp10"),
    Derived("x base?", "log(a) | log(a) / log(b)", "", "log"),
    Derived("x y", _LOGADDEXP, "numpy.logaddexp"),
    # The protected functions of PySR before version 1 and of Operon.
    Derived("x y", "abs(a)**b", "", "pow_abs powabs"),
    Derived("x", "sqrt(abs(a))", "", "sqrt_abs sqrtabs"),
    Derived("x", "log(abs(a))", "", "log_abs logabs"),
    Derived("x", "log2(abs(a))", "", "log2_abs"),
    Derived("x", "log10(abs(a))", "", "log10_abs"),
    Derived("x", "log1p(abs(a))", "", "log1p_abs"),
    Derived("x", "arccosh(abs(a) + 1)", "", "acosh_abs"),
    Derived("x", "arctanh(mod(a + 1, 2) - 1)", "", "atanh_clip"),
    Derived("x y", "a / sqrt(1 + b**2)", "", "aq"),
    Derived("x y", "where(a, b, 0)", "", "cond"),
    Derived("x y z", "a * b + c", "", "fma muladd"),
    Derived("x", "1 / cos(a)", "", "sec"),
    Derived("x", "1 / sin(a)", "", "csc"),
    Derived("x", "1 / tan(a)", "", "cot"),
    Derived("x", "1 / cosh(a)", "", "sech"),
    Derived("x", "1 / sinh(a)", "", "csch"),
    Derived("x", "1 / tanh(a)", "", "coth"),
    Derived("x", "a - floor(a)", "", "frac"),
    Derived("x", "sign(a) * floor(abs(a))", "numpy.trunc numpy.fix", "trunc"),
    Derived("x y", "sign(a) * mod(abs(a), abs(b))", "numpy.fmod lax.rem", "rem"),
    # SymPy's value at 0 is 1/2 unless it is given.
    Derived(
        "x zero?",
        "where(a > 0, 1, where(a < 0, 0, 0.5)) | where(a > 0, 1, where(a < 0, 0, b))",
        "",
        "Heaviside",
    ),
    Derived(
        "x zero",
        "where(a > 0, 1, where(a < 0, 0, where(isnan(a), a, b)))",
        "numpy.heaviside",
    ),
    Derived("x y", "where(a, 1, 0) != where(b, 1, 0)", "numpy.logical_xor", "xor Xor"),
    Derived("x", "not (isfinite(a) or isnan(a))", "numpy.isinf"),
    Derived("x y", "where(isnan(a), b, where(isnan(b), a, max(a, b)))", "numpy.fmax"),
    Derived("x y", "where(isnan(a), b, where(isnan(b), a, min(a, b)))", "numpy.fmin"),
    Derived("x", "-softplus(-a)", "nn.log_sigmoid"),
    Derived("x", "a / (abs(a) + 1)", "nn.soft_sign"),
    Derived("x", "min(max(a, 0), 6)", "nn.relu6"),
    Derived("x", _HARD_SIGMOID, "nn.hard_sigmoid"),
    Derived("x", f"a * ({_HARD_SIGMOID})", "nn.hard_silu nn.hard_swish"),
    Derived("x", "where(a > 1, 1, where(a < -1, -1, a))", "nn.hard_tanh"),
    Derived("x", "a * tanh(softplus(a))", "nn.mish"),
    Derived(
        "x negative_slope?",
        "leaky_relu(a) | where(a >= 0, a, b * a)",
        "nn.leaky_relu",
    ),
    Derived(
        "x alpha?",
        "elu(a) | where(a > 0, a, b * expm1(where(a > 0, 0, a)))",
        "nn.elu",
    ),
    Derived("x", "log(a / (1 - a))", "scipy.special.logit"),
    Derived(
        "x alpha?",
        "max(a, 0) + expm1(min(a, 0)) | max(a, 0) + b * expm1(min(a, 0) / b)",
        "nn.celu",
    ),
    Derived("x", "(a + sqrt(a * a + 4)) / 2", "nn.squareplus"),
    Derived(
        "x",
        "1.0507009873554805 * where(a > 0, a, 1.6732632423543772"
        " * expm1(where(a > 0, 0, a)))",
        "nn.selu",
    ),
    Derived("which x y", "where(a, c, b)", "lax.select_n"),
    Derived("x", "a * 0.017453292519943295", "numpy.deg2rad numpy.radians"),
    Derived(
        "x",
        "where(a == 0, 1, sin(3.141592653589793 * where(a == 0, 1, a))"
        " / (3.141592653589793 * where(a == 0, 1, a)))",
        "numpy.sinc",
    ),
    # Only the inverse of 0 shows its sign.
    Derived("x", "a < 0 or 1 / a < 0", "numpy.signbit"),
    Derived(
        "x y",
        "where(where(a < 0, 1, 0) != where(b < 0 or 1 / b < 0, 1, 0), -a, a)",
        "numpy.copysign",
    ),
)
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


NUMBERS = {
    "pi": math.pi,
    "e": math.e,
    "euler_gamma": 0.5772156649015329,
}
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
