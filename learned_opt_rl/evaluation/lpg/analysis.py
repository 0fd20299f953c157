"""Analyze the predictions of an LPG: the analyses of the paper, for any LPG.

A near-optimal policy of a grid world stays fixed while the rule teaches predictors
about it. Figure 4 of the paper shows the components of a prediction beside the true
values, figure 5 how well values at several discounts can be computed from predictions,
and figure 6 whether predictors with different starts converge.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, section 4.2.
"""

import dataclasses
import functools
import io
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.agents.networks import apply_mlp, init_mlp
from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs.gridworld import Level, Mode, sample_level
from learned_opt_rl.evaluation.lpg import figures
from learned_opt_rl.evaluation.lpg.policies import (
    EvaluationConfig,
    all_present,
    evaluate_policy,
    near_optimal_policy,
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

# Of the regression. Our choice: the paper gives no sizes.
_HIDDEN = 64
_BATCH = 256
_RATE = 1e-3


def run(
    rule: UpdateRule, mode: Mode, folder: pathlib.Path, **options: Any
) -> tuple[Record, list[pathlib.Path]]:
    """Analyze a rule and write the record, the arrays and the pictures into a folder.

    The record is added to ``lpg_analysis.jsonl``. The options are those of `analyze`.
    Returns the record and the paths of all files.
    """
    record, found = analyze(rule, mode, **options)
    rows = folder / "lpg_analysis.jsonl"
    jsonl.append(rows, [record])
    arrays = folder / f"{_stem(record)}.npz"
    save(found, arrays)
    return record, [rows, arrays, *plot(record, found, folder)]


class Study(NamedTuple):
    """Policy evaluations in many grids; states are those with all objects present."""

    levels: Level  # arrays [grids, ...]
    policy: jax.Array  # float32 [grids, cells, num_actions]
    values: jax.Array  # float32 [grids, gammas, cells], the true values; NaN for walls
    y: jax.Array  # float32 [grids, records, 2, cells, m], of two predictors
    td: jax.Array  # float32 [grids, records, cells], values by TD(lambda)


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
    """Evaluate the near-optimal policies of many levels, with two predictors each."""

    def one(key: jax.Array, rule: UpdateRule) -> Study:
        level_key, key = jax.random.split(key)
        level = sample_level(level_key, mode)
        policy = near_optimal_policy(level, mode, config.gamma, config.epsilon)
        found = evaluate_policy(rule, level, mode, policy, key, config)
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
    """Return D_KL(y0 || y1) of two predictors, the mean over free cells.

    ``y`` is float ``[grids, records, 2, cells, m]``, ``free`` bool ``[grids, cells]``.
    The distances are ``[grids, records]``.

    References:
        Oh et al. 2020, section 4.2, figure 6.
    """
    logs = jnp.log(y + lpg.EPS)
    kl = jnp.sum(y[:, :, 0] * (logs[:, :, 0] - logs[:, :, 1]), axis=-1)
    counts = free[:, None] / jnp.sum(free, axis=1)[:, None, None]
    return jnp.sum(kl * counts, axis=-1)


def analyze(
    rule: UpdateRule,
    mode: Mode,
    config: EvaluationConfig,
    *,
    name: str,
    grids: int = 128,
    held_out: int = 10,
    seed: int = 0,
    batch: int = 8,
    regression_steps: int = 5000,
) -> tuple[Record, Study]:
    """Compute the results of figures 5 and 6, and the arrays of figure 4.

    Of the ``grids`` levels, the last ``held_out`` test the value regression. Adam
    trains each of its networks for ``regression_steps``. ``batch`` levels are evaluated
    together; memory grows with it. ``name`` is the rule's name in the record.

    The record is JSON-able. Its lists have one value for each entry of ``updates``:
    ``kl`` and its standard error ``kl_error`` over grids; ``mse`` by discount and by
    ``"y"`` or ``"td"``. ``mse_constant`` by discount is the error of the mean value.
    None stands for a value that is not finite.
    """
    if mode.observation != "tabular":
        raise ValueError(
            f"mode {mode.name!r} shows its states as {mode.observation!r}, but the "
            "analysis needs one prediction per state; choose a mode with "
            "observation='tabular', for example 'all_shortlife' or 'dense'"
        )
    positive_int("grids", grids)
    positive_int("batch", batch)
    _check_held_out(held_out, grids)
    found = study(rule, mode, config, grids=grids, seed=seed, batch=batch)
    free = jax.vmap(lambda level: level.free)(found.levels)
    kl = np.asarray(convergence(found.y, free))
    key = jax.random.key(seed)
    inputs = {"y": found.y[:, :, 0], "td": found.td[..., None]}
    options = {"held_out": held_out, "steps": regression_steps}
    fits = {
        source: regress_values(x, found.values, key, **options)
        for source, x in inputs.items()
    }
    record = {
        "rule": name,
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


def _check_held_out(held_out: int, grids: int) -> None:
    if not 1 <= held_out < grids:
        raise ValueError(
            f"held_out={held_out} of grids={grids}: at least one must be held out and "
            "one left to train on; evaluate more grids"
        )


def plot(
    record: Record, found: Study, folder: str | pathlib.Path
) -> list[pathlib.Path]:
    """Draw an analysis as three PNGs: predictions, value regression, convergence.

    The level drawn is the first of the study.
    """
    names = ("predictions", "regression", "convergence")
    paths = [pathlib.Path(folder) / f"{_stem(record)}_{name}.png" for name in names]
    level, policy, values, y, _ = jax.tree.map(lambda x: np.asarray(x[0]), found)
    level = Level(*level)
    nearest = int(np.argmin(np.abs(np.array(GAMMAS) - record["config"]["gamma"])))
    figures.plot_predictions(level, policy, values[nearest], y[-1, 0], paths[0])
    figures.plot_regression(record, paths[1])
    figures.plot_convergence(level, y[[0, -1]], record, paths[2])
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


def load(path: str | pathlib.Path) -> Study:
    """Read the arrays that `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        levels = Level(*(arrays[f"level_{name}"] for name in Level._fields))
        rest = [arrays[name] for name in Study._fields if name != "levels"]
    return Study(levels, *rest)


class Regression(NamedTuple):
    """The mean squared errors of `regress_values`, in the units of the values."""

    mse: np.ndarray  # float32 [targets, records], on the held-out grids
    constant: np.ndarray  # float32 [targets], of the mean value of the training grids


def regress_values(
    inputs: Any, values: Any, key: jax.Array, *, held_out: int = 10, steps: int = 5000
) -> Regression:
    """Train networks to compute true values from predictions.

    The inputs (predictions y or values) are ``[grids, records, cells, inputs]``. The
    true values at each discount are ``[grids, targets, cells]``; cells with a NaN do
    not count. There is one multi-layer perceptron per target, with a hidden layer of 64
    ReLU units. Adam (1e-3, batches of 256) trains it on the records of the second half
    of the evaluation, in all grids but the last ``held_out``. It is tested on every
    record of those. Inputs and targets are standardized by the training data.

    References:
        Oh et al. 2020, section 4.2, figure 5. The paper gives no sizes and does not
        state from which updates the network is trained.
    """
    inputs, values = np.asarray(inputs), np.asarray(values)
    grids, records, cells, width = inputs.shape
    _check_held_out(held_out, grids)
    if values.ndim != 3 or (grids, cells) != (values.shape[0], values.shape[2]):
        raise ValueError(
            f"values have shape {values.shape}, inputs {inputs.shape}: they must be "
            "[grids, targets, cells] and [grids, records, cells, inputs]"
        )
    values, inputs = np.moveaxis(values, 1, -1), np.moveaxis(inputs, 1, 0)
    known, trained = np.isfinite(values).all(-1), grids - held_out
    seen, unseen = known[:trained], known[trained:]
    late = inputs[records // 2 :, :trained][:, seen]  # [records, states, inputs]
    truth = values[:trained][seen]
    x_mean, y_mean = late.mean((0, 1)), truth.mean(0)
    # An input may be constant.
    x_scale = np.maximum(late.std((0, 1)), 1e-6)
    y_scale = np.maximum(truth.std(0), 1e-6)
    x = ((late - x_mean) / x_scale).reshape(-1, width)
    y = np.tile((truth - y_mean) / y_scale, (len(late), 1))
    networks = _fitted(x, y, key, steps)
    tested = (inputs[:, trained:][:, unseen] - x_mean) / x_scale
    predicted = np.asarray(_predict(networks, tested))  # [targets, records, states]
    truth = values[trained:][unseen].T
    predicted = predicted * y_scale[:, None, None] + y_mean[:, None, None]
    mse = ((predicted - truth[:, None]) ** 2).mean(-1)
    return Regression(mse, ((truth - y_mean[:, None]) ** 2).mean(-1))


@functools.partial(jax.jit, static_argnums=3)
def _fitted(x: jax.Array, y: jax.Array, key: jax.Array, steps: int) -> Any:
    """Train a network for each column of ``y``, given rows of inputs."""
    init_key, key = jax.random.split(key)
    sizes = (x.shape[-1], _HIDDEN, 1)
    keys = jax.random.split(init_key, y.shape[-1])
    networks = jax.vmap(lambda key: init_mlp(key, sizes, 1.0))(keys)
    optimizer = optax.adam(_RATE)

    def step(carry: Any, key: jax.Array) -> Any:
        networks, state = carry
        rows = jax.random.randint(key, (_BATCH,), 0, len(x))

        def loss(networks: Any) -> jax.Array:
            return jnp.sum(jnp.mean((_predict(networks, x[rows]) - y[rows].T) ** 2, 1))

        updates, state = optimizer.update(jax.grad(loss)(networks), state, networks)
        return (optax.apply_updates(networks, updates), state), None

    start = networks, optimizer.init(networks)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]


def _predict(networks: Any, x: Any) -> jax.Array:
    """Return the outputs of all networks, ``[targets, ...]``."""
    return jax.vmap(lambda one: apply_mlp(one, x, "relu")[0][..., 0])(networks)
