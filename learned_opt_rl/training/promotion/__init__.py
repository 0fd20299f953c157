"""Promotion: weights of a run get a name, if they are no worse than those that have it.

The new weights, those that have the name and baselines are run on the same seeds, in
one evaluation that a kill does not lose; what came out goes into the results, the card
and the gallery. The run's state is kept beside the card, so that anyone can go on.
"""

import dataclasses
import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts import Card, registry
from learned_opt_rl.artifacts.weights import check_weights
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import cards
from learned_opt_rl.evaluation.runs import compare
from learned_opt_rl.evaluation.runs.execution import Failure, Plan
from learned_opt_rl.evaluation.runs.identity import identity, wanted
from learned_opt_rl.families import find
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.training.promotion import kept, swap, texts
from learned_opt_rl.training.promotion.candidate import Candidate, read
from learned_opt_rl.training.promotion.families import described, file
from learned_opt_rl.training.promotion.verdict import Verdict, WorseError, judge

WORK = "promotion"
"""Folder of a run with the rows of its promotion and the artifact as it will be."""


@dataclasses.dataclass(frozen=True)
class Promotion:
    """What is asked.

    Attributes:
        run: A folder of ``train es`` or ``train distill``.
        name: The artifact's.
        environments: To evaluate in; those of the run if not given.
        seeds: How many; the new weights, the holder of the name and the baselines get
            the same ones.
        total_timesteps: Environment steps of each run.
        first_seed: The first of the seeds.
        baselines: Rules to run beside; the first is what failures are told against.
        settings: ``NAME=VALUE``, fields of the agent other than published.
        at_once: Seeds trained together, as for `compare.Comparison`.
        devices: How many share these.
        pretrained: Where the artifacts are; the repository's if not given.
        results: The file of rows, made or added to; by default
            ``results/NAME_STEPS.jsonl`` beside ``pretrained``.
        force: Whether to promote what is worse; the card then says so.
        title: Of the card; by default that of the name if it has these weights
            already, or else made up; as the next.
        summary: Of the card.
        failures: Known failures besides those found.

    Example:
        >>> Promotion(pathlib.Path("runs/breakout"), "breakout").total_timesteps
        1000000.0
    """

    run: pathlib.Path
    name: str
    environments: tuple[str, ...] = ()
    seeds: int = 5
    total_timesteps: float = 1e6
    first_seed: int = 0
    baselines: tuple[str, ...] = ("adam",)
    settings: tuple[str, ...] = ()
    at_once: int | None = None
    devices: int = 1
    pretrained: pathlib.Path | None = None
    results: pathlib.Path | None = None
    force: bool = False
    title: str | None = None
    summary: str | None = None
    failures: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What came out.

    Attributes:
        folder: The artifact's, or None where runs failed and nothing was promoted.
        verdict: Against the holder of the name; None if there was none.
        failed: Runs that raised.
    """

    folder: pathlib.Path | None
    verdict: Verdict | None
    failed: list[Failure]


def promote(asked: Promotion, stream: TextIO | None = None) -> Outcome:
    """Evaluates the best weights of a run and gives them a name.

    What was run is kept in the run's folder, so that a promotion that was killed or
    refused goes on, or is decided again, without running it once more.

    Args:
        asked: What is asked.
        stream: For the progress; standard error if not given.

    Returns:
        The outcome.

    Raises:
        WorseError: The weights return less than those that have the name, which stay.
        ValueError: The run cannot be promoted as asked; nothing was run.
        ArtifactError: The name is none, or taken by an artifact that is not in
            ``pretrained``; the weights are damaged, or not of the run's architecture.
        MissingExtraError: An environment's package is not installed.
        FolderInUseError: Another process promotes this run, or just now replaces an
            artifact; the same command decides again.
        OSError: Something cannot be written; the artifact is as it was.

    Example:
        >>> asked = Promotion(pathlib.Path("runs/breakout"), "breakout")
        >>> promote(asked).folder  # doctest: +SKIP
        PosixPath('pretrained/breakout')
    """
    promoting = _Promoting(asked)
    promoting.work.mkdir(exist_ok=True)
    with locked(promoting.work):
        failed = promoting.evaluate(stream or sys.stderr)
        if failed:
            return Outcome(None, None, failed)
        with locked(promoting.root):  # nor does another run get this name meanwhile
            return Outcome(*promoting.decide(), failed)


class _Promoting:
    """A promotion from its checks to its end."""

    def __init__(self, asked: Promotion) -> None:
        """Checks all that can be checked before the first run."""
        self.asked, self.run = asked, read(asked.run)
        self.root = _root(asked.pretrained)
        self.work = asked.run / WORK
        self.staged, self.runs = self.work / "artifact", self.work / "runs"
        made = {**self._about, "known_failures": list(asked.failures)}
        card = Card.from_dict(made, source=asked.name)
        if card.representation == "network":
            check_weights(self.run.weights, card)
        self.sha256 = card.weights.sha256
        self.target = self.root / asked.name
        swap.recover(self.target)
        self.holder = self._holder_now()
        self.rows = self.runs / compare.ROWS
        self.results = asked.results or self._default_results()
        for row in self._filed():
            if not {"rule", "config"} <= row.keys():
                raise ValueError(f"{self.results} is no file of runs; give another")
            if self._named(row) and row.get("weights_sha256") is None:
                raise ValueError(
                    f"{self.results} has rows of {asked.name!r} that do not tell of "
                    "which weights they are; add weights_sha256, or give another file"
                )

    def evaluate(self, stream: TextIO) -> list[Failure]:
        """Runs what no file has yet: first what is there, then the new weights."""
        asked = self.asked
        environments = asked.environments or self.run.environments
        if not environments:
            raise ValueError(
                f"{asked.run} was trained in no environment; name some, or a suite"
            )
        comparison = compare.Comparison(
            rules=(asked.name,),
            environments=environments,
            seeds=asked.seeds,
            total_timesteps=asked.total_timesteps,
            first_seed=asked.first_seed,
            at_once=asked.at_once,
            devices=asked.devices,
            settings=asked.settings,
        )
        rival = self.holder is not None and not self._is_holder
        beside = (*([asked.name] if rival else []), *asked.baselines)
        others = dataclasses.replace(comparison, rules=beside)
        self._stage([])
        plans: list[tuple[pathlib.Path, Plan]] = []
        for root, one in ((self.root, others), (self.staged, comparison)):
            with registry.bundled_in(root):
                plans.append((root, compare.prepare(one)))
        self._reuse()
        found: list[Row] = []
        for root, plan in plans:
            with registry.bundled_in(root):
                failed = compare.execute(plan, self.runs, stream=stream)
                if failed:  # the next execution would begin failures.jsonl anew
                    return failed
                found += _of_plan(plan, jsonl.read(self.rows))
        new = [row for row in found if self._is_new(row)]
        self.old = [row for row in found if self._named(row) and not self._is_new(row)]
        others = [row for row in found if not self._named(row)]
        self.evaluated = texts.Evaluated(new, others, asked.baselines[0])
        return []

    def decide(self) -> tuple[pathlib.Path, Verdict | None]:
        """Promotes, or raises `WorseError`."""
        _check_returns(self.evaluated.new)
        self._check_holder()
        failures, verdict = texts.failures(self.run, self.evaluated), None
        if self.old:
            seen = self.evaluated
            verdict = judge(seen.new, self.old, seen.others, seen.baseline)
            if verdict.difference.value < 0:
                if not self.asked.force:
                    raise WorseError(
                        f"{self.asked.run} is worse than the {self.asked.name!r} there "
                        f"is, which stays: {verdict.text}; promote it nevertheless "
                        "with --force, or by another name"
                    )
                failures.insert(0, f"Promoted though worse than before: {verdict.text}")
        self._stage([*failures, *self.asked.failures])
        self._file_rows()
        folder = self.staged / self.asked.name
        with registry.bundled_in(self.staged):
            cards.fill_results(folder, self.results, self._source())
        kept.keep(self.asked.run, folder, self.sha256)
        swap.replace(folder, self.target)
        return self.target, verdict

    def _holder_now(self) -> registry.Entry | None:
        with registry.bundled_in(self.root):
            return _holder(self.asked.name, self.target)

    @property
    def _is_holder(self) -> bool:
        """Whether what has the name already is these very weights."""
        return self.holder is not None and (
            self.holder.card.weights.sha256 == self.sha256
        )

    def _check_holder(self) -> None:
        """An evaluation takes hours, in which another run may have been promoted."""
        before, now = (
            entry and entry.card.weights.sha256
            for entry in (self.holder, self._holder_now())
        )
        if before != now:
            raise ValueError(
                f"{self.asked.name!r} was given to other weights meanwhile (sha256 "
                f"{before} -> {now}), which these were not compared with; give the "
                "same command once more"
            )

    @functools.cached_property
    def _about(self) -> dict[str, Any]:
        """The card but for what the evaluation says."""
        asked, run = self.asked, self.run
        made = described(run)
        title = find(run.algorithm).title
        where = f" for {', '.join(run.environments)}" if run.environments else ""
        how = "evolved" if run.evolved else "distilled"
        return {
            "schema": 1,
            "name": asked.name,
            "title": asked.title or f"{title}{where}, {how}",
            "summary": asked.summary or f"{title}, {how} by this project{where}.",
            **made,
            "horizon": _horizon(run) if made["kind"] == "optimizer" else None,
            "training": texts.training(run),
            "license": "Apache-2.0",
            "results": [],
        }

    def _stage(self, failures: list[str]) -> None:
        """Makes the artifact as it will be, but for results, in the run's folder."""
        folder = self.staged / self.asked.name
        shutil.rmtree(self.staged, ignore_errors=True)
        folder.mkdir(parents=True)
        name, weights = file(self.run)
        (folder / name).write_bytes(weights)
        card = {**self._about, "known_failures": failures}
        if self.holder is not None and self._is_holder:
            self._keep_words(card, self.holder.card.to_dict())
        content = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        (folder / "card.json").write_text(content, encoding="utf-8")

    def _keep_words(self, card: dict[str, Any], before: Mapping[str, Any]) -> None:
        """What was said of these very weights stays, where nothing else is said now."""
        card["results"] = before["results"]
        for name in ("title", "summary"):
            card[name] = getattr(self.asked, name) or before[name]
        said = {text.partition(":")[0] for text in card["known_failures"]}
        card["known_failures"] = card["known_failures"] + [
            text
            for text in before["known_failures"]
            if text.partition(":")[0] not in said
        ]

    def _reuse(self) -> None:
        """Takes over rows that the results have already."""
        with registry.bundled_in(self.root):
            known = {identity(row) for row in jsonl.read(self.rows)}
            new = {identity(row): row for row in self._filed()}
        if new.keys() - known:
            jsonl.append(self.rows, [r for k, r in new.items() if k not in known])

    def _file_rows(self) -> None:
        """Adds the rows to the results in one write; the holder's get its sha256.

        Rows of one name in a file are all of the weights that have it.
        """
        filed = self._filed()
        with registry.bundled_in(self.staged):
            known = {identity(row) for row in filed}
            made = [*self.old, *self.evaluated.others, *self.evaluated.new]
            filed += [row for row in made if identity(row) not in known]
        for row in filed:
            if self._named(row) and not self._is_new(row):
                row["rule"] = f"{self.asked.name}:{row['weights_sha256'][:8]}"
        # A promotion that was killed may have filed those of the holder already.
        unique = {json.dumps(row): None for row in filed}
        self.results.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.results, "".join(f"{row}\n" for row in unique).encode())

    def _filed(self) -> list[Row]:
        return jsonl.read(self.results)

    def _named(self, row: Row) -> bool:
        return row["rule"] == self.asked.name

    def _is_new(self, row: Row) -> bool:
        return self._named(row) and row.get("weights_sha256") == self.sha256

    def _default_results(self) -> pathlib.Path:
        steps = f"{self.asked.total_timesteps:.3g}".replace("e+0", "e")
        name = self.asked.name.replace("/", "_")
        return self.root.parent / "results" / f"{name}_{steps}.jsonl"

    def _source(self) -> str:
        """The results as the card names them: from the top of the repository."""
        path, top = self.results.resolve(), self.root.resolve().parent
        return (path.relative_to(top) if path.is_relative_to(top) else path).as_posix()


def _root(given: pathlib.Path | None) -> pathlib.Path:
    root = registry.bundled_root() if given is None else given
    if given is None and not (root.parent / "pyproject.toml").exists():
        raise ValueError(
            f"{root} belongs to an installed package, not to a checkout of the "
            "repository; say with --pretrained where the artifacts are"
        )
    if not root.is_dir():
        raise ValueError(f"--pretrained {root} is no folder; make it first")
    return root


def _holder(name: str, target: pathlib.Path) -> registry.Entry | None:
    """What has the name now: whole, with weights of its own, in the folder of the name.

    Raises:
        ArtifactError: The name is another package's or project's, or the folder is of
            several artifacts.
    """
    entries = registry.scan().entries
    entry = entries.get(name)
    if entry is not None and (entry.origin != registry.BUNDLED or entry.card.is_remote):
        whose = entry.origin if entry.origin != registry.BUNDLED else "another project"
        raise ArtifactError(
            f"name={name!r} is of an artifact of {whose}, not ours to replace; "
            "choose another name"
        )
    folders = {other.folder for other in entries.values()} - {target}
    if any(f.is_relative_to(target) or target.is_relative_to(f) for f in folders):
        raise ArtifactError(
            f"name={name!r}: {target} would hold or lie in another artifact's folder; "
            "choose another name"
        )
    if entry is not None:
        registry.load_entry(entry)
    return entry


def _horizon(run: Candidate) -> dict[str, int] | None:
    """Of a run in the first environment, at the length that the weights are of."""
    if not find(run.algorithm).uses_horizon:
        return None
    config = PPOConfig()
    if run.environments and run.horizon is not None:
        agent: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in run.fields.get("agent", {}).items()
        }
        name = run.environments[0]
        unit = run.fields.get("horizon_unit") == "episodes"
        steps = run.horizon * ((envs.episode_length(name) if unit else None) or 1)
        config = agents.preset(name, steps, **agent)
    return dataclasses.asdict(config.horizon())


def _of_plan(plan: Plan, rows: Iterable[Row]) -> list[Row]:
    """The rows that a plan asks for."""
    asked = {
        wanted(cell.rule, cell.env.name, cell.config, seed, cell.variant)
        for cell in plan.cells
        for group in plan.groups
        for seed in group
        if seed < plan.end
    }
    return [row for row in rows if identity(row) in asked]


def _check_returns(rows: Iterable[Row]) -> None:
    rows = list(rows)
    none = [row["environment"] for row in rows if row["final_return"] is None]
    if none:
        raise WorseError(
            f"{len(none)} of {len(rows)} runs of the new weights have no return (in "
            f"{', '.join(sorted(set(none)))}): they diverged, or no episode ended; "
            "nothing was promoted; train on, or evaluate them where they were trained "
            "(environments, length of runs)"
        )
