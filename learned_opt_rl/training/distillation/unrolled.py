"""Update rules over sequences of tensors, for teachers and students."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.expressions import Function
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules import parts
from learned_opt_rl.rules.parts import SCALE, deterministic_update
from learned_opt_rl.training.distillation.inputs import Tensors

Update = Callable[[Any, Tensors], jax.Array]
"""``(weights, inputs) -> update [K, t, n]`` to subtract; memory starts empty."""


class Unrolled(NamedTuple):
    """A rule over sequences.

    Attributes:
        update: The rule, without the subtraction of the mean over all parameters.
        noisy: Whether it adds noise.
        stateful: Whether it has memory besides the momenta in the inputs.
    """

    update: Update
    noisy: bool
    stateful: bool


def network_rule(algorithm: str, carry: int | None) -> Unrolled:
    """Return OPEN or No Features over sequences.

    Args:
        algorithm: ``"open"`` or ``"no_features"``.
        carry: Units of the GRU; ``None`` without one.

    Example:
        >>> import jax
        >>> from learned_opt_rl.rules import open_rl
        >>> from learned_opt_rl.training.distillation.inputs import paper
        >>> weights = open_rl.init(jax.random.key(0), open_rl.Architecture(4, 8))
        >>> inputs = paper(jax.random.key(1), (20, 2, 5))
        >>> network_rule("open", 4).update(weights, inputs).shape
        (20, 2, 5)
    """
    noisy = algorithm == "open"
    table = _open_rows if noisy else _no_features_rows(carry is not None)

    def update(weights: Any, x: Tensors) -> jax.Array:
        rows = jax.vmap(jax.vmap(table))(x)
        steps, tensors, features, size = rows.shape
        rows = jnp.moveaxis(rows, 2, 1).reshape(steps, features, tensors * size)
        outputs = _run(weights, rows).reshape(-1, steps, tensors, size)
        moved = deterministic_update(outputs)
        return moved + SCALE * outputs[2] * x.noise if noisy else moved

    return Unrolled(update, noisy, carry is not None)


def _run(weights: Any, rows: jax.Array) -> jax.Array:
    """Return outputs ``[o, K * columns]`` of tables ``[K, features, columns]``.

    Without memory, all steps are evaluated together.
    """
    if "gru" not in weights:
        merged = jnp.moveaxis(rows, 1, 0).reshape(rows.shape[1], -1)
        return parts.apply(weights, merged)[0]

    def step(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        outputs, after = parts.apply(weights, jnp.concatenate([rows, carry]))
        return after, outputs

    units = weights["gru"]["hn"]["kernel"].shape[-1]
    start = jnp.zeros((units, rows.shape[-1]))
    outputs = jax.lax.scan(step, start, rows)[1]
    return jnp.moveaxis(outputs, 1, 0).reshape(outputs.shape[1], -1)


def _open_rows(x: Tensors) -> jax.Array:
    """Return the features of one tensor at one step."""
    proportions = x.training_proportion, x.layer_proportion, x.batch_proportion
    rows = parts.open_features(
        x.parameter, x.gradient, x.momenta.T, proportions, x.dormancy
    )
    return jnp.concatenate(rows)


def _no_features_rows(recurrent: bool) -> Callable[[Tensors], jax.Array]:
    def rows(x: Tensors) -> jax.Array:
        return jnp.concatenate(
            parts.no_features_features(x.parameter, x.gradient, x.momenta.T, recurrent)
        )

    return rows


def expression_rule(function: Function, learning_rate: float) -> Unrolled:
    """Return an expression over sequences; its weights are its constants.

    Momenta with a decay of `DECAYS` come from the inputs. Other memory starts empty,
    and the input ``iteration`` then counts from there. Without other memory it follows
    from the training proportion of a run of 1e7 environment steps.

    Args:
        function: An optimizer.
        learning_rate: Base of its input ``lr``, before the annealing.
    """
    shown = {s.name: s.decay for s in function.memory if s.decay in DECAYS}
    stateful = len(shown) < len(function.memory)
    total = PPOConfig().num_updates

    def of_tensor(constants: Any, x: Tensors) -> jax.Array:
        def step(memory: Any, at: tuple[jax.Array, Tensors]) -> tuple[Any, jax.Array]:
            i, x = at
            for name, decay in shown.items():
                momentum = x.momenta[DECAYS.index(decay)]
                memory[name] = (momentum - (1 - decay) * x.gradient) / decay
            value, memory = function.evaluate(_inputs(i, x), memory, constants)
            return memory, value

        steps, size = x.gradient.shape
        memory = function.init_memory((size,))
        return jax.lax.scan(step, memory, (jnp.arange(steps), x))[1]

    def _inputs(i: jax.Array, x: Tensors) -> dict[str, jax.Array]:
        t_p = x.training_proportion
        return {
            "p": x.parameter,
            "g": x.gradient,
            "dorm": x.dormancy,
            "rand": x.noise,
            "t_p": t_p,
            "l_p": x.layer_proportion,
            "b_p": x.batch_proportion,
            "lr": learning_rate * (1 - t_p),
            "iteration": 1.0 + (i if stateful else t_p * total),
        }

    update = jax.vmap(of_tensor, in_axes=(None, 1), out_axes=1)
    return Unrolled(update, "rand" in function.inputs, stateful)
