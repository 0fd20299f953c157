"""Logarithms of magnitudes and root-mean-square normalization."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from learned_opt_rl.features import log_magnitude, rms_normalize
from tests.shapes import checked


def test_log_magnitude_is_the_log_of_the_absolute_value_plus_the_floor():
    x = [1.0, -1.0, 1e-13, 3.5, -2e-4, 1e20]
    expected = [math.log(abs(v) + 1e-13) for v in x]
    np.testing.assert_allclose(
        log_magnitude(jnp.array(x)), expected, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_log_magnitude_of_zero_is_finite(zero, dtype):
    found = float(log_magnitude(jnp.array(zero, dtype)))
    assert found == pytest.approx(math.log(1e-13), rel=1e-2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_log_magnitude_keeps_shape_and_dtype(dtype):
    y = log_magnitude(jnp.ones((2, 0, 3), dtype))
    assert (y.shape, y.dtype) == ((2, 0, 3), dtype)


def test_rms_normalize_equals_a_loop_over_channels(getkey):
    x = np.asarray(jax.random.normal(getkey(), (3, 7))) * [[1.0], [1e-4], [100.0]]
    expected = [
        [v / math.sqrt(1e-5 + sum(w * w for w in row) / 7) for v in row] for row in x
    ]
    y = rms_normalize(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_rms_normalize_leaves_zeros_at_zero():
    assert not rms_normalize(jnp.zeros((2, 4))).any()


def test_rms_normalize_of_one_value_is_about_its_sign():
    y = rms_normalize(jnp.array([[5.0], [-7.0]]))
    np.testing.assert_allclose(y, [[1.0], [-1.0]], rtol=1e-5)


def test_shapes_are_as_annotated(monkeypatch):
    checked(monkeypatch, log_magnitude)(jnp.ones((2, 3)))
    normalize = checked(monkeypatch, rms_normalize)
    assert normalize(jnp.ones((2, 3))).shape == (2, 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        normalize(jnp.ones(3))
