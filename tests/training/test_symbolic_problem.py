"""Teachers as data: columns, targets, templates, and teachers that are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import no_features, open_rl
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions import parse
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules import drifts, parts
from learned_opt_rl.training.distillation.teachers import teacher
from learned_opt_rl.training.proposal import EvaluationConfig
from learned_opt_rl.training.symbolic import configure, problem
from learned_opt_rl.training.symbolic.config import TEMPLATES, filled
from learned_opt_rl.training.symbolic.problem import (
    make_problem,
    require_symbolic,
    values_of,
)
from tests.training.promotions import run_of

pytestmark = pytest.mark.usefixtures("quick_compilation", "small")

WHERE = EvaluationConfig(("CartPole-v1",), steps=4096, seeds=2)
TENSORS, SIZE, GRID = 3, 16, 8


@pytest.fixture
def small(monkeypatch):
    """Few rows."""
    monkeypatch.setattr(problem, "_SHAPE", (1, TENSORS, SIZE))
    monkeypatch.setattr(problem, "_GRID", GRID)


def expression(tmp_path, text):
    (tmp_path / "rule.txt").write_text(text)
    return teacher(str(tmp_path / "rule.txt"))


def network(tmp_path, rule, name, carry=None):
    weights = rule.init(jax.random.key(0), rule.Architecture(carry, 4))
    sizes = {"carry": carry, "width": 4}
    return teacher(str(run_of(tmp_path / name, name, sizes, weights)))


def made(one, **options):
    # Of the three samplers, this one compiles in the least time.
    if one.drift is None:
        options = {"inputs": "paper", **options}
    return make_problem(configure(one, WHERE, **options), one)


@pytest.mark.parametrize(
    ("name", "inputs"), [("open", "paper"), ("no_features", "scaled")]
)
def test_columns_are_what_the_network_sees(tmp_path, name, inputs):
    rule = open_rl if name == "open" else no_features
    one = network(tmp_path, rule, name)
    found = made(one, inputs=inputs, seed=3)
    x = found.tensors
    rows = []
    for i in range(TENSORS):
        leaf = x.parameter[0, i], x.gradient[0, i], x.momenta[0, i].T
        if name == "no_features":
            rows.append(jnp.concatenate(parts.no_features_features(*leaf, False)))
            continue
        shares = x.training_proportion, x.layer_proportion, x.batch_proportion
        shares = tuple(one[0, i] for one in shares)
        table = parts.open_features(*leaf, shares, x.dormancy[0, i])
        rows.append(jnp.concatenate(table))
    seen = np.concatenate(rows, axis=1)
    columns = dict(zip(found.meanings, found.columns.T, strict=True))
    if name == "open":
        np.testing.assert_array_equal(columns.pop("rand"), np.ravel(x.noise))
        assert float(np.std(x.noise)) > 0.5
    # A column of proportions that is 0 everywhere is left out.
    shown = [row for row in seen if row.any()]
    np.testing.assert_allclose([*columns.values()], shown, rtol=1e-5, atol=1e-6)
    # The target is the update of the network, in units of its rms.
    assert np.sqrt(np.mean(found.target**2)) == pytest.approx(1, rel=0.01)
    update = np.ravel(one.unrolled.update(one.weights, x))
    np.testing.assert_allclose(found.target * found.unit, update, rtol=1e-5)
    # Every column has the values that its meaning has as a rule.
    for index, text in enumerate(found.meanings.values()):
        values = values_of(text, x)
        np.testing.assert_allclose(found.columns[:, index], values, rtol=1e-6)


@pytest.mark.parametrize("name", ["open", "no_features"])
def test_joint_normalization_divides_by_one_number(tmp_path, name):
    rule = open_rl if name == "open" else no_features
    one = network(tmp_path, rule, name)
    found = made(one, normalization="joint", inputs="paper")
    x = found.tensors
    columns = dict(zip(found.meanings, found.columns.T, strict=True))
    count = 15 if name == "open" else 8
    divided = [*columns.values()][:count]
    assert np.mean(np.square(divided)) == pytest.approx(1, rel=1e-3)
    scale = columns["p_n"] / np.ravel(x.parameter)
    np.testing.assert_allclose(scale, scale[0], rtol=1e-5)
    # Of the released script, with a million rows: 1.71, and 0.72 for OPEN.
    sizes = {"no_features": 1.71, "open": 0.72}
    assert np.sqrt(np.mean(columns["p_n"] ** 2)) == pytest.approx(sizes[name], rel=0.2)
    if name == "no_features":
        outputs, _ = parts.apply(one.weights, jnp.asarray(np.stack(divided), "f4"))
        update = parts.deterministic_update(outputs)
        np.testing.assert_allclose(found.target * found.unit, update, rtol=1e-4)


def test_a_drift_has_the_published_grid_and_its_slope(tmp_path):
    one = expression(tmp_path, "drift\ninputs r, A\nreturn (r - 1)**2 * abs(A)")
    found = made(one)
    x, u, advantage, z, w = found.columns.T
    assert [*found.meanings] == ["x", "u", "A", "z", "w"]
    np.testing.assert_allclose(np.unique(x), np.arange(-GRID, GRID) / GRID)
    np.testing.assert_allclose(np.unique(advantage), 4 * np.arange(-GRID, GRID) / GRID)
    np.testing.assert_allclose(u, np.expm1(x), atol=1e-15)
    np.testing.assert_allclose((z, w), (u * advantage, x * advantage))
    np.testing.assert_allclose(found.target, u**2 * np.abs(advantage), atol=1e-14)
    np.testing.assert_allclose(found.slope, 2 * u * np.abs(advantage), atol=1e-14)
    assert found.unit == 1.0 and found.tensors is None


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_invert(template):
    rng = np.random.default_rng(0)
    u = np.expm1(rng.uniform(-1, 1, 200))
    h = rng.normal(0, 2, 200)
    form = {"relu": np.maximum, "softplus": np.logaddexp, "free": np.maximum}[template]
    size = np.ones_like(u) if template == "free" else u**2
    drift = size * form(h, 0)
    found, weights = TEMPLATES[template].inverse(drift, u)
    on = drift > 1e-3 * size
    assert 50 < on.sum() < 200
    np.testing.assert_allclose(found[on], h[on], rtol=1e-9, atol=1e-12)
    assert (weights >= 0).all() and np.isfinite(weights).all()
    # At ratio 1 and where the drift is 0, any negative h is right.
    zero, weight = TEMPLATES[template].inverse(np.zeros(3), np.array([0.0, 0.5, -0.5]))
    assert (form(zero, 0) < 2e-3).all() and np.isfinite(weight).all()
    # The weighted error of h is that of the drift, to first order.
    moved = size * form(h + 1e-6, 0) - drift
    if template != "free":
        np.testing.assert_allclose(
            weights[on] / weights[on].sum(),
            (moved**2)[on] / (moved**2)[on].sum(),
            rtol=1e-3,
        )


@pytest.mark.parametrize("template", ["relu", "softplus"])
@pytest.mark.parametrize(
    ("names", "h"),
    [
        (["A", "log_r"], "A - log_r"),
        (["r", "A"], "tanh(r * A) * -3"),
        ([], "0.5"),
    ],
)
def test_templates_give_valid_drifts(template, names, h):
    inputs = f"inputs {', '.join(names)}\n" if names else ""
    function = parse(f"drift\n{inputs}return {h}\n")
    rule = filled(function, template)
    assert set(rule.inputs) == {"r", *names}

    def drift(ratio, advantage):
        given = {"r": ratio, "A": advantage, "log_r": jnp.log(ratio)}
        return rule.evaluate(given)[0]

    assert drifts.check(drift, size=20).valid
    r, a = np.float32([0.5, 1.5]), np.float32([-1.0, 2.0])
    value = function.evaluate({"r": r, "A": a, "log_r": np.log(r)})[0]
    outer = {"relu": jax.nn.relu, "softplus": jax.nn.softplus}[template](value)
    np.testing.assert_allclose(drift(r, a), (r - 1) ** 2 * outer, rtol=1e-5, atol=1e-7)


def test_filled_keeps_lines_and_constants():
    text = "drift\ninputs A, log_r\nconstant c = 0.5\nx = c * A\nreturn x - x * log_r\n"
    assert filled(parse(text), None) == parse(text)
    assert filled(parse(text), "free").to_text() == text.replace(
        "x - x * log_r", "relu(x - x * log_r)"
    )
    whole = filled(parse(text), "softplus")
    assert whole.init_constants() == {"c": 0.5} and whole.inputs == ("r", "A", "log_r")
    constant = filled(parse("drift\nconstant c = 0.5\nreturn c"), "relu")
    assert constant.inputs == ("r",) and constant.init_constants() == {"c": 0.5}


def test_expressions_over_columns_are_rules(tmp_path):
    found = made(expression(tmp_path, "optimizer\ninputs g\nreturn 0.01 * g"))
    names = [*found.meanings]
    text = f"tanh(x{names.index('m_0_9')}) - 1.0f-5 * x{names.index('p')}"
    function = found.function(text)
    assert function.inputs == ("p", "g") and function.slots == ("m_0_9",)
    last = function.to_text().splitlines()[-1]
    assert last == f"return {found.unit!r} * (tanh(m_0_9) - 1e-5 * p)"
    for bad in ("x0 + x99", "x0 + special(x1)", "nan * x0"):
        with pytest.raises(ExpressionError):
            found.function(bad)


def test_columns_of_another_size_are_scaled(tmp_path):
    one = expression(tmp_path, "optimizer\ninputs g\nreturn 0.01 * g")
    found = made(one, inputs="scaled")
    sizes = np.sqrt(np.mean(found.columns**2, axis=0))
    assert ((sizes > 0.09) & (sizes < 11)).all()
    assert any(name.endswith("_n") for name in found.meanings)
    assert len(found.meanings) <= 2 + len(DECAYS) + 5
    # This rule adds no noise, so that no column has any.
    assert "rand" not in found.meanings


def test_one_variable_is_enough(tmp_path):
    found = made(expression(tmp_path, "drift\ninputs r\nreturn (r - 1)**2"))
    np.testing.assert_allclose(found.target, found.columns[:, 1] ** 2, atol=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "drift\ninputs r\nreturn 0 * r",
            "is 0 on all rows; a constant has no formula",
        ),
        ("optimizer\nreturn 0.1", "is 1 on all rows; a constant has no formula"),
        ("drift\ninputs r, A\nreturn (r - 1)**2 * log(A)", "is not finite on "),
        (
            "optimizer\ninputs g, p\nreturn p / (g - g)",
            "is not finite on 48 of 48 rows",
        ),
    ],
)
def test_targets_that_cannot_be_fitted(tmp_path, text, message):
    one = expression(tmp_path, text)
    with pytest.raises(ValueError, match=f"teacher=.*rule.txt' {message}"):
        made(one)


def test_recurrent_teachers_are_refused_with_the_reason(tmp_path):
    for one in (
        network(tmp_path, open_rl, "open", carry=4),
        expression(tmp_path, "optimizer\ninputs g\nmemory v = 0\nv = v + g\nreturn v"),
    ):
        message = "is recurrent: .* over 20 steps .* are 400 variables. Distill it"
        with pytest.raises(ValueError, match=message):
            require_symbolic(one)
    with pytest.raises(ValueError, match="teacher='minatar' is recurrent"):
        require_symbolic(teacher("minatar"))


def test_update_rules_are_refused():
    with pytest.raises(ValueError, match="is an update rule, which reads whole roll"):
        require_symbolic(teacher("lpg/gridworld"))


def test_defaults_follow_the_kind_of_the_teacher(tmp_path):
    drift = configure(expression(tmp_path, "drift\ninputs r\nreturn r"), WHERE)
    assert (drift.search.max_size, drift.search.max_depth) == (40, 8)
    one = expression(tmp_path, "optimizer\ninputs g\nreturn g")
    found = configure(one, WHERE, {"max_size": 30}, seed=4)
    assert (found.search.max_size, found.search.max_depth) == (30, 9)
    assert (found.seed, found.search.seed) == (4, 4)
    assert configure(one, WHERE, {"seed": 9}, seed=4).search.seed == 9
    # A teacher that subtracts its mean gives formulas that do, too.
    assert not found.evaluation.zero_mean
    centered = dataclasses.replace(one, zero_mean=True)
    assert configure(centered, WHERE).evaluation.zero_mean


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "papers"}, "inputs='papers' must be one of .*did you mean 'paper'"),
        ({"templates": ()}, "templates=.. is empty; give relu or softplus or free"),
        ({"templates": ("relu", "tanh")}, "templates='tanh' must be one of relu"),
        ({"normalization": "none"}, "normalization='none' must be "),
        ({"loss": "slopes"}, "loss='slopes' must be "),
        ({"fits": 0}, "fits=0 must be a positive"),
        ({"candidates": -1}, "candidates=-1 .*or give 0 for none"),
    ],
)
def test_impossible_configurations(tmp_path, options, message):
    one = expression(tmp_path, "drift\ninputs r\nreturn r")
    with pytest.raises(ValueError, match=message):
        configure(one, WHERE, **options)
