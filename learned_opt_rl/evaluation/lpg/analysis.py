r"""What the predictions of an LPG mean: the analyses of the paper, for any LPG.

A near-optimal policy of a grid world stays as it is while the rule teaches predictors
about it. Drawn are the components of a prediction beside the true values (figure 4 of
the paper), how well values at several discounts can be told from predictions (figure
5), and whether predictors that began differently come to agree (figure 6). As in::

    python -m learned_opt_rl.evaluation.lpg.analysis RULE --mode all_shortlife \
        --grids 128 --updates 500 --out lpg_analysis

RULE is an artifact of algorithm ``lpg``; ``--random-weights SEED`` in its place takes
an untrained one.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, section 4.2.
"""

import argparse
import dataclasses
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.envs.gridworld import Actions, Level, Mode, get_mode, sample_level
from learned_opt_rl.evaluation.command import one_line_errors
from learned_opt_rl.evaluation.lpg import values
from learned_opt_rl.evaluation.lpg.figures import plot_convergence as plot_convergence
from learned_opt_rl.evaluation.lpg.figures import plot_predictions as plot_predictions
from learned_opt_rl.evaluation.lpg.figures import plot_regression as plot_regression
from learned_opt_rl.evaluation.lpg.policies import Evaluation as Evaluation
from learned_opt_rl.evaluation.lpg.policies import (
    EvaluationConfig as EvaluationConfig,
)
from learned_opt_rl.evaluation.lpg.policies import evaluate_policy as evaluate_policy
from learned_opt_rl.evaluation.lpg.regression import Regression as Regression
from learned_opt_rl.evaluation.lpg.regression import regress_values as regress_values
from learned_opt_rl.evaluation.lpg.values import (
    near_optimal_policy as near_optimal_policy,
)
from learned_opt_rl.evaluation.lpg.values import true_values as true_values
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.provenance import provenance

GAMMAS = (0.995, 0.99, 0.95, 0.9)
"""The discounts of the values that are told from predictions."""


class Study(NamedTuple):
    """Policy evaluations in many grids; states are those with all objects present.

    Attributes:
        levels: Arrays ``[grids, ...]``.
        policy: float32 ``[grids, cells, num_actions]``.
        values: float32 ``[grids, gammas, cells]``, true ones; NaN for walls.
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
    """Evaluates the near-optimal policies of many levels, with two predictors each.

    Args:
        rule: Any LPG.
        mode: What levels are drawn from, with tabular observations.
        config: The evaluation.
        grids: How many levels.
        seed: Of everything random.
        batch: Levels at a time: memory grows with it.
        gammas: Discounts of the true values.

    Returns:
        The records.

    Raises:
        ValueError: If the mode is not tabular, or ``grids`` or ``batch`` is below 1.
        WeightsError: If the rule's weights are not of its architecture.
    """
    _check(mode, grids=grids, batch=batch)

    def one(key: jax.Array, rule: UpdateRule) -> Study:
        level_key, key = jax.random.split(key)
        level = sample_level(level_key, mode)
        policy = near_optimal_policy(level, mode, config.gamma, config.epsilon)
        found = evaluate_policy(rule, level, mode, policy, key, config, predictors=2)
        values = jax.vmap(lambda gamma: true_values(level, mode, policy, gamma))(
            jnp.array(gammas)
        )
        there = values.all_present(level)

        def shown(states: jax.Array) -> jax.Array:
            return states.reshape(-1, mode.num_cells, *states.shape[1:])[there]

        return Study(level, shown(policy), jax.vmap(shown)(values), *found)

    @jax.jit
    def every(rule: UpdateRule, keys: jax.Array) -> Study:
        return jax.lax.map(
            lambda key: one(key, rule), keys, batch_size=min(batch, grids)
        )

    return every(rule, jax.random.split(jax.random.key(seed), grids))


def convergence(y: jax.Array, free: jax.Array) -> jax.Array:
    """Computes how far two predictors are apart.

    Args:
        y: float ``[grids, records, 2, cells, m]``.
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


def analyse(
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
) -> tuple[Row, Study]:
    """Makes the analyses of figures 5 and 6, and what figure 4 is drawn from.

    Args:
        rule: Any LPG, or the name of an artifact.
        mode: What levels are drawn from, with tabular observations, or its name.
        config: The evaluation; the defaults if not given.
        grids: How many levels.
        held_out: Levels, of these, that the value regression is tested on.
        seed: Of everything random.
        batch: Levels at a time: memory grows with it.
        regression_steps: Of Adam, for each network of the value regression.
        name: The rule's, in the row.

    Returns:
        A JSON-able row and the records. The row's lists have one value per record, of
        ``updates``: ``kl`` and its standard error ``kl_error`` over grids; ``mse`` by
        discount and ``"y"`` or ``"td"``; and ``mse_constant`` by discount, that of the
        mean value. ``None`` stands for what is not finite.

    Raises:
        ArtifactError: If the name is none of an LPG's.
        ValueError: If the mode is unknown or not tabular, or a number is out of range.
        WeightsError: If the rule's weights are not of its architecture.
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
    told = {
        source: regress_values(
            x, found.values, key, held_out=held_out, steps=regression_steps
        )
        for source, x in inputs.items()
    }
    row = {
        "rule": label,
        "environment": f"gridworld/{mode.name}",
        "actions": mode.actions,
        "grids": grids,
        "held_out": held_out,
        "seed": seed,
        "config": dataclasses.asdict(config),
        "updates": [config.every * i for i in range(config.num_records)],
        "kl": _finite(kl.mean(axis=0)),
        "kl_error": _finite(kl.std(axis=0) / grids**0.5),
        "mse": {
            f"{gamma:g}": {source: _finite(x.mse[i]) for source, x in told.items()}
            for i, gamma in enumerate(GAMMAS)
        },
        "mse_constant": {
            f"{gamma:g}": _finite(told["y"].constant)[i]
            for i, gamma in enumerate(GAMMAS)
        },
        **provenance(),
    }
    return row, found


def _check(mode: Mode, *, grids: int, held_out: int | None = None, batch: int) -> None:
    """Raises before anything is run that would fail in the end."""
    values.require_tabular(mode)
    for name, value in (("grids", grids), ("batch", batch)):
        if value < 1:
            raise ValueError(f"{name}={value} must be 1 or more")
    if held_out is not None and not 1 <= held_out < grids:
        raise ValueError(
            f"held_out={held_out} of grids={grids}: at least one must be held out and "
            "one left to train on"
        )


def _free(found: Study) -> jax.Array:
    return jax.vmap(lambda level: level.free)(found.levels)


def _finite(values: Any) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values)]


def plot(
    row: Row, found: Study, folder: str | pathlib.Path, *, grid: int = 0
) -> list[pathlib.Path]:
    """Draws an analysis: predictions, value regression, convergence.

    Args:
        row: From `analyse`.
        found: From `analyse`.
        folder: Where the three PNGs go.
        grid: The level that is drawn.

    Returns:
        The files.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    stem = re.sub(r"[^\w.-]+", "_", f"{row['rule']}_{row['environment']}")
    names = ("predictions", "regression", "convergence")
    paths = [pathlib.Path(folder) / f"{stem}_{name}.png" for name in names]
    level, policy, values, y, _ = jax.tree.map(lambda x: np.asarray(x[grid]), found)
    level = Level(*level)
    gamma = row["config"]["gamma"]
    nearest = int(np.argmin(np.abs(np.array(GAMMAS) - gamma)))
    plot_predictions(level, policy, values[nearest], y[-1, 0], paths[0])
    plot_regression(row["updates"], row["mse"], row["mse_constant"], paths[1])
    kl = np.asarray(convergence(found.y, _free(found)))
    plot_convergence(level, y[[0, -1]], row["updates"], kl, paths[2])
    return paths


def save(found: Study, path: str | pathlib.Path) -> None:
    """Writes the records as an npz file.

    Args:
        found: From `analyse`.
        path: The file; the levels' arrays are called ``level_...``.
    """
    arrays: dict[str, Any] = {k: x for k, x in found._asdict().items() if k != "levels"}
    arrays |= {f"level_{name}": x for name, x in found.levels._asdict().items()}
    arrays = {name: np.asarray(x) for name, x in arrays.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(pathlib.Path(path), content.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Analyses a rule from the command line; see the module's description."""
    parser = _parser()
    options = parser.parse_args(arguments)
    sizes = {name: getattr(options, name) for name in ("grids", "held_out", "batch")}
    with one_line_errors(parser):
        name, rule = _rule(options.rule, options.random_weights)
        mode = get_mode(options.mode)
        if options.actions is not None:
            mode = dataclasses.replace(mode, actions=options.actions)
        chosen = {
            field.name: value
            for field in dataclasses.fields(EvaluationConfig)
            if (value := getattr(options, field.name)) is not None
        }
        config = EvaluationConfig(**chosen)
        _check(mode, **sizes)
    steps = options.regression_steps
    row, found = analyse(
        rule,
        mode,
        config,
        seed=options.seed,
        regression_steps=steps,
        name=name,
        **sizes,
    )
    jsonl.append(options.out / "lpg_analysis.jsonl", [row])
    paths = plot(row, found, options.out)
    records = paths[0].with_name(paths[0].name.replace("_predictions.png", ".npz"))
    save(found, records)
    print(f"{name}: KL {row['kl'][0]} -> {row['kl'][-1]}")
    for path in (options.out / "lpg_analysis.jsonl", records, *paths):
        print(path)


def _rule(name: str | None, seed: int | None) -> tuple[str, UpdateRule]:
    if name is not None and seed is None:
        return name, lpg.pretrained(name)
    if name is not None or seed is None:
        raise ValueError("give either RULE or --random-weights SEED")
    architecture = lpg.Architecture()
    weights = lpg.init(jax.random.key(seed), architecture)
    return f"random:{seed}", UpdateRule(weights, architecture)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m learned_opt_rl.evaluation.lpg.analysis",
        description="What the predictions of an LPG mean.",
    )
    add = parser.add_argument
    add("rule", nargs="?", metavar="RULE", help="an artifact of algorithm lpg")
    add("--random-weights", type=int, metavar="SEED", help="an untrained LPG instead")
    add("--mode", default="all_shortlife", help="of grid worlds, with a tabular view")
    add("--actions", choices=Actions.__args__, help="other actions than the mode's")
    add("--grids", type=int, default=128, help="levels (default 128)")
    add("--held-out", type=int, default=10, help="of them, for tests (default 10)")
    add("--seed", type=int, default=0)
    add("--batch", type=int, default=8, help="levels at a time (default 8)")
    add("--regression-steps", type=int, default=5000, help="of Adam (default 5000)")
    add("--out", type=pathlib.Path, required=True, help="folder for all that is found")
    for field in dataclasses.fields(EvaluationConfig):
        kind = type(field.default)
        option = f"--{field.name.replace('_', '-')}"
        add(option, type=kind, help=f"default {field.default}")
    return parser


if __name__ == "__main__":
    main()
