"""Functions as language models write them; the tests run them and convert their source.

They are ordinary Python, so that what they compute is what JAX computes.
"""

# ruff: noqa: E731

import inspect

import jax
import jax.numpy as jnp
from jax import lax, nn


# The two the papers print that lean on more than arithmetic.
def relative_magnitude_update(
    p: jnp.ndarray, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g, lr: float
) -> jnp.ndarray:
    """A docstring."""
    import jax.numpy as jnp

    eps = 1e-8
    moments = jnp.stack([m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999], axis=0)
    m_avg = jnp.mean(moments, axis=0)
    ratio = jnp.abs(m_avg) / (jnp.abs(g) + eps)
    weight = 1 / (1 + jnp.exp(-5.0 * (ratio - 1.0)))
    return lr * (weight * m_avg + (1 - weight) * g)


def adaptive_radam(
    p,
    m_0_1,
    m_0_5,
    m_0_9,
    m_0_99,
    m_0_999,
    m_0_9999,
    l_p,
    b_p,
    t_p,
    dorm,
    g,
    rand,
    lr,
    iteration,
    var,
):
    decay = 0.99
    var_new = decay * var + (1 - decay) * jnp.square(g)
    var_hat = var_new / (1 - decay**iteration)
    momentum = l_p * m_0_1 / (1 - 0.1**iteration)
    momentum += (1 - l_p) * m_0_9 / (1 - 0.9**iteration)
    beta = 0.9
    rho_inf = 2 / (1 - beta) - 1
    rho = rho_inf - 2 * iteration * beta**iteration / (1 - beta**iteration + 1e-8)
    safe = jnp.where(rho > 4, rho, 5.0)
    top = (safe - 4) * (safe - 2) * rho_inf
    rectify = jax.lax.cond(
        rho > 4,
        lambda _: jnp.sqrt(top / ((rho_inf - 4) * (rho_inf - 2) * safe)),
        lambda _: 1.0,
        None,
    )
    update = rectify * momentum / (jnp.sqrt(var_hat) + 1e-8)
    update = update * lr / (1 + dorm)
    update += 0.001 * (1 - t_p) * lr * rand
    return update, var_new


def clipped(w, g, var1, var2, t, d, t_p, b_p, key):
    weight_threshold = 0.01
    clip_threshold = weight_threshold * jnp.sqrt(jnp.sum(w**2))
    grad_norm = jnp.sqrt(jnp.sum(g**2))
    update = jax.lax.cond(
        grad_norm > clip_threshold,
        lambda: g * (clip_threshold / grad_norm),
        lambda: g,
    )
    return update, var1, var2


# The order in which memory is read and written.
def swapped(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    return var1 + 2 * var2 + g, var2 + g, 0.5 * var1


def reassigned(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    old = var1
    g = 2 * g
    var1 = 0.9 * var1 + g
    pair = (var1, old)
    var1 = var1 * var1
    var1, var2 = var2 + g, var1
    return pair[0] - pair[-1] + g, var1, var2


def only_one_slot(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    new = jnp.maximum(var2, jnp.abs(g))
    unused = jnp.exp(w)  # noqa: F841
    return g / (new + 1e-8) + var1, var1, new


# Structure.
def loops(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    weights = [0.5, 0.25, 0.125]
    values = (g, w, g * w)
    total = jnp.zeros_like(g)
    for a, value in zip(weights, values, strict=False):
        total = total + a * value
    for i in range(2):
        total = total * (1 + values[i])
    for i in range(1, 3):
        total -= i * values[i]
    return total + sum([g, w, g]) * len(values), var1, var2


def nested(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    def scaled(x, factor):
        y = x * factor
        return y, factor + 1

    bend = lambda x: jnp.tanh(x) + shift
    shift = 0.25
    first, factor = scaled(g, 2.0)
    second, _ = scaled(first, factor)
    both = lax.cond(t_p > 0.5, lambda a: (a, a + 1), lambda a: (-a, g), second)
    return bend(first) + both[0] * both[1], var1, var2


def conditions(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    positive = (g > 0) & ~(w > 0.5) | (w == 0)
    total = positive * g + (g > w).astype(jnp.float32) - jnp.float32(t_p < 2)
    total += jnp.where(jnp.logical_and(g < 0, jnp.logical_not(w < 0)), 1.0, -1.0)
    total += lax.select(jnp.isnan(jnp.sqrt(g)), g, w)
    total += jnp.where(jnp.greater(g, w) | jnp.less_equal(g, -w), 0.5, 0.25)
    return total, var1, var2


def calls(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    total = jnp.clip(g, -0.5, max=0.5) + jnp.clip(w, min=-1.0, max=0.1)
    total = jnp.add(total, jnp.subtract(g, w)) + jnp.multiply(g, jnp.divide(w, 3.0))
    total += nn.sigmoid(g) + jax.nn.softplus(w) + nn.relu(g) * lax.rsqrt(jnp.abs(w) + 1)
    total += jnp.power(jnp.abs(g), 1.5) + jnp.abs(w) ** t_p - (g**3) ** -1
    total += abs(w) + jnp.full_like(g, 0.5) * jnp.ones_like(g) + jnp.negative(w)
    total += jnp.nan_to_num(jnp.log(g), nan=0.0, posinf=1e7, neginf=-1e7)
    total += jnp.reciprocal(jnp.array(2.0) + g * g) + jnp.pi + lax.clamp(-1.0, g, 1.0)
    total += jnp.minimum(jnp.maximum(g, w), 0.3) + jax.lax.stop_gradient(g)
    return total, var1, var2


def reductions(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    total = g / (jnp.linalg.norm(w) + jnp.std(g) + jnp.var(w, axis=None))
    total += w * (g.mean() + jnp.max(g) - w.min() + g.sum() / g.size + jnp.median(w))
    values = jnp.stack((g, w, g * w))
    total += jnp.sum(values, axis=0) + jnp.max(values, axis=0) - values.min(axis=0)
    return total, var1, var2


OPEN = (relative_magnitude_update, adaptive_radam)
ARCHIVE = (
    clipped,
    swapped,
    reassigned,
    only_one_slot,
    loops,
    nested,
    conditions,
    calls,
    reductions,
)


def source(function):
    return inspect.getsource(function).replace(", strict=False", "")
