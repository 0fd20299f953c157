"""What a run left in its folder, as far as a card has to know it."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from learned_opt_rl.artifacts.weights import (
    WeightTree,
    load_safetensors,
    read_limited,
)
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation.folder import require_finished
from learned_opt_rl.training.evolution.folder import BEST, CONFIG, LOG

_EVOLUTION = {"environments", "horizons", "start", "population", "rollouts", "sigma"}
_EVOLUTION |= {"learning_rate", "normaliser", "validation_seeds"}


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """The best weights of a campaign or of a distillation, and where they come from.

    Attributes:
        folder: The run's.
        made: Its ``config.json``, with the provenance.
        log: Its rows, in order.
        content: Of its ``best.safetensors``.
        weights: The same as a nested dict of float32 arrays.
    """

    folder: pathlib.Path
    made: Mapping[str, Any]
    log: list[jsonl.Row]
    content: bytes
    weights: WeightTree

    @property
    def evolved(self) -> bool:
        """Whether by evolution; else by distillation."""
        return self.made.get("kind") != "distillation"

    @property
    def fields(self) -> Mapping[str, Any]:
        """The run's own configuration."""
        return self.made["config"]

    @property
    def algorithm(self) -> str:
        """Its name, as in a card."""
        return self.fields["algorithm"]

    @property
    def sizes(self) -> Mapping[str, Any]:
        """The architecture as the run has it."""
        return self.fields["architecture"]

    @property
    def environments(self) -> tuple[str, ...]:
        """Where agents were trained; none for a distillation from synthetic data."""
        return tuple(self.fields.get("environments") or ())

    @functools.cached_property
    def best(self) -> jsonl.Row | None:
        """The row of the validation that `weights` were kept at, if there was one."""
        best: jsonl.Row | None = None
        for row in self.log:
            value = row.get("validation")
            if value is None:
                continue
            # With another horizon all begins anew.
            if (
                best is None
                or self._steps(row) != self._steps(best)
                or value > best["validation"]
            ):
                best = row
        return best

    @property
    def horizon(self) -> int | None:
        """Environment steps of the runs that `weights` were kept for."""
        return self._steps(self.best or {})

    def _steps(self, row: jsonl.Row) -> int | None:
        """Before the first generation a row has none: it is the first one's."""
        first = (self.fields.get("horizons") or [[0, None]])[0][1]
        return row.get("horizon", first)


def read(folder: pathlib.Path) -> Candidate:
    """Reads a run.

    Args:
        folder: Of ``train es``, which may still be running, or ``train distill``.

    Returns:
        What it holds now.

    Raises:
        ValueError: It is no such folder, its files cannot be read, or it is of a
            distillation that was not finished.
        WeightsError: Its best weights are missing or damaged.

    Example:
        >>> read(pathlib.Path("no/such/run"))
        Traceback (most recent call last):
        ...
        ValueError: no/such/run holds no run (config.json cannot be read: No such file
        or directory); name a folder of `learned-opt-rl train`
    """
    made = _made(folder)
    needed = {"algorithm", "architecture"}
    needed |= _EVOLUTION if made.get("kind") != "distillation" else set()
    missing = needed - made["config"].keys()
    if missing:
        raise ValueError(
            f"{folder / CONFIG} has no {', '.join(sorted(missing))} in its config; it "
            "is no run of a learned rule"
        )
    if made.get("kind") == "distillation":
        require_finished(folder)
    path = folder / BEST
    content = read_limited(path, "a run writes it with its first validation")
    weights = load_safetensors(path, hashlib.sha256(content).hexdigest())
    return Candidate(folder, made, jsonl.read(folder / LOG), content, weights)


def _made(folder: pathlib.Path) -> dict[str, Any]:
    use = "name a folder of `learned-opt-rl train`"
    try:
        made = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{folder} holds no run ({CONFIG} cannot be read: {reason}); {use}"
        ) from error
    if not isinstance(made, dict) or not isinstance(made.get("config"), dict):
        raise ValueError(f"{folder / CONFIG} is no configuration of a run; {use}")
    return made
