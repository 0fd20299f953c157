"""The agents by name: the one place of the evaluation that knows them all."""

from collections.abc import Callable
from typing import Any, cast

from learned_opt_rl import agents
from learned_opt_rl.agents import a2c, lpg, ppo
from learned_opt_rl.agents.config import A2CConfig, Config, LPGConfig
from learned_opt_rl.agents.presets import CONFIGS, AgentName
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rules.lpg import UpdateRule


def agent_of(config: Config) -> str:
    """The agent's name."""
    return type(config).__name__.removesuffix("Config").lower()


def config_type(agent: str) -> type:
    """The agent's configuration."""
    if agent not in CONFIGS:
        raise ValueError(f"agent={agent!r} is none of {', '.join(CONFIGS)}")
    return CONFIGS[agent]


def default_config(
    environment: str, total_timesteps: float, agent: str = "ppo", **overrides: Any
) -> Any:
    """The published configuration for an environment; see `runs.default_config`."""
    return agents.preset(
        environment, total_timesteps, cast(AgentName, agent), **overrides
    )


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
    if not isinstance(config, A2CConfig):
        return ppo.make_loop(config, env, optimizer, drift=rule.drift)
    if rule.drift is not None:
        raise ValueError("config is of the agent a2c; only ppo takes a drift")
    return a2c.make_loop(config, env, optimizer)
