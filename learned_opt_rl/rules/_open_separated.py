"""One agent's step through OPEN with weights of their own for actor and critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules._leaves import split
from learned_opt_rl.rules._open_step import StepOutputs, step
from learned_opt_rl.rules._open_table import TableInputs

NAMES = ("actor", "critic")


def separated_architecture(weights: Any) -> network.Architecture:
    """The one architecture of both networks' weights.

    Args:
        weights: ``{"actor": ..., "critic": ...}``.

    Returns:
        The architecture.

    Raises:
        WeightsError: The keys are others, the weights not those of OPEN networks, or
            of two architectures.
    """
    if not isinstance(weights, Mapping) or set(weights) != set(NAMES):
        found = list(weights) if isinstance(weights, Mapping) else type(weights)
        raise WeightsError(
            f"weights of a separated OPEN are {found}, not {list(NAMES)}; give "
            '{"actor": ..., "critic": ...}, or use scale_by_open for one set of weights'
        )
    actor, critic = (network.architecture_of(weights[name]) for name in NAMES)
    if actor != critic:
        raise WeightsError(
            f"weights of the actor are of {actor}, those of the critic of {critic}; "
            "give both the same architecture"
        )
    return actor


def step_separated(
    weights: Mapping[str, network.Weights], inputs: TableInputs, owners: list[str]
) -> StepOutputs:
    """``step`` on each network's leaves with its weights, put together again.

    Args:
        weights: By network.
        inputs: Of all leaves.
        owners: Each leaf's network.

    Returns:
        As ``step``, in leaf order.
    """
    pieces: dict[int, tuple[Any, ...]] = {}
    for name in sorted(set(owners)):
        mine = [i for i, owner in enumerate(owners) if owner == name]
        part = _pick(inputs, mine)
        stepped = step(weights[name], part)
        outputs = split(stepped.outputs, part.params)
        carries = stepped.carries or [()] * len(mine)
        for row in zip(mine, outputs, stepped.momenta, carries, strict=True):
            pieces[row[0]] = row[1:]
    outputs, momenta, carries = zip(
        *(pieces[i] for i in range(len(owners))), strict=True
    )
    flat = [x.reshape(x.shape[0], -1) for x in outputs]
    memory = list(carries) if inputs.carries else []
    return StepOutputs(jnp.concatenate(flat, axis=1), list(momenta), memory)


def _pick(inputs: TableInputs, leaves: list[int]) -> TableInputs:
    """The inputs of some leaves."""

    def of(field: Sequence[Any]) -> list[Any]:
        return [field[i] for i in leaves] if field else []

    return inputs._replace(
        params=of(inputs.params),
        gradients=of(inputs.gradients),
        momenta=of(inputs.momenta),
        carries=of(inputs.carries),  # empty when feed-forward
        positions=of(inputs.positions),
        dormancy=of(inputs.dormancy),
    )
