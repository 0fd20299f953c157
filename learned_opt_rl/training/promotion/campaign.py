"""Campaigns stored beside the cards of their artifacts, so that anyone can resume."""

import hashlib
import os
import pathlib
import shutil
import tempfile
from typing import Any

from learned_opt_rl.artifacts import registry
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import RefusedError, read_whole
from learned_opt_rl.training.evolution.folder import STATES
from learned_opt_rl.training.evolution.progress import CURVE as RUN_CURVE
from learned_opt_rl.training.meta_gradients.config import METHOD
from learned_opt_rl.training.promotion import origin
from learned_opt_rl.training.proposal.journal import EVENTS, LEDGER
from learned_opt_rl.training.run_folder import BEST, CONFIG, LOG, read_config

CAMPAIGN = "campaign"
CURVE = "learning-curve.png"
LIMIT = 1_000_000
"""Bytes of a campaign above which the log drops the fitness of single members.

The events of a search drop the values of the checks. A campaign in the repository
should not weigh more than all the weights beside it.
"""


def keep(run: pathlib.Path, folder: pathlib.Path, sha256: str) -> None:
    """Copy a run and its learning curve into an artifact's folder.

    The copy has the configuration and the log. For a search, the copy has the events
    and the ledger of this folder; the events of a refinement have no replies. For an
    evolution, the copy also has the state. Other runs cannot be resumed from an
    artifact, and the state of their agents can weigh 100 MB. The run may continue. Its
    best weights are copied only if they have changed since the artifact, whose file has
    the given digest.
    """
    campaign = folder / CAMPAIGN
    campaign.mkdir()
    # A log that is ahead of the state is cut when the campaign resumes.
    for path in (run / CONFIG, _newest(run), run / LOG, run / EVENTS, run / LEDGER):
        if path is not None and path.exists():
            shutil.copy(path, campaign)
    if _is_search(run):
        _shorten(campaign, campaign / EVENTS, "response")
        return
    if hashlib.sha256((run / BEST).read_bytes()).hexdigest() != sha256:
        shutil.copy(run / BEST, campaign)
    _shorten(campaign, campaign / LOG, "fitness")
    if (run / RUN_CURVE).exists():
        shutil.copy(run / RUN_CURVE, folder / CURVE)


def _shorten(campaign: pathlib.Path, path: pathlib.Path, field: str) -> None:
    """Drop a field from the rows of a file if the campaign is above `LIMIT`."""
    if sum(one.stat().st_size for one in campaign.iterdir()) > LIMIT:
        rows = jsonl.read(path)
        short = [{k: v for k, v in row.items() if k != field} for row in rows]
        path.unlink()
        jsonl.append(path, short)


def _is_search(folder: pathlib.Path) -> bool:
    return read_config(folder)["kind"] in origin.SEARCHES


def _newest(run: pathlib.Path) -> pathlib.Path | None:
    """Return the newest whole state."""
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
    """Return the folder of the campaign to resume, or raise ValueError.

    ``text`` is a folder, or the name of an artifact. The artifact's campaign, which
    only the repository has, is copied to ``out``, by default ``NAME-campaign``, to be
    resumed there; without ``copy``, return the original, to be read.
    """
    folder = pathlib.Path(text)
    if (folder / CONFIG).exists():
        if out is not None:
            raise ValueError(
                f"--out {out} receives the campaign of an artifact, but {folder} is a "
                "folder, which resumes in place; leave --out out"
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
        names = [
            name
            for name, other in sorted(registry.scan().entries.items())
            if (other.folder / CAMPAIGN / CONFIG).exists()
        ]
        raise ValueError(
            f"{text!r} has no campaign to resume; those that have one: "
            f"{', '.join(names) or 'none here'} (campaigns are in the repository, not "
            "in the installed package)"
        )
    if _is_search(campaign):
        raise ValueError(
            f"{text!r} is the result of a search for an expression, which cannot be "
            f"resumed; begin another with the settings in {campaign / CONFIG}"
        )
    how = {"distillation": "distilled", METHOD: "trained by meta-gradients"}
    kind = read_config(campaign)["kind"]
    if kind in how:
        raise ValueError(
            f"{text!r} was {how[kind]}, which cannot be resumed; repeat it with "
            f"`{entry.card.training.command}`"
        )
    out = pathlib.Path(f"{text.replace('/', '-')}-campaign") if out is None else out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if _identity(out) != _identity(campaign):
            raise ValueError(
                f"--out {out} holds something other than the campaign of {text!r}; "
                "give another folder"
            )
        return out
    if not copy:
        return campaign
    _copy(entry, campaign, out)
    return out


def _identity(folder: pathlib.Path) -> dict[str, Any] | None:
    """Return what distinguishes a campaign: its configuration without its length."""
    try:
        return read_config(folder)["config"] | {"generations": None}
    except ValueError:
        return None


def _copy(entry: registry.Entry, campaign: pathlib.Path, out: pathlib.Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".campaign.", dir=out.parent) as folder:
        made = pathlib.Path(folder) / out.name
        shutil.copytree(campaign, made)
        if not (made / BEST).exists():
            weights = entry.card.weights
            shutil.copy(entry.folder / getattr(weights, "file", BEST), made / BEST)
        os.replace(made, out)
