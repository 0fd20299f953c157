"""Recorded runs: what a network sees of some entries of every leaf, at every update.

Round 1 records agents that the teacher trains, later rounds those that the student
trains. Each run is a file of the folder, so that a killed distillation keeps it.
"""

import io
import itertools
import pathlib
from typing import Any, NamedTuple, TextIO, cast

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import leaf_roles
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.training.distillation.config import DistillationConfig
from learned_opt_rl.training.distillation.teachers import (
    Teacher,
    network_features,
    unroll,
)
from learned_opt_rl.training.distillation.visited import recorded


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

    Files in the folder count; missing ones of the last round are written, from agents
    that ``rule`` trains. Raise ValueError if the weights
    of such an agent are gone, or if all agents diverged.
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
