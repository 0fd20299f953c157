"""The page of a report, section by section, and its pictures."""

import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import gather, html, statistics, tables
from learned_opt_rl.evaluation.report.gather import Results
from learned_opt_rl.evaluation.report.measures import BASELINE
from learned_opt_rl.evaluation.report.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_PLOTS = (
    "There are no pictures here: they need the extra eval "
    "(pip install 'learned-opt-rl[eval]'); then write the report again."
)


class Picture(NamedTuple):
    """A picture in files, PNG and SVG, and what it shows.

    Attributes:
        section: The index of its setting; None for all settings together.
        paths: Its files.
        caption: In words.
    """

    section: int | None
    paths: list[pathlib.Path]
    caption: str


def draw(found: list[Results], folder: pathlib.Path) -> list[Picture]:
    """Draws all there is to draw; nothing without matplotlib."""
    try:
        figures.new_figure(1, 1)
    except MissingExtraError:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index, result in enumerate(found):
        ending = f"-{index + 1}" if len(found) > 1 else ""
        for name, caption, make in _figures_of(result):
            paths = comparison.save(make(), folder / f"{name}{ending}")
            pictures.append(Picture(index, paths, caption))
    for index, (axis, values) in enumerate(gather.axes(found).items()):
        figure = comparison.generalisation_figure(values, axis)
        name = f"generalisation-{index + 1}-{re.sub('[^A-Za-z0-9_]+', '_', axis)[:40]}"
        caption = _caption(axis)
        paths = comparison.save(figure, folder / name)
        pictures.append(Picture(None, paths, caption))
    return pictures


def _caption(axis: str) -> str:
    what = "without each feature" if axis == "features" else f"over {axis}"
    least = statistics.MIN_SEEDS
    return (
        f"Final return, not normalised, {what}: means over seeds with 95% bootstrap "
        f"intervals (none below {least} seeds)"
    )


def _figures_of(
    result: Results,
) -> Iterator[tuple[str, str, Callable[[], "Figure"]]]:
    """Name, caption and maker of each picture of a setting."""
    rows = result.setting.rows
    least = statistics.MIN_SEEDS
    curves = f"means over seeds with 95% bootstrap bands (none below {least} seeds)"
    yield (
        "curves",
        f"Learning curves: {curves}",
        lambda: comparison.curves_figure(rows),
    )
    if any(row.get("dormant") for row in rows):
        yield (
            "dormancy",
            f"Share of dormant neurons (dormancy <= 0.025): {curves}",
            lambda: comparison.curves_figure(rows, "dormant"),
        )
    if result.aggregates:
        yield (
            "aggregates",
            "Aggregates over environments with 95% intervals",
            lambda: comparison.aggregate_figure(result.aggregates),
        )
    if result.improvement:
        yield (
            "improvement",
            f"Probability of a higher return than that of {result.baseline}, with 95% "
            "intervals",
            lambda: comparison.improvement_figure(result.improvement, result.baseline),
        )
    if result.profiles:
        yield (
            "profiles",
            "Performance profiles: the share of runs above each normalised return",
            lambda: comparison.profile_figure(result.thresholds, result.profiles),
        )


def with_improvement(result: Results) -> dict[str, dict[str, Estimate]]:
    """The aggregates with one more column where rules are compared with a baseline."""
    title = tables.title(result.baseline)
    return {
        rule: estimates
        | (
            {f"P(better than {title})": result.improvement[rule]}
            if rule in result.improvement
            else {}
        )
        for rule, estimates in result.aggregates.items()
    }


def page(data: dict[str, Any], found: list[Results], pictures: list[Picture]) -> bytes:
    """The whole page."""
    parts = [*_what_was_run(data["run"], data["failures"])]
    if not statistics.has_rliable():
        parts.append(html.paragraph(gather.NO_RLIABLE, "note"))
    if not pictures:
        parts.append(html.paragraph(_NO_PLOTS, "note"))
    for index, result in enumerate(found):
        own = [picture for picture in pictures if picture.section == index]
        parts += _setting(result, own)
    common = [picture for picture in pictures if picture.section is None]
    if common:
        parts += [html.heading("Generalisation"), *map(_picture, common)]
    parts += _failures(data["failures"])
    parts += _timing(found)
    parts += _again(data["run"])
    return html.page("Comparison of update rules", parts)


def _what_was_run(run: dict[str, Any], failures: list[Any]) -> Iterator[str]:
    yield html.heading("What was run")
    facts = {
        "rules": ", ".join(run["rules"]),
        "environments": ", ".join(run["environments"]),
        "seeds": ", ".join(map(str, run["seeds"])),
        "environment steps": ", ".join(f"{steps:,}" for steps in run["steps"]),
        "agent": ", ".join(run["agents"]),
        "runs": str(run["runs"]),
        "raised an error": str(len(failures)),
        "git revision": ", ".join(map(str, run["revisions"])),
        "device": ", ".join(map(str, run["devices"])),
        "processor": "; ".join(map(str, run["processors"])),
    }
    yield from (html.paragraph(f"{name}: {value}") for name, value in facts.items())
    for name in ("versions", "environment_details", "configurations"):
        yield html.heading(name.replace("_", " "), 3)
        yield html.code(json.dumps(run[name], indent=1, ensure_ascii=False))


def _setting(result: Results, pictures: list[Picture]) -> Iterator[str]:
    label = f": {result.setting.label}" if result.setting.label else ""
    yield html.heading(f"Results{label}")
    yield from (html.paragraph(note, "note") for note in result.notes)
    yield html.heading("Each environment", 3)
    yield html.table(tables.environments(result.measures, result.baseline))
    if result.aggregates:
        yield html.heading("Aggregates", 3)
        yield html.paragraph(
            "Over " + ", ".join(result.scores.environments) + ".", "soft"
        )
        yield html.table(tables.aggregates(with_improvement(result), "rule"))
    yield html.paragraph(" ".join(_method(result)), "soft")
    yield from _distributions(result)
    yield html.heading("Pictures", 3)
    yield from map(_picture, pictures)


def _method(result: Results) -> Iterator[str]:
    """How the numbers above were made; nothing of those that are not shown."""
    baseline = "tuned Adam" if result.baseline == BASELINE else result.baseline
    if result.aggregates:
        yield (
            f"Every run gives one final return, {result.normalised.description}. The "
            "mean and the median are of the environments' means. The IQM "
            "(interquartile mean) is the mean of the middle half of all runs, which "
            "outliers do not sway."
        )
    if any("optimality gap" in found for found in result.aggregates.values()):
        yield (
            "The optimality gap is how far runs fall short of 1 on average, where more "
            "than 1 counts as 1; lower is better."
        )
    if result.improvement:
        yield (
            f"P(better than {tables.title(result.baseline)}) is the probability that a "
            f"run of the rule returns more than a run of {baseline} in the same "
            "environment; one half means neither is better."
        )
    yield (
        "Brackets hold 95% percentile intervals of the bootstrap over seeds; those of "
        f"aggregates are stratified ({statistics.RESAMPLES} samples): runs are drawn "
        "again within each environment (Agarwal et al., 2021; by rliable). They say "
        "what other seeds might have given, not other environments. Fewer than "
        f"{statistics.MIN_SEEDS} seeds have no interval; those of few seeds are too "
        "narrow: percentile intervals then cover less than 95%."
    )
    if any(found.paired for found in result.measures):
        yield (
            f"The paired difference is from {baseline}, seed by seed: the same seed "
            "starts with the same agent."
        )


def _distributions(result: Results) -> Iterator[str]:
    """In and out of distribution apart, each learned rule beside the baseline."""
    if not result.split:
        return
    yield html.heading("In and out of distribution", 3)
    yield html.paragraph(
        "i.d. are environments that the rule's card says it was meta-trained on, "
        "o.o.d. all others; the baseline on the same ones beside it.",
        "soft",
    )
    found = {
        f"{other} ({kind} of {rule})": estimates
        for rule, kinds in result.split.items()
        for kind, aggregates in kinds.items()
        for other, estimates in aggregates.items()
    }
    yield html.table(tables.aggregates(found, "rule"))


def _picture(picture: Picture) -> str:
    (svg,) = (path for path in picture.paths if path.suffix == ".svg")
    return html.picture(svg.read_bytes(), picture.caption)


def _failures(failures: list[dict[str, str]]) -> Iterator[str]:
    yield html.heading("Failures")
    if not failures:
        yield html.paragraph("Nothing raised an error.")
        return
    header = ("rule", "environment", "agent", "message")
    cells = [tuple(failure[name] for name in header) for failure in failures]
    yield html.table([header, *cells])
    yield html.paragraph("failures.jsonl has the tracebacks.", "soft")


def _timing(found: list[Results]) -> Iterator[str]:
    yield html.heading("Timing")
    yield html.paragraph(
        "Of all agents that were trained together, on this machine and without "
        "compilation unless said otherwise. All else in this report is the same "
        "however fast the machine was.",
        "soft",
    )
    for result in found:
        if result.setting.label:
            yield html.heading(result.setting.label, 3)
        yield html.table(tables.timings(result.measures, result.baseline))


def _again(run: dict[str, Any]) -> Iterator[str]:
    yield html.heading("Run it again")
    yield html.code("\n".join(run["commands"]))
