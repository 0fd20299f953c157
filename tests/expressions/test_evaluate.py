"""What functions compute, and under which transformations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import features
from learned_opt_rl.expressions import ExpressionError, _evaluate, parse
from learned_opt_rl.expressions._functions import FUNCTIONS
from learned_opt_rl.expressions._language import OPERATORS
from tests.expressions import published

X = np.array([-2.5, -1.0, -0.5, -0.0, 0.3, 0.5, 1.0, 1.5, 4.0])
POSITIVE = np.abs(X) + 0.1


def evaluated(expression, x=X, y=POSITIVE):
    function = parse(
        f"optimizer\ninputs p, g\nrest = 0 * p + 0 * g\nreturn {expression} + rest"
    )
    return np.asarray(function.evaluate({"p": x, "g": y})[0])


def erf(x):
    return np.vectorize(math.erf)(x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FORMULAS = {
    "sin(p)": np.sin(X),
    "cos(p)": np.cos(X),
    "tan(p)": np.tan(X),
    "sinh(p)": np.sinh(X),
    "cosh(p)": np.cosh(X),
    "tanh(p)": np.tanh(X),
    "arctan(p)": np.arctan(X),
    "arcsin(0.2 * p)": np.arcsin(0.2 * X),
    "arccos(0.2 * p)": np.arccos(0.2 * X),
    "arctan2(p, g)": np.arctan2(X, POSITIVE),
    "arcsinh(p)": np.arcsinh(X),
    "arccosh(1 + g)": np.arccosh(1 + POSITIVE),
    "arctanh(0.2 * p)": np.arctanh(0.2 * X),
    "exp(p)": np.exp(X),
    "expm1(p)": np.expm1(X),
    "log(g)": np.log(POSITIVE),
    "log1p(g)": np.log1p(POSITIVE),
    "log2(g)": np.log2(POSITIVE),
    "log10(g)": np.log10(POSITIVE),
    "sqrt(g)": np.sqrt(POSITIVE),
    "rsqrt(g)": 1 / np.sqrt(POSITIVE),
    "cbrt(p)": np.cbrt(X),
    "square(p)": X * X,
    "abs(p)": np.abs(X),
    "sign(p)": np.sign(X),
    "floor(p)": np.floor(X),
    "ceil(p)": np.ceil(X),
    "round(p)": np.round(X),
    "relu(p)": np.maximum(X, 0),
    "sigmoid(p)": sigmoid(X),
    "softplus(p)": np.log1p(np.exp(X)),
    "silu(p)": X * sigmoid(X),
    "elu(p)": np.where(X > 0, X, np.expm1(X)),
    "gelu(p)": X / 2 * (1 + np.tanh((2 / math.pi) ** 0.5 * (X + 0.044715 * X**3))),
    "leaky_relu(p)": np.where(X > 0, X, 0.01 * X),
    "erf(p)": erf(X),
    "erfc(p)": 1 - erf(X),
    "gamma_function(g)": np.vectorize(math.gamma)(POSITIVE),
    "hypot(p, g)": np.hypot(X, POSITIVE),
    "mod(p, 0.7)": np.mod(X, 0.7),
    "floor_divide(p, 0.7)": np.floor_divide(X, 0.7),
    "stop_gradient(p)": X,
    "min(p, g, 0.4)": np.minimum(np.minimum(X, POSITIVE), 0.4),
    "max(p, 0.4)": np.maximum(X, 0.4),
    "clip(p, -1, 0.5)": np.clip(X, -1, 0.5),
    "nan_to_num(log(p), 7, 8, -9)": np.array(
        [7, 7, 7, -9, math.log(0.3), math.log(0.5), 0, math.log(1.5), math.log(4)]
    ),
    "nan_to_num(1 / abs(p), 7, 8, -9)": np.where(X == 0, 8, 1 / np.abs(X + (X == 0))),
    "where(isnan(log(p)), 1, 2)": np.where(X < 0, 1, 2),
    "where(isfinite(log(p)), 1, 2)": np.where(X > 0, 1, 2),
    "where(p > g, p, 0.5)": np.where(X > POSITIVE, X, 0.5),
    "norm(p)": np.full(9, np.sqrt(np.sum(X * X))),
    "mean(p)": np.full(9, X.mean()),
    "sum(p)": np.full(9, X.sum()),
    "variance(p)": np.full(9, X.var()),
    "std(p)": np.full(9, X.std()),
    "median(p)": np.full(9, np.median(X)),
    "max_all(p)": np.full(9, 4.0),
    "min_all(p)": np.full(9, -2.5),
    "size(p)": np.full(9, 9.0),
    "rms_normalize(p)": X / np.sqrt(1e-5 + np.mean(X * X)),
    "p + g": X + POSITIVE,
    "p - g": X - POSITIVE,
    "p * g": X * POSITIVE,
    "p / g": X / POSITIVE,
    "g**p": POSITIVE**X,
    "p**3": X**3,
    "g**-2": POSITIVE**-2.0,
    "p**0": np.ones(9),
    "p**18": X**18,
    "g**0.5": np.sqrt(POSITIVE),
    "-p": -X,
    "where(p < 0.3, 1, 0)": X < 0.3,
    "where(p <= 0.5, 1, 0)": X <= 0.5,
    "where(p > 0.5, 1, 0)": X > 0.5,
    "where(p >= 0.5, 1, 0)": X >= 0.5,
    "where(p == 0, 1, 0)": X == 0,
    "where(p != 0, 1, 0)": X != 0,
    "where(p > 0 and p < 1, 1, 0)": (X > 0) & (X < 1),
    "where(p < 0 or p > 1, 1, 0)": (X < 0) | (X > 1),
    "where(not p < 0, 1, 0)": ~(X < 0),
}


def test_every_function_and_operator_has_a_formula_below():
    used = "".join(FORMULAS)
    assert [name for name in FUNCTIONS if name + "(" not in used] == []
    assert [operator for operator in OPERATORS if operator not in used] == []
    assert set(_evaluate.IMPLEMENTATIONS) == set(FUNCTIONS)


@pytest.mark.parametrize("formula", FORMULAS)
def test_function_equals_numpy(formula):
    with published.x64():
        found = evaluated(formula)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, FORMULAS[formula], rtol=1e-12, atol=1e-15)


MOMENTUM = parse(
    """
    optimizer
    inputs g, dorm, lr
    memory m = momentum(0.5)
    memory v = 1
    constant a = 0.25
    before = v
    v = (1 - a) * v + a * g**2
    return lr * m / (before + v) + dorm * a
    """
)


def reference(g, dorm, lr, m, v, a=0.25):
    m = 0.5 * m + 0.5 * g
    new = (1 - a) * v + a * g**2
    return lr * m / (v + new) + dorm * a, m, new


def test_memory_is_read_before_and_after_its_assignment():
    g = np.array([[1.0, -2.0, 0.5]])
    memory = MOMENTUM.init_memory(g.shape)
    m, v = np.zeros_like(g), np.ones_like(g)
    for step in range(3):
        inputs = {"g": g * step, "dorm": jnp.arange(3.0), "lr": 0.1}
        found, memory = MOMENTUM.evaluate(inputs, memory)
        expected, m, v = reference(g * step, np.arange(3.0), 0.1, m, v)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(memory["m"], m, rtol=1e-6)
        np.testing.assert_allclose(memory["v"], v, rtol=1e-6)


def test_the_pieces_shared_with_features_are_equal():
    """This package may not import features, so it has its own copy of two lines."""
    g = jax.random.normal(jax.random.key(3), (2, 5))
    normalise = parse("optimizer\ninputs g\nreturn rms_normalize(g)")
    expected = features.rms_normalize(g.reshape(1, -1)).reshape(g.shape)
    found, _ = normalise.evaluate({"g": g})
    np.testing.assert_allclose(found, expected, rtol=3e-7)  # sums in another order
    bank = features.init_momenta(g)
    for index, decay in enumerate(features.DECAYS):
        f = parse(f"optimizer\ninputs g\nmemory m = momentum({decay})\nreturn m")
        memory, momenta = f.init_memory(g.shape), bank
        for _ in range(3):
            momenta = features.update_momenta(momenta, g)
            found, memory = f.evaluate({"g": g}, memory)
        np.testing.assert_array_equal(found, momenta[..., index])


def leaf(shape, key=0, dtype=jnp.float32):
    g = jax.random.normal(jax.random.key(key), shape, dtype)
    return {"g": g, "dorm": jnp.ones(()), "lr": 0.1}


def test_a_population_of_constants():
    inputs, memory = leaf((4,)), MOMENTUM.init_memory((4,))
    population = {"a": jnp.array([0.1, 0.25, 0.9])}
    found, new = jax.vmap(lambda c: MOMENTUM.evaluate(inputs, memory, c))(population)
    assert found.shape == new["v"].shape == (3, 4)
    for row, a in enumerate(population["a"]):
        single, _ = MOMENTUM.evaluate(inputs, memory, {"a": float(a)})
        np.testing.assert_allclose(found[row], single, rtol=1e-6)
    default, _ = MOMENTUM.evaluate(inputs, memory)
    np.testing.assert_array_equal(found[1], default)


def test_gradient_with_respect_to_constants_is_the_finite_difference():
    with published.x64():
        inputs = leaf((5,), dtype=jnp.float64)
        memory = MOMENTUM.init_memory((5,), jnp.float64)

        def total(a):
            return jnp.sum(MOMENTUM.evaluate(inputs, memory, {"a": a})[0] ** 2)

        slope = jax.grad(total)(0.25)
        difference = (total(0.25 + 1e-6) - total(0.25 - 1e-6)) / 2e-6
        np.testing.assert_allclose(slope, difference, rtol=1e-7)
        assert abs(slope) > 1e-3


def test_jit_scan_and_static_argument_agree_with_eager():
    inputs, memory = leaf((2, 3)), MOMENTUM.init_memory((2, 3))

    def step(memory, _):
        output, memory = MOMENTUM.evaluate(inputs, memory)
        return memory, output

    final, outputs = jax.jit(lambda m: jax.lax.scan(step, m, length=3))(memory)
    for output in outputs:
        eager, memory = MOMENTUM.evaluate(inputs, memory)
        np.testing.assert_allclose(output, eager, rtol=1e-6)
    np.testing.assert_allclose(final["v"], memory["v"], rtol=1e-6)
    calls = []

    def evaluate(function, inputs, memory):
        calls.append(1)
        return function.evaluate(inputs, memory)[0]

    compiled = jax.jit(evaluate, static_argnums=0)
    for _ in range(2):
        again = parse(MOMENTUM.to_text())
        compiled(again, inputs, memory)
    assert len(calls) == 1


def test_dtypes():
    inputs = leaf((4,), dtype=jnp.bfloat16)
    memory = MOMENTUM.init_memory((4,), jnp.bfloat16)
    output, new = MOMENTUM.evaluate(inputs, memory)
    assert output.dtype == jnp.float32
    assert {array.dtype for array in new.values()} == {jnp.bfloat16.dtype}
    assert MOMENTUM.init_memory((4,))["m"].dtype == jnp.float32


def test_shapes_of_dormancy():
    inputs, memory = leaf((3, 2)), MOMENTUM.init_memory((3, 2))
    outputs = [
        MOMENTUM.evaluate({**inputs, "dorm": jnp.full(shape, 2.0)}, memory)[0]
        for shape in ((), (2,), (3, 2))
    ]
    assert {output.shape for output in outputs} == {(3, 2)}
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (3, 2, 2, 2)])
def test_any_leaf(shape):
    f = parse(
        "optimizer\ninputs g\nreturn g * norm(g) + max_all(g) - min_all(g) + median(g)"
        " + rms_normalize(g) * size(g)"
    )
    output, memory = f.evaluate({"g": jnp.ones(shape)})
    assert (output.shape, memory) == (shape, {})


def test_an_undeclared_input_still_gives_the_shape():
    f = parse("optimizer\ninputs lr\nreturn lr")
    assert f.evaluate({"lr": 0.5, "p": jnp.ones((2, 3))})[0].shape == (2, 3)
    assert f.evaluate({"lr": 0.5})[0].shape == ()


def test_a_scalar_in_memory_is_spread():
    f = parse("optimizer\ninputs g, lr\nmemory v = 0\nw = v\nv = lr\nreturn g + w")
    _, memory = f.evaluate({"g": jnp.ones(3), "lr": 0.5}, f.init_memory((3,)))
    assert memory["v"].tolist() == [0.5] * 3


def test_guarded_root_has_a_finite_gradient():
    guarded = "where(r > 0, sqrt(where(r > 0, r, 1)), 0)"
    plain = "where(r > 0, sqrt(r), 0)"
    slopes = {}
    for text in (guarded, plain):
        f = parse(f"drift\ninputs r\nreturn {text}")
        slopes[text] = [
            float(jax.grad(lambda r, f=f: f.evaluate({"r": r})[0])(r))
            for r in (-1.0, 0.0, 4.0)
        ]
    assert slopes[guarded] == [0.0, 0.0, 0.25]
    assert math.isnan(slopes[plain][0])


def test_the_published_radam_has_a_finite_gradient_in_its_first_steps():
    f = published.load("open_recurrent_llm_minatar")
    scalars = {"t_p": 0.1, "l_p": 0.5, "lr": 1.0, "dorm": 1.0, "rand": 0.5}

    def update(g, iteration):
        inputs = {**scalars, "g": g, "iteration": iteration}
        memory = {**f.init_memory(()), "v": jnp.asarray(0.01)}
        return f.evaluate(inputs, memory)[0]

    slopes = jax.vmap(jax.grad(update))(jnp.full(6, 0.1), jnp.arange(1.0, 7.0))
    assert jnp.isfinite(slopes).all() and (slopes > 1e-3).all()


def test_gradient_of_the_norm_of_zeros_is_zero():
    f = published.load("archive_relative")
    g = jnp.ones(3)
    slope = jax.grad(lambda p: f.evaluate({"p": p, "g": g})[0].sum())(jnp.zeros(3))
    assert slope.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("inputs", "memory", "constants", "message"),
    [
        ({"g": 1.0, "lr": 1.0}, {}, {}, "inputs has no 'dorm'; pass it by name"),
        ({"q": 1.0}, {}, {}, "inputs has the unknown name 'q'"),
        (
            {"g": 1.0, "lr": 1.0, "dorm": 1.0},
            {"m": 0.0},
            {},
            r"memory has no 'v'; pass it by name \(from init_memory\)",
        ),
        (
            {"g": 1.0, "lr": 1.0, "dorm": 1.0},
            {"m": 0.0, "v": 0.0, "w": 0.0},
            {},
            "memory has the unknown name 'w'",
        ),
        (
            {"g": 1.0, "lr": 1.0, "dorm": 1.0},
            {"m": 0.0, "v": 0.0},
            {"b": 1.0},
            "constants has the unknown name 'b'; choose one of a",
        ),
        (
            {"g": np.ones(3), "lr": np.ones(3), "dorm": 1.0},
            {"m": np.ones(3), "v": np.ones(3)},
            {},
            r"'lr' has shape \(3,\); give one scalar",
        ),
        (
            {"g": np.ones(3), "lr": 1.0, "dorm": 1.0},
            {"m": np.ones((3, 3)), "v": np.ones(3)},
            {},
            r"'m' has shape \(3, 3\) and 'g' has \(3,\)",
        ),
        (
            {"g": np.ones((3, 2)), "lr": 1.0, "dorm": np.ones(3)},
            {"m": np.ones((3, 2)), "v": np.ones((3, 2))},
            {},
            r"'dorm' has shape \(3,\) and 'g' has \(3, 2\)",
        ),
        (
            {"g": 1.0, "lr": 1.0, "dorm": 1.0},
            {"m": 0.0, "v": 0.0},
            {"a": np.ones(2)},
            r"'a' has shape \(2,\); give one scalar",
        ),
    ],
)
def test_errors_of_a_call(inputs, memory, constants, message):
    with pytest.raises(ExpressionError, match=message) as caught:
        MOMENTUM.evaluate(inputs, memory, constants)
    assert caught.value.category == "call_error"
