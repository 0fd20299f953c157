"""The bank of six momenta."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from learned_opt_rl.features import DECAYS, init_momenta, update_momenta
from tests.shapes import checked

SHAPES = [(), (3,), (2, 3), (2, 2, 3, 4), (0,)]


def test_the_decay_rates_are_those_of_the_paper():
    assert DECAYS == (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_momenta_start_at_float32_zeros(shape, dtype):
    m = init_momenta(jnp.ones(shape, dtype))
    assert (m.shape, m.dtype) == ((*shape, 6), jnp.float32)
    assert not m.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_equal_a_loop_in_float64(shape, getkey):
    m = init_momenta(jnp.zeros(shape))
    expected = np.zeros((*shape, 6))
    for _ in range(5):
        g = jax.random.normal(getkey(), shape)
        m = update_momenta(m, g)
        for i, b in enumerate(np.float32(DECAYS).astype(float)):
            expected[..., i] = b * expected[..., i] + (1 - b) * np.asarray(g, float)
    np.testing.assert_allclose(m, expected, rtol=1e-5, atol=1e-7)


def test_there_is_no_bias_correction():
    m = update_momenta(jnp.zeros(6), jnp.array(1.0))
    np.testing.assert_allclose(m, 1 - np.float32(DECAYS), rtol=0)


def test_gradients_of_any_float_dtype_become_float32(getkey):
    g = jax.random.normal(getkey(), (4,)).astype(jnp.bfloat16)
    m = update_momenta(jnp.zeros((4, 6)), g)
    assert m.dtype == jnp.float32
    expected = update_momenta(jnp.zeros((4, 6)), g.astype(jnp.float32))
    np.testing.assert_array_equal(m, expected)


def test_shapes_are_as_annotated(monkeypatch):
    init = checked(monkeypatch, init_momenta)
    update = checked(monkeypatch, update_momenta)
    for shape in SHAPES:
        assert update(init(jnp.ones(shape)), jnp.ones(shape)).shape == (*shape, 6)
    with pytest.raises(jaxtyping.TypeCheckError):
        update(jnp.zeros((3, 5)), jnp.ones(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        init(jnp.ones(3, jnp.int32))
