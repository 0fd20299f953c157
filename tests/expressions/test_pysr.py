"""Conversion of what symbolic regression prints."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.expressions import ExpressionError, from_pysr, parse
from tests.expressions import published

X = np.linspace(-2, 2, 41)
Y = np.linspace(3, 0.1, 41)
ATAN = np.arctan(X) - np.pi / 2
ARC = np.arcsinh(X) + np.arctanh(X / 3) + np.arccosh(Y + 1)
LOGS = np.log2(Y) + np.log10(Y) - np.log1p(Y)
ROUNDED = np.floor(X) + np.ceil(X) + np.ceil(Y) + np.round(X)


def value(expression, variables=("g", "p")):
    function = from_pysr(expression, variables)
    assert parse(function.to_text()) == function
    with published.x64():
        return np.asarray(function.evaluate({"g": X, "p": Y})[0])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("tanh(x0 * 2.0) - x1", np.tanh(X * 2) - Y),
        ("x0 ^ 2.0", X**2),
        ("x0**2 - (-x1)**3", X**2 + Y**3),
        ("neg(x0) + inv(x1)", -X + 1 / Y),
        ("square(x0) * cube(x1)", X**2 * Y**3),
        ("max(x0, x1) - min(x0, -0.5)", np.maximum(X, Y) - np.minimum(X, -0.5)),
        (
            "Max(x0, x1, 0.5) + Abs(Min(x0, x1))",
            np.maximum(np.maximum(X, Y), 0.5) + np.abs(np.minimum(X, Y)),
        ),
        ("relu(x0) / exp(-x1)", np.maximum(X, 0) / np.exp(-Y)),
        ("sin(cos(x0)) + log(x1) + sqrt(x1)", np.sin(np.cos(X)) + np.log(Y) + Y**0.5),
        ("abs(x0)*1.0e-5 + -1e3*sign(x0)", np.abs(X) * 1e-5 - 1e3 * np.sign(X)),
        ("((((x0))))", X),
        ("atan(x0) + asin(x0 / 3) - acos(x0 / 3)", 2 * np.arcsin(X / 3) + ATAN),
        ("asinh(x0) + atanh(x0/3) + acosh(x1 + 1)", ARC),
        ("log2(x1) + log10(x1) - log1p(x1)", LOGS),
        ("log(x1, 2)", np.log2(Y)),
        ("safe_sqrt(x1) + safe_log(x1) + safe_pow(x1, x0)", Y**0.5 + np.log(Y) + Y**X),
        ("erf(x0) + erfc(x0) + gamma(2.0)", np.full(41, 2.0)),
        ("floor(x0) + ceil(x0) + ceiling(x1) + round(x0)", ROUNDED),
        ("pow(x1, 2.0) + Pow(x1, x0) + pow_abs(x0, 2.0)", Y**2 + Y**X + X**2),
        ("greater(x0, x1) - (x0 <= x1)", np.where(X > Y, 1.0, -1.0)),
        ("max(0.1, (x0 > 0.479) - x1)", np.maximum(0.1, (X > 0.479) - Y)),
        ("(x0 > 0) + (x1 > 1)", (X > 0) * 1.0 + (Y > 1)),
        ("logical_or(x0, x1 - 1)", ((X > 0) | (Y > 1)) * 1.0),
        ("logical_and(x0, x1 - 1)", ((X > 0) & (Y > 1)) * 1.0),
        ("cond(x0, x1) - cond(x0 > x1, 2)", np.where(X > 0, Y, 0) - 2 * (X > Y)),
        ("ifelse(x0, x1, neg(x1))", np.where(X > 0, Y, -Y)),
        ("mod(x0, x1) + Mod(x0, -2)", np.mod(X, Y) + np.mod(X, -2)),
        ("clamp(x0, -1.0, 0.5) + fma(x0, x1, 2)", np.clip(X, -1, 0.5) + X * Y + 2),
        ("atan2(x0, x1) + exp2(x0) + +x1", np.arctan2(X, Y) + 2.0**X + Y),
        ("plus(x0, mult(x1, sub(x0, div(x1, 2))))", X + Y * (X - Y / 2)),
        ("pi*x0 + E*x1 + π", np.pi * X + np.e * Y + np.pi),
        ("Heaviside(x0) + Heaviside(x0, 1)", np.heaviside(X, 0.5) + np.heaviside(X, 1)),
        ("Piecewise((1.0, x0 > x1), (0.0, True))", (X > Y) * 1.0),
        (
            "Piecewise((x0, (x0 > 0) & (x1 > 1)), (x1, Eq(x0, -1)), (0, True))",
            np.where((X > 0) & (Y > 1), X, np.where(X == -1, Y, 0)),
        ),
        ("ITE(~(x0 > 0) | (x1 > 2), x0, 1)", np.where((X <= 0) | (Y > 2), X, 1)),
        ("Max(0, x0, x1)*x1**(1/2) + x0**2/3", np.maximum(X, Y) * Y**0.5 + X**2 / 3),
        ("12345678901234567/10000000000000000*x0", 1.2345678901234567 * X),
        ("2.5f-1*x0 + 1.0e-3", 0.25 * X + 1e-3),
        ("x₀ ^ 2 - x₁", X**2 - Y),
        ("y = x0 + 1", X + 1),
        ("-0.97 * (x0 - -1.5)", -0.97 * (X + 1.5)),
        ("0.25", np.full(41, 0.25)),
        ("tanh(0.5)", np.full(41, np.tanh(0.5))),
    ],
)
def test_conversion_equals_numpy(expression, expected):
    np.testing.assert_allclose(value(expression), expected, rtol=1e-12, atol=1e-14)


def test_variables_are_expressions():
    f = from_pysr("x0 + x2 * x1 + x2", ("log_r", "r - 1", "A"), "drift")
    assert f.to_text() == (
        "drift\ninputs r, A, log_r\nx1 = r - 1\nreturn log_r + A * x1 + A\n"
    )
    f = from_pysr(
        "x1 - x0", ("sign(m_0_99)", "rms_normalize(log(abs(m_0_999) + 1e-13))")
    )
    assert [slot.decay for slot in f.memory] == [0.99, 0.999]
    assert f.inputs == ("g",)


def test_a_constant_has_the_shape_of_the_leaf():
    f = from_pysr("0.5 * 2", ("g",))
    assert f.evaluate({"g": jnp.ones((2, 3))})[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("expression", "variables", "message"),
    [
        (
            "x2",
            ("g", "p"),
            "line 1, column 1: unknown variable 'x2'; the variables are x0",
        ),
        ("y + x0", ("g",), "unknown variable 'y'"),
        ("x00", ("g",), "unknown variable 'x00'"),
        ("x0 + sinh_(x0)", ("g",), "line 1, column 6: unknown function 'sinh_'"),
        ("mean(x0)", ("g",), "unknown function 'mean'"),
        ("eval(x0)", ("g",), "unknown function 'eval'"),
        ("x0 and x0", ("g",), "'and' is not an operator"),
        ("not x0", ("g",), "'not' is not an operator"),
        ("x0 x0", ("g",), "invalid syntax at 'x0'"),
        ("x0\nx0", ("g",), "this is not one expression"),
        ("min(x0)", ("g",), r"min(...) has 1 arguments; give it 2 or more"),
        ("tahn(x0)", ("g",), "unknown function 'tahn'; did you mean 'tan'"),
        (
            "x0 + sinc(x0)",
            ("g",),
            "line 1, column 6: 'sinc' cannot be converted; Julia",
        ),
        ("x0 + oo", ("g",), "'oo' cannot be converted; this is not a finite number"),
        ("x0*NaN", ("g",), "'NaN' cannot be converted; this is not a finite number"),
        ("re(x0)", ("g",), "'re' cannot be converted; complex numbers"),
        ("I*x0", ("g",), "'I' cannot be converted; complex numbers"),
        ("Integral(x0, x0)", ("g",), "call doit() on the expression"),
        ("Piecewise((x0, x0 > 0))", ("g",), "write Piecewise((a, condition), (b, True"),
        ("Piecewise(x0, x0)", ("g",), "line 1, column 11: this is not a pair"),
        (
            "x0 + #1 * 2",
            ("g",),
            "column 6: #1 and the like are arguments of a template",
        ),
        ("x0 * True", ("g",), "True is for Piecewise; write 1 or 0"),
        ("x0 & 1", ("g",), "this is not a condition; write a comparison here"),
        ("sin", ("g",), "'sin' is a function; write sin(...)"),
        ("cond(x0)", ("g",), "cond(...) has 1 arguments; give it 2"),
        ("log(x0, 2, 3)", ("g",), "log(...) has 3 arguments; give it 1 or 2"),
        ("pow_abs(x0, x0, x0)", ("g",), "pow_abs(...) has 3 arguments; give it 2"),
        ("rem(x0, x0, x0)", ("g",), "rem(...) has 3 arguments; give it 2"),
        ("x0 ^ foo(x0)", ("g",), "line 1, column 6: unknown function 'foo'"),
        ("x2", ("g", "p"), "the variables are x0 to x1"),
        ("x1 - x2", ("g", "p"), "x0 to x1; if they count from x1, as in Julia, pass"),
        ("x0 % 2", ("g",), "unexpected character '%'; write mod(a, b)"),
        ("neg(x0, x0)", ("g",), "neg(...) has 2 arguments; give it 1"),
        ("__import__('os')", ("g",), "the language has no strings"),
        ("", ("g",), "this is not one expression"),
        ("x0", ("g +",), "variables[0] = 'g +': line 1"),
        ("x0", ("w",), "unknown name 'w'"),
        ("x0" + " + x0" * 100, ("g",), "nested more than 64 levels deep; write less"),
    ],
)
def test_errors(expression, variables, message):
    with pytest.raises(ExpressionError, match=re.escape(message)):
        from_pysr(expression, variables)


def test_unknown_kind():
    with pytest.raises(
        ExpressionError, match="kind='loss'; pass 'optimizer' or 'drift'"
    ):
        from_pysr("x0", ("g",), "loss")  # type: ignore[arg-type]


def test_the_published_symbolic_functions_as_pysr_strings():
    """The text of the file and the string of the search give the same numbers."""
    f = from_pysr(
        "max(square(max(min(0.15, x1 * -0.97), min(-0.28 - x0, square(x2)))"
        " * tanh(abs(x2 - 0.46))) + tanh((x1 * x2) / max(square(1.32), x2 - x0))"
        ", -0.86)",
        ("log_r", "r - 1", "A"),
        "drift",
    )
    r = jnp.exp(jnp.linspace(-1, 1, 21))
    inputs = {"r": r, "A": jnp.linspace(4, -4, 21), "log_r": jnp.log(r)}
    expected, _ = published.load("lpo_symbolic_minatar").evaluate(inputs)
    np.testing.assert_allclose(f.evaluate(inputs)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in published.IDS if "_symbolic_" in n])
def test_published_formulas_as_strings_over_their_columns(name):
    """What a search would print gives the function whose values are golden."""
    function = published.load(name)
    variables = {one: one for one in (*function.inputs, *function.slots)}
    *lines, last = function.to_text().splitlines()
    formula = last.removeprefix("return ")
    for line in reversed([one for one in lines if not one.startswith("memory")]):
        target, equals, meaning = line.partition(" = ")
        if "rms_normalize" in meaning:
            variables[target] = meaning
        elif equals:
            formula = re.sub(rf"\b{target}\b", f"({meaning})", formula)
    found = from_pysr(formula.replace("**", "^"), variables, function.kind)
    inputs = {"r": Y, "A": X, "log_r": np.log(Y), "p": Y, "g": X, "rand": X[::-1]}
    values = []
    with published.x64():
        for one in (function, found):
            memory = {slot: np.sin(3 * X) for slot in one.slots}
            given = {n: inputs.get(n, np.float64(0.3)) for n in one.inputs}
            values.append(np.asarray(one.evaluate(given, memory)[0]))
    assert np.isfinite(values[0]).all()
    np.testing.assert_allclose(*values, rtol=1e-12)


NAMED = {"grad norm": "g", "m_0_9": "m_0_9", "β": "p", "ratio_x₁": "p - 1", "E": "lr"}


@pytest.mark.parametrize(
    ("expression", "variables", "result"),
    [
        ("grad_norm * β + m_0_9", NAMED, "g * p + m_0_9"),
        ("E * ratio_x1 + pi", NAMED, "lr * ratio_x1 + 3.141592653589793"),
        ("x1 - x2", {"x1": "g", "x2": "p"}, "g - p"),
        ("lr * g - x1", ["g", "lr"], "lr * g - lr"),
        (np.str_("x0"), np.array(["g"]), "g"),
        (0.25, ["g"], "0.25"),
        (np.float32(-2), ["g"], "-2"),
        ({"equation": "x0 + 1", "loss": float("nan")}, ("g",), "g + 1"),
        ({"Complexity": 3, "Loss": 0.1, "Equation": "x0 / x0"}, ("g",), "g / g"),
    ],
)
def test_forms_of_expressions_and_of_variables(expression, variables, result):
    text = from_pysr(expression, variables).to_text()
    assert text.endswith(f"return {result}\n")


NAN = float("nan")
TABLE = [{"complexity": 1, "loss": NAN, "equation": "x0"}, {"equation": NAN}]


@pytest.mark.parametrize(
    ("expression", "variables", "message"),
    [
        (NAN, ["g"], "expression is missing (NaN); pass a string, a SymPy expression"),
        (None, ["g"], "expression is NoneType; pass a string, a SymPy"),
        ([{"equation": "x0"}], ["g"], "expression is list; pass a string"),
        ({"loss": 0.1}, ["g"], "expression has no field 'equation' among loss; pass"),
        ("x0", "g", "variables='g' is a string; pass a list of strings"),
        ("x0", None, "variables=None is NoneType; pass a list of strings"),
        ("max(x0, y=1)", ["g"], "a call has a name and no keywords; write f(a, b)"),
        ("x0", [NAN], "variables[0] is nan; pass an expression such as 'r - 1'"),
        ("x0", {"x0": None}, "variables['x0'] is None; pass an expression"),
        ("x0", {"a-b": "g"}, "variables has the name 'a-b'; PySR prints letters"),
        ("x0", {"a b": "g", "a_b": "p"}, "variables has the name 'a_b' twice"),
        ("b", {"a": "g"}, "unknown variable 'b'; the variables are a"),
        ("a", {"a": "w"}, "variables['a'] = 'w': unknown name 'w'; choose one of"),
        ("x0", ["m_0_9 + dor"], "unknown name 'dor'; did you mean 'dorm'?"),
    ],
)
def test_wrong_forms(expression, variables, message):
    with pytest.raises((ExpressionError, TypeError), match=re.escape(message)):
        from_pysr(expression, variables)


def test_rows_and_tables_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(TABLE)
    assert from_pysr(table.iloc[0], pandas.Index(["g"])).inputs == ("g",)
    with pytest.raises(ExpressionError, match="expression is missing"):
        from_pysr(table.iloc[1], ["g"])
    with pytest.raises(ExpressionError, match="expression is a table of 2 equations"):
        from_pysr(table, ["g"])
    with pytest.raises(ExpressionError, match="has no field 'equation' among 0, 1"):
        from_pysr(table.equation, ["g"])


def test_expressions_of_sympy():
    sympy = pytest.importorskip("sympy")
    x, y = sympy.symbols("x0 x1")
    pairs = (x + y, x > y), (sympy.Abs(x) ** sympy.Rational(1, 3), True)
    for tree in (
        sympy.sqrt(y) * sympy.E ** (-x) + sympy.pi / 3,
        sympy.Piecewise(*pairs) + sympy.Max(x, 1, y) - sympy.Min(x, y),
        sympy.Heaviside(x) + sympy.Mod(x, 2) + sympy.sign(y) + sympy.log(y, 2),
        sympy.atan2(x, y) + sympy.ceiling(x) * sympy.erf(x) + sympy.acosh(y + 1),
        sympy.Piecewise((1.0, (x > 0) & ~sympy.Eq(y, 1)), (sympy.Float("1e-8"), True)),
    ):
        expected = sympy.lambdify((x, y), tree, ["numpy", "scipy"])(X, Y)
        np.testing.assert_allclose(value(tree), expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ExpressionError, match="'zoo' cannot be converted"):
        from_pysr(x + sympy.zoo, ["g"])
