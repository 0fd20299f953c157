"""The verdict of a comparison in a few sentences."""

from collections.abc import Iterable, Iterator, Sequence

from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.gather import Results
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS, Estimate


def verdict(result: Results) -> str:
    """Return which rules are better than the baseline, and the numbers of the best.

    A rule is better if the interval of its probability of improvement is above one
    half, worse if it is below. Fewer than five seeds give no interval and no verdict.
    """
    baseline = tables.title(result.baseline)
    if not result.improvement:
        names = result.aggregates or sorted({m.rule for m in result.measures})
        parts = [f"No rule is compared with {baseline}. Rules that ran: "]
        parts[0] += f"{', '.join(names)}."
        return " ".join([*parts, *_highest(result, result.aggregates), _where(result)])
    groups: dict[str, list[str]] = {}
    for rule, estimate in result.improvement.items():
        groups.setdefault(_group(estimate), []).append(rule)
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
    return " ".join(
        [*parts, *_highest(result, result.improvement, baseline), _where(result)]
    )


def _highest(
    result: Results, rules: Iterable[str], baseline: str = ""
) -> Iterator[str]:
    """Yield sentences about the highest interquartile mean, which rules may share."""
    found = {rule: result.aggregates[rule]["IQM"] for rule in rules}
    if not found:
        return
    best = max(found, key=lambda rule: found[rule].value)
    highest, unit = found[best], _unit(result)
    # Equal as far as a table shows them.
    ties = [r for r, e in found.items() if f"{e.value:.2f}" == f"{highest.value:.2f}"]
    value = f"{highest.value:.2f}" if highest.low is None else tables.cell(highest)
    if len(ties) > 1:
        names = f"{', '.join(ties[:-1])} and {ties[-1]}"
        equal = f"{highest.value:.2f}{unit}"
        yield f"{names} have the same interquartile mean: {equal}."
        return
    which = f"The interquartile mean of {best} is {value}"
    if len(found) > 1:
        # The baseline's own may be higher still.
        of = f"Of the {len(found)} rules compared with {baseline}, " * bool(baseline)
        which = f"{of}{best} has the highest interquartile mean: {value}"
    yield f"{which}{unit}."
    estimate = result.improvement.get(best)
    if estimate is not None and estimate.low is not None:
        ties = _has_ties(result, best)
        yield (
            f"It returns more than {baseline} in {_percent(estimate)} of all pairs of "
            f"runs{', where a tie counts half' if ties else ''}."
        )


def _has_ties(result: Results, rule: str) -> bool:
    one, other = (result.scores.matrices[name] for name in (rule, result.baseline))
    return bool((one[:, None] == other[None]).any())


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
