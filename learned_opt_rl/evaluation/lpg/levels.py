"""Compare agents on held-out levels: their returns over the levels' optimal returns.

Every rule trains agents from scratch on the same levels, for one lifetime of the
levels' mode. No training draws these levels: their keys have a root of their own.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, section 4.3.
    Jackson et al., "Discovering General Reinforcement Learning Algorithms with
    Adversarial Environment Design", 2023 (GROOVE), section 5.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import agents, artifacts, envs
from learned_opt_rl.agents.presets import AgentName
from learned_opt_rl.agents.rollouts import MeanReturn, form_to_play, mean_return
from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs import chain, gridworld
from learned_opt_rl.envs.adapter import EpisodeState
from learned_opt_rl.evaluation.report.statistics import Estimate, aggregate
from learned_opt_rl.evaluation.runs import program, rules, tuned_rule
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.rundir.provenance import provenance

ROWS = "levels.jsonl"
"""The file of rows in a folder; each row has one rule's agents on one level."""

RANDOM = "random"
"""The rule whose agents never learn: their actions stay uniform."""

# Root of the keys of held-out levels. Trainings fold numbers into keys of small seeds.
_HELD_OUT = 2**31 - 1
_POINTS = 25  # of the learning curve in a row


class Contestant(NamedTuple):
    """A rule with the agent that it trains."""

    name: str  # as it stands in rows and tables
    agent: AgentName  # "a2c" or "lpg"
    rule: rules.Rule
    digest: str | None = None  # SHA-256 of the rule's weights or settings, if any


@dataclasses.dataclass(frozen=True)
class Levels:
    """The levels, and the agents on each.

    Attributes:
        environment: A grid world or chain with levels: ``"gridworld/all_shortlife"``.
        levels: Number of levels.
        seeds: Agents of each rule on each level.
        updates: Updates of each agent; None for the mode's lifetime.
        batch: Levels that are trained on together.

    Raises:
        ValueError: The environment has no levels, or a number is not positive.
    """

    environment: str = "gridworld/all_shortlife"
    levels: int = 64
    seeds: int = 5
    updates: int | None = None
    batch: int = 16

    def __post_init__(self) -> None:
        for name in ("levels", "seeds", "batch"):
            positive_int(name, getattr(self, name), "give at least 1")
        if self.updates is not None:
            positive_int("updates", self.updates, "give None for the mode's lifetime")
        if self.environment.partition("/")[0] not in ("gridworld", "chain"):
            raise ValueError(
                f"environment={self.environment!r} has no levels; give a grid world or "
                "a chain, for example gridworld/all_shortlife, or use `compare`"
            )
        envs.make(self.environment)

    def config(self, agent: AgentName) -> Any:
        """Return the agent's published configuration, for the lifetime."""
        whole = agents.preset(self.environment, agent="lpg")
        steps = (self.updates or whole.num_updates) * whole.batch_size
        return agents.preset(self.environment, steps, agent)


def contestant(name: str, levels: Levels) -> Contestant:
    """Return the contestant with the name of a rule, as `compare` takes it.

    Update rules train the agent lpg, all others A2C. ``"random"`` is `RANDOM`.

    Raises:
        UnknownArtifactError: No rule has this name.
        ValueError: The rule is not tuned for the environment, or is a drift.
    """
    if name == RANDOM:
        return Contestant(name, "a2c", rules.Rule(lambda key: optax.set_to_zero()))
    fixed = rules.is_handcrafted(name) or tuned_rule.is_path(name)
    learned = None if fixed else artifacts.card(rules.artifact_name(name)).kind
    agent = "lpg" if learned == "update_rule" else "a2c"
    found = rules.resolve(name, levels.config(agent), levels.environment)
    return Contestant(name, agent, found, rules.weights_digest(name))


def of_rule(
    name: str, rule: UpdateRule, levels: Levels, digest: str | None = None
) -> Contestant:
    """Return the contestant of an LPG, with the agents' published optimizer."""
    updates = levels.config("lpg").num_updates
    plain = agents.lpg_optimizer(levels.environment, updates)
    return Contestant(name, "lpg", rules.Rule(lambda key: plain, None, rule), digest)


def untrained(architecture: lpg.Architecture, seed: int = 0) -> UpdateRule:
    """Return an LPG with random weights."""
    return UpdateRule(lpg.init(jax.random.key(seed), architecture), architecture)


def run(
    contestants: Iterable[Contestant],
    levels: Levels,
    folder: pathlib.Path,
    stream: TextIO | None = None,
) -> list[Record]:
    """Train the agents of every rule on every level; return the rows of all.

    Rows that the folder has are not made again, so an interrupted run resumes.

    Raises:
        ValueError: The folder holds rows of another rule with one of the names.
        FolderInUseError: Another process uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        known = jsonl.read(folder / ROWS)
        for one in contestants:
            described = {
                "rule": one.name,
                "sha256": one.digest,
                "agent": one.agent,
                "environment": levels.environment,
                "updates": levels.config(one.agent).num_updates,
                "seeds": levels.seeds,
            }
            there = [row["level"] for row in known if _is_of(row, described)]
            missing = [i for i in range(levels.levels) if i not in there]
            done = len(there)
            with Progress(one.name, levels.levels, stream, done=done) as progress:
                for found in _rows(one, levels, described, missing):
                    jsonl.append(folder / ROWS, found)
                    known += found
                    done += len(found)
                    progress.show(done, f"share {share(found):.3f}")
    return [row for row in known if row["level"] < levels.levels]


def table(found: Iterable[Record], baseline: str | None = None) -> list[list[str]]:
    """Return a table of rules: their shares of the optimal return, and their areas.

    Intervals are over the seeds, on these levels. The first row names the columns.
    ``baseline`` adds each rule's return over that rule's.
    """
    by_rule: dict[str, list[Record]] = {}
    for row in found:
        by_rule.setdefault(row["rule"], []).append(row)
    head = ["rule", "agent", "of optimal return", "area", "levels", "seeds"]
    head += [f"return over {baseline}'s"] if baseline else []
    lines = [head]
    for name, own in by_rule.items():
        line = [name, own[0]["agent"], shown(shares(own)), shown(shares(own, "auc"))]
        line += [str(len(own)), str(len(own[0]["returns"]))]
        if baseline:
            line.append(f"{share(own) / share(by_rule[baseline]):.2f}")
        lines.append(line)
    return lines


def shares(found: Sequence[Record], field: str = "returns") -> Estimate:
    """Estimate the share of the optimal return that one rule's agents reach.

    It is the mean of all returns over the mean optimal return: levels whose optimal
    return is nearly 0 have no share of their own. ``field`` may be ``"auc"``, the mean
    return during training. Agents without a return count as 0: they have diverged, or
    never ended an episode.
    """
    optimal = np.mean([row["optimal_return"] for row in found])
    returns = np.nan_to_num(np.array([row[field] for row in found], float))
    return aggregate(returns.T / optimal)["mean"]


def share(found: Sequence[Record]) -> float:
    """Return the value of `shares`."""
    return shares(found).value


def shown(one: Estimate) -> str:
    """Return a share with its interval, if it has one."""
    if one.low is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _is_of(row: Record, described: Record) -> bool:
    """Return whether a row is of a contestant on these levels, or raise ValueError."""
    if row["rule"] != described["rule"]:
        return False
    changed = differences({name: row.get(name) for name in described}, described)
    if changed:
        raise ValueError(
            f"rule={described['rule']!r} has rows of another run in the folder "
            f"({'; '.join(changed)}); give another folder"
        )
    return True


def _rows(
    one: Contestant, levels: Levels, described: Record, missing: Sequence[int]
) -> Iterator[list[Record]]:
    """Train on the missing levels, a batch at a time; yield their rows."""
    train = jax.jit(_training(one, levels))
    described = {**described, **provenance()}
    batch = min(levels.batch, len(missing))
    for start in range(0, len(missing), max(batch, 1)):
        chosen = missing[start : start + batch]
        # The last batch repeats a level, so that nothing is compiled again.
        padded = [*chosen, *[chosen[-1]] * (batch - len(chosen))]
        curves, optimal = train(one.rule.update_rule, jnp.asarray(padded))
        # [seeds, updates] of each level; NaN before an agent's first episode has ended,
        # and after it diverged.
        values = np.asarray(curves.value)[: len(chosen)]
        points = np.linspace(0, values.shape[2] - 1, min(_POINTS, values.shape[2]))
        yield [
            {
                **described,
                "level": level,
                "optimal_return": float(best),
                "returns": jsonl.numbers(curve[:, -1]),
                "auc": jsonl.numbers(np.nan_to_num(curve).mean(axis=1)),
                "curve": jsonl.numbers(curve.mean(axis=0)[points.astype(int)].round(4)),
            }
            for level, curve, best in zip(
                chosen, values, optimal[: len(chosen)], strict=True
            )
        ]


def _training(one: Contestant, levels: Levels) -> Callable[..., Any]:
    """Return ``rule, levels -> (curves [levels, seeds, updates], optimal returns)``.

    The LPG is an argument, so that weights of equal sizes share a compiled program.
    """
    env, config = envs.make(levels.environment), levels.config(one.agent)
    played = form_to_play(config, env)
    root = jax.random.key(_HELD_OUT)

    def agent(
        rule: rules.Rule, level_key: jax.Array, seed: jax.Array
    ) -> tuple[MeanReturn, EpisodeState]:
        rule_key, train_key = jax.random.split(jax.random.key(seed))
        optimizer = rule.optimizer(rule_key)
        start, iterate = program.make_loop(config, env, rule, optimizer)
        observation, env_state = played.reset_many(level_key, config.num_envs)
        runner = start(train_key)._replace(env_state=env_state, observation=observation)

        def step(runner: Any, _: None) -> Any:
            runner = iterate(runner)
            return runner, mean_return(runner.env_state)

        _, curve = jax.lax.scan(step, runner, length=config.num_updates)
        return curve, env_state

    def level(update_rule: UpdateRule | None, number: jax.Array) -> Any:
        key = jax.random.fold_in(root, number)
        play = functools.partial(agent, one.rule._replace(update_rule=update_rule))
        curves, states = jax.vmap(play, (None, 0))(key, jnp.arange(levels.seeds))
        first = jax.tree.map(lambda x: x[0], states)
        return curves, optimal_return(env.name, first)

    return jax.vmap(level, (None, 0))


def optimal_return(
    environment: str, states: Any, *, estimate: bool = False
) -> jax.Array:
    """Return the best policy's undiscounted return, given an agent's workers.

    For levels whose objects respawn in random cells, no optimal return is computed.
    With ``estimate``, objects respawn in their first cell; the result is a scale of
    returns, not a bound.
    """
    family, _, name = environment.partition("/")
    if family == "chain":
        return jnp.float32(chain.OPTIMAL_RETURN)
    mode = gridworld.get_mode(name)
    if estimate:
        mode = dataclasses.replace(mode, random_placement=False)
    # All workers of an agent play the same level.
    level = jax.tree.map(lambda x: x[0], states.env.level)
    return gridworld.optimal_return(level, mode)
