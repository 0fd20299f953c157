"""Analyze the predictions of an LPG: the analyses of the paper, for any LPG.

A near-optimal policy of a grid world stays fixed while the rule teaches predictors
about it. Figure 4 of the paper shows the components of a prediction beside the true
values, figure 5 how well values at several discounts can be computed from predictions,
and figure 6 whether predictors with different starts converge.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, section 4.2.
"""

import dataclasses
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs.gridworld import Level, Mode, get_mode, sample_level
from learned_opt_rl.evaluation.lpg import figures
from learned_opt_rl.evaluation.lpg.policies import EvaluationConfig, evaluate_policy
from learned_opt_rl.evaluation.lpg.regression import regress_values
from learned_opt_rl.evaluation.lpg.values import (
    all_present,
    near_optimal_policy,
    require_tabular,
    true_values,
)
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.provenance import provenance

GAMMAS = (0.995, 0.99, 0.95, 0.9)
"""The discounts of the true values."""


def run(
    rule: UpdateRule | str,
    mode: Mode | str,
    folder: pathlib.Path,
    config: EvaluationConfig | None = None,
    **options: Any,
) -> tuple[Record, list[pathlib.Path]]:
    """Analyze a rule and write the record, the arrays and the pictures into a folder.

    Args:
        rule: As for `analyze`.
        mode: As for `analyze`.
        folder: The record is added to its ``lpg_analysis.jsonl``.
        config: As for `analyze`.
        **options: The other arguments of `analyze`.

    Returns:
        The record and the paths of all files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: As for `analyze`.
    """
    record, found = analyze(rule, mode, config, **options)
    rows = folder / "lpg_analysis.jsonl"
    jsonl.append(rows, [record])
    arrays = folder / f"{_stem(record)}.npz"
    save(found, arrays)
    return record, [rows, arrays, *plot(record, found, folder)]


def untrained(seed: int) -> UpdateRule:
    """Return an LPG of the paper's architecture with random weights."""
    architecture = lpg.Architecture()
    return UpdateRule(lpg.init(jax.random.key(seed), architecture), architecture)


class Study(NamedTuple):
    """Policy evaluations in many grids; states are those with all objects present.

    Attributes:
        levels: Arrays ``[grids, ...]``.
        policy: float32 ``[grids, cells, num_actions]``.
        values: float32 ``[grids, gammas, cells]``, the true values; NaN for walls.
        y: float32 ``[grids, records, 2, cells, m]``, of two predictors.
        td: float32 ``[grids, records, cells]``, values by TD(lambda).
    """

    levels: Level
    policy: jax.Array
    values: jax.Array
    y: jax.Array
    td: jax.Array


def study(
    rule: UpdateRule,
    mode: Mode,
    config: EvaluationConfig,
    *,
    grids: int,
    seed: int = 0,
    batch: int = 8,
    gammas: Sequence[float] = GAMMAS,
) -> Study:
    """Evaluate the near-optimal policies of many levels, with two predictors each.

    Args:
        rule: Any LPG.
        mode: The distribution of levels, with tabular observations.
        config: Configuration of the evaluation.
        grids: Number of levels.
        seed: Seed of all random numbers.
        batch: Levels evaluated together; memory grows with it.
        gammas: Discounts of the true values.

    Raises:
        ValueError: The mode is not tabular, or ``grids`` or ``batch`` is below 1.
        WeightsError: The rule's weights do not fit its architecture.
    """
    _check(mode, grids=grids, batch=batch)

    def one(key: jax.Array, rule: UpdateRule) -> Study:
        level_key, key = jax.random.split(key)
        level = sample_level(level_key, mode)
        policy = near_optimal_policy(level, mode, config.gamma, config.epsilon)
        found = evaluate_policy(rule, level, mode, policy, key, config, predictors=2)
        known = jax.vmap(lambda gamma: true_values(level, mode, policy, gamma))(
            jnp.array(gammas)
        )
        there = all_present(level)

        def shown(states: jax.Array) -> jax.Array:
            return states.reshape(-1, mode.num_cells, *states.shape[1:])[there]

        return Study(level, shown(policy), jax.vmap(shown)(known), *found)

    @jax.jit
    def every(rule: UpdateRule, keys: jax.Array) -> Study:
        return jax.lax.map(
            lambda key: one(key, rule), keys, batch_size=min(batch, grids)
        )

    return every(rule, jax.random.split(jax.random.key(seed), grids))


def convergence(y: jax.Array, free: jax.Array) -> jax.Array:
    """Return the distance between two predictors.

    Args:
        y: float ``[grids, records, 2, cells, m]``, the predictions of both.
        free: bool ``[grids, cells]``, the cells that count.

    Returns:
        float32 ``[grids, records]``, the mean over cells of D_KL(y0 || y1).

    References:
        Oh et al. 2020, section 4.2, figure 6.

    Example:
        >>> import jax.numpy as jnp
        >>> y = jnp.array([[0.5, 0.5], [0.25, 0.75]]).reshape(1, 1, 2, 1, 2)
        >>> round(convergence(y, jnp.ones((1, 1), bool)).item(), 4)
        0.1438
    """
    logs = jnp.log(y + lpg.EPS)
    kl = jnp.sum(y[:, :, 0] * (logs[:, :, 0] - logs[:, :, 1]), axis=-1)
    counts = free[:, None] / jnp.sum(free, axis=1)[:, None, None]
    return jnp.sum(kl * counts, axis=-1)


def analyze(
    rule: UpdateRule | str,
    mode: Mode | str,
    config: EvaluationConfig | None = None,
    *,
    grids: int = 128,
    held_out: int = 10,
    seed: int = 0,
    batch: int = 8,
    regression_steps: int = 5000,
    name: str | None = None,
) -> tuple[Record, Study]:
    """Compute the results of figures 5 and 6, and the arrays of figure 4.

    Args:
        rule: Any LPG, or the name of an artifact.
        mode: The distribution of levels, with tabular observations, or its name.
        config: Configuration of the evaluation.
        grids: Number of levels.
        held_out: Number of these levels that test the value regression.
        seed: Seed of all random numbers.
        batch: Levels evaluated together; memory grows with it.
        regression_steps: Adam steps for each network of the value regression.
        name: Name of the rule in the record.

    Returns:
        A JSON-able record and the arrays. The lists of the record have one value for
        each entry of ``updates``: ``kl`` and its standard error ``kl_error`` over
        grids; ``mse`` by discount and by ``"y"`` or ``"td"``. ``mse_constant`` by
        discount is the error of the mean value. None stands for a value that is not
        finite.

    Raises:
        ArtifactError: The name is not the name of an LPG.
        ValueError: The mode is unknown or not tabular, or a number is out of range.
        WeightsError: The rule's weights do not fit its architecture.
    """
    label = name or (rule if isinstance(rule, str) else "rule")
    rule = lpg.pretrained(rule) if isinstance(rule, str) else rule
    mode = get_mode(mode) if isinstance(mode, str) else mode
    config = EvaluationConfig() if config is None else config
    _check(mode, grids=grids, held_out=held_out, batch=batch)
    found = study(rule, mode, config, grids=grids, seed=seed, batch=batch)
    kl = np.asarray(convergence(found.y, _free(found)))
    key = jax.random.key(seed)
    inputs = {"y": found.y[:, :, 0], "td": found.td[..., None]}
    fits = {
        source: regress_values(
            x, found.values, key, held_out=held_out, steps=regression_steps
        )
        for source, x in inputs.items()
    }
    record = {
        "rule": label,
        "environment": f"gridworld/{mode.name}",
        "actions": mode.actions,
        "grids": grids,
        "held_out": held_out,
        "seed": seed,
        "config": dataclasses.asdict(config),
        "updates": [config.every * i for i in range(config.num_records)],
        "kl": jsonl.numbers(kl.mean(axis=0)),
        "kl_error": jsonl.numbers(kl.std(axis=0) / grids**0.5),
        "mse": {
            f"{gamma:g}": {k: jsonl.numbers(fit.mse[i]) for k, fit in fits.items()}
            for i, gamma in enumerate(GAMMAS)
        },
        "mse_constant": {
            f"{gamma:g}": jsonl.number(fits["y"].constant[i])
            for i, gamma in enumerate(GAMMAS)
        },
        **provenance(),
    }
    return record, found


def _check(mode: Mode, *, grids: int, held_out: int | None = None, batch: int) -> None:
    require_tabular(mode)
    positive_int("grids", grids)
    positive_int("batch", batch)
    if held_out is not None and not 1 <= held_out < grids:
        raise ValueError(
            f"held_out={held_out} of grids={grids}: at least one must be held out and "
            "one left to train on"
        )


def _free(found: Study) -> jax.Array:
    return jax.vmap(lambda level: level.free)(found.levels)


def plot(
    record: Record, found: Study, folder: str | pathlib.Path
) -> list[pathlib.Path]:
    """Draw an analysis as three PNGs: predictions, value regression, convergence.

    The level drawn is the first of the study.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = ("predictions", "regression", "convergence")
    paths = [pathlib.Path(folder) / f"{_stem(record)}_{name}.png" for name in names]
    level, policy, values, y, _ = jax.tree.map(lambda x: np.asarray(x[0]), found)
    level, updates = Level(*level), record["updates"]
    nearest = int(np.argmin(np.abs(np.array(GAMMAS) - record["config"]["gamma"])))
    figures.plot_predictions(level, policy, values[nearest], y[-1, 0], paths[0])
    figures.plot_regression(updates, record["mse"], record["mse_constant"], paths[1])
    kl = np.asarray(convergence(found.y, _free(found)))
    figures.plot_convergence(level, y[[0, -1]], updates, kl, paths[2])
    return paths


def _stem(record: Record) -> str:
    return re.sub(r"[^\w.-]+", "_", f"{record['rule']}_{record['environment']}")


def save(found: Study, path: str | pathlib.Path) -> None:
    """Write the arrays as an npz file; those of the levels are named ``level_...``."""
    arrays: dict[str, Any] = {k: x for k, x in found._asdict().items() if k != "levels"}
    arrays |= {f"level_{name}": x for name, x in found.levels._asdict().items()}
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(pathlib.Path(path), content.getvalue())
