import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.evaluation.runs.program import dormant_share, observe

PARAMS = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}


def test_updates_pass_as_they_are():
    plain, observed = optax.adam(0.1), observe(optax.adam(0.1))
    expected, _ = plain.update(PARAMS, plain.init(PARAMS), PARAMS)
    got, _ = observed.update(PARAMS, observed.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_bad_updates_are_counted_once_each():
    tx = observe(optax.sgd(1.0))
    state = tx.init(PARAMS)
    bad = {"a": jnp.array([1.0, jnp.nan, jnp.inf]), "b": PARAMS["b"]}
    for grads in (PARAMS, bad, PARAMS, bad):
        _, state = tx.update(grads, state, PARAMS)
    assert state.nan_updates == 2
    assert jnp.isneginf(state.dormant)  # A NaN would fail under jax_debug_nans.


def test_extra_arguments_reach_the_optimiser():
    def update(updates, state, params=None, *, dormancy, **extra):
        del params, extra
        return jax.tree.map(lambda g: g * dormancy["a"].sum(), updates), state

    inner = optax.GradientTransformationExtraArgs(lambda _: (), update)
    tx = observe(inner)
    dormancy = {"a": jnp.array([0.0, 3.0])}
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS, dormancy=dormancy)
    assert updates["a"].tolist() == [3, 3, 3]
    assert state.dormant == 0.5


def test_neurons_count_alike_in_layers_of_any_width_and_scalars_not():
    tree = {"wide": jnp.ones(9), "narrow": jnp.zeros(1), "log_std": jnp.float32(0)}
    np.testing.assert_allclose(dormant_share(tree), 0.1, rtol=1e-6)
