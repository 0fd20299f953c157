"""Write the tables of measured results for the documentation from the raw rows."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from learned_opt_rl.evaluation.report import normalization, tables
from learned_opt_rl.evaluation.report.measures import measure
from learned_opt_rl.evaluation.runs.row import Row, grouped, read_rows
from learned_opt_rl.evaluation.runs.rules import FEATURES
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation.run import best_row
from learned_opt_rl.training.promotion.verdict import judge, shown
from learned_opt_rl.training.proposal import archive
from learned_opt_rl.training.proposal.curve import draw_curve
from learned_opt_rl.training.proposal.discovery import Discovery
from learned_opt_rl.training.proposal.reply import RefusedReplyError, read_object
from learned_opt_rl.training.symbolic import report as symbolic

DISTILLED = ("teacher", "student", "inputs", "sequence", "step", "error", "return")
"""Columns of the table of distilled networks."""


def write_table(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write ``NAME.md``, a table of the rows of ``NAME.jsonl``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = tables.render(tables.results(measure(read_rows(rows))), "github")
    (folder / f"{rows.stem}.md").write_text(table + "\n", encoding="utf-8")


def write_missing_features(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write the returns of a rule without each of its inputs."""
    found = grouped(read_rows(rows))
    environments = list(dict.fromkeys(environment for _, environment in found))
    lines = [
        [
            _missing(rule),
            *(_seeds_and_mean(found.get((rule, e), [])) for e in environments),
        ]
        for rule in dict.fromkeys(rule for rule, _ in found)
    ]
    _write(folder / f"{rows.stem}.md", ["missing input", *environments], lines)


def write_elsewhere(path: pathlib.Path, *files: pathlib.Path) -> None:
    """Write the final return of each rule in each environment of some files."""
    found = measure(itertools.chain(*map(read_rows, files)))
    environments = list(dict.fromkeys(m.environment for m in found))
    cells = {(m.rule, m.environment): tables.cell(m.final) for m in found}
    lines = [
        [f"`{rule}`", *(cells.get((rule, name), "-") for name in environments)]
        for rule in dict.fromkeys(m.rule for m in found)
    ]
    _write(path, ["rule", *environments], lines)


def write_published(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write our tuned Adam and the published one."""
    found = grouped(read_rows(rows))
    published = normalization.published("adam")
    lines = []
    for environment in dict.fromkeys(environment for _, environment in found):
        seeds = _seeds_and_mean(found[("adam", environment)])
        lines.append([environment, f"{published[environment]:.2f}", seeds])
    heads = ["environment", "Adam, published (16 seeds)", "Adam, measured here"]
    _write(folder / f"{rows.stem}.md", heads, lines)


def write_proposals(path: pathlib.Path, run: pathlib.Path) -> None:
    """Write the proposals of a conversation, and what each of them returned."""
    found = jsonl.read(run / "events.jsonl")
    events = [one for one in found if one["event"] in ("warm", "outcome")]
    environments = list(events[0]["scores"])
    lines = [
        [
            str(number),
            f"`{one['name'] or 'unread'}`",
            *_fitness_and_returns(one, environments),
        ]
        for number, one in enumerate(events)
    ]
    _write(path, ["proposal", "drift", "fitness", *environments], lines)


def _fitness_and_returns(
    event: Mapping[str, Any], environments: Sequence[str]
) -> list[str]:
    if event["fitness"] is None:
        return [event["category"], *("" for _ in environments)]
    returns = [event["scores"][name]["returns"] for name in environments]
    means = [sum(one) / len(one) for one in returns]
    spans = [
        f"{m:.1f} ({min(r):.1f} to {max(r):.1f})"
        for m, r in zip(means, returns, strict=True)
    ]
    return [f"{event['fitness']:.3f}", *spans]


def write_archive(generated: pathlib.Path, run: pathlib.Path, best: int = 12) -> None:
    """Write a table of the best members, the first members and the ranked rules.

    The discovery curve is drawn beside it. Both files are named after the run.
    """
    members = archive.best_first(archive.distinct(Discovery.recorded(run).members))
    ranks = archive.average_ranks(members)
    suggested = _suggestions(run)
    environments = list(members[0].returns)
    lines = []
    for place, (member, rank) in enumerate(zip(members, ranks, strict=True)):
        if member.parent and place >= best:
            continue
        change = "ranked rule" if member.code is None else "first member"
        returns = [member.returns[name] for name in environments]
        lines.append(
            [
                f"`{member.name}`",
                f"{rank:.1f}",
                *("diverged" if one is None else f"{one:.1f}" for one in returns),
                suggested.get(member.text or "", change),
            ]
        )
    heads = ["member", "average rank", *environments, "suggestion"]
    _write(generated / f"{run.name}.md", heads, lines)
    draw_curve(run, generated / f"{run.name}.svg")


def write_symbolic(generated: pathlib.Path, run: pathlib.Path) -> None:
    """Write the formulas of a symbolic distillation as a table and as a figure.

    Both files are named after the run.
    """
    heads, *lines = symbolic.table(run)
    lines = [[*numbers, f"`{formula}`"] for *numbers, formula in lines]
    _write(generated / f"{run.name}.md", heads, lines)
    symbolic.draw_front(run, generated / f"{run.name}.svg")


def _suggestions(run: pathlib.Path) -> dict[str, str]:
    """Return the thinker's suggestion for each expression that was trained."""
    found: dict[str, str] = {}
    latest = ""
    for event in jsonl.read(run / "events.jsonl"):
        if event["event"] == "reply":
            with contextlib.suppress(RefusedReplyError):  # the coder's reply has none
                thought = read_object(event["reply"]["text"], ["suggestion"])
                latest = thought["suggestion"]
        elif event["event"] == "train" and latest:
            found.setdefault(event["of"], " ".join(latest.split()).replace("|", "\\|"))
    return found


def write_evolved(
    path: pathlib.Path, files: Iterable[pathlib.Path], others: Sequence[str]
) -> None:
    """Write the paired differences of rules that ran in every environment to others."""
    found = grouped(itertools.chain(*map(read_rows, files)))
    environments = list(dict.fromkeys(environment for _, environment in found))
    lines = []
    for rule in dict.fromkeys(rule for rule, _ in found):
        mine = [found.get((rule, e), []) for e in environments]
        if not all(mine):
            continue
        cells = []
        for other in others:
            base = [row for e in environments for row in found[(other, e)]]
            same = rule == other
            cells.append("" if same else _over([*itertools.chain(*mine)], base))
        lines.append([f"`{rule}`", *cells])
    _write(path, ["rule", *(f"difference to `{other}`" for other in others)], lines)


def write_distilled(
    generated: pathlib.Path, folder: pathlib.Path, *files: pathlib.Path
) -> None:
    """Write a line for each distilled artifact with its run next to its card."""
    found: dict[str, list[Row]] = {}
    for row in itertools.chain(*map(read_rows, files)):
        found.setdefault(row.rule, []).append(row)
    lines = []
    for path in sorted(folder.glob("**/campaign/config.json")):
        made = json.loads(path.read_text("utf-8"))
        if made.get("kind") == "distillation":
            name = path.parent.parent.relative_to(folder).as_posix()
            over = _over(found.get(name, []), found.get(made["config"]["teacher"], []))
            cells = distilled_cells(
                made["config"], jsonl.read(path.parent / "log.jsonl")
            )
            lines.append([f"`{name}`", *cells, over])
    heads = ["artifact", *DISTILLED, "difference to its teacher"]
    _write(generated / "distilled.md", heads, lines)


def distilled_cells(
    config: Mapping[str, Any], log: Sequence[dict[str, Any]]
) -> list[str]:
    """Return the line of a distillation in the columns of `DISTILLED`.

    Errors are relative to the teacher's rms, on the distillation's own inputs; returns
    are normalized as `DistillationConfig.normalizers` does.
    """
    best = best_row(log, config["select"])
    sizes = ", ".join(f"{k} {v}" for k, v in config["architecture"].items() if v)
    values = [best.get(name) for name in ("error", "return")]
    return [
        config["teacher"],
        f"{config['algorithm']}, {sizes}",
        config["inputs"],
        str(config["sequence"]),
        str(best["step"]),
        *("" if value is None else f"{value:.3g}" for value in values),
    ]


def write_starts(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the final errors of several students of each random teacher."""
    lines = []
    for log in sorted(folder.glob("*.jsonl")):
        ended: dict[int, float] = {}
        for row in jsonl.read(log):
            ended[row["start"]] = 100 * row["error"]
        errors = sorted(ended.values())
        three = errors[0], median(errors), errors[-1]
        lines.append([f"`random:{log.stem}`", *(f"{error:.2g} %" for error in three)])
    _write(path, ["teacher", "best start", "median", "worst"], lines)


def write_windows(folder: pathlib.Path, raw: pathlib.Path) -> None:
    """Write errors of students in whole runs, by decile and leaf; draw their steps."""
    logs = "recurrent_long", "windows_1", "windows", "small"
    first, second, third, small = (
        jsonl.read(raw / f"distill_{x}/log.jsonl") for x in logs
    )
    students = {
        "`distilled/recurrent_long`": first[0],
        "`results/distill_visited`": second[0],  # where the windows started
        "`minatar`": best_row(third, "error"),
        "`results/distill_small`": best_row(small, "error"),
    }
    for place, places in (("decile", "deciles"), ("leaf", "leaves")):
        columns = [[_compared(part) for part in x[places]] for x in students.values()]
        names = [f"`{part[place]}`" for part in next(iter(students.values()))[places]]
        lines = [list(line) for line in zip(names, *columns, strict=True)]
        lines.append(["all", *map(_compared, students.values())])
        _write(folder / f"windows_{places}.md", [place, *students], lines)
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    tenths = range(1, 11)
    for title, row in students.items():
        steps = [part["student_step"] for part in row["deciles"]]
        axes.plot(tenths, steps, marker=".", label=title.strip("`"))
    steps = [part["teacher_step"] for part in third[0]["deciles"]]
    axes.plot(tenths, steps, "k--", label="teacher")
    axes.set(xlabel="tenth of the run", ylabel="rms of an update", ylim=(0, None))
    axes.legend()
    figure.savefig(folder / "windows_steps.svg")


def _compared(row: Mapping[str, Any]) -> str:
    values = row["cosine"], row["log_scale"], row["raw_error"]
    others = ", ".join(f"{value:.3f}" for value in values)
    return f"{100 * row['error']:.1f} % ({others})"


def _over(mine: Sequence[Row], others: Sequence[Row]) -> str:
    """Return the difference if both ran in the same environments."""
    places = [{row.environment for row in rows} for rows in (mine, others)]
    if not mine or places[0] != places[1]:
        return "not run"
    return shown(judge(mine, others, [], "adam").difference)


def write_bench(
    path: pathlib.Path, report: pathlib.Path, rows: str, columns: Sequence[str]
) -> None:
    """Write the given columns of a benchmark's rows to ``path``."""
    found = json.loads(report.read_text(encoding="utf-8"))[rows]
    heads = [column.replace("_", " ") for column in columns]
    lines = [[_cell(row.get(column)) for column in columns] for row in found]
    _write(path, heads, lines)


def _write(
    path: pathlib.Path, heads: Sequence[str], lines: Iterable[Sequence[str]]
) -> None:
    table = [heads, ["---"] * len(heads), *lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in table)
    path.write_text(text + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _missing(rule: str) -> str:
    name, _, feature = rule.partition("@")
    if feature:
        return f"`{feature}`: {FEATURES[feature]}"
    return "nothing" if "/" in name else f"(`{name}`)"


def _seeds_and_mean(rows: list[Row]) -> str:
    """Return the mean and the return of each seed, or how many runs failed."""
    if not rows:
        return "not run"
    failed = sum(row.failed for row in rows)
    if failed:
        return f"{failed} of {len(rows)} failed"
    values = [row.final_return or 0.0 for row in rows]
    seeds = ", ".join(f"{value:.1f}" for value in values)
    return f"**{sum(values) / len(values):.1f}** ({seeds})"
