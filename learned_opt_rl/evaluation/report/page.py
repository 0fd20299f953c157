"""The page of a report, which needs no network and no scripts, and its figures."""

import base64
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from learned_opt_rl.evaluation.pictures import comparison
from learned_opt_rl.evaluation.report import statistics, tables
from learned_opt_rl.evaluation.report.gather import Along, Results
from learned_opt_rl.evaluation.report.statistics import Estimate

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

FAILURE = ("rule", "environment", "agent", "message")
"""The fields of a run that raised an error."""

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")


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


def with_improvement(result: Results) -> dict[str, dict[str, Estimate]]:
    """Return the aggregates with the probability of improvement as a further one."""
    name = f"P(better than {tables.title(result.baseline)})"
    return {
        rule: estimates
        | ({name: result.improvement[rule]} if rule in result.improvement else {})
        for rule, estimates in result.aggregates.items()
    }


def page(data: dict[str, Any], found: list[Results], pictures: list[Picture]) -> bytes:
    """Return the page of a report; ``data`` is the report as JSON."""
    text = _template().render(
        run=data["run"],
        failures=data["failures"],
        failed=[FAILURE, *(tuple(f[k] for k in FAILURE) for f in data["failures"])],
        found=found,
        pictures=pictures,
        json=lambda value: json.dumps(value, indent=1, ensure_ascii=False),
        distributions=_distributions,
        has_gap=lambda r: any("optimality gap" in e for e in r.aggregates.values()),
        has_paired=lambda r: any(m.paired for m in r.measures),
        statistics=statistics,
        tables=tables,
        with_improvement=with_improvement,
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
