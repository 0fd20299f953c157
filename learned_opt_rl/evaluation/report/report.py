"""The results of a comparison as one object: tables, figures, frames and a report."""

import dataclasses
import functools
import json
import pathlib
import shlex
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from learned_opt_rl.checks import as_names
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import (
    comparable,
    gather,
    statistics,
    tables,
)
from learned_opt_rl.evaluation.report.gather import Along, Results
from learned_opt_rl.evaluation.report.measures import BASELINE
from learned_opt_rl.evaluation.report.normalization import check, reference_rule
from learned_opt_rl.evaluation.report.verdict import verdict
from learned_opt_rl.evaluation.runs.plan import Plan
from learned_opt_rl.evaluation.runs.row import FAILURES, ROWS, Row
from learned_opt_rl.rundir import jsonl

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    Draw = Callable[[], Figure]


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The results of a comparison, as `load` and `compare` return them.

    In a notebook it shows the verdict, a table and the learning curves. ``str`` gives
    the same tables as the command line.

    Attributes:
        rows: One `Row` per run, with the rule's name as it was run.
        failures: Runs that raised an error: dicts with ``rule``, ``environment``,
            ``agent``, ``message`` and ``traceback``.
        normalization: How returns come to a common scale, see `normalization.METHODS`.
        baseline: The rule that others are compared with.
        title: The heading of the page.
        left_out: Rules, environments and other runs that are not shown.
        advice: How to show them.
        named: The rows under the names of `comparable.named`, if more rows than these
            decided the names.

    Example:
        >>> where = {"environment": "ant", "total_timesteps": 1000, "curve": [1.0, 2.0]}
        >>> report = Report([Row(rule="adam", seed=0, final_return=2.0, **where)])
        >>> report.frame[["rule", "environment", "seed", "final_return"]]
           rule environment  seed  final_return
        0  adam         ant     0           2.0
    """

    rows: Sequence[Row]
    failures: Sequence[Mapping[str, Any]] = ()
    normalization: str = "auto"
    baseline: str = BASELINE
    title: str = "Comparison of update rules"
    left_out: Sequence[str] = ()
    advice: str = ""
    named: Sequence[Row] = ()

    @functools.cached_property
    def found(self) -> list[Results]:
        """Every statistic, one `gather.Results` per setting."""
        named = self.named or comparable.named(self.rows)
        return gather.gather(named, self.normalization, baseline=self.baseline)

    @functools.cached_property
    def varied(self) -> dict[str, Along]:
        """Final returns along each property that differs between settings."""
        return gather.axes(self.found)

    @functools.cached_property
    def styles(self) -> comparison.Styles:
        """The color and marker of each rule, the same in all figures and tables."""
        names = {row.rule for result in self.found for row in result.setting.rows}
        return figures.styles(sorted(names))

    @property
    def verdict(self) -> str:
        """Which rules are better than the baseline, in a few sentences."""
        return "\n".join(
            f"{result.setting.label}: {text}" if result.setting.label else text
            for result, text in ((r, verdict(r)) for r in self.found)
        )

    @property
    def frame(self) -> "pd.DataFrame":
        """A line per run: final return, area under the curve, outcome, settings."""
        return _pandas().DataFrame(run_records(self.found))

    @property
    def curves(self) -> "pd.DataFrame":
        """A line per run and rollout: environment steps and mean return."""
        return _pandas().DataFrame(_curve_records(self.found))

    @property
    def table(self) -> "pd.DataFrame":
        """Mean final return and interval of each rule in each environment, rounded.

        It fits a terminal: names are the index, and numbers have four digits. If runs
        have no return, ``failed`` counts them; they enter the mean with the value of
        `statistics.failed_values`.
        """
        made: Any = self.results.set_index(["environment", "rule"]).rename(
            columns=lambda name: name.removeprefix("final_return_")
        )
        made["failed"] = made["diverged"] + made["too_short"]
        counts = ["seeds", "failed"] if made["failed"].any() else ["seeds"]
        # Too few seeds give intervals of None, which are not numbers.
        shown = made[["final_return", "low", "high", *counts]].astype(float)
        if "setting" in made:
            shown = shown.set_index(made["setting"], append=True)
        shown = shown.map(lambda number: float(f"{number:.4g}"))
        return shown.astype(dict.fromkeys(counts, int))

    @property
    def results(self) -> "pd.DataFrame":
        """A line per rule and environment with all measures, as in ``results.csv``."""
        return _pandas().DataFrame(result_records(self.found))

    @property
    def aggregates(self) -> "pd.DataFrame":
        """A line per rule: IQM and so on over environments, with intervals."""
        return _pandas().DataFrame(aggregate_records(self.found))

    @functools.cached_property
    def figures(self) -> "Mapping[str, Figure]":
        """The figures of the report by name, for example ``"curves"``.

        A figure is drawn when it is first looked up.
        """
        return _Figures({name: draw for name, _, _, draw in self.pictures()})

    def pictures(
        self, columns: int | None = None
    ) -> Iterator[tuple[str, int | None, str, "Draw"]]:
        """Yield name, setting, caption and what draws the figure; see `write.Picture`.

        With ``columns=1``, only the figures of settings are drawn, narrow for phones.
        """
        for index, result in enumerate(self.found):
            ending = f"-{index + 1}" if len(self.found) > 1 else ""
            for name, caption, draw in figures_of(result, self.styles, columns):
                yield f"{name}{ending}", index, caption, draw
        if columns is not None:
            return
        for index, (axis, along) in enumerate(self.varied.items()):
            draw = partial(
                comparison.generalization_figure, along, axis, styles=self.styles
            )
            what = "without each feature" if axis == "features" else f"over {axis}"
            caption = f"Final return, not normalized, {what}: {means('intervals')}"
            yield f"generalization-{index + 1}-{axis}", None, caption, draw

    def write(self, folder: str | pathlib.Path) -> list[pathlib.Path]:
        """Write ``report.html``, tables and figures; return their paths."""
        from learned_opt_rl.evaluation.report.write import write_report

        return write_report(self, pathlib.Path(folder))

    @property
    def not_shown(self) -> str:
        """What the report does not show, and how to show it; empty if it shows all."""
        if not self.left_out:
            return ""
        text = f"Not shown in this report: {', '.join(self.left_out)}. {self.advice}"
        return text.rstrip()

    def summary(self, width: int | None = None) -> str:
        """Return verdict, tables and notes for a terminal ``width`` characters wide."""
        parts = []
        for result in self.found:
            label = tables.one_line(result.setting.label)
            parts += [label] if label else []
            parts.append(_filled(verdict(result), width))
            if result.aggregates:
                method = result.normalized.method
                raw = method == "raw"
                parts.append("not normalized" if raw else f"normalized by {method}")
                shown = tables.aggregates(with_improvement(result))
                parts[-1] += "\n" + tables.render(shown, "plain", width)
            shown = tables.environments(result.measures, result.baseline)
            text = tables.render(shown, "plain", width)
            parts.append(text)
            if not text.splitlines()[0].endswith(shown[0][-1]):
                parts.append(_filled("The report has the other columns.", width))
            parts += [_filled(f"- {note}", width) for note in result.notes]
        if self.not_shown:
            parts.append(_filled(self.not_shown, width))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        rules = ", ".join(dict.fromkeys(row.rule for row in self.rows))
        return f"<Report: {len(self.rows)} runs of {rules}>"

    def _repr_html_(self) -> str:
        from learned_opt_rl.evaluation.report.write import fragment

        return fragment(self)


class _Figures(Mapping[str, "Figure"]):
    """Figures that are drawn when they are first looked up."""

    def __init__(self, draw: "Mapping[str, Draw]") -> None:
        self._draw = draw
        self._drawn: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> "Figure":
        if name not in self._drawn:
            self._drawn[name] = self._draw[name]()
        return self._drawn[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)


def load(
    *sources: str | pathlib.Path,
    normalization: str = "auto",
    baseline: str | None = None,
    title: str | None = None,
    only: str | Sequence[str] = (),
    plan: Plan | None = None,
) -> Report:
    """Read the results of one or more comparisons.

    Rows of several agents or of replaced weights are named as by `comparable.named`.
    Earlier versions of a rule are not shown, unless ``only`` or ``baseline`` names one.

    Args:
        sources: Folders that contain ``rows.jsonl``, or files of rows (``.jsonl``). The
            report lists the runs in the ``failures.jsonl`` beside a ``rows.jsonl``.
        normalization: How to bring returns to a common scale, one of
            `normalization.METHODS`.
        baseline: The rule that others are compared with, by default tuned Adam.
        title: The heading of the page.
        only: Names of the rules and environments to keep, as the report prints them;
            by default all. The baseline stays among the rules.
        plan: Show only the runs of this plan, and the baseline's beside them.

    Raises:
        ValueError: The sources have no rows, one is damaged, the baseline was not run,
            a name in ``only`` is unknown, or the normalization is unknown or has no
            reference.

    Example:
        >>> load("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/rows.jsonl has no rows; run a comparison first
    """
    paths, only = [*map(pathlib.Path, sources)], as_names(only)
    if not paths:
        raise ValueError("sources=(): must name at least one folder. Pass FOLDER")
    needed = {baseline or BASELINE, reference_rule(normalization)} - {None}
    every = [row for path in paths for row in comparable.read(path)]
    needed_rules = [comparable.parts(name)[0] for name in needed]
    rows = plan.runs(every, *needed_rules) if plan else every
    # Named before anything is left out, which would change the names of the others.
    named = comparable.named(rows, plan and plan.digests)
    earlier = comparable.superseded(rows, named) - {*only, *needed}
    # An order that does not depend on how the rows were made. The sort is stable: of
    # rows that repeat each other, the last still comes last.
    pairs = sorted(
        (pair for pair in zip(rows, named, strict=True) if pair[1].rule not in earlier),
        key=lambda pair: (pair[0].environment, pair[0].rule, pair[0].seed),
    )
    chosen, left_out = _only([new for _, new in pairs], only, needed)
    runs = {(row.rule, row.agent) for row, new in pairs if new.rule in chosen["rule"]}
    pairs = [
        (row, new)
        for row, new in pairs
        if all(getattr(new, field) in names for field, names in chosen.items())
    ]
    check(normalization, baseline, rules={new.rule for _, new in pairs})
    # In an order that does not depend on when they happened.
    failures = sorted(_raised(paths), key=json.dumps)
    if only:
        failures = [
            one
            for one in failures
            if (one.get("rule"), one.get("agent")) in runs
            and one.get("environment") in chosen["environment"]
        ]
    return Report(
        [row for row, _ in pairs],
        failures,
        normalization,
        baseline or BASELINE,
        **({"title": title} if title else {}),
        left_out=[*sorted(earlier), *left_out, *_others(every, rows)],
        advice=" ".join(_advice(earlier, paths[0] if len(rows) < len(every) else None)),
        named=[new for _, new in pairs],
    )


def _filled(text: str, width: int | None) -> str:
    """Break a line for a terminal ``width`` characters wide."""
    line = tables.one_line(text)
    return line if width is None else textwrap.fill(line, width)


def _others(every: Sequence[Row], rows: Sequence[Row]) -> Iterator[str]:
    """Yield what rows of other calls have: rules, environments, or other settings."""
    shown, left = {row.setting for row in rows}, set[str]()
    for field in ("rule", "environment"):
        names = {getattr(row, field) for row in rows}
        left = {getattr(row, field) for row in every} - names
        yield from sorted(left)
    same = {(row.rule, row.environment) for row in rows}
    count = sum(
        (row.rule, row.environment) in same and row.setting not in shown
        for row in every
    )
    if count:
        yield f"{count} runs of another length, agent or setting"


def _advice(earlier: Collection[str], folder: pathlib.Path | None) -> Iterator[str]:
    if folder is not None:
        command = f"`learned-opt-rl report {shlex.quote(str(folder))}`"
        yield f"{command} shows all runs but those of earlier versions of a rule."
    if earlier:
        yield "To show an earlier version of a rule, name it with --only."


def _only(
    rows: list[Row], only: Sequence[str], needed: set[str]
) -> tuple[dict[str, set[str]], list[str]]:
    """Return the rules and the environments to keep, and the names left out."""
    known = {f: {getattr(row, f) for row in rows} for f in ("rule", "environment")}
    for name in only:
        if not any(name in names for names in known.values()):
            raise ValueError(
                f"only={name!r}: must name rules or environments of the results. "
                f"Choose among {', '.join(sorted(set().union(*known.values())))}"
            )
    kept = {field: names & {*only} or names for field, names in known.items()}
    kept["rule"] |= known["rule"] & needed
    return kept, [n for field in known for n in sorted(known[field] - kept[field])]


def _raised(paths: Iterable[pathlib.Path]) -> Iterator[Mapping[str, Any]]:
    """Yield the failures beside each ``rows.jsonl``; other files of rows have none."""
    for file in dict.fromkeys(map(comparable.rows_file, paths)):
        if file.name == ROWS:
            yield from jsonl.read(file.with_name(FAILURES))


def figures_of(
    result: Results, styles: comparison.Styles, columns: int | None = None
) -> Iterator[tuple[str, str, "Draw"]]:
    """Yield name, caption and what draws the figure, of everything in a setting.

    With ``columns=1`` the figures are narrow, for phones.
    """
    rows, how = result.setting.rows, {"styles": styles, "columns": columns}
    if result.aggregates:
        yield _overview(result, how)
    caption = f"Learning curves: {means('bands')}"
    yield "curves", caption, partial(comparison.curves_figure, rows, **how)
    if statistics.returns(rows):
        caption = f"Final return of each run (dots), {means('bars')}"
        yield "returns", caption, partial(comparison.returns_figure, rows, **how)
    if any(row.dormant for row in rows):
        caption = f"Share of dormant neurons (dormancy <= 0.025): {means('bands')}"
        yield (
            "dormancy",
            caption,
            partial(comparison.curves_figure, rows, "dormant", **how),
        )
    if result.aggregates:
        rest = {
            rule: {name: e for name, e in estimates.items() if name != "IQM"}
            for rule, estimates in result.aggregates.items()
        }
        caption = "Other aggregates over environments with 95% intervals"
        yield "aggregates", caption, partial(comparison.aggregate_figure, rest, **how)
    if result.profiles:
        caption = "Performance profiles: the share of runs above each normalized return"
        shown = result.thresholds, result.profiles
        yield "profiles", caption, partial(comparison.profile_figure, *shown, **how)


def _overview(result: Results, how: Mapping[str, Any]) -> tuple[str, str, "Draw"]:
    name = _improvement_name(result)
    shown = {
        rule: {m: e for m, e in estimates.items() if m in ("IQM", name)}
        for rule, estimates in with_improvement(result).items()
    }
    caption = "Interquartile mean of the returns"
    if result.improvement:
        baseline = tables.title(result.baseline)
        caption += f", and probability of a higher return than {baseline}'s"
    references = {name: 0.5, **_unit(result)}
    draw = partial(comparison.aggregate_figure, shown, references=references, **how)
    return "overview", f"{caption}, with 95% intervals", draw


def _unit(result: Results) -> dict[str, float]:
    return {} if result.normalized.method == "raw" else {"IQM": 1.0}


def means(what: str) -> str:
    """Return the words of a caption about means and intervals."""
    least = statistics.MIN_SEEDS
    return f"means over seeds with 95% bootstrap {what} (none below {least} seeds)"


def with_improvement(result: Results) -> dict[str, dict[str, statistics.Estimate]]:
    """Return the aggregates with the probability of improvement as a further one."""
    name = _improvement_name(result)
    return {
        rule: estimates
        | ({name: result.improvement[rule]} if rule in result.improvement else {})
        for rule, estimates in result.aggregates.items()
    }


def _improvement_name(result: Results) -> str:
    return f"P(better than {tables.title(result.baseline)})"


def run_records(found: Iterable[Results]) -> list[dict[str, Any]]:
    """Return a record per run."""
    return [
        {
            "environment": row.environment,
            "rule": row.rule,
            "seed": row.seed,
            "agent": row.agent,
            "steps": row.steps_run,
            "final_return": row.final_return,
            "auc": row.auc,
            "outcome": row.outcome,
            "wall_seconds": row.wall_seconds,
            **_setting(result),
        }
        for result in found
        for row in result.setting.rows
    ]


def result_records(found: Iterable[Results]) -> list[dict[str, Any]]:
    """Return a record per rule and environment."""
    return [
        {
            "environment": m.environment,
            "rule": m.rule,
            "seeds": len(m.seeds),
            **_columns("final_return", m.final),
            **_columns("paired_difference", m.paired),
            **_columns("auc", m.auc),
            "steps_to_baseline": m.steps_to_baseline,
            "diverged": m.failed - m.too_short,
            "too_short": m.too_short,
            **_setting(result),
        }
        for result in found
        for m in result.measures
    ]


def aggregate_records(found: Iterable[Results]) -> list[dict[str, Any]]:
    """Return a record per rule and setting."""
    return [
        {
            "rule": rule,
            "normalization": result.normalized.method,
            "seeds": estimates["IQM"].seeds,
            **{k: v for n, e in estimates.items() for k, v in _columns(n, e).items()},
            **_columns("improvement", result.improvement.get(rule)),
            **_setting(result),
        }
        for result in found
        for rule, estimates in result.aggregates.items()
    ]


def _curve_records(found: Iterable[Results]) -> list[dict[str, Any]]:
    return [
        {
            "environment": row.environment,
            "rule": row.rule,
            "seed": row.seed,
            "steps": row.steps_run * (i + 1) / len(row.curve),
            "return": value,
            **_setting(result),
        }
        for result in found
        for row in result.setting.rows
        for i, value in enumerate(row.curve)
    ]


def _setting(result: Results) -> dict[str, str]:
    return {"setting": result.setting.label} if result.setting.label else {}


def _columns(name: str, estimate: statistics.Estimate | None) -> dict[str, Any]:
    ends = (None,) * 3 if estimate is None else dataclasses.astuple(estimate)[:3]
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError(
            f"data frames need pandas ({error}): pip install 'learned-opt-rl[eval]'"
        ) from error
    return pandas
