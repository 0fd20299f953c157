"""The report of a comparison on disk: a page, its numbers, its tables and figures.

From a shell: ``learned-opt-rl report FOLDER``. The same rows give the same bytes, in
whatever order they were made, as long as `comparable.named` gives them the same names.
The page needs no network and no scripts.
"""

import base64
import csv
import importlib.util
import io
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import board, comparable, statistics, tables
from learned_opt_rl.evaluation.report.gather import Along, Results
from learned_opt_rl.evaluation.report.measures import TIMING
from learned_opt_rl.evaluation.report.normalization import check
from learned_opt_rl.evaluation.report.report import (
    Report,
    aggregate_records,
    load,
    result_records,
    run_records,
    with_improvement,
)
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.evaluation.report.verdict import verdict
from learned_opt_rl.evaluation.runs.plan import Plan
from learned_opt_rl.evaluation.runs.row import ROWS, Row, read_rows
from learned_opt_rl.rundir.atomic import write_atomically

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

# The fields of a run that raised an error.
_FAILURE = ("rule", "environment", "agent", "message")
_TEMPLATES = pathlib.Path(__file__).parent
# What a page and a notebook show for the markers of figures.
_SYMBOLS = dict(zip("osD^vPX*", "●■◆▲▼✚✖★", strict=True))


def write(
    folder: str | pathlib.Path,
    *sources: str | pathlib.Path,
    width: int | None = None,
    **options: Any,
) -> tuple[str, list[pathlib.Path]]:
    """Write the report of one or more comparisons.

    Args:
        folder: Where to write the report.
        sources: As for `load`; by default the folder itself.
        width: Characters in a line of the terminal.
        **options: As for `load`: ``normalization``, ``baseline``, ``title``, ``only``,
            ``plan``.

    Returns:
        A summary for the terminal, and the files written: ``report.html``
        (self-contained), ``report.json`` (all numbers; only its ``timing`` depends on
        the speed of the machine), ``leaderboard.json``, the tables as CSV and LaTeX in
        ``tables/`` and the figures in ``plots/``.

    Raises:
        MissingExtraError: As for `require_extras`.
        ValueError: As for `load`.

    Example:
        >>> write("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/rows.jsonl has no rows; run a comparison first
    """
    require_extras()
    report = load(*(sources or (folder,)), **options)
    return report.summary(width), report.write(folder)


def write_report(report: Report, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write a report into a folder and return the paths of its files; see `write`."""
    require_extras()
    data = _report(report)
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    pictures = draw(report, folder / "plots")
    contents = {
        "report.html": _page(report, data, pictures),
        "report.json": _json(data),
        "leaderboard.json": _json(_leaderboard(report.found)),
    }
    # A lone surrogate, which JSON may contain, has no UTF-8.
    contents |= {
        f"tables/{name}": text.encode("utf-8", "replace")
        for name, text in _tables(report)
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    files = [path for picture in pictures for path in picture.paths]
    return [*(folder / name for name in contents), *files]


def check_request(
    folder: pathlib.Path, plan: Plan, normalization: str, baseline: str | None
) -> None:
    """Check the report of a plan before its runs, which may take hours.

    Raises:
        MissingExtraError: As for `require_extras`.
        ValueError: The runs, and those in the folder with the same settings, will not
            include the baseline or the reference of the normalization.
    """
    require_extras()
    rows, settings = read_rows(folder / ROWS), {cell.setting for cell in plan.cells}
    beside = [row for row in rows if row.setting in settings]
    known = {row.rule for row in comparable.named(beside, plan.digests)}
    check(
        normalization,
        baseline,
        rules=known | plan.digests.keys(),
        environments=[*dict.fromkeys(cell.env.name for cell in plan.cells)],
    )


def require_extras() -> None:
    """Check the packages of a report.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    for name in ("jinja2", "matplotlib", "tabulate"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"reports need {name}: pip install 'learned-opt-rl[eval]'"
            )
    figures.require_matplotlib()


def _report(report: Report) -> dict[str, Any]:
    """Return the whole report as JSON; only ``timing`` depends on the machine."""
    return {
        "format": 1,
        "title": report.title,
        "left_out": list(report.left_out),
        "run": _what_was_run(report.rows),
        "settings": [_setting(result) for result in report.found],
        "generalization": _along(report.varied),
        "failures": [{k: str(f.get(k, "")) for k in _FAILURE} for f in report.failures],
        "timing": [
            {
                "setting": result.setting.label,
                "rule": m.rule,
                "environment": m.environment,
                **{key: getattr(m, key) for key in TIMING},
            }
            for result in report.found
            for m in result.measures
        ],
    }


def _along(varied: Mapping[str, Along]) -> dict[str, Any]:
    return {
        axis: {
            name: {
                rule: [{"at": value, **e.to_dict()} for value, e in group.items()]
                for rule, group in rules.items()
            }
            for name, rules in along.items()
        }
        for axis, along in varied.items()
    }


def _what_was_run(rows: Sequence[Row]) -> dict[str, Any]:
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
        "steps_run": sorted({row.steps_run for row in rows}),
        "agents": sorted({row.agent for row in rows}),
        "runs": len(rows),
        "revisions": distinct(row.revision or "unknown" for row in rows),
        "devices": distinct(row.device or "unknown" for row in rows),
        "processors": distinct(row.cpu or "unknown" for row in rows),
        "versions": distinct(dict(sorted(row.versions.items())) for row in rows),
        "environment_details": by_environment("environment_details"),
        "configurations": by_environment("config"),
        "commands": comparable.commands(rows),
        # No command makes the runs of these.
        "given": sorted({row.rule for row in rows if row.given}),
    }


def _setting(result: Results) -> dict[str, Any]:
    return statistics.plain(
        {
            "label": result.setting.label,
            "verdict": verdict(result),
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
    """A figure on disk, in each of `comparison.FORMATS`, and in the page."""

    name: str
    section: int | None  # None is all settings together
    paths: list[pathlib.Path]
    caption: str
    url: str  # of the SVG, as data
    narrow: str  # the same in one column, for phones; may be empty


def draw(report: Report, folder: pathlib.Path) -> list[Picture]:
    """Draw all figures of a report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    narrow = {name: _data_url(make()) for name, _, _, make in report.pictures(1)}
    pictures = []
    for name, section, caption, make in report.pictures():
        # An axis may be any text, and a file name may not.
        stem = re.sub("[^A-Za-z0-9_-]+", "_", name)[:60]
        figure = make()
        paths = comparison.save(figure, folder / stem)
        url = _data_url(figure)
        pictures.append(
            Picture(name, section, paths, caption, url, narrow.get(name, ""))
        )
    return pictures


def _data_url(figure: "Figure") -> str:
    """Return a figure as a data URL, in which its text cannot run as a script."""
    file = io.BytesIO()
    figures.render(figure, file, "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _tables(report: Report) -> Iterable[tuple[str, str]]:
    """Yield the name and the text of each table as a file."""
    for name, records in (
        ("runs", run_records(report.found)),
        ("results", result_records(report.found)),
        ("aggregates", aggregate_records(report.found)),
    ):
        if records:
            yield f"{name}.csv", _csv(records)
    for index, result in enumerate(report.found):
        ending = f"-{index + 1}" if len(report.found) > 1 else ""
        shown = tables.environments(result.measures, result.baseline)
        yield f"results{ending}.tex", tables.render(shown, "latex") + "\n"
        if result.aggregates:
            shown = tables.aggregates(with_improvement(result))
            yield f"aggregates{ending}.tex", tables.render(shown, "latex") + "\n"


def _csv(records: list[dict[str, Any]]) -> str:
    file = io.StringIO()
    names = dict.fromkeys(name for record in records for name in record)
    writer = csv.DictWriter(file, [*names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _inert(v) for k, v in one.items()} for one in records)
    return file.getvalue()


def _inert(value: Any) -> Any:
    """Mark text that a spreadsheet would execute as a formula."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return f"'{value}" if is_formula else value


def _page(report: Report, data: dict[str, Any], pictures: list[Picture]) -> bytes:
    """Return the page of a report; ``data`` is the report as JSON."""
    text = _template("report.html").render(
        **_context(report),
        run=data["run"],
        failures=data["failures"],
        failed=[_FAILURE, *(tuple(f[k] for k in _FAILURE) for f in data["failures"])],
        pictures=pictures,
        provenance=_provenance(report.rows, data["run"]),
        distributions=_distributions,
        has_gap=any(
            "optimality gap" in e for r in report.found for e in r.aggregates.values()
        ),
        has_paired=any(m.paired for r in report.found for m in r.measures),
        has_failed=any(m.failed for r in report.found for m in r.measures),
    )
    # A lone surrogate, which JSON may contain, has no UTF-8.
    return text.encode("utf-8", "replace")


def fragment(report: Report) -> str:
    """Return the HTML that a notebook shows: verdict, table and learning curves."""
    require_extras()
    curves = [
        _data_url(comparison.curves_figure(r.setting.rows, styles=report.styles))
        for r in report.found
    ]
    return _template("fragment.html").render(**_context(report), curves=curves)


def _context(report: Report) -> dict[str, Any]:
    return {
        "report": report,
        "found": report.found,
        "keys": {
            rule: (style["color"], _SYMBOLS[style["marker"]])
            for rule, style in report.styles.items()
        },
        "is_best": lambda cell: isinstance(cell, tables.Best),
        "statistics": statistics,
        "tables": tables,
        "verdict": verdict,
        "with_improvement": with_improvement,
    }


def _provenance(rows: Iterable[Row], run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what runs depend on as pairs of a name and a text, each fact once."""
    lines = [(name, ", ".join(run[name])) for name in ("revisions", "devices")]
    lines.append(("processors", "; ".join(run["processors"])))
    rows = list(rows)
    for field, title in (
        ("config", "settings"),
        ("environment_details", "environment"),
        ("versions", "versions"),
    ):
        values: dict[str, dict[str, set[str]]] = {}
        for row in rows:
            for key, value in getattr(row, field).items():
                by_name = values.setdefault(key, {})
                by_name.setdefault(row.environment, set()).add(comparable.text(value))
        names = {row.environment for row in rows}
        own: dict[str, list[str]] = {}
        for key, by_name in sorted(values.items()):
            distinct = {tuple(sorted(found)) for found in by_name.values()}
            same = len(distinct) == 1 and by_name.keys() == names
            for name in [""] if same else sorted(by_name):
                found = distinct if same else {tuple(sorted(by_name[name]))}
                text = " or ".join(value for one in found for value in one)
                own.setdefault(name, []).append(f"{key}={text}")
        lines += [
            (f"{title} of {name}" if name else title, ", ".join(own[name]))
            for name in sorted(own)
        ]
    return lines


def _template(name: str) -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # names in rows are text, whatever they contain
        finalize=_printable,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _printable(value: object) -> object:
    """Replace control characters in text; markup and numbers stay as they are."""
    return tables.one_line(value, keep="\n") if type(value) is str else value


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
