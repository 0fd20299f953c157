"""The pictures of the artifact pages, drawn again only where they would differ."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable

import learned_opt_rl.evaluation
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.evaluation.pictures.artifact import beside_ppo, plot_artifacts
from learned_opt_rl.evaluation.pictures.drift import plot_gallery

DPI = 90


class Figures:
    """A folder of pictures, named by a digest of what they are drawn from.

    That is the sha256 of the weights or text, the card's architecture, and the code
    that draws; ``make clean`` is needed only where a rule itself was changed.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """Pictures are kept in ``folder``."""
        self._folder = folder
        self._used: set[pathlib.Path] = set()

    def of(self, artifact: Artifact) -> str:
        """The file name of an artifact's picture."""
        drawn_small = {"size": 21, "seeds": 4, "dormancies": (1.0, 4.0)}
        options = drawn_small if artifact.card.kind == "optimizer" else {}

        def draw(path: pathlib.Path) -> None:
            plot_artifacts([artifact], path, dpi=DPI, **options)

        return self._kept("artifact", [artifact], draw)

    def gallery(self, shown: Iterable[Artifact]) -> str:
        """The file name of the picture of all drifts."""
        shown = list(shown)

        def draw(path: pathlib.Path) -> None:
            plot_gallery(beside_ppo(shown), path, dpi=DPI)

        return self._kept("gallery", shown, draw)

    def remove_others(self) -> None:
        """Remove the pictures nobody asked for any more."""
        for path in set(self._folder.glob("*.png")) - self._used:
            path.unlink()

    def _kept(
        self, what: str, shown: list[Artifact], draw: Callable[[pathlib.Path], None]
    ) -> str:
        path = self._folder / f"{_digest(what, shown)}.png"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            draw(path)
        self._used.add(path)
        return path.name


def _digest(what: str, shown: list[Artifact]) -> str:
    (package,) = map(pathlib.Path, learned_opt_rl.evaluation.__path__)
    names = ("_figures", "_update_probe", "artifact_plots", "drift_plots")
    code = [package / f"{name}.py" for name in (*names, "update_plots")]
    code.append(pathlib.Path(__file__))
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
    for card in (artifact.card for artifact in shown):
        architecture = json.dumps(dict(card.architecture), sort_keys=True)
        parts += [card.name, card.weights.sha256, architecture]
    return hashlib.sha256(json.dumps([what, *parts]).encode()).hexdigest()[:16]
