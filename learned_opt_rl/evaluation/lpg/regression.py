"""Compute values at several discounts from predictions, by regression."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents.networks import apply_mlp, init_mlp

# Our choice: the paper gives no sizes.
_HIDDEN = 64
_BATCH = 256
_RATE = 1e-3


class Regression(NamedTuple):
    """Errors of a value regression.

    Attributes:
        mse: float32 ``[targets, records]``, mean squared error on the held-out grids.
        constant: float32 ``[targets]``, error of the mean value of the training grids.
    """

    mse: jax.Array
    constant: jax.Array


def regress_values(
    inputs: jax.Array,
    values: jax.Array,
    key: jax.Array,
    *,
    held_out: int = 10,
    steps: int = 5000,
) -> Regression:
    """Train networks to compute true values from predictions.

    There is one multi-layer perceptron per target, with a hidden layer of 64 ReLU
    units. Adam (1e-3, batches of 256) trains it on the records of the second half of
    the evaluation, in all grids but the last ``held_out``. It is tested on every record
    of those. Inputs and targets are standardized by the training data; errors are in
    the units of the values.

    Args:
        inputs: float ``[grids, records, cells, inputs]``, predictions y or values.
        values: float ``[grids, targets, cells]``, the true values at each discount;
            cells with a NaN do not count.
        key: A PRNG key.
        held_out: Number of grids to test on.
        steps: Adam steps.

    Raises:
        ValueError: No grid is left to train on or to test on, or the shapes do not
            match.

    References:
        Oh et al. 2020, section 4.2, figure 5. The paper gives no sizes and does not
        state from which updates the network is trained.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> y = jax.random.uniform(jax.random.key(0), (8, 2, 16, 3))
        >>> values = 10 * y[:, -1, None, :, 0]
        >>> found = regress_values(y, values, jax.random.key(1), held_out=2, steps=200)
        >>> bool(found.mse[0, -1] < 0.2 * found.constant[0])
        True
    """
    grids = inputs.shape[0]
    if not 1 <= held_out < grids:
        raise ValueError(
            f"held_out={held_out} of {grids} grids: at least one must be held out and "
            "one left to train on; evaluate more grids"
        )
    cells = inputs.shape[2]
    if values.ndim != 3 or (grids, cells) != (values.shape[0], values.shape[2]):
        raise ValueError(
            f"values have shape {values.shape}, inputs {inputs.shape}: they must be "
            "[grids, targets, cells] and [grids, records, cells, inputs]"
        )
    return _regress(inputs, values, key, grids - held_out, steps)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _regress(
    inputs: jax.Array, values: jax.Array, key: jax.Array, trained: int, steps: int
) -> Regression:
    known = jnp.all(jnp.isfinite(values), axis=1)  # [grids, cells]
    y = jnp.moveaxis(jnp.where(known[:, None], values, 0.0), 1, -1)
    late = inputs[:trained, inputs.shape[1] // 2 :]
    used = jnp.broadcast_to(known[:trained, None], late.shape[:3])
    x_mean, x_scale = _moments(late, used)
    y_mean, y_scale = _moments(y[:trained], known[:trained])
    x, y = (inputs - x_mean) / x_scale, (y - y_mean) / y_scale

    width, targets = inputs.shape[-1], values.shape[1]
    init_key, key = jax.random.split(key)
    networks = jax.vmap(lambda key: init_mlp(key, (width, _HIDDEN, 1), 1.0))(
        jax.random.split(init_key, targets)
    )
    predict = jax.vmap(_predict, in_axes=(0, None))
    optimizer = optax.adam(_RATE)
    flat_x = x[:trained, inputs.shape[1] // 2 :].reshape(-1, width)
    flat_y = jnp.broadcast_to(y[:trained, None], (*late.shape[:3], targets))
    flat_y = flat_y.reshape(-1, targets)
    odds = jnp.cumsum(used.reshape(-1))

    def step(carry: Any, key: jax.Array) -> Any:
        networks, state = carry
        chosen = jax.random.randint(key, (_BATCH,), 0, odds[-1])
        rows = jnp.searchsorted(odds, chosen, side="right")

        def loss(networks: Any) -> jax.Array:
            predicted = predict(networks, flat_x[rows])
            return jnp.sum(jnp.mean(jnp.square(predicted - flat_y[rows].T), axis=1))

        updates, state = optimizer.update(jax.grad(loss)(networks), state, networks)
        return (optax.apply_updates(networks, updates), state), None

    start = networks, optimizer.init(networks)
    (networks, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
    tested, counts = x[trained:], known[trained:]
    predicted = predict(networks, tested)
    truth = jnp.moveaxis(y[trained:], -1, 0)[:, :, None]  # [targets, grids, 1, cells]
    squares = jnp.square(predicted - truth) * counts[None, :, None]
    variance = jnp.square(y_scale).reshape(-1)
    number = jnp.sum(counts)
    mse = jnp.sum(squares, axis=(1, 3)) / number * variance[:, None]
    constant = jnp.sum(jnp.square(truth[:, :, 0]) * counts[None], axis=(1, 2)) / number
    return Regression(mse, constant * variance)


def _predict(network: Any, x: jax.Array) -> jax.Array:
    return apply_mlp(network, x, "relu")[0][..., 0]


def _moments(x: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and standard deviation by entry of the last axis, where it counts."""
    axes = tuple(range(x.ndim - 1))
    weight = counts[..., None] / jnp.sum(counts)
    mean = jnp.sum(x * weight, axis=axes, keepdims=True)
    variance = jnp.sum(jnp.square(x - mean) * weight, axis=axes, keepdims=True)
    # An input may be constant.
    return mean, jnp.maximum(jnp.sqrt(variance), 1e-6)
