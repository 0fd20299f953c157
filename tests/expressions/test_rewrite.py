"""Numbers of a formula: computed with, and written back."""

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings

from learned_opt_rl.expressions import fold, inline, lift, parse, size
from tests.expressions import published, strategies

X = np.linspace(-2, 2, 21)
P = np.linspace(0.3, 3, 21)


def function(result, body="", kind="optimizer", inputs="p, g"):
    return parse(f"{kind}\ninputs {inputs}\n{body}return {result}\n")


def value(one, **constants):
    inputs = {name: {"p": P, "g": X}[name] for name in one.inputs}
    with published.x64():
        memory = one.init_memory(X.shape, X.dtype)
        return np.asarray(one.evaluate({"g": X, **inputs}, memory, constants)[0])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p + 2 * 3 * g / 4", "p + 1.5 * g"),
        ("g + g + p - g", "p + g"),
        ("-(-(g)) - p", "g - p"),
        ("2 * (g - p) * 0.5", "g - p"),
        ("g - p - (g - 3)", "3 - p"),
        ("tanh(2 * 3 * g) + p * 1", "tanh(6 * g) + p"),
        ("max(p, 1 - 3) * (1 + 1) + g", "2 * max(p, -2) + g"),
        ("where(g > 1 + 1, p - p, 4 * g / 2)", "where(g > 2, 0, 2 * g)"),
        ("(3 * g) * (2 * p)", "6 * (g * p)"),
        ("p / (2 * 2) + 0 * g", "0.25 * p"),
        # Multiplied out, this has two operations more.
        ("3 * (g + p)", "3 * (g + p)"),
    ],
)
def test_numbers_are_computed_with(before, after):
    found, one = fold(function(before)), function(before)
    terms = set(found.to_text().splitlines()[-1].removeprefix("return ").split(" + "))
    assert terms == set(after.split(" + "))
    assert size(found) <= size(one)
    np.testing.assert_allclose(value(found), value(one), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["lpo_symbolic_minatar", "open_symbolic_ant"])
def test_folded_formulas_have_the_same_values(name):
    one = published.load(name)
    rng = np.random.default_rng(0)
    drawn = {n: rng.uniform(0.1, 1, (3, 4)).astype("f4") for n in ("r", "A", "p", "g")}
    drawn |= {"log_r": np.log(drawn["r"]), "rand": drawn["p"], "dorm": drawn["p"]}
    inputs = {n: drawn.get(n, np.float32(0.3)) for n in one.inputs}
    values = [
        np.asarray(f.evaluate(inputs, f.init_memory((3, 4)))[0])
        for f in (one, fold(one))
    ]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-9)


def test_what_becomes_invalid_stays():
    for text in ("norm(0 * p) + g", "1e12 * 10 * g + p", "p + g / 1e-9 * 1e9"):
        assert fold(function(text)) == function(text)


def test_names_and_constants_without_effect_are_removed():
    text = "optimizer\ninputs p, g\nconstant c = 3\nx = c * p\nreturn g + x - x"
    assert fold(parse(text)).to_text() == "optimizer\ninputs g\nreturn g\n"
    text = "drift\ninputs r, A\nconstant c = 3\nx = c * 0 * A\nreturn x + (r - 1)**2"
    kept = fold(parse(text))
    assert kept.inputs == ("r",) and not kept.constants


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@given(strategies.functions())
def test_rewritten_formulas_are_valid_and_not_larger(one):
    folded = fold(one)
    assert parse(folded.to_text()) == folded
    assert size(folded) <= size(one)
    written = inline(lift(one))
    assert parse(written.to_text()) == written == inline(one)
    assert not written.constants


def test_inline_is_the_inverse_of_lift():
    text = "-0.5 * g + 3 * tanh(0.3 * p) ** 2 - (0.25 - p) ** 3"
    one = function(text)
    assert inline(lift(one)) == one
    negative = parse("drift\ninputs r, A\nconstant c = -0.5\nreturn c**2 * (r - c) * A")
    written = inline(negative)
    assert written.to_text().endswith("return (-0.5)**2 * (r - -0.5) * A\n")
    found, expected = (f.evaluate({"r": P, "A": X})[0] for f in (written, negative))
    np.testing.assert_array_equal(found, expected)
