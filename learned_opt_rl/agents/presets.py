"""Published hyper-parameters by environment, for all agents: ``presets.json``.

The file holds, per agent, columns of settings and the column of each environment. An
environment takes the column of its exact name, else that of the longest beginning of
its name in the table (``"gridworld/"``), else the default column. An unknown
environment therefore runs, with settings that nobody tuned for it.

The published loops treated a time limit as a termination, so every column does. Only
the default columns of PPO and A2C bootstrap.

LPG columns without ``total_timesteps`` are for one lifetime, as long as the mode of the
grid world or chain defines.
"""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents.config import A2CConfig, Config, LPGConfig, PPOConfig
from learned_opt_rl.checks import one_of, suggest

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
    """Return the published hyper-parameters of an agent for an environment.

    Args:
        environment: For example ``"ant"`` or ``"gridworld/all_shortlife"``.
        total_timesteps: Environment steps. The default is the published number; for an
            LPG agent in a grid world or chain it is one lifetime, the longest if the
            mode draws it.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        column: Take this column of ``presets.json``, whatever the environment. For
            example ``"craftax_symbolic"`` (the searches of symbolic and proposed
            optimizers), ``"brax_open"`` (Ant's longer run) or ``"groove_minatar"``.
        **overrides: Fields that differ.

    Returns:
        A ``PPOConfig``, ``A2CConfig`` or ``LPGConfig``.

    Raises:
        ValueError: The agent, column or field is unknown, an LPG agent has no lifetime
            because its environment's mode is unknown, or a value is out of range.

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
    one_of("agent", agent, CONFIGS)
    fields = [field.name for field in dataclasses.fields(CONFIGS[agent])]
    for name, value in overrides.items():
        if name not in fields:
            raise ValueError(
                f"{name}={value!r} is not a field of {CONFIGS[agent].__name__}; "
                f"{suggest(name, fields)}"
            )
    settings = {**_settings(environment, agent, column), **overrides}
    if total_timesteps is not None:
        settings["total_timesteps"] = total_timesteps
    # Columns also hold the optimizer of LPG agents, which is not a field.
    config = CONFIGS[agent](**{k: v for k, v in settings.items() if k in fields})
    if "total_timesteps" in settings or (updates := _lifetime(environment)) is None:
        return config
    return dataclasses.replace(config, total_timesteps=updates * config.batch_size)


class LPGArms(NamedTuple):
    """The published choices of an LPG agent's hyper-parameters.

    Attributes:
        learning_rates: Learning rates of actor and predictor alike. A single one is the
            actor's of `lpg_optimizer`, whose predictor may have its own.
        alpha_y: Weights of the prediction's loss, ``config.alpha_y``.
    """

    learning_rates: tuple[float, ...]
    alpha_y: tuple[float, ...]


def lpg_arms(environment: str, *, column: str | None = None) -> LPGArms:
    """Return the published learning rates and ``alpha_y`` of an LPG agent, ascending.

    In Oh et al.'s training environments (the suite ``"lpg"``), each combination of both
    is an arm of the bandit that meta-training uses. Elsewhere there is one of each. The
    arguments are those of `preset`.

    Raises:
        ValueError: The column is unknown.

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
    """Return the published optimizer of an LPG agent: SGD for tables, else Adam.

    The optimizer is one of ``{"actor": ..., "predictor": ...}``, and a baseline learns
    as the predictor does. It does not clip, since the agent clips by
    ``config.max_grad_norm``. Of several learning rates (`lpg_arms`) it takes one in the
    middle. Annealed learning rates fall linearly to 0 over ``num_updates``, which is
    ``config.num_updates``. The other arguments are those of `preset`.

    Raises:
        ValueError: The column is unknown.

    Example:
        >>> config = preset("gridworld/all_shortlife", agent="lpg")
        >>> optimizer = lpg_optimizer("gridworld/all_shortlife", config.num_updates)
    """
    optimizers = lpg_optimizers(environment, num_updates, column=column)
    return by_network(optimizers)


def lpg_optimizers(
    environment: str,
    num_updates: Any,
    *,
    column: str | None = None,
    learning_rate: Any = None,
    table_predictor_rate: float | None = None,
    eps_root: float = 0.0,
) -> dict[str, optax.GradientTransformation]:
    """Return the published optimizers of an actor and a predictor, for `by_network`.

    Args:
        environment: As for `lpg_optimizer`.
        num_updates: As for `lpg_optimizer`; may be traced.
        column: As for `lpg_optimizer`.
        learning_rate: The actor's; may be traced. The predictor's changes with it.
        table_predictor_rate: Learning rate of a predictor under SGD, as a multiple of
            the actor's; the published one by default.
        eps_root: Adam's; a meta-gradient needs one above 0.

    Raises:
        ValueError: The column is unknown.
    """
    settings = _settings(environment, "lpg", column)["optimizer"]
    rate, multiple = settings["actor"], settings["predictor"] / settings["actor"]
    options: dict[str, Any] = {"eps_root": eps_root}
    if settings["name"] == "sgd":
        options = {}
        multiple = multiple if table_predictor_rate is None else table_predictor_rate
    rate = rate if learning_rate is None else learning_rate

    def one(rate: Any) -> optax.GradientTransformation:
        if not settings.get("anneal", False):
            return _OPTIMIZERS[settings["name"]](rate, **options)

        def annealed(count: jax.Array) -> jax.Array:
            # As optax.linear_schedule, which accepts no traced number of updates.
            left = num_updates - jnp.minimum(count, num_updates)
            return rate * left / num_updates

        return _OPTIMIZERS[settings["name"]](annealed, **options)

    return {"actor": one(rate), "predictor": one(multiple * rate)}


def by_network(
    optimizers: dict[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
    """Return the optimizer of an agent; what is not the actor learns as a predictor."""

    def labels(params: Any) -> dict[str, str]:
        return {name: "actor" if name == "actor" else "predictor" for name in params}

    return optax.multi_transform({**optimizers}, labels)


def _settings(environment: str, agent: str, column: str | None) -> dict[str, Any]:
    """Return a column of the table, with the environment's changes to it."""
    table = _tables()[agent]
    entry = column or table["environments"].get(environment)
    if entry is None:
        families = [name for name in table["families"] if environment.startswith(name)]
        longest = max(families, key=len, default="")
        entry = table["families"].get(longest, table["default"])
    changes = dict(entry) if isinstance(entry, dict) else {"column": entry}
    name = changes.pop("column")
    if name not in table["columns"]:
        raise ValueError(
            f"column={name!r} is not a column of agent {agent!r}; "
            f"{suggest(name, table['columns'])}"
        )
    return {"truncation": "terminate", **table["columns"][name], **changes}


def _lifetime(environment: str) -> int | None:
    """Return the updates of the longest life in a grid world or chain, else None."""
    family, _, mode = environment.partition("/")
    if family not in ("gridworld", "chain"):
        return None
    # Only lifetimes need the environments' modules.
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


def columns(agent: str = "ppo") -> dict[str, dict[str, Any]]:
    """Return the published settings of an agent by column, as `preset` names them.

    Example:
        >>> columns()["minatar"]["num_envs"]
        64
    """
    one_of("agent", agent, CONFIGS)
    return {name: dict(values) for name, values in _tables()[agent]["columns"].items()}


@functools.cache
def _tables() -> dict[str, Any]:
    file = importlib.resources.files("learned_opt_rl.agents") / "presets.json"
    return json.loads(file.read_text(encoding="utf-8"))
