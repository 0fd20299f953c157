"""The report of a comparison: a page, its numbers as JSON, and its figures.

From a shell: ``learned-opt-rl report FOLDER``. The same rows give the same bytes, in
whatever order they were made, as long as `comparable.named` gives them the same names.
The page needs no network and no scripts.
"""

import base64
import importlib.util
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import (
    board,
    comparable,
    gather,
    statistics,
    tables,
)
from learned_opt_rl.evaluation.report.gather import Along, Results
from learned_opt_rl.evaluation.report.measures import BASELINE, TIMING
from learned_opt_rl.evaluation.report.normalization import check
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.evaluation.runs.row import FAILURES, ROWS, Row
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

# The fields of a run that raised an error.
_FAILURE = ("rule", "environment", "agent", "message")
_TEMPLATE = pathlib.Path(__file__).with_name("report.html")


def write(
    folder: str | pathlib.Path,
    *sources: str | pathlib.Path,
    normalization: str = "auto",
    baseline: str | None = None,
) -> tuple[str, list[pathlib.Path]]:
    """Write the report of one or more comparisons.

    Rows of several agents or of replaced weights are named as by `comparable.named`.

    Args:
        folder: Where to write the report.
        sources: Folders that contain ``rows.jsonl``, or files of rows (``.jsonl``). The
            report lists the runs in the ``failures.jsonl`` beside a ``rows.jsonl``. By
            default the folder itself.
        normalization: How to bring returns to a common scale, one of
            `normalization.METHODS`.
        baseline: The rule that others are compared with, by default tuned Adam.

    Returns:
        A summary for the terminal, and the files written: ``report.html``
        (self-contained), ``report.json`` (all numbers; only its ``timing`` depends on
        the speed of the machine), ``leaderboard.json`` and the figures in ``plots/``.

    Raises:
        MissingExtraError: As for `require_extras`.
        ValueError: If there are no rows, one is damaged, the baseline was not run, or
            the normalization is unknown or has no reference.

    Example:
        >>> write("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/rows.jsonl has no rows; run a comparison first
    """
    require_extras()
    folder = pathlib.Path(folder)
    paths = [*map(pathlib.Path, sources or (folder,))]
    # An order that does not depend on how the rows were made. The sort is stable: of
    # rows that repeat each other, the last still comes last.
    rows = sorted(
        (row for path in paths for row in comparable.read(path)),
        key=lambda row: (row.environment, row.rule, row.seed),
    )
    named = comparable.named(rows)
    check(normalization, baseline, rules={row.rule for row in named})
    # In an order that does not depend on when they happened.
    failures = sorted(_raised(paths), key=json.dumps)
    found = gather.gather(named, normalization, baseline=baseline or BASELINE)
    varied = gather.axes(found)
    data = _report(rows, found, varied, failures)
    text = summary(found)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(found, varied, folder / "plots")
    contents = {
        "report.html": _page(data, found, pictures),
        "report.json": _json(data),
        "leaderboard.json": _json(_leaderboard(found)),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    files = [path for picture in pictures for path in picture.paths]
    return text, [*(folder / name for name in contents), *files]


def _raised(paths: Iterable[pathlib.Path]) -> Iterator[Mapping[str, Any]]:
    """Yield the failures beside each ``rows.jsonl``; other files of rows have none."""
    for file in dict.fromkeys(map(comparable.rows_file, paths)):
        if file.name == ROWS:
            yield from jsonl.read(file.with_name(FAILURES))


def require_extras() -> None:
    """Check the packages of a report; for use before runs that take hours.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    for name in ("jinja2", "matplotlib", "tabulate"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"reports need {name}: pip install 'learned-opt-rl[eval]'"
            )
    figures.require_matplotlib()


def summary(found: Iterable[Results]) -> str:
    """Return tables and notes of the most important results, for a terminal."""
    parts = []
    for result in found:
        label = tables.one_line(result.setting.label)
        parts += [label] if label else []
        shown = tables.environments(result.measures, result.baseline)
        parts.append(tables.render(shown, "plain"))
        if result.aggregates:
            method = result.normalized.method
            heading = "not normalized" if method == "raw" else f"normalized by {method}"
            merged = _with_improvement(result)
            parts.append(tables.render(tables.aggregates(merged, heading), "plain"))
        parts += [f"- {tables.one_line(note)}" for note in result.notes]
    return "\n\n".join(parts)


def _report(
    rows: list[Row],
    found: list[Results],
    varied: Mapping[str, Along],
    failures: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the whole report as JSON; only ``timing`` depends on the machine."""
    return {
        "format": 1,
        "run": _what_was_run(rows),
        "settings": [_setting(result) for result in found],
        "generalization": {
            axis: {
                name: {
                    rule: [{"at": value, **e.to_dict()} for value, e in group.items()]
                    for rule, group in rules.items()
                }
                for name, rules in along.items()
            }
            for axis, along in varied.items()
        },
        "failures": [{k: str(f.get(k, "")) for k in _FAILURE} for f in failures],
        "timing": [
            {
                "setting": result.setting.label,
                "rule": m.rule,
                "environment": m.environment,
                **{key: getattr(m, key) for key in TIMING},
            }
            for result in found
            for m in result.measures
        ],
    }


def _what_was_run(rows: list[Row]) -> dict[str, Any]:
    def distinct(values: Iterable[Any]) -> list[Any]:
        return [value for _, value in sorted({repr(v): v for v in values}.items())]

    def by_environment(field: str) -> dict[str, list[Any]]:
        return {
            name: distinct(
                dict(sorted(getattr(row, field).items()))
                for row in rows
                if row.environment == name
            )
            for name in sorted({row.environment for row in rows})
        }

    return {
        "rules": sorted({row.rule for row in rows}),
        "environments": sorted({row.environment for row in rows}),
        "seeds": sorted({row.seed for row in rows}),
        "steps": sorted({row.total_timesteps for row in rows}),
        "agents": sorted({row.agent for row in rows}),
        "runs": len(rows),
        "revisions": distinct(row.revision or "unknown" for row in rows),
        "devices": distinct(row.device or "unknown" for row in rows),
        "processors": distinct(row.cpu or "unknown" for row in rows),
        "versions": distinct(dict(sorted(row.versions.items())) for row in rows),
        "environment_details": by_environment("environment_details"),
        "configurations": by_environment("config"),
        "commands": comparable.commands(rows),
    }


def _setting(result: Results) -> dict[str, Any]:
    return statistics.plain(
        {
            "label": result.setting.label,
            "variant": result.setting.variant,
            "results": [m.to_dict() for m in result.measures],
            "normalization": {
                "method": result.normalized.method,
                "description": result.normalized.description,
                "references": result.normalized.references,
            },
            "environments": result.scores.environments,
            "aggregates": result.aggregates,
            "distributions": result.split,
            "baseline": result.baseline,
            "probability_of_improvement": result.improvement,
            "performance_profiles": {
                "thresholds": result.thresholds,
                "rules": {
                    rule: dict(zip(("share", "low", "high"), profile, strict=True))
                    for rule, profile in result.profiles.items()
                },
            },
            "notes": result.notes,
        }
    )


class Picture(NamedTuple):
    """A figure on disk, PNG and SVG; section None is all settings together."""

    section: int | None
    paths: list[pathlib.Path]
    caption: str

    def base64(self) -> str:
        """Return the SVG for a data URL, in which its text cannot run as a script."""
        (svg,) = (path for path in self.paths if path.suffix == ".svg")
        return base64.b64encode(svg.read_bytes()).decode()


def draw(
    found: list[Results], varied: Mapping[str, Along], folder: pathlib.Path
) -> list[Picture]:
    """Draw all figures of a report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index, result in enumerate(found):
        ending = f"-{index + 1}" if len(found) > 1 else ""
        for name, caption, figure in _figures_of(result):
            paths = comparison.save(figure, folder / f"{name}{ending}")
            pictures.append(Picture(index, paths, caption))
    for index, (axis, values) in enumerate(varied.items()):
        figure = comparison.generalization_figure(values, axis)
        # An axis may be any text, and a file name may not.
        name = f"generalization-{index + 1}-{re.sub('[^A-Za-z0-9_]+', '_', axis)[:40]}"
        what = "without each feature" if axis == "features" else f"over {axis}"
        caption = f"Final return, not normalized, {what}: {_means('intervals')}"
        paths = comparison.save(figure, folder / name)
        pictures.append(Picture(None, paths, caption))
    return pictures


def _means(what: str) -> str:
    least = statistics.MIN_SEEDS
    return f"means over seeds with 95% bootstrap {what} (none below {least} seeds)"


def _figures_of(result: Results) -> Iterator[tuple[str, str, "Figure"]]:
    """Yield the name, the caption and the figure of everything in a setting."""
    rows = result.setting.rows
    caption = f"Learning curves: {_means('bands')}"
    yield "curves", caption, comparison.curves_figure(rows)
    if any(row.dormant for row in rows):
        caption = f"Share of dormant neurons (dormancy <= 0.025): {_means('bands')}"
        yield "dormancy", caption, comparison.curves_figure(rows, "dormant")
    if result.aggregates:
        caption = "Aggregates over environments with 95% intervals"
        yield "aggregates", caption, comparison.aggregate_figure(result.aggregates)
    if result.improvement:
        baseline = result.baseline
        caption = (
            f"Probability of a higher return than {baseline}'s, with 95% intervals"
        )
        figure = comparison.improvement_figure(result.improvement, baseline)
        yield "improvement", caption, figure
    if result.profiles:
        caption = "Performance profiles: the share of runs above each normalized return"
        figure = comparison.profile_figure(result.thresholds, result.profiles)
        yield "profiles", caption, figure


def _with_improvement(result: Results) -> dict[str, dict[str, Estimate]]:
    """Return the aggregates with the probability of improvement as a further one."""
    name = f"P(better than {tables.title(result.baseline)})"
    return {
        rule: estimates
        | ({name: result.improvement[rule]} if rule in result.improvement else {})
        for rule, estimates in result.aggregates.items()
    }


def _page(data: dict[str, Any], found: list[Results], pictures: list[Picture]) -> bytes:
    """Return the page of a report; ``data`` is the report as JSON."""
    text = _template().render(
        run=data["run"],
        failures=data["failures"],
        failed=[_FAILURE, *(tuple(f[k] for k in _FAILURE) for f in data["failures"])],
        found=found,
        pictures=pictures,
        json=lambda value: json.dumps(value, indent=1, ensure_ascii=False),
        distributions=_distributions,
        has_gap=lambda r: any("optimality gap" in e for e in r.aggregates.values()),
        has_paired=lambda r: any(m.paired for m in r.measures),
        statistics=statistics,
        tables=tables,
        with_improvement=_with_improvement,
    )
    # A lone surrogate, which JSON may contain, has no UTF-8.
    return text.encode("utf-8", "replace")


def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,  # names in rows are text, whatever they contain
        finalize=_printable,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _printable(value: object) -> object:
    """Replace control characters in text; markup and numbers stay as they are."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in value)


def _distributions(result: Results) -> dict[str, dict[str, Estimate]]:
    return {
        f"{other} ({kind} of {rule})": estimates
        for rule, kinds in result.split.items()
        for kind, aggregates in kinds.items()
        for other, estimates in aggregates.items()
    }


def _leaderboard(found: Iterable[Results]) -> list[dict[str, Any]]:
    """Return the board of each setting, a line per rule, without `board.COSTS`."""
    return [
        {key: value for key, value in line.to_dict().items() if key not in board.COSTS}
        | {"setting": result.setting.label, "variant": result.setting.variant}
        for result in found
        for line in board.lines(result)
    ]


def _json(data: Any) -> bytes:
    # JSON has no NaN, and a reader in another language would fail on it.
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()
