"""Learned rules: one module for each family, all with the same functions."""

from typing import Any

from learned_opt_rl import artifacts
from learned_opt_rl.rules._core.artifact import trained_horizon

__all__ = ["pretrained", "trained_horizon"]


def pretrained(name: str, *, fetch: bool = False, **options: Any) -> Any:
    """An artifact of any algorithm (bundled, plugin or remote), ready to use.

    Args:
        name: Name of the artifact, e.g. ``"minatar"``; ``learned-opt-rl list``
            shows them all.
        fetch: Download a remote artifact that is not in the cache yet.
        **options: Passed to the algorithm, e.g. ``horizon=`` or ``seed=``.

    Returns:
        What the card's ``kind`` says: of an ``"optimizer"`` an optax transformation
        whose updates ``optax.apply_updates`` adds; of a ``"drift"`` a function
        ``(ratio, advantage) -> drift`` for ``losses.policy_loss``; of an
        ``"update_rule"`` an object with ``targets`` and ``loss``, see ``lpg``.

    Raises:
        ArtifactError: The name is unknown, or card or weights are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> import learned_opt_rl
        >>> tx = learned_opt_rl.pretrained("minatar")
    """
    artifact = artifacts.load(name, fetch=fetch)
    rule = artifacts.rule_module(artifact.card.algorithm)
    return rule.from_artifact(artifact, **options)
