"""The drop-in policy loss: PPO's with PPO's drift, mirror learning's with any."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.rules import drifts, losses
from tests import oracle_drifts
from tests.shapes import checked


def points(n=500):
    rng = np.random.default_rng(0)
    ratio = np.exp(rng.normal(0, 0.3, n)).astype(np.float32)
    return ratio, rng.normal(size=n).astype(np.float32)


def ppo_loss(ratio, advantage, clip_eps):
    """PPO's clipped objective as everybody writes it."""
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean()


def plain(clip_eps):
    """PPO's drift as a function the loss knows nothing about."""
    drift = drifts.ppo(clip_eps)
    return lambda ratio, advantage: drift(ratio, advantage)


@pytest.mark.parametrize("clip_eps", [0.05, 0.2, 0.5])
def test_with_ppos_drift_it_is_ppos_loss_to_the_bit(clip_eps):
    ratio, advantage = points()
    ours = jax.value_and_grad(losses.policy_loss)(
        ratio, advantage, drifts.ppo(clip_eps)
    )
    theirs = jax.value_and_grad(ppo_loss)(ratio, advantage, clip_eps)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    moving = np.mean(np.asarray(theirs[1]) != 0)
    assert 0.4 < moving < 1


@pytest.mark.parametrize("clip_eps", [0.05, 0.2, 0.5])
def test_the_identity_of_drift_and_clipping(clip_eps):
    # r A - relu((r - clip(r)) A) = min(r A, clip(r) A), by way of the drift.
    ratio, advantage = points()
    value, slope = jax.value_and_grad(losses.policy_loss)(
        ratio, advantage, plain(clip_eps)
    )
    expected, expected_slope = jax.value_and_grad(ppo_loss)(ratio, advantage, clip_eps)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-6, atol=1e-12)


def test_the_default_is_ppo_with_the_usual_clip():
    ratio, advantage = points()
    expected = [
        -oracle_drifts.clipped_objective(*p) for p in zip(ratio, advantage, strict=True)
    ]
    terms = losses.policy_loss_terms(ratio, advantage)
    np.testing.assert_allclose(terms, expected, rtol=1e-6)
    assert losses.policy_loss(ratio, advantage) == terms.mean()


def test_a_ratio_that_explodes_does_not_round_the_clipped_value_away():
    found = losses.policy_loss(jnp.array([1e8]), jnp.array([1.0]))
    assert found == pytest.approx(-1.2, rel=1e-6)


def test_terms_are_objective_minus_drift():
    ratio, advantage = points()
    terms = losses.policy_loss_terms(ratio, advantage, drifts.dpo())
    expected = [
        oracle_drifts.dpo(r, a) - float(r) * float(a)
        for r, a in zip(ratio, advantage, strict=True)
    ]
    np.testing.assert_allclose(terms, expected, rtol=1e-5, atol=1e-6)
    loss = losses.policy_loss(ratio, advantage, drifts.dpo())
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_at_the_old_policy_every_drift_leaves_the_policy_gradient():
    advantage = points()[1]
    for drift in (drifts.ppo(), drifts.dpo(), plain(0.2)):
        slope = jax.grad(losses.policy_loss)(jnp.ones(500), advantage, drift)
        np.testing.assert_allclose(slope, -advantage / 500, rtol=1e-6)


def test_annotated_shapes(monkeypatch):
    ratio, advantage = map(jnp.asarray, points(6))
    loss = checked(monkeypatch, losses.policy_loss)
    terms = checked(monkeypatch, losses.policy_loss_terms)
    assert loss(ratio, advantage).shape == ()
    assert terms(ratio.reshape(2, 3), advantage.reshape(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("loss", [losses.policy_loss, losses.policy_loss_terms])
@pytest.mark.parametrize("drift", [drifts.ppo(), plain(0.2)], ids=["PPO", "any"])
def test_different_shapes_are_refused(loss, drift):
    with pytest.raises(ValueError, match=r"ratio has shape \(3,\), advantage \(3, 1\)"):
        loss(jnp.ones(3), jnp.ones((3, 1)), drift)


@pytest.mark.parametrize("loss", [losses.policy_loss, losses.policy_loss_terms])
def test_a_drift_that_is_not_elementwise_is_refused(loss):
    with pytest.raises(ValueError, match=r"drift has shape \(\) for .* \(3,\)"):
        loss(jnp.ones(3), jnp.ones(3), lambda r, a: (r * a).mean())
    with pytest.raises(TypeError, match="drift=0.2 is not a function"):
        loss(jnp.ones(3), jnp.ones(3), 0.2)
