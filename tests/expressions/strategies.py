"""Hypothesis strategies: valid functions, and texts of every degree of damage."""

import re

from hypothesis import strategies as st

from learned_opt_rl.expressions._function import function_of
from learned_opt_rl.expressions._functions import FUNCTIONS, RESERVED
from learned_opt_rl.expressions._language import (
    COMPARISONS,
    INPUTS,
    Assign,
    Binary,
    Call,
    Name,
    Number,
    Unary,
)
from tests.expressions import proposals, published

REAL = [name for name, b in FUNCTIONS.items() if b.rule == "map"]
TENSOR = [name for name, b in FUNCTIONS.items() if b.rule in ("reduce", "normalize")]
TENSOR_INPUTS = {"optimizer": ("p", "g", "dorm", "rand"), "drift": ("r", "A", "log_r")}

numbers = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 1e-8, 1e7, 17.0]),
    st.floats(0, 1e12, allow_nan=False),
).map(Number)


@st.composite
def reals(draw, kind, names, depth):
    """An expression that is a number."""
    choice = draw(st.integers(0, 9 if depth else 1))
    if choice == 0:
        return draw(numbers)
    if choice == 1:
        return Name(draw(st.sampled_from(names)))
    below = reals(kind, names, depth - 1)
    if choice == 2:
        return Unary("-", draw(below))
    if choice <= 6:
        operator = draw(st.sampled_from(["+", "-", "*", "/", "**"]))
        return Binary(operator, draw(below), draw(below))
    if choice == 7:
        condition = draw(conditions(kind, names, depth - 1))
        return Call("where", (condition, draw(below), draw(below)))
    if choice == 8 and kind == "optimizer":
        inner = Name(draw(st.sampled_from(TENSOR_INPUTS[kind])))
        return Call(draw(st.sampled_from(TENSOR)), (Binary("*", inner, draw(below)),))
    function = draw(st.sampled_from(REAL))
    builtin = FUNCTIONS[function]
    count = draw(st.integers(builtin.least, min(builtin.most, builtin.least + 1)))
    return Call(function, tuple(draw(below) for _ in range(count)))


@st.composite
def conditions(draw, kind, names, depth):
    """An expression that is a condition."""
    below = reals(kind, names, max(depth - 1, 0))
    choice = draw(st.integers(0, 4 if depth > 0 else 1))
    if choice <= 1:
        return Binary(draw(st.sampled_from(COMPARISONS)), draw(below), draw(below))
    if choice == 2:
        return Call(draw(st.sampled_from(["isnan", "isfinite"])), (draw(below),))
    parts = conditions(kind, names, depth - 1)
    if choice == 3:
        return Unary("not", draw(parts))
    return Binary(draw(st.sampled_from(["and", "or"])), draw(parts), draw(parts))


@st.composite
def functions(draw):
    """A valid function of either kind."""
    kind = draw(st.sampled_from(["optimizer", "drift"]))
    names = [*INPUTS[kind], "c", "big_constant"]
    slots = ("v", "w1") if kind == "optimizer" else ()
    names += [*slots, *(("m_0_9", "m_0_9999") if slots else ())]
    body = []
    targets = st.sampled_from(["x", "y", "long_name_2", *slots])
    for _ in range(draw(st.integers(0, 4))):
        target = draw(targets)
        body.append(Assign(target, draw(reals(kind, names, 3))))
        names = [*names, target]
    # Named, so that the result is likely to depend on the body.
    result = Binary("+", Name(names[-1]), draw(reals(kind, names, 4)))
    constants = {"c": draw(st.floats(-1e12, 1e12)) + 0.0, "big_constant": 1e12}
    return function_of(kind, body, result, constants, slots)


WORDS = sorted(RESERVED) + ["g", "r", "p", "A", "t_p", "x", "v", "m_0_9"]
SYMBOLS = list("+-*/^(),=<>#\n\n\n ") + ["<=", "==", "!=", "**", "&", ";", "é", "\0"]
NUMBERS = ["0", "1", "0.9", "1e-8", "1e999", "1.", ".5", "1e12", "9" * 50]
tokens = st.sampled_from(WORDS + SYMBOLS + NUMBERS)

soups = st.lists(tokens, max_size=60).map(" ".join)
headed_soups = st.tuples(
    st.sampled_from(["optimizer\ninputs g\nreturn ", "drift\ninputs r\nreturn "]), soups
).map("".join)
raw = st.one_of(
    st.text(max_size=300), st.binary(max_size=300).map(lambda b: b.decode("latin-1"))
)


@st.composite
def damaged(draw, originals):
    """A text with a few cuts, insertions, repetitions and swaps."""
    text = draw(originals)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        change = draw(st.integers(0, 3))
        if change == 0:
            text = text[:start] + text[stop:]
        elif change == 1:
            text = text[:start] + draw(tokens) + text[start:]
        elif change == 2:
            text = (
                text[:stop] + text[start:stop] * draw(st.integers(1, 40)) + text[stop:]
            )
        else:
            lines = text.split("\n")
            a, b = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines[a], lines[b] = lines[b], lines[a]
            text = "\n".join(lines)
    return text


@st.composite
def reworded(draw, originals, words):
    """A text with a few names or numbers replaced, so that most still parse."""
    parts = re.findall(r"\w+|\W+", draw(originals))
    places = [i for i, part in enumerate(parts) if part[0].isalnum()]
    known = sorted({part for part in parts if part[0].isalnum()} | set(words))
    for _ in range(draw(st.integers(1, 3))):
        parts[draw(st.sampled_from(places))] = draw(st.sampled_from(known))
    return "".join(parts)


stored = st.sampled_from([published.source(name) for name in published.IDS])
texts = st.one_of(
    raw,
    soups,
    headed_soups,
    damaged(stored),
    reworded(stored, WORDS + NUMBERS),
    damaged(functions().map(lambda f: f.to_text())),
)

PYTHON_WORDS = [
    *("def", "lambda", "return", "if", "else", "for", "in", "range", "while", "import"),
    *("jnp", "jax", "lax", ".", ":", "[", "]", "**", "&", "|", "~", "not", "and", "*"),
    *("jnp.where(", "jnp.exp(", "lax.cond(", "sum(", "zip(", "(", ")", ",", "=", "+="),
    *("\n    ", "\n", "g", "w", "var1", "x", "1", "2.5", "'a'", "None", "True", "_"),
    *("...", ":=", "yield", "await", "f'{x}'", "__class__", "@", "%", "//", "-1", "64"),
]
PYTHON_NAMES = "g w var1 var2 d t_p jnp exp where total x 0 1 2 17 2.5 key True"
_SOURCES = [proposals.source(f) for f in (*proposals.ARCHIVE, *proposals.OPEN)]
_FRAME = "def f(w, g, var1, var2, t, d, t_p, b_p, l_p, key):\n    "
python_soup = st.lists(st.sampled_from(PYTHON_WORDS), max_size=40).map(" ".join)
python = st.one_of(
    raw,
    python_soup,
    python_soup.map(lambda soup: _FRAME + soup + "\n    return g, var1, var2"),
    python_soup.map(lambda soup: _FRAME + "return g *" + soup + ", var1, var2"),
    damaged(st.sampled_from(_SOURCES)),
    *[reworded(st.sampled_from(_SOURCES), PYTHON_NAMES.split()) for _ in range(4)],
)
_atoms = st.sampled_from(["x0", "x1", "x2", "1.5", "1e-5", "-0.3", "x3", "9" * 30])
_formulas = st.recursive(
    _atoms,
    lambda below: st.one_of(
        st.tuples(
            below, st.sampled_from(["+", "-", "*", "/", "^", "**", ">"]), below
        ).map(" ".join),
        below.map(lambda inner: f"({inner})"),
        st.tuples(
            st.sampled_from(
                ["neg", "square", "tanh", "inv", "exp", "cube", "eval", "mean"]
            ),
            below,
        ).map(lambda parts: f"{parts[0]}({parts[1]})"),
        st.tuples(st.sampled_from(["max", "min", "Max"]), below, below).map(
            lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"
        ),
    ),
    max_leaves=20,
)
formulas = st.one_of(raw, _formulas, _formulas, damaged(_formulas))
