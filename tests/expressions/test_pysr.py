"""Conversion of what symbolic regression prints."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.expressions import ExpressionError, from_pysr, parse
from tests.expressions import published

X = np.linspace(-2, 2, 41)
Y = np.linspace(3, 0.1, 41)


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
        (
            "x0 > 1",
            ("g",),
            "line 1, column 1: '>' is not an operator here",
        ),
        ("x0 and x0", ("g",), "'and' is not an operator"),
        ("not x0", ("g",), "'not' is not an operator"),
        ("x0 x0", ("g",), "invalid syntax at 'x0'"),
        ("x0\nx0", ("g",), "this is not one expression"),
        ("min(x0)", ("g",), r"min(...) has 1 arguments; give it 2 or more"),
        ("neg(x0, x0)", ("g",), "unknown function 'neg'"),
        ("__import__('os')", ("g",), "there are no strings"),
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
