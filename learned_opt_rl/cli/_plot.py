"""Pictures of what artifacts do."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from learned_opt_rl.artifacts.registry import Entry, find, load_entry
from learned_opt_rl.errors import ArtifactError


def add_command(commands: Any) -> None:
    """Adds ``plot``."""
    plot = commands.add_parser(
        "plot",
        help="draw what optimisers and drifts do (needs the extra eval)",
        description=(
            "Draws artifacts as PNGs and prints the files' names. An optimiser gets a "
            "picture of its own: the update over gradient and momentum, at three "
            "training proportions and three dormancies, with the nearest multiples of "
            "Adam, sign-momentum and SGD. Drifts share one, after PPO's: dL/dr over "
            "the ratio for A = +1 and -1, and drift and dL/dr over (log r, A)."
        ),
    )
    plot.add_argument("names", metavar="NAME", nargs="+", help="optimisers and drifts")
    plot.add_argument(
        "--out",
        metavar="FOLDER_OR_FILE",
        type=pathlib.Path,
        default=pathlib.Path("."),
        help="a folder, or a file ending in .png for a single picture; default: here",
    )
    plot.set_defaults(run=_plot, usage_error=plot.error)


def _plot(options: argparse.Namespace) -> int:
    pictures = _pictures([find(name) for name in dict.fromkeys(options.names)])
    paths = _picture_paths(options, list(pictures))
    # Only here: it brings jax along.
    from learned_opt_rl.evaluation.pictures.artifact import plot_artifacts

    for path, entries in zip(paths, pictures.values(), strict=True):
        shown = [load_entry(entry) for entry in entries]
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_artifacts(shown, path)
        print(path)
    return 0


def _pictures(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """What is drawn, by file name: each optimiser alone, all drifts together."""
    for entry in entries:
        if entry.card.kind == "update_rule":
            raise ArtifactError(
                f"artifact '{entry.card.name}' is an update rule: what it does depends "
                "on a whole rollout, and there is no picture of that; name optimisers "
                "and drifts"
            )
    drifts = [entry for entry in entries if entry.card.kind == "drift"]
    pictures = {_picture_name(e): [e] for e in entries if e.card.kind != "drift"}
    if drifts:
        name = _picture_name(drifts[0]) if len(drifts) == 1 else "drifts.png"
        pictures[name] = drifts
    return pictures


def _picture_name(entry: Entry) -> str:
    return entry.card.name.replace("/", "_") + ".png"


def _picture_paths(
    options: argparse.Namespace, names: Sequence[str]
) -> list[pathlib.Path]:
    if options.out.suffix.lower() != ".png":
        return [options.out / name for name in names]
    if len(names) > 1:
        options.usage_error(
            f"--out {options.out} is one file, but there are {len(names)} pictures "
            f"({', '.join(names)}); give a folder"
        )
    return [options.out]
