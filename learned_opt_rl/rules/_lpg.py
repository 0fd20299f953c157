"""LPG's network: one recurrent pass from the end of a rollout to its start.

Shapes are named b for workers, t for steps and m for the components of a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.families.lpg import Architecture, lpg_shapes
from learned_opt_rl.rules._core.weights import Weights, require_shapes

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

# By default a GPU would round the products to TF32, which the weights were not trained
# with; on a CPU this changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST


def check_weights(weights: Any, architecture: Architecture) -> None:
    """Raise ``WeightsError`` unless the weights are of the architecture."""
    require_shapes(weights, lpg_shapes(architecture), architecture, "UpdateRule")


def embed(weights: Weights, y: Float[Array, "*n m"]) -> Float[Array, "*n"]:
    """Embed a prediction as one number, the paper's phi; a value is one."""
    if "embedding" not in weights:
        return y[..., 0]
    hidden = jax.nn.relu(_affine(weights["embedding"]["dense_0"], y))
    return _affine(weights["embedding"]["dense_1"], hidden)[..., 0]


def core_inputs(
    weights: Weights,
    reward: Float[Array, "b t"],
    done: Bool[Array, "b t"],
    prob: Float[Array, "b t"],
    y: Float[Array, "b t m"],
    y_next: Float[Array, "b t m"],
    gamma: list[jax.Array],
    age: list[jax.Array],
) -> Float[Array, "b t n"]:
    """Stack the core's inputs; ``gamma`` has no scalar or one, ``age`` none or two."""
    # Mask the embedding and not y: phi(0) is not 0.
    embedded = embed(weights, y), jnp.where(done, 0.0, embed(weights, y_next))
    columns = [reward, done.astype(jnp.float32), *gamma, prob, *embedded, *age]
    return jnp.stack([jnp.broadcast_to(x, reward.shape) for x in columns], axis=-1)


def run_core(
    weights: Weights, x: Float[Array, "b t n"], done: Bool[Array, "b t"]
) -> Float[Array, "b t width"]:
    """Run the core backward in time; return the hidden states in forward order.

    It starts from zeros, and again at every ``done``: the steps after it belong to
    another episode.
    """
    kind, gates, cell, states = "gru", "rzn", _gru, 1
    if "lstm" in weights:
        kind, gates, cell, states = "lstm", "igfo", _lstm, 2
    core = weights[kind]
    into = jax.tree.map(
        lambda *x: jnp.concatenate(x, axis=-1), *[core[f"i{gate}"] for gate in gates]
    )
    recurrent = jnp.concatenate([core[f"h{gate}"]["kernel"] for gate in gates], axis=1)
    projected = jnp.moveaxis(_affine(into, x), 1, 0)  # of all steps in one product

    def step(carry: tuple[jax.Array, ...], xs: Any) -> Any:
        gates, done = xs
        kept = tuple(jnp.where(done[:, None], 0.0, state) for state in carry)
        carry = cell(core, gates, _dot(kept[0], recurrent), kept)
        return carry, carry[0]

    nothing = jnp.zeros((x.shape[0], recurrent.shape[0]), jnp.float32)
    start = (nothing,) * states
    _, hidden = jax.lax.scan(step, start, (projected, done.T), reverse=True)
    return jnp.moveaxis(hidden, 0, 1)


def policy_head(
    weights: Weights, hidden: Float[Array, "b t width"]
) -> Float[Array, "b t"]:
    """Return pi_hat."""
    return _affine(weights["policy"], jax.nn.relu(hidden))[..., 0]


def target_head(
    weights: Weights, hidden: Float[Array, "b t width"]
) -> Float[Array, "b t m"]:
    """Return the outputs that `UpdateRule.predict` turns into y_hat."""
    return _affine(weights["target"], jax.nn.relu(hidden))


def lambda_returns(
    reward: Float[Array, "b t"],
    done: Bool[Array, "b t"],
    value_next: Float[Array, "b t"],
    gamma: jax.Array,
    decay: float,
) -> Float[Array, "b t"]:
    """Return the targets of TD(lambda), with the value after the last step at its end.

    References:
        Sutton and Barto, "Reinforcement Learning", 2018, equation 12.18.
    """
    carried = jnp.where(done, 0.0, gamma)

    def step(after: jax.Array, xs: tuple[jax.Array, ...]) -> Any:
        reward, carried, value = xs
        target = reward + carried * ((1 - decay) * value + decay * after)
        return target, target

    steps = (reward.T, carried.T, value_next.T)
    return jax.lax.scan(step, value_next[:, -1], steps, reverse=True)[1].T


def _gru(
    gru: Weights, x: jax.Array, h: jax.Array, carry: tuple[jax.Array, ...]
) -> tuple[jax.Array]:
    """Step a GRU; ``x`` and ``h`` hold the three gates, each ``[B, 3 width]``."""
    x_reset, x_update, x_candidate = jnp.split(x, 3, axis=-1)
    h_reset, h_update, h_candidate = jnp.split(h, 3, axis=-1)
    reset = jax.nn.sigmoid(x_reset + h_reset)
    update = jax.nn.sigmoid(x_update + h_update)
    remembered = h_candidate + jnp.broadcast_to(gru["hn"]["bias"], h_candidate.shape)
    candidate = jnp.tanh(x_candidate + reset * remembered)
    return ((1 - update) * candidate + update * carry[0],)


def _lstm(
    lstm: Weights, x: jax.Array, h: jax.Array, carry: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    """Step Haiku's LSTM, the paper's, which adds 1 to the forget gate."""
    del lstm
    enter, candidate, forget, leave = jnp.split(x + h, 4, axis=-1)
    cell = jax.nn.sigmoid(forget + 1) * carry[1]
    cell = cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
    return jax.nn.sigmoid(leave) * jnp.tanh(cell), cell


def _affine(layer: Weights, x: jax.Array) -> jax.Array:
    x = _dot(x, layer["kernel"])
    return x + jnp.broadcast_to(layer["bias"], x.shape)


def _dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(x, kernel, precision=_PRECISION)


def require_rollout(
    steps: Mapping[str, Any], predictions: Mapping[str, Any], width: int
) -> None:
    """Raise ``ValueError`` unless ``steps`` are [B, T], ``predictions`` [B, T, m]."""
    shape = jnp.shape(steps["rewards"])
    if len(shape) != 2:
        raise ValueError(
            f"rewards has shape {shape}; give [B, T], workers by steps, and vmap over "
            "further axes"
        )
    for name, array in steps.items():
        require_shape(name, array, shape)
    for name, array in predictions.items():
        require_shape(name, array, (*shape, width))


def require_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless the array has the shape."""
    if jnp.shape(array) != shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(array)}, but the rollout and the rule need "
            f"{shape}: [B, T] as rewards, and for predictions the rule's target_width"
        )


def require_targets(targets: Any, probs: Any, y: Any) -> None:
    """Raise ``ValueError`` unless the targets fit probabilities and predictions."""
    pi_hat, y_hat = targets
    require_shape("targets.pi_hat", pi_hat, jnp.shape(probs))
    require_shape("y", y, jnp.shape(y_hat))
    require_shape("targets.y_hat", y_hat, (*jnp.shape(probs), jnp.shape(y)[-1]))


def scalar_inputs(
    architecture: Architecture, gamma: Any, step: Any, lifetime: Any
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Return the discount and the agent's age, each only if it is an input."""
    discount = [scalar("gamma", gamma)] if architecture.gamma_input else []
    if architecture.lifetime_inputs == "none":
        return discount, []
    step, lifetime = scalar("step", step), scalar("lifetime", lifetime)
    raw = architecture.lifetime_inputs == "raw"
    return discount, [step, lifetime] if raw else [step / lifetime, jnp.log(lifetime)]


def scalar(name: str, value: Any) -> jax.Array:
    """Return a number as float32, or raise ValueError if it is missing or an array."""
    if value is None:
        raise ValueError(
            f"{name}= is missing: these weights take it as an input, "
            f"see their architecture; pass {name}=... (one number)"
        )
    if jnp.shape(value):
        raise ValueError(f"{name} has shape {jnp.shape(value)}; give one number")
    return jnp.asarray(value, jnp.float32)
