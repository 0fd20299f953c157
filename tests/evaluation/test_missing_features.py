import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import artifacts, open_rl
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.runs import rules
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules import trained_horizon

CONFIG = PPOConfig(81_920, epochs=2, minibatches=2)  # 10 rollouts of 4 updates
STEPS = 7  # into the second rollout, and within it the second epoch
KEY = jax.random.key(0)
PARAMS = {
    name: {"Dense_0": {"kernel": jnp.full((3, 2), 0.3)}} for name in ("actor", "critic")
}
GRADS = jax.tree.map(lambda x: jnp.arange(6.0).reshape(x.shape) - 2, PARAMS)
DORMANCY = {name: {"Dense_0": jnp.array([0.1, 1.9])} for name in PARAMS}


def second_update(tx):
    tx = optax.with_extra_args_support(tx)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(STEPS):
        updates, state = update(GRADS, state, PARAMS, dormancy=DORMANCY)
    return jax.tree.leaves(updates)


@functools.cache  # every missing feature is compared with the whole rule
def by_name(rule):
    return second_update(rules.resolve(rule, CONFIG, "Breakout-MinAtar")[0](KEY))


def by_hand(**options):
    tx = open_rl.pretrained("minatar", key=KEY, **options)
    return tx


@pytest.mark.parametrize(
    ("missing", "tx"),
    [
        ("no-horizon", by_hand(horizon=trained_horizon(artifacts.card("minatar")))),
        ("no-batch-proportion", by_hand(horizon=Horizon(40))),
        (
            "no-actor-mask",
            by_hand(horizon=CONFIG.horizon(), networks={"all": ["^actor", "^critic"]}),
        ),
    ],
)
def test_a_missing_feature_is_what_an_agent_without_it_would_give(missing, tx):
    without = second_update(tx)
    for got, expected in zip(by_name(f"minatar@{missing}"), without, strict=True):
        np.testing.assert_array_equal(got, expected)
    full = by_name("minatar")
    assert any((a != b).any() for a, b in zip(full, without, strict=True)), (
        "the feature makes no difference here, so this test would see nothing"
    )


def test_without_dormancy_the_optimiser_is_not_told_of_it():
    tx = open_rl.pretrained("minatar", key=KEY, horizon=CONFIG.horizon())
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(STEPS):
        updates, state = update(GRADS, state, PARAMS)
    for got, expected in zip(
        by_name("minatar@no-dormancy"), jax.tree.leaves(updates), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("minatar@no-luck", "'no-luck' is not a feature; choose one of no-dormancy"),
        ("discovered/dpo@no-dormancy", "only a learned optimizer can lack a feature"),
    ],
)
def test_what_cannot_be_missing_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        rules.resolve(rule, CONFIG, "Breakout-MinAtar")


def test_every_feature_is_described():
    assert all(rules.FEATURES.values())
