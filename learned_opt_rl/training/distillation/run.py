"""Distill a teacher into a network: fit, validate, select and keep the best weights.

The folder holds ``config.json`` (configuration, versions, digest of the teacher),
``log.jsonl`` (a row per validation), ``best.safetensors`` and, once the run is over,
``final.safetensors`` (the last finite weights). `windows` adds files of its own.
"""

import functools
import math
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from learned_opt_rl import envs
from learned_opt_rl.agents.rollouts import all_finite
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import set_aside
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training import run_folder
from learned_opt_rl.training.distillation import windows
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.objective import Objective, objective
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.evolution.fitness import make_run, tasks
from learned_opt_rl.training.learned import rule_of, start_digest
from learned_opt_rl.training.run_folder import BEST, CONFIG, FINAL, LOG

_KIND = "distillation"
_VALIDATION = 8  # batches: enough to rank two validations, a second on one core


def distill(
    config: DistillationConfig,
    teacher: Teacher,
    folder: pathlib.Path,
    stream: TextIO | None = None,
) -> Record:
    """Train a network to imitate a teacher; return the log's row of the best weights.

    A finished distillation in the folder is not repeated. One that was killed starts
    over, because it takes minutes; one with ``inputs="runs"`` resumes.

    Args:
        config: The configuration, from `configure`, as is the teacher.
        teacher: The rule to imitate.
        folder: The folder of the run.
        stream: Receives a line per validation, by default on standard error, and the
            report about held-out runs, by default on standard output.

    Raises:
        ValueError: The folder holds another run; or no weights were finite; or no
            agent had a return although ``select="return"``.
        FolderInUseError: Another process uses the folder.
        MissingExtraError: The package of an environment is not installed.
        OSError: The folder cannot be written.

    Example:
        >>> import io, tempfile
        >>> from learned_opt_rl.training.distillation import configure
        >>> small = {"steps": 2, "every": 1, "tensors": 2, "size": 4}
        >>> config, teacher = configure(teacher="random:0", student="open:4", **small)
        >>> with tempfile.TemporaryDirectory() as name:
        ...     run = pathlib.Path(name) / "run"
        ...     best = distill(config, teacher, run, io.StringIO())
        >>> sorted(best)
        ['error', 'round', 'seconds', 'start', 'step']
    """
    for name in config.environments:
        envs.make(name)
    if config.inputs == "runs":
        config.learned.start(config.start, jax.random.key(0))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        rows = _claim(config, teacher, folder)
        if not rows:
            rows = _train(config, teacher, folder, stream)
    return best_row(rows, config.select)


def _claim(
    config: DistillationConfig, teacher: Teacher, folder: pathlib.Path
) -> list[Record]:
    """Make the folder this run's; return its rows if it is finished."""
    digests = {
        "teacher_sha256": teacher.sha256,
        "start_sha256": start_digest(config.start),
    }
    made = {"kind": _KIND, "config": config.as_json(), **digests, **provenance()}
    run_folder.refuse_foreign(folder, (LOG, BEST, FINAL, windows.STATE, windows.REPORT))
    run_folder.refuse_other(folder, _KIND, made["config"], **digests)
    if (folder / FINAL).exists():
        return jsonl.read(folder / LOG)
    if config.inputs != "runs":  # those resume
        _clear(folder, made)
    run_folder.claim(folder, made, _KIND)
    return []


def _clear(folder: pathlib.Path, made: Record) -> None:
    """Remove the files of a killed distillation, or keep those of other versions."""
    unfinished = [folder / name for name in (LOG, BEST) if (folder / name).exists()]
    unfinished.append(folder / CONFIG)
    changed = []
    if len(unfinished) > 1:
        changed = run_folder.changes(run_folder.read_config(folder), made)
    if changed:
        kept = [set_aside(path).name for path in unfinished]
        warnings.warn(
            f"{folder} holds an unfinished distillation, which starts over with "
            f"{', '.join(changed)}; its files are kept as {', '.join(kept)}",
            stacklevel=4,
        )
    for path in unfinished:
        path.unlink(missing_ok=True)


def _train(
    config: DistillationConfig,
    teacher: Teacher,
    folder: pathlib.Path,
    stream: TextIO | None,
) -> list[Record]:
    results, stream = output(stream or sys.stdout), output(stream)
    rows: list[Record] = []
    if config.inputs == "runs":
        rows, fit = windows.resume(config, teacher, folder, stream)
    else:
        fit = _fit(config, teacher, objective(config, teacher))
    returns = _returns(config)
    last: Any = None
    for row, weights in fit:
        if config.select == "return":
            found = returns(weights)
            row["return"], row["returns"] = _normalized(found, config), found
        rows.append(row)
        if all_finite(weights):
            last = weights
            if best_row(rows, config.select) is row:
                save_safetensors(folder / BEST, weights)
        jsonl.append(folder / LOG, [row])
        _report(row, config, stream)
    if config.select == "return" and all(row["return"] is None for row in rows):
        raise ValueError(
            f"select='return', but with horizon={config.horizon} no agent had a return "
            "in every environment: no episode ended, or all diverged; raise horizon, "
            "or give select='error'"
        )
    if last is None or not (folder / BEST).exists():
        raise ValueError(
            f"no weights distilled from {config.teacher!r} are finite; lower "
            f"learning_rate={config.learning_rate:g}"
        )
    if config.inputs == "runs":
        windows.report(best_row(rows, config.select), folder, results)
    save_safetensors(folder / FINAL, last)
    return rows


def _report(row: Record, config: DistillationConfig, stream: TextIO) -> None:
    values = (f"{n} {row[n]:.4g}" for n in ("error", "return") if row.get(n))
    place = f"step {row['step']}/{config.steps}"
    if config.starts > 1:
        place = f"start {row['start']}/{config.starts}  {place}"
    print(place, *values, sep="  ", file=stream)


def _fit(
    config: DistillationConfig, teacher: Teacher, problem: Objective
) -> Iterator[tuple[Record, Any]]:
    """Yield a row per validation, with the weights as the rule takes them."""
    init, advance = _steps(config, problem)
    error = _validation(config, problem)
    bounds = [config.steps * i // config.rounds for i in range(1, config.rounds)]
    first: Any = None  # visited under the teacher: the same for every start
    for start in range(config.starts):
        root = jax.random.key(config.seed)
        # The first start keeps the key itself: a run with one start has its numbers.
        root = jax.random.fold_in(root, start) if start else root
        init_key, key, _ = jax.random.split(root, 3)
        standing, visited, done = init(init_key), first, 0
        while done < config.steps:
            started = time.perf_counter()
            round_ = sum(bound <= done for bound in bounds)
            if config.inputs == "visited" and (visited is None or done in bounds):
                rule = teacher.rule
                if round_:
                    weights = problem.deployed(standing[0])
                    sizes = config.learned.architecture
                    rule = functools.partial(rule_of, config.algorithm, sizes, weights)
                visited = _gathered(config, problem, rule, round_, visited)
                first = visited if first is None else first
            end = min(done + config.every, *bounds[round_:], config.steps)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(done, end))
            standing, done = advance(standing, keys, visited), end
            row = {
                "start": start + 1,
                "step": done,
                "round": round_ + 1,
                **error(standing[0], visited),
                "seconds": round(time.perf_counter() - started, 3),
            }
            yield row, problem.deployed(standing[0])


def _steps(
    config: DistillationConfig, problem: Objective
) -> tuple[Callable[[jax.Array], Any], Callable[[Any, jax.Array, Any], Any]]:
    """Return ``key -> (weights, Adam's state)``, and a step per key on both."""
    optimizer = config.adam()

    @jax.jit
    def advance(standing: Any, keys: jax.Array, visited: Any) -> Any:
        def step(standing: Any, key: jax.Array) -> tuple[Any, None]:
            weights, state = standing
            inputs = problem.sample(key, visited)
            grads = jax.grad(problem.loss)(weights, inputs)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(weights, updates), state), None

        return jax.lax.scan(step, standing, keys)[0]

    def init(key: jax.Array) -> Any:
        weights = problem.init(key)
        return weights, optimizer.init(weights)

    return init, advance


def _validation(
    config: DistillationConfig, problem: Objective
) -> Callable[[Any, Any], Record]:
    """Return ``(weights, visited inputs) -> errors``, always on the same inputs.

    ``error`` is the root of the loss. Of a loss with several parts, their means have
    names of their own.
    """
    check_key = jax.random.split(jax.random.key(config.seed), 3)[2]
    sample, measured = problem.check or problem.sample, jax.jit(problem.measured)

    def errors(weights: Any, visited: Any) -> Record:
        keys = jax.random.split(check_key, _VALIDATION)
        found = [measured(weights, sample(key, visited)) for key in keys]
        means = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *found)
        total = jnp.stack([problem.weights[name] * x for name, x in means.items()])
        row = {"error": jsonl.number(float(jnp.sqrt(jnp.sum(total))))}
        if len(means) > 1:
            row |= {f"{name}_loss": jsonl.number(x) for name, x in means.items()}
        return row

    return errors


def _gathered(
    config: DistillationConfig,
    problem: Objective,
    rule: Any,
    round_: int,
    before: Any,
) -> Any:
    """Return all inputs visited so far.

    Rounds to come hold a copy of the first, so that every round has the same shapes and
    nothing is compiled again.
    """
    assert problem.visit is not None
    seen, axis = problem.visit(rule, round_), problem.axis
    count = jax.tree.leaves(seen)[0].shape[axis]
    if before is None:
        copies = config.rounds
        before = jax.tree.map(lambda x: jnp.concatenate([x] * copies, axis), seen)
    place = (slice(None),) * axis + (slice(round_ * count, (round_ + 1) * count),)
    return jax.tree.map(lambda x, new: x.at[place].set(new), before, seen)


def _returns(config: DistillationConfig) -> Any:
    """Return ``weights -> {environment: mean final return}``, None if one diverged."""
    run = jax.jit(make_run(config.learned, tasks(config.runs())))
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)

    def returns(weights: Any) -> dict[str, float | None]:
        vector = ravel_pytree(weights)[0]
        found = np.mean([np.asarray(run(vector, key)) for key in keys], axis=0)
        return dict(zip(config.environments, jsonl.numbers(found), strict=True))

    return returns


def _normalized(
    returns: dict[str, float | None], config: DistillationConfig
) -> float | None:
    if None in returns.values():
        return None
    divisors = config.normalizers()
    return float(np.mean([(x or 0.0) / divisors[name] for name, x in returns.items()]))


def best_row(rows: Sequence[Record], select: str) -> Record:
    """Return the first row with the highest ``"return"``, or the smallest ``"error"``.

    Errors count in the last round only, because each round has other inputs. In whole
    runs, ``"loss"`` counts instead, which has the mean update in it.

    Example:
        >>> rows = [{"round": i, "error": e} for i, e in ((1, 0.1), (2, 0.3), (2, 0.2))]
        >>> best_row(rows, "error")["error"]
        0.2
    """

    def worth(row: Record) -> float:
        value = row.get("loss", row[select]) if select == "error" else row[select]
        return -math.inf if value is None else value if select == "return" else -value

    if select == "error":
        rows = [row for row in rows if row["round"] == rows[-1]["round"]]
    return max(rows, key=worth)
