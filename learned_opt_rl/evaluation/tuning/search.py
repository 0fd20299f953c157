"""Search the best settings of a rule with a stated budget, resumably.

A folder holds ``tuning.json`` (the request), ``trial-0.json`` and so on (rules with the
settings tried), their runs as those of a comparison, and ``tuned.json``, the best rule.
"""

import collections
import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

from learned_opt_rl.checks import as_names
from learned_opt_rl.evaluation.report.statistics import returns
from learned_opt_rl.evaluation.runs import compare, rules, tuned_rule
from learned_opt_rl.evaluation.runs.cell import Programs
from learned_opt_rl.evaluation.runs.plan import Comparison, prepare
from learned_opt_rl.evaluation.runs.row import ROWS, read_rows
from learned_opt_rl.evaluation.tuning.space import next_place, search_space, setting_at
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.cluster import Cluster
from learned_opt_rl.rundir.progress import duration, output
from learned_opt_rl.rundir.provenance import provenance

FIRST_SEED = 10_000
"""The first seed of tuning. Comparisons start at 0, so they share no seed with it."""

TUNED, _REQUEST = "tuned.json", "tuning.json"


class Trial(NamedTuple):
    """Settings that were tried."""

    place: dict[str, Any]  # see `space.next_place`
    settings: dict[str, Any]  # see `rules.Settings`
    returns: dict[str, float]  # mean over seeds by environment, without failed ones
    score: float  # what the search maximizes, see `scores`


def tune(
    asked: Comparison,
    runs: int,
    folder: pathlib.Path,
    *,
    each: bool = False,
    only: str | Sequence[str] = (),
    stream: TextIO | None = None,
    cluster: Cluster | None = None,
) -> dict[str, list[Trial]]:
    """Run what the folder does not hold yet, and write ``tuned.json``.

    The budget and an estimate of the time are printed first. An environment is compiled
    once: its runs differ in numbers only.

    Args:
        asked: The rule, the environments, the length of a run, the agent, and the seeds
            that each of the settings is run with. The first is also that of the search.
        runs: Runs in each environment: the number of settings, times the seeds.
        folder: The folder for the results; it is made if it does not exist.
        each: Search settings for each environment instead of one for all.
        only: The settings to search, all by default.
        stream: For the progress, standard error by default.
        cluster: Workers that make the runs of each of the settings.

    Returns:
        The trials, the best first, by environment; under ``"*"`` if one setting is for
        all.

    Raises:
        ValueError: The rule has nothing to tune, a number or an environment is wrong,
            the folder holds another request, or every run failed.
        MissingExtraError: optuna or an environment's package is not installed.
        KeyboardInterrupt: All finished work is kept.
    """
    _check(asked, runs)
    only = as_names(only)
    rule, shown, count = asked.rules[0], output(stream), runs // asked.seeds
    parts = {tuned_rule.ALL: (asked, folder)}
    if each:
        parts = {
            name: (dataclasses.replace(asked, environments=(name,)), folder / place)
            for name in asked.environments
            for place in [name.replace("/", "_")]
        }
    searches = {
        key: _Search(*part, only, shown, cluster) for key, part in parts.items()
    }
    _claim(folder, asked, each, only)
    shown.write(
        f"{rule} on {', '.join(asked.environments)}: {count} values of "
        f"{', '.join(only or search_space(rule))}\n"
        f"budget: {runs} runs of {asked.total_timesteps:,.0f} steps per environment\n"
    )
    if cluster is None:
        left = sum(search.seconds_left(count) for search in searches.values())
        shown.write(f"time: about {duration(left)} left\n")
    found = {key: search.run(count) for key, search in searches.items()}
    content = {
        "rule": rule,
        "settings": {key: trials[0].settings for key, trials in found.items()},
        "returns": {key: trials[0].returns for key, trials in found.items()},
        "tuning": dataclasses.asdict(asked) | {"runs": runs},
        **provenance("optuna"),
    }
    write_json(folder / TUNED, content)
    return found


def scores(tried: Sequence[dict[str, float]]) -> list[float]:
    """Return a score for each of the settings, given returns by environment.

    In a single environment it is the return. Otherwise returns are normalized in each
    environment, 0 for the lowest and 1 for the highest of all settings tried, and the
    score is their mean. A missing return counts as the lowest.

    Example:
        >>> scores([{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 3.0}, {"a": 1.5, "b": 5.0}])
        [0.5, 0.5, 0.75]
    """
    names = {name for one in tried for name in one}
    total = np.zeros(len(tried))
    for name in names:
        low = min(one[name] for one in tried if name in one)
        column = np.array([one.get(name, low) for one in tried])
        scaled = (column - low) / (np.ptp(column) or 1.0) / len(names)
        total += scaled if len(names) > 1 else column
    return total.tolist()


def table(trials: Sequence[Trial]) -> list[list[str]]:
    """Return a header and a line of text for each trial."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.returns))
    lines = [["SCORE", *names, *trials[0].settings]]
    for trial in trials:
        known = [trial.returns.get(name, math.nan) for name in names]
        numbers = [f"{number:.4g}" for number in (trial.score, *known)]
        lines.append([*numbers, *map(_shown, trial.settings.values())])
    return lines


class _Search:
    """One search, for one or several environments."""

    def __init__(
        self,
        asked: Comparison,
        folder: pathlib.Path,
        only: Sequence[str],
        stream: TextIO,
        cluster: Cluster | None = None,
    ) -> None:
        """Check the request."""
        self._cluster = cluster
        self._asked, self._folder, self._only = asked, folder, only
        self._space, self._stream = search_space(asked.rules[0], only), stream
        next_place(self._space, only, (), 0)  # needs optuna
        plan = prepare(asked, self._space)
        cells = [
            cell._replace(source=cell.rule, values=self._space) for cell in plan.cells
        ]
        self._plan, self._programs = plan._replace(cells=cells), Programs()

    def seconds_left(self, count: int) -> float:
        """Return the time of the missing runs, from a rollout in each environment."""
        seeds, trials, seconds = self._plan.groups[0], len(self._missing(count)), 0.0
        for cell in self._plan.cells if trials else ():
            program = self._programs.of(cell, len(seeds), self._plan.devices)
            each = program.seconds_per_rollout(seeds)
            seconds += each * cell.config.num_rollouts
        return seconds * len(self._plan.groups) * trials

    def run(self, count: int) -> list[Trial]:
        """Try all settings; return the trials, the best first."""
        for number in self._missing(count):
            path = self._path(number)
            if not path.exists():
                self._begin(number)
            values = tuned_rule.read(str(path)).settings[tuned_rule.ALL]
            cells = [
                cell._replace(rule=str(path), values=values)
                for cell in self._plan.cells
            ]
            failures = compare.execute(
                self._plan._replace(cells=cells),
                self._folder,
                stream=self._stream,
                programs=self._programs,
                cluster=self._cluster,
            )
            header, *_, last = table(self._tried(number + 1))
            shown = ", ".join(map(" ".join, zip(header[1:], last[1:], strict=True)))
            why = "".join(f"; {failure.message}" for failure in failures)
            self._stream.write(f"{number + 1} of {count} settings: {shown}{why}\n")
        tried = self._tried(count)
        for name in self._asked.environments:
            if not any(name in trial.returns for trial in tried):
                raise ValueError(
                    f"total_timesteps={self._asked.total_timesteps}: every run of "
                    f"{self._asked.rules[0]!r} on {name} failed, diverged or ended no "
                    "episode; give more, in another folder"
                )
        return sorted(tried, key=lambda trial: -trial.score)

    def _missing(self, count: int) -> list[int]:
        """Return the trials that lack a run."""
        done = collections.Counter(row.rule for row in read_rows(self._folder / ROWS))
        runs = len(self._plan.cells) * self._asked.seeds
        return [k for k in range(count) if done[str(self._path(k))] < runs]

    def _begin(self, number: int) -> None:
        """Write the file of a trial."""
        tried = [(trial.place, trial.score) for trial in self._tried(number)]
        # Each trial has a seed of its own, so that a search can resume at any.
        seed = self._asked.first_seed + number
        place = next_place(self._space, self._only, tried, seed)
        moved = {n: setting_at(n, self._space[n], at) for n, at in place.items()}
        settings = {tuned_rule.ALL: self._space | moved}
        content = {"rule": self._asked.rules[0], "settings": settings, "place": place}
        write_json(self._path(number), content)

    def _tried(self, count: int) -> list[Trial]:
        found = returns(read_rows(self._folder / ROWS))
        paths = [self._path(number) for number in range(count)]
        means = [
            {name: float(np.mean([*seeds.values()])) for name, seeds in games.items()}
            for games in (found.get(str(path), {}) for path in paths)
        ]
        files = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        return [
            Trial(file["place"], file["settings"][tuned_rule.ALL], mean, score)
            for file, mean, score in zip(files, means, scores(means), strict=True)
        ]

    def _path(self, number: int) -> pathlib.Path:
        return self._folder / f"trial-{number}.json"


def _check(asked: Comparison, runs: int) -> None:
    if len(asked.rules) != 1:
        raise ValueError(f"rules={asked.rules!r}: name one, which is tuned")
    if runs < 1 or runs % asked.seeds:
        raise ValueError(
            f"runs={runs} must be a positive multiple of seeds={asked.seeds}, the runs "
            f"of each setting; give for example {20 * asked.seeds}"
        )
    if asked.first_seed < FIRST_SEED:
        raise ValueError(
            f"first_seed={asked.first_seed} is a seed of comparisons; give at least "
            f"{FIRST_SEED}"
        )


def _claim(
    folder: pathlib.Path, asked: Comparison, each: bool, only: Sequence[str]
) -> None:
    """Write the request into a folder, or refuse the folder of another one.

    The request does not include the budget. With more runs, a search tries the next
    settings.
    """
    options = {
        "each": each,
        "only": only,
        "weights": rules.weights_digest(asked.rules[0]),
    }
    request = json.loads(json.dumps(dataclasses.asdict(asked) | options))
    path = folder / _REQUEST
    if not path.exists() and (folder / ROWS).exists():
        raise ValueError(
            f"{folder} holds results of another command; name another folder"
        )
    before = json.loads(path.read_text("utf-8")) if path.exists() else request
    if changed := differences(before, request):
        raise ValueError(
            f"{folder} holds a search with other values ({', '.join(changed)}); repeat "
            "the command with those values to resume it, or name another folder"
        )
    write_json(path, request)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
