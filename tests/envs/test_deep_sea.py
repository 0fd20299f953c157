import jax
import pytest

from learned_opt_rl import envs


def play(env, choose, steps):
    """A reward and a done per step, when actions are chosen by the state."""
    _, state = env.reset(jax.random.key(0))
    taken = []
    for i in range(steps):
        taken.append(env.step(jax.random.key(i), state, choose(state.env)))
        state = taken[-1].state
    return taken


def right(state):
    return state.action_mapping[state.row, state.column]


@pytest.mark.parametrize("size", [4, 7])
def test_going_right_earns_the_optimal_return_in_one_episode_of_the_size(size):
    env = envs.make(f"DeepSea-bsuite/{size}")
    assert env.observation_shape == (size, size)
    # The last step both terminates and truncates; it must end the episode once.
    taken = play(env, right, size + 1)
    assert [bool(step.done) for step in taken] == [False] * (size - 1) + [True, False]
    end = taken[size - 1].state
    assert float(end.last_return) == pytest.approx(env.optimal_return)
    assert (int(end.last_length), int(end.episode_length)) == (size, 0)
    assert envs.episode_length(env.name) == size


def test_greed_earns_nothing():
    env = envs.make("DeepSea-bsuite/4")
    taken = play(env, lambda state: 1 - right(state), 4)
    assert float(taken[-1].state.last_return) == 0


def test_actions_mean_different_things_in_different_cells():
    _, state = envs.make("DeepSea-bsuite/10").reset(jax.random.key(0))
    assert 20 < int(state.env.action_mapping.sum()) < 80


@pytest.mark.parametrize("size", ["3", "51", "ten", "", "-4", "4.0"])
def test_sizes_that_are_not(size):
    with pytest.raises(ValueError, match="size must be 4 to 50, for example"):
        envs.make(f"DeepSea-bsuite/{size}")
