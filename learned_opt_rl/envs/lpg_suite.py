"""The fifteen training environments of LPG, and the agents that learn in them."""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any, Literal

from learned_opt_rl.envs import chain, gridworld


@dataclasses.dataclass(frozen=True)
class Agent:
    """An agent that learns by LPG in some environment.

    Attributes:
        optimizer: ``"sgd"`` or ``"adam"``.
        learning_rates: Of actor and predictor; several are to be chosen from.
        hidden: Widths of the dense hidden layers; ``()`` without filters is the
            tabular agent, one linear map without bias.
        filters: Filters of the convolutions before them.
        predictor_learning_rates: Of the predictor, where it has its own.
        alpha_y: Weight of the prediction's loss; several are to be chosen from.
        max_grad_norm: Bound on the gradient norm, ``None`` for none.
        lifetime: Least and greatest number of updates it lives for.
    """

    optimizer: Literal["sgd", "adam"]
    learning_rates: tuple[float, ...]
    hidden: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()
    predictor_learning_rates: tuple[float, ...] | None = None
    alpha_y: tuple[float, ...] = (0.1, 0.5, 1.0)
    max_grad_norm: float | None = None
    lifetime: tuple[int, int] = (2500, 2500)


def get_agent(name: str) -> Agent:
    """Looks up the agent that the papers train in an environment.

    Args:
        name: An environment, ``"gridworld/MODE"`` or ``"chain/MODE"``.

    Returns:
        Its agent: Oh et al.'s for their fifteen environments (`LPG_SUITE`), GROOVE's
        for its own modes of grid worlds.

    Raises:
        ValueError: If there is no such environment.

    References:
        Oh et al. 2020, table 3. Jackson et al. 2023 (GROOVE).

    Example:
        >>> get_agent("chain/distractor").learning_rates
        (0.002, 0.005, 0.01)
        >>> get_agent("gridworld/all_randlife").lifetime
        (50, 250)
    """
    family, _, short = name.partition("/")
    if family not in ("gridworld", "chain"):
        raise ValueError(f'name={name!r} must be "gridworld/MODE" or "chain/MODE"')
    if family == "chain":
        updates = chain.get_mode(short).lifetime
        return _agent(_table()["paper"][name], (updates, updates))
    mode = gridworld.get_mode(short)
    low, high = mode.lifetime
    lifetime = int(low), int(high)
    if name in LPG_SUITE:
        return _agent(_table()["paper"][name], lifetime)
    groove = _table()["groove"]
    return _agent(groove.get(short, groove[mode.observation]), lifetime)


def _agent(entry: dict[str, Any], lifetime: tuple[int, int]) -> Agent:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in entry.items()
    }
    return Agent(**values, lifetime=lifetime)


@functools.cache
def _table() -> dict[str, Any]:
    file = importlib.resources.files("learned_opt_rl.envs") / "lpg_suite.json"
    return json.loads(file.read_text(encoding="utf-8"))


LPG_SUITE: tuple[str, ...] = tuple(_table()["paper"])
"""Names of the fifteen environments in which Oh et al. train LPG: five tabular grid
worlds, five with random objects, five delayed chains."""
