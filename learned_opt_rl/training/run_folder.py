"""The folder of a run of ``learned-opt-rl train``.

``config.json`` holds the configuration, the versions and the digests, ``log.jsonl`` a
row per generation or validation, ``best.safetensors`` the best weights so far. A
distillation writes ``final.safetensors`` last, with the weights it ended with.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from learned_opt_rl.artifacts.weights import WeightTree, load_safetensors, read_limited
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record

CONFIG = "config.json"
LOG = "log.jsonl"
BEST = "best.safetensors"
FINAL = "final.safetensors"


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Read the ``config.json`` of a run; raise ValueError if there is none.

    ``kind`` says which command made it, for example ``"evolution"``. ``config`` is the
    run's own configuration.
    """
    use = "give a folder of `learned-opt-rl train`"
    try:
        made = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{folder} holds no run ({CONFIG} cannot be read: {reason}); {use}"
        ) from error
    whole = isinstance(made, dict) and isinstance(made.get("config"), dict)
    if not whole or "kind" not in made:
        raise ValueError(f"{folder / CONFIG} is not the configuration of a run; {use}")
    return made


def refuse_other(
    folder: pathlib.Path,
    kind: str,
    config: Mapping[str, Any],
    may_grow: str | None = None,
    **digests: str | None,
) -> None:
    """Raise ValueError if a folder holds a run of another kind or configuration.

    Args:
        folder: The folder, which need not exist.
        kind: The kind of this run.
        config: Its configuration.
        may_grow: The field of the configuration that may differ.
        **digests: Entries beside the configuration that must be equal.
    """
    if not (folder / CONFIG).exists():
        return
    there = read_config(folder)
    changed = [f"it is of kind {there['kind']}"]
    if there["kind"] == kind:
        before = there["config"] | {name: there.get(name) for name in digests}
        if may_grow:
            before[may_grow] = config[may_grow]
        changed = differences(before, {**config, **digests})
    if changed:
        raise ValueError(
            f"{folder} holds another run ({'; '.join(changed)}); give another folder, "
            "or repeat that run's command"
        )


def refuse_foreign(folder: pathlib.Path, names: Iterable[str]) -> None:
    """Raise ValueError if a folder without a configuration has one of the files."""
    there = [name for name in names if (folder / name).exists()]
    if there and not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} holds {', '.join(there)} of another run ({CONFIG} is missing); "
            "give another folder"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe how versions, revision, devices and block differ."""

    def known(made: Mapping[str, Any]) -> dict[str, Any]:
        names = ("revision", "device", "devices", "block")
        places = {name: made[name] for name in names if name in made}
        return {**made.get("versions", {}), **places}

    old, new = known(before), known(now)
    shared = [name for name in new if name in old]
    return differences({n: old[n] for n in shared}, {n: new[n] for n in shared})


def claim(
    folder: pathlib.Path, made: Mapping[str, Any], word: str, kept: str = ""
) -> None:
    """Write ``config.json``, with a warning if last digits will differ.

    Args:
        folder: The folder of a new run, or of one that resumes.
        made: The content. A run that resumes may leave ``start_sha256`` out: the
            artifact or the file it started from may have changed or be gone.
        word: What the warning calls the run.
        kept: The end of the warning, about former files.
    """
    before = read_config(folder) if (folder / CONFIG).exists() else {}
    changed = changes(before, made)
    if changed:
        warnings.warn(
            f"the {word} resumes with {', '.join(changed)}: its last digits may differ "
            f"from those of an uninterrupted {word}{kept}",
            stacklevel=4,
        )
    made = {"start_sha256": before.get("start_sha256"), **made}
    write_atomically(folder / CONFIG, f"{json.dumps(made, indent=2)}\n".encode())


def require_fields(
    folder: pathlib.Path, config: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Raise ValueError for a configuration that lacks one of the names."""
    missing = sorted(set(names) - config.keys())
    if missing:
        raise ValueError(
            f"{folder / CONFIG} lacks {', '.join(missing)}; give the folder of a run "
            "that trained a learned rule"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedRun:
    """The best weights of a run, and their origin."""

    folder: pathlib.Path
    made: Mapping[str, Any]  # see `read_config`
    log: list[Record]
    content: bytes  # of best.safetensors
    sha256: str  # of the content
    weights: WeightTree  # in it, a nested dict of float32 arrays

    @property
    def evolved(self) -> bool:
        """Whether evolution made the weights."""
        return self.made["kind"] == "evolution"

    @property
    def fields(self) -> Mapping[str, Any]:
        """The run's own configuration."""
        return self.made["config"]

    @property
    def algorithm(self) -> str:
        """Name of the family, as on a card."""
        return self.fields["algorithm"]

    @property
    def architecture(self) -> Mapping[str, Any]:
        """The architecture as the run's configuration has it."""
        return self.fields["architecture"]

    @property
    def environments(self) -> tuple[str, ...]:
        """Where agents were trained; empty for synthetic inputs."""
        return tuple(self.fields.get("environments") or ())

    @functools.cached_property
    def best(self) -> Record | None:
        """The row of the validation that chose ``weights``, if a campaign has one."""
        rows = [row for row in self.log if row.get("validation") is not None]
        # Validations at different horizons are not comparable: the last horizon counts.
        last: list[Record] = []
        for _, group in itertools.groupby(rows, self._length):
            last = list(group)
        return max(last, key=lambda row: row["validation"], default=None)

    @property
    def horizon(self) -> int | None:
        """Length of the runs in which ``weights`` were best, in ``horizon_unit``."""
        return self._length(self.best or {})

    def _length(self, row: Record) -> int | None:
        # The row before the first generation has no horizon: the first one applies.
        first = self.fields["horizons"][0][1] if self.evolved else None
        return row.get("horizon", first)


def read_run(folder: pathlib.Path) -> TrainedRun:
    """Read the best weights of a run, which may be a campaign that still runs.

    Raise ValueError if the folder holds no run or an unfinished distillation, and
    WeightsError if the best weights are missing or damaged.
    """
    made = read_config(folder)
    require_fields(folder, made["config"], {"algorithm", "architecture"})
    # A distillation that was killed starts over, which replaces its weights.
    if made["kind"] == "distillation" and not (folder / FINAL).exists():
        raise ValueError(
            f"{folder} holds a distillation that did not finish; repeat its `train "
            "distill` command first"
        )
    path = folder / BEST
    content = read_limited(path, "a run writes it with its first validation")
    digest = hashlib.sha256(content).hexdigest()
    weights, log = load_safetensors(path, digest), jsonl.read(folder / LOG)
    return TrainedRun(folder, made, log, content, digest, weights)
