"""Closed forms whose constants are evolved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import expressions
from learned_opt_rl.agents import preset as agent_preset
from learned_opt_rl.artifacts.weights import load_safetensors, save_safetensors
from learned_opt_rl.errors import ArtifactError, ExpressionError
from learned_opt_rl.features import DECAYS
from learned_opt_rl.training.evolution import Campaign, EvolutionConfig, preset
from learned_opt_rl.training.learned import Learned, file_digest

_SIGN = "optimizer\ninputs g\nconstant step = 0.5\nreturn step * sign(g)"
_DRIFT = "drift\ninputs r, A\nconstant k = 2\nreturn k * abs(A) * (r - 1)**2"
_TINY = {"num_envs": 4, "num_steps": 8, "minibatches": 2, "epochs": 1, "hidden": (4,)}


def _form(text):
    return Learned("expression", {"text": text})


def _config(**overrides):
    return agent_preset("CartPole-v1", 64, **_TINY, **overrides)


def test_the_vector_is_the_constants():
    learned = _form("optimizer\ninputs g\nconstant b = 2\nconstant a = 3\nreturn a*b*g")
    start = learned.start("declared", jax.random.key(0))
    assert learned.size == 2
    assert learned.unravel(start) == {"a": 3.0, "b": 2.0}


def test_the_rule_takes_its_constants_from_the_vector():
    rule = _form(_SIGN).rule(jnp.array([0.25]), _config(), "CartPole-v1")
    tx = rule.optimizer(jax.random.key(0))
    params = {"actor": {"kernel": jnp.ones((2, 2))}}
    grads = {"actor": {"kernel": jnp.array([[1.0, -3.0], [0.0, 2.0]])}}
    updates, _ = tx.update(grads, tx.init(params), params)
    expected = [[-0.25, 0.25], [0.0, -0.25]]
    np.testing.assert_array_equal(updates["actor"]["kernel"], expected)


def test_a_drift_is_used_with_tuned_adam():
    rule = _form(_DRIFT).rule(jnp.array([3.0]), _config(), "CartPole-v1")
    assert rule.drift is not None
    np.testing.assert_allclose(rule.drift(jnp.array([1.5]), jnp.array([-2.0])), [1.5])


def test_sign_mixture_starts_as_annealed_sign_momentum():
    config = preset("sign-mixture-minatar")
    learned = config.learned
    start = learned.start(config.start, jax.random.key(0))
    run = config.runs(200_000)["Breakout-MinAtar"]
    tx = learned.rule(start, run, "Breakout-MinAtar").optimizer(jax.random.key(0))
    params = {"actor": {"dense_0": {"kernel": jnp.ones((3, 2))}}}
    grads = {"actor": {"dense_0": {"kernel": jnp.array([[1.0, -1], [2, 0], [0, 5]])}}}
    updates, _ = tx.update(grads, tx.init(params), params, training_proportion=0.25)
    assert 0.9 in DECAYS
    sign = np.sign(grads["actor"]["dense_0"]["kernel"])
    found = updates["actor"]["dense_0"]["kernel"]
    np.testing.assert_allclose(found, -0.75 * np.exp(-7.13) * sign, rtol=1e-5)


@pytest.mark.slow
def test_a_campaign_keeps_the_constants_by_name(tmp_path):
    config = EvolutionConfig(
        "expression",
        {"text": _SIGN},
        environments=("CartPole-v1",),
        horizons=((0, 64),),
        agent=_TINY,
        start="declared",
        population=4,
        sigma=0.3,
        generations=1,
        validation_seeds=1,
    )
    standing = Campaign(config, tmp_path).run()
    file = str(tmp_path / "best.safetensors")
    assert load_safetensors(file, file_digest(file)) == {"step": standing.best_mean}
    again = config.learned.start(file, jax.random.key(1))
    np.testing.assert_array_equal(again, standing.best_mean)


def test_an_invalid_text_or_one_without_constants_is_refused():
    with pytest.raises(ExpressionError, match="line 2"):
        _form("optimizer\ninputs q\nreturn q")
    with pytest.raises(ValueError, match="architecture=.* declares no constants; add"):
        _form("optimizer\ninputs g\nreturn g")
    with pytest.raises(ValueError, match="start='declared' requires an expression"):
        Learned("open", {"carry": None, "width": 4}).start(
            "declared", jax.random.key(0)
        )


def test_a_file_that_is_missing_or_of_other_weights_is_refused(tmp_path):
    learned = _form(_SIGN)
    with pytest.raises(ArtifactError, match="cannot be read .No such file"):
        learned.start(str(tmp_path / "no.safetensors"), jax.random.key(0))
    save_safetensors(tmp_path / "other.safetensors", {"other": np.ones((), "f4")})
    with pytest.raises(ArtifactError, match="does not fit Form"):
        learned.start(str(tmp_path / "other.safetensors"), jax.random.key(0))


def test_the_preset_is_canonical_language():
    text = preset("sign-mixture-minatar").architecture["text"]
    function = expressions.parse(text)
    assert expressions.parse(function.to_text()) == function
    assert len(function.constants) == 10
