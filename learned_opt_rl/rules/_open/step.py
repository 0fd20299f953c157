"""One agent's step through the network: momenta, table, network, direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.features import DECAYS, update_momenta
from learned_opt_rl.rules._core.batching import one_agent_at_a_time
from learned_opt_rl.rules._core.leaves import as_rows, side_by_side, split
from learned_opt_rl.rules._core.network import in_blocks
from learned_opt_rl.rules._core.transform import Inputs, Outputs, Slot
from learned_opt_rl.rules._core.weights import Weights
from learned_opt_rl.rules._open import network
from learned_opt_rl.rules._open.table import no_features_features, open_features

SCALE = 1e-3
"""alpha_1 = alpha_2 = alpha_3 of Goldie et al. 2024, appendix C."""


@one_agent_at_a_time
def open_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run OPEN on all leaves.

    Args:
        weights: Of one network, float32.
        inputs: The leaves and where the run stands; momenta before the step.

    Returns:
        The directions and the memory after the step; equation 7, without the mean.
    """
    momenta = _momenta(inputs)
    t_p, b_p = inputs.training_proportion, inputs.batch_proportion
    leaves = zip(
        inputs.params,
        inputs.gradients,
        momenta,
        inputs.positions,
        inputs.dormancy,
        strict=True,
    )
    columns = [open_features(p, g, m, (t_p, l_p, b_p), d) for p, g, m, l_p, d in leaves]
    outputs, memory = _run(weights, inputs, momenta, columns)
    noise = side_by_side(inputs.noise)[0]
    direction = deterministic_update(outputs) + SCALE * outputs[2] * noise
    return split(direction, inputs.params), memory


@one_agent_at_a_time
def no_features_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run No Features on all leaves.

    Args:
        weights: float32.
        inputs: The leaves; momenta before the step.

    Returns:
        The directions and the memory after the step.
    """
    momenta, recurrent = _momenta(inputs), "carry" in inputs.memory
    leaves = zip(inputs.params, inputs.gradients, momenta, strict=True)
    columns = [no_features_features(p, g, m, recurrent) for p, g, m in leaves]
    outputs, memory = _run(weights, inputs, momenta, columns)
    return split(deterministic_update(outputs), inputs.params), memory


def deterministic_update(outputs: jax.Array) -> jax.Array:
    """Return the ``[n]`` direction of the first two outputs; equation 7."""
    return SCALE * outputs[0] * jnp.exp(SCALE * outputs[1])


def separated_step(
    weights: Mapping[str, Weights], inputs: Inputs, owners: Sequence[str]
) -> Outputs:
    """Run OPEN on each network's leaves with the network's own weights.

    Args:
        weights: By network.
        inputs: Of all leaves.
        owners: Each leaf's network.

    Returns:
        As `open_step`, in leaf order.
    """
    values: list[Any] = [None] * len(owners)
    memory: dict[str, list[Any]] = {name: [*values] for name in inputs.memory}
    for name in sorted(set(owners)):
        mine = [i for i, owner in enumerate(owners) if owner == name]
        directions, after = open_step(weights[name], _pick(inputs, mine))
        for place, i in enumerate(mine):
            values[i] = directions[place]
            for slot, leaves in after.items():
                memory[slot][i] = leaves[place]
    return values, memory


def slots(units: int | None) -> dict[str, Slot]:
    """Return what both rules remember: momenta and, with a GRU, its units."""
    momenta = {"momenta": Slot((len(DECAYS),))}
    return momenta if units is None else momenta | {"carry": Slot((units,))}


def _momenta(inputs: Inputs) -> list[jax.Array]:
    pairs = zip(inputs.memory["momenta"], inputs.gradients, strict=True)
    return [update_momenta(m, g) for m, g in pairs]


def _run(
    weights: Weights,
    inputs: Inputs,
    momenta: list[jax.Array],
    columns: list[list[jax.Array]],
) -> tuple[jax.Array, dict[str, list[jax.Array]]]:
    """Run the network on each leaf's rows of features, with its carry below them."""
    for rows, carry in zip(columns, inputs.memory.get("carry", ()), strict=False):
        rows.append(as_rows(carry, carry.shape[-1]))
    table = jnp.concatenate([jnp.concatenate(rows) for rows in columns], axis=1)
    outputs, carry = in_blocks(network.apply, weights, table)
    memory = {"momenta": momenta}
    if carry is not None:
        memory["carry"] = split(carry, inputs.params)
    return outputs, memory


def _pick(inputs: Inputs, chosen: list[int]) -> Inputs:
    """Return the inputs of some leaves."""

    def of(field: Any) -> list[Any]:
        return [field[i] for i in chosen]

    return inputs._replace(
        params=of(inputs.params),
        gradients=of(inputs.gradients),
        memory={name: of(leaves) for name, leaves in inputs.memory.items()},
        positions=of(inputs.positions),
        dormancy=of(inputs.dormancy),
        noise=of(inputs.noise),
    )
