"""Figures of artifacts: the updates of an optimizer, or drifts next to PPO's."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.pictures.drift import drift_figure
from learned_opt_rl.evaluation.pictures.update import update_figure
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory
from learned_opt_rl.rules import drifts, trained_horizon
from learned_opt_rl.rules.drifts import Drift

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_artifacts(
    shown: Sequence[Artifact],
    path: str | pathlib.Path,
    *,
    dpi: int = 150,
    **options: Any,
) -> None:
    """Write a PNG of one optimizer, or of any number of drifts.

    An optimizer is drawn by `update.update_figure`, at its default learning rate if it
    has one. Drifts are drawn by `drift.drift_figure`, after PPO's.

    Args:
        shown: The loaded artifacts: one optimizer, or drifts only.
        path: The file to write.
        dpi: Pixels per inch.
        **options: Options of an optimizer, as for `update.probe`.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If ``shown`` is neither one optimizer nor drifts only.

    Example:
        >>> import pathlib, tempfile
        >>> from learned_opt_rl import artifacts
        >>> dpo = artifacts.load("discovered/dpo")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_artifacts([dpo], pathlib.Path(folder) / "dpo.png")
    """
    figures.save(_figure(shown, options), path, dpi)


def _figure(shown: Sequence[Artifact], options: dict[str, Any]) -> "Figure":
    kinds = [artifact.card.kind for artifact in shown]
    if kinds == ["optimizer"]:
        return update_figure(optimizer_factory(shown[0]), **options)
    if set(kinds) == {"drift"}:
        return drift_figure(beside_ppo(shown), **options)
    raise ValueError(f"shown has the kinds {kinds}; pass one optimizer, or drifts only")


def optimizer_factory(artifact: Artifact) -> OptimizerFactory:
    """Return ``key -> optimizer``, as `update.update_figure` takes it.

    Args:
        artifact: A loaded artifact of kind ``"optimizer"``.
    """
    rule = artifacts.rule_module(artifact.card.algorithm)
    horizon = trained_horizon(artifact.card)
    return lambda key: rule.from_artifact(artifact, horizon=horizon, key=key)


def beside_ppo(shown: Iterable[Artifact]) -> dict[str, Drift]:
    """Return drifts by name, after PPO's as the reference.

    Args:
        shown: Loaded artifacts of kind ``"drift"``.

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
