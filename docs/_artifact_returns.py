"""Collect the measured returns of each artifact beside Adam's, from the raw rows."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from _board_page import ELSEWHERE, HORIZONS, ONE_RATE, percent, rows_after

from learned_opt_rl.evaluation.report import comparable
from learned_opt_rl.evaluation.report.normalization import normalize
from learned_opt_rl.evaluation.report.statistics import returns
from learned_opt_rl.evaluation.runs.row import Row, read_rows

_TUNED = "tuned Adam"

# Files with the runs of rules that did not run on the board's games.
_OTHERS = (
    "breakout_2e5.jsonl",
    "lpg_gridworld_3.2e5.jsonl",
    "lpg_chain_1e6.jsonl",
    "distilled_lpg_same_3.2e5.jsonl",
    "distilled_lpg_half_3.2e5.jsonl",
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The runs of one rule and of Adam in the environments where the rule ran."""

    name: str
    source: str  # where the rows are
    rows: list[Row]  # with the titles of Adam instead of its names

    @property
    def steps(self) -> int:
        """The environment steps of a run."""
        return int(self.rows[0].total_timesteps)

    def seeds(self) -> int:
        """Return the smallest number of seeds of the rule in an environment."""
        return min(map(len, returns(self.rows)[self.name].values()))

    def percent(self) -> dict[str, float]:
        """Return the mean return by environment, in percent of tuned Adam's."""
        rules = {row.rule for row in self.rows}
        if _TUNED not in rules:
            return {}
        normalized = normalize(self.rows, f"rule:{_TUNED}")
        return percent(normalized.returns.get(self.name, {}))


class Returns:
    """All runs in ``results`` that the pages of artifacts show."""

    def __init__(self, raw: pathlib.Path) -> None:
        """Read the rows of the board, of the expressions, and of other agents."""
        board = {
            f"results/*_{steps}.jsonl": comparable.named(rows_after(steps, raw))
            for steps in reversed(HORIZONS)
        }
        files = (ELSEWHERE, *_OTHERS)
        single = {f"results/{name}": _plain(raw / name) for name in files}
        self._sources = board | single

    def of(self, name: str) -> list[Comparison]:
        """Return the comparisons of an artifact, the longest runs first."""
        found = []
        for source, rows in self._sources.items():
            if source.endswith(ELSEWHERE) and found:
                continue  # the board has the same runs and more
            if shown := list(_beside(name, rows)):
                found.append(Comparison(name, source, shown))
        return found


def _plain(path: pathlib.Path) -> list[Row]:
    return [row for row in comparable.named(read_rows(path)) if not row.variant]


def _beside(name: str, rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows of a rule and of Adam in the rule's environments."""
    mine = [row for row in rows if row.rule == name]
    where = {row.environment for row in mine}
    ran = {row.rule for row in rows if row.environment in where}
    titles = {"adam": _TUNED}
    # The first that ran stands for Adam with one rate.
    titles |= dict([found for found in ONE_RATE.items() if found[0] in ran][:1])
    yield from mine
    for row in rows if mine else ():
        if row.rule in titles and row.environment in where:
            yield dataclasses.replace(row, rule=titles[row.rule])


def shorten(environments: Iterable[str]) -> list[str]:
    """Return the names of games without the name of their suite."""
    return [name.removesuffix("-MinAtar") for name in environments]
