"""Symbolic distillations: events, resuming, results, cards and commands.

Most have tables in place of a backend and scores in place of trainings.
"""

import dataclasses
import functools
import json
import shlex
import time
from typing import Any

import jax
import pytest

from learned_opt_rl import artifacts, cli, expressions
from learned_opt_rl.artifacts import registry
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.expressions import parse
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training import symbolic
from learned_opt_rl.training.distillation import inputs
from learned_opt_rl.training.distillation.teachers import teacher
from learned_opt_rl.training.promotion import origin
from learned_opt_rl.training.promotion.card import described, how, training
from learned_opt_rl.training.proposal import EvaluationConfig, Limits
from learned_opt_rl.training.proposal.conversation import BEST_TEXT
from learned_opt_rl.training.proposal.journal import EVENTS, LEDGER, LimitReachedError
from learned_opt_rl.training.proposal.scoring import candidate
from learned_opt_rl.training.run_folder import CONFIG
from learned_opt_rl.training.symbolic import Symbolic, configure, problem, report
from learned_opt_rl.training.symbolic import search as module
from learned_opt_rl.training.symbolic.backends import BackendError, Row
from tests.training.test_discovery import Scores as AnyScores
from tests.training.test_promotion_cards import promoted

WHERE = EvaluationConfig(("CartPole-v1",), steps=4096, seeds=2)
DRIFT = "drift\ninputs r, A\nreturn (r - 1)**2 * softplus(1.5 * A)\n"
OPTIMIZER = "optimizer\ninputs p, g\nreturn 0.02 * g + 0.001 * p\n"

# By the seed of the fit. The second table has the formula of the teacher, and the
# backend's losses are not those of the formulas.
TABLES = {
    0: [
        Row(1, 0.0, "0.3"),
        Row(2, 0.1, "special(x2)"),
        Row(2, 0.1, "x9 + x2"),
        Row(3, 0.5, "1.2 * x2"),
        Row(5, 0.0, "tanh(x2) + x4"),
    ],
    1: [Row(1, 0.0, "x2"), Row(4, 0.9, "1.4 * x2 \u2212 (0.1)"), Row(9, 0.0, "x3")],
    2: [Row(1, 0.0, "x4")],
}
# Both fits count, because only the last one finds the formula of the teacher.
LATE = {0: [Row(1, 0.0, "x2")], 1: [Row(3, 0.0, "1.2 * x2")]}


# Runs of different tests check the same formulas.
CHECK = functools.cache(candidate.check)


@pytest.fixture
def small(monkeypatch, quick_compilation):
    """Few rows, and no formula is checked twice."""
    monkeypatch.setattr(candidate, "check", CHECK)
    monkeypatch.setattr(problem, "_SHAPE", (1, 8, 16))
    monkeypatch.setattr(problem, "_GRID", 8)


class Killed(BaseException):
    """In place of a signal."""


class Tables:
    """In place of a backend."""

    def __init__(self, tables=LATE, killed_at: int | None = None) -> None:
        self.tables, self.killed_at = tables, killed_at
        self.known: dict[int, tuple[str, ...]] = {}

    def require(self):
        """Do nothing: it can always run."""

    def fit(self, columns, target, weights, settings, known):
        if settings.seed == self.killed_at:
            raise Killed
        assert len(columns) == len(target) == len(weights)
        self.known[settings.seed] = known
        return self.tables[settings.seed]


class Scores(AnyScores):
    """Candidates with returns from a table by the result's text, by default 1."""

    def __init__(self, table=None, killed_at: int | None = None) -> None:
        super().__init__(table)
        self.killed_at, self.configs = killed_at, []

    def __call__(self, config, spend, *, text: Any = None, rule=None) -> Any:
        self.configs.append(config)
        return super().__call__(config, spend, text=text, rule=rule)

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        if len(self.trained) == self.killed_at:
            raise Killed
        return super().train(environment, steps)


@pytest.fixture
def planted(tmp_path):
    (tmp_path / "drift.txt").write_text(DRIFT)
    return teacher(str(tmp_path / "drift.txt"))


@pytest.fixture
def run(tmp_path, monkeypatch, planted, small):
    """Runs a distillation in a folder; returns the result."""

    def runs(
        folder="run", tables=None, scores=None, limits=None, one=planted, **options
    ):
        made = tables or Tables()
        monkeypatch.setattr(module, "backend", lambda name: made)
        kind = {"templates": ("softplus",)}
        if one.drift is None:
            kind = {"inputs": "paper"}
        config = configure(one, WHERE, **{"fits": 2, **kind, **options})
        where = tmp_path / folder
        return Symbolic(config, one, where, limits, scores or Scores()).run()

    return runs


def events(folder, *names):
    rows = jsonl.read(folder / EVENTS)
    return [row for row in rows if not names or row["event"] in names]


def result(text):
    return text.splitlines()[-1].removeprefix("return ")


EXACT = result(DRIFT)


def test_a_whole_run(tmp_path, run, capsys):
    tables, scores = Tables(TABLES), Scores({DRIFT: 2.0})
    best = run(tables=tables, scores=scores, fits=3)
    folder = tmp_path / "run"
    assert result(best["text"]) == EXACT and best["loss"] < 1e-9
    assert (folder / BEST_TEXT).read_text() == best["text"]
    assert best["size"] == expressions.size(parse(best["text"]))
    # The formula of the teacher was found in the first fit, so no other follows.
    (fit,) = events(folder, "fit")
    assert tables.known == {0: ()} and fit["exact"] and fit["template"] == "softplus"
    assert fit["table"] == [list(row) for row in TABLES[0]]
    # Nor is a larger formula measured.
    assert not any("tanh" in one["text"] for one in fit["judged"])
    # What cannot be converted is refused with its row.
    assert [row["row"] for row in fit["refused"]] == [2, 3]
    assert "unknown function 'special'" in fit["refused"][0]["problem"]
    assert "unknown variable 'x9'" in fit["refused"][1]["problem"]
    (front,) = events(folder, "front")
    # The lowest loss comes first, as measured here and not by the backend.
    losses = [row["loss"] for row in front["rows"] if not row["problem"]]
    assert losses == sorted(losses) and front["rows"][0]["text"] == best["text"]
    assert [e["rule"] for e in events(folder, "reference")] == ["adam"]
    tried = [e["text"] for e in events(folder, "outcome")]
    assert tried == [row["text"] for row in front["rows"]]
    trained = [name for name, *_ in scores.trained]
    assert trained == ["adam", *tried]
    stages = {row["stage"] for row in jsonl.read(folder / LEDGER)}
    assert stages == {"fit", "train"}
    assert "total: 0" in capsys.readouterr().err


def test_a_formula_that_was_not_found_is_searched_in_all_fits(tmp_path, run):
    tables = Tables()
    run(tables=tables, templates=("relu", "softplus"))
    # Guesses of later fits are the formulas of those before with the same form.
    assert tables.known == {0: (), 1: ("x2",)}
    fits = events(tmp_path / "run", "fit")
    found = [(row["template"], row["number"]) for row in fits]
    assert found == [("relu", 0), ("softplus", 0), ("relu", 1), ("softplus", 1)]
    # One form gives rules of that form only.
    forms = [{"relu" if "* relu(" in j["text"] else "softplus" for j in row["judged"]}
             for row in fits]  # fmt: skip
    assert forms == [{"relu"}, {"softplus"}] * 2


def test_the_highest_fitness_wins_and_a_tie_goes_to_the_simpler(tmp_path, run):
    run("first")
    rows = report.rows(tmp_path / "first")
    assert len(rows) >= 2
    # All have the same returns.
    assert report.rows(tmp_path / "first")[0]["fitness"] == rows[-1]["fitness"]
    smallest = min(rows, key=lambda row: row["size"])
    assert (tmp_path / "first" / BEST_TEXT).read_text() == smallest["text"]
    best = run("second", scores=Scores({rows[0]["text"]: 2.0}))
    assert best["text"] == rows[0]["text"] and best["fitness"] > rows[1]["fitness"]


def test_without_candidates_the_lowest_loss_wins(tmp_path, run):
    scores = Scores()
    best = run(candidates=0, scores=scores)
    assert best["fitness"] is None and not scores.trained
    (front,) = events(tmp_path / "run", "front")
    assert best["text"] == front["rows"][0]["text"]
    # More candidates continue the run, and fewer are refused.
    table = {front["rows"][1]["text"]: 9.0}
    best = run(candidates=2, scores=Scores(table), tables=Tables(killed_at=0))
    assert best["text"] == front["rows"][1]["text"]
    run("whole", candidates=2, scores=Scores(table))
    contents = [(tmp_path / n / EVENTS).read_bytes() for n in ("run", "whole")]
    assert contents[0] == contents[1]
    with pytest.raises(ValueError, match="candidates=1 is less than the 2 of"):
        run(candidates=1)


def test_runs_killed_between_fits_and_trainings_resume_to_the_same_events(
    tmp_path, run
):
    whole, tables = run("whole"), Tables()
    with pytest.raises(Killed):
        run("killed", tables=Tables(killed_at=0))
    with pytest.raises(Killed):
        run("killed", tables=Tables(killed_at=1))
    assert len(events(tmp_path / "killed", "fit")) == 1
    for trainings in (0, 1, 1):
        with pytest.raises(Killed):
            run("killed", tables=tables, scores=Scores(killed_at=trainings))
    # The second fit knew the formulas of the first, which another process had found.
    assert tables.known == {1: ("x2",)}
    assert run("killed", tables=Tables(killed_at=0)) == whole
    contents = [(tmp_path / n / EVENTS).read_bytes() for n in ("killed", "whole")]
    assert contents[0] == contents[1]


def test_a_run_of_a_former_process_is_recalled_without_its_data(
    tmp_path, run, monkeypatch
):
    best = run()
    monkeypatch.delattr(module, "make_problem")
    scores = Scores()
    assert run(tables=Tables(killed_at=0), scores=scores) == best
    assert not scores.trained


def test_other_configurations_and_other_teachers_are_refused(tmp_path, run, planted):
    run(candidates=0)
    with pytest.raises(ValueError, match="holds another run .*seed 0 -> 1"):
        run(candidates=0, seed=1)
    with pytest.raises(ValueError, match="holds another run .*loss value -> slope"):
        run(candidates=0, loss="slope")
    other = dataclasses.replace(planted, sha256="0" * 64)
    with pytest.raises(ValueError, match="holds another run .*teacher_sha256"):
        run(candidates=0, one=other)


def test_limits_stop_the_run_with_the_way_on(tmp_path, run):
    with pytest.raises(LimitReachedError, match="max_hours=0 is reached: .* raise"):
        run(limits=Limits(max_hours=0))
    assert not events(tmp_path / "run")
    with pytest.raises(LimitReachedError, match="max_steps=10 is reached"):
        run(limits=Limits(max_steps=10))
    assert [e["of"] for e in events(tmp_path / "run", "train")] == ["adam"]
    run()
    assert (tmp_path / "run" / BEST_TEXT).exists()


def test_visited_inputs_are_gathered_once(tmp_path, run, monkeypatch):
    (tmp_path / "rule.txt").write_text(OPTIMIZER)
    one = teacher(str(tmp_path / "rule.txt"))
    gathered = []

    def visit(rule, runs, *, steps, size, seed):
        gathered.append(list(runs))
        return inputs.paper(jax.random.key(seed), (steps, 4, size))

    monkeypatch.setattr(problem.visited, "visit", visit)
    monkeypatch.setattr(problem, "_SHAPE", (1, 4, 16))
    tables = {0: [Row(1, 0.0, "x1")], 1: [Row(3, 0.0, "x1 + x0")]}
    options = {"one": one, "inputs": "visited", "candidates": 0}
    with pytest.raises(Killed):
        run(tables=Tables(tables, killed_at=1), **options)
    run(tables=Tables(tables), **options)
    assert gathered == [["CartPole-v1"]]


def test_an_unfinished_run_is_not_promoted(tmp_path, run):
    run(candidates=2)
    folder = tmp_path / "run"
    lines = (folder / EVENTS).read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["event"] == "outcome"
    (folder / EVENTS).write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match="is not finished: 1 of 2 candidates"):
        origin.found(folder)


def test_without_a_usable_formula_the_problems_are_named(tmp_path, run):
    (tmp_path / "rule.txt").write_text(OPTIMIZER)
    one = teacher(str(tmp_path / "rule.txt"))
    tables = Tables({0: [Row(1, 0.0, "x0"), Row(2, 0.0, "exp(x0)")], 1: []})
    message = "expressions can be used .gradient and momenta carry 0 of its variance"
    for _ in range(2):  # the second run recalls it
        with pytest.raises(ValueError, match=f"none of . {message}.*; raise fits, or "):
            run(tables=tables, one=one)
    with pytest.raises(ValueError, match="none of 0 expressions"):
        run("empty", tables=Tables({0: [], 1: []}))


def test_formulas_without_a_score_do_not_win(tmp_path, run):
    run("first")
    best, *rest = report.rows(tmp_path / "first")
    scores = Scores({best["text"]: None})
    found = run("second", scores=scores)
    assert found["text"] != best["text"]
    (lost,) = [e for e in events(tmp_path / "second", "outcome") if e["problem"]]
    assert lost["text"] == best["text"] and "an agent diverged" in lost["problem"]
    none = dict.fromkeys([row["text"] for row in (best, *rest)], "it took too long")
    with pytest.raises(ValueError, match="no expression has a score; the events name"):
        run("third", scores=Scores(none))


def test_a_rule_to_compare_with_may_have_no_score(tmp_path, run):
    for _ in range(2):  # the second run recalls it
        with pytest.warns(UserWarning, match="rule='adam' has no score .*diverged"):
            run(scores=Scores({"adam": None}))
    assert report.references(tmp_path / "run") == {}


def test_a_teacher_with_a_name_is_trained_with(tmp_path, run):
    one = teacher("discovered/dpo")
    scores = Scores({"discovered/dpo": 3.0})
    run(one=one, scores=scores, tables=Tables({0: TABLES[1], 1: TABLES[2]}))
    assert report.references(tmp_path / "run") == {"adam": 1.0, "discovered/dpo": 3.0}


def test_a_backend_that_cannot_run_loses_nothing(tmp_path, run):
    class Broken(Tables):
        def fit(self, *given):
            raise BackendError("no Julia")

    with pytest.raises(BackendError):
        run(tables=Broken())
    run()


def test_the_slope_decides_if_it_is_compared(tmp_path, run):
    tables = Tables({0: [Row(1, 0.0, "x2")], 1: [Row(1, 0.0, "1.2 * x2")]})
    best = run(tables=tables, loss="slope", candidates=0)
    assert result(best["text"]) == EXACT


# What follows from a run: the stages of a card, and commands.


@pytest.fixture
def centered(tmp_path, run):
    """A run with an optimizer that subtracts its mean, and its scores."""
    (tmp_path / "rule.txt").write_text(OPTIMIZER)
    one = dataclasses.replace(teacher(str(tmp_path / "rule.txt")), zero_mean=True)
    names = problem.make_problem(configure(one, WHERE, inputs="paper"), one).meanings
    g = [*names].index("g")
    table = [Row(1, 0.9, f"x{g}"), Row(5, 0.0, f"x{g} + 0.01 * x0")]
    scores = Scores()
    run(one=one, tables=Tables({0: table, 1: table}), scores=scores)
    return tmp_path / "run", scores


def test_an_optimizer_that_subtracts_its_mean_says_so_on_its_card(centered):
    folder, scores = centered
    assert all(config.zero_mean for config in scores.configs)
    made = origin.read(folder)
    fields = described(made)
    assert fields["architecture"]["zero_mean"] is True
    assert fields["kind"] == "optimizer" and fields["representation"] == "expression"
    assert origin.found(folder).evaluation.zero_mean


def test_a_card_names_teacher_method_and_command(tmp_path, run, monkeypatch, planted):
    best = run()
    folder = tmp_path / "run"
    found = origin.found(folder)
    assert found.text == best["text"] and found.references is None
    assert found.evaluation == WHERE and origin.next_seed(folder) == 2
    (stage,) = found.stages
    assert stage["kind"] == module.METHOD and stage["steps"] > 0
    made = origin.read(folder)
    assert how(made) == "distilled into an expression"
    fields = training(made)
    words = fields["description"]
    assert fields["method"] == "symbolic distillation"
    assert (
        f"/drift.txt (sha256 {planted.sha256})" in words and planted.name not in words
    )
    assert f"{best['size']} operations and operands" in words
    assert "Its own is 1 (on the same seeds: adam 1)" in words
    assert "every expression was evaluated with 2 agents trained for 4,096" in words
    assert "tokens" not in fields["compute"]
    assert fields["command"].startswith("learned-opt-rl train symbolic --teacher ")
    card_folder = promoted(tmp_path, monkeypatch, folder)
    assert (card_folder / "expression.txt").read_text() == best["text"]
    with registry.bundled_in(tmp_path / "pretrained"):
        card = artifacts.card("ours/tiny")
    assert (card.kind, card.training.method) == ("drift", "symbolic distillation")
    copied = {path.name for path in (card_folder / "campaign").iterdir()}
    assert copied == {CONFIG, EVENTS, LEDGER}


def test_without_trainings_the_card_names_none(tmp_path, run):
    best = run(candidates=0)
    (stage,) = origin.found(tmp_path / "run").stages
    assert "fitness" not in stage["summary"] and "agents" not in stage["summary"]
    assert origin.found(tmp_path / "run").text == best["text"]
    with pytest.raises(ValueError, match="proposal='x': .* has one result; give no"):
        origin.found(tmp_path / "run", "x")


def test_the_command_of_a_card_repeats_the_configuration(tmp_path, run, monkeypatch):
    run(candidates=0, loss="slope", templates=("relu", "free"), seed=3, tables=Tables(
        {3: TABLES[0], 4: TABLES[1]}))  # fmt: skip
    fields = json.loads((tmp_path / "run" / CONFIG).read_text())["config"]
    words = shlex.split(module.command(fields))
    made: list[Any] = []

    def take(config, *_):
        made.append(config)
        raise Killed

    monkeypatch.setattr(symbolic, "Symbolic", take)
    with pytest.raises(Killed):
        cli.main(words[1:])
    again = json.loads(json.dumps(dataclasses.asdict(made[0])))
    assert again == {k: v for k, v in fields.items() if k in again}


def test_a_folder_without_a_front_has_no_result(tmp_path, run):
    with pytest.raises(LimitReachedError):
        run(limits=Limits(max_hours=0))
    with pytest.raises(ValueError, match="has no expressions yet; repeat the `train s"):
        report.rows(tmp_path / "run")
    assert not report.draws(tmp_path)


def test_the_commands_refine_and_curve_take_the_folder(
    tmp_path, run, monkeypatch, capsys
):
    run(candidates=1)
    folder = str(tmp_path / "run")
    words = ["train", "refine", folder, "--out", str(tmp_path / "new"), "--dry-run"]
    assert cli.main(words) == 0
    assert "runs of 4,096 environment steps" in capsys.readouterr().out
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, *_: drawn.append(figure))
    assert cli.main(["train", "curve", folder]) == 0
    left, right = drawn[0].axes
    rows = report.rows(tmp_path / "run")
    scored = [row for row in rows if row["fitness"] is not None]
    assert len(rows) > len(scored) > 0
    for axes, what in ((left, "loss"), (right, "fitness")):
        (dots,) = [x for x in axes.get_lines() if x.get_linestyle() == "None"]
        shown = rows if what == "loss" else scored
        assert dots.get_xdata().tolist() == [row["size"] for row in shown]
        assert dots.get_ydata().tolist() == [row[what] for row in shown]
    (dashed,) = [x for x in right.get_lines() if x.get_linestyle() == "--"]
    assert dashed.get_label() == "adam" and dashed.get_ydata()[0] == 1.0
    assert left.get_yscale() == "log"


def test_the_table_has_returns(tmp_path, run):
    run(candidates=1, scores=Scores({DRIFT: 3.0}))
    head, adam, first, second, *_ = report.table(tmp_path / "run")
    assert head == ["size", "loss", "fitness", "CartPole-v1", "formula"]
    assert adam == ["", "", "1.000", "1", "adam"]
    assert first[2:4] == ["3.000", "3"]
    assert second[2:4] == ["", ""]


@pytest.fixture
def command(tmp_path, monkeypatch, planted, small):
    """Runs `train symbolic` without trainings."""
    monkeypatch.setattr(module, "backend", lambda name: Tables(TABLES))

    def runs(*words, out="cli"):
        given = ["--teacher", planted.name, "--out", str(tmp_path / out)]
        given += ["--candidates", "0", "--environments", "CartPole-v1"]
        return cli.main(["train", "symbolic", *given, *words])

    return runs


def test_the_command_prints_the_table(command, capsys, tmp_path):
    words = ["--templates", "softplus", "--fits", "2", "--search", "max_size=12"]
    assert command(*words) == 0
    out, err = capsys.readouterr()
    head, first, *_ = out.splitlines()
    assert head.split() == ["size", "loss", "fitness", "CartPole-v1", "formula"]
    assert first.endswith(EXACT) and first.split()[0] == "10"
    assert "best: 10 operations and operands, loss " in err
    made = json.loads((tmp_path / "cli" / CONFIG).read_text())
    assert made["config"]["search"]["max_size"] == 12
    assert command("--dry-run", out="none") == 0
    assert "at most 0 runs of 1,000,000 environment" in capsys.readouterr().out
    assert command("--dry-run", "--candidates", "2", out="none") == 0
    assert "at most 16 runs of 1,000,000 environment" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    assert command("--max-hours", "0", out="stopped") == 1
    assert "stopped: max_hours=0 is reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--templates", "relus"],
            "templates='relus' must be one of relu, softplus, fr",
        ),
        (["--search", "popul=3"], "--search 'popul=3': 'popul' is not a setting; did"),
        (
            ["--search", "max_size=big"],
            "--search 'max_size=big': 'big' is not a number",
        ),
        (["--fits", "0"], "fits=0 must be a positive"),
        (["--backend", "pysrr"], "backend='pysrr' must be one of operon, pysr"),
        (["--inputs", "paper"], "inputs='paper' has no effect on the drift"),
        (["--teacher", "minatar"], "teacher='minatar' is recurrent"),
    ],
)
def test_mistakes_are_one_line(command, capsys, words, message):
    assert command(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_backend_that_cannot_run_is_one_line(command, capsys, monkeypatch):
    class Broken(Tables):
        def fit(self, *given):
            raise BackendError("backend='pysr' cannot start Julia; give another")

    monkeypatch.setattr(module, "backend", lambda name: Broken())
    assert command() == 2
    assert "error: backend='pysr' cannot start Julia" in capsys.readouterr().err


# Formulas that Operon has to find, from an empty folder and without hints.
PLANTED = {
    "softplus": DRIFT.replace("r, A", "r, A, log_r").replace(
        "1.5 * A", "1.3 * A - 0.7 * log_r"
    ),
    "clip": "drift\ninputs r, A\nz = (r - 1) * A\n"
    "return relu(z - 1.7 * tanh(z / 1.7))\n",
    "tanh": "optimizer\ninputs p, g\nmemory m_0_9 = momentum(0.9)\n"
    "return 0.002 * tanh(3 * m_0_9) + 0.0004 * p\n",
    "max": "optimizer\ninputs g, p\nmemory m_0_99 = momentum(0.99)\n"
    "return 0.002 * max(m_0_99, 0.3 * g) - 0.0004 * p\n",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_formulas_are_recovered_in_two_minutes(tmp_path, name):
    (tmp_path / "rule.txt").write_text(PLANTED[name])
    one = teacher(str(tmp_path / "rule.txt"))
    config = configure(one, WHERE, candidates=0)
    contents = []
    for folder in ("first", "second"):
        # Not the time on the clock, which other processes lengthen.
        started = time.process_time()
        best = Symbolic(config, one, tmp_path / folder).run()
        assert time.process_time() - started < 120
        contents.append((tmp_path / folder / EVENTS).read_bytes())
    assert contents[0] == contents[1]
    # The same operations; a factor may be in front of a maximum or inside.
    assert best["loss"] < 1e-12
    assert best["size"] <= expressions.size(parse(PLANTED[name])) + 2
