"""Published hyper-parameters by environment: one table of data for all agents.

``presets.json`` holds, per agent, columns of settings and which environment takes
which: by its exact name, else by the longest beginning of its name in the table
(``"gridworld/"``), else the default column, MinAtar's or, for LPG agents, a plain
network of MinAtar's size. An unknown environment so runs, with settings that nobody
tuned for it.

An LPG agent's column without ``total_timesteps`` is for one lifetime, as long as the
mode of the grid world or chain has it.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import json
from typing import Any, Literal, NamedTuple

import optax

from learned_opt_rl.agents.config import A2CConfig, Config, LPGConfig, PPOConfig

AgentName = Literal["ppo", "a2c", "lpg"]
"""An agent's name."""

CONFIGS: dict[str, type[Config]] = {
    "ppo": PPOConfig,
    "a2c": A2CConfig,
    "lpg": LPGConfig,
}
"""Each agent's configuration."""

_OPTIMIZERS = {"adam": optax.adam, "sgd": optax.sgd}


def preset(
    environment: str,
    total_timesteps: float | None = None,
    agent: AgentName = "ppo",
    *,
    column: str | None = None,
    **overrides: Any,
) -> Any:
    """The published hyper-parameters of an agent for an environment.

    Args:
        environment: Its name, such as ``"ant"`` or ``"gridworld/all_shortlife"``.
        total_timesteps: Environment steps; by default the published number, which for
            an LPG agent is one lifetime: in a grid world or chain the ``lifetime`` of
            its mode (the longest, if it is drawn) in updates of this configuration.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        column: Settings by their own name, whatever the environment:
            ``"craftax_symbolic"`` for those of the searches of symbolic and proposed
            optimisers, ``"brax_open"`` for Ant's longer run, ``"study_gridworld"``,
            ``"groove_minatar"`` and other LPG agents.
        **overrides: Fields that differ.

    Returns:
        A ``PPOConfig``, ``A2CConfig`` or ``LPGConfig``.

    Raises:
        ValueError: There is no such agent, column or field, or no such mode to take
            an LPG agent's lifetime from; or as the configuration.

    References:
        Goldie et al. 2024 (OPEN), appendix; Goldie et al. 2025, appendix; Jackson et
        al. 2023 (GROOVE); Oh et al. 2020, table 3.

    Example:
        >>> preset("ant").num_envs, preset("ant").normalize_rewards
        (2048, True)
        >>> preset("Breakout-MinAtar", 1e6, hidden=(256, 256)).num_updates
        3904
        >>> preset("gridworld/all_shortlife", agent="lpg").num_updates
        250
    """
    if agent not in CONFIGS:
        raise ValueError(f"agent={agent!r} must be one of {', '.join(CONFIGS)}")
    settings = {**_settings(environment, agent, column), **overrides}
    for name in ("optimizer", "alpha_y_arms"):
        settings.pop(name, None)
    if total_timesteps is not None:
        settings["total_timesteps"] = total_timesteps
    fields = CONFIGS[agent].__dataclass_fields__
    for name in overrides:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 3, 0.3) or fields
            raise ValueError(
                f"{name}={overrides[name]!r} is no field of {CONFIGS[agent].__name__}; "
                f"nearest: {', '.join(near)}"
            )
    config = CONFIGS[agent](**settings)
    if "total_timesteps" in settings or (updates := _lifetime(environment)) is None:
        return config
    return dataclasses.replace(config, total_timesteps=updates * config.batch_size)


class LPGArms(NamedTuple):
    """What there is to choose from for an LPG agent.

    Attributes:
        learning_rates: Of actor and predictor alike where there are several; a single
            one is the actor's of `lpg_optimizer`, whose predictor may have its own.
        alpha_y: Weights of the prediction's loss, ``config.alpha_y``.
    """

    learning_rates: tuple[float, ...]
    alpha_y: tuple[float, ...]


def lpg_arms(environment: str, *, column: str | None = None) -> LPGArms:
    """The learning rates and ``alpha_y`` an LPG agent is published with.

    For Oh et al.'s training environments (the suite ``"lpg"``) each combination of one
    of both is an arm of the bandit that balances them in meta-training.

    Args:
        environment: As for `preset`.
        column: As for `preset`.

    Returns:
        The choices, from the least up; one of each where the publication gives one.

    Raises:
        ValueError: There is no such column.

    References:
        Oh et al. 2020, table 3 (the choices) and section 3.4 (the bandit); Jackson et
        al. 2023 (GROOVE), which has one value each.

    Example:
        >>> lpg_arms("chain/distractor")
        LPGArms(learning_rates=(0.002, 0.005, 0.01), alpha_y=(0.1, 0.5, 1.0))
        >>> lpg_arms("gridworld/all_shortlife")
        LPGArms(learning_rates=(40.0,), alpha_y=(0.5,))
    """
    settings = _settings(environment, "lpg", column)
    optimizer = settings["optimizer"]
    rates = optimizer.get("arms", [optimizer["actor"]])
    alphas = settings.get("alpha_y_arms", [LPGConfig.alpha_y])
    return LPGArms(tuple(rates), tuple(alphas))


def lpg_optimizer(
    environment: str, num_updates: int, *, column: str | None = None
) -> optax.GradientTransformation:
    """The published optimiser of an LPG agent: SGD for tables, Adam for networks.

    Of several learning rates (`lpg_arms`) it has one in the middle.

    Args:
        environment: As for `preset`.
        num_updates: Of the run, ``config.num_updates``; learning rates that are
            annealed fall linearly to 0 over them.
        column: As for `preset`.

    Returns:
        An optimiser of ``{"actor": ..., "predictor": ...}``, without clipping: that is
        ``config.max_grad_norm``.

    Raises:
        ValueError: There is no such column.

    Example:
        >>> config = preset("gridworld/all_shortlife", agent="lpg")
        >>> optimizer = lpg_optimizer("gridworld/all_shortlife", config.num_updates)
    """
    settings = _settings(environment, "lpg", column)["optimizer"]
    make = _OPTIMIZERS[settings["name"]]

    def one(rate: float) -> optax.GradientTransformation:
        anneal = settings.get("anneal", False)
        return make(optax.linear_schedule(rate, 0.0, num_updates) if anneal else rate)

    if settings["actor"] == settings["predictor"]:
        return one(settings["actor"])
    transforms = {"actor": one(settings["actor"])}
    transforms["predictor"] = one(settings["predictor"])
    return optax.multi_transform({**transforms}, {name: name for name in transforms})


def _settings(environment: str, agent: str, column: str | None) -> dict[str, Any]:
    """A column of the table, with what the environment changes in it."""
    table = _tables()[agent]
    entry = column or table["environments"].get(environment)
    if entry is None:
        families = [name for name in table["families"] if environment.startswith(name)]
        entry = table["families"].get(max(families, key=len, default=""))
    changes = dict(entry) if isinstance(entry, dict) else {"column": entry}
    name = changes.pop("column") or table["default"]
    if name not in table["columns"]:
        raise ValueError(
            f"column={name!r} is not one of agent {agent!r}: "
            f"{', '.join(table['columns'])}"
        )
    return {**table["columns"][name], **changes}


def _lifetime(environment: str) -> int | None:
    """Updates of the longest life in a grid world or chain; None elsewhere."""
    family, _, mode = environment.partition("/")
    if family not in ("gridworld", "chain"):
        return None
    from learned_opt_rl.envs import chain, gridworld

    try:
        if family == "chain":
            return chain.get_mode(mode).lifetime
        return int(gridworld.get_mode(mode).lifetime[1])
    except ValueError as error:
        raise ValueError(
            f"environment={environment!r} has no lifetime: {error}; give "
            "total_timesteps for a mode of your own"
        ) from error


@functools.cache
def _tables() -> dict[str, Any]:
    file = importlib.resources.files("learned_opt_rl.agents") / "presets.json"
    return json.loads(file.read_text(encoding="utf-8"))
