import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.training.evolution.strategy import OpenAIES, generation_key, shape

STRATEGY = OpenAIES(
    population=8,
    sigma=0.2,
    sigma_decay=0.9,
    learning_rate=0.1,
    learning_rate_decay=0.95,
)
TARGET = np.linspace(-1, 1, 5)


def quadratic(population):
    return -((np.asarray(population, np.float64) - TARGET) ** 2).sum(1)


def ranks(fitness):
    """Centred ranks, one pair at a time; NaN below everything."""
    value = [-np.inf if np.isnan(f) else f for f in fitness]
    rank = [sum(w < v for w in value) + (value.count(v) - 1) / 2 for v in value]
    return np.array(rank) / (len(value) - 1) - 0.5


def in_numpy(strategy, mean, key, generations, judge):
    """OpenAI-ES with Adam as one loop, in float64."""
    mean = np.array(mean, np.float64)
    first, second = np.zeros_like(mean), np.zeros_like(mean)
    for generation in range(generations):
        sigma = strategy.sigma * strategy.sigma_decay**generation
        key_now = jax.random.fold_in(jax.random.fold_in(key, generation), 0)
        half = strategy.population // 2
        noise = np.array(jax.random.normal(key_now, (half, mean.size)), np.float64)
        noise = np.concatenate([noise, -noise])
        fitness = ranks(judge(mean + sigma * noise))
        gradient = -(fitness[:, None] * noise).sum(0) / (strategy.population * sigma)
        first = strategy.beta1 * first + (1 - strategy.beta1) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        time = generation + 1
        step = (first / (1 - strategy.beta1**time)) / (
            np.sqrt(second / (1 - 0.999**time)) + 1e-8
        )
        rate = strategy.learning_rate * strategy.learning_rate_decay**generation
        mean = mean - rate * step
    return mean


def search(strategy, generations, judge):
    state = strategy.init(jnp.zeros(5), jax.random.key(3))
    for _ in range(generations):
        fitness = jnp.asarray(judge(strategy.ask(state)), jnp.float32)
        state = strategy.tell(state, fitness)
    return state


def with_failures(population):
    fitness = quadratic(population)
    fitness[1] = np.nan
    fitness[6] = np.nan
    fitness[2] = fitness[3]
    return fitness


@pytest.mark.parametrize("judge", [quadratic, with_failures])
def test_is_the_loop_in_numpy(judge):
    found = search(STRATEGY, 12, judge)
    expected = in_numpy(STRATEGY, np.zeros(5), jax.random.key(3), 12, judge)
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(found.mean, expected, atol=2e-5)
    assert int(found.generation) == 12


def test_is_evosax():
    algorithms = pytest.importorskip("evosax.algorithms")
    shaping = pytest.importorskip("evosax.core.fitness_shaping")
    schedule = optax.exponential_decay(
        STRATEGY.learning_rate, 1, STRATEGY.learning_rate_decay
    )
    theirs = algorithms.Open_ES(
        population_size=STRATEGY.population,
        solution=jnp.zeros(5),
        optimizer=optax.adam(schedule, b1=STRATEGY.beta1),
        fitness_shaping_fn=shaping.centered_rank_fitness_shaping_fn,
    )
    params, key = theirs.default_params, jax.random.key(3)
    their_state = theirs.init(key, jnp.zeros(5), params)
    state = STRATEGY.init(jnp.zeros(5), key)
    for generation in range(12):
        population = STRATEGY.ask(state)
        fitness = jnp.asarray(quadratic(population), jnp.float32)
        # Theirs lags by a generation.
        sigma = STRATEGY.sigma * STRATEGY.sigma_decay**generation
        their_state = their_state.replace(std=jnp.float32(sigma))
        with jax.numpy_rank_promotion("allow"):
            their_state, _ = theirs.tell(key, population, -fitness, their_state, params)
        state = STRATEGY.tell(state, fitness)
        np.testing.assert_allclose(state.mean, their_state.mean, atol=1e-5)


def test_members_are_antithetic_and_sigma_decays_from_the_first_generation_on():
    state = STRATEGY.init(jnp.arange(20_000.0) / 1e4, jax.random.key(0))
    for generation in range(3):
        population = np.asarray(STRATEGY.ask(state))
        np.testing.assert_allclose(
            (population[:4] + population[4:]) / 2,
            np.tile(state.mean, (4, 1)),
            atol=1e-6,
        )
        deviation = (population - np.asarray(state.mean)).std()
        assert deviation == pytest.approx(0.2 * 0.9**generation, rel=0.01)
        state = STRATEGY.tell(state, jnp.arange(8.0))


def test_every_generation_draws_new_noise():
    state = STRATEGY.init(jnp.zeros(5), jax.random.key(0))
    after = state._replace(generation=state.generation + 1)
    first, second = (np.asarray(STRATEGY.ask(s)) for s in (state, after))
    assert not np.isclose(first / 0.2, second / 0.18).any()


def test_noise_and_tasks_have_keys_of_their_own():
    state = STRATEGY.init(jnp.zeros(5), jax.random.key(0))
    noise, tasks = (generation_key(state, purpose) for purpose in ("noise", "tasks"))
    assert (jax.random.key_data(noise) != jax.random.key_data(tasks)).any()


def test_equal_fitness_moves_nothing():
    state = STRATEGY.init(jnp.ones(5), jax.random.key(0))
    for value in (0.0, jnp.nan):
        after = STRATEGY.tell(state, jnp.full(8, value))
        np.testing.assert_array_equal(after.mean, state.mean)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_counted_one_by_one(seed):
    fitness = np.random.default_rng(seed).integers(0, 5, 12).astype(np.float32)
    fitness[:seed] = np.nan
    found = shape(jnp.asarray(fitness), "centered_ranks")
    np.testing.assert_allclose(found, ranks(fitness), atol=1e-6)


def test_the_worst_real_fitness_is_better_than_nan():
    found = shape(jnp.array([-jnp.inf, 0.0, jnp.nan, -1e30]), "centered_ranks")
    assert found[3] > found[2]


def test_pairs_compare_only_the_two_members_of_a_pair():
    #                  pair 0: -  pair 1: +  pair 2: =  pair 3: NaN loses  4: both NaN
    plus = jnp.array([1.0, 900.0, 7.0, jnp.nan, jnp.nan])
    minus = jnp.array([2.0, 100.0, 7.0, -5.0, jnp.nan])
    found = shape(jnp.concatenate([plus, minus]), "pairs")
    np.testing.assert_array_equal(found[:5], [-0.5, 0.5, 0, -0.5, 0])
    np.testing.assert_array_equal(found[5:], -found[:5])
    # In GROOVE the second member wins ties.
    published = shape(jnp.concatenate([plus, minus]), "pairs", compat=True)
    np.testing.assert_array_equal(published[:5], [-0.5, 0.5, -0.5, -0.5, -0.5])
    np.testing.assert_array_equal(published[5:], -published[:5])


def test_the_learning_rate_stops_at_its_floor():
    settings = {"learning_rate_decay": 0.5, "beta1": 0.0}
    plain, floored = (
        dataclasses.replace(STRATEGY, learning_rate_floor=floor, **settings)
        for floor in (0.0, STRATEGY.learning_rate / 2)
    )
    moves = []
    for strategy in (plain, floored):
        state, judge = strategy.init(jnp.zeros(3), jax.random.key(0)), jnp.arange(8.0)
        for _ in range(3):
            before, state = state.mean, strategy.tell(state, judge)
        moves.append(np.abs(state.mean - before))
    # The third move has a quarter of the rate, or the floor's half.
    np.testing.assert_allclose(moves[1], 2 * moves[0], rtol=1e-2)


def test_a_mean_of_little_precision_is_kept_in_float32():
    state = STRATEGY.init(jnp.ones(5, jnp.bfloat16), jax.random.key(0))
    assert state.mean.dtype == jnp.float32
    assert STRATEGY.tell(state, jnp.arange(8.0)).mean.dtype == jnp.float32


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("population", 7, "population=7 must be even"),
        ("population", 0, "population=0 must be even, at least 2"),
        ("sigma", 0.0, "sigma=0.0 must be a number > 0; give"),
        ("learning_rate", float("nan"), "learning_rate=nan must be a number > 0"),
        ("sigma_decay", 1.1, "sigma_decay=1.1 must be a number > 0, <= 1"),
        ("beta1", 1.0, "beta1=1.0 must be a number >= 0, < 1; give for"),
        ("shaping", "ranks", "shaping='ranks' must be"),
        ("compat", True, "compat=True changes the shaping 'pairs'"),
        ("learning_rate_floor", 9.0, "learning_rate_floor=9.0 must be .*; give 0 for"),
        (
            "learning_rate_floor",
            -1.0,
            "learning_rate_floor=-1.0 must be .*; give 0 for",
        ),
    ],
)
def test_refusals(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(STRATEGY, **{field: value})
