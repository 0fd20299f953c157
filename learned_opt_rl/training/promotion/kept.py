"""Campaigns kept beside the cards of their artifacts, so that anyone can go on."""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

from learned_opt_rl.artifacts import registry
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import RefusedError, read_whole
from learned_opt_rl.training.evolution import curve
from learned_opt_rl.training.evolution.folder import BEST, CONFIG, LOG, STATES

CAMPAIGN = "campaign"
CURVE = "learning-curve.png"
LIMIT = 1_000_000
"""Bytes of a campaign above which the fitness of each single member is left out."""


def keep(run: pathlib.Path, folder: pathlib.Path, sha256: str) -> None:
    """Copies what a run needs to go on, and its learning curve, beside a card.

    Args:
        run: The folder of ``train``; it may still be running.
        folder: The artifact's; its ``campaign/`` and picture must not be there.
        sha256: Of the artifact's file: the best weights are copied only if they are
            others by now.
    """
    campaign = folder / CAMPAIGN
    campaign.mkdir()
    shutil.copy(run / CONFIG, campaign)
    # A log that is ahead of the state is cut when the campaign goes on.
    state = _newest(run)
    if state is not None:
        shutil.copy(state, campaign)
    if (run / LOG).exists():
        shutil.copy(run / LOG, campaign)
    if hashlib.sha256((run / BEST).read_bytes()).hexdigest() != sha256:
        shutil.copy(run / BEST, campaign)
    if sum(path.stat().st_size for path in campaign.iterdir()) > LIMIT:
        rows = jsonl.read(campaign / LOG)
        (campaign / LOG).unlink()
        jsonl.append(
            campaign / LOG,
            [{k: v for k, v in row.items() if k != "fitness"} for row in rows],
        )
    if (run / curve.CURVE).exists():
        shutil.copy(run / curve.CURVE, folder / CURVE)


def _newest(run: pathlib.Path) -> pathlib.Path | None:
    """The whole state that is furthest on."""
    found = {}
    for path in filter(pathlib.Path.exists, (run / name for name in STATES)):
        try:
            found[read_whole(path)[1]["done"]] = path
        except RefusedError:
            continue
    return found[max(found)] if found else None


def located(
    text: str, out: pathlib.Path | None = None, *, copy: bool = True
) -> pathlib.Path:
    """The folder of the run that is to go on.

    Args:
        text: A folder, or the name of an artifact whose campaign is in the repository;
            that one is copied, and what it was is left as it is.
        out: Where to; by default ``NAME-campaign``. If the campaign is there already,
            that one goes on.
        copy: Whether it is copied; else it is told where it is, to be read.

    Returns:
        The folder.

    Raises:
        ValueError: There is no such folder or artifact, or it has no campaign, or
            ``out`` holds something else.

    Example:
        >>> located("goldie2024/ant")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: 'goldie2024/ant' has no campaign to go on with; ...
    """
    folder = pathlib.Path(text)
    if (folder / CONFIG).exists():
        if out is not None:
            raise ValueError(
                f"--out {out} is where the campaign of an artifact is copied, but "
                f"{folder} is a folder, which goes on where it is; leave it out"
            )
        return folder
    try:
        entry = registry.find(text)
    except UnknownArtifactError as error:
        raise ValueError(
            f"{folder} holds no campaign ({CONFIG} is missing), and {error}"
        ) from error
    campaign = entry.folder / CAMPAIGN
    if not (campaign / CONFIG).exists():
        raise ValueError(
            f"{text!r} has no campaign to go on with; {_with_campaigns()} (campaigns "
            "are in the repository, not in the installed package)"
        )
    if _made(campaign).get("kind") == "distillation":
        again = entry.card.training.command
        raise ValueError(
            f"{text!r} was distilled, which does not go on; once more with {again}"
        )
    out = pathlib.Path(f"{text.replace('/', '-')}-campaign") if out is None else out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if _identity(out) != _identity(campaign):
            raise ValueError(
                f"--out {out} holds something else than the campaign of {text!r}; give "
                "another folder"
            )
        return out
    if not copy:
        return campaign
    _copy(entry, campaign, out)
    return out


def _with_campaigns() -> str:
    names = [
        name
        for name, entry in sorted(registry.scan().entries.items())
        if (entry.folder / CAMPAIGN / CONFIG).exists()
    ]
    return f"those that have one: {', '.join(names) or 'none here'}"


def _made(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _identity(folder: pathlib.Path) -> Any:
    """What tells a campaign from others: all but for how long it is to go on."""
    config = _made(folder).get("config")
    return isinstance(config, dict) and config | {"generations": None}


def _copy(entry: registry.Entry, campaign: pathlib.Path, out: pathlib.Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".campaign.", dir=out.parent) as folder:
        made = pathlib.Path(folder) / out.name
        shutil.copytree(campaign, made)
        if not (made / BEST).exists():
            weights = entry.card.weights
            shutil.copy(entry.folder / getattr(weights, "file", BEST), made / BEST)
        os.replace(made, out)
