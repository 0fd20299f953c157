"""The folder of a campaign: configuration, log, best weights and state.

Two state files alternate. Whatever happens to the newer one, the other is whole, and
one generation older.
"""

import pathlib
import warnings
from typing import NamedTuple

import jax

from learned_opt_rl._version import __version__
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import remove_unfinished, set_aside
from learned_opt_rl.rundir.checkpoint import Checkpoint, RefusedError, differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training import run_folder
from learned_opt_rl.training.evolution.config import EvolutionConfig
from learned_opt_rl.training.evolution.strategy import State
from learned_opt_rl.training.learned import start_digest
from learned_opt_rl.training.run_folder import BEST, CONFIG, LOG, changes, read_config

STATES = ("state-0.npz", "state-1.npz")
_UPDATE_RULES = 1  # revision of their states; 0 had another fitness of agents


class Standing(NamedTuple):
    """The state of a campaign; arrays only."""

    search: State
    best_mean: jax.Array  # float32 [n], the mean with the best validation
    best_validation: jax.Array  # float32 scalar; -inf before the first
    best_generation: jax.Array  # int32 scalar
    best_horizon: jax.Array  # int32 scalar; the next horizon starts without a best mean


def read_campaign(folder: pathlib.Path) -> EvolutionConfig:
    """Return the configuration of the campaign in a folder, or raise ValueError."""
    if not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} holds no campaign ({CONFIG} is missing); start one with "
            f"`learned-opt-rl train es --preset NAME --out {folder}`"
        )
    made = read_config(folder)
    if made["kind"] != "evolution":
        raise ValueError(
            f"{folder} holds a run of kind {made['kind']}, not a campaign; repeat its "
            "own command instead"
        )
    try:
        return EvolutionConfig.from_json(made["config"])
    except ValueError as error:
        version = made.get("versions", {}).get("learned_opt_rl", "of unknown version")
        raise ValueError(
            f"{folder} was written by learned_opt_rl {version} and cannot be resumed "
            f"by {__version__}: {error}; install that version, or start again in "
            "another folder"
        ) from error


def check_same(folder: pathlib.Path, config: EvolutionConfig) -> None:
    """Raise ValueError if a folder, which need not exist, holds another campaign."""
    there = read_campaign(folder) if (folder / CONFIG).exists() else config
    before, now = (one.as_json() | {"generations": None} for one in (there, config))
    if changed := differences(before, now):
        raise ValueError(
            f"{folder} holds a campaign with other settings "
            f"({'; '.join(changed)}); give another folder, or resume that one with "
            f"`learned-opt-rl train resume {folder}`"
        )


class Folder:
    """The folder of a campaign; hold it with `rundir.lock.locked`.

    Raise ValueError if it holds another campaign, or files of something else.
    """

    def __init__(self, path: pathlib.Path, config: EvolutionConfig) -> None:
        self.path, self._config = path, config
        identity = config.as_json()
        del identity["generations"]
        self._newest: pathlib.Path | None = None
        revision = _UPDATE_RULES if config.learned.is_update_rule else 0
        self._states = [
            Checkpoint(path / name, identity, revision=revision) for name in STATES
        ]
        remove_unfinished(path)
        run_folder.refuse_foreign(path, (LOG, BEST, *STATES))
        check_same(path, config)

    def claim(self, fresh: bool, block: int) -> None:
        """Write the configuration, with a warning if last digits will differ.

        ``fresh`` campaigns start now, without a state. Before other versions resume a
        campaign, the configuration and the newest state are copied.
        """
        made = {"kind": "evolution", "config": self._config.as_json(), "block": block}
        made |= provenance("evosax", "brax")
        if fresh:
            made["start_sha256"] = start_digest(self._config.start)
        kept = ""
        if self._newest and read_config(self.path).get("versions") != made["versions"]:
            former = (self.path / CONFIG, self._newest)
            copies = [set_aside(path, copy=True) for path in former]
            kept = f". The former files are kept as {_names(copies)}"
        run_folder.claim(self.path, made, "campaign", kept)

    def load(self, template: Standing) -> Standing | None:
        """Return the newest whole state, if any, and remove later rows from the log.

        ``template`` has the shapes of a state. Raise ValueError if no state can be
        read, or if the log has generations but there is no state.
        """
        found: dict[int, Standing] = {}
        refused: dict[pathlib.Path, RefusedError] = {}
        for state in self._states:
            try:
                if state.path.exists():
                    standing, done, _ = state.read(template)
                    found[done] = standing
                    self._newest = state.path if done == max(found) else self._newest
            except RefusedError as error:
                refused[state.path] = error
        reasons = "; ".join(f"{path}: {error}" for path, error in refused.items())
        if refused and not found:
            changed = changes(read_config(self.path), provenance("evosax", "brax"))
            since = f". Since then: {', '.join(changed)}" if changed else ""
            raise ValueError(
                f"no state can be read ({reasons}); restore one of these files, or "
                f"start again in another folder{since}"
            )
        rows = jsonl.read(self.path / LOG)
        if not found and any(row["generation"] for row in rows):
            raise ValueError(
                f"{self.path / LOG} has generations, but {' and '.join(STATES)} are "
                "missing; restore one of these files, or start again in another folder"
            )
        done = max(found, default=-1)  # the later rows will be written again
        if refused:
            kept = _names([set_aside(path) for path in refused])
            warnings.warn(
                f"{reasons}. Resuming from the state before it, after {done} "
                f"generations; the file is kept as {kept}",
                stacklevel=2,
            )
        whole = [row for row in rows if row["generation"] <= done]
        if len(whole) < len(rows):
            jsonl.replace(self.path / LOG, whole)
        return found.get(done)

    def save(self, standing: Standing, rows: list[Record]) -> None:
        """Append rows to the log; then write the state into the older one's file."""
        jsonl.append(self.path / LOG, rows)
        done = int(standing.search.generation)
        if int(standing.best_generation) == done:
            weights = self._config.learned.unravel(standing.best_mean)
            save_safetensors(self.path / BEST, weights)
        self._states[done % 2].save(standing, done=done, seconds=0.0)


def _names(paths: list[pathlib.Path]) -> str:
    return " and ".join(path.name for path in paths)
