import dataclasses

import jax
import jax.numpy as jnp
import pytest

from learned_opt_rl import envs
from tests import probe_envs


class Late(probe_envs.ConstantReward):
    """Well-behaved until the third step."""

    length = 5
    bad = jnp.nan

    def reward(self, state, action):
        return jnp.where(state.time == 2, self.bad, 1.0)


class Infinite(Late):
    bad = jnp.inf


class Blind(probe_envs.ConstantReward):
    length = 5

    def transition(self, key, state, action):
        observation, state, reward, done = super().transition(key, state, action)
        return observation / jnp.where(state.time == 4, 0, 1), state, reward, done


class BornBlind(probe_envs.ConstantReward):
    def reset(self, key, params):
        observation, state = super().reset(key, params)
        return observation * jnp.nan, state


@pytest.mark.parametrize("probe", [probe_envs.NamedAction, probe_envs.FiveValues])
def test_good_environments_pass(probe):
    envs.check(envs.adapt(probe()), steps=5)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Late(), "'Late' returned a reward of nan at step 3 of random play"),
        (Infinite(), "'Infinite' returned a reward of inf at step 3"),
        (Blind(), "'Blind' returned an observation with NaN .* at step 4"),
        (
            BornBlind(),
            "reset .* 'BornBlind' returned an observation with NaN",
        ),
    ],
)
def test_values_are_looked_at_and_the_step_is_told(env, message):
    with pytest.raises(ValueError, match=message):
        envs.check(envs.adapt(env), steps=6)


def test_what_lies_beyond_the_steps_is_not_seen():
    envs.check(envs.adapt(Late()), steps=2)


class Counter(probe_envs.NamedAction):
    """Never begins again; ``ends`` decides which steps are done."""

    shown = 1.0

    def __init__(self, ends):
        self.ends = ends

    def transition(self, key, state, action):
        time = state.time + 1
        observation = self.shown * time * jnp.ones(1)
        state = probe_envs.ProbeState(time, observation)
        return observation, state, jnp.float32(1), self.ends(time)

    def reset(self, key, params):
        return jnp.zeros(1), probe_envs.ProbeState(jnp.int32(0), jnp.zeros(1))


def test_an_environment_that_stays_done_is_refused_and_the_advice_works():
    for length in (5, 150):  # Some ends come after the first hundred steps.
        probe = Counter(lambda time, length=length: time >= length)
        with pytest.raises(ValueError, match="'Counter' does not reset itself.*=False"):
            envs.check(envs.adapt(probe))
        envs.check(envs.adapt(probe, resets=False))


def test_an_environment_that_goes_on_after_an_end_is_warned_about(recwarn):
    probe = Counter(lambda time: time % 7 == 5)
    with pytest.warns(UserWarning, match="'Counter' seems not to reset itself"):
        envs.check(envs.adapt(probe))
    recwarn.clear()
    envs.check(envs.adapt(probe, resets=False))
    for name in ("CartPole-v1", "gridworld/rand_tiny", "Catch-bsuite"):
        envs.check(envs.make(name))
    assert not recwarn.list


def misbehaving(**changes):
    env = envs.adapt(probe_envs.NamedAction())
    return env, {name: change(env) for name, change in changes.items()}


def step_with(field, change):
    """The environment with one field of its steps changed."""

    def wrap(env):
        def step(key, state, action):
            stepped = env.step(key, state, action)
            return stepped._replace(**{field: change(getattr(stepped, field))})

        return step

    return wrap


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"observation_shape": lambda env: (2,)},
            r"\(4, 1\); its observation_shape requires \(4, 2\)",
        ),
        ({"step": step_with("reward", lambda x: x[None])}, r"reward of shape \(4, 1\)"),
        ({"step": step_with("reward", jnp.int32)}, "reward of dtype int32"),
        ({"step": step_with("done", jnp.float32)}, "done of dtype float32; .* bool"),
        (
            {"step": step_with("observation", jnp.bfloat16)},
            r"observation as bfloat16\(4, 1\), its reset as float32\(4, 1\)",
        ),
        (
            {"step": step_with("state", lambda s: s._replace(last_length=1.0 * s[4]))},
            r"state\.last_length as float32\(4,\), its reset as int32\(4,\)",
        ),
    ],
)
def test_shapes_and_dtypes_of_batches(changes, message):
    env, changed = misbehaving(**changes)
    with pytest.raises(TypeError, match=message):
        envs.check(dataclasses.replace(env, **changed))


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_steps_must_be_positive(steps):
    with pytest.raises(ValueError, match=f"steps={steps} must be a positive whole"):
        envs.check(envs.adapt(probe_envs.NamedAction()), steps=steps)


def test_the_key_decides_what_is_played():
    env = envs.adapt(probe_envs.NamedAction())

    def start(key, num):
        observation, states = jax.vmap(env.reset)(jax.random.split(key, num))
        return jnp.where(jax.random.bernoulli(key), jnp.nan, observation), states

    def fails(seed):
        try:
            envs.check(unlucky, steps=1, key=jax.random.key(seed))
        except ValueError:
            return True
        return False

    unlucky = dataclasses.replace(env, batched_reset=start)
    assert {fails(seed) for seed in range(4)} == {True, False}
