import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from tests import probe_envs


def play(env, steps, key=None):
    key = jax.random.key(0) if key is None else key
    observation, state = env.reset(key)
    taken = []
    for i in range(steps):
        taken.append(env.step(jax.random.fold_in(key, i), state, 0))
        state = taken[-1].state
    return observation, taken


@pytest.mark.parametrize(
    "probe", [probe_envs.DelayedReward, probe_envs.Truncated, probe_envs.FiveValues]
)
def test_every_signature_gives_the_same_episodes(probe):
    env = envs.adapt(probe())
    _, taken = play(env, 4)
    assert [bool(step.done) for step in taken] == [False, True, False, True]
    assert [float(step.reward) for step in taken] == [0, 1, 0, 1]
    assert [float(step.state.last_return) for step in taken] == [0, 1, 1, 1]
    assert [int(step.state.last_length) for step in taken] == [0, 2, 2, 2]
    assert [float(step.state.episode_return) for step in taken] == [0, 0, 0, 0]
    assert [int(step.state.episode_length) for step in taken] == [1, 0, 1, 0]


def test_sizes_and_names():
    env = envs.adapt(probe_envs.NamedAction())
    assert env.name == "NamedAction"
    assert env.observation_shape == (1,)
    assert env.num_actions == 2
    assert envs.adapt(probe_envs.NamedAction(), name="mine").name == "mine"


def test_state_keeps_its_types_in_a_scan():
    env = envs.adapt(probe_envs.FiveValues())
    _, state = env.reset(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 5)

    def step(state, key):
        stepped = env.step(key, state, 0)
        return stepped.state, stepped.done

    _, done = jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)
    np.testing.assert_array_equal(done, [False, True, False, True, False])


class FourValues(probe_envs.Probe):
    def step(self, key, state, action, params):
        return self.transition(key, state, action)

    def reward(self, state, action):
        return jnp.float32(0)


class OneValue(FourValues):
    def step(self, key, state, action, params):
        return state


class ResetsToThree(FourValues):
    def reset(self, key, params):
        return 1, 2, 3


class Dictionary(FourValues):
    def draw(self, key):
        return {"image": jnp.zeros(3)}


class Continuous(probe_envs.ConstantReward):
    def action_space(self, params):
        return object()


class WholeReward(probe_envs.ConstantReward):
    def reward(self, state, action):
        return jnp.ones(1)


class DonePerPlayer(probe_envs.ConstantReward):
    def step(self, key, state, action, params):
        *stepped, done, truncated, info = super().step(key, state, action, params)
        return *stepped, jnp.stack([done, done]), truncated, info


class Growing(probe_envs.ConstantReward):
    def step(self, key, state, action, params):
        observation, *rest = super().step(key, state, action, params)
        return jnp.concatenate([observation, observation]), *rest


class Pixels(probe_envs.ConstantReward):
    def reset(self, key, params):
        observation, state = super().reset(key, params)
        return observation.astype(jnp.uint8), state


class Clock(probe_envs.ConstantReward):
    start = jnp.float32(0)

    def reset(self, key, params):
        observation, state = super().reset(key, params)
        return observation, state._replace(time=self.start)

    def transition(self, key, state, action):
        return super().transition(key, state._replace(time=jnp.int32(0)), action)


class Rebuilt(Clock):
    start = None


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (FourValues(), "step of environment 'FourValues' returns 4 value"),
        (OneValue(), "returns 2 value"),
        (ResetsToThree(), "must return"),
        (Dictionary(), "observes a dict, not one array"),
        (Continuous(), "has actions of type object; only discrete"),
        (object(), "a object without reset, step, action_space; adapt"),
        (WholeReward(), r"'WholeReward' returns a reward of shape \(1,\).*a scalar"),
        (DonePerPlayer(), r"returns a done of shape \(2,\); it must be a scalar"),
        (Growing(), r"the observation as float32\(2,\), its reset as float32\(1,\)"),
        (Pixels(), r"the observation as float32\(1,\), its reset as uint8\(1,\)"),
        (Clock(), r"the state\.time as int32\(\), its reset as float32\(\)"),
        (Rebuilt(), "the state with structure"),
    ],
)
def test_unusable_environments_are_refused(env, message):
    with pytest.raises(TypeError, match=message):
        envs.adapt(env)


def test_minatar_by_name():
    env = envs.make("Breakout-MinAtar")
    assert (env.observation_shape, env.num_actions) == ((10, 10, 4), 3)
    observation, taken = play(env, 2)
    assert observation.shape == taken[0].observation.shape == (10, 10, 4)


def test_random_actions_are_those_the_environment_takes():
    key = jax.random.key(0)
    discrete = envs.make("CartPole-v1").random_actions(key, 50)
    assert discrete.dtype == jnp.int32
    assert set(discrete.tolist()) == {0, 1}
    continuous = envs.make("Pendulum-v1").random_actions(key, 5)
    assert continuous.shape == (5, 1) and continuous.dtype == jnp.float32


def test_continuous_actions_are_clipped_to_their_bounds_by_the_environment():
    env = envs.make("Pendulum-v1")  # torques within [-2, 2]
    assert env.continuous and env.num_actions == 1
    _, state = env.reset(jax.random.key(0))
    within, beyond, other = (
        env.step(jax.random.key(1), state, jnp.array([torque]))
        for torque in (2.0, 50.0, 1.0)
    )
    assert within.reward == beyond.reward
    assert within.reward != other.reward


def test_a_batch_is_started_and_stepped_as_one_by_one():
    env = envs.make("CartPole-v1")
    observation, states = env.reset_many(jax.random.key(0), 3)
    keys = jax.random.split(jax.random.key(1), 3)
    stepped = env.step_many(jax.random.key(1), states, jnp.array([0, 1, 0]))
    for i, action in enumerate([0, 1, 0]):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        alone = env.step(keys[i], state, action)
        assert jnp.allclose(stepped.observation[i], alone.observation, atol=1e-6)
    assert observation.shape == (3, 4)
