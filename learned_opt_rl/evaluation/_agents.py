"""The agents by name: the one place of the evaluation that knows them all."""

import importlib
from collections.abc import Callable
from typing import Any, cast

from learned_opt_rl import agents
from learned_opt_rl.agents import lpg, ppo
from learned_opt_rl.agents.config import LPGConfig, PPOConfig
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.optimizers import Rule
from learned_opt_rl.rules.lpg import UpdateRule

Config = PPOConfig | LPGConfig
"""What a run is configured by; its type says which agent."""

NAMES = ("ppo", "a2c", "lpg")


def agent_of(config: Config) -> str:
    """The agent's name."""
    return type(config).__name__.removesuffix("Config").lower()


def config_type(agent: str) -> type:
    """The agent's configuration."""
    if agent not in NAMES:
        raise ValueError(f"agent={agent!r} is none of {', '.join(NAMES)}")
    return getattr(agents, f"{agent.upper()}Config")


def default_config(
    environment: str, total_timesteps: float, agent: str = "ppo", **overrides: Any
) -> Any:
    """The published configuration for an environment; see `runs.default_config`."""
    preset = getattr(agents, "preset", _preset_until_merged)
    return preset(environment, total_timesteps, agent, **overrides)


def _preset_until_merged(
    environment: str, total_timesteps: float, agent: str, **overrides: Any
) -> Any:
    values: dict[str, Any] = {"total_timesteps": int(total_timesteps)}
    if agent == "ppo" and environment == "CartPole-v1":
        values |= {"num_envs": 4, "minibatches": 4, "activation": "tanh"}
    return config_type(agent)(**{**values, **overrides})


def num_rollouts(config: Config) -> int:
    """Rollouts in the run."""
    return config.total_timesteps // config.batch_size


def make_loop(
    config: Config, env: Environment, rule: Rule, optimizer: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The agent's ``start(key) -> runner`` and ``iterate(runner) -> runner``."""
    agent = agent_of(config)
    if (agent == "lpg") != (rule.update_rule is not None):
        raise ValueError(
            f"config is of the agent {agent}, but the agent lpg, and no other, is run "
            "with a Rule that has an update_rule"
        )
    if isinstance(config, LPGConfig):
        return lpg.make_loop(config, env, cast(UpdateRule, rule.update_rule), optimizer)
    if agent == "ppo":
        return ppo.make_loop(config, env, optimizer, drift=rule.drift)
    if rule.drift is not None:
        raise ValueError(f"config is of the agent {agent}; only ppo takes a drift")
    a2c = importlib.import_module("learned_opt_rl.agents.a2c")
    return a2c.make_loop(config, env, optimizer)
