"""A student from its teacher to a folder: fitted, validated, selected, kept.

``config.json`` (what was asked, of what code, and the digest of the teacher),
``log.jsonl`` (a row per validation), ``best.safetensors`` and, when all is done,
``final.safetensors`` (the last weights that are finite).
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from learned_opt_rl import envs, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.folder import FINAL
from learned_opt_rl.training.distillation.inputs import Tensors
from learned_opt_rl.training.distillation.objective import Objective, objective
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.distillation.visited import visit
from learned_opt_rl.training.evolution.fitness import Task, make_run
from learned_opt_rl.training.evolution.folder import BEST, CONFIG, LOG
from learned_opt_rl.training.evolution.learned import rule_of

_VALIDATION = 8  # batches
_MAX_NORM = 1.0  # of the loss's gradient, which long unrolling can blow up


def distill(
    config: DistillationConfig,
    teacher: Teacher,
    folder: pathlib.Path,
    stream: TextIO | None = None,
) -> Row:
    """Trains a student and keeps the best; one that is there already is not repeated.

    Args:
        config: From `configure`, like the teacher.
        teacher: What is imitated.
        folder: Where it is kept; made if need be.
        stream: Where a line per validation is shown; standard error if not given.

    Returns:
        The row of the log that the best student has.

    Raises:
        ValueError: The folder holds something else; or no student was finite; or by
            none, if that selects, an agent had a return.
        FolderInUseError: Another process runs it.
        MissingExtraError: An environment's package is not installed.
        OSError: The folder cannot be written.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", section 4.2 and
        appendix A.3 (black-box distillation).

    Example:
        >>> import io, tempfile
        >>> from learned_opt_rl.training.distillation import configure
        >>> small = {"steps": 2, "every": 1, "tensors": 2, "size": 4}
        >>> asked = configure(teacher="random:0", student="open:4", **small)
        >>> with tempfile.TemporaryDirectory() as name:
        ...     best = distill(*asked, pathlib.Path(name) / "run", io.StringIO())
        >>> sorted(best)
        ['error', 'round', 'seconds', 'start', 'step']
    """
    for name in config.environments:
        envs.make(name)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        rows = _claim(config, teacher, folder)
        if not rows:
            rows = _train(config, teacher, folder, stream or sys.stderr)
    return best_row(rows, config.select)


def _claim(
    config: DistillationConfig, teacher: Teacher, folder: pathlib.Path
) -> list[Row]:
    """Makes the folder this distillation's; returns its rows if it is over."""
    asked = {
        "kind": "distillation",
        "config": config.as_json(),
        "teacher_sha256": teacher.sha256,
    }
    path = folder / CONFIG
    if path.exists():
        changed = _differences(path, asked)
        if changed:
            raise ValueError(
                f"{folder} holds another run ({'; '.join(changed)}); give another "
                "folder, or delete that one"
            )
        if (folder / FINAL).exists():
            return jsonl.read(folder / LOG)
        for name in (LOG, BEST):
            (folder / name).unlink(missing_ok=True)
    there = [name for name in (LOG, BEST, FINAL) if (folder / name).exists()]
    if there:
        raise ValueError(
            f"{folder} holds {', '.join(there)} of something else ({CONFIG} is "
            "missing); give another folder"
        )
    content = json.dumps({**asked, **provenance()}, indent=2)
    write_atomically(path, f"{content}\n".encode())
    return []


def _differences(path: pathlib.Path, asked: dict[str, Any]) -> list[str]:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if there.get("kind") != asked["kind"]:
            return ["it is no distillation"]
        before = there["config"] | {"teacher_sha256": there["teacher_sha256"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {error!r}") from error
    now = asked["config"] | {"teacher_sha256": asked["teacher_sha256"]}
    return [
        f"{name}: {json.dumps(before.get(name))} -> {json.dumps(now.get(name))}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def _train(
    config: DistillationConfig,
    teacher: Teacher,
    folder: pathlib.Path,
    stream: TextIO,
) -> list[Row]:
    problem = objective(config, teacher)
    returns = _returns(config)
    rows: list[Row] = []
    last: Any = None
    for row, weights in _fit(config, teacher, problem):
        if config.select == "return":
            found = returns(weights)
            row["return"], row["returns"] = _normalised(found, config), found
        rows.append(row)
        if _finite(weights):
            last = weights
            if best_row(rows, config.select) is row:
                save_safetensors(folder / BEST, weights)
        jsonl.append(folder / LOG, [row])
        told = (f"{n} {row[n]:.4g}" for n in ("error", "return") if row.get(n))
        place = f"step {row['step']}/{config.steps}"
        if config.starts > 1:
            place = f"start {row['start']}/{config.starts}  {place}"
        print(place, *told, sep="  ", file=stream)
    if config.select == "return" and all(row["return"] is None for row in rows):
        raise ValueError(
            f"select='return', but with horizon={config.horizon} no agent had a return "
            "in every environment: no episode ended, or they diverged; raise horizon, "
            "or select='error'"
        )
    if last is None or not (folder / BEST).exists():
        raise ValueError(
            f"no student of {config.teacher!r} is finite; lower learning_rate="
            f"{config.learning_rate:g}"
        )
    save_safetensors(folder / FINAL, last)
    return rows


def _fit(
    config: DistillationConfig, teacher: Teacher, problem: Objective
) -> Iterator[tuple[Row, Any]]:
    """Rows of validations, each with the student's weights as deployed."""
    draw, advance = _steps(config, problem)
    error = _validation(config, problem)
    bounds = [config.steps * i // config.rounds for i in range(1, config.rounds)]
    first: Tensors | None = None  # visited under the teacher: the same for every start
    for start in range(config.starts):
        root = jax.random.key(config.seed)  # as it is, it draws the one start of most
        root = jax.random.fold_in(root, start) if start else root
        init_key, key, _ = jax.random.split(root, 3)
        standing, visited, done = draw(init_key), first, 0
        while done < config.steps:
            started = time.perf_counter()
            round_ = sum(bound <= done for bound in bounds)
            if config.inputs == "visited" and (visited is None or done in bounds):
                rule = _rule(config, standing, problem) if round_ else teacher.rule
                visited = _gathered(config, rule, round_, visited)
                first = visited if first is None else first
            end = min(done + config.every, *bounds[round_:], config.steps)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(done, end))
            standing, done = advance(standing, keys, visited), end
            row = {
                "start": start + 1,
                "step": done,
                "round": round_ + 1,
                "error": jsonl.number(error(standing[0], visited)),
                "seconds": round(time.perf_counter() - started, 3),
            }
            yield row, problem.deployed(standing[0])


def _steps(
    config: DistillationConfig, problem: Objective
) -> tuple[Callable[[jax.Array], Any], Callable[[Any, jax.Array, Any], Any]]:
    """``key -> (weights, Adam's state)``; and both after a step for each key."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(_MAX_NORM), optax.adam(schedule, b2=config.b2)
    )

    @jax.jit
    def advance(standing: Any, keys: jax.Array, visited: Tensors | None) -> Any:
        def step(standing: Any, key: jax.Array) -> tuple[Any, None]:
            weights, state = standing
            inputs = problem.sample(key, visited)
            grads = jax.grad(problem.loss)(weights, inputs)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(weights, updates), state), None

        return jax.lax.scan(step, standing, keys)[0]

    def draw(key: jax.Array) -> Any:
        weights = problem.init(key)
        return weights, optimizer.init(weights)

    return draw, advance


def _validation(
    config: DistillationConfig, problem: Objective
) -> Callable[[Any, Tensors | None], float]:
    """``(weights, visited inputs) -> error``, on the same made-up inputs each time."""
    check_key = jax.random.split(jax.random.key(config.seed), 3)[2]
    loss = jax.jit(problem.loss)

    def error(weights: Any, visited: Tensors | None) -> float:
        keys = jax.random.split(check_key, _VALIDATION)
        losses = [loss(weights, problem.sample(key, visited)) for key in keys]
        return float(jnp.sqrt(jnp.mean(jnp.stack(losses))))

    return error


def _rule(config: DistillationConfig, standing: Any, problem: Objective) -> Any:
    """The student as it is, as a rule to train agents by."""
    sizes = families.find(config.algorithm).make_sizes(config.architecture)
    weights = problem.deployed(standing[0])

    def rule(run: PPOConfig, environment: str) -> Rule:
        return rule_of(config.algorithm, sizes, weights, run, environment)

    return rule


def _gathered(
    config: DistillationConfig, rule: Any, round_: int, before: Tensors | None
) -> Tensors:
    """All inputs visited so far; those of rounds to come repeat the first's."""
    seen = visit(
        rule,
        config.runs(),
        steps=config.sequence,
        size=config.size,
        seed=config.seed + round_,
    )
    count = seen.gradient.shape[1]
    if before is None:
        before = jax.tree.map(
            lambda x: jnp.concatenate([x] * config.rounds, axis=1), seen
        )
    place = slice(round_ * count, (round_ + 1) * count)
    return jax.tree.map(lambda x, new: x.at[:, place].set(new), before, seen)


def _returns(config: DistillationConfig) -> Any:
    """``weights -> mean final return by environment`` (None if one diverged)."""
    tasks = tuple(Task(run, envs.make(name)) for name, run in config.runs().items())
    run = jax.jit(make_run(config.learned, tasks))
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)

    def returns(weights: Any) -> dict[str, float | None]:
        vector = ravel_pytree(weights)[0]
        found = np.mean([np.asarray(run(vector, key)) for key in keys], axis=0)
        means = map(jsonl.number, found.tolist())
        return dict(zip(config.environments, means, strict=True))

    return returns


def _normalised(
    returns: dict[str, float | None], config: DistillationConfig
) -> float | None:
    if None in returns.values():
        return None
    scales = config.normalisers()
    return float(np.mean([(returns[name] or 0.0) / scales[name] for name in scales]))


def best_row(rows: list[Row], select: str) -> Row:
    """The first row with the best return, or the least error in the last round.

    Args:
        rows: Of a log, at least one.
        select: ``"return"`` or ``"error"``.

    Returns:
        The row.

    Example:
        >>> rows = [{"round": i, "error": e} for i, e in ((1, 0.1), (2, 0.3), (2, 0.2))]
        >>> best_row(rows, "error")["error"]
        0.2
    """

    def worth(row: Row) -> float:
        value = row[select]
        return -math.inf if value is None else value if select == "return" else -value

    if select == "error":  # of other rounds it is about other inputs
        rows = [row for row in rows if row["round"] == rows[-1]["round"]]
    return max(rows, key=worth)


def _finite(weights: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(weights))
