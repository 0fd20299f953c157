"""The result of a search, and the chain that led to a result, in words for a card."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.artifacts.weights import read_limited
from learned_opt_rl.errors import ExpressionError, WeightsError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal import archive, conversation, discovery
from learned_opt_rl.training.proposal import refinement as refinements
from learned_opt_rl.training.proposal.conversation import ConversationConfig, best_of
from learned_opt_rl.training.proposal.discovery import Discovery
from learned_opt_rl.training.proposal.journal import EVENTS, LEDGER, totals
from learned_opt_rl.training.proposal.scoring.evaluation import EvaluationConfig
from learned_opt_rl.training.proposal.search import readable
from learned_opt_rl.training.run_folder import TrainedRun, read_config, read_run
from learned_opt_rl.training.symbolic import report
from learned_opt_rl.training.symbolic import search as symbolic

SEARCHES = (
    *(conversation.METHOD, discovery.METHOD),
    *(symbolic.METHOD, refinements.METHOD),
)
"""Kinds of the folders that hold a search for an expression."""


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        text: The expression.
        evaluation: How expressions were scored; None for a file.
        references: Reference returns; None if expressions were ranked.
        stages: The stages that produced it, earliest first: ``kind``, ``summary`` in
            words, ``steps`` of environments, ``seconds``, ``tokens`` and ``price`` in
            dollars, None if not known.
    """

    text: str
    evaluation: EvaluationConfig | None
    references: Mapping[str, float] | None
    stages: Sequence[Record]


def found(path: pathlib.Path, proposal: str | None = None) -> Found:
    """Return the result of a search for an expression, or of a text file.

    The first algorithms of a search and rules that are only ranked are not its results.

    Args:
        path: Folder of the search, or the file.
        proposal: Name of a proposal with a score; the best by default.

    Raises:
        ValueError: The path holds no search or no expression, or the search has no
            valid proposal, or none of that name.
    """
    if not path.is_dir() and proposal is None:
        return _file(path)
    made = read_config(path)
    kind, fields = made["kind"], made["config"]
    if kind not in SEARCHES:
        raise ValueError(
            f"{path} holds a run of kind {kind}; give the folder of `train propose`, "
            "`discover`, `symbolic` or `refine`"
        )
    with readable(path):
        if kind in _PROPOSING:
            return _PROPOSING[kind](path, fields, proposal)
        if proposal is None:
            return _SINGLE[kind](path, fields)
    raise ValueError(
        f"proposal={proposal!r}: {path} has one result; give no name, or the folder of "
        "`train propose` or `train discover`"
    )


def _file(path: pathlib.Path) -> Found:
    try:
        text = read_limited(path, "check the path").decode()
        expressions.parse(text)
    except (WeightsError, UnicodeDecodeError, ExpressionError) as error:
        raise ValueError(
            f"{path} is neither the folder of a search nor the file of an expression "
            f"({error}); give one of them"
        ) from error
    stage = {
        "kind": "expression",
        "summary": f"The expression comes from the file {path.name}.",
    }
    return Found(text, None, None, [stage])


def _conversation(
    path: pathlib.Path, fields: Mapping[str, Any], proposal: str | None
) -> Found:
    config = ConversationConfig.from_json(fields)
    events = jsonl.read(path / EVENTS)
    warm = [e for e in events if e["event"] == "warm"]
    tries = [e for e in events if e["event"] == "outcome"]
    scored = [e for e in tries if e["fitness"] is not None]
    names = [e["name"] for e in scored]
    best = best_of(_required(path, [scored[i] for i in _chosen(names, proposal)]))
    summary = (
        f"{_proposer(path)} proposed {len(tries)} expressions in one conversation "
        f"about the target {config.target}. Proposals with a score: {len(scored)}. "
        f"This one, {best['name']}, has a fitness of {best['fitness']:.4g}, compared "
        f"with {warm[0]['fitness']:.4g} of {warm[0]['name']}, the first algorithm. "
        f"{_agents(config.evaluation)}"
    )
    stages = [_stage(path, conversation.METHOD, summary)]
    return Found(best["text"], config.scoring, warm[0]["references"], stages)


def _discovery(
    path: pathlib.Path, fields: Mapping[str, Any], proposal: str | None
) -> Found:
    run = Discovery.recorded(path)
    members = archive.best_first(archive.distinct(run.members))
    ours = [m for m in members if m.parent is not None and m.finite]
    names = [m.name for m in ours]
    best = _required(path, [ours[i] for i in _chosen(names, proposal)])[0]
    scoring = EvaluationConfig.from_json(fields["evaluation"])
    ranks = archive.rankings(members)
    rules = ", ".join(m.name for m in members if m.code is None) or "no rule"
    summary = (
        f"{_proposer(path)} played thinker and coder in {run.completed} generations "
        f"of {fields['refinements']} suggestions. Proposals with a score: {len(ours)}. "
        f"This one, {best.name}, has the average rank {ranks[best.name]:.3g} among "
        f"{len(members)} members, with {rules} in the ranking. {_agents(scoring)}"
    )
    stages = [_stage(path, discovery.METHOD, summary)]
    return Found(str(best.text), scoring, None, stages)


_PROPOSING = {conversation.METHOD: _conversation, discovery.METHOD: _discovery}


def _chosen(names: Sequence[str], proposal: str | None) -> list[int]:
    """Return the places of a name; all without one."""
    if proposal is not None and proposal not in names:
        known = ", ".join(names)
        raise ValueError(
            f"proposal={proposal!r} is not the name of a proposal with a score; give "
            f"one of {known}"
        )
    return [i for i, name in enumerate(names) if proposal in (None, name)]


def _refinement(path: pathlib.Path, fields: Mapping[str, Any]) -> Found:
    events = jsonl.read(path / EVENTS)
    (best, *_) = _required(path, [e for e in events if e["event"] == "tuned"])
    drops = [e for e in events if e["event"] == "drop"]
    kept = [e for e in drops if e["kept"]]
    first = expressions.parse(fields["text"])
    tuned = f"CMA-ES tuned its constants with {fields['generations']} times "
    tuned += f"{fields['population']} candidates"
    if not fields["generations"]:
        tuned = "Its constants were not tuned"
    elif best["text"] == first.to_text():
        tuned += ", which did not improve it on other seeds"
    last = kept[-1] if kept else best
    sizes = [
        expressions.size(expressions.parse(t)) for t in (first.to_text(), last["text"])
    ]
    reduced = "never kept"
    if kept:
        reduced = f"kept {_times(len(kept))}, which reduced the expression from "
        reduced += f"{sizes[0]} to {sizes[1]} operations and operands"
    scoring = EvaluationConfig.from_json(fields["evaluation"])
    summary = (
        f"{tuned}. Removing an operation was tried {_times(len(drops))} and {reduced}. "
        f"On seeds not used for tuning, the fitness went from "
        f"{best['start_fitness']:.4g} to {last['fitness']:.4g}. {_agents(scoring)}"
    )
    before = [e["stages"] for e in events if e["event"] == "origin"]
    stages = [*before[0], _stage(path, refinements.METHOD, summary)]
    # What comes next takes the seeds after those that chose this expression.
    used = dataclasses.replace(scoring, first_seed=scoring.next_seed)
    return Found(last["text"], used, fields["references"], stages)


def _symbolic(path: pathlib.Path, fields: Mapping[str, Any]) -> Found:
    rows, known = report.rows(path), report.references(path)
    scored = [row for row in rows if row["fitness"] is not None]
    best = report.result(path)
    scoring = EvaluationConfig.from_json(fields["evaluation"])
    # Only the end of a path: the rest is specific to the machine.
    short = {
        name: "/".join(pathlib.PurePath(fields[name]).parts[-2:])
        for name in ("teacher", "backend")
    }
    teacher = f"{short['teacher']} (sha256 {fields['teacher_sha256']})"
    summary = (
        f"Symbolic regression ({short['backend']}, seed {fields['seed']}) of "
        f"{teacher}. Usable formulas that are better than all simpler ones: "
        f"{len(rows)}. This one has {best['size']} operations and operands, and a mean "
        f"squared error of {best['loss']:.2g} of the teacher's variance."
    )
    if scored:
        others = ", ".join(f"{n} {fitness:.4g}" for n, fitness in known.items())
        summary += (
            f" The {len(scored)} formulas with the smallest error trained agents, and "
            f"this one is the simplest within one standard error of the highest "
            f"fitness. Its own is {best['fitness']:.4g} (on the same seeds: {others}). "
            f"{_agents(scoring)}"
        )
    made = _stage(path, symbolic.METHOD, summary)
    made["command"] = symbolic.command({**fields, **short})
    return Found(best["text"], scoring, None, [made])


_SINGLE = {refinements.METHOD: _refinement, symbolic.METHOD: _symbolic}


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _required(path: pathlib.Path, found: list[Any]) -> list[Any]:
    if not found:
        raise ValueError(
            f"{path} has no valid proposal with a score yet; continue the search, or "
            "give another folder"
        )
    return found


def _proposer(path: pathlib.Path) -> str:
    """Name the models, as their providers state them, and the providers."""
    rows = [row for row in jsonl.read(path / LEDGER) if row["stage"] == "reply"]
    models = dict.fromkeys(str(row.get("model")) for row in rows)
    through = dict.fromkeys(str(row.get("provider")).lower() for row in rows)
    return (
        f"The language model {' and '.join(models)} (as stated by the provider; the "
        f"replies came through the {' and '.join(through)} provider)"
    )


def _agents(config: EvaluationConfig) -> str:
    return (
        f"In each of {', '.join(config.environments)}, every expression was evaluated "
        f"with {config.seeds} agents trained for {config.steps:,.0f} steps."
    )


def _stage(path: pathlib.Path, kind: str, summary: str) -> Record:
    costs = totals(jsonl.read(path / LEDGER))
    return {"kind": kind, "summary": summary, **costs}


def read(folder: pathlib.Path) -> TrainedRun:
    """Read the best weights of a run, or the best expression of a search.

    For a search, the result also has ``stages`` (`Found`), and its log is one row with
    the length of its trainings.

    Raises as `read_run` and `found`.
    """
    made = read_config(folder)
    if made["kind"] not in SEARCHES:
        return read_run(folder)
    result = found(folder)
    scoring: Any = result.evaluation  # only a file has none
    config = {
        "algorithm": "expression",
        "architecture": {"text": result.text},
        "environments": list(scoring.environments),
        "agent": dict(scoring.settings),
        "rates": scoring.rates,
        "next_seed": scoring.next_seed,
        "zero_mean": scoring.zero_mean,
    }
    row: Record = {"validation": 0.0, "horizon": int(scoring.steps)}
    function = expressions.parse(result.text)
    weights = {n: np.float32(c) for n, c in function.init_constants().items()}
    content = function.to_text().encode()
    digest = hashlib.sha256(content).hexdigest()
    fields = made | {"config": config, "stages": list(result.stages)}
    return TrainedRun(folder, fields, [row], content, digest, weights)


def next_seed(folder: pathlib.Path) -> int:
    """Return the first seed that a search has not trained with; 0 for another run.

    Raises as `read_config` and `found`.
    """
    if read_config(folder)["kind"] not in SEARCHES:
        return 0
    scoring: Any = found(folder).evaluation  # only a file has none
    # Every stage of a search takes the seeds after those of the stage before.
    return scoring.next_seed
