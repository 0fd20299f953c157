"""The board: one line per rule, with the numbers that rank rules in a setting."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.measures import BASELINE, Measures, measure
from learned_opt_rl.evaluation.report.normalization import Normalized
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS, Estimate
from learned_opt_rl.evaluation.runs.row import Row, grouped


class Cost(NamedTuple):
    """What a rule costs on one quiet host; None if it was not measured."""

    steps_per_second: float | None  # environment steps, in a whole run
    update: (
        float | None
    )  # time of an update of the optimizer relative to the baseline's


_UNKNOWN = Cost(None, None)


@dataclasses.dataclass(frozen=True)
class Line:
    """A rule on the board."""

    rule: str
    agent: str
    revisions: list[str]  # of the code that ran it
    weights_sha256: list[str]  # as recorded; empty without weights or a record
    measures: dict[str, Measures]  # by environment, those with runs
    # Number of seeds in each environment that has too few for an interval.
    too_few: dict[str, int]
    # By mean return, 1 is best, over the environments. Only rules with a return in
    # each have a rank, and only they are counted.
    average_rank: float | None
    # Over all runs in the environments, normalized. None if the rule or the reference
    # has too few seeds.
    iqm: Estimate | None
    # Probability of a higher return than the baseline's.
    improvement: Estimate | None
    # Area under the curve divided by the baseline's, mean over the environments.
    relative_auc: float | None
    update_time: float | None  # of the optimizer, relative to the baseline's
    run_time: float | None  # of a whole run, relative to the baseline's
    # Seconds to the baseline's mean return, by environment.
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the line as JSON."""
        measures = {name: m.to_dict() for name, m in self.measures.items()}
        return statistics.plain({**vars(self), "measures": measures})


def lines(
    rows: Iterable[Row],
    normalized: Normalized,
    baseline: str = BASELINE,
    *,
    environments: Sequence[str] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> list[Line]:
    """Return the board of one setting, the best average rank first.

    Args:
        rows: The rows of the setting.
        normalized: Their returns on a common scale.
        baseline: The rule that others are compared with.
        environments: The environments of the board, by default all of the rows.
        costs: The cost of rules, measured on one quiet host. The times in the rows
            cannot replace them: these runs may have shared a processor.
    """
    rows = list(rows)
    names = tuple(environments or sorted({row.environment for row in rows}))
    groups = grouped(row for row in rows if row.environment in names)
    found: dict[str, dict[str, Measures]] = {}
    for m in measure(rows, baseline):
        if m.environment in names:
            found.setdefault(m.rule, {})[m.environment] = m
    too_few = {rule: _too_few(own, names) for rule, own in found.items()}
    ranks = _ranks(found, names)
    matrices = _matrices(normalized, names)
    reference = normalized.method.removeprefix("rule:")
    costs = costs or {}
    made = []
    for rule, own in found.items():
        mine = [row for name in own for row in groups[rule, name]]
        cost, base = costs.get(rule, _UNKNOWN), costs.get(baseline, _UNKNOWN)
        enough = not (too_few[rule] or too_few.get(reference))
        made.append(
            Line(
                rule=rule,
                agent=mine[0].agent,
                revisions=sorted({row.revision or "unknown" for row in mine}),
                weights_sha256=sorted(filter(None, {r.weights_sha256 for r in mine})),
                measures={name: own[name] for name in names if name in own},
                too_few=too_few[rule],
                average_rank=ranks.get(rule),
                iqm=_iqm(matrices.get(rule)) if enough else None,
                improvement=_improvement(matrices, rule, baseline),
                relative_auc=_relative_auc(own, found.get(baseline, {}), names),
                update_time=cost.update,
                run_time=_seconds(base.steps_per_second, cost),
                seconds={
                    name: seconds
                    for name, m in own.items()
                    if (seconds := _seconds(m.steps_to_baseline, cost)) is not None
                },
            )
        )
    return sorted(made, key=lambda one: (one.average_rank or np.inf, one.rule))


def _too_few(own: Mapping[str, Measures], names: Sequence[str]) -> dict[str, int]:
    seeds = {name: len(own[name].seeds) if name in own else 0 for name in names}
    return {name: count for name, count in seeds.items() if count < MIN_SEEDS}


def _ranks(
    found: Mapping[str, Mapping[str, Measures]], names: Sequence[str]
) -> dict[str, float]:
    means = {
        rule: [m.final.value for name in names if (m := own.get(name)) and m.final]
        for rule, own in found.items()
    }
    whole = {
        rule: values for rule, values in means.items() if len(values) == len(names)
    }
    return statistics.average_ranks(whole)


def _matrices(normalized: Normalized, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the returns of rules that ran in all environments."""
    whole = {
        rule: {name: games[name] for name in names}
        for rule, games in normalized.returns.items()
        if set(names) <= games.keys()
    }
    return statistics.scores(whole).matrices


def _iqm(matrix: np.ndarray | None) -> Estimate | None:
    found = None if matrix is None else statistics.aggregate(matrix)["IQM"]
    # Seeds that differ between the environments leave fewer that are common to all.
    return found if found and found.seeds >= MIN_SEEDS else None


def _improvement(
    matrices: Mapping[str, np.ndarray], rule: str, baseline: str
) -> Estimate | None:
    if rule == baseline or not {rule, baseline} <= matrices.keys():
        return None
    return statistics.probability_of_improvement(matrices[rule], matrices[baseline])


def _relative_auc(
    own: Mapping[str, Measures], base: Mapping[str, Measures], names: Sequence[str]
) -> float | None:
    pairs = [(own[n].auc, base[n].auc) for n in names if n in own and n in base]
    ratios = [x.value / y.value for x, y in pairs if x and y and y.value > 0]
    return float(np.mean(ratios)) if len(ratios) == len(names) else None


def _seconds(steps: float | None, cost: Cost) -> float | None:
    speed = cost.steps_per_second
    # The run time of a rule relative to another is its seconds for the steps that the
    # other takes in one second.
    return steps / speed if steps and speed else None
