"""Artifacts as pictures: the updates of an optimiser, drifts beside PPO's."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.evaluation.pictures.drift import plot_drifts
from learned_opt_rl.evaluation.pictures.update import plot_update
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory
from learned_opt_rl.rules import drifts
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.testing._candidate import as_factory, takes


def plot_artifacts(
    shown: Sequence[Artifact],
    path: str | pathlib.Path,
    *,
    dpi: int = 150,
    **options: Any,
) -> None:
    """Draws one optimiser, or any number of drifts, as a PNG.

    An optimiser is drawn by `update_plots.plot_update`, at its default learning rate
    where it has one; drifts by `drift_plots.plot_drifts`, after PPO's.

    Args:
        shown: The loaded artifacts: one optimiser, or drifts only.
        path: The file to write.
        dpi: Pixels per inch.
        **options: Of an optimiser, as for `update_plots.probe`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If it is not one optimiser, nor drifts only.

    Example:
        >>> import pathlib, tempfile
        >>> from learned_opt_rl import artifacts
        >>> dpo = artifacts.load("discovered/dpo")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_artifacts([dpo], pathlib.Path(folder) / "dpo.png")
    """
    kinds = [artifact.card.kind for artifact in shown]
    if kinds == ["optimizer"]:
        plot_update(optimizer_factory(shown[0]), path, dpi=dpi, **options)
    elif set(kinds) == {"drift"}:
        plot_drifts(beside_ppo(shown), path, dpi=dpi, **options)
    else:
        raise ValueError(
            f"shown is of the kinds {kinds}; one picture is of one optimizer, or of "
            "drifts only"
        )


def optimizer_factory(artifact: Artifact) -> OptimizerFactory:
    """An optimiser as the plots take it.

    Args:
        artifact: A loaded artifact of kind ``"optimizer"``.

    Returns:
        ``key -> optimiser``; one that explores does so by the key.

    Example:
        >>> import jax
        >>> from learned_opt_rl import artifacts
        >>> tx = optimizer_factory(artifacts.load("minatar"))(jax.random.key(0))
    """
    make = as_factory(artifact)
    return (lambda key: make(key=key)) if takes(make, "key") else (lambda key: make())


def beside_ppo(shown: Iterable[Artifact]) -> dict[str, Drift]:
    """Drifts by name, after PPO's as the reference.

    Args:
        shown: Loaded artifacts of kind ``"drift"``.

    Returns:
        What the drift plots take.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> list(beside_ppo([artifacts.load("discovered/dpo")]))
        ['PPO', 'discovered/dpo']
    """
    found: dict[str, Drift] = {"PPO": drifts.ppo()}
    for artifact in shown:
        rule = artifacts.rule_module(artifact.card.algorithm)
        found[artifact.card.name] = rule.from_artifact(artifact)
    return found
