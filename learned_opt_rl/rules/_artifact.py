"""What every rule asks of an artifact first."""

from __future__ import annotations

from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.errors import ArtifactError


def require_algorithm(artifact: Artifact, *algorithms: str) -> None:
    """Raise ``ArtifactError`` unless an artifact is of one of these algorithms."""
    if not isinstance(artifact, Artifact):
        raise TypeError(
            f"artifact={artifact!r} is no Artifact; pass artifacts.load(name), or use "
            "pretrained(name)"
        )
    card = artifact.card
    if card.algorithm not in algorithms:
        raise ArtifactError(
            f"artifact '{card.name}' is of algorithm '{card.algorithm}', not "
            f"'{algorithms[0]}'; use learned_opt_rl.pretrained('{card.name}')"
        )
