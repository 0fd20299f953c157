"""One agent's step through a closed form, leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.expressions import Function
from learned_opt_rl.features import LeafRole


class StepInputs(NamedTuple):
    """What the agent gives, leaf by leaf, and what all leaves share.

    Attributes:
        params: Leaves of any float dtype.
        gradients: Leaves of the same shapes.
        dormancy: Per leaf, scalar, ``[last axis]`` or the leaf's own shape, float32.
        noise: Per leaf, float32 of the leaf's shape; zeros for the critic.
        roles: Per leaf, its layer position.
        memory: Per slot, the leaves ``[*shape]`` float32 before the step.
        shared: The scalars ``t_p``, ``b_p``, ``lr`` and ``iteration``.
    """

    params: Sequence[jax.Array]
    gradients: Sequence[jax.Array]
    dormancy: Sequence[jax.Array]
    noise: Sequence[jax.Array]
    roles: Sequence[LeafRole]
    memory: Mapping[str, Sequence[jax.Array]]
    shared: Mapping[str, jax.Array]


def step(
    function: Function, constants: Mapping[str, Any] | None, inputs: StepInputs
) -> tuple[list[jax.Array], dict[str, list[jax.Array]]]:
    """Evaluate the function once per leaf.

    Args:
        function: A closed form of kind ``"optimizer"``.
        constants: Values of its constants; ``None`` for their defaults.
        inputs: What it may read.

    Returns:
        Per leaf the function's value (to be subtracted from the parameter), float32
        ``[*shape]``; and per memory slot the leaves after the step.
    """
    values, memories = [], {name: [] for name in inputs.memory}
    for i, parameter in enumerate(inputs.params):
        available = {
            "p": parameter.astype(jnp.float32),
            "g": inputs.gradients[i].astype(jnp.float32),
            "dorm": inputs.dormancy[i],
            "rand": inputs.noise[i],
            "l_p": jnp.float32(inputs.roles[i].position),
            **inputs.shared,
        }
        value, after = function.evaluate(
            available,
            {name: leaves[i] for name, leaves in inputs.memory.items()},
            constants,
        )
        values.append(value)
        for name, leaf in after.items():
            memories[name].append(leaf)
    return values, memories


def zero_mean(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Subtract the mean over the entries of all leaves together."""
    count = sum(value.size for value in values)
    mean = sum((value.sum() for value in values), jnp.zeros(())) / max(count, 1)
    return [value - mean for value in values]
