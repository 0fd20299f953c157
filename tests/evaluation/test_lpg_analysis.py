"""Analyses of predictions, by rules written by hand and values by enumeration."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.envs import gridworld
from learned_opt_rl.evaluation.lpg import analysis, levels
from learned_opt_rl.evaluation.lpg.analysis import regress_values
from learned_opt_rl.evaluation.lpg.policies import (
    EvaluationConfig,
    evaluate_policy,
    near_optimal_policy,
    true_values,
)
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from tests import oracle_gridworld
from tests.gridworlds import distribution, draw, each, mode_of
from tests.rules import lpg_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
RULE = lpg.UpdateRule({}, lpg.Architecture())


def rectangle(actions="five", max_steps=6):
    """Two by three cells with a wall and two objects, one of them ending much."""
    kinds = [(1, (0.2, 1), (0.2, 0.9), (0.1, 0.5)), (1, (-1, 0.5), 0.1, (0.1, 0.5))]
    levels = distribution(2, 3, kinds, walls=(".#.", "..."), max_steps=max_steps)
    return mode_of(levels, actions=actions)


def random_policy(mode):
    states = mode.num_cells * 2**mode.num_slots
    return jax.random.dirichlet(KEY, jnp.ones(mode.num_actions), (states,))


def enumerated(level, policy, gamma, num_actions):
    """Mean discounted return after a visit, over the visits of an episode."""
    cells = [c for c in range(len(level.walls)) if not level.walls[c]]
    states = list(itertools.product(cells, itertools.product([False, True], repeat=2)))

    def index(state):
        cell, (one, two) = state
        return cell + len(level.walls) * (one + 2 * two)

    policy = np.asarray(policy)
    steps = {
        state: [
            (policy[index(state), action] * p, end, tuple(after), reward)
            for action in range(num_actions)
            for p, end, *after, reward in oracle_gridworld.outcomes(
                level, *state, action
            )
        ]
        for state in states
    }

    value, values = dict.fromkeys(states, 0.0), []
    visits, visited = dict.fromkeys(states, 0.0), []
    visits |= {(cell, (True, True)): 1 / len(cells) for cell in cells}
    for _ in range(int(level.max_steps)):
        value = {
            s: sum(
                p * (r + gamma * (1 - end) * value[to]) for p, end, to, r in steps[s]
            )
            for s in states
        }
        values.append(value)
        visited.append(visits)
        visits = dict.fromkeys(states, 0.0)
        for state in states:
            for p, end, to, _ in steps[state]:
                visits[to] += visited[-1][state] * p * (1 - end)
    return {
        index(s): sum(n[s] * v[s] for n, v in zip(visited, values[::-1], strict=True))
        / sum(n[s] for n in visited)
        for s in states
    }


@pytest.mark.parametrize("actions", ["five", "eighteen"])
def test_true_values_by_enumeration(actions):
    mode, levels = draw(rectangle(actions), 2)
    policy = random_policy(mode)
    solve = jax.vmap(true_values, (0, None, None, None))
    found = solve(levels, mode, policy, 0.8)
    for i, level in enumerate(each(levels)):
        expected = enumerated(level, policy, 0.8, mode.num_actions)
        assert np.flatnonzero(np.isfinite(found[i])).tolist() == sorted(expected)
        for state, value in expected.items():
            assert float(found[i, state]) == pytest.approx(value, abs=1e-5)
        assert np.ptp(list(expected.values())) > 0.1


def test_far_from_the_limit_true_values_solve_the_linear_system():
    """A corridor of two cells whose right end pays 1, again and again."""
    mode = mode_of(distribution(1, 2, [(1, 1, 0, 1)], max_steps=3000))
    level = gridworld.sample_level(KEY, mode)._replace(
        start=jnp.int32(0), cells=jnp.array([1], jnp.int32)
    )
    right = jax.nn.one_hot(jnp.full(4, 3), 5)
    found = true_values(level, mode, right, 0.9)
    # Collected when it is there, it is back in the next step and paid in the one after.
    paid = 1 / (1 - 0.9**2)
    # By index: absent at cells 0 and 1, present at cells 0 and 1.
    np.testing.assert_allclose(found[1:], [0.9 * paid, paid, paid], atol=0.02)
    assert np.isnan(found[0])  # never both away and left


def test_a_near_optimal_policy_is_nearly_optimal():
    mode, levels = draw(rectangle(max_steps=200), 4)
    for level in each(levels):
        level = jax.tree.map(jnp.asarray, level)

        def value(epsilon, level=level):
            policy = near_optimal_policy(level, mode, 0.9, epsilon)
            np.testing.assert_allclose(policy.sum(-1), 1, rtol=1e-5)
            return true_values(level, mode, policy, 0.9)

        greedy, near, random = (np.asarray(value(e)) for e in (1e-6, 0.1, 1.0))
        known = np.isfinite(random) & np.isfinite(near) & np.isfinite(greedy)
        best = best_values(level, mode, 0.9)
        np.testing.assert_allclose(greedy[known], best[known], atol=2e-2)
        assert (greedy[known] >= near[known] - 1e-2).all()
        assert near[known].mean() > random[known].mean() + 0.1


def best_values(level, mode, gamma):
    """Optimal discounted values without a step limit, by enumeration."""
    cells = [c for c in range(mode.num_cells) if not level.walls[c]]
    states = list(itertools.product(cells, itertools.product([False, True], repeat=2)))
    value = dict.fromkeys(states, 0.0)
    follow = {
        (s, a): list(oracle_gridworld.outcomes(level, *s, a))
        for s in states
        for a in range(mode.num_actions)
    }
    for _ in range(80):
        value = {
            s: max(
                sum(
                    p * (r + gamma * (1 - end) * value[to, after])
                    for p, end, to, after, r in follow[s, a]
                )
                for a in range(mode.num_actions)
            )
            for s in states
        }
    table = np.full(mode.num_cells * 4, np.nan)
    for (cell, (one, two)), v in value.items():
        table[cell + mode.num_cells * (one + 2 * two)] = v
    return table


@functools.cache
def evaluated():
    """Predictions of a rule whose log-odds are discounted returns."""
    mode = rectangle(max_steps=100)
    config = EvaluationConfig(
        updates=160, every=40, learning_rate=12.0, gamma=0.5, td_rate=0.05, num_envs=32
    )
    rule = lpg_cases.evaluator(0.5)
    found = analysis.study(rule, mode, config, grids=2, gammas=[0.5])
    free = np.asarray(found.levels.walls) == 0
    return found, free, np.asarray(found.values)[:, 0]


def test_a_rule_of_returns_makes_predictions_of_the_true_values():
    found, free, values = evaluated()
    y = np.asarray(found.y)
    odds = np.log(y[..., 0] / y[..., 1:].mean(-1))
    assert np.abs(odds[:, 0, 0] - values)[free].mean() > 0.5
    np.testing.assert_allclose(odds[:, -1, 0][free], values[free], atol=0.12)


def test_td_finds_the_true_values():
    found, free, values = evaluated()
    np.testing.assert_array_equal(found.td[:, 0], 0)
    np.testing.assert_allclose(found.td[:, -1][free], values[free], atol=0.1)


def test_predictors_come_together_by_a_rule_that_asks_the_same_of_both():
    found, free, _ = evaluated()
    kl = analysis.convergence(found.y, jnp.asarray(free))
    assert kl.shape == (2, 5)
    assert (kl[:, 0] > 0.2).all() and (kl[:, -1] < 1e-3).all()


def test_values_are_told_from_predictions_that_hold_them():
    values = 3 * jax.random.normal(KEY, (12, 2, 30)) - 1
    values = values.at[:, :, 0].set(jnp.nan)
    shown = jnp.nan_to_num(values)
    y = jax.nn.softmax(jnp.stack([shown[:, 0], shown[:, 1], 0 * shown[:, 0]], -1) / 3)
    noise = jax.random.dirichlet(KEY, jnp.ones(3), (12, 30))

    def mse(*records):
        y = jnp.stack(records, axis=1)
        return regress_values(y, values, KEY, held_out=3, steps=800)

    told = mse(noise, y, y)
    assert (told.mse[:, 1:] < 0.05 * told.constant[:, None]).all()
    assert (told.mse[:, 0] > 0.5 * told.constant).all()
    np.testing.assert_allclose(told.constant, 9, rtol=0.4)
    empty = mse(0 * y, 0 * y, 0 * y)
    np.testing.assert_allclose(empty.mse[:, 0], empty.constant, rtol=0.1)


@pytest.fixture
def narrow(monkeypatch):
    """Draw random weights of four units: 256 take a second, and as long to run."""
    draw = levels.untrained

    def few(architecture, seed):
        return draw(dataclasses.replace(architecture, width=4), seed)

    monkeypatch.setattr(levels, "untrained", few)


@pytest.mark.usefixtures("narrow")
def test_the_command_writes_rows_records_and_pictures(tmp_path, capsys):
    arguments = "--random-weights 3 --mode debug --actions nine --grids 4 --held-out 1"
    sizes = "--batch 2 --regression-steps 3 --set updates=2 every=1 num_envs=4 "
    sizes += "num_steps=5 alpha_y=0"
    command = ["analyze-lpg", *arguments.split(), *sizes.split()]
    assert cli.main([*command, "--out", str(tmp_path)]) == 0
    (row,) = jsonl.read(tmp_path / "lpg_analysis.jsonl")
    assert (row["rule"], row["actions"]) == ("random:3", "nine")
    assert row["updates"] == [0, 1, 2]
    # Nothing is learned, with a weight of 0: the predictors stay apart.
    assert len(row["kl"]) == 3 and len(set(row["kl"])) == 1 and row["kl"][0] > 0.5
    assert len(row["mse"]["0.95"]["td"]) == 3
    assert set(row["mse"]) == set(row["mse_constant"])
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    stem = "random_3_gridworld_debug"
    names = ("convergence", "predictions", "regression")
    assert pictures == [f"{stem}_{name}.png" for name in names]
    found = analysis.load(tmp_path / f"{stem}.npz")
    assert found.y.shape == (4, 3, 2, 16, 8)
    assert found.policy.shape == (4, 16, 9)
    free = np.isfinite(found.values[:, 0])
    assert (free.sum(1) <= found.levels.height * found.levels.width).all()
    assert f"{stem}.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--mode dense", "either RULE or --random-weights"),
        ("x --random-weights 1", "either RULE or --random-weights"),
        ("no-such-rule", "no-such-rule"),
        ("minatar", "is of algorithm 'open'"),
        ("--random-weights 1 --mode dens", "'dens' is unknown; did you mean 'dense'"),
        ("--random-weights 1 --mode rand_dense", "'rand_dense' shows its states as"),
        ("--random-weights 1 --grids 5 --held-out 5", "held_out=5 of grids=5"),
        ("--random-weights 1 --grids 5 --held-out 0", "held_out=0 of grids=5"),
        ("--random-weights 1 --set updates=15", "every=10 must divide updates=15"),
        ("--random-weights 1 --set updates=0", "updates=0 must be"),
        ("--random-weights 1 --set epsilon=0", "epsilon=0.0 must be a number > 0"),
        (
            "--random-weights 1 --set td_lambda=2",
            "td_lambda=2.0 must be a number >= 0, <= 1",
        ),
        ("--random-weights 1 --set learning_rate=-1", "learning_rate=-1.0 must be"),
        ("--random-weights 1 --set gamma=2", "gamma=2.0"),
        ("--random-weights 1 --batch 0", "batch=0 must be"),
    ],
)
@pytest.mark.usefixtures("narrow")
def test_wrong_arguments_are_named(arguments, problem, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(analysis, "study", lambda *_, **__: pytest.fail("ran"))
    command = ["analyze-lpg", *arguments.split(), "--out", str(tmp_path)]
    assert cli.main(command) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_wrong_shapes_are_named():
    mode, levels = draw(rectangle(), 2)
    level, policy = next(each(levels)), jnp.full((24, 4), 1 / 4)
    with pytest.raises(ValueError, match=r"policy has shape \(24, 4\)"):
        true_values(level, mode, policy, 0.9)
    with pytest.raises(ValueError, match=r"policy has shape \(24, 4\)"):
        evaluate_policy(RULE, level, mode, policy, KEY, EvaluationConfig())
    with pytest.raises(ValueError, match="held_out=3 of grids=3"):
        regress_values(jnp.ones((3, 2, 4, 1)), jnp.ones((3, 1, 4)), KEY, held_out=3)
    with pytest.raises(ValueError, match=r"values have shape \(3, 4\)"):
        regress_values(jnp.ones((3, 2, 4, 1)), jnp.ones((3, 4)), KEY, held_out=1)
