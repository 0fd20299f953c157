"""What a function may read and call: the inputs of each kind, and the functions."""

import difflib
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["optimizer", "drift"]

MAX_CHARACTERS = 16 * 1024
MAX_NODES = 2048
MAX_DEPTH = 64
MAX_MEMORY = 32
MAX_NAME = 64
MAX_DIGITS = 40
MAX_MAGNITUDE = 1e12
MAX_ARGUMENTS = 16


class Type(NamedTuple):
    """What a value is.

    Attributes:
        boolean: A condition rather than a real number.
        elementwise: One value per parameter (or sample) rather than one for all.
    """

    boolean: bool
    elementwise: bool


SCALAR = Type(boolean=False, elementwise=False)
ELEMENTWISE = Type(boolean=False, elementwise=True)

INPUTS: dict[str, dict[str, Type]] = {
    "optimizer": {
        "p": ELEMENTWISE,
        "g": ELEMENTWISE,
        "dorm": ELEMENTWISE,
        "rand": ELEMENTWISE,
        "t_p": SCALAR,
        "b_p": SCALAR,
        "l_p": SCALAR,
        "lr": SCALAR,
        "iteration": SCALAR,
    },
    "drift": {"r": ELEMENTWISE, "A": ELEMENTWISE, "log_r": ELEMENTWISE},
}

Rule: TypeAlias = Literal["map", "test", "where", "reduce", "normalise"]


class Builtin(NamedTuple):
    """One function of the language.

    Attributes:
        rule: How it is typed. ``"map"``: numbers to a number, per element;
            ``"test"``: a number to a condition; ``"where"``: condition and two
            numbers; ``"reduce"``: a whole tensor to one number; ``"normalise"``: a
            whole tensor to a tensor.
        latex: Its LaTeX, with ``#1``, ``#2`` for the arguments and ``#*`` for all.
        least: Smallest number of arguments.
        most: Largest number of arguments.
    """

    rule: Rule
    latex: str
    least: int = 1
    most: int = 1


def _named(name: str) -> str:
    return rf"\operatorname{{{name}}}\left(#*\right)"


_MAPS = {
    **{
        name: Builtin("map", rf"\{name}\left(#*\right)")
        for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "log")
    },
    **{
        name: Builtin("map", _named(name))
        for name in ("relu", "sigmoid", "softplus", "silu", "elu", "gelu", "erf")
    },
    "leaky_relu": Builtin("map", _named("leakyrelu")),
    "exp": Builtin("map", r"\exp\left(#1\right)"),
    "expm1": Builtin("map", r"\left(\exp\left(#1\right) - 1\right)"),
    "log1p": Builtin("map", r"\log\left(1 + #1\right)"),
    "log2": Builtin("map", r"\log_{2}\left(#1\right)"),
    "log10": Builtin("map", r"\log_{10}\left(#1\right)"),
    "sqrt": Builtin("map", r"\sqrt{#1}"),
    "rsqrt": Builtin("map", r"\frac{1}{\sqrt{#1}}"),
    "cbrt": Builtin("map", r"\sqrt[3]{#1}"),
    "square": Builtin("map", r"\left(#1\right)^{2}"),
    "abs": Builtin("map", r"\left\lvert #1 \right\rvert"),
    "sign": Builtin("map", _named("sgn")),
    "floor": Builtin("map", r"\left\lfloor #1 \right\rfloor"),
    "ceil": Builtin("map", r"\left\lceil #1 \right\rceil"),
    "round": Builtin("map", _named("round")),
    "stop_gradient": Builtin("map", _named("stopgradient")),
    "min": Builtin("map", r"\min\left(#*\right)", 2, MAX_ARGUMENTS),
    "max": Builtin("map", r"\max\left(#*\right)", 2, MAX_ARGUMENTS),
    "clip": Builtin("map", _named("clip"), 3, 3),
    "nan_to_num": Builtin("map", _named("nantonum"), 4, 4),
}
_REDUCTIONS = {
    "norm": Builtin("reduce", r"\left\lVert #1 \right\rVert_{2}"),
    "mean": Builtin("reduce", _named("mean")),
    "sum": Builtin("reduce", _named("sum")),
    "variance": Builtin("reduce", _named("var")),
    "std": Builtin("reduce", _named("std")),
    "median": Builtin("reduce", _named("median")),
    "max_all": Builtin("reduce", r"\max_{i}\left(#1\right)"),
    "min_all": Builtin("reduce", r"\min_{i}\left(#1\right)"),
    "size": Builtin("reduce", _named("size")),
}
FUNCTIONS: dict[str, Builtin] = {
    **_MAPS,
    "isnan": Builtin("test", _named("isnan")),
    "isfinite": Builtin("test", _named("isfinite")),
    "where": Builtin(
        "where",
        r"\begin{cases} #2 & \text{if } #1 \\ #3 & \text{otherwise} \end{cases}",
        3,
        3,
    ),
    **_REDUCTIONS,
    "rms_normalise": Builtin("normalise", _named("rms")),
}
"""Every function, by name. ``clip(x, low, high)``, ``where(condition, a, b)`` and
``nan_to_num(x, nan, above, below)`` take their arguments in this order; ``min`` and
``max`` take two or more."""

STATEMENTS = ("inputs", "memory", "constant", "return")
RESERVED = frozenset(
    {*FUNCTIONS, *STATEMENTS, *INPUTS, "momentum", "and", "or", "not", "true", "false"}
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_name(text: str) -> bool:
    """Whether ``text`` has the form of a name (it may still be reserved)."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that offers the known names closest to ``name``, or all if few."""
    known = sorted(known)
    few = 12
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    if len(known) > few:
        return f"none of the {len(known)} known is like it"
    return "known here: " + (", ".join(known) if known else "nothing yet")
