"""Run folders as campaigns leave them, and an evaluation that costs nothing."""

import dataclasses
import hashlib
import json

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.presets import CONFIGS
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.evaluation.runs import compare, plan
from learned_opt_rl.evaluation.runs.row import Row, append_rows, read_rows
from learned_opt_rl.evaluation.runs.rules import weights_digest
from learned_opt_rl.training.evolution import Campaign, EvolutionConfig
from learned_opt_rl.training.evolution.folder import Folder
from learned_opt_rl.training.run_folder import BEST

AGENT = {"num_envs": 4, "num_steps": 16, "minibatches": 2, "epochs": 1, "hidden": (4,)}
SETTINGS = ("num_envs=4", "num_steps=16", "minibatches=2", "epochs=1", "hidden=4")
CONFIG = EvolutionConfig(
    "open",
    {"carry": None, "width": 2},
    ("CartPole-v1",),
    ((0, 256),),
    agent=AGENT,
    start="random",
    population=4,
    rollouts=2,
    validate_every=1,
    validation_seeds=3,
    generations=2,
)


def campaign(folder, fill=0.0, config=CONFIG):
    """A campaign of two generations, the second the best; all its weights are equal."""
    folder.mkdir()
    made, number = Campaign(config, folder), config.learned.size
    kept = Folder(folder, config)
    kept.claim(fresh=True, block=1)
    for generation in range(3):
        mean = jnp.full(number, fill + generation - 2, jnp.float32)
        standing = made._standing(mean)
        standing = standing._replace(
            search=standing.search._replace(generation=jnp.int32(generation)),
            best_validation=jnp.float32(generation),
            best_generation=jnp.int32(generation),
            best_horizon=jnp.int32(256),
        )
        row = {"generation": generation, "validation": float(generation)}
        if generation:
            more = {"horizon": 256, "seconds": 90.0, "steps_per_second": 10.0}
            row |= more | {"fitness": [1.0] * 4}
        kept.save(standing, [row])
    return folder


def run_of(folder, algorithm, architecture, weights, **fields):
    """A folder of any algorithm, with no state."""
    folder.mkdir()
    config = CONFIG.as_json() | {"algorithm": algorithm, "architecture": architecture}
    made = {
        "kind": "evolution",
        "config": config | fields,
        "device": "cpu",
        "cpu": "a processor",
    }
    (folder / "config.json").write_text(json.dumps(made))
    save_safetensors(folder / BEST, weights)
    return folder


def sha256(folder):
    return hashlib.sha256((folder / BEST).read_bytes()).hexdigest()


class Fake:
    """In place of `compare.execute`: a rule returns what it is said to, plus its seed.

    Attributes:
        returns: Of a rule, by its name or the sha256 of its weights.
        made: Rules that were run, one entry per seed and environment.
    """

    def __init__(self, **returns):
        self.returns, self.made = returns, []

    def install(self, monkeypatch):
        """Takes the place; environments are not tried either, which takes a while."""
        monkeypatch.setattr(compare, "execute", self)
        monkeypatch.setattr(plan, "_check_environment", lambda env: None)

    def __call__(self, plan, folder, *, stream=None):
        done = {row.identity() for row in read_rows(folder / compare.ROWS)}
        rows = [
            self._row(cell, seed)
            for cell in plan.cells
            for group in plan.groups
            for seed in group
        ]
        rows = [row for row in rows if row.identity() not in done]
        self.made += [row.rule for row in rows]
        append_rows(folder / compare.ROWS, rows)
        return []

    def _row(self, cell, seed):
        digest = weights_digest(cell.rule)
        base = self.returns.get(digest or cell.rule, 20.0)
        final = None if base is None else base + seed
        numbers = ("compile_seconds", "wall_seconds", "steps_per_second")
        return Row(
            rule=cell.rule,
            weights_sha256=digest,
            environment=cell.env.name,
            agent=next(x for x in CONFIGS if CONFIGS[x] is type(cell.config)),
            seed=seed,
            total_timesteps=cell.config.total_timesteps,
            final_return=final,
            diverged=final is None,
            curve=[final],
            config=json.loads(json.dumps(dataclasses.asdict(cell.config))),
            variant=cell.variant,
            **dict.fromkeys(numbers, 1.0),
        )


def leaves_equal(weights, value):
    return all((leaf == value).all() for leaf in jax.tree.leaves(weights))
