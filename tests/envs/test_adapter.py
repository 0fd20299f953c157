import re
import types
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from tests import probe_envs
from tests.conftest import REPOSITORY
from tests.envs.test_brax import Limited


def play(env, steps, key=None, action: Any = 0):
    key = jax.random.key(0) if key is None else key
    observation, state = env.reset(key)
    taken = []
    for i in range(steps):
        taken.append(env.step(jax.random.fold_in(key, i), state, action))
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


class Crowd(Dictionary):
    agents = ("a", "b")


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
        (Dictionary(), "observes a dict, not one array; flatten it: adapt"),
        (Crowd(), "observes a dict, not one array; It has several agents"),
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


def test_the_advice_for_dictionaries_works():
    class Nested(probe_envs.Endless):
        def reset(self, key, params):
            observation, state = super().reset(key, params)
            return {"at": observation, "image": jnp.zeros(3)}, state

        def step(self, key, state, action, params):
            at, *rest, info = super().step(key, state, action, params)
            last = {"at": info["final_observation"], "image": jnp.ones(3)}
            info = {"final_observation": last}
            return {"at": at, "image": jnp.zeros(3)}, *rest, info

    ravel = jax.flatten_util.ravel_pytree
    env = envs.adapt(Nested(), observe=lambda x: ravel(x)[0])
    assert env.observation_shape == (4,)
    observation, taken = play(env, 2)
    assert observation.shape == (4,)
    assert taken[1].final_observation.tolist() == [2, 1, 1, 1]


# Interfaces of other packages. Each error states how to wrap them.


class Batch(probe_envs.NamedAction):
    num_envs = 4

    def reset(self, key, params):
        return jax.vmap(super().reset, (0, None))(key, params)


class BatchOfResults(probe_envs.NamedAction):
    def reset(self, key, params):
        observation, state = super().reset(key, params)
        return jnp.stack([observation] * 4), state


class Branching(probe_envs.NamedAction):
    def step(self, key, state, action, params):
        return super().step(key, state, 1 if action else 0, params)


class Brax:
    action_size = 2

    def reset(self, rng):
        return types.SimpleNamespace(obs=jnp.zeros(2))

    step = None


class TimeStep(NamedTuple):
    observation: jax.Array
    reward: jax.Array
    discount: jax.Array


class Navix:
    action_space = types.SimpleNamespace(n=2, shape=())

    def reset(self, key) -> Any:
        return TimeStep(jnp.zeros(2), jnp.float32(0), jnp.float32(1))

    def step(self, timestep, action) -> Any:
        return timestep


class Jumanji:
    action_spec = observation_spec = None

    def reset(self, key):
        return 1, TimeStep(jnp.zeros(2), jnp.float32(0), jnp.float32(1))

    def step(self, state, action):
        return self.reset(None)


class Gymnasium:
    metadata = {}
    action_space = types.SimpleNamespace(n=2, shape=())

    def reset(self, *, seed=None, options=None):
        return [0.0], {}

    def step(self, action):
        return [0.0], 1.0, True, False, {}


def having(space):
    env = probe_envs.NamedAction()
    env.action_space = space
    return env


def box(low, high, shape=(2,), **more):
    return having(types.SimpleNamespace(low=low, high=high, shape=shape, **more))


SEVERAL = "jnp.unravel_index"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Batch(), "reset of environment 'Batch' failed.*batch of environments"),
        (BatchOfResults(), r"float32\(1,\), its reset as float32\(4, 1\)"),
        (Branching(), r"TracerBool.* int32\[\]\. adapt\(\) calls.* trace these"),
        (Brax(), "'Brax' is a Brax without step, action_space.*brax's interface"),
        (Navix(), r"return \(observation, state\), got TimeStep.*TimeSteps; wrap"),
        (Jumanji(), "without action_space.*TimeSteps; wrap"),
        (Gymnasium(), "reset of environment 'Gymnasium' failed.*written in jax"),
        (having(lambda agent, extra: None), "action_space of environment .* failed"),
        (having(types.SimpleNamespace(nvec=[2, 3], shape=(2,))), SEVERAL),
        (having(types.SimpleNamespace(n=3, shape=(3,))), SEVERAL),  # MultiBinary
        (having({"a": 1}), "has actions of type dict; only discrete"),
        (box(0, 3, dtype=jnp.int32), SEVERAL),
        (box([-1, -1, -1], 1), "bounds that do not fit its action shape"),
        (box("low", "high"), "bounds that do not fit its action shape"),
        (box([-1, 1], [1, -1]), "each low must be below its high"),
        (box(jnp.nan, 1), "each low must be below its high"),
        (box(100, jnp.inf), "Give both bounds"),
    ],
)
def test_refusals_name_the_environment_and_the_way_out(env, message):
    with pytest.raises(TypeError, match=message) as caught:
        envs.adapt(env)
    assert "environment" in str(caught.value)


class Walker(Limited):
    """brax's interface, without the reset."""


class Timed(NamedTuple):
    """navix's: ends after two steps, by the time limit."""

    observation: jax.Array
    reward: jax.Array

    def is_termination(self):
        return jnp.bool_(False)

    def is_truncation(self):
        return self.observation[0] >= 2


class TimedEnvironment(Navix):
    def reset(self, key):
        return Timed(jnp.zeros(1), jnp.float32(0))

    def step(self, timestep, action):
        return Timed(timestep.observation + 1, jnp.float32(1))


@pytest.mark.parametrize(("env", "length"), [(Walker(), 3), (TimedEnvironment(), 2)])
def test_the_wrappers_of_the_documentation_work(env, length):
    text = (REPOSITORY / "docs/environments.md").read_text(encoding="utf-8")
    wrapper = "FromBrax" if isinstance(env, Walker) else "FromTimeSteps"
    (code,) = re.findall(rf"```python\n(class {wrapper}:.*?)```", text, re.DOTALL)
    action = jnp.zeros(2) if isinstance(env, Walker) else 0
    names = {"types": types, "envs": envs, "my_env": env}
    exec(code, names)
    envs.check(names["env"], steps=8)
    _, taken = play(names["env"], 2 * length, action=action)
    ends = [bool(step.truncated) for step in taken]
    assert ends == ([False] * (length - 1) + [True]) * 2


class WithoutParams:
    """Methods without ``params``, and an attribute for the actions."""

    action_space = types.SimpleNamespace(n=1, shape=())
    probe = probe_envs.DelayedReward()

    def reset(self, key):
        return self.probe.reset(key, None)

    def step(self, key, state, action):
        return self.probe.step(key, state, action, None)


def test_parameters_may_be_left_out_and_the_space_be_an_attribute():
    _, taken = play(envs.adapt(WithoutParams()), 2)
    assert [float(step.reward) for step in taken] == [0, 1]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1.0, 1.0, [-1, -0.5, 0.5, 1]),  # brax
        ([-2, -2], [2, 2], [-2, -0.5, 0.5, 2]),  # Pendulum
        (100, 200, [100, 125, 175, 200]),
        ([0, -0.4], [1, 0.4], [[0, 0.25, 0.75, 1], [-0.4, -0.2, 0.2, 0.4]]),
        (-jnp.inf, jnp.inf, [-3, -0.5, 0.5, 3]),
        (0, 3.4028235e38, [0, 0, 0.5, 3]),  # gymnasium's infinity
        ([-1, 5], [1, 7], [[-1, -0.5, 0.5, 1], [5, 5.5, 6.5, 7]]),
    ],
)
def test_outputs_of_a_policy_are_stretched_to_bounds_it_would_not_fill(
    low, high, expected
):
    class Echo(probe_envs.Probe):
        def action_space(self, params):
            return types.SimpleNamespace(low=low, high=high, shape=(2,))

        def reward(self, state, action):
            return action.sum()

    env = envs.adapt(Echo())
    outputs = jnp.array([-3.0, -0.5, 0.5, 3.0])[:, None]
    found = env.to_actions(jnp.concatenate([outputs, outputs], axis=1))
    np.testing.assert_allclose(found.T, np.broadcast_to(expected, (2, 4)), rtol=1e-6)
    # A step takes actions as they are, and `to_actions` leaves them within the bounds.
    _, state = env.reset(jax.random.key(0))
    step = env.step(jax.random.key(0), state, found[0])
    np.testing.assert_allclose(step.reward, found[0].sum(), rtol=1e-6)


def test_indices_begin_where_the_space_does():
    env = envs.adapt(having(types.SimpleNamespace(n=3, start=-1, shape=())))
    assert env.num_actions == 3
    actions = env.random_actions(jax.random.key(0), 50)
    assert set(actions.tolist()) == {-1, 0, 1} and actions.dtype == jnp.int32


# The ends of episodes.


class Flagged(probe_envs.Endless):
    """A step of five values, with keys of other packages in ``info``."""

    flag, final = "truncation", "final_obs"

    def step(self, key, state, action, params):
        *stepped, _, cut, info = super().step(key, state, action, params)
        info = {self.flag: cut * 1.0, self.final: info["final_observation"]}
        return *stepped, cut, info


class Unflagged(Flagged):
    flag = "something"


class Unfinal(Flagged):
    final = "something"


class OnlyTerminates(probe_envs.Endless):
    def step(self, key, state, action, params):
        *stepped, _, cut, info = super().step(key, state, action, params)
        return *stepped, cut, cut, info


class NeverResets(probe_envs.Endless):
    """Six values, without the reset and the observation before it."""

    def step(self, key, state, action, params):
        reward = self.reward(state, action)
        time = state.time + 1
        observation = jnp.zeros(1) + time
        state = probe_envs.ProbeState(time, observation)
        return observation, state, reward, jnp.bool_(False), time >= 2, {}


@pytest.mark.parametrize("probe", [probe_envs.Endless, Flagged, NeverResets])
def test_a_truncated_step_has_the_final_observation(probe):
    resets = probe is not NeverResets
    _, taken = play(envs.adapt(probe(), resets=resets), 4)
    assert [bool(step.done) for step in taken] == [False, True, False, True]
    assert [bool(step.truncated) for step in taken] == [False, True, False, True]
    assert [float(step.final_observation[0]) for step in taken[1::2]] == [2, 2]
    assert [float(step.observation[0]) for step in taken] == [1, 0, 1, 0]


def test_a_termination_at_the_time_limit_is_a_termination():
    _, taken = play(envs.adapt(OnlyTerminates()), 2)
    assert [bool(step.done) for step in taken] == [False, True]
    assert not taken[1].truncated


@pytest.mark.parametrize("probe", [Unflagged, Unfinal, probe_envs.Truncated])
def test_both_fields_are_none_unless_both_are_known(probe):
    _, taken = play(envs.adapt(probe()), 2)
    assert bool(taken[1].done)
    assert taken[1].truncated is taken[1].final_observation is None


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
