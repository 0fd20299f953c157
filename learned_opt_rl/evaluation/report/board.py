"""The board: one line per rule, with the numbers that rank rules in a setting."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.gather import Results
from learned_opt_rl.evaluation.report.measures import Measures
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS, Estimate
from learned_opt_rl.evaluation.runs.row import grouped

COSTS = ("update_time", "run_time", "seconds")
"""The fields of a line that need a `Cost`."""


class Cost(NamedTuple):
    """The cost of a rule on one host.

    Attributes:
        steps_per_second: Environment steps per second of a whole run; None if not
            measured.
        update: Time of one optimizer update divided by the baseline's; None if not
            measured.
    """

    steps_per_second: float | None
    update: float | None


_UNKNOWN = Cost(None, None)


@dataclasses.dataclass(frozen=True)
class Line:
    """A rule on the board."""

    rule: str
    agent: str
    revisions: list[str]  # of the code that ran it
    weights_sha256: list[str]  # as recorded; empty without weights or a record
    measures: dict[str, Measures]  # by environment, those with runs
    # The environments of the rank, the IQM, the probability of improvement and the
    # relative AUC, as in `Results.scores`.
    environments: tuple[str, ...]
    # Number of seeds in each of these environments that has too few for an interval.
    too_few: dict[str, int]
    # Rank by mean return, averaged over environments; 1 is best. Rules that lack an
    # environment are not ranked, nor is a rule without another one to rank against.
    average_rank: float | None
    # Over all runs, normalized. None if the rule or the reference has too few seeds.
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


def lines(result: Results, costs: Mapping[str, Cost] | None = None) -> list[Line]:
    """Return the board of one setting, the best average rank of enough seeds first.

    Args:
        result: The results of the setting, which also give the baseline.
        costs: The cost of rules by name, measured on one host. The times in the rows
            cannot replace them: these runs may have shared a processor.

    Returns:
        One line per rule. Then come rules with too few seeds in an environment; those
        without a rank, by name, are last.
    """
    names, baseline = result.scores.environments, result.baseline
    groups = grouped(result.setting.rows)
    found: dict[str, dict[str, Measures]] = {}
    for m in result.measures:
        found.setdefault(m.rule, {})[m.environment] = m
    too_few = {rule: _too_few(own, names) for rule, own in found.items()}
    ranks = _ranks(found, names)
    reference = result.normalized.method.removeprefix("rule:")
    costs = costs or {}
    made = []
    for rule, own in found.items():
        mine = [row for name in own for row in groups[rule, name]]
        cost, base = costs.get(rule, _UNKNOWN), costs.get(baseline, _UNKNOWN)
        enough = not (too_few[rule] or too_few.get(reference))
        iqm = result.aggregates.get(rule, {}).get("IQM")
        made.append(
            Line(
                rule=rule,
                agent=mine[0].agent,
                revisions=sorted({row.revision or "unknown" for row in mine}),
                weights_sha256=sorted(filter(None, {r.weights_sha256 for r in mine})),
                measures=own,
                environments=names,
                too_few=too_few[rule],
                average_rank=ranks.get(rule),
                # Seeds that differ between environments leave fewer common to all.
                iqm=iqm if enough and iqm and iqm.seeds >= MIN_SEEDS else None,
                improvement=result.improvement.get(rule),
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
    # A rank of few seeds is mostly luck, so it does not lead the board.
    return sorted(
        made, key=lambda one: (bool(one.too_few), one.average_rank or np.inf, one.rule)
    )


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
    whole = {rule: m for rule, m in means.items() if m and len(m) == len(names)}
    # Of a single rule, a rank says nothing.
    return statistics.average_ranks(whole) if len(whole) > 1 else {}


def _relative_auc(
    own: Mapping[str, Measures], base: Mapping[str, Measures], names: Sequence[str]
) -> float | None:
    pairs = [(own[n].auc, base[n].auc) for n in names if n in own and n in base]
    ratios = [x.value / y.value for x, y in pairs if x and y and y.value > 0]
    return float(np.mean(ratios)) if ratios and len(ratios) == len(names) else None


def _seconds(steps: float | None, cost: Cost) -> float | None:
    speed = cost.steps_per_second
    # The run time of a rule relative to another is its seconds for the steps that the
    # other takes in one second.
    return steps / speed if steps and speed else None
