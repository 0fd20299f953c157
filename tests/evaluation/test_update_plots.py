import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.pictures.artifact import fits, probe, update_figure

SMALL = {"size": 7, "seeds": 1}


def named(surfaces, t=0, d=0):
    return {fit.name: fit for fit in fits(surfaces, surfaces.updates[t, d])}


def learned(key):
    return open_rl.pretrained("minatar", horizon=Horizon(100), key=key)


def annealed(key):
    """A rule that uses its extra arguments, and says how."""

    def update(updates, state, params, *, training_proportion, dormancy, **extra):
        assert set(extra) == {"batch_proportion"}
        factor = (1 - training_proportion) * dormancy["actor"]["Dense_0"]
        return jax.tree.map(lambda g: -factor * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def noisy(key):
    return optax.chain(
        optax.sgd(0.1),
        optax.stateless(
            lambda u, _: jax.tree.map(
                lambda x: x + 0.01 * jax.random.normal(key, x.shape), u
            )
        ),
    )


def test_the_gradient_is_the_last_axis_and_momentum_the_one_before():
    surfaces = probe(lambda key: optax.sgd(0.5), scale=1.0, **SMALL)
    assert surfaces.updates.shape == (3, 3, 7, 7)
    np.testing.assert_allclose(surfaces.axis, np.linspace(-1, 1, 7), rtol=1e-6)
    expected = np.tile(-0.5 * surfaces.axis, (3, 3, 7, 1))
    np.testing.assert_allclose(surfaces.updates, expected, rtol=1e-6)


def test_the_momentum_before_the_step_is_as_labelled():
    surfaces = probe(lambda key: optax.ema(0.9, debias=False), scale=1.0, **SMALL)
    m, g = np.meshgrid(surfaces.axis, surfaces.axis, indexing="ij")
    np.testing.assert_allclose(
        surfaces.updates[0, 0], 0.9 * m + 0.1 * g, rtol=1e-5, atol=1e-6
    )


def test_time_and_dormancy_reach_the_rule():
    surfaces = probe(
        annealed, training_proportions=(0.0, 0.75), dormancies=(0.5, 2.0), **SMALL
    )
    slopes = surfaces.updates[..., -1] / surfaces.axis[-1]
    expected = np.array([[-0.5, -2.0], [-0.125, -0.5]])
    np.testing.assert_allclose(slopes, np.tile(expected[..., None], 7), rtol=1e-6)


def test_exploration_noise_is_averaged_away():
    def deviation(seeds):
        surfaces = probe(noisy, size=11, seeds=seeds)
        return np.std(surfaces.updates + 0.1 * surfaces.axis)

    assert deviation(1) == pytest.approx(0.01, rel=0.3)
    assert deviation(25) == pytest.approx(0.002, rel=0.3)


# Fits: each handcrafted rule is found again, with its learning rate.


def sign_momentum(rate):
    return optax.chain(
        optax.ema(0.9, debias=False), optax.scale_by_sign(), optax.scale(-rate)
    )


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (optax.adam(1e-3), "m/sqrt(v)"),
        (optax.sgd(1e-3), "g"),
        (sign_momentum(1e-3), "sign(m)"),
    ],
    ids=["adam", "sgd", "sign-momentum"],
)
def test_a_handcrafted_rule_is_recognized(rule, name):
    found = named(probe(lambda key: rule, size=11, seeds=1))
    assert found[name].coefficient == pytest.approx(-1e-3, rel=1e-3)
    assert found[name].r_squared == pytest.approx(1, abs=1e-4)
    for other in found.keys() - {name}:
        assert found[other].r_squared < 0.97


def test_no_update_has_no_fit():
    found = named(probe(lambda key: optax.set_to_zero(), **SMALL))
    assert all(fit.coefficient == 0 for fit in found.values())
    assert all(np.isnan(fit.r_squared) for fit in found.values())


def test_a_learned_optimizer_is_probed_as_any_other():
    surfaces = probe(learned, dormancies=(1.0,), size=9, seeds=4)
    assert np.isfinite(surfaces.updates).all()
    # It descends: against the momentum, on the whole.
    assert named(surfaces)["sign(m)"].coefficient < 0


# Pictures.


def test_panels_are_labelled_with_time_dormancy_and_fits():
    pytest.importorskip("matplotlib")
    options = {
        "training_proportions": (0.0, 1.0),
        "dormancies": (0.5, 1.0, 4.0),
        "scale": 0.02,
        **SMALL,
    }
    surfaces = probe(annealed, **options)
    figure = update_figure(annealed, **options)
    axes = np.array(figure.axes).reshape(3, 2)
    assert axes[2, 0].get_title().startswith("t_p = 0, dormancy = 4, max |Δ| = 8.0e-02")
    assert "-4.00e+00 · g, R² = 1.00" in axes[2, 0].get_title()
    assert "t_p = 1, dormancy = 0.5" in axes[0, 1].get_title()
    assert "sign(m): no update" in axes[0, 1].get_title()
    assert axes[2, 1].get_xlabel() == "gradient g"
    assert axes[0, 0].get_ylabel() == "momentum m (0.9) before"
    for panel in axes.ravel():
        np.testing.assert_allclose(
            panel.images[0].get_extent(), [-0.02, 0.02, -0.02, 0.02], rtol=1e-6
        )
    np.testing.assert_array_equal(
        axes[1, 0].images[0].get_array(), surfaces.updates[0, 1]
    )


def test_no_update_is_drawn_as_the_middle_of_the_scale():
    pytest.importorskip("matplotlib")
    figure = update_figure(lambda key: optax.set_to_zero(), **SMALL)
    (image,) = figure.axes[0].images
    assert image.norm(0.0) == 0.5


def test_missing_matplotlib_names_the_extra_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    def never(key):
        raise AssertionError("the optimizer was made")

    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        update_figure(never)


def test_a_rule_that_diverges_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")

    def broken(key):
        return optax.stateless(lambda u, _: jax.tree.map(jnp.sqrt, u))

    file = tmp_path / "broken.png"
    figures.save(update_figure(broken, **SMALL), file)
    assert file.stat().st_size > 1000
