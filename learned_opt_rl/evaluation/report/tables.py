"""Results as tables of text; `render` sets them for a terminal or for Markdown."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from learned_opt_rl.evaluation.report.board import Line
from learned_opt_rl.evaluation.report.measures import BASELINE, Measures
from learned_opt_rl.evaluation.report.statistics import METRICS, Estimate

Table = list[tuple[str, ...]]
"""Cells as text, the header first."""
Column = Callable[[Measures], str]


class Best(str):
    """The cell of the best value in its column."""


Style = Literal["plain", "github", "latex"]


def render(table: Table, style: Style, width: int | None = None) -> str:
    """Set a table, whose first columns are names, as ``tabulate`` does.

    The style ``"plain"`` is for a terminal, ``"github"`` for Markdown, ``"latex"`` for
    papers (booktabs), with the best values in bold. In a terminal ``width`` characters
    wide, the last columns are left out until the others fit. If not even three fit, the
    first of two names is a heading.
    """
    clean = {"plain": one_line, "github": _markdown, "latex": _latex}[style]
    lines = [[clean(cell) for cell in line] for line in table]
    if style == "latex":
        return _booktabs(_tabulated(lines, "latex_raw"))
    if width is None:
        return _tabulated(lines, style)
    names = count_names(table)
    for columns in range(len(lines[0]), names, -1):
        shown = _tabulated([line[:columns] for line in lines], style)
        if max(map(len, shown.splitlines())) <= width:
            return shown
    if names == 2:
        header, *rest = table
        groups = {
            name: [line[1:] for line in rest if line[0] == name]
            for name in dict.fromkeys(line[0] for line in rest)
        }
        return "\n".join(
            f"{_cut(one_line(name), width)}\n{render([header[1:], *own], style, width)}"
            for name, own in groups.items()
        )
    shown = _tabulated([line[: names + 1] for line in lines], style)
    return "\n".join(_cut(line, width) for line in shown.splitlines())


def _tabulated(lines: list[list[str]], style: str) -> str:
    import tabulate

    header, *rest = lines
    names = count_names([tuple(header)])
    return tabulate.tabulate(
        rest,
        header,
        style,
        colalign=["left" if i < names else "right" for i in range(len(header))],
        disable_numparse=True,  # cells are final: "1.00" must not become 1
    )


def count_names(table: Table) -> int:
    """Return the number of columns that hold names: one or two."""
    return 1 + (table[0][1:2] in [("rule",), ("agent",), ("environment",)])


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _booktabs(text: str) -> str:
    rules = iter(("toprule", "midrule", "bottomrule"))
    return re.sub(r"\\hline", lambda _: "\\" + next(rules), text)


def environments(measures: Iterable[Measures], baseline: str = BASELINE) -> Table:
    """Return the measures of each rule in each environment, except the timings."""
    measures, name = list(measures), title(baseline)
    columns = {
        **_columns("environment", "rule"),
        "final return [95%]": _best(measures, "final", "final return [95%]"),
        f"minus {name}, paired [95%]": lambda m: cell(m.paired),
        **_columns("seeds"),
        "AUC [95%]": _best(measures, "auc", "AUC [95%]"),
        f"steps to {name}'s return": lambda m: _number(m.steps_to_baseline, ",.0f"),
        **_columns("dormant at the end", "NaN updates", "without a return"),
    }
    return _table(measures, columns)


def _best(measures: Sequence[Measures], field: str, column: str) -> Column:
    """Return a column whose best value in each environment is a `Best`."""
    values: dict[str, list[float]] = {}
    for m in measures:
        if (found := getattr(m, field)) is not None:
            values.setdefault(m.environment, []).append(found.value)

    def marked(m: Measures) -> str:
        text, own = _COLUMNS[column](m), values.get(m.environment, [])
        found = getattr(m, field)
        is_best = found is not None and len(own) > 1 and found.value == max(own)
        return Best(text) if is_best else text

    return marked


def timings(measures: Iterable[Measures], baseline: str = BASELINE) -> Table:
    """Return the times of runs; all agents that ran together share the seconds."""
    last = f"s to {title(baseline)}'s return"
    columns = {
        **_columns("environment", "rule", *_TIMES),
        last: lambda m: _number(m.seconds_to_baseline, ".1f"),
    }
    return _table(measures, columns)


def results(measures: Iterable[Measures]) -> Table:
    """Return final returns, failed runs and times, a line per rule and environment."""
    names = ("rule", "environment", "seeds", "final return [95%]", "without a return")
    return _table(measures, _columns(*names, *_TIMES))


def aggregates(
    found: Mapping[str, Mapping[str, Estimate]],
    *,
    brief: bool = False,
    mark: bool = True,
) -> Table:
    """Return aggregates over environments, a line per rule; the IQM comes first.

    With ``brief``, leave out the other `METRICS`. ``mark`` makes the best values
    `Best`.
    """
    named = {name: None for estimates in found.values() for name in estimates}
    columns = [
        *(m for m in ("IQM",) if m in named),
        *(n for n in named if n not in METRICS),
        *(m for m in METRICS if m in named and m != "IQM" and not brief),
    ]
    best = {}
    for name in columns:
        values = [e[name].value for e in found.values() if name in e]
        if mark and len(values) > 1:
            best[name] = min(values) if name == "optimality gap" else max(values)
    lines = [
        (
            rule,
            *(_marked(estimates.get(name), best.get(name)) for name in columns),
            str(min((e.seeds for e in estimates.values()), default=0)),
        )
        for rule, estimates in found.items()
    ]
    return [("rule", *(f"{name} [95%]" for name in columns), "seeds"), *lines]


def _marked(estimate: Estimate | None, best: float | None) -> str:
    text = cell(estimate)
    return Best(text) if estimate and estimate.value == best else text


def board(lines: Sequence[Line], baseline: str = BASELINE) -> Table:
    """Return the ranks and aggregates of a board."""
    name = title(baseline)
    heads = (
        "rule",
        "agent",
        "average rank",
        "IQM [95%]",
        f"P(better than {name}) [95%]",
    )
    heads += (f"AUC / {name}'s", f"update / {name}'s", f"run / {name}'s")
    return [
        heads,
        *(
            (
                line.rule,
                line.agent,
                _rank(line),
                cell(line.iqm) if line.iqm else _too_few(line),
                "1/2" if line.rule == baseline else cell(line.improvement),
                _number(line.relative_auc, ".2f"),
                _number(line.update_time, ",.0f"),
                _number(line.run_time, ".2f"),
            )
            for line in lines
        ),
    ]


def board_returns(lines: Sequence[Line], environments: Sequence[str]) -> Table:
    """Return the final return of each rule of a board in each environment."""
    return _by_environment(lines, environments, _COLUMNS["final return [95%]"])


def board_seconds(lines: Sequence[Line], environments: Sequence[str]) -> Table:
    """Return the seconds of each rule of a board to the baseline's return."""
    timed = [line for line in lines if line.run_time]
    found = {line.rule: line.seconds for line in timed}
    return _by_environment(
        timed,
        environments,
        lambda m: _number(found[m.rule].get(m.environment), ",.1f"),
    )


def _by_environment(
    lines: Sequence[Line], environments: Sequence[str], column: Column
) -> Table:
    rows = [
        [column(m) if (m := line.measures.get(name)) else "-" for name in environments]
        for line in lines
    ]
    names = [(line.rule, line.agent) for line in lines]
    cells = [(*name, *row) for name, row in zip(names, rows, strict=True)]
    return [("rule", "agent", *map(_short, environments)), *cells]


def _rank(line: Line) -> str:
    """Return the rank, with the fewest seeds in an environment if they are few."""
    few = min(line.too_few.values(), default=0)
    return _number(line.average_rank, ".1f") + (
        _seeds(few) if few and line.average_rank else ""
    )


def _too_few(line: Line) -> str:
    counts = [f"{_short(name)} {count}" for name, count in line.too_few.items()]
    everywhere = len(counts) == len(line.environments)
    if everywhere and len({*line.too_few.values()}) == 1:
        return f"too few seeds: {next(iter(line.too_few.values()))}"
    return f"too few seeds: {', '.join(counts)}" if counts else "-"


def _short(environment: str) -> str:
    return environment.removesuffix("-MinAtar")


def cell(estimate: Estimate | None) -> str:
    """Return an estimate as text, with its interval or else its number of seeds."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}{_seeds(estimate.seeds)}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _seeds(count: int) -> str:
    return f" ({count} seed{'' if count == 1 else 's'})"


def _counted(m: Measures) -> str:
    """Return how failed runs are counted, to stand next to a number."""
    if not m.failed or m.failed_as is None:
        return ""
    return f"; {_without(m)} as {m.failed_as:.2f}"


def _without(m: Measures) -> str:
    """Return the number of runs that diverged and of those too short for an episode."""
    counts = {"diverged": m.failed - m.too_short, "too short": m.too_short}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def title(baseline: str) -> str:
    """Return the name of a baseline in a heading; tuned Adam is called Adam."""
    return "Adam" if baseline == BASELINE else baseline


def _columns(*names: str) -> dict[str, Column]:
    return {name: _COLUMNS[name] for name in names}


def _table(measures: Iterable[Measures], columns: Mapping[str, Column]) -> Table:
    lines = (tuple(of(m) for of in columns.values()) for m in measures)
    return [tuple(columns), *lines]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def one_line(text: str, keep: str = "") -> str:
    """Replace what would break a line or control a terminal, except ``keep``."""
    return "".join(c if c.isprintable() or c in keep else "?" for c in text)


def _markdown(text: str) -> str:
    # A pipe would end the cell, and Markdown passes HTML on.
    return one_line(text).replace("|", r"\|").replace("<", "&lt;")


def _latex(text: str) -> str:
    shown = one_line(text).translate(_LATEX)
    return rf"\textbf{{{shown}}}" if isinstance(text, Best) else shown


_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\\": r"\textbackslash{}"}
)
_COLUMNS: dict[str, Column] = {
    "environment": lambda m: m.environment,
    "rule": lambda m: m.rule,
    "seeds": lambda m: str(len(m.seeds)),
    "final return [95%]": lambda m: cell(m.final) + _counted(m),
    "AUC [95%]": lambda m: cell(m.auc),
    "dormant at the end": lambda m: _number(m.dormant, ".1%"),
    "NaN updates": lambda m: _number(m.nan_updates, "d"),
    "without a return": lambda m: _without(m) or "-",
    "steps/s": lambda m: _number(m.steps_per_second, ",.0f"),
    "compile s": lambda m: _number(m.compile_seconds, ".1f"),
    "wall s": lambda m: _number(m.wall_seconds, ".1f"),
}
_TIMES = ("steps/s", "compile s", "wall s")
