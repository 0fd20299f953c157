"""The language: tables of limits, inputs, operators and functions, and the tree.

The reader, the checker, the evaluator, the printers and the importers all read these
tables. To add a function, add a row to ``FUNCTIONS``; where one jax function does not
compute it, add its implementation to ``_evaluate`` as well.
"""

import ast
import dataclasses
import keyword
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from learned_opt_rl.errors import ExpressionError

Kind: TypeAlias = Literal["optimizer", "drift"]


class Limits:
    """Bounds within which any text is read, checked and printed in under a second.

    The longest published function has 123 operations and operands.
    """

    CHARACTERS = 16 * 1024
    NODES = 2048
    DEPTH = 64
    MEMORY = 32
    NAME = 64
    DIGITS = 40
    # The cube of a number up to here is still finite in float32.
    MAGNITUDE = 1e12
    ARGUMENTS = 16


class Type(NamedTuple):
    """The type of a value."""

    boolean: bool  # a condition rather than a real number
    elementwise: bool  # one value per parameter (or sample) rather than one for all


SCALAR = Type(boolean=False, elementwise=False)
ELEMENTWISE = Type(boolean=False, elementwise=True)

INPUTS: dict[str, dict[str, Type]] = {
    "optimizer": {
        **dict.fromkeys(("p", "g", "dorm", "rand"), ELEMENTWISE),
        **dict.fromkeys(("t_p", "b_p", "l_p", "lr", "iteration"), SCALAR),
    },
    "drift": dict.fromkeys(("r", "A", "log_r"), ELEMENTWISE),
}
"""By kind, the inputs that a function may declare."""


class Operator(NamedTuple):
    """One operator."""

    syntax: type[ast.AST]
    binding: int  # its precedence; higher binds tighter, and ** groups to the right
    jax: str  # the function of jax.numpy
    latex: str = ""  # empty where the printer has a form of its own


OPERATORS: dict[str, Operator] = {
    "or": Operator(ast.Or, 1, "logical_or", r"\lor"),
    "and": Operator(ast.And, 2, "logical_and", r"\land"),
    "<": Operator(ast.Lt, 4, "less", "<"),
    "<=": Operator(ast.LtE, 4, "less_equal", r"\le"),
    ">": Operator(ast.Gt, 4, "greater", ">"),
    ">=": Operator(ast.GtE, 4, "greater_equal", r"\ge"),
    "==": Operator(ast.Eq, 4, "equal", "="),
    "!=": Operator(ast.NotEq, 4, "not_equal", r"\ne"),
    "+": Operator(ast.Add, 5, "add", "+"),
    "-": Operator(ast.Sub, 5, "subtract", "-"),
    "*": Operator(ast.Mult, 6, "multiply"),
    "/": Operator(ast.Div, 6, "divide"),
    "**": Operator(ast.Pow, 8, "power"),
}
UNARY_OPERATORS: dict[str, Operator] = {
    "not": Operator(ast.Not, 3, "logical_not", r"\lnot "),
    "-": Operator(ast.USub, 7, "negative", "-"),
}
LOGICAL = ("and", "or", "not")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
SYMBOLS = {
    row.syntax: symbol for symbol, row in [*OPERATORS.items(), *UNARY_OPERATORS.items()]
}

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


def _row(
    rule: Rule, latex: str, jax: str = "", least: int = 1, most: int | None = None
) -> Builtin:
    """Build a row; LaTeX without ``#`` is a name to call with all arguments."""
    if "#" not in latex:
        name = latex if latex[0] == "\\" else rf"\operatorname{{{latex}}}"
        latex = rf"{name}\left(#*\right)"
    return Builtin(rule, latex, tuple(jax.split()), least, most or least)


FUNCTIONS: dict[str, Builtin] = {
    "sin": _row("map", r"\sin", "numpy.sin lax.sin"),
    "cos": _row("map", r"\cos", "numpy.cos lax.cos"),
    "tan": _row("map", r"\tan", "numpy.tan lax.tan"),
    "sinh": _row("map", r"\sinh", "numpy.sinh"),
    "cosh": _row("map", r"\cosh", "numpy.cosh"),
    "tanh": _row("map", r"\tanh", "numpy.tanh lax.tanh nn.tanh"),
    "arctan": _row("map", r"\arctan", "numpy.arctan"),
    "exp": _row("map", r"\exp\left(#1\right)", "numpy.exp lax.exp"),
    "expm1": _row(
        "map", r"\left(\exp\left(#1\right) - 1\right)", "numpy.expm1 lax.expm1"
    ),
    "log": _row("map", r"\log", "numpy.log lax.log"),
    "log1p": _row("map", r"\log\left(1 + #1\right)", "numpy.log1p lax.log1p"),
    "log2": _row("map", r"\log_{2}\left(#1\right)", "numpy.log2"),
    "log10": _row("map", r"\log_{10}\left(#1\right)", "numpy.log10"),
    "sqrt": _row("map", r"\sqrt{#1}", "numpy.sqrt lax.sqrt"),
    "rsqrt": _row("map", r"\frac{1}{\sqrt{#1}}", "lax.rsqrt"),
    "cbrt": _row("map", r"\sqrt[3]{#1}", "numpy.cbrt lax.cbrt"),
    "square": _row("map", r"\left(#1\right)^{2}", "numpy.square lax.square"),
    "abs": _row(
        "map", r"\left\lvert #1 \right\rvert", "numpy.abs numpy.absolute lax.abs"
    ),
    "sign": _row("map", "sgn", "numpy.sign lax.sign"),
    "floor": _row("map", r"\left\lfloor #1 \right\rfloor", "numpy.floor lax.floor"),
    "ceil": _row("map", r"\left\lceil #1 \right\rceil", "numpy.ceil lax.ceil"),
    "round": _row("map", "round", "numpy.round"),
    "relu": _row("map", "relu", "nn.relu"),
    "sigmoid": _row("map", "sigmoid", "nn.sigmoid"),
    "softplus": _row("map", "softplus", "nn.softplus"),
    "silu": _row("map", "silu", "nn.silu nn.swish"),
    "elu": _row("map", "elu", "nn.elu"),
    "gelu": _row("map", "gelu", "nn.gelu"),
    "leaky_relu": _row("map", "leakyrelu", "nn.leaky_relu"),
    "erf": _row("map", "erf", "lax.erf scipy.special.erf"),
    "stop_gradient": _row("map", "stopgradient", "lax.stop_gradient"),
    "min": _row("map", r"\min", "numpy.minimum lax.min", 2, Limits.ARGUMENTS),
    "max": _row("map", r"\max", "numpy.maximum lax.max", 2, Limits.ARGUMENTS),
    "clip": _row("map", "clip", "numpy.clip lax.clamp", 3),
    "nan_to_num": _row("map", "nantonum", "numpy.nan_to_num", 4),
    "isnan": _row("test", "isnan", "numpy.isnan"),
    "isfinite": _row("test", "isfinite", "numpy.isfinite"),
    "where": _row(
        "where",
        r"\begin{cases} #2 & \text{if } #1 \\ #3 & \text{otherwise} \end{cases}",
        "numpy.where lax.select",
        3,
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
``nan_to_num(x, nan, above, below)`` take their arguments in this order; ``min`` and
``max`` take two or more."""

DECLARATIONS = ("inputs", "memory", "constant")
RESERVED = frozenset(
    {*FUNCTIONS, *DECLARATIONS, *INPUTS, "momentum", "true", "false", *keyword.kwlist}
)
"""Words that cannot be the name of a memory slot, a constant or a local."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_name(text: str) -> bool:
    """Return whether ``text`` has the form of a name (it may still be reserved)."""
    return len(text) <= Limits.NAME and _NAME.fullmatch(text) is not None


# ------------------------------------------------------------------------ the tree

# Nodes are frozen values, compared and hashed without their positions.
Position: TypeAlias = tuple[int, int]
"""Line and column, both counted from 1; ``NOWHERE`` for a node without a text."""

NOWHERE: Position = (0, 0)


def _position() -> Position:
    return dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number, finite and not negative (a minus sign is a `Unary`)."""

    value: float
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The current value of an input, a memory slot, a constant or a local."""

    name: str
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Unary:
    """``-x`` or ``not x``."""

    operator: str
    operand: "Expression"
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``, with an operator of ``OPERATORS``."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """``function(arguments...)``, with a function of ``FUNCTIONS``."""

    function: str
    arguments: tuple["Expression", ...]
    at: Position = _position()


Expression: TypeAlias = Number | Name | Unary | Binary | Call


@dataclasses.dataclass(frozen=True, slots=True)
class Assign:
    """``target = value``: a new local, or the next value of a memory slot."""

    target: str
    value: Expression
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """A named number that callers may replace."""

    name: str
    value: float
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A float per parameter, carried from step to step.

    The body assigns a slot whose ``decay`` is ``None``. Any other is a momentum, which
    follows ``decay * m + (1 - decay) * g`` before the body runs.
    """

    name: str
    initial: float = 0.0
    decay: float | None = None
    at: Position = _position()


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the direct operands of a node."""
    match expression:
        case Unary():
            return (expression.operand,)
        case Binary():
            return (expression.left, expression.right)
        case Call():
            return expression.arguments
    return ()


def walk(expression: Expression) -> Iterator[tuple[Expression, int]]:
    """Yield every node with its depth (the root has 1), without recursion."""
    pending = [(expression, 1)]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        pending.extend((child, depth + 1) for child in children(node))


def names_in(expression: Expression) -> frozenset[str]:
    """Return the names that an expression reads."""
    return frozenset(n.name for n, _ in walk(expression) if isinstance(n, Name))


def shorten(shown: str) -> str:
    """Cut a text of any length to what fits into a message."""
    return shown if len(shown) <= 40 else shown[:37] + "..."


def error(
    problem: str, at: Position, category: str = "syntax_error"
) -> ExpressionError:
    """Build an `ExpressionError` at a position, or without one for ``NOWHERE``."""
    line, column = at if at != NOWHERE else (None, None)
    return ExpressionError(problem, line, column, category)
