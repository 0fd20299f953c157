"""Meta-training of LPG: lifetimes, the bandit, ablations, and what is refused."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.agents.lpg import policy
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.training import presets
from learned_opt_rl.training.meta_gradients import (
    PRESETS,
    MetaGradientConfig,
    objective,
    preset,
)
from learned_opt_rl.training.meta_gradients import bandit as bandits
from learned_opt_rl.training.meta_gradients import pool as pools
from learned_opt_rl.training.meta_gradients.meta_step import (
    Program,
    check_devices,
    share,
)
from learned_opt_rl.training.meta_gradients.objective import (
    MetaConfig,
    advantages,
    value_update,
)
from learned_opt_rl.training.meta_gradients.tasks import task
from tests.artifact_files import card_data, write_card
from tests.training.meta_trainings import TINY, config


def same(a, b):
    def equal(x, y):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = map(jax.random.key_data, (x, y))
        return np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f")

    return all(jax.tree.leaves(jax.tree.map(equal, a, b)))


@pytest.fixture(scope="module")
def program():
    return Program(config())


def test_the_rule_moves_and_first_lives_have_all_ages(program):
    first = program.first()
    ages = np.asarray(first.pools[0].life.agent.step)
    assert ages.tolist() == [0, 1, 2, 3]  # of 5
    after, _, _ = program.advance(first)
    assert not same(after.weights, first.weights)
    together = Program(config(stagger=False)).first()
    assert np.asarray(together.pools[0].life.agent.step).tolist() == [0] * 4


def test_a_finished_life_is_replaced_and_the_others_go_on(program):
    standing = program.first()
    before = standing.pools[0]
    standing, _, ended = program.advance(standing)  # ages 2, 3, 4 and 5
    assert [one.reason for one in ended] == ["shortened"]
    pool = standing.pools[0]
    assert np.asarray(pool.life.agent.step).tolist() == [2, 3, 4, 0]
    assert int(standing.begun) == 5 and int(standing.finished) == 0
    lengths = [
        np.asarray(p.life.world.env_state.env.length)[:, 0] for p in (before, pool)
    ]
    np.testing.assert_array_equal(lengths[0][:3], lengths[1][:3])
    # Its number, the fifth, draws its weights.
    key = jax.random.fold_in(jax.random.key(program.config.seed), 4)
    new = jax.tree.map(lambda x: x[3], pool)
    begun = pools.begin(program.config, task("chain/short"), key, new.hyper)
    pairs = zip(
        *(jax.tree.leaves(x.life.agent.params) for x in (new, begun)), strict=True
    )
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_nan_in_one_life_leaves_the_others_untouched(program):
    intact = program.first()
    kernels = intact.pools[0].life.agent.params
    broken = jax.tree.map(lambda x: x.at[1].set(jnp.nan), kernels)
    life = intact.pools[0].life
    life = life._replace(agent=life.agent._replace(params=broken))
    poisoned = intact._replace(pools=(intact.pools[0]._replace(life=life),))
    after, metrics, ended = program.advance(poisoned)
    expected, _, _ = program.advance(intact)
    assert [one.reason for one in ended] == ["non_finite", "shortened"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.weights))
    assert np.isfinite(list(metrics.values())).all()
    for i in (0, 2):
        one, other = (
            jax.tree.map(lambda x, i=i: x[i], s.pools[0].life.agent.params)
            for s in (after, expected)
        )
        assert same(one, other)
    assert np.isfinite(jax.tree.leaves(after.pools[0].life.agent.params)[0]).all()


def test_a_life_whose_policy_no_longer_explores_ends(program):
    standing = program.first()
    life = standing.pools[0].life
    actor = life.agent.params["actor"]["Dense_0"]["kernel"]
    certain = actor.at[0].set(jnp.array([1e3, 0.0]))
    params = {**life.agent.params, "actor": {"Dense_0": {"kernel": certain}}}
    life = life._replace(agent=life.agent._replace(params=params))
    pools = (standing.pools[0]._replace(life=life),)
    _, _, ended = program.advance(standing._replace(pools=pools))
    assert [one.reason for one in ended] == ["entropy", "shortened"]


def test_the_share_is_a_quotient_of_sums(program):
    recent = np.full((2, 200), np.nan, np.float32)
    standing = program.first()
    assert share(standing) is None
    recent[:, :2] = [[1.0, 0.0], [2.0, 0.5]]
    assert share(standing._replace(recent=recent)) == pytest.approx(0.4)


def test_the_bandit_tries_every_arm_and_then_prefers_the_best():
    """Against equation 6 of Oh et al., computed here by a loop."""
    bandit = bandits.init(3)
    np.testing.assert_allclose(bandits.probabilities(bandit, 0.2, 0.1), 1 / 3)
    bandit = bandits.update(bandits.update(bandit, 0, 0.5), 1, 0.9)
    np.testing.assert_array_equal(bandits.probabilities(bandit, 0.2, 0.1), [0, 0, 1])
    bandit = bandits.update(bandits.update(bandit, 2, 0.1), 2, 0.3)
    known = {0: [0.5], 1: [0.9], 2: [0.1, 0.3]}
    weights = [
        np.exp((sum(x) / len(x) + 0.2 / len(x) ** 0.5) / 0.1) for x in known.values()
    ]
    found = bandits.probabilities(bandit, 0.2, 0.1)
    np.testing.assert_allclose(found, np.array(weights) / sum(weights), rtol=1e-6)


def test_only_an_arm_s_last_ten_returns_count():
    bandit = bandits.init(1)
    for value in range(25):
        bandit = bandits.update(bandit, 0, value)
    assert sorted(bandit.returns[0]) == list(range(15, 25))
    assert bandit.counts.tolist() == [25]


@pytest.mark.parametrize(
    ("returns", "means"),
    [
        ([[1.0], [None]], (1.0, 0.0)),
        ([[-0.5, None], [None]], (-0.5, -0.5)),
        ([[-0.5, None], [None, 0.25]], (-0.5, -0.125)),
        ([[None], [None, None]], (0.0, 0.0)),
        # A lucky life does not hide nine that failed.
        ([[0.8] * 10, [None] * 9 + [0.95]], (0.8, 0.095)),
        # Only the last ten count.
        ([[None, *[0.5] * 10], [-3.0, *[None] * 10]], (0.5, 0.0)),
    ],
)
def test_a_life_without_a_return_counts_as_the_worst(returns, means):
    bandit = bandits.init(2)
    for arm, values in enumerate(returns):
        for value in values:
            bandit = bandits.update(bandit, arm, value)
    counts = np.array([len(values) for values in returns])
    assert bandit.counts.tolist() == counts.tolist()
    expected = np.exp((np.array(means) + 0.2 / counts**0.5) / 0.1)
    found = bandits.probabilities(bandit, 0.2, 0.1)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_bandit_gives_lives_their_hyperparameters():
    names = ("chain/short", "chain/long")
    program = Program(config(bandit=True, lifetime=4, environments=names))
    assert len(program.config.arms("chain/short")) == 9
    standing = program.first()
    assert [len(bandit.counts) for bandit in standing.bandits] == [9, 9]
    standing, _, ended = program.advance(standing)
    assert [(one.environment, one.reason) for one in ended] == [
        (name, "shortened") for name in names
    ]
    assert [bandit.counts.sum() for bandit in standing.bandits] == [0, 0]
    broken = jax.tree.map(lambda x: x * jnp.nan, standing.pools[1].life.agent.params)
    life = standing.pools[1].life
    life = life._replace(agent=life.agent._replace(params=broken))
    pools = standing.pools[0], standing.pools[1]._replace(life=life)
    standing, _, ended = program.advance(standing._replace(pools=pools))
    assert [one.reason for one in ended] == ["finished", *["non_finite"] * 2]
    assert [bandit.counts.sum() for bandit in standing.bandits] == [1, 2]
    # A life that is not finite has no return, even if an episode of it ended.
    assert [one.returned for one in ended[1:]] == [None, None]
    assert np.nansum(standing.bandits[1].returns) == 0


def test_without_the_bandit_lives_have_the_middle_hyperparameters(program):
    hyper = program.first().pools[0].hyper
    assert set(np.asarray(hyper.agent_rate)) == {40.0}
    assert set(np.asarray(hyper.alpha_y)) == {0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"architecture.core": "lstm", "architecture.gamma_input": True},
        {"architecture.prediction": "unbounded", "gammas": (0.9, 0.99)},
        {"architecture.prediction": "value", "architecture.target_width": 1},
        {"target_entropy": 0.0, "policy_l2": 0.0, "target_l2": 0.0},
        {"architecture.lifetime_inputs": "relative", "clip": None},
    ],
)
def test_ablations_train(changes):
    sizes = {n.partition(".")[2]: v for n, v in changes.items() if "." in n}
    rest = {n: v for n, v in changes.items() if "." not in n}
    sizes = {**TINY["architecture"], **sizes}
    program = Program(config(architecture=sizes, **rest))
    first = program.first()
    after, metrics, _ = program.advance(first)
    assert not same(after.weights, first.weights)
    assert np.isfinite(list(metrics.values())).all()
    if "prediction" in sizes:
        assert metrics["target_entropy"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"environments": ("chain/distractor",), "baseline": True, "bandit": True},
        # Which agent a name chooses is also seen in its optimizers, below.
        pytest.param({"agent": "paper_distractor"}, marks=pytest.mark.slow),
        pytest.param(
            {"environments": ("gridworld/paper_rand_dense",), "value_rate": 1e-2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_agents_with_layers_train_by_adam(changes):
    program = Program(config(**changes))
    first = program.first()
    after, metrics, ended = program.advance(first)
    assert not same(after.weights, first.weights)
    assert np.isfinite(list(metrics.values())).all()
    life, before = after.pools[0].life, first.pools[0].life
    assert "Dense_1" in life.agent.params["actor"] and "Dense_1" in life.value.params
    assert ("baseline" in life.agent.params) == program.config.baseline
    steps = np.asarray(life.agent.step - before.agent.step)[:3]
    assert steps.tolist() == [2] * 3  # the fourth life is a new one
    counts = [x for x in jax.tree.leaves(life.agent.opt_state) if x.dtype == jnp.int32]
    assert counts and np.asarray(counts[0])[:3].tolist() == [2] * 3
    random = "rand" in program.config.environments[0]
    assert [one.optimal for one in ended] == [None if random else 1.0]
    assert (share(after) is None) == (random or ended[0].returned is None)


@pytest.mark.slow
def test_critics_may_have_an_optimizer_of_their_own():
    kernels = []
    for rate in (None, 1e-3):
        program = Program(config(value_rate=rate))
        first = program.first()
        after, _, _ = program.advance(first)
        pair = [
            s.pools[0].life.value.params["Dense_0"]["kernel"] for s in (first, after)
        ]
        kernels.append(np.abs(pair[1] - pair[0])[:3].max())
    # Of each entry Adam's step is about its rate, and a meta-step has three.
    assert kernels[1] <= 3.1e-3 < kernels[0]


@pytest.mark.parametrize(("lifetime", "steps"), [(10, 15), (11, 17)])
def test_a_critic_s_learning_rate_is_annealed_over_all_its_steps(lifetime, steps):
    """It learns from three rollouts where the agent makes two updates."""
    settings, where = config(agent="study_gridworld"), task("chain/short")
    hyper = pools.Hyper(*map(jnp.float32, (0, 1e-3, 0.5, 0.99, 0.05)))

    @jax.jit
    def moves(lifetime):
        optimizer = pools.optimizers(settings, where, hyper, lifetime).value
        state = optimizer.init(jnp.float32(0))

        def move(state, _):
            step, state = optimizer.update(jnp.float32(1), state)
            return state, step

        return jax.lax.scan(move, state, length=steps + 1)[1]

    expected = -1e-3 * (1 - np.arange(steps + 1) / steps)
    found = moves(jnp.int32(lifetime))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
    assert found[-1] == 0


@pytest.mark.slow
def test_critics_of_the_paper_s_preset_stay_stable():
    """By the predictors' SGD without a bound they would diverge."""
    few = {"environments": ("chain/short",), "lifetimes": 2, "minibatch": 2}
    few |= {"workers": 4, "lifetime": 100, "architecture": {"width": 4}}
    worst = []
    for changes in ({}, {"value_rate": None}):
        program = Program(preset("lpg-paper", **few, **changes))
        standing, losses = program.first(), []
        for _ in range(40):
            standing, metrics, _ = program.advance(standing)
            losses.append(metrics["value_loss"])
        worst.append(max(losses))
    # Returns are -1 and 1, so a critic that has learned nothing has a loss of 1.
    assert worst[0] < 2 and not worst[1] < 1e3


def test_rematerialization_changes_no_gradient(program):
    without = Program(config(rematerialize=False))
    pair = [one.advance(one.first())[1]["gradient_norm"] for one in (program, without)]
    assert pair[0] == pytest.approx(pair[1], rel=1e-4)


def test_advantages_are_normalized_by_running_averages():
    """Against the averages of all advantages, with the weights that decay gives."""
    rng, ema = np.random.default_rng(0), optax.ema(0.9)
    state, means = ema.init((jnp.float32(0), jnp.float32(0))), None
    seen = [jnp.float32(rng.normal(3, 2, (4, 5))) for _ in range(3)]
    for values in seen:
        means, state = ema.update((values.mean(), jnp.mean(values**2)), state)
    weights = np.array([0.81, 0.9, 1]) / 2.71
    mean = weights @ [x.mean() for x in seen]
    std = np.sqrt(weights @ [(x**2).mean() for x in seen] - mean**2)
    found = objective._normalized(seen[2], means)
    np.testing.assert_allclose(found, (seen[2] - mean) / std, rtol=1e-4, atol=1e-4)
    # By rounding, the mean square may be below the squared mean.
    below = (jnp.float32(3), jnp.float32(9) - 1e-6)
    assert (objective._normalized(jnp.full(2, 3.0), below) == 0).all()


@pytest.mark.slow
def test_a_longer_rollout_judges_with_advantages_of_the_whole_life():
    """One meta-step, against its parts called one by one."""
    program = Program(config(updates=1, validation_rollout=7, advantage_decay=0.9))
    settings, where = program.config, task("chain/short")
    rule = UpdateRule(program.first().weights, settings.rule_architecture)
    lifetime = jax.tree.map(lambda x: x[0], program.first().pools[0])
    play = pools.player(settings, where)
    _, after, outcome = pools.differentiate(settings, where, play, rule, lifetime)

    life, critic = lifetime.life, lifetime.life.value
    agent = pools.agent_config(settings, where, lifetime.hyper)
    meta = MetaConfig(agent)
    made = pools.optimizers(settings, where, lifetime.hyper, life.lifetime)
    world, rollout = play(life.agent.params, life.world)
    learned = pools.learn(settings, where, rule, lifetime, rollout).life.agent
    world, judged = pools.player(settings, where, 7)(learned.params, world)
    assert judged.reward.shape == (2, 7)
    assert same(world, after.life.world)
    kernels = (x.params["actor"]["Dense_0"] for x in (learned, after.life.agent))
    np.testing.assert_allclose(*(x["kernel"] for x in kernels), rtol=1e-4, atol=1e-7)
    first = advantages(meta, critic.params, rollout)
    critic, _ = value_update(meta, made.value, critic, rollout)
    advantage = advantages(meta, critic.params, judged)
    # The mean of all advantages of the life, with the weights that decay gives.
    mean, square = (
        (0.9 * np.mean(first**power) + np.mean(advantage**power)) / 1.9
        for power in (1, 2)
    )
    stored = [0.1 * 1.9 * x for x in (mean, square)]
    np.testing.assert_allclose(after.life.averages.ema, stored, rtol=1e-4, atol=1e-7)
    advantage = (advantage - mean) / jnp.sqrt(square - mean**2)
    probs = policy(learned.params, judged, agent)
    chosen = jnp.take_along_axis(probs, judged.action[..., None], -1)[..., 0]
    expected = -float(jnp.mean(jnp.log(chosen + 1e-8) * advantage))
    assert float(outcome.metrics.policy_loss) == pytest.approx(expected, rel=1e-4)
    assert program.config.steps_per_meta_step == 4 * 2 * (4 + 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "clip"), [("clip", 1e-3), ("norm", 1e-3), ("adam", 1e-3), ("adam", None)]
)
def test_gradients_are_normalized_per_lifetime(how, clip, program):
    """Two meta-steps, against the gradients of the plain form, one life at a time."""
    first, where = program.first(), task("chain/short")
    rule = UpdateRule(first.weights, program.config.rule_architecture)
    play = pools.player(program.config, where)
    other = Program(config(lifetime_gradients=how, clip=clip))
    pool, plain = other.first().pools[0], first.pools[0]
    adams = [(np.zeros(()), np.zeros(()))] * 4
    one = jax.jit(
        functools.partial(pools.differentiate, program.config, where, play, rule)
    )
    for step in (1, 2):
        totals, pool, _ = pools.advance(other.config, where, play, rule, pool)
        parts = []
        for i in range(4):
            life = jax.tree.map(lambda x, i=i: x[i], plain)
            gradient, after, _ = one(life)
            plain = jax.tree.map(lambda x, new, i=i: x.at[i].set(new), plain, after)
            g = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])
            norm = np.linalg.norm(g)
            g = g / norm if how == "norm" else g * min(1.0, (clip or norm) / norm)
            if how == "adam":
                m, v = adams[i]
                m, v = adams[i] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                scale = np.sqrt(v / (1 - 0.999**step)) + 1e-8
                g = m / (1 - 0.9**step) / scale
            parts.append(g)
        found = [np.asarray(x).sum(0).ravel() for x in jax.tree.leaves(totals)]
        expected, found = np.sum(parts, axis=0), np.concatenate(found)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error < 1e-2  # Adam divides tiny gradients by their own size.


@pytest.mark.slow
@pytest.mark.parametrize("minibatch", [1, 2])
def test_two_devices_take_the_meta_steps_of_one(minibatch):
    """To the last digits; what is drawn is the same."""
    one, two = (Program(config(minibatch=minibatch), devices) for devices in (1, 2))
    states = [one.first(), two.first()]
    assert same(*states)
    for _ in range(3):
        (a, _, ended), (b, _, others) = one.advance(states[0]), two.advance(states[1])
        states = [a, b]
        assert ended == others
        assert same(a.pools[0].life.world, b.pools[0].life.world)
    for x, y in zip(*(jax.tree.leaves(s.weights) for s in states), strict=True):
        # A hundredth of what Adam moves a weight by.
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-2 * one.config.learning_rate)
    assert int(states[0].begun) > 4


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "devices=0 must be a positive whole number"),
        (9, "devices=9, but there are 2"),
        (2, "lifetimes=2: must be .* minibatch=2 .* devices=2; take 4 or a multiple"),
    ],
)
def test_devices_that_do_not_fit_are_refused(devices, message):
    with pytest.raises(ValueError, match=message):
        Program(config(lifetimes=2), devices)
    assert check_devices(config(lifetimes=2), None) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lifetimes": 5}, "lifetimes=5: must be a multiple of minibatch=2 times"),
        ({"lifetime": 1}, "lifetime=1 of 'chain/short' is shorter than a meta-step"),
        ({"environments": ()}, "environments=.*one or more names"),
        ({"environments": ("CartPole-v1",)}, "'CartPole-v1': has no levels to draw"),
        (
            {"environments": ("chain/distractor",), "agent": "groove_tabular"},
            "agent='groove_tabular': 'chain/distractor' has no tabular states.*leave",
        ),
        (
            {"agent": "groove"},
            "agent='groove': column='groove' is not a column of agent 'lpg'; did",
        ),
        ({"architecture": None}, "architecture=None: must be a mapping; give"),
        ({"stagger": 1}, "stagger=1: must be True or False"),
        ({"lifetime": 0}, "lifetime=0 must be a positive whole number; give"),
        ({"predictor_rate": 0}, "predictor_rate=0 must be a number > 0; give"),
        ({"baseline": 1}, "baseline=1: must be True or False"),
        ({"value_rate": 0}, "value_rate=0 must be a number > 0; give .* or None f"),
        ({"environments": ("chain/shrt",)}, "'chain/shrt' is not an environment"),
        ({"architecture": {"widht": 4}}, "architecture.widht=4 is not a field"),
        ({"workers": 0}, "workers=0 must be a positive whole number; give at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be a number > 0; give"),
        ({"lifetime": 7.5}, "lifetime=7.5 must be a positive whole number; give"),
        ({"clip": -1}, "clip=-1 must be a number > 0; give .* or None"),
        ({"max_grad_norm": 0}, "max_grad_norm=0 must be a number > 0; give .* or None"),
        ({"gammas": (1.5,)}, r"gammas\[0\]=1.5 must be a number >= 0, <= 1; change"),
        ({"gammas": ()}, r"gammas=\(\): must be one or more numbers; give"),
        (
            {"gammas": 0.9},
            r"gammas=0.9: must be a tuple of .*give for example \(0.99,\)",
        ),
        ({"agent_rates": (40, -4)}, r"agent_rates\[1\]=-4 must be a number > 0; chan"),
        ({"agent_alpha_y": (-1,)}, r"agent_alpha_y\[0\]=-1 must be a number >= 0"),
        ({"policy_entropy": (float("nan"),)}, r"policy_entropy\[0\]=nan must be"),
        ({"target_l2": "1"}, "target_l2='1' must be a number >= 0; give 0"),
        ({"gae_lambda": 2}, "gae_lambda=2 must be a number >= 0, <= 1; give"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0"),
        ({"seed": True}, "seed=True: must be a whole number from 0"),
        ({"environments": "chain/short"}, "environments='chain/short': must be a tup"),
        (
            {"environments": ("gridworld/small",), "lifetime": None, "bandit": True},
            "bandit=True: 'gridworld/small' has one arm. Pass agent_rates=20,40,80 "
            "agent_alpha_y=0.1,0.5,1",
        ),
        (
            {"environments": ("gridworld/rand_tiny",), "bandit": True},
            "agent_rates=0.0005,0.001,0.002 agent_alpha_y=0.1,0.5,1",
        ),
        (
            {"environments": ("chain/short", "chain/distractor"), "agent_rates": (4,)},
            r"agent_rates=\(4,\): no rate serves both tables and networks.*leave",
        ),
        ({"validation_rollout": 0}, "validation_rollout=0 must be .* or None for"),
        ({"advantage_decay": 1.0}, "advantage_decay=1.0 must be .* give .* or None"),
        (
            {"lifetime_gradients": "nrom"},
            "lifetime_gradients='nrom' must be one of plain, clip, norm, adam; did you",
        ),
        ({"lifetime_gradients": "clip", "clip": None}, "but clip=None; give for exam"),
        ({"lerning_rate": 1.0}, "lerning_rate=1.0 is not a setting"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_lists_are_taken_as_tuples():
    lists = {"environments": ["chain/short"], "gammas": [0.9], "agent_rates": [40.0]}
    tuples = {name: tuple(value) for name, value in lists.items()}
    assert config(**lists) == config(**tuples)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="preset='lpg-cpi' is not a preset"):
        preset("lpg-cpi")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name):
    found = preset(name).as_json()
    fields = presets.tuples({k: v for k, v in found.items() if k != "algorithm"})
    assert MetaGradientConfig(**fields).as_json() == found


def test_start_weights_of_the_other_sign_or_size_are_refused(tmp_path, monkeypatch):
    architecture = config().rule_architecture
    weights = lpg.init(jax.random.key(3), architecture)
    (tmp_path / "mine").mkdir()
    digest = save_safetensors(tmp_path / "mine/weights.safetensors", weights)
    fields = {"algorithm": "lpg", "kind": "update_rule", "horizon": None}
    card = card_data("mine", architecture=dataclasses.asdict(architecture), **fields)
    size = sum(leaf.size for leaf in jax.tree.leaves(weights))
    card["weights"] |= {"sha256": digest, "parameters": size}
    write_card(tmp_path / "mine", card)
    monkeypatch.setattr(registry, "bundled_root", lambda: tmp_path)
    first = Program(config(start="mine")).first()
    assert same(first.weights, weights)
    other = {**TINY["architecture"], "policy_sign": "ascend"}
    with pytest.raises(ValueError, match="set architecture.policy_sign=descend"):
        Program(config(start="mine", architecture=other)).first()
    wider = {**TINY["architecture"], "width": 5}
    with pytest.raises(ValueError, match="start='mine' does not .* set .*width=4"):
        Program(config(start="mine", architecture=wider)).first()
    run = tmp_path / "run"
    run.mkdir()
    save_safetensors(run / "best.safetensors", weights)
    made = {"algorithm": "lpg", "architecture": dataclasses.asdict(architecture)}
    (run / "config.json").write_text(json.dumps({"kind": "evolution", "config": made}))
    for start in (run, run / "best.safetensors"):
        assert same(Program(config(start=str(start))).first().weights, weights)
    made["architecture"]["depth"] = 2
    (run / "config.json").write_text(json.dumps({"kind": "evolution", "config": made}))
    with pytest.raises(ValueError, match="start=.*has other sizes than .*'depth'"):
        Program(config(start=str(run))).first()
    (run / "best.safetensors").unlink()
    with pytest.raises(ValueError, match="start=.*best.* cannot be read .* give a"):
        Program(config(start=str(run))).first()
