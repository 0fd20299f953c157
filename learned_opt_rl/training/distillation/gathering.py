"""Recorded runs: what a network sees of some entries of every leaf, at every update.

Round 1 records agents that the teacher trains, later rounds those that the student
trains. Each run is a file of the folder, so that a killed distillation keeps it.
"""

import io
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import leaf_roles
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.teachers import network_features, unroll
from learned_opt_rl.training.distillation.visited import recorded


class Recording(NamedTuple):
    """A run of ``T`` updates of an agent with ``L`` leaves."""

    # float16 suffices for signs, logarithms and values of rms 1.
    features: np.ndarray  # float16 [T, L, features, n]
    explored: np.ndarray  # bool [L], whether the leaf receives learned noise
    leaves: np.ndarray  # str [L], paths such as "actor/Dense_0/kernel"
    sizes: np.ndarray  # int64 [L], numbers of entries


class Windows(NamedTuple):
    """Windows of K updates of single leaves, of several runs one after another."""

    features: np.ndarray  # float16 [N, K, features, n]
    target: np.ndarray  # float32 [N, K, outputs, n], of the teacher
    explored: np.ndarray  # float32 [N], 1 where the leaf receives learned noise
    decile: np.ndarray  # int64 [N], part of the run, from 1 to 10
    leaf: np.ndarray  # str [N]
    share: np.ndarray  # float32 [N], the leaf's share of the entries of its agent
    shapes: list[tuple[int, int]]  # windows and leaves of each run

    def runs(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the part ``[windows, leaves, ...]`` of each run in an array."""
        start = 0
        for shape in self.shapes:
            end = start + shape[0] * shape[1]
            yield array[start:end].reshape(*shape, *array.shape[1:])
            start = end


def gathered(
    config: DistillationConfig,
    rule: Any,
    rounds: int,
    held_out: bool,
    folder: pathlib.Path,
    stream: TextIO,
) -> list[Recording]:
    """Return the finite runs of all rounds so far, to train on or held out.

    Files in the folder count. Missing ones of the last round are written, from agents
    that ``rule`` trains.

    Raises:
        ValueError: A file is missing although the weights of its agent are gone, or all
            agents diverged.
    """
    lengths = config.horizons or (config.horizon,)
    seeds = range(1, config.seeds + 1)
    if held_out:
        lengths, seeds = (config.horizon,), range(1)
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
            run = Recording(**file)
        if np.isfinite(run.features).all():
            found.append(run)
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
    run, key = config.runs(numbers[2])[name], jax.random.key(rng.integers(2**31))
    see = network_features(config.algorithm, config.architecture.get("carry"))

    def as_float16(*leaf: Any) -> jax.Array:
        return see(*leaf).astype(jnp.float16)

    options = {"steps": run.num_updates, "size": config.size}
    options["seed"] = int(rng.integers(2**31))
    kept, params = recorded(rule, run, name, key, as_float16, **options)
    roles = leaf_roles(params)
    explored, paths = ([getattr(r, x) for r in roles] for x in ("explored", "path"))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    arrays = map(np.array, (kept[:-1], explored, paths, sizes))
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **Recording(*arrays)._asdict())
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, stream.getvalue())


def windows(runs: list[Recording], weights: Any, steps: int) -> Windows:
    """Cut runs into windows of K = ``steps``, labeled by a teacher's weights.

    The teacher is unrolled over the whole run. Updates that do not fill a window at the
    end of a run are left out.
    """
    pieces, shapes = [], []
    for run in runs:
        count, leaves = len(run.features) // steps, len(run.leaves)
        cut = run.features[: count * steps]
        cut = cut.reshape(count, steps, *cut.shape[1:]).swapaxes(1, 2)
        target = np.asarray(unroll(weights, cut)[0])
        decile = np.repeat(np.arange(count) * 10 // count + 1, leaves)
        explored = np.tile(run.explored.astype(np.float32), count)
        flat = (x.reshape(-1, *x.shape[2:]) for x in (cut, target))
        shares = np.tile(run.sizes / run.sizes.sum(), count).astype(np.float32)
        pieces.append((*flat, explored, decile, np.tile(run.leaves, count), shares))
        shapes.append((count, leaves))
    x, y, e, d, leaf, share = map(np.concatenate, zip(*pieces, strict=True))
    return Windows(x, y, e, d, leaf, share, shapes)
