"""What is a valid text, what is not, and how errors tell."""

import dataclasses
import subprocess
import sys

import pytest

from learned_opt_rl.expressions import ExpressionError, Function, parse
from learned_opt_rl.expressions._language import (
    Assign,
    Binary,
    Call,
    Constant,
    Memory,
    Name,
    Number,
    Unary,
)

G = Name("g")


def returned(expression, declarations="inputs g, p, t_p"):
    """The tree of an expression, with the inputs kept in use."""
    names = declarations.removeprefix("inputs ").split(", ")
    unused = " + ".join(f"0 * {name}" for name in names)
    text = f"optimizer\n{declarations}\nrest = {unused}\nreturn rest + ({expression})"
    return parse(text).result.right


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("g + p * t_p", "g + (p * t_p)"),
        ("g - p - t_p", "(g - p) - t_p"),
        ("g / p * t_p", "(g / p) * t_p"),
        ("-g**2", "-(g**2)"),
        ("-g * p", "(-g) * p"),
        ("g**p**t_p", "g**(p**t_p)"),
        ("2**-g**p", "2**(-(g**p))"),
        ("2**-g * p", "(2**(-g)) * p"),
        ("--g", "-(-g)"),
        ("g - -p", "g - (-p)"),
        (
            "where(not g < p and p > 0 or t_p == 1, 1, 2)",
            "where(((not (g < p)) and (p > 0)) or (t_p == 1), 1, 2)",
        ),
        ("where(g + 1 < p * 2, 1, 2)", "where((g + 1) < (p * 2), 1, 2)"),
        ("g +\n p", "g + p"),
        ("max(g,\n\n # why\n p)", "max(g, p)"),
        (".5 * g", "0.5 * g"),
        ("5. * g", "5 * g"),
        ("1E-3 * g", "0.001 * g"),
    ],
)
def test_precedence(text, same):
    if "\n" in text and "(" not in text:
        text = f"({text})"
    assert returned(text) == returned(same)


def test_parts_of_a_function():
    function = parse(
        """
        # A comment, then a blank line.

        optimizer  # and another
        inputs g, lr
        memory v = -0.5
        memory m_0_9 = momentum(0.9)
        constant c = 1e-3
        v = c * v + g
        return lr * v * m_0_9
        """
    )
    assert function == Function(
        kind="optimizer",
        inputs=("g", "lr"),
        memory=(Memory("v", -0.5), Memory("m_0_9", decay=0.9)),
        constants=(Constant("c", 0.001),),
        body=(Assign("v", Binary("+", Binary("*", Name("c"), Name("v")), Name("g"))),),
        result=Binary("*", Binary("*", Name("lr"), Name("v")), Name("m_0_9")),
    )
    assert hash(function) == hash(parse(function.to_text()))
    assert function != dataclasses.replace(function, constants=(Constant("c", 0.002),))


def test_windows_line_ends():
    assert parse("optimizer\r\ninputs g\r\nreturn g\r\n") == parse(
        "optimizer\ninputs g\nreturn g"
    )


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-8, "1e-8"),
        (1.5e-8, "1.5e-8"),
        (123456789.0, "123456789"),
        (1e7, "1e7"),
        (1e12, "1e12"),
        (1 / 3, "0.3333333333333333"),
        (5e-324, "5e-324"),
    ],
)
def test_numbers_print_short_and_come_back(value, printed):
    function = Function(
        "drift", ("r",), (), (), (), Binary("*", Number(value), Name("r"))
    )
    assert function.to_text().splitlines()[-1] == f"return {printed} * r"
    assert parse(function.to_text()) == function


ERRORS = [
    # What the text lacks.
    ("", (1, 1), "the text is empty; begin with optimizer or drift"),
    ("inputs g", (1, 1), "the first line does not name the kind; begin with optimizer"),
    ("optimizer\ninputs g\n", (3, 1), "the return is missing; end with: return ..."),
    ("optimizer\ninputs g\nreturn", (3, 1), "return has no value; write an expr"),
    ("optimizer\nreturn 1\nx = 2", (3, 1), "a statement after return has no effect"),
    # Characters.
    ("drift\ninputs r\nreturn r^2", (3, 9), "write ** for a power"),
    ("drift\ninputs r\nreturn r[0]", (3, 9), "the language has no indexing"),
    ("drift\ninputs r\nreturn 2r", (3, 8), "invalid decimal literal at '2r'; write"),
    ("drift\ninputs r\nreturn r + é", (3, 12), r"unexpected character '\xe9'; remove"),
    ("drift\ninputs r\nreturn 1.2.3", (3, 11), "invalid syntax at '.3'"),
    # Grammar.
    ("drift\ninputs r\nreturn (r", (3, 8), "'(' was never closed"),
    ("drift\ninputs r\nreturn r)", (3, 9), "unmatched ')'"),
    ("drift\ninputs r\nreturn r r", (3, 10), "invalid syntax at 'r'; write name = ..."),
    ("drift\ninputs r\nreturn + r", (3, 8), "a plus sign before a value has no effect"),
    ("drift\ninputs r\nreturn r <", (3, 11), "invalid syntax at the end of the line"),
    ("drift\ninputs r\nretrun r", (3, 8), "did you mean 'return'?"),
    ("drift\ninputs r\n3 = r", (3, 1), "cannot assign to literal"),
    (
        "drift\ninputs r\nreturn where(0 < r < 1, 1, 0)",
        (3, 14),
        "comparisons do not chain; write a < b and b < c",
    ),
    ("drift\ninputs r\nreturn exp", (3, 8), "'exp' is a function; write exp(...)"),
    ("drift\ninputs r\nreturn r()", (3, 8), "unknown function 'r'"),
    # Declarations.
    ("drift\ninputs g\nreturn g", (2, 8), "'g' is not an input of a drift"),
    (
        "optimizer\ninputs g, m\nreturn g",
        (2, 11),
        "'m' is not an input of an opt",
    ),
    ("drift\ninputs r, r\nreturn r", (2, 11), "'r' is declared twice; drop one"),
    ("drift\ninputs r\ninputs A\nreturn r", (3, 1), "inputs is written twice"),
    ("drift\ninputs r\nconstant = 3\nreturn r", (3, 1), "write constant eps = 0.2"),
    (
        "drift\ninputs r\nconstant c = r\nreturn r",
        (3, 14),
        "this is not a number",
    ),
    ("drift\ninputs r\nconstant c\nreturn r", (3, 10), "write constant eps = 0.2"),
    ("drift\ninputs r\nmemory v = 0\nreturn r", (3, 8), "a drift keeps no memory"),
    (
        "optimizer\ninputs p\nmemory v = momentum(0.9)\nreturn v * p",
        (3, 8),
        "'v' is a momentum of g, which is not declared; add g to the inputs",
    ),
    (
        "optimizer\ninputs g\nmemory v = momentum(1)\nreturn v",
        (3, 8),
        "momentum(1.0) does not decay; write a number between 0 and 1",
    ),
    (
        "optimizer\ninputs g\nx = g\nconstant c = 1\nreturn x * c",
        (4, 1),
        "constant comes after an assignment; declare it above line 3",
    ),
    ("drift\ninputs r\nconstant exp = 1\nreturn r", (3, 10), "a word of the language"),
    ("drift\ninputs r\nconstant A = 1\nreturn r", (3, 10), "is an input of a drift"),
    ("drift\ninputs r\nconstant c = 1e13\nreturn r*c", (3, 14), "a number is above"),
    ("drift\ninputs r\nreturn r * 1e400", (3, 12), "a number is above 1e+12"),
    # Names.
    ("drift\ninputs r\nreturn A", (3, 8), "the input 'A' is not declared; add it"),
    (
        "optimizer\ninputs g\nx = y\ny = g\nreturn x + y",
        (3, 5),
        "before line 4 assigns",
    ),
    ("optimizer\ninputs g\nx = x + g\nreturn x", (3, 5), "or declare: memory x = 0"),
    (
        "optimizer\ninputs g\nmoment = g\nreturn momemt",
        (4, 8),
        "unknown name 'momemt' (did you mean 'moment'?)",
    ),
    ("optimizer\ninputs g\nreturn tahn(g)", (3, 8), "did you mean 'tan' or 'tanh'"),
    ("optimizer\ninputs g\ng = 2 * g\nreturn g", (3, 1), "'g' is an input of an opti"),
    (
        "optimizer\ninputs g\nconstant c = 1\nc = c + g\nreturn c",
        (4, 1),
        "'c' is a constant; assign another name",
    ),
    (
        "optimizer\ninputs g\nmemory m = momentum(0.9)\nm = m + g\nreturn m",
        (4, 1),
        "'m' is a momentum and follows its own rule",
    ),
    # Types.
    (
        "drift\ninputs r\nreturn exp(r, r)",
        (3, 8),
        "exp(...) has 2 arguments; give it 1",
    ),
    ("drift\ninputs r\nreturn max(r)", (3, 8), "give it 2 or more"),
    ("drift\ninputs r\nreturn clip(r, 0)", (3, 8), "give it 3"),
    ("drift\ninputs r\nreturn r > 1", (3, 8), "write where(r > 1, 1, 0)"),
    (
        "drift\ninputs r\nreturn r * (r > 1)",
        (3, 13),
        "* needs a number, but r > 1 is a con",
    ),
    (
        "drift\ninputs r\nreturn where(r, 1, 0)",
        (3, 14),
        "needs a condition, but r is a num",
    ),
    ("drift\ninputs r\nreturn where(r and r > 1, 1, 0)", (3, 14), "write r != 0"),
    ("drift\ninputs r\nreturn -(r > 1)", (3, 10), "- needs a number"),
    ("drift\ninputs r\nreturn where(not r, 1, 0)", (3, 18), "not needs a condition"),
    ("drift\ninputs r\nreturn mean(r)", (3, 8), "a drift is a function of one sample"),
    (
        "optimizer\ninputs g, lr\nreturn g * norm(lr)",
        (3, 12),
        "norm(...) needs a whole tensor, but lr is one number; drop norm",
    ),
    (
        "optimizer\ninputs g\nmemory v = 0\nv = g > v\nreturn g",
        (4, 5),
        "a memory slot needs a number, but g > v is a condition",
    ),
    # What has no effect.
    ("drift\ninputs r, A\nreturn r", (2, 11), "the input 'A' has no effect"),
    ("drift\ninputs r\nconstant c = 1\nreturn r", (3, 10), "the constant 'c' has no"),
    ("drift\ninputs r\nx = r\nreturn r", (3, 1), "this value of 'x' has no effect"),
    ("drift\ninputs r\nx = 1\nx = r\nreturn x", (3, 1), "this value of 'x' has no"),
    ("optimizer\ninputs g\nmemory v = 0\nreturn g", (3, 8), "the memory 'v' has no"),
    (
        "optimizer\ninputs g\nmemory v = 0\nv = v + g\nreturn g",
        (4, 1),
        "this value of 'v' has no effect",
    ),
    ("optimizer\ninputs g\nmemory v = 1\nreturn g * v", (3, 8), "declare: constant v"),
    # Sizes.
    (
        "drift\n" + "#" * 16384,
        (1, 1),
        "the text has 16390 characters; write at most 16384",
    ),
    ("drift\ninputs r\nreturn " + "9" * 41, (3, 8), "a number has more than 40 digits"),
    ("drift\ninputs r\nreturn " + "x" * 65, (3, 8), "a name has 65 characters"),
    ("drift\ninputs r\nreturn " + "(" * 200, (3, 72), "nested more than 64"),
    (
        "drift\ninputs r\nreturn r" + " + r" * 64,
        (3, 8),
        "more than 64 operations deep",
    ),
    (
        "drift\ninputs r\nreturn max(" + "r, " * 16 + "r)",
        (3, 8),
        "max(...) has 17 arguments; no function takes more than 16",
    ),
    (
        "drift\ninputs r\nx = r\n" + f"x = x{' + r' * 60}\n" * 20 + "return x",
        None,
        "more than 2048 operations and operands",
    ),
    (
        "optimizer\ninputs g\n" + "".join(f"memory v{i} = 0\n" for i in range(33)),
        None,
        "the return is missing",
    ),
    (
        "optimizer\n"
        + "".join(f"memory v{i} = 0\n" for i in range(33))
        + "".join(f"v{i} = v{i} + 1\n" for i in range(33))
        + "return "
        + " + ".join(f"v{i}" for i in range(33)),
        (34, 8),
        "there are 33 memory slots; declare at most 32",
    ),
]


@pytest.mark.parametrize(("text", "place", "message"), ERRORS)
def test_errors_tell_place_problem_and_fix(text, place, message):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    error = caught.value
    assert message in str(error)
    assert isinstance(error, ValueError)
    if place is not None:
        assert (error.line, error.column) == place
        assert str(error).startswith(f"line {place[0]}, column {place[1]}: ")


def test_at_the_limits_a_text_is_valid():
    parse("drift\ninputs r\nreturn r" + " + r" * 63)
    parse("drift\ninputs r\nreturn " + "-" * 63 + "r")
    parse("drift\ninputs r\nreturn " + "(" * 64 + "r" + ")" * 64)
    text = "drift\ninputs r\nreturn r"
    parse(text + "\n#" + "x" * (16384 - len(text) - 2))


def test_not_a_string():
    with pytest.raises(TypeError, match="text is bytes; pass a string"):
        parse(b"drift")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"kind": "other"}, "kind='other'; pass 'optimizer'"),
        ({"inputs": ("r", "x")}, "'x' is not an input of a drift"),
        ({"result": Number(float("nan"))}, "a number is nan"),
        ({"result": Name("q")}, "unknown name 'q'"),
        ({"result": Call("system", (Name("r"),))}, "unknown function 'system'"),
        ({"body": (Assign("a b", Name("r")),)}, "'a b' cannot name a local"),
        ({"constants": (Constant("é", 1.0),)}, "cannot name a constant"),
        ({"result": Unary("not", Name("r"))}, "not needs a condition"),
    ],
)
def test_a_function_built_by_hand_is_checked_too(parts, message):
    whole = {
        "kind": "drift",
        "inputs": ("r",),
        "memory": (),
        "constants": (),
        "body": (),
        "result": Name("r"),
    }
    with pytest.raises(ExpressionError, match=message) as caught:
        Function(**{**whole, **parts})
    assert caught.value.line is None


def test_replacing_parts_checks_again():
    function = parse("drift\ninputs r, A\nreturn r * A")
    smaller = dataclasses.replace(function, inputs=("r",), result=Name("r"))
    assert smaller == parse("drift\ninputs r\nreturn r")
    with pytest.raises(ExpressionError, match="the input 'A' has no effect"):
        dataclasses.replace(function, result=Name("r"))


def test_a_tree_of_any_depth_is_refused_without_recursion():
    tree = Name("r")
    for _ in range(100_000):
        tree = Unary("-", tree)
    with pytest.raises(ExpressionError, match="more than 64 operations deep"):
        Function("drift", ("r",), (), (), (), tree)
    # Freeing a chain this long one by one keeps the interpreter's stack flat.
    while isinstance(tree, Unary):
        tree = tree.operand


def test_reading_and_printing_need_no_jax():
    code = (
        "import sys\n"
        "from learned_opt_rl.expressions import parse, from_python, from_pysr\n"
        "f = parse('drift\\ninputs r\\nreturn r')\n"
        "f.to_latex(), f.to_text(), f.init_constants()\n"
        "from_python('def f(ratio, advantage, epsilon): return ratio', 'drift')\n"
        "from_pysr('x0', ['r'], 'drift')\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\n"
        "f.init_memory(())\n"
        "assert 'jax' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
