"""Imported code gives the values of the code that runs, or is refused."""

import ast
import itertools
import math
import warnings

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_opt_rl.expressions import ExpressionError, from_pysr, from_python
from tests.expressions import published, replies, sources

R = np.array([0.31, 0.87, 1.0, 1.13, 2.7, 1.9])
A = np.array([-1.3, 0.4, 2.2, -0.6, 0.9, -3.1])
OPTIMIZER = {"w": A, "g": R - 1.1, "d": R, "t": 3.0, "t_p": 0.3, "b_p": 0.6, "l_p": 0.5}


def runs(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def assert_close(found, expected, run, inputs):
    """Compare where the code itself does not jump between neighboring inputs."""
    # jax computes functions of conditions in float32, also where it has float64.
    near = np.isclose(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    for scale in () if near.all() else (1 - 1e-9, 1 + 1e-9):
        moved = run(*(value * scale for value in inputs))
        near |= ~np.isclose(moved, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert near.all(), f"{found} is not {expected}"


def compare(expected, found, *inputs):
    """Compare values, and derivatives where they are finite."""
    inputs = [jnp.asarray(value) for value in inputs]
    assert_close(found(*inputs), expected(*inputs), expected, inputs)

    def slopes(function):
        def total(*values):
            return jnp.sum(function(*values))

        return lambda *values: jnp.stack(jax.grad(total, (0, 1))(*values))

    try:
        wanted = slopes(expected)(*inputs)
    except jax.errors.TracerArrayConversionError:
        return  # The code calls numpy, which has values but no derivatives.
    own = jnp.where(jnp.isfinite(wanted), slopes(found)(*inputs), wanted)
    assert_close(own, wanted, slopes(expected), inputs)


EXAMPLES = itertools.count(1)


def forget_programs():
    """Free what jax compiled for former examples, gigabytes after some thousand."""
    if next(EXAMPLES) % 100 == 0:
        jax.clear_caches()


def check_proposal(source, kind):
    """Return whether the proposal was converted; its values are those of jax."""
    try:
        function = from_python(source, kind)
    except ExpressionError:
        return False
    scope = {}
    exec(source, scope)

    def run(first, second):
        if kind == "drift":
            return scope["f"](first, second, 0.2)
        given = OPTIMIZER | {"w": first, "g": second, "var1": 0.1 * R, "var2": 0 * R}
        return scope["f"](**jax.tree.map(jnp.asarray, given), key=None)[0]

    def own(first, second):
        if kind == "drift":
            inputs = {"r": first, "A": second, "log_r": jnp.log(first)}
            return function.evaluate(inputs)[0]
        names = {"p": "w", "dorm": "d", "iteration": "t"}
        given = OPTIMIZER | {"w": first, "g": second}
        inputs = {n: given[names.get(n, n)] for n in function.inputs} | {"p": first}
        memory = {name: {"var1": 0.1 * R}.get(name, 0 * R) for name in function.slots}
        return function.evaluate(inputs, memory)[0]

    inputs = (R, A) if kind == "drift" else (OPTIMIZER["w"], OPTIMIZER["g"])
    with published.x64(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(*map(jnp.asarray, inputs))
        except (
            *(TypeError, ValueError, AttributeError),
            *(ZeroDivisionError, OverflowError),
        ) as problem:
            # The code does not run, so it has no value to compare with.
            return f"{type(problem).__name__}: {problem}"
        compare(run, own, *inputs)
    return True


class Julia:
    """A number of Julia's operators: comparisons are 1.0 or 0.0."""

    def __init__(self, value):
        self.value = jnp.asarray(value, float)

    def __bool__(self):
        raise AssertionError("Julia has no truth of an array")


def _lifted(function):
    def call(*values):
        lifted = [getattr(v, "value", v) for v in values]
        return Julia(function(*lifted))

    return call


for _name, _function in {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "truediv": jnp.true_divide,
    "pow": jnp.power,
    "gt": jnp.greater,
    "lt": jnp.less,
    "ge": jnp.greater_equal,
    "le": jnp.less_equal,
    "or": lambda a, b: (a > 0) | (b > 0),
    "and": lambda a, b: (a > 0) & (b > 0),
}.items():
    setattr(Julia, f"__{_name}__", _lifted(_function))
    setattr(Julia, f"__r{_name}__", _lifted(lambda b, a, f=_function: f(a, b)))
Julia.__neg__ = _lifted(jnp.negative)
Julia.__pos__ = _lifted(jnp.positive)


def _piecewise(*pairs):
    (value, condition), *others = pairs
    if condition is True:
        return Julia(getattr(value, "value", value))
    return _lifted(jnp.where)(
        _lifted(lambda c: c > 0)(condition), value, _piecewise(*others)
    )


def _where(condition, a, b):
    return jnp.where(condition > 0, a, b)


_SPECIAL = jax.scipy.special
# What SymbolicRegression.jl's Operators.jl and PySR's export_sympy.py define.
MEANINGS = {
    "Abs": jnp.abs,
    "Mod": jnp.mod,
    "Eq": jnp.equal,
    "Heaviside": lambda x, zero=0.5: jnp.where(x > 0, 1.0, jnp.where(x < 0, 0.0, zero)),
    "Rational": jnp.divide,
    "atanh_clip": lambda x: jnp.arctanh(jnp.mod(x + 1, 2) - 1),
    "ceiling": jnp.ceil,
    "clamp": jnp.clip,
    "cond": lambda x, y: _where(x, y, 0.0),
    "coth": lambda x: 1 / jnp.tanh(x),
    "cube": lambda x: x * x * x,
    "div": jnp.divide,
    "fma": lambda x, y, z: x * y + z,
    "frac": lambda x: x - jnp.floor(x),
    "gamma": _SPECIAL.gamma,
    "greater": jnp.greater,
    "greater_equal": jnp.greater_equal,
    "ifelse": _where,
    "inv": lambda x: 1 / x,
    "less": jnp.less,
    "less_equal": jnp.less_equal,
    "log": lambda x, base=None: jnp.log(x) / (1 if base is None else jnp.log(base)),
    "log_abs": lambda x: jnp.log(jnp.abs(x)),
    "logical_and": lambda x, y: (x > 0) & (y > 0),
    "logical_or": lambda x, y: (x > 0) | (y > 0),
    "mult": jnp.multiply,
    "neg": jnp.negative,
    "plus": jnp.add,
    "pow": jnp.power,
    "pow_abs": lambda x, y: jnp.abs(x) ** y,
    "relu": lambda x: jnp.maximum(x, 0),
    "safe_log": jnp.log,
    "safe_pow": jnp.power,
    "safe_sqrt": jnp.sqrt,
    "sec": lambda x: 1 / jnp.cos(x),
    "sqrt_abs": lambda x: jnp.sqrt(jnp.abs(x)),
    "sub": jnp.subtract,
    "Pow": jnp.power,
    **{name: getattr(_SPECIAL, name) for name in ("erf", "erfc")},
    **{
        name: lambda x, *o: jax.tree.reduce(jnp.maximum, [x, *o])
        for name in ("max", "Max")
    },
    **{
        name: lambda x, *o: jax.tree.reduce(jnp.minimum, [x, *o])
        for name in ("min", "Min")
    },
    **{name: getattr(jnp, name) for name in sources.OF_JAX},
}
SCOPE = {name: _lifted(function) for name, function in MEANINGS.items()}
SCOPE |= {"Piecewise": _piecewise, "Julia": Julia}


class _Lift(ast.NodeTransformer):
    """Make each number one of Julia's."""

    def visit_Name(self, node):
        written = {"pi": math.pi, "E": math.e}.get(node.id)
        return node if written is None else self.visit_Constant(ast.Constant(written))

    def visit_Constant(self, node):
        if node.value is True:
            return node
        return ast.Call(ast.Name("Julia", ast.Load()), [node], [])


def check_formula(text):
    """The values of a printed formula are those of PySR's operators."""
    function = from_pysr(text, ["r", "A", "r - 1"], "drift")
    python = text.replace("^", "**").replace("f0", "e0").replace("₀", "0")
    tree = ast.fix_missing_locations(_Lift().visit(ast.parse(python, mode="eval")))
    code = compile(tree, "formula", "eval")

    def run(r, a):
        variables = {"x0": Julia(r), "x1": Julia(a), "x2": Julia(r - 1)}
        value = eval(code, SCOPE | variables)
        return jnp.broadcast_to(getattr(value, "value", value), r.shape) * 1.0

    def own(r, a):
        return function.evaluate({"r": r, "A": a, "log_r": jnp.log(r)})[0]

    with published.x64():
        compare(run, own, R, A)


MOMENTA = {f"m_0_{d}": float(f"0.{d}") for d in ("1", "5", "9", "99", "999", "9999")}


# Noise differs by design, and jax no longer has these keywords.
NOT_RUN = {"clip_kw", "where_kw"}
NOT_RUN |= {n for n, (_, code) in replies.CONVERTED.items() if "random." in code}


@pytest.mark.parametrize("name", [n for n in replies.CONVERTED if n not in NOT_RUN])
def test_replies(name):
    """What language models write computes what jax computes when it runs."""
    kind, source = replies.CONVERTED[name]
    function = from_python(source, kind)
    scope = {"jnp": jnp, "jax": jax, "lax": jax.lax, "nn": jax.nn, "Tuple": tuple}
    exec(source, scope)
    run = next(scope[n] for n in ("update_fn", "f") if n in scope)
    with published.x64():
        draws = iter(np.random.default_rng(0).normal(size=(20, 2, 3)))
        g = next(draws)
        given = {"w": next(draws), "g": g, "d": np.abs(next(draws)), "t": 3.0}
        given |= {"t_p": 0.3, "b_p": 0.6, "l_p": 0.5, "lr": 0.1, "iteration": 3.0}
        given |= {"var1": next(draws), "var2": np.abs(next(draws)), "var": np.abs(g)}
        given |= {"rand": next(draws), "epsilon": 0.2, "advantage": next(draws)}
        given |= {"p": given["w"], "dorm": given["d"], "ratio": 1 + 0.3 * next(draws)}
        # Memory that is never assigned stays at 0.
        fixed = {"var", "var1", "var2"} - {*function.slots}
        given |= {name: 0 * g for name in fixed}
        before = {name: next(draws) for name in MOMENTA}
        given |= {n: b * before[n] + (1 - b) * g for n, b in MOMENTA.items()}
        names = run.__code__.co_varnames[: run.__code__.co_argcount]
        arrays = {n: jnp.asarray(given[n]) for n in names if n in given}
        wanted = run(**arrays, **({"key": None} if "key" in names else {}))
        wanted = wanted if isinstance(wanted, list | tuple) else (wanted,)
        renamed = {"r": "ratio", "A": "advantage", "iteration": "t"}
        inputs = {n: given[renamed.get(n, n)] for n in function.inputs}
        inputs |= {"p": given["p"]} if kind == "optimizer" else {"r": given["ratio"]}
        memory = {n: before.get(n, given.get(n)) for n in function.slots}
        found, after = function.evaluate(inputs, memory)
        np.testing.assert_allclose(found, wanted[0], rtol=1e-5, atol=1e-7)
        slots = ("var1", "var2") if "var1" in names else ("var",)
        for slot, value in zip(slots, wanted[1:], strict=False):
            if slot in after:
                np.testing.assert_allclose(after[slot], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("body", sources.IDIOMS)
def test_idioms(body):
    lines = ["def f(ratio, advantage, epsilon):", "'A docstring.'", *body.split("; ")]
    source = "import jax\nimport jax.numpy as jnp\n" + "\n    ".join(lines)
    assert check_proposal(source, "drift") is True


def test_constants_of_the_module_and_of_the_signature():
    source = """
import jax.numpy as jnp
from chex import Array
SCALE: float = 2.0
shift = lambda x, by=SCALE: x - by
def f(ratio: Array, advantage: Array, epsilon: float = 0.3, beta=0.5) -> Array:
    return shift(jnp.abs(ratio - 1)) * beta + epsilon
"""
    function = from_python(source, "drift")
    assert function.init_constants() == {"eps": 0.3, "beta": 0.5}
    found, _ = function.evaluate({"r": R, "A": A, "log_r": jnp.log(R)})
    np.testing.assert_allclose(found, (np.abs(R - 1) - 2) * 0.5 + 0.3, rtol=1e-6)


def test_logaddexp_of_infinities():
    source = "import jax.numpy as jnp\ndef f(ratio, advantage, epsilon):\n"
    function = from_python(
        f"{source}    return jnp.logaddexp(ratio, advantage)", "drift"
    )
    r, a = np.array([[np.inf, np.inf, -np.inf, 1.0], [np.inf, 1.0, -np.inf, 2.0]])
    found, _ = function.evaluate({"r": r, "A": a, "log_r": r})
    np.testing.assert_allclose(found, jnp.logaddexp(r, a), rtol=1e-6)


@pytest.mark.parametrize("line", sources.MISTAKES)
def test_mistakes(line):
    expression, message = line.split(" -> ")
    with pytest.raises(ExpressionError) as caught:
        from_python(
            f"import math\ndef f(ratio, advantage, epsilon):\n    x = {expression}",
            "drift",
        )
    assert message in caught.value.problem
    assert caught.value.line == 3 and (caught.value.column or 0) >= 9


@pytest.mark.parametrize("kind", ["drift", "optimizer"])
@given(random=st.randoms(use_true_random=False))
@runs(20)
def test_proposals(kind, random):
    check_proposal(sources.proposal(random, kind), kind)


@given(random=st.randoms(use_true_random=False))
@runs(30)
def test_formulas(random):
    check_formula(sources.formula(random))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["drift", "optimizer"])
@given(random=st.randoms(use_true_random=False))
@runs(5_000)
def test_many_proposals(kind, random):
    forget_programs()
    check_proposal(sources.proposal(random, kind), kind)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@given(random=st.randoms(use_true_random=False))
@runs(5_000)
def test_many_formulas(random):
    forget_programs()
    check_formula(sources.formula(random))
