"""Whatever the text: a valid function or a clean error, in time."""

import gc
import time

import hypothesis
import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from learned_opt_rl.expressions import (
    ExpressionError,
    from_pysr,
    from_python,
    parse,
)
from learned_opt_rl.expressions._language import ELEMENTWISE, INPUTS
from learned_opt_rl.expressions.convert import _static
from tests.expressions import strategies

SHAPE = (2, 3)
# Seconds of this thread's processor time for one text, read or refused.
LIMIT = 1.0


def runs(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def timed(read, *arguments):
    """The function, or None after a clean error."""
    # A collection of what jax left behind is not the reader's time.
    gc.disable()
    start = time.thread_time()
    try:
        return read(*arguments)
    except ExpressionError as error:
        assert str(error).isprintable() or "\n" not in str(error)
        assert (error.line is None) == (error.column is None)
        if error.line is not None:
            assert error.line >= 1 and error.column >= 1
        return None
    finally:
        elapsed = time.thread_time() - start
        gc.enable()
        assert elapsed < LIMIT


def check(function):
    """It prints, comes back, and evaluates to the right shapes."""
    text = function.to_text()
    assert parse(text) == function
    assert parse(text).to_text() == text
    latex = function.to_latex()
    assert latex.count("{") == latex.count("}") > 0
    kinds = INPUTS[function.kind]
    inputs = {
        name: jnp.full(SHAPE if kinds[name] == ELEMENTWISE else (), 0.5)
        for name in (*kinds,)
    }
    output, memory = function.evaluate(inputs, function.init_memory(SHAPE))
    assert output.shape == SHAPE and output.dtype == jnp.float32
    assert {(m.shape, m.dtype) for m in memory.values()} <= {(SHAPE, output.dtype)}
    assert set(memory) == {slot.name for slot in function.memory}


def check_text(text):
    function = timed(parse, text)
    if function is not None:
        check(function)


def check_python(source):
    for kind in ("optimizer", "drift"):
        function = timed(from_python, source, kind)
        if function is not None:
            check(function)


def check_formula(expression):
    function = timed(from_pysr, expression, ("g", "p - 1", "rms_normalize(m_0_9)"))
    if function is not None:
        check(function)


@given(strategies.functions())
@runs(50)
def test_valid_functions(function):
    check(function)


@given(strategies.texts)
@runs(300)
def test_any_text(text):
    check_text(text)


@given(strategies.python)
@runs(150)
def test_any_python(source):
    check_python(source)


@given(strategies.formulas)
@runs(100)
def test_any_formula(expression):
    check_formula(expression)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(strategies.functions())
@runs(2_000)
def test_many_valid_functions(function):
    check(function)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(strategies.texts)
@runs(10_000)
def test_many_texts(text):
    check_text(text)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(strategies.python)
@runs(5_000)
def test_much_python(source):
    check_python(source)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(strategies.formulas)
@runs(3_000)
def test_many_formulas(expression):
    check_formula(expression)


HEADER = "optimizer\ninputs g\nreturn "
FRAME = "def f(ratio, advantage, epsilon):\n    "


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "(" * 16_000,
        HEADER + "-" * 16_000 + "g",
        HEADER + "g" + "**g" * 5_000,
        HEADER + "g" + "+g" * 8_000,
        HEADER + "not " * 4_000 + "g",
        HEADER + "where(g > 0 and " + "g > 0 and " * 1_600 + "g > 0, 1, 2)",
        HEADER + "9**9**9**9 * g",
        HEADER + "0x" + "f" * 16_000 + " * g",
        HEADER + "max(" * 60 + "g g" + ")" * 60,
        HEADER + "(" * 60 + "g if g else " + ")" * 60,
        HEADER + "f(g=" * 60 + "g" + ")" * 60,
        HEADER + "lambda g, " * 1_600 + "g",
        HEADER + "yield " * 2_600 + "g",
        HEADER + "max(" + "g," * 8_000 + "g)",
        HEADER + "9" * 16_000,
        HEADER + "1e" + "9" * 30,
        "\n" * 16_000,
        "optimizer\ninputs g\n"
        + "".join(f"a{i} = g\n" for i in range(1_400))
        + "return g",
        "optimizer\ninputs g\na0 = g\n"
        + "".join(f"a{i} = a{i - 1}\n" for i in range(1, 950))
        + "return a949",
        "optimizer\ninputs g\n"
        + "".join(f"memory a{i} = 0\n" for i in range(32))
        + "".join(f"a{i} = a{(i + 1) % 32} + g\n" for i in range(32)) * 20
        + "return a1",
    ],
    ids=range(20),
)
def test_hostile_text(text):
    timed(parse, text)


@pytest.mark.parametrize(
    "code",
    [
        FRAME + "return " + "(" * 16_000,
        FRAME + "return " + "-" * 16_000 + "ratio",
        FRAME + "return ratio" + ".a" * 7_000,
        FRAME + "return ratio" + "+ratio" * 2_500,
        FRAME + "return " + "9" * 4_000 + "*ratio",
        FRAME + "return " + "9" * 16_000,
        FRAME + "return " + "lambda:" * 2_000 + "1",
        FRAME + "return " + "f(x for x in " * 60 + "1" + ")" * 60,
        FRAME + "return " + "{x: " * 60 + "1",
        FRAME + "return " + "[" * 60 + "x for x in " + "]" * 60,
        FRAME + "with (" + "(" * 60 + "ratio as x" + ")" * 60 + "):\n        pass",
        FRAME + "a = ()\n" + "    a = (a, a)\n" * 400 + "    return jax.lax.cond("
        "ratio > 1, lambda: a, lambda: a)[0]",
        FRAME + "return sum((" + "ratio, " * 1_600 + "))",
        FRAME + "return ratio ** 10 ** 10 ** 10",
        FRAME + "return " + "1 if ratio else " * 1_000 + "1",
        FRAME + "return '\ud800'",
        FRAME + "for i in range(10**12):\n        pass\n    return ratio",
        FRAME
        + "".join(
            "    " * i + f"    for i{i} in range(64):\n" for i in range(6)
        ).strip()
        + "\n"
        + " " * 40
        + "pass\n    return ratio",
        FRAME
        + "x = ratio\n    for i in range(64):\n        for j in range(64):\n"
        + "            x = x + 1.0\n    return x",
        FRAME
        + "f0 = lambda: ratio * 2\n"
        + "".join(f"    f{i} = lambda: f{i - 1}() + f{i - 1}()\n" for i in range(1, 8))
        + "    return f7()",
        FRAME
        + "f0 = lambda: ratio * 2\n"
        + "".join(
            f"    f{i} = lambda: " + " + ".join([f"f{i - 1}()"] * 20) + "\n"
            for i in range(1, 8)
        )
        + "    return f7()",
        FRAME + "a = (ratio, ratio)\n" + "    a = (a, a)\n" * 400 + "    return ratio",
        FRAME + "a = (1.0,)\n" + "    a = a + a\n" * 60 + "    return ratio",
        FRAME + "a = (1.0,) * 10**11\n    return ratio",
        FRAME + "a = [1.0]\n" + "    a = jnp.stack([a, a])\n" * 60 + "    return -a",
        FRAME + "x = 9\n" + "    x = x ** x\n" * 60 + "    return 1 if x else 2",
    ],
    ids=range(26),
)
def test_hostile_python(code):
    timed(from_python, code, "drift")


NEGATED = (
    "x = 1.0\n" + "    x = -x\n" * 200 + "    for i in range(60):\n"
    "        y = -ratio\n" + "        y = -ratio\n" * 5
)


@pytest.mark.parametrize(
    "test",
    [
        "    for i in range(64):\n        for j in range(20):\n"
        "            if x > 0:\n                pass\n",
        "    a = [[1.0 if x > 0 else 2.0 for i in range(40)] for j in range(30)]\n",
    ],
    ids=["loop", "comprehension"],
)
def test_a_test_does_not_read_all_assignments_again(test, monkeypatch):
    """A test costs as much as its own expression, whatever comes before it."""
    folded = []
    fold = _static.fold

    def counted(value, names):
        folded.append(value)
        return fold(value, names)

    monkeypatch.setattr(_static, "fold", counted)
    try:
        from_python(FRAME + NEGATED + test + "    return ratio", "drift")
    except ExpressionError as error:
        assert "too many steps" in str(error)
    # At most a few nodes for each of the 8192 steps of a conversion.
    assert 1000 < len(folded) < 4 * 8192
