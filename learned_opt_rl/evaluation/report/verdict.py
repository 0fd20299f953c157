"""The verdict of a comparison in a few sentences."""

from collections.abc import Sequence

from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.gather import Results
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS, Estimate


def verdict(result: Results) -> str:
    """Return which rules are better than the baseline, and the numbers of the best.

    A rule is better if the interval of its probability of improvement is above one
    half, worse if it is below. Fewer than five seeds give no interval and no verdict.
    """
    baseline = tables.title(result.baseline)
    where = _where(result)
    if not result.improvement:
        found = result.aggregates
        rules = ", ".join(found) or ", ".join(sorted({m.rule for m in result.measures}))
        return f"No rule is compared with {baseline}. Rules that ran: {rules}. {where}"
    groups: dict[str, list[str]] = {}
    for rule, estimate in result.improvement.items():
        groups.setdefault(_group(estimate), []).append(rule)
    best = max(result.improvement, key=lambda r: result.aggregates[r]["IQM"].value)
    iqm, improvement = result.aggregates[best]["IQM"], result.improvement[best]
    parts = [
        f"{name.format(baseline=baseline)}: {', '.join(groups[name])}."
        for name in (_BETTER, _EQUAL, _WORSE)
        if name in groups
    ]
    if _UNKNOWN in groups:
        rules = "any rule" if len(groups) == 1 else ", ".join(groups[_UNKNOWN])
        parts.append(
            f"Too few seeds to call {rules} better or worse than {baseline}; run at "
            f"least {MIN_SEEDS}."
        )
    others = len(result.improvement)
    which = f"The interquartile mean of {best} is"
    if others > 1:
        # The baseline's own may be higher still.
        which = (
            f"Of the {others} rules compared with {baseline}, {best} has the highest "
            "interquartile mean:"
        )
    parts.append(
        f"{which} {tables.cell(iqm)}{_unit(result)}. It returns more than {baseline} "
        f"in {_percent(improvement)} of all pairs of runs. {where}"
    )
    return " ".join(parts)


_BETTER = "Better than {baseline}"
_EQUAL = "No clear difference from {baseline}"
_WORSE = "Worse than {baseline}"
_UNKNOWN = "unknown"


def _group(improvement: Estimate) -> str:
    if improvement.low is None or improvement.high is None:
        return _UNKNOWN
    if improvement.low > 0.5:
        return _BETTER
    return _WORSE if improvement.high < 0.5 else _EQUAL


def _unit(result: Results) -> str:
    method = result.normalized.method
    if method == "raw":
        return ""
    if method == "adam" or method.startswith("rule:"):
        return f" times {tables.title(method.removeprefix('rule:'))}'s return"
    return f" (normalized by {method})"


def _percent(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0%}"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def _where(result: Results) -> str:
    rows = result.setting.rows
    names = result.scores.environments or sorted({row.environment for row in rows})
    seeds = sorted({len(m.seeds) for m in result.measures})
    steps = sorted({row.steps_run for row in rows})
    return (
        f"({_range(steps)} steps, {_range(seeds)} seed{'s' * (seeds != [1])}, "
        f"{', '.join(names) if len(names) < 3 else f'{len(names)} environments'})"
    )


def _range(values: Sequence[float]) -> str:
    ends = [f"{v:,.0f}" for v in (values[0], values[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
