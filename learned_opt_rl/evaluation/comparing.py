"""Compare rules from Python, as ``learned-opt-rl compare`` does from a shell."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learned_opt_rl import envs
from learned_opt_rl.checks import as_names
from learned_opt_rl.evaluation.report.report import Report, load
from learned_opt_rl.evaluation.report.write import check_request
from learned_opt_rl.evaluation.runs.compare import execute
from learned_opt_rl.evaluation.runs.given_rules import given_rules
from learned_opt_rl.evaluation.runs.plan import Comparison, prepare
from learned_opt_rl.evaluation.runs.row import FAILURES, ROWS, read_rows
from learned_opt_rl.rundir.cluster import Cluster
from learned_opt_rl.rundir.progress import showing
from learned_opt_rl.warn import warn_user


def compare(
    rules: Mapping[str, Any] | Iterable[str],
    *,
    suite: str | None = None,
    environments: str | Sequence[str] = (),
    seeds: int = 5,
    total_timesteps: float = 1e6,
    out: str | pathlib.Path = "comparison",
    normalization: str = "auto",
    baseline: str | None = None,
    title: str | None = None,
    sinks: str | Sequence[str] = (),
    cluster: Cluster | None = None,
    progress: bool = True,
    **options: Any,
) -> Report:
    """Train agents with several rules and return the results.

    Every rule runs on every environment with the same seeds. Repeat the call to resume:
    runs that the folder holds are not repeated, unless a rule has changed. The folder
    keeps the runs of all calls; `load` returns them.

    Args:
        rules: A dict of rules by name, a list of names, or one name. A value is an
            optax optimizer, a function ``horizon -> optimizer``, a drift ``(ratio,
            advantage) -> drift``, which runs with tuned Adam, an update rule, or a text
            as on the command line, such as ``"optax.adamw:3e-4"``. The value
            ``...`` selects the library's rule of that name.
        suite: Name of a suite of environments, one of `envs.SUITES`.
        environments: Name or names of environments, instead of a suite.
        seeds: Number of seeds.
        total_timesteps: Environment steps of each run.
        out: The folder for rows; ``compare(...).write(out)`` adds a report.
        normalization: See `load`.
        baseline: See `load`.
        title: See `load`.
        sinks: Names of `sinks.SINKS` that also get the learning curves of new runs.
        cluster: Workers that make the runs; they need rules with names.
        progress: Whether to show the progress on standard error.
        **options: Further fields of `Comparison`, for example ``agent="a2c"`` or
            ``settings=["hidden=256x256"]``.

    Returns:
        The results of the rules, and of the baseline if the folder has its runs. Runs
        that raised an error are a warning and are in ``failures``.

    Raises:
        MissingExtraError: A package of the report, a sink or an environment is not
            installed.
        ValueError: The request is wrong, see `prepare`, or no run has finished.

    Example:
        >>> compare("adam")
        Traceback (most recent call last):
        ...
        ValueError: suite=None, environments=(): need one of the two. Pass \
suite='minatar' or environments='Breakout-MinAtar'
    """
    names, given = given_rules(rules)
    if (suite is None) == (not environments):
        raise ValueError(
            f"suite={suite!r}, environments={environments!r}: need one of the two. "
            "Pass suite='minatar' or environments='Breakout-MinAtar'"
        )
    chosen = envs.suite(suite) if suite else as_names(environments)
    asked = Comparison(names, chosen, seeds, total_timesteps, **options)
    out = pathlib.Path(out)
    plan = prepare(asked, given=given)
    check_request(out, plan, normalization, baseline)
    with showing(progress):
        failures = execute(plan, out, sinks=sinks, cluster=cluster)
    messages = [f"{f.rule} on {f.environment}: {f.message}" for f in failures]
    if messages and not plan.has_results(read_rows(out / ROWS)):
        raise ValueError(f"no run finished: {messages[0]}. See {out / FAILURES}")
    for message in messages:
        warn_user(f"{message}. See {out / FAILURES}")
    return load(
        out,
        normalization=normalization,
        baseline=baseline,
        title=title,
        plan=plan,
    )
