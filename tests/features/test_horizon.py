"""Run lengths and the proportions derived from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.features import Horizon, proportions

PPO = {"num_envs": 64, "num_steps": 128, "epochs": 4, "minibatches": 8}
NOT_WHOLE = [0, -1, 2.5, True, False, "5", None, float("inf"), float("nan")]


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize("field", ["total_updates", "epochs", "minibatches"])
def test_a_field_that_is_no_positive_whole_number_is_refused(field, value):
    fields = {"total_updates": 100, field: value}
    with pytest.raises(ValueError, match=f"Horizon.{field}=.*positive whole number"):
        Horizon(**fields)


@pytest.mark.parametrize(
    "value",
    [
        12,
        12.0,
        np.int64(12),
        np.float32(12),
        np.array(12),
        jnp.int32(12),
    ],
)
def test_whole_numbers_of_any_kind_are_kept_as_ints(value):
    horizon = Horizon(value, value, 1)
    assert horizon == Horizon(12, 12, 1)
    assert type(horizon.total_updates) is type(horizon.epochs) is int


def test_a_traced_length_names_the_keyword_of_update():
    with pytest.raises(ValueError, match="total_updates is traced.*training_proportio"):
        jax.jit(lambda n: Horizon(n).total_updates)(5)


def test_a_run_shorter_than_one_rollout_is_refused():
    assert Horizon(32, 4, 8).total_updates == 32
    with pytest.raises(ValueError, match=r"=31 is less than .*minibatches=32 .*ppo"):
        Horizon(31, 4, 8)


def test_a_horizon_is_hashable_and_frozen():
    assert hash(Horizon(10)) == hash(Horizon(10, 1, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Horizon(10).epochs = 2


def test_ppo_counts_whole_rollouts():
    assert Horizon.ppo(1e7, **PPO) == Horizon(39040, 4, 8)
    assert Horizon.ppo(64 * 128 * 2 - 1, **PPO) == Horizon(32, 4, 8)


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize("name", ["total_timesteps", *PPO])
def test_ppo_names_the_argument_that_is_wrong(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*positive whole number"):
        Horizon.ppo(**{"total_timesteps": 1e7, **PPO, name: value})


def test_ppo_refuses_less_than_one_rollout():
    with pytest.raises(ValueError, match="=8191 is less than one rollout .*=8192"):
        Horizon.ppo(8191, **PPO)


def loop_proportions(horizon, steps):
    """The proportions of steps 0, 1, ... as a training loop lives through them."""
    rollouts = horizon.total_updates // (horizon.epochs * horizon.minibatches)
    found = []
    rollout = 0
    while len(found) < steps:
        for epoch in range(horizon.epochs):
            for _ in range(horizon.minibatches):
                training = rollout / (rollouts - 1) if rollouts > 1 else rollout
                batch = epoch / (horizon.epochs - 1) if horizon.epochs > 1 else 0
                found.append((min(training, 1), batch))
        rollout += 1
    return np.array(found[:steps])


@pytest.mark.parametrize(
    "horizon",
    [
        Horizon(24, 3, 2),
        Horizon(25, 3, 2),  # one step more than whole rollouts
        Horizon(8, 4, 1),
        Horizon(8, 1, 4),  # one epoch
        Horizon(7),  # neither epochs nor minibatches
        Horizon(6, 3, 2),  # one rollout
        Horizon(1),
    ],
    ids=repr,
)
def test_proportions_equal_a_loop_also_past_the_horizon(horizon):
    steps = 2 * horizon.total_updates + 3
    count = jnp.arange(steps, dtype=jnp.int32)
    found = jax.vmap(lambda c: proportions(c, horizon))(count)
    np.testing.assert_allclose(
        np.stack(found, 1), loop_proportions(horizon, steps), rtol=1e-6
    )


def test_proportions_are_float32_scalars():
    for value in proportions(jnp.int32(3), Horizon(24, 3, 2)):
        assert (value.shape, value.dtype) == ((), jnp.float32)
