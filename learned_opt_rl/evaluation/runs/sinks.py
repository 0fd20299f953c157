"""Learning curves for TensorBoard and Weights & Biases.

A sink gets each run when its row is in ``rows.jsonl``, which remains the complete
record. A sink that raises is dropped with a warning, and the comparison continues. Rows
that are already in the folder are not sent. The other packages are extras.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from learned_opt_rl.checks import as_names, one_of
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.warn import warn_user

Sink = Callable[[Row], None]


def open_sinks(names: str | Sequence[str], folder: pathlib.Path) -> list[Sink]:
    """Return the sinks with these names, for the comparison in a folder.

    Raises:
        ValueError: A name is not one of `SINKS`, or wandb has no API key.
        MissingExtraError: The package of a sink is not installed.
    """
    made = []
    for name in dict.fromkeys(as_names(names)):
        one_of("sinks", name, SINKS)
        package, make = SINKS[name]
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"sinks={name!r} needs {package}: pip install 'learned-opt-rl[{name}]'"
            )
        made.append(_dropped_on_error(name, make(folder)))
    return made


def _dropped_on_error(name: str, sink: Sink) -> Sink:
    broken = False

    def call(row: Row) -> None:
        nonlocal broken
        if broken:
            return
        try:
            sink(row)
        except Exception as error:  # Code of other packages may raise anything.
            broken = True
            warn_user(
                f"the comparison continues without {name}, "
                f"{type(error).__name__}: {error}",
            )

    return call


def _tensorboard(folder: pathlib.Path) -> Sink:
    from tensorboardX import SummaryWriter

    def add(row: Row) -> None:
        place = folder / "tensorboard" / _name(row)
        with SummaryWriter(str(place)) as writer:
            for step, value in _points(row):
                # Index by environment steps; wall time would be the time of this copy.
                writer.add_scalar(f"return/{row.environment}", value, step)

    return add


def _wandb(folder: pathlib.Path) -> Sink:
    wandb = importlib.import_module("wandb")  # has no types where it is missing
    mode = os.environ.get("WANDB_MODE", "online")
    # Without a key, `wandb.init` would ask for one after the first run, and wait.
    if mode not in ("offline", "disabled") and not _has_key(wandb):
        raise ValueError(
            "sinks='wandb': needs an API key of Weights & Biases. Run `wandb login`, "
            "or set WANDB_API_KEY or WANDB_MODE=offline"
        )

    def add(row: Row) -> None:
        run = wandb.init(
            project=folder.resolve().name,
            group=f"{row.environment} {row.rule}",
            name=_name(row),
            # A repeated run replaces the first.
            id=hashlib.sha256(row.identity().encode()).hexdigest()[:32],
            dir=str(folder),
            config={**row.config, "rule": row.rule, "seed": row.seed},
            reinit="finish_previous",
        )
        for step, value in _points(row):
            run.log({"return": value}, step=step)
        run.summary["final_return"] = row.final_return
        run.summary["outcome"] = row.outcome
        run.finish()

    return add


def _has_key(wandb: Any) -> bool:
    if "prompt" in inspect.signature(wandb.login).parameters:
        return wandb.login(prompt=False)
    return bool(wandb.api.api_key)  # older versions


def _name(row: Row) -> str:
    """Return a name for a run, which is also a path."""
    parts = [row.environment, row.rule, *(f"{k}={v}" for k, v in row.variant.items())]
    if row.weights_sha256:
        parts.append(row.weights_sha256[:8])
    shown = "-".join(re.sub(r"[^\w.+=@-]+", "_", part) for part in parts)
    return f"{shown}-{row.agent}-{row.total_timesteps:.0f}-seed-{row.seed}"


def _points(row: Row) -> Iterator[tuple[int, float]]:
    every = row.steps_run / len(row.curve)
    for index, value in enumerate(row.curve):
        if value is not None:
            yield round(every * (index + 1)), value


SINKS: dict[str, tuple[str, Callable[[pathlib.Path], Sink]]] = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "wandb": ("wandb", _wandb),
}
"""The package and the maker of each sink by name."""
