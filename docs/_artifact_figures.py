"""Draw the plots of the artifact pages, and redraw them only if they change."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable

from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.evaluation import pictures
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.pictures.artifact import (
    beside_ppo,
    gallery_figure,
    plot_artifacts,
)

DPI = 90


class Figures:
    """A folder of plots, each named by a digest of its sources.

    The digest covers the weights or text, the card's architecture and the plotting
    code. Run ``make clean`` if the code of a rule changed.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """Keep the plots in ``folder``."""
        self._folder = folder
        self._used: set[pathlib.Path] = set()

    def of(self, artifact: Artifact) -> str:
        """Return the file name of an artifact's plot."""
        drawn_small = {"size": 21, "seeds": 4, "dormancies": (1.0, 4.0)}
        options = drawn_small if artifact.card.kind == "optimizer" else {}

        def draw(path: pathlib.Path) -> None:
            plot_artifacts([artifact], path, dpi=DPI, **options)

        return self._kept("artifact", [artifact], draw)

    def gallery(self, shown: Iterable[Artifact]) -> str:
        """Return the file name of the plot of all drifts."""
        shown = list(shown)

        def draw(path: pathlib.Path) -> None:
            figures.save(gallery_figure(beside_ppo(shown)), path, DPI)

        return self._kept("gallery", shown, draw)

    def remove_others(self) -> None:
        """Remove the plots that this build did not use."""
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
    (package,) = map(pathlib.Path, pictures.__path__)
    code = [*sorted(package.glob("*.py")), pathlib.Path(__file__)]
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in code]
    for card in (artifact.card for artifact in shown):
        architecture = json.dumps(dict(card.architecture), sort_keys=True)
        parts += [card.name, card.weights.sha256, architecture]
    return hashlib.sha256(json.dumps([what, *parts]).encode()).hexdigest()[:16]
