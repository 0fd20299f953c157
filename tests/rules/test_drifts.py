"""The drifts in closed form, and the check of what makes a drift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.rules import drifts
from tests import oracle_drifts

CLOSED = {"ppo_clip": drifts.ppo(0.2), "dpo": drifts.dpo(2.0, 0.6)}
MAKE = {"ppo_clip": (drifts.ppo, ["epsilon"]), "dpo": (drifts.dpo, ["alpha", "beta"])}
ORACLE = {"ppo_clip": oracle_drifts.ppo, "dpo": oracle_drifts.dpo}


def points(n=400, seed=0):
    rng = np.random.default_rng(seed)
    ratio = np.exp(rng.uniform(-2, 2, n)).astype(np.float32)
    return ratio, (4 * rng.normal(size=n)).astype(np.float32)


def gradient(f, ratio, advantage):
    return jax.grad(lambda r: f(r, advantage).sum())(ratio)


# Against the reference.


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_closed_forms_equal_the_reference(reference, name, dtype):
    arrays = np.load(reference / "golden" / "published_functions.npz")

    def column(field):
        return arrays[f"{name}/{field}"]

    make, constants = MAKE[name]

    def drift(ratio, advantage, *constants):  # which are another number in each row
        return make(*constants)(ratio, advantage)

    with jax.enable_x64(dtype == "float64"):
        inputs = [
            jnp.broadcast_to(jnp.asarray(column(field), dtype), 256)
            for field in ("ratio", "advantage", *constants)
        ]
        value = jax.vmap(drift)(*inputs)
        slope = jax.vmap(jax.grad(drift))(*inputs)
    assert value.dtype == dtype
    exact = dtype == "float64"
    slack = 1e-15 if exact else 1e-6 * np.maximum(1, np.abs(column("advantage")))
    rtol = 1e-10 if exact else 2e-5

    def close(found, expected, where=slice(None)):
        error = np.abs(np.asarray(found, float) - expected)
        bound = slack + rtol * np.abs(expected)
        np.testing.assert_array_less(error[where], np.broadcast_to(bound, 256)[where])

    # Both closed forms are rectified already.
    close(value, np.maximum(column("output"), 0))
    close(value, column("drift"))
    smooth = column("smooth")
    assert smooth.sum() > 200
    close(slope, column("d_output_d_ratio"), smooth)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_equal_the_oracle(name):
    ratio, advantage = points()
    expected = [ORACLE[name](*p) for p in zip(ratio, advantage, strict=True)]
    found = jax.jit(CLOSED[name])(ratio, advantage)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
    assert np.count_nonzero(expected) > 100


def test_other_constants_equal_the_oracle():
    ratio, advantage = points(100)
    for ours, theirs, constants in (
        (drifts.ppo, oracle_drifts.ppo, (0.1,)),
        (drifts.dpo, oracle_drifts.dpo, (1.0, 0.3)),
    ):
        expected = [theirs(*p, *constants) for p in zip(ratio, advantage, strict=True)]
        found = ours(*constants)(ratio, advantage)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_from_function_takes_off_the_offset_and_rectifies():
    drift = drifts.from_function(lambda r, a: (r - 1) * a, offset=0.25)
    found = drift(jnp.array([2.0, 1.125, 0.5]), jnp.array([1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(found, [0.75, 0, 0])


def test_an_underflowed_ratio_gives_no_nan():
    # exp of a log-probability difference below -104 is 0 in float32.
    ratio, advantage = jnp.zeros(2), jnp.array([1.0, -1.0])
    for drift in CLOSED.values():
        assert np.isfinite(drift(ratio, advantage)).all()
        assert np.isfinite(gradient(drift, ratio, advantage)).all()


def test_constants_may_be_traced():
    widths = jnp.array([0.1, 0.2, 0.3])
    found = jax.vmap(lambda e: drifts.ppo(e)(jnp.array(2.0), jnp.array(1.0)))(widths)
    np.testing.assert_allclose(found, 1 - widths, rtol=1e-6)


@pytest.mark.parametrize("name", CLOSED)
def test_under_jit_vmap_and_bfloat16(name):
    ratio, advantage = points(12)
    drift = CLOSED[name]
    plain = drift(ratio, advantage)
    batched = jax.jit(jax.vmap(drift))(ratio.reshape(3, 4), advantage.reshape(3, 4))
    np.testing.assert_allclose(batched.ravel(), plain, rtol=1e-5, atol=1e-6)
    half = drift(jnp.bfloat16(ratio), jnp.bfloat16(advantage))
    assert half.dtype == jnp.bfloat16


# The check: the numbers of the published table.


def symbolic_ant(r, a, sign=-1.0):
    x = jnp.log(r)
    numerator = jnp.tanh(jnp.tanh(x) ** 2) + sign * (0.99 * x) ** 2
    least = jnp.minimum(jnp.minimum(a - 0.50, r - 1), -0.53) / (0.64 / 0.50)
    return numerator / jnp.minimum(jnp.tanh(jnp.abs(a) * jnp.tanh(-0.19)), least)


def symbolic_minatar(r, a):
    x, u = jnp.log(r), r - 1
    inner = jnp.maximum(
        jnp.minimum(0.15, -0.97 * u), jnp.minimum(-0.28 - x, a**2)
    ) * jnp.tanh(jnp.abs(a - 0.46))
    outer = jnp.tanh(u * a / jnp.maximum(1.32**2, a - x))
    return jnp.maximum(inner**2 + outer, -0.86)


def squared_log_clip(r, a):
    return jnp.abs(a) * jnp.maximum(jnp.abs(jnp.log(r)) - 0.2, 0) ** 2


def poly_clip(r, a):
    half = (jnp.log(r) / 0.2) ** 2 / 2
    return jnp.maximum(0, (half - jnp.log1p(half)) * a)


def taper(r, a):
    return jnp.abs(a) * (1 - jnp.exp(-(((r - 1) / 0.2) ** 4)))


# f, offset, minimum on grid and wide grid, slope, after relu, active, correlation.
TABLE = {
    "ppo": (drifts.ppo(), 0.0, (0, 0), 0, 0.40, 1.00),
    "dpo": (drifts.dpo(), 0.0, (0, 0), 0, 0.50, 0.85),
    "ant": (symbolic_ant, 1e-6, (-3.6e-4, -3.6e-4), 0, 0.83, 0.40),
    "minatar": (symbolic_minatar, 1e-6, (-0.585, -0.854), 2.3, 0.61, 0.94),
    "squared_log_clip": (squared_log_clip, 0.0, (0, 0), 0, 0.80, 0.51),
    "log_poly_clip": (poly_clip, 0.0, (0, 0), 0, 0.50, 0.59),
    "exp_taper_drift": (taper, 0.0, (0, 0), 0, 1.00, 0.38),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_report_has_the_numbers_of_the_published_table(name):
    f, offset, minimum, slope, active, correlation = TABLE[name]
    report = drifts.check(f, offset=offset)
    np.testing.assert_allclose(report.minimum, minimum, rtol=0.02, atol=1e-6)
    assert report.at_one == 0
    assert report.slope == pytest.approx(slope, rel=0.02, abs=1e-6)
    assert report.slope_after_relu == pytest.approx(0, abs=1e-6)
    assert report.active == pytest.approx(active, abs=0.006)
    assert report.correlation == pytest.approx(correlation, abs=0.006)
    assert report.valid == (name not in ("ant", "minatar"))
    assert report.valid_after_relu


def test_a_drift_that_is_always_zero_has_correlation_zero():
    report = drifts.check(lambda r, a: symbolic_ant(r, a, sign=1.0))
    np.testing.assert_allclose(report.minimum, (-3.6, -23), rtol=0.03)
    assert (report.active, report.correlation) == (0, 0)


# The check: what is broken, and where.


def failures(f, **options):
    report = drifts.check(f, **options)
    assert not report.valid
    return report, {failure.problem: failure for failure in report.failures[::-1]}


def test_a_negative_drift_is_located():
    def f(r, a):  # lowest at r = 0.5, A = 2; within the narrow grid
        near = (jnp.log(r) - jnp.log(0.5)) ** 2 + (a - 2) ** 2
        return -0.3 * jnp.exp(-50 * near)

    report, found = failures(f)
    failure = found["negative"]
    assert failure.value == pytest.approx(-0.3, rel=0.02) == report.minimum[0]
    assert failure.ratio == pytest.approx(0.5, abs=0.01)
    assert failure.advantage == pytest.approx(2, abs=0.03)
    assert 0 < failure.share < 0.1
    assert not failure.after_relu and report.valid_after_relu
    assert "valid after the relu" in str(report)
    assert "negative: -0.29" in str(report) and "relu removes it" in str(report)


def test_a_drift_negative_only_far_away_is_found_on_the_wide_grid():
    report, found = failures(lambda r, a: jnp.where(a > 9, -1.0, 0.0) * (r - 1) ** 2)
    assert report.minimum[0] == 0
    assert found["negative"].advantage > 9


@pytest.mark.parametrize(
    ("f", "slope", "advantages"),
    [
        (lambda r, a: jnp.maximum(r - 1, 0) * jnp.maximum(a, 0), 4, [4]),
        (lambda r, a: jnp.abs(r - 1) * jnp.abs(a), 4, [-4, 4]),  # flat to autodiff
        (lambda r, a: jnp.where(a == -4, jnp.maximum(-jnp.log(r), 0), 0), 1, [-4]),
    ],
    ids=["one side", "kink", "one advantage"],
)
def test_a_slope_at_ratio_one_is_located(f, slope, advantages):
    report, found = failures(f)
    failure = found["not flat at r = 1"]
    assert failure.ratio == 1
    assert failure.advantage in advantages
    assert abs(failure.value) == pytest.approx(slope, rel=1e-6)
    assert report.slope == report.slope_after_relu == abs(failure.value)
    assert failure.after_relu and not report.valid_after_relu
    assert str(report).startswith("not a valid drift")


def test_a_quadratic_is_flat():
    assert drifts.check(lambda r, a: 5 * (r - 1) ** 2 * jnp.abs(a)).valid


def test_a_drift_that_is_not_zero_at_one_is_located():
    report, found = failures(lambda r, a: 0.5 * jnp.maximum(a - 3, 0) * r**0)
    failure = found["not zero at r = 1"]
    assert (failure.ratio, failure.advantage) == (1, 4)
    assert failure.value == 0.5
    assert report.at_one == 0.5
    assert report.failures[-1].value == 3.5  # at A = 10
    assert not report.valid_after_relu


def test_nan_is_located():
    def f(r, a):
        return jnp.where((r > 2) & (a < -3.9), jnp.nan, 0.0) * (r - 1) ** 2

    report, found = failures(f)
    failure = found["not finite"]
    assert np.isnan(failure.value)
    assert failure.ratio > 2 and failure.advantage < -3.9
    assert report.minimum == (0, 0)
    assert not report.valid_after_relu


def test_a_nan_slope_at_one_is_located_though_values_are_finite():
    # The first minibatch of every rollout has all ratios exactly 1.
    _, found = failures(lambda r, a: jnp.sqrt((r - 1) ** 4) * jnp.abs(a))
    failure = found["not finite"]
    assert failure.ratio == 1 and np.isnan(failure.value)


def test_an_offset_that_hides_a_slope_shows_it_before_the_relu():
    report = drifts.check(symbolic_minatar, offset=1e-6)
    assert not report.valid and report.valid_after_relu
    flat = next(f for f in report.failures if f.problem == "not flat at r = 1")
    assert flat.value == pytest.approx(-4 / 1.7424, rel=0.01)
    assert flat.advantage == -4


def test_the_check_leaves_the_precision_of_jax_alone():
    drifts.check(drifts.ppo(), size=4)
    assert jnp.ones(1).dtype == jnp.float32


# Errors.


@pytest.mark.parametrize("name", CLOSED)
def test_different_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r"ratio has shape \(3,\), advantage \(3, 1\)"):
        CLOSED[name](jnp.ones(3), jnp.ones((3, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drifts.ppo(0.0), "clip_eps=0.0 must be positive"),
        (lambda: drifts.ppo(float("nan")), "clip_eps=nan must be positive"),
        (lambda: drifts.dpo(alpha=-1.0), "alpha=-1.0 must be positive"),
        (lambda: drifts.dpo(beta=0), "beta=0 must be positive"),
        (lambda: drifts.from_function(jnp.add, offset=-1e-6), "offset=-1e-06 must be"),
        (lambda: drifts.check(jnp.multiply, size=1), "size=1 must be at least 2"),
        (
            lambda: drifts.check(lambda r, a: r.sum()),
            r"shape \(\) for .*elementwise",
        ),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [drifts.from_function, drifts.check])
def test_what_is_no_function_is_refused(make):
    with pytest.raises(TypeError, match="='ppo' is not a function .* drifts.ppo"):
        make("ppo")
