"""A campaign on disk: what it is, where it stands, and what came out so far.

``config.json``, ``log.jsonl`` (a row per generation), ``best.safetensors`` (the mean
that did best in validation) and the state in two files that take turns: whatever
happens to the newer one, the other is whole, and one generation older.
"""

import json
import pathlib
import warnings
from typing import Any, NamedTuple

import jax

from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import Checkpoint, RefusedError
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.evolution.config import EvolutionConfig, differences
from learned_opt_rl.training.evolution.learned import start_digest
from learned_opt_rl.training.evolution.strategy import State

CONFIG = "config.json"
LOG = "log.jsonl"
BEST = "best.safetensors"
STATES = ("state-0.npz", "state-1.npz")


class Standing(NamedTuple):
    """Where a campaign stands; arrays only.

    Attributes:
        search: The strategy's state.
        best_mean: float32 ``[n]``, the mean that did best in validation.
        best_validation: float32 scalar, how well; -inf before the first.
        best_generation: int32 scalar, after how many generations.
        best_horizon: int32 scalar, at which horizon: with a longer one all begins anew.
    """

    search: State
    best_mean: jax.Array
    best_validation: jax.Array
    best_generation: jax.Array
    best_horizon: jax.Array


class CampaignChangedError(ValueError):
    """A folder holds another campaign; the message says what differs."""


def read_config(folder: pathlib.Path) -> EvolutionConfig:
    """The configuration of the campaign in a folder.

    Args:
        folder: Made by a campaign.

    Returns:
        The configuration.

    Raises:
        ValueError: There is none, or it cannot be read.
    """
    path = folder / CONFIG
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        fields = made["config"]
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no campaign ({CONFIG} is missing); start one with "
            f"`learned-opt-rl train es --preset NAME --out {folder}`"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no configuration of a campaign: {error}") from None
    if made.get("kind") == "distillation":
        raise ValueError(
            f"{folder} holds a distillation, not a campaign; that goes on, or starts "
            "anew, with the `learned-opt-rl train distill` that made it"
        )
    return EvolutionConfig.from_json(fields)


def check_same(folder: pathlib.Path, config: EvolutionConfig) -> None:
    """Checks that a folder holds no other campaign.

    Args:
        folder: It need not exist.
        config: The campaign.

    Raises:
        CampaignChangedError: It holds another one.
    """
    there = (folder / CONFIG).exists()
    changed = differences(read_config(folder), config) if there else []
    if changed:
        raise CampaignChangedError(
            f"{folder} holds a campaign with other settings "
            f"({'; '.join(changed)}); give another folder, or go on with the one "
            f"that is there: `learned-opt-rl train resume {folder}`"
        )


class Folder:
    """The folder of a campaign, which must be held by `evaluation._lock.locked`."""

    def __init__(self, path: pathlib.Path, config: EvolutionConfig) -> None:
        """Checks that the folder holds no other campaign.

        Args:
            path: The folder; it must exist.
            config: The campaign.

        Raises:
            CampaignChangedError: It holds another one.
        """
        self.path, self._config = path, config
        identity = config.as_json()
        del identity["generations"]
        self._states = [Checkpoint(path / name, identity) for name in STATES]
        for name in (CONFIG, LOG, BEST, *STATES):
            for unfinished in path.glob(f".{name}.*"):
                unfinished.unlink()
        check_same(path, config)

    def claim(self, fresh: bool, block: int) -> None:
        """Makes the folder this campaign's; warns if last digits will differ.

        Args:
            fresh: Whether it has no state yet, so that it starts now.
            block: Runs that a device trains side by side.
        """
        made = {"config": self._config.as_json(), "block": block}
        made |= provenance("evosax", "brax")
        path = self.path / CONFIG
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            _warn_of_changes(before, made)
            # What it was started from may be another by now, or not be here.
            made["start_sha256"] = before.get("start_sha256")
        if fresh:
            made["start_sha256"] = start_digest(self._config.start)
        write_atomically(path, f"{json.dumps(made, indent=2)}\n".encode())

    def load(self, template: Standing) -> Standing | None:
        """The newest state that is whole; rows of the log after it are removed.

        Args:
            template: The shapes of a state.

        Returns:
            The state, or None if there is none yet.

        Raises:
            ValueError: There are files, and none of them can be read; or the log has
                generations, and there are no files.
        """
        found: dict[int, Standing] = {}
        refused = []
        for state in self._states:
            try:
                if state.path.exists():
                    standing, done, _ = state.read(template)
                    found[done] = standing
            except RefusedError as error:
                refused.append(f"{state.path}: {error}")
        if refused and not found:
            raise ValueError(
                f"no state can be read ({'; '.join(refused)}); restore one of these "
                "files, or start anew in another folder"
            )
        if not found and any(row["generation"] for row in jsonl.read(self.path / LOG)):
            raise ValueError(
                f"{self.path / LOG} has generations, but {' and '.join(STATES)} are "
                "missing; restore one of these files, or start anew in another folder"
            )
        done = max(found, default=-1)
        if refused:
            warnings.warn(
                f"{'; '.join(refused)}. Going on from the state before, after "
                f"{done} generations",
                stacklevel=2,
            )
        self._cut_log(done)
        return found.get(done)

    def save(self, standing: Standing, rows: list[jsonl.Row]) -> None:
        """Keeps a state, and adds its rows to the log; the state before stays.

        Args:
            standing: After a generation.
            rows: What to log of it.
        """
        jsonl.append(self.path / LOG, rows)
        done = int(standing.search.generation)
        if int(standing.best_generation) == done:
            weights = self._config.learned.unravel(standing.best_mean)
            save_safetensors(self.path / BEST, weights)
        self._states[done % 2].save(standing, done=done, seconds=0.0)

    def _cut_log(self, done: int) -> None:
        """Removes rows of generations that are going to be run again."""
        path = self.path / LOG
        rows = jsonl.read(path)
        kept = [row for row in rows if row["generation"] <= done]
        if len(kept) < len(rows):
            lines = "".join(json.dumps(row) + "\n" for row in kept)
            write_atomically(path, lines.encode())


def _warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [
        f"{name} {before['versions'].get(name)} -> {version}"
        for name, version in now["versions"].items()
        if name in before["versions"] and before["versions"][name] != version
    ]
    for name in ("revision", "device", "block"):
        if name in before and before[name] != now[name]:
            changed.append(f"{name} {before[name]} -> {now[name]}")
    if changed:
        warnings.warn(
            f"the campaign goes on with {', '.join(changed)}: not to the last digit as "
            "it would have",
            stacklevel=3,
        )
