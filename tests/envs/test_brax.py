import importlib.util
import subprocess
import sys
import types
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from learned_opt_rl.envs import _brax

needs_brax = pytest.mark.skipif(
    importlib.util.find_spec("brax") is None, reason="the extra brax is not installed"
)


class State(NamedTuple):
    obs: jax.Array
    reward: jax.Array
    done: jax.Array
    info: dict[str, Any]

    def replace(self, **changes):
        return self._replace(**changes)


class Limited:
    """brax's interface: moves by the action, and is cut after three steps."""

    action_size = 2

    def reset(self, rng):
        start = jax.random.uniform(rng, (2,))
        zero = jnp.float32(0)
        return State(start, zero, zero, {"steps": zero, "truncation": zero})

    def step(self, state, action):
        # Like brax's wrappers, writes into the dictionary it is given.
        state.info["steps"] = jnp.where(state.done > 0.5, 0, state.info["steps"]) + 1
        done = (state.info["steps"] >= 3).astype(jnp.float32)
        state.info["truncation"] = done
        return State(state.obs + action, action.sum(), done, state.info)


class Walker:
    """brax's AutoResetWrapper around it."""

    action_size = 2

    def __init__(self):
        self.env = Limited()

    def reset(self, rng):
        state = self.env.reset(rng)
        state.info["first_obs"] = state.obs
        return state

    def step(self, state, action):
        state = self.env.step(state, action)
        obs = jnp.where(state.done > 0.5, state.info["first_obs"], state.obs)
        return state.replace(obs=obs)


def test_actions_are_clipped_to_one_and_episodes_accounted_for():
    env = _brax.from_brax(Walker(), "walker")
    assert (env.continuous, env.num_actions, env.observation_shape) == (True, 2, (2,))
    first, state = env.reset(jax.random.key(0))
    steps = []
    for _ in range(4):
        steps.append(env.step(jax.random.key(1), state, jnp.array([5.0, -0.25])))
        state = steps[-1].state
    np.testing.assert_allclose(steps[0].observation, first + jnp.array([1, -0.25]))
    assert [float(step.reward) for step in steps] == [0.75] * 4
    assert [bool(step.done) for step in steps] == [False, False, True, False]
    assert float(steps[2].state.last_return) == 3 * 0.75
    # Every episode starts where the first one did, as in the published results.
    np.testing.assert_array_equal(steps[2].observation, first)


def test_a_step_leaves_the_state_it_is_given_alone():
    env = _brax.from_brax(Walker(), "walker")
    _, state = env.reset(jax.random.key(0))
    env.step(jax.random.key(1), state, jnp.zeros(2))
    assert float(state.env.info["steps"]) == 0


def test_names_choose_the_backend_which_is_filed(monkeypatch):
    asked = []

    def create(name, **options):
        asked.append((name, options))
        warnings.warn("Brax System, piplines and environments are old", stacklevel=1)
        return Walker()

    fake = types.ModuleType("brax.envs")
    fake.create = create
    monkeypatch.setitem(sys.modules, "brax", types.ModuleType("brax"))
    monkeypatch.setitem(sys.modules, "brax.envs", fake)
    monkeypatch.setattr(_brax, "versions", lambda *names: ((names[0], "0.14"),))
    plain, other = _brax.make("ant"), _brax.make("hopper/spring")
    assert asked == [
        ("ant", {"episode_length": 1000, "backend": "positional"}),
        ("hopper", {"episode_length": 1000, "backend": "spring"}),
    ]
    assert (plain.name, other.name) == ("ant", "hopper/spring")
    _, state = plain.reset(jax.random.key(0))
    ended = []
    for _ in range(3):
        stepped = plain.step(jax.random.key(0), state, jnp.ones(2))
        ended.append((bool(stepped.done), bool(stepped.truncated)))
        state = stepped.state
    assert ended == [(False, False), (False, False), (True, True)]
    # The walker has walked for three steps, and begins again.
    np.testing.assert_allclose(stepped.final_observation, stepped.observation + 3)
    details = dict(other.details)
    assert (details["backend"], details["brax"]) == ("spring", "0.14")
    assert "first state" in details["reset"]


@pytest.mark.parametrize("name", ["ant/bullet", "ant/"])
def test_other_backends_are_refused_before_brax_is_imported(name):
    with pytest.raises(ValueError, match="choose one of positional, generalized, mjx"):
        _brax.make(name)


@pytest.mark.slow
@needs_brax
def test_building_and_tracing_says_nothing():
    code = "from learned_opt_rl import envs; envs.make('hopper')"
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")


@pytest.mark.slow
@needs_brax
@pytest.mark.usefixtures("quick_compilation")
def test_hopper_is_brax_with_purejaxrls_wrappers():
    env = envs.make("hopper")
    assert (env.observation_shape, env.num_actions, env.continuous) == ((11,), 3, True)
    assert dict(env.details).keys() >= {"backend", "brax", "mujoco"}
    envs.check(env, steps=20)
    keys = jax.random.split(jax.random.key(2), 30)

    def ours(carry, key):
        stepped = env.step(key, carry, jax.random.uniform(key, (3,), minval=-2.0))
        return stepped.state, (stepped.observation, stepped.reward, stepped.done)

    _, state = env.reset(jax.random.key(0))
    state, (observation, reward, done) = jax.jit(
        lambda state: jax.lax.scan(ours, state, keys)
    )(state)

    with _brax._quiet():
        from brax.envs import get_environment
        from brax.envs.wrappers.training import AutoResetWrapper, EpisodeWrapper

        theirs = get_environment("hopper", backend="positional")
        theirs = AutoResetWrapper(EpisodeWrapper(theirs, 1000, 1))

        def step(state, key):
            action = jax.random.uniform(key, (3,), minval=-2.0)
            state = theirs.step(state, jnp.clip(action, -1, 1))
            return state, (state.obs, state.reward, state.done)

        first = jax.jit(theirs.reset)(jax.random.key(0))
        expected = jax.jit(lambda state: jax.lax.scan(step, state, keys))(first)[1]
    np.testing.assert_allclose(observation, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reward, expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(done, expected[2] > 0.5)
    assert done.any()
