"""Runs of update rules: all seeds of one in one compiled program.

From a shell, resumably (what a file already holds is not run again)::

    python -m learned_opt_rl.evaluation.runs.run --rules minatar adam \
        --environment Breakout-MinAtar --steps 1e6 --seeds 3 --out results/x.jsonl

``learned-opt-rl compare`` does more: several environments, and runs that go on where
they were killed.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from learned_opt_rl import envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation.command import one_line_errors
from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.measures import measure
from learned_opt_rl.evaluation.runs import agents, row, train
from learned_opt_rl.evaluation.runs.identity import identity, wanted
from learned_opt_rl.evaluation.runs.program import Program
from learned_opt_rl.evaluation.runs.progress import RunProgress
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory, Rule, resolve
from learned_opt_rl.evaluation.runs.train import OnRollout as OnRollout
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.provenance import provenance as provenance


def run(
    rule: str | OptimizerFactory | Rule,
    environment: str | envs.Environment,
    config: Config,
    seeds: Sequence[int],
    *,
    name: str | None = None,
    on_rollout: OnRollout | None = None,
    devices: int = 1,
) -> list[Row]:
    """Trains an agent per seed with one rule, all seeds at once.

    The same seed gives every rule the same initial agent and environments, so that
    rules can be compared seed by seed.

    Args:
        rule: A name for `optimizers.resolve`, a function ``key -> optimiser``, or an
            `optimizers.Rule`.
        environment: A name for `envs.make`, or an environment.
        config: The run; its type says of which agent.
        seeds: One agent each.
        name: What to file a rule given as a function under.
        on_rollout: Called about a hundred times, and after the last rollout.
        devices: How many devices share the seeds.

    Returns:
        One JSON-able row per seed. ``compile_seconds``, ``wall_seconds`` (without
        compilation) and ``steps_per_second`` are of all ``num_agents`` seeds together;
        ``diverged`` says that parameters ended up NaN or infinite, ``nan_updates``
        counts updates that were; ``curve`` is `TrainResult.returns`, None for what is
        not finite, as before the first episode ends; ``final_return`` is the last of
        it and ``auc`` the mean of what it has, None if that is nothing; ``dormant`` is
        the share of neurons of dormancy at most 0.025 after at most 200 rollouts,
        evenly spaced up to the last.

    Raises:
        ValueError: If a name is unknown, there are no seeds, a rule given as a
            function has no name, or ``devices`` do not divide the seeds.

    Example:
        >>> from learned_opt_rl.agents import PPOConfig
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> (row,) = run("adam:1e-3", "CartPole-v1", config, seeds=[0])
        >>> row["rule"], row["seed"], len(row["curve"])
        ('adam:1e-3', 0, 8)
    """
    if not seeds:
        raise ValueError(f"seeds={seeds!r} is empty; give at least one, as in [0]")
    env = envs.make(environment) if isinstance(environment, str) else environment
    chosen = resolve(rule, config, env.name) if isinstance(rule, str) else rule
    chosen = chosen if isinstance(chosen, Rule) else Rule(chosen)
    name = name or (rule if isinstance(rule, str) else None)
    if name is None:
        raise ValueError("name=None: a rule given as a function needs a name")

    program = Program(config, env, chosen, len(seeds), devices)
    trained = train.train(program, seeds, on_rollout=on_rollout)
    return train.rows(program, trained, name, seeds)


def default_config(
    environment: str, total_timesteps: float, agent: str = "ppo", **overrides: Any
) -> Any:
    """The published hyper-parameters for an environment.

    Args:
        environment: Its name.
        total_timesteps: Environment steps.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        **overrides: Fields of the agent's configuration to be set otherwise.

    Returns:
        The agent's configuration.

    Example:
        >>> default_config("CartPole-v1", 5e5).activation
        'tanh'
    """
    return agents.default_config(environment, total_timesteps, agent, **overrides)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs rules from the command line; see the module's description."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Every name is checked before the first run, which may take hours.
    with one_line_errors(parser):
        envs.make(options.environment)
        config = default_config(options.environment, options.steps)
        for rule in options.rules:
            resolve(rule, config, options.environment)
    for rule in options.rules:
        seeds = _missing(options, rule, config)
        if not seeds:
            continue
        label = f"{rule} ({options.environment})"
        with RunProgress(label, config, len(seeds)) as progress:
            rows = run(rule, options.environment, config, seeds, on_rollout=progress)
        jsonl.append(options.out, rows)
    shown = [
        row
        for row in jsonl.read(options.out)
        if row["environment"] == options.environment
        and row["total_timesteps"] == config.total_timesteps
    ]
    measures = measure(map(row.Row.from_json, shown))
    print(tables.render(tables.results(measures), "plain"))


def _missing(options: argparse.Namespace, rule: str, config: Any) -> list[int]:
    """The seeds that the results file does not hold yet, for this configuration."""
    done = {identity(row) for row in jsonl.read(options.out)}
    first = options.first_seed
    return [
        seed
        for seed in range(first, first + options.seeds)
        if wanted(rule, options.environment, config, seed) not in done
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m learned_opt_rl.evaluation.runs.run",
        description="Train agents with update rules and add the results to a file.",
    )
    add = parser.add_argument
    add(
        "--rules",
        nargs="+",
        required=True,
        metavar="RULE",
        help="adam (tuned), adam:1e-3 (fixed rate), lion, rmsprop, sgd, ARTIFACT",
    )
    add("--environment", required=True, help="a gymnax name, as Breakout-MinAtar")
    add("--steps", type=float, default=1e7, help="environment steps (default 1e7)")
    add("--seeds", type=int, default=1, help="how many seeds (default 1)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--out", type=pathlib.Path, required=True, help="JSON Lines file to add to")
    return parser


if __name__ == "__main__":
    main()
