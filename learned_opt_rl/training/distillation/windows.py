"""Fit a network on windows of whole runs, with the memory that it has there.

Teacher and student are unrolled over each recorded run. A step of truncated
backpropagation takes windows of K updates from anywhere in the runs, each from the
student's own carry at its start. Carries are computed again every ``refresh`` steps.

``runs/`` holds the recorded runs and ``state.npz`` the fit, which resumes bit for bit.
"""

import functools
import io
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.features import leaf_roles
from learned_opt_rl.rules import parts
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.teachers import (
    Teacher,
    network_features,
    unroll,
)
from learned_opt_rl.training.distillation.visited import recorded
from learned_opt_rl.training.learned import rule_of
from learned_opt_rl.training.run_folder import LOG


class Run(NamedTuple):
    """A run of an agent with L leaves, as W windows of K updates."""

    # float16 suffices for signs, logarithms and values of rms 1.
    features: np.ndarray  # float16 [W, L, K, features, n]
    target: np.ndarray  # float32 [W, L, K, outputs, n], of the teacher
    explored: np.ndarray  # bool [L], whether the leaf receives learned noise
    leaves: np.ndarray  # str [L], paths such as "actor/Dense_0/kernel"
    sizes: np.ndarray  # int64 [L], numbers of entries


def cut(weights: Any, steps: int, features: np.ndarray, **leaves: np.ndarray) -> Run:
    """Cut features ``[T, L, features, n]`` into windows of K = ``steps``.

    The weights of the teacher are unrolled over the whole run. Updates that do not fill
    a window at its end are left out.
    """
    count = len(features) // steps
    x = features[: count * steps].reshape(count, steps, *features.shape[1:])
    x = x.swapaxes(1, 2)
    return Run(x, np.asarray(unroll(weights, x)[0]), **leaves)


def gathered(
    config: DistillationConfig,
    teacher: Teacher,
    rule: Any,
    rounds: int,
    held_out: bool,
    folder: pathlib.Path,
    stream: TextIO,
) -> list[Run]:
    """Return the finite runs of all rounds so far, to train on or held out.

    Existing files are reused; missing files of the last round are recorded, from agents
    that ``rule`` trains. Raise ValueError if the weights of such an agent are gone, or
    if all agents diverged.
    """
    length = cast(int, config.horizon)  # only LPG leaves it to the environment
    lengths = config.horizons or (length,)
    seeds = range(1, config.seeds + 1)
    if held_out:
        lengths, seeds = (length,), range(1)
    found = []
    for place in itertools.product(range(rounds), config.environments, lengths, seeds):
        round_, name, length, seed = place
        stem = f"{round_ + 1}-{name.replace('/', '-')}-{length}-{seed}"
        path = folder / "runs" / f"{stem}.npz"
        if not path.exists():
            if rule is None or round_ < rounds - 1:
                raise ValueError(
                    f"{path} is missing, but the weights that recorded it have changed "
                    "since; restore it, or start again in another folder"
                )
            print(f"recording {stem}", file=stream)
            numbers = round_, config.environments.index(name), length, seed
            _record(config, rule, name, numbers, path)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if np.isfinite(arrays["features"]).all():
            found.append(cut(teacher.of(name).weights, config.sequence, **arrays))
    if not found:
        raise ValueError(
            f"inputs='runs': all agents in {', '.join(config.environments)} diverged; "
            "choose other inputs or environments"
        )
    return found


def _record(
    config: DistillationConfig,
    rule: Any,
    name: str,
    numbers: tuple[int, ...],
    path: pathlib.Path,
) -> None:
    rng = np.random.default_rng([config.seed, *numbers])
    run: Any = config.runs(numbers[2])[name]
    first, second = rng.integers(2**31), int(rng.integers(2**31))
    see = network_features(config.algorithm, config.architecture.get("carry"))

    def as_float16(*leaf: Any) -> jax.Array:
        return see(*leaf).astype(jnp.float16)

    options = {"steps": run.num_updates, "size": config.size, "seed": second}
    key = jax.random.key(first)
    kept, params = recorded(rule, run, name, key, as_float16, **options)
    roles = leaf_roles(params)
    stream = io.BytesIO()
    np.savez(
        stream,
        allow_pickle=False,
        features=np.asarray(kept[:-1]),
        explored=np.array([role.explored for role in roles]),
        leaves=np.array([role.path for role in roles]),
        sizes=np.array([leaf.size for leaf in jax.tree.leaves(params)]),
    )
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, stream.getvalue())


STATE = "state.npz"
REPORT = "report.jsonl"
"""A line per decile of the held-out runs, then one per leaf, for the best weights."""

# Share of the mean square of all updates that is added to a window's own: windows in
# which the teacher hardly moves must not dominate the relative loss.
_FLOOR = 0.1

# Weight of the difference between the student's updates with their mean and the
# teacher's without. A rule keeps the mean in groups without hidden layers, such as a
# lone log_std. There, the teacher's mean would move the parameters steadily; its
# training never penalized that mean.
_RAW = 0.25

Fit = Iterator[tuple[Record, Any]]
"""A row per validation, with the weights as the rule takes them."""


def moves(outputs: Any, explored: Any) -> jax.Array:
    """Return updates and noise scales ``[..., K, 2, n]`` of outputs ``[..., K, o, n]``.

    The noise scale is 0 where ``explored`` ``[...]`` is False, and for networks without
    noise.
    """
    update = parts.deterministic_update(jnp.moveaxis(outputs, -2, 0))
    noise = jnp.zeros_like(update)
    if outputs.shape[-2] > 2:
        noise = parts.SCALE * outputs[..., 2, :] * explored[..., None, None]
    return jnp.stack([update, noise], axis=-2)


@jax.jit
def moments(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Return the mean squares of each window's `moves`, ``[..., 4]``.

    They are those of the difference, the student's and the teacher's, and the product.
    Noise counts with its expected square.
    """
    pairs = [(a, a) for a in (student - teacher, student, teacher)]
    pairs.append((student, teacher))
    return jnp.stack([(a * b).sum(-2).mean((-2, -1)) for a, b in pairs], axis=-1)


@jax.jit
def effective(moved: jax.Array, sizes: jax.Array) -> jax.Array:
    """Return the `moves` ``[W, L, K, 2, n]`` of an agent without the mean update.

    The rule subtracts the mean over all leaves, whose numbers of entries are ``sizes``,
    ``[L]`` or ``[W, L]``.
    """
    share = sizes / sizes.sum(-1, keepdims=True) / moved.shape[-1]
    share = jnp.broadcast_to(share, moved.shape[:2])
    mean = jnp.einsum("wlkn,wl->wk", moved[..., 0, :], share)
    return moved.at[..., 0, :].add(-mean[:, None, :, None])


class Batch(NamedTuple):
    """W windows, each of all L leaves of an agent; see `Run`."""

    features: Any  # [W, L, K, features, n]
    carry: Any  # [W, L, units, n], the student's before the window
    target: Any  # [W, L, K, outputs, n]
    explored: Any  # [W, L]
    sizes: Any  # [W, L]


def loss(weights: Any, batch: Batch, floor: float | jax.Array) -> jax.Array:
    """Return the relative squared error of the updates that the rule applies.

    It is the sum of half the mean relative error per leaf and window, half the relative
    error of the batch, and a quarter of the batch's error before the student's mean is
    removed. ``floor`` is the mean square of the teacher's updates in all windows.
    """

    def merged(x: Any) -> Any:
        return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

    outputs = unroll(weights, merged(batch.features)[None], merged(batch.carry))[0][0]
    raw = moves(outputs.reshape(batch.target.shape), batch.explored)
    target = effective(moves(batch.target, batch.explored), batch.sizes)
    found = moments(effective(raw, batch.sizes), target)
    error, scale = found[..., 0], found[..., 2]
    total = jnp.maximum(scale.mean(), 1e-30)
    relative = (error / jnp.maximum(scale + _FLOOR * floor, 1e-30)).mean()
    drift = moments(raw, target)[..., 0].mean()
    return 0.5 * relative + (0.5 * error.mean() + _RAW * drift) / total


def measure(weights: Any, runs: list[Run]) -> Record:
    """Compare a student with the teacher over whole runs, also by decile and by leaf.

    Of the updates that the rule applies, without their mean, the result has ``error``
    (relative to the teacher's rms), ``cosine``, ``log_scale`` (natural logarithm of the
    ratio of the rms), ``student_step`` and ``teacher_step`` (rms, in units of the
    parameters). ``raw_error`` is the error before the student's mean is removed.
    ``loss``, the square of the error plus a quarter of the square of the raw error,
    decides which weights are best. Numbers that are not finite are None.
    """
    found = []
    for run in runs:
        both = unroll(weights, run.features)[0], run.target
        plain = [moves(x, run.explored[None]) for x in both]
        left = [effective(x, run.sizes) for x in plain]
        pairs = [moments(plain[0], left[1]), moments(*left)]
        sums = np.concatenate(pairs, axis=-1, dtype=np.float64)
        count, leaves, _ = sums.shape
        deciles = np.repeat(np.arange(count) * 10 // count + 1, leaves)
        found.append((np.concatenate(sums), deciles, np.tile(run.leaves, count)))
    sums, deciles, leaves = map(np.concatenate, zip(*found, strict=True))
    with np.errstate(all="ignore"):
        return _compared(sums) | {
            "deciles": _each("decile", deciles, sums),
            "leaves": _each("leaf", leaves, sums),
        }


def _each(name: str, places: np.ndarray, sums: np.ndarray) -> list[Record]:
    found = dict.fromkeys(places.tolist())
    return [{name: place, **_compared(sums[places == place])} for place in found]


def _compared(sums: np.ndarray) -> Record:
    raw, (error, student, teacher, product) = np.split(sums.mean(0), 2)
    values = {
        "error": np.sqrt(error / teacher),
        "cosine": product / np.sqrt(student * teacher),
        "log_scale": np.log(student / teacher) / 2,
        "raw_error": np.sqrt(raw[0] / raw[2]),
        "loss": error / teacher + _RAW * raw[0] / raw[2],
        "student_step": np.sqrt(student),
        "teacher_step": np.sqrt(teacher),
    }
    return {name: jsonl.number(value) for name, value in values.items()}


def resume(
    config: DistillationConfig, teacher: Teacher, folder: pathlib.Path, stream: TextIO
) -> tuple[list[Record], Fit]:
    """Return the log's rows up to the saved state, and the rest of the fit.

    Later rows are removed from the log; the fit yields them again.
    """
    key = jax.random.key(config.seed)
    weights = config.learned.unravel(config.learned.start(config.start, key))
    fresh = (weights, config.adam().init(weights)), 0, 0.0
    identity = {"config": config.as_json(), "teacher_sha256": teacher.sha256}
    identity["loss"] = "without mean"  # other states minimized another
    state = Checkpoint(folder / STATE, identity)
    found = state.load(fresh[0])
    rows = jsonl.read(folder / LOG)
    kept = [row for row in rows if found and row["step"] <= found[1]]
    jsonl.replace(folder / LOG, kept)
    return kept, _fit(config, teacher, state, found or fresh, stream)


def _fit(
    config: DistillationConfig,
    teacher: Teacher,
    state: Checkpoint,
    saved: tuple[Any, int, float],
    stream: TextIO,
) -> Fit:
    standing, done, seconds = saved
    advance, data = _advance(config), None
    bounds = [config.steps * i // config.rounds for i in range(config.rounds)]
    started = time.perf_counter() - seconds

    def row(round_: int, held_out: list[Run]) -> Record:
        nonlocal started
        found = measure(standing[0], held_out)
        seconds, started = time.perf_counter() - started, time.perf_counter()
        place = {"start": 1, "step": done, "round": round_}
        return place | found | {"seconds": round(seconds, 3)}

    while done < config.steps:
        round_ = sum(bound <= done for bound in bounds)
        if data is None or done in bounds:
            rule = teacher.rule if done == 0 else None
            if done in bounds[1:]:  # the runs of this round come from these weights
                state.save(standing, done=done, seconds=0.0)
                sizes = config.learned.architecture
                rule = functools.partial(rule_of, config.algorithm, sizes, standing[0])
            place = state.path.parent, stream
            given = config, teacher, rule, round_
            data = [gathered(*given, x, *place) for x in (False, True)]
            if done == 0:
                yield row(round_, data[1]), standing[0]
        later = (done // n * n + n for n in (config.refresh, config.every))
        end = min(*later, *bounds[round_:], config.steps)
        standing, done = advance(standing, data[0], range(done, end)), end
        if done % config.every == 0 or done in (*bounds, config.steps):
            yield row(round_, data[1]), standing[0]
        if state.due and done < config.steps:
            state.save(standing, done=done, seconds=time.perf_counter() - started)


def _advance(config: DistillationConfig) -> Callable[[Any, list[Run], range], Any]:
    """Return ``(standing, runs, steps) -> standing``; the steps have one batch each.

    Standing is the weights and Adam's state. A step's number determines its batch.
    """
    optimizer = config.adam()

    @jax.jit
    def update(standing: Any, batch: Batch, floor: jax.Array) -> Any:
        weights, state = standing
        updates, state = optimizer.update(jax.grad(loss)(weights, batch, floor), state)
        return optax.apply_updates(weights, updates), state

    def advance(standing: Any, runs: list[Run], steps: range) -> Any:
        whole = [_whole(standing[0], run) for run in runs]
        squares = [_squares(batch) for batch in whole]
        floor = jnp.concatenate(squares).mean()
        places = [(i, w) for i, x in enumerate(squares) for w in range(len(x))]
        # A batch is one array, so its agents must have equally many leaves.
        alike: dict[int, list[tuple[int, int]]] = {}
        for i, w in places:
            alike.setdefault(whole[i].sizes.shape[1], []).append((i, w))
        for step in steps:
            rng = np.random.default_rng([config.seed, step])
            leaves = whole[places[rng.integers(len(places))][0]].sizes.shape[1]
            fits, count = alike[leaves], max(1, config.tensors // leaves)
            some = [fits[j] for j in rng.integers(0, len(fits), count)]
            windows = [Batch(*(x[w] for x in whole[i])) for i, w in some]
            batch = jax.tree.map(lambda *x: np.stack(x), *windows)
            standing = update(standing, batch, floor)
        return standing

    return advance


def _whole(weights: Any, run: Run) -> Batch:
    """Return all windows of a run, with the student's carries."""
    count = len(run.features)
    carries = np.asarray(unroll(weights, run.features)[1])
    rest = (np.broadcast_to(x, (count, len(x))) for x in (run.explored, run.sizes))
    return Batch(run.features, carries, run.target, *rest)


def _squares(batch: Batch) -> jax.Array:
    """Return the mean square of the teacher's updates in each window, ``[W]``."""
    moved = effective(moves(batch.target, batch.explored), batch.sizes)
    return moments(moved, moved)[..., 2].mean(1)


def report(best: Record, folder: pathlib.Path, stream: TextIO) -> None:
    """Write deciles and leaves of a row of the log to `REPORT`, and print them."""
    rows = [*best["deciles"], *best["leaves"]]
    jsonl.replace(folder / REPORT, rows)
    for row in rows:
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
        words = (f"{k} {v}" for k, v in shown.items() if v is not None)
        print(*words, sep="  ", file=stream)
