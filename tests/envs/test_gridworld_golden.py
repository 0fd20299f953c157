"""Parity of the grid worlds with the reference implementation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.agents import lpg_arms, preset, presets
from learned_opt_rl.envs import gridworld
from tests.golden_open import load, subtree

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def golden(reference):
    return load(reference, "gridworld_optimal_return")


def level_and_mode(arrays, case):
    """The file's level, in a mode whose frame is the file's."""
    of, frame = subtree(arrays, f"{case}/params/"), subtree(arrays, f"{case}/static/")
    side, slots = int(frame["max_grid_size"]), int(frame["max_n_objs"])
    types = int(frame["max_n_obj_types"])
    rows = [(slots - types + 1, 0, 0, 0)] + [(1, 0, 0, 0)] * (types - 1)
    limit = arrays.get(f"{case}/max_rollout_len", of["max_steps_in_episode"])
    mode = gridworld.Mode(
        case,
        (gridworld.LevelDistribution(side, side, rows, max_steps=int(limit)),),
        observation="tabular" if frame["tabular"] else "flat",
    )
    ids = of["obj_ids"]
    level = gridworld.Level(
        height=of["grid_size"].astype(np.int32),
        width=of["grid_size"].astype(np.int32),
        walls=of["walls"],
        start=of["start_pos"].astype(np.int32),
        num_objects=of["n_objs"].astype(np.int32),
        types=ids,
        cells=of["static_obj_poss"],
        rewards=of["obj_rewards"][ids],
        p_terminate=of["obj_p_terminate"][ids],
        p_respawn=of["obj_p_respawn"][ids],
        max_steps=of["max_steps_in_episode"].astype(np.int32),
        auto_collect=of["auto_collect"],
    )
    return jax.tree.map(jnp.asarray, level), mode


@pytest.mark.parametrize("case", ["opt0", "opt1", "opt2", "opt3", "opt4"])
def test_optimal_returns(golden, case):
    level, mode = level_and_mode(golden, case)
    expected = golden[f"{case}/optimal_return"]
    np.testing.assert_allclose(
        gridworld.optimal_return(level, mode), expected, rtol=2e-5
    )


@pytest.mark.parametrize(("case", "times"), [("opt0", 10), ("opt1", 2)])
def test_value_tables(golden, case, times):
    level, mode = level_and_mode(golden, case)
    found = gridworld.value_table(level, mode)
    assert found.shape[0] == mode.max_steps
    np.testing.assert_allclose(found[:times], golden[f"{case}/value_table"], rtol=2e-5)


def play(level, mode, actions):
    """Each step before and after the automatic reset, and its observation."""

    @functools.partial(jax.jit, static_argnames="mode")
    def run(level, actions, mode):
        def step(state, action):
            key = jax.random.key(0)
            before, reward, done = gridworld.transition(key, state, action, mode)
            after, *_ = gridworld.step(key, state, action, mode)
            return after, (before, after, reward, done, gridworld.observe(after, mode))

        first = gridworld.begin(jax.random.key(0), level, mode)
        _, steps = jax.lax.scan(step, first, actions)
        return first, gridworld.observe(first, mode), steps

    return run(level, actions, mode)


@pytest.mark.parametrize("case", ["traj0", "traj1", "traj2"])
def test_trajectories(golden, case):
    level, mode = level_and_mode(golden, case)
    of = subtree(golden, f"{case}/")
    first, shown, (before, after, reward, done, shown_after) = play(
        level, mode, jnp.asarray(of["actions"])
    )
    equal = np.testing.assert_array_equal
    equal(first.position, of["start_pos"])
    equal(first.present, of["start_exists"])
    equal(shown, of["start_obs"])
    for prefix, state in (("", before), ("next_", after)):
        equal(state.position, of[f"{prefix}pos"])
        equal(state.present, of[f"{prefix}exists"])
        equal(state.time, of[f"{prefix}time"])
    np.testing.assert_allclose(reward, of["reward"], atol=1e-6)
    equal(done, of["done"])
    if mode.observation == "flat":
        np.testing.assert_allclose(shown_after, of["next_obs"], atol=1e-7)
    else:
        equal(shown_after[:, :-1].argmax(-1), of["next_obs_index"])
        equal(shown_after[:, :-1].sum(-1), 1)
        np.testing.assert_allclose(shown_after[:, -1], of["next_obs_time"], atol=1e-7)


def golden_interval(value):
    """Bounds from a number, a list of them, or words with bounds."""
    if not isinstance(value, dict):
        return value
    if "values" in value:
        return [min(value["values"]), max(value["values"])]
    return [value["low"], value["high"]]


def test_modes_are_the_reference_implementation_s(reference):
    file = reference / "golden" / "gridworld_levels.json"
    expected = json.loads(file.read_text())["modes"]
    ours = {name for name in gridworld.NAMES if not name.startswith("paper_")}
    assert ours == set(expected)
    for name, theirs in expected.items():
        mode, static = gridworld.get_mode(name), theirs["static"]
        assert mode.height == mode.width == static["max_grid_size"], name
        assert mode.num_slots == static["max_n_objs"], name
        assert mode.num_types == static["max_n_obj_types"], name
        assert (mode.observation == "tabular") == static["tabular"], name
        assert mode.max_steps == theirs["eval_rollout_len"], name
        assert mode.lifetime == pair(theirs["lifetime_updates"]), name
        assert mode.actions == "five", name
        if "mixture_of_modes" in theirs:
            parts = [gridworld.get_mode(part) for part in theirs["mixture_of_modes"]]
            assert mode.levels == tuple(part.levels[0] for part in parts), name
        else:
            check_levels(name, mode, theirs["level"])


def pair(value):
    value = golden_interval(value)
    return tuple(value) if isinstance(value, list) else (value, value)


def per_type(value, number):
    if isinstance(value, list):
        return [(each, each) for each in value]
    intervals = [(value["low"], value["high"])] * number
    if "first_low" in value:
        intervals[0] = (value["first_low"], value["high"])
    return intervals


def check_levels(name, mode, theirs):
    (ours,) = mode.levels
    number = len(ours.objects)
    assert list(ours.slots) == theirs["obj_ids"], name
    assert ours.heights == ours.widths == pair(theirs["grid_size"]), name
    assert ours.max_steps == pair(theirs["max_steps_in_episode"]), name
    assert ours.num_objects == pair(theirs["n_objs"]), name
    for mine, key in [
        ("reward", "obj_rewards"),
        ("p_terminate", "obj_p_terminate"),
        ("p_respawn", "obj_p_respawn"),
    ]:
        found = [getattr(kind, mine) for kind in ours.objects]
        assert found == per_type(theirs[key], number), (name, key)
    assert mode.random_placement == theirs["random_respawn"], name
    if "walls" in theirs:
        assert ours.num_walls == theirs["walls"]["n_walls"], name
        assert mode.num_cells == theirs["walls"]["index_range"], name
    else:
        layout = np.array(list("".join(ours.walls))) == "#"
        assert np.flatnonzero(layout).tolist() == theirs["wall_cells"], name


def test_agents_are_the_reference_implementation_s(reference):
    file = reference / "golden" / "gridworld_levels.json"
    for mode, theirs in json.loads(file.read_text())["modes"].items():
        name, agent = f"gridworld/{mode}", theirs["agent"]
        config = preset(name, agent="lpg")
        assert config.hidden == tuple(agent["actor_net"]), name
        assert config.conv == (), name
        assert config.num_updates == pair(theirs["lifetime_updates"])[1], name
        rate = agent["actor_learning_rate"]
        assert lpg_arms(name) == ((rate,), (0.5,)), name
        assert config.alpha_y == 0.5, name
        assert presets._settings(name, "lpg", None)["optimizer"] == {
            "name": agent["optimizer"].lower(),
            "actor": rate,
            "predictor": agent["critic_learning_rate"],
        }, name
