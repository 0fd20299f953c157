"""Distil a closed form into a feed-forward OPEN network.

The first bundled artifact, ``minatar``, is made by::

    python -m learned_opt_rl.training.distillation --out pretrained/minatar
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.artifacts._atomic import write_atomically
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.evaluation import results
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules._open_table import TableInputs, feature_table
from learned_opt_rl.rules.open_rl import SCALE
from learned_opt_rl.training import sign_momentum
from learned_opt_rl.training.minatar_card import minatar_card
from learned_opt_rl.training.synthetic import Tensors, sample_tensors

Teacher = Callable[[Tensors], jax.Array]
"""From ``t`` tensors of ``n`` parameters to the update ``[t, n]`` to subtract."""


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """How long and on what to train a student.

    Attributes:
        width: Units of the student's hidden layers.
        steps: Adam steps.
        tensors: Tensors per step.
        size: Parameters per tensor.
        learning_rate: Adam's peak learning rate, annealed to 0 by a cosine.
        seed: Seed of everything.
    """

    width: int = 32
    steps: int = 20_000
    tensors: int = 16
    size: int = 128
    learning_rate: float = 5e-3
    seed: int = 0


def sign_momentum_teacher(step_size: float) -> Teacher:
    """``u = c * (1 - t_p) * sgn(m_0.9)``, pointwise.

    Args:
        step_size: The constant c, in units of the parameters.

    Returns:
        The teacher.
    """
    slot = DECAYS.index(sign_momentum.DECAY)

    def teacher(inputs: Tensors) -> jax.Array:
        remaining = 1 - inputs.training_proportion[:, None]
        return step_size * remaining * jnp.sign(inputs.momenta[:, slot])

    return teacher


def distil(
    teacher: Teacher, config: DistillationConfig
) -> tuple[network.Weights, jax.Array]:
    """Fit feed-forward OPEN to a deterministic teacher.

    The loss is the squared error of the update over the teacher's mean square, on
    fresh synthetic tensors each step. The outputs for noise and exponent start at
    zero; the teacher has no noise, and a gradient of zero keeps its row at zero.

    Args:
        teacher: What to imitate.
        config: How.

    Returns:
        Weights, and the error of each step as float32 ``[steps]``: the rms of the
        difference relative to the teacher's rms.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", section 4.2
        and appendix A.3 (black-box distillation).

    Example:
        >>> config = DistillationConfig(width=8, steps=2, tensors=2, size=4)
        >>> weights, errors = distil(sign_momentum_teacher(1e-3), config)
        >>> errors.shape
        (2,)
    """
    init_key, key = jax.random.split(jax.random.key(config.seed))
    weights = network.init(init_key, network.Architecture(None, config.width))
    last = weights["mlp"]["dense_2"]
    last["kernel"] = last["kernel"].at[:, 1:].set(0.0)
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adam(schedule)

    def relative_error(weights: network.Weights, key: jax.Array) -> jax.Array:
        inputs = sample_tensors(key, config.tensors, config.size)
        target = teacher(inputs)
        error = student_update(weights, inputs) - target
        return jnp.mean(error**2) / jnp.mean(target**2)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        weights, state = carry
        loss, grads = jax.value_and_grad(relative_error)(weights, key)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(weights, updates), state), loss

    start = (weights, optimizer.init(weights))
    keys = jax.random.split(key, config.steps)
    (weights, _), losses = jax.jit(lambda s: jax.lax.scan(step, s, keys))(start)
    return weights, jnp.sqrt(losses)


def student_update(weights: network.Weights, inputs: Tensors) -> jax.Array:
    """What OPEN would subtract, without noise and before the mean is removed.

    Args:
        weights: Feed-forward OPEN.
        inputs: ``t`` tensors of ``n`` parameters.

    Returns:
        float32 ``[t, n]``.
    """

    def one(x: Tensors) -> jax.Array:
        table = feature_table(
            TableInputs(
                params=[x.parameter],
                gradients=[x.gradient],
                momenta=[x.momenta],
                carries=[],
                positions=[x.layer_proportion],
                dormancy=[x.dormancy],
                training_proportion=x.training_proportion,
                batch_proportion=x.batch_proportion,
            )
        )
        outputs, _ = network.apply(weights, table)
        return SCALE * outputs[0] * jnp.exp(SCALE * outputs[1])

    return jax.vmap(one)(inputs)


def main(argv: Sequence[str] | None = None) -> None:
    """Distil annealed sign-momentum; write weights and card."""
    parser = argparse.ArgumentParser(description="Distil annealed sign-momentum.")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sweep", default="results/sign_momentum_sweep.jsonl")
    parser.add_argument("--steps", type=int, default=DistillationConfig.steps)
    arguments = parser.parse_args(argv)
    constant, _ = sign_momentum.best_constant(results.read(arguments.sweep))
    config = DistillationConfig(steps=arguments.steps)
    weights, errors = distil(sign_momentum_teacher(constant), config)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {
        "step_size": constant,
        "relative_error": round(float(jnp.mean(errors[-100:])), 4),
        "sweep": arguments.sweep,
        **dataclasses.asdict(config),
    }
    digest = save_safetensors(
        arguments.out / "weights.safetensors",
        weights,
        metadata={"distillation": json.dumps(report)},
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(weights))
    card = json.dumps(minatar_card(report, digest, count), indent=2) + "\n"
    write_atomically(arguments.out / "card.json", card.encode())
    print(json.dumps({**report, "sha256": digest}, indent=2))


if __name__ == "__main__":
    main()
