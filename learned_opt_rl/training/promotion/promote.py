"""Promote a run: check, measure, decide, write the artifact, swap it in place."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO

from learned_opt_rl import families
from learned_opt_rl.artifacts import Card, registry
from learned_opt_rl.artifacts.weights import check_weights
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import cards
from learned_opt_rl.evaluation.runs import compare
from learned_opt_rl.evaluation.runs.compare import Failure
from learned_opt_rl.evaluation.runs.plan import Comparison, Plan, prepare
from learned_opt_rl.evaluation.runs.row import Row, append_rows, identity, read_rows
from learned_opt_rl.evaluation.runs.rules import weights_digest
from learned_opt_rl.rundir import atomic
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.training.promotion import campaign, origin
from learned_opt_rl.training.promotion import card as card_facts
from learned_opt_rl.training.promotion.verdict import (
    Evaluated,
    Verdict,
    WorseError,
    judge,
)
from learned_opt_rl.training.run_folder import TrainedRun, read_config

WORK = "promotion"
"""Subfolder of a run with the rows of its promotion and the artifact in preparation."""


@dataclasses.dataclass(frozen=True)
class Promotion:
    """A request to give the weights of a run a name.

    Attributes:
        run: Folder of ``train es``, ``lpg``, ``distill``, ``propose``, ``discover`` or
            ``refine``.
        name: Name of the artifact.
        comparison: The runs that decide. Its rules are baselines that run beside the
            weights; known failures are relative to the first. The name of the artifact
            alone stands for no baseline.
        pretrained: Folder of the artifacts; the repository's by default.
        results: File that receives the rows; ``results/NAME_STEPS.jsonl`` beside
            ``pretrained`` by default.
        force: Whether to promote worse weights; the card then records it.
        title: Title of the card. By default the current one if the weights are the
            current ones, else a generated one.
        summary: Summary of the card; default as for the title.
        failures: Known failures besides those that the runs show.
    """

    run: pathlib.Path
    name: str
    comparison: Comparison
    pretrained: pathlib.Path | None = None
    results: pathlib.Path | None = None
    force: bool = False
    title: str | None = None
    summary: str | None = None
    failures: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """The outcome of a promotion.

    Attributes:
        folder: Folder of the artifact; None if runs failed and nothing was promoted.
        verdict: Comparison with the current version; None if there was none.
        failed: Runs that raised.
    """

    folder: pathlib.Path | None
    verdict: Verdict | None
    failed: list[Failure]


def trained_in(run: pathlib.Path) -> tuple[str, ...]:
    """Return the environments that a run was trained in, or raise ValueError."""
    config = read_config(run)["config"]
    config = config.get("evaluation", config)  # of a search
    environments = config.get("environments")
    if not environments:
        raise ValueError(
            f"{run} was not trained in an environment; give --environments or --suite"
        )
    return tuple(environments)


def agent_of_run(run: pathlib.Path) -> str:
    """Return the agent that evaluates the weights of a run: ``"lpg"`` or ``"ppo"``."""
    algorithm = read_config(run)["config"].get("algorithm")
    rule = algorithm and families.find(algorithm).kind == "update_rule"
    return "lpg" if rule else "ppo"


def promote(promotion: Promotion, stream: TextIO | None = None) -> Outcome:
    """Evaluate the best weights of a run and give them a name.

    The run's folder keeps all rows: a promotion that was killed or refused does not
    run them again.

    Args:
        promotion: The request.
        stream: Receives the progress; standard error by default.

    Raises:
        WorseError: The weights return less than the current version, which stays.
        ValueError: The run cannot be promoted as requested; nothing was run.
        ArtifactError: The name is invalid or belongs to an artifact outside
            ``pretrained``; or the weights are damaged or do not fit the architecture.
        MissingExtraError: The package of an environment is not installed.
        FolderInUseError: Another process promotes this run, or replaces an artifact at
            this moment; the same command decides again.
        OSError: Something cannot be written; the artifact is unchanged.

    Example:
        >>> comparison = Comparison(("adam",), ("Breakout-MinAtar",), 5, 1e6)
        >>> promotion = Promotion(pathlib.Path("runs/a"), "breakout", comparison)
        >>> promote(promotion).folder  # doctest: +SKIP
        PosixPath('pretrained/breakout')
    """
    facts = _gather(promotion)
    facts.work.mkdir(exist_ok=True)
    with locked(facts.work):
        measured = _measure(facts, output(stream))
        if isinstance(measured, list):
            return Outcome(None, None, measured)
        with locked(facts.root):  # no other run may get the name in the meantime
            verdict, failures = _decide(facts, measured)
            _stage(facts, failures)
            _file_rows(facts, measured)
            folder = facts.staged / promotion.name
            source, top = facts.results.resolve(), facts.root.resolve().parent
            if source.is_relative_to(top):  # a path that other checkouts have, too
                source = source.relative_to(top)
            with registry.bundled_in(facts.staged):
                cards.fill_results(folder, facts.results, source.as_posix())
            campaign.keep(promotion.run, folder, facts.sha256)
            atomic.replace_folder(folder, facts.target)
    return Outcome(facts.target, verdict, [])


@dataclasses.dataclass(frozen=True, eq=False)
class _Facts:
    """Everything known before the first run."""

    promotion: Promotion
    run: TrainedRun
    card: Mapping[str, Any]  # without results and known failures
    root: pathlib.Path  # folder of all artifacts
    current: registry.Entry | None  # the artifact that has the name now
    results: pathlib.Path  # the file that receives the rows

    @property
    def name(self) -> str:
        return self.promotion.name

    @property
    def target(self) -> pathlib.Path:
        return self.root / self.name

    @property
    def sha256(self) -> str:
        """Digest of the new weights, or of the text with the new constants."""
        return self.card["weights"]["sha256"]

    @property
    def is_current(self) -> bool:
        """Whether the current version already has these weights."""
        return _digest(self.current) == self.sha256

    @property
    def work(self) -> pathlib.Path:
        return self.promotion.run / WORK

    @property
    def staged(self) -> pathlib.Path:
        """Where the artifact is prepared, a root of its own."""
        return self.work / "artifact"

    @property
    def runs(self) -> pathlib.Path:
        return self.work / "runs"

    def is_new(self, row: Row) -> bool:
        return row.rule == self.name and row.weights_sha256 == self.sha256

    def is_old(self, row: Row) -> bool:
        return row.rule == self.name and row.weights_sha256 != self.sha256


# Step 1: read the candidate and check everything that needs no run.


def _gather(promotion: Promotion) -> _Facts:
    run, root, name = origin.read(promotion.run), _root(promotion), promotion.name
    about = _card(promotion, run)
    made = {**about, "known_failures": list(promotion.failures)}
    card = Card.from_dict(made, source=name)
    if card.representation == "network":
        check_weights(run.weights, card)
    atomic.recover_folder(root / name)
    results = promotion.results
    if results is None:
        steps = f"{promotion.comparison.total_timesteps:.3g}".replace("e+0", "e")
        results = root.parent / "results" / f"{name.replace('/', '_')}_{steps}.jsonl"
    if any(r.rule == name and r.weights_sha256 is None for r in read_rows(results)):
        raise ValueError(
            f"{results} has rows of {name!r} without the digest of their weights; add "
            "weights_sha256 to them, or give another file"
        )
    return _Facts(promotion, run, about, root, _current(name, root), results)


def _root(promotion: Promotion) -> pathlib.Path:
    root = promotion.pretrained or registry.bundled_root()
    if promotion.pretrained is None and not (root.parent / "pyproject.toml").exists():
        raise ValueError(
            f"{root} belongs to an installed package, not to a checkout of the "
            "repository; give the folder of the artifacts with --pretrained"
        )
    if not root.is_dir():
        raise ValueError(f"--pretrained {root} is not a folder; create it first")
    return root


def _card(promotion: Promotion, run: TrainedRun) -> dict[str, Any]:
    title = families.find(run.algorithm).title
    where = f" for {', '.join(run.environments)}" if run.environments else ""
    how = card_facts.how(run)
    return {
        "schema": 1,
        "name": promotion.name,
        "title": promotion.title or f"{title}{where}, {how}",
        "summary": promotion.summary or f"{title}, {how} by this project{where}.",
        **card_facts.described(run),
        "training": card_facts.training(run),
        "license": "Apache-2.0",
        "results": [],
    }


def _current(name: str, root: pathlib.Path) -> registry.Entry | None:
    """Return the current version, whole, in the folder of its name.

    Raise ArtifactError if the name belongs to another package or project, or if the
    folder holds several artifacts.
    """
    target = root / name
    with registry.bundled_in(root):
        entries = registry.scan().entries
        entry = entries.get(name)
        ours = entry is None or entry.origin == registry.BUNDLED
        if entry is not None and not (ours and not entry.card.is_remote):
            owner = "another project" if ours else entry.origin
            raise ArtifactError(
                f"name={name!r} belongs to an artifact of {owner}, which cannot be "
                "replaced here; choose another name"
            )
        folders = {other.folder for other in entries.values()} - {target}
        if any(f.is_relative_to(target) or target.is_relative_to(f) for f in folders):
            raise ArtifactError(
                f"name={name!r}: {target} would hold or lie in another artifact's "
                "folder; choose another name"
            )
        if entry is not None:
            registry.load_entry(entry)
        return entry


def _digest(entry: registry.Entry | None) -> str | None:
    return entry and entry.card.weights.sha256


# Step 2: run what no file has yet.


def _measure(facts: _Facts, stream: TextIO) -> Evaluated | list[Failure]:
    """Run the current version and the baselines, then the new weights."""
    name, asked = facts.name, facts.promotion.comparison
    replaced = facts.current is not None and not facts.is_current
    baselines = [rule for rule in asked.rules if rule != name]
    beside = (*([name] if replaced else []), *baselines)
    _stage(facts, [])
    plans = {}
    for root, rules in ((facts.root, beside), (facts.staged, (name,))):
        if not rules:
            continue
        with registry.bundled_in(root):
            plans[root] = prepare(dataclasses.replace(asked, rules=rules))
    _reuse_rows(facts)
    found: list[Row] = []
    for root, plan in plans.items():
        with registry.bundled_in(root):
            failed = compare.execute(plan, facts.runs, stream=stream)
            if failed:  # the next execution would overwrite failures.jsonl
                return failed
            found += _of_plan(plan, read_rows(facts.runs / compare.ROWS))
    return Evaluated(
        new=[row for row in found if facts.is_new(row)],
        old=[row for row in found if facts.is_old(row)],
        others=[row for row in found if row.rule != name],
        baseline=next(iter(baselines), None),
    )


def _reuse_rows(facts: _Facts) -> None:
    """Copy rows that the results file already has into the run's folder."""
    path = facts.runs / compare.ROWS
    with registry.bundled_in(facts.root):
        known = {_identity(row) for row in read_rows(path)}
        filed = {_identity(row): row for row in read_rows(facts.results)}
    if filed.keys() - known:
        append_rows(path, [row for key, row in filed.items() if key not in known])


def _of_plan(plan: Plan, rows: Iterable[Row]) -> list[Row]:
    asked = {
        identity(cell.rule, digest, cell.env.name, cell.config, seed, cell.variant)
        for cell in plan.cells
        for digest in [weights_digest(cell.rule)]
        for group in plan.groups
        for seed in group
        if seed < plan.end
    }
    return [row for row in rows if _identity(row) in asked]


def _identity(row: Row) -> str:
    return row.identity(None if row.weights_recorded else weights_digest(row.rule))


# Step 3: compare with the current version.


def _decide(facts: _Facts, measured: Evaluated) -> tuple[Verdict | None, list[str]]:
    """Return the verdict and the known failures, or raise `WorseError`."""
    none = [
        row.environment
        for row in measured.new
        if row.failed or row.final_return is None
    ]
    if none:
        raise WorseError(
            f"{len(none)} of {len(measured.new)} runs of the new weights have no "
            f"return (in {', '.join(sorted(set(none)))}): they diverged, or no episode "
            "ended; nothing was promoted. Train longer, or evaluate in the "
            "environments and at the length of the training"
        )
    now = _digest(_current(facts.name, facts.root))
    if now != _digest(facts.current):
        # The runs may have taken hours, in which another run was promoted.
        raise ValueError(
            f"{facts.name!r} changed in the meantime (sha256 {_digest(facts.current)} "
            f"-> {now}), and these weights were not compared with the new version; "
            "repeat the command"
        )
    failures = card_facts.failures(facts.run, measured)
    failures += facts.promotion.failures
    if not measured.old:
        return None, failures
    verdict = judge(measured.new, measured.old, measured.others, measured.baseline)
    if verdict.difference.value >= 0:
        return verdict, failures
    if not facts.promotion.force:
        raise WorseError(
            f"{facts.promotion.run} is worse than the current {facts.name!r}, which "
            f"stays: {verdict.text}; promote it with --force or under another name"
        )
    return verdict, [
        f"It was promoted although an earlier version is better: {verdict.text}.",
        *failures,
    ]


# Step 4: write the artifact and its rows.


def _stage(facts: _Facts, failures: list[str]) -> None:
    """Write the artifact, without results, into the run's folder."""
    folder = facts.staged / facts.name
    shutil.rmtree(facts.staged, ignore_errors=True)
    folder.mkdir(parents=True)
    name, weights = card_facts.weights_file(facts.run)
    (folder / name).write_bytes(weights)
    card = {**facts.card, "known_failures": failures}
    if facts.current is not None and facts.is_current:
        _keep_words(card, facts.current.card.to_dict(), facts.promotion)
    content = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(content, encoding="utf-8")


def _keep_words(
    card: dict[str, Any], before: Mapping[str, Any], promotion: Promotion
) -> None:
    """Keep the current card's texts about these weights, unless new ones are given."""
    card["results"] = before["results"]
    for name in ("title", "summary"):
        card[name] = getattr(promotion, name) or before[name]
    # "It scores below tuned Adam on ant: 3 ..." replaces an earlier "... on ant: ...".
    known = {text.partition(":")[0] for text in card["known_failures"]}
    card["known_failures"] = card["known_failures"] + [
        text for text in before["known_failures"] if text.partition(":")[0] not in known
    ]


def _file_rows(facts: _Facts, measured: Evaluated) -> None:
    """Add the rows to the results file in one write.

    Rows that have a name belong to the weights that have it now: rows of replaced
    weights get their digest appended to the name.
    """
    filed = read_rows(facts.results)
    with registry.bundled_in(facts.staged):
        known = {_identity(row) for row in filed}
        made = [*measured.old, *measured.others, *measured.new]
        filed += [row for row in made if _identity(row) not in known]
    renamed = [
        dataclasses.replace(row, rule=f"{row.rule}:{str(row.weights_sha256)[:8]}")
        if facts.is_old(row)
        else row
        for row in filed
    ]
    # A promotion that was killed may have filed the replaced weights' rows already.
    unique = {json.dumps(row.to_json()): None for row in renamed}
    facts.results.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{row}\n" for row in unique)
    atomic.write_atomically(facts.results, content.encode())
