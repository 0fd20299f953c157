import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import artifacts, drifts
from learned_opt_rl.evaluation.pictures import artifact
from learned_opt_rl.evaluation.pictures.artifact import beside_ppo, optimizer_factory

DPO = "discovered/dpo"


def load(*names):
    return [artifacts.load(name) for name in names]


def test_drifts_come_after_ppos_in_the_order_given():
    names = ["discovered/lpo_llm_ant", DPO]
    shown = beside_ppo(load(*names))
    assert list(shown) == ["PPO", *names]
    assert shown["PPO"] == drifts.ppo(0.2)
    points = jnp.array([0.5, 1.5, 2.0]), jnp.array([-1.0, 1.0, 3.0])
    np.testing.assert_allclose(shown[DPO](*points), drifts.dpo()(*points), rtol=1e-6)


def test_an_optimizer_explores_by_the_key_it_is_given():
    (artifact,) = load("discovered/open_llm_minatar")
    make = optimizer_factory(artifact)
    params = {"actor": {"kernel": jnp.ones(3)}}

    def step(key):
        tx = optax.with_extra_args_support(make(key))
        return tx.update(params, tx.init(params), params)[0]["actor"]["kernel"]

    first, again, other = (step(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize("name", ["discovered/archive_sign", DPO])
def test_a_picture_is_written(tmp_path, name):
    pytest.importorskip("matplotlib")
    options = {"size": 5, "seeds": 1} if name != DPO else {}
    file = tmp_path / "small.png"
    artifact.plot_artifacts(load(name), file, dpi=20, **options)
    small = file.read_bytes()
    assert small.startswith(b"\x89PNG")
    artifact.plot_artifacts(load(name), file, dpi=80, **options)
    assert file.stat().st_size > len(small)


@pytest.mark.parametrize("names", [[], ["minatar", DPO], ["minatar", "minatar"]])
def test_what_makes_no_one_picture_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match="pass one optimizer, or drifts only"):
        artifact.plot_artifacts(load(*names), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_an_update_rule_is_refused(tmp_path):
    (drift,) = load(DPO)
    card = dataclasses.replace(drift.card, kind="update_rule")
    rule = dataclasses.replace(drift, card=card)
    with pytest.raises(ValueError, match="has the kinds .'update_rule'."):
        artifact.plot_artifacts([rule], tmp_path / "x.png")
