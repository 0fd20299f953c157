import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.training.guarded_adam import guarded_adam


def test_updates_are_adams():
    schedule = optax.linear_schedule(1e-2, 0.0, 10)
    ours, theirs = guarded_adam(schedule, 0.8), optax.adam(schedule, 0.8)
    params = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    states = ours.init(params), theirs.init(params)
    for i in range(5):
        keys = jax.random.split(jax.random.key(i), 2)
        grads = {
            "a": jax.random.normal(keys[0], (3,)).at[0].set(0.0),
            "b": 1e-6 * jax.random.normal(keys[1], (2, 2)),
        }
        found, first = ours.update(grads, states[0], params)
        expected, second = theirs.update(grads, states[1], params)
        states = first, second
        jax.tree.map(
            lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-6, atol=1e-12),
            (found, first),
            (expected, second),
        )


def after_two(adam, weight):
    """Of two parameters; the second never has a gradient."""
    tx, params = adam(0.1), jnp.ones(2)
    state = tx.init(params)
    for _ in range(2):
        gradient = weight * params * jnp.array([1.0, 0.0])
        updates, state = tx.update(gradient, state, params)
        params += updates
    return params.sum()


def test_its_derivative_is_finite_where_adams_is_not():
    assert np.isnan(jax.grad(lambda w: after_two(optax.adam, w))(1.0))
    assert np.isfinite(jax.grad(lambda w: after_two(guarded_adam, w))(1.0))
