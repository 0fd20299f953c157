"""The archive, the discovery by thinker and coder, and refinement."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import pytest

from learned_opt_rl.artifacts import load, weights
from learned_opt_rl.cli import main
from learned_opt_rl.expressions import parse
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.lock import FolderInUseError, locked
from learned_opt_rl.training.promotion import origin
from learned_opt_rl.training.proposal import (
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
    Limits,
    ProviderError,
    Refinement,
    RefinementConfig,
    Reply,
    archive,
    prompts,
    providers,
    search,
)
from learned_opt_rl.training.proposal.archive import Member
from learned_opt_rl.training.proposal.discovery import METHOD
from learned_opt_rl.training.proposal.journal import (
    EVENTS,
    LEDGER,
    LimitReachedError,
)
from learned_opt_rl.training.proposal.reply import RefusedReplyError, read_code
from learned_opt_rl.training.proposal.scoring.worker import DivergedError, WorkerError
from tests.training.test_proposal import conversations, reworded

GAMES = ("CartPole-v1", "Acrobot-v1")
WHERE = EvaluationConfig(GAMES, steps=4096, seeds=1)
SIGNATURE = "w, g, var1, var2, t, d, t_p, b_p, l_p, key"


def code(update: str) -> str:
    return f"def update_fn({SIGNATURE}):\n    return {update}, var1, var2\n"


def think(suggestion: str) -> str:
    return json.dumps({"thought": "t", "suggestion": suggestion})


def write(update: str) -> str:
    return json.dumps({"code": code(update)})


class Roles:
    """Replies to each role in order."""

    def __init__(self, thinker: list[str], coder: list[str]) -> None:
        self.replies = {"thinker": list(thinker), "coder": list(coder)}
        self.calls: list[str] = []
        self.prompts: list[list] = []

    def complete(self, messages, *, temperature=None, seed=None) -> Reply:
        role = "coder" if messages[0]["content"] == prompts.coder() else "thinker"
        self.calls.append(role)
        self.prompts.append(list(messages))
        if not self.replies[role]:
            raise ProviderError(f"no more replies for the {role}")
        return Reply(self.replies[role].pop(0), "scripted")


class Scores:
    """Candidates with returns from a table by text; a list is one result per try."""

    warnings: tuple[str, ...] = ()

    def __init__(self, table: dict[str, Any] | None = None) -> None:
        self.table, self.trained = table or {}, []

    def __call__(self, config, spend, *, text: Any = None, rule=None) -> Any:
        self.text, self.spend, self.rule = text, spend, rule
        self.names = config.environments
        return self

    def check(self) -> jsonl.Record:
        # Formulas of the same value have the same response.
        value = str(parse(self.text).to_text()).replace("g * 1", "g")
        if self.table.get(self.text) == "slow check":
            raise RefusedReplyError("check_failed", "it took more than 90 seconds")
        response = [float(b) for b in value.encode()]
        return {"problem": "", "response": response, "warnings": self.warnings}

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        self.trained.append((self.text or self.rule, environment, steps))
        self.spend("train", 1.0, steps=10)
        found = self.table.get(str(self.text or self.rule), 1.0)
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, dict):
            found = found[environment]
        if found is None:
            raise DivergedError(f"an agent diverged in {environment}")
        if isinstance(found, str):
            raise WorkerError(found)
        return {"returns": [found], "auc": [found / 2], "curve": [found] * 8}

    def __enter__(self) -> "Scores":
        return self

    def __exit__(self, *_: object) -> None:
        return


INITIAL = {"plain": code("g"), "half": code("0.5 * g")}


def text_of(update: str) -> str:
    return read_code(code(update), "optimizer").to_text()


def discovery(folder, provider, scores=None, **options) -> Discovery:
    given = {"generations": 1, "refinements": 2, "ranked": (), **options}
    config = DiscoveryConfig(WHERE, **given)
    return Discovery(config, folder, provider, None, scores or Scores(), INITIAL)


def member(name: str, *returns: float | None, code: str | None = "code") -> Member:
    found = dict(zip("abcd", returns, strict=False))
    return Member(name, None, code, "optimizer\ninputs g\nreturn g", found, found)


def test_ranks_are_those_of_the_golden_case(reference):
    golden = json.loads((reference / "golden" / "llm_thinker_coder.json").read_text())
    case = golden["ranking_case"]
    pairs = zip(case["names"], case["final_return"], strict=True)
    members = [member(name, *returns) for name, returns in pairs]
    np.testing.assert_array_equal(archive.ranks(members), case["per_environment_rank"])
    np.testing.assert_array_equal(archive.average_ranks(members), case["average_rank"])
    order = [one.name for one in archive.best_first(members)]
    assert order == case["order_best_first"] and order[:5] == case["top_5"]
    rng = np.random.default_rng(0)
    drawn = {archive.select(members, rng, exploit=1.0)[0].name for _ in range(200)}
    # The one that diverged is not refined; the next in order takes the fifth place.
    assert drawn == {"cand_a", "cand_b", "clipped", "relative", "sign"}


def test_selection_has_its_probabilities_and_reaches_every_member():
    members = [member(str(i), float(i)) for i in range(12)]
    members.append(member("adam", 99.0, code=None))
    rng = np.random.default_rng(0)
    drawn = [archive.select(members, rng) for _ in range(2000)]
    assert abs(np.mean([exploited for _, exploited in drawn]) - 0.8) < 0.03
    assert {one.name for one, _ in drawn} == {str(i) for i in range(12)}
    best = {one.name for one, exploited in drawn if exploited}
    assert best == {"7", "8", "9", "10", "11"}


def test_context_has_good_members_of_each_environment():
    members = [member("a", 9.0, 0.0), member("b", 0.0, 9.0), member("nan", None, 99.0)]
    found = archive.context(members, np.random.default_rng(0), top=1)
    assert [one.name for one in found] == ["a", "b"]


def test_cells_keep_different_formulas():
    big = (
        "optimizer\ninputs g, p\nreturn g + p * (g + p) - abs(g) * abs(p) / (1 + p**2)"
    )
    one, two = member("one", 2.0), member("two", 1.0)
    other = Member("big", None, "code", big, {"a": 0.0}, {"a": 0.0})
    assert one.cell == two.cell != other.cell
    rng = np.random.default_rng(0)
    drawn = {
        archive.select([one, two, other], rng, exploit=0.0, cells=True)[0].name
        for _ in range(50)
    }
    assert drawn == {"one", "big"}


def test_a_hopeless_candidate_cannot_reach_the_better_half():
    members = [member(str(i), float(i), float(i)) for i in range(5)]
    assert archive.hopeless(members, {"a": -1.0}, 2) is False  # first in b: rank 3.5
    assert archive.hopeless(members, {"a": -1.0, "b": 9.0}, 2) is False  # complete
    three = [member(str(i), *[float(i)] * 3) for i in range(5)]
    assert archive.hopeless(three, {"a": -1.0, "b": -1.0}, 3)


def test_the_golden_generation(tmp_path, reference):
    golden = json.loads((reference / "golden" / "llm_thinker_coder.json").read_text())
    script, initial = golden["generation_script"], golden["initial_archive"]
    by_role: dict[str, list[str]] = {"thinker": [], "coder": []}
    table: dict[str, Any] = {}
    games = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
    names = tuple(f"{game}-MinAtar" for game in games)
    for one in script["replies"]:
        by_role[one["role"]].append(one["reply"])
        if "evaluation" in one:
            written = read_code(json.loads(one["reply"])["code"], "optimizer")
            values = one["evaluation"]["final_return"]
            table[written.to_text()] = dict(zip(names, values, strict=True))
    provider = Roles(**by_role)
    config = DiscoveryConfig(
        EvaluationConfig(names, steps=1e6, seeds=1),
        generations=1,
        refinements=script["refinements"],
        ranked=(),
        exploit=0.0,
        seed=_seed_that_draws(script["base"], initial),
    )
    codes = {one["name"]: one["code"] for one in initial}
    made = Discovery(config, tmp_path, provider, None, Scores(table), codes)
    made.run()
    wanted = script["expected"]
    assert [step["outcome"] for step in made.steps] == wanted["refinement_outcomes"]
    assert provider.calls.count("thinker") == wanted["thinker_calls"]
    assert provider.calls.count("coder") == wanted["coder_calls"]
    assert len(made.members) == len(initial) + wanted["archive_growth"]
    # The thinker is told the code that was really written, the coder its error.
    second = provider.prompts[2][-1]["content"]
    assert "return (1.0 - t_p) * g * scale" in second and "final return 51" in second
    repair = next(
        p for p in provider.prompts[::-1] if p[0]["content"] == prompts.coder()
    )
    assert repair[-1]["content"].startswith("This proposal is not valid: line")


def _seed_that_draws(base: str, initial: list) -> int:
    members = [member(one["name"], 1.0) for one in initial]
    for seed in range(100):
        rng = np.random.default_rng([seed, 0])
        if archive.select(members, rng, exploit=0.0)[0].name == base:
            return seed
    raise AssertionError(base)


THINKER = [think("one"), "no JSON", think("two"), think("three"), think("four")]
CODER = [write(f"{u}g") for u in ("2 * ", "(", "3 * ", "4 * ", "5 * ", "6 * ")]
TABLE = {"4": None, "5": 7.0}


def whole(folder) -> tuple[Discovery, Roles]:
    provider = Roles(THINKER, CODER)
    table = {text_of(f"{k} * g"): v for k, v in TABLE.items()}
    made = discovery(folder, provider, Scores(table), generations=2)
    made.run()
    return made, provider


def test_a_search_enters_what_was_evaluated(tmp_path):
    made, provider = whole(tmp_path)
    outcomes = [step["outcome"] for step in made.steps]
    # Training with the third fails once, and the coder repairs it.
    assert outcomes == ["evaluated"] * 4
    assert made.members[-2].returns == dict.fromkeys(GAMES, 7.0)
    assert archive.best_first(made.members)[0].name == "g1_0"
    assert provider.calls.count("coder") == 6


@pytest.mark.parametrize("kept", [1, 3, 6, 9, 11, 13, 15, 18, 20, 22])
def test_a_search_killed_after_any_event_resumes_to_the_same_events(tmp_path, kept):
    provider = Roles([*THINKER, *["no"] * 3], CODER)
    first = discovery(tmp_path / "whole", provider, generations=2)
    first.run()
    content = (tmp_path / "whole" / EVENTS).read_bytes()
    lines = content.splitlines(keepends=True)
    other = tmp_path / "killed"
    other.mkdir()
    (other / "config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    kept = min(kept, len(lines) - 1)
    (other / EVENTS).write_bytes(b"".join(lines[:kept]))
    used = [json.loads(line) for line in lines[:kept]]
    answered = [row["reply"]["text"] for row in used if row["event"] == "reply"]
    rest = Roles(
        [text for text in [*THINKER, *["no"] * 3] if text not in answered],
        [text for text in CODER if text not in answered],
    )
    second = discovery(other, rest, generations=2)
    second.run()
    assert (other / EVENTS).read_bytes() == content
    assert second.members == first.members


class Slow(Scores):
    """Candidates whose training takes long enough to be killed."""

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        time.sleep(0.01)
        return super().train(environment, steps)


def long_search(folder, provider: Any) -> None:
    options = {"generations": 4, "refinements": 4}
    discovery(folder, provider, Slow(), **options).run()


def replayed(folder, record) -> None:
    long_search(folder, providers.Replay(providers.recorded(record)))


# A process that forks ten sessions, and kills each when it has added some events.
_KILLED = """
import os, pathlib, random, signal, sys, time
from tests.training import test_discovery as module

module.search.provenance = dict  # starting jax in each session would take long
folder, record = map(pathlib.Path, sys.argv[1:])
events = folder / module.EVENTS
lines = lambda: events.read_bytes().count(b"\\n") if events.exists() else 0
for moment in range(10):
    goal = lines() + 1 + moment % 3
    pid = os.fork()
    if not pid:
        module.replayed(folder, record)
        os._exit(0)
    while lines() < goal:
        time.sleep(0.001)
    time.sleep(random.Random(moment).uniform(0, 0.01))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    print(os.WTERMSIG(status), lines(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_search_killed_ten_times_resumes_to_the_same_events(tmp_path):
    thinker, coder = map(think, "abcdefghijklmnop"), (f"{k} * g" for k in range(2, 18))
    long_search(tmp_path / "whole", Roles([*thinker], [*map(write, coder)]))
    record, folder = tmp_path / "whole" / EVENTS, tmp_path / "killed"
    command = [sys.executable, "-c", _KILLED, str(folder), str(record)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = [[int(word) for word in line.split()] for line in ran.stdout.splitlines()]
    assert [number for number, _ in found] == [signal.SIGKILL] * 10, ran.stderr
    assert found[-1][1] < record.read_bytes().count(b"\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* ends in an unfinished line")
        replayed(folder, record)
    assert (folder / EVENTS).read_bytes() == record.read_bytes()


def test_a_record_rebuilds_the_archive_without_a_provider(
    tmp_path, capsys, monkeypatch
):
    made, _ = whole(tmp_path)
    scores = Scores()
    again = discovery(tmp_path, None, scores, generations=2)
    again.run()
    assert again.members == made.members and not scores.trained
    more = discovery(tmp_path, None, scores, generations=3)
    with pytest.raises(ProviderError, match="the record ends here"):
        more.run()
    # Asking for the device would take memory of a GPU.
    monkeypatch.delattr(search, "provenance")
    assert main(["train", "discover", "--replay", str(tmp_path)]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    # The games are CartPole-v1 and Acrobot-v1.
    assert head.split() == ["name", "parent", "rank", "size", "numbers", *NARROW]
    assert rows[0].split() == ["g1_0", "g0_1", "1.00", "3", "1", "7", "7"]
    assert last == "4 suggestions: 4 evaluated"


NARROW = ("CartPole", "Acrobot")


def test_a_table_is_80_columns_wide_and_marks_more_numbers():
    games = ("SpaceInvaders-MinAtar", "Breakout-MinAtar", "Asterix-MinAtar")
    text = "optimizer\ninputs g\nmemory var1 = 0\nvar1 = {} * var1 + g\n"
    text = f"{text}return {{}}1e-3 * var1\n"
    found: dict[str, float | None] = dict.fromkeys(games, 123.456)
    first = Member("first", None, "c", text.format(0.9, ""), found, found)
    more = Member("g10_11", "first", "c", text.format(0.9, "2 * "), found, found)
    rule = Member("goldie2024/minatar", None, None, None, found, found)
    rows = archive.table([first, more, rule])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert rows[0][5:] == ["SpaceInv", "Breakout", "Asterix"]
    assert [row[3:5] for row in rows[1:]] == [["8", "2"], ["10", "3+"], ["", ""]]


def test_a_discovery_outlives_its_prompts(tmp_path, monkeypatch):
    made, _ = whole(tmp_path)
    reworded(monkeypatch)
    content = (tmp_path / EVENTS).read_bytes()
    again = Discovery.recorded(tmp_path)
    assert (again.members, again.steps) == (made.members, made.steps)
    assert origin.found(tmp_path).text == text_of("5 * g")
    assert origin.found(tmp_path, "g0_0").text == text_of("2 * g")
    with pytest.raises(ValueError, match=r"proposal='best' .*give one of g1_0, g0_0"):
        origin.found(tmp_path, "best")
    assert (tmp_path / EVENTS).read_bytes() == content
    # A new reply answers the new prompts.
    with pytest.raises(ProviderError):
        discovery(tmp_path, Roles([think("new")], []), generations=3).run()
    *_, asked = conversations(tmp_path)
    assert asked[0]["content"] == prompts.thinker()
    assert asked[1]["content"] == "other words"


def test_a_record_of_the_first_version_is_read_and_continued(tmp_path):
    made, _ = whole(tmp_path)
    rows = [
        {n: v for n, v in row.items() if n not in ("role", "attempt", "kept")}
        for row in jsonl.read(tmp_path / EVENTS)
        if row["event"] not in ("read", "refinement", "ranks")
    ]
    for row in rows:
        row.pop("messages", None)
    jsonl.replace(tmp_path / EVENTS, rows)
    before = (tmp_path / LEDGER).read_bytes()
    again = Discovery.recorded(tmp_path)
    assert again.members == made.members and again.completed == 2
    assert [one["outcome"] for one in again.steps] == ["evaluated"] * 4
    assert (tmp_path / LEDGER).read_bytes() == before
    provider = Roles([think("a"), think("b")], [write("7 * g"), write("8 * g")])
    for given in (provider, None):  # the second run recalls both parts
        more = discovery(tmp_path, given, generations=3)
        more.run()
        assert more.completed == 3 and len(more.members) == len(made.members) + 2
    assert jsonl.read(tmp_path / EVENTS)[: len(rows)] == rows


def test_the_published_archive_is_rebuilt(tmp_path):
    folder = pathlib.Path(__file__).parents[2] / "results" / "discover_optimizer"
    for name in ("config.json", EVENTS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    # Reading takes no lock and writes nothing.
    with locked(folder := tmp_path):
        run = Discovery.recorded(folder)
    rows = jsonl.read(tmp_path / EVENTS)
    scored = {row["of"] for row in rows if row["event"] == "train"}
    assert len(run.members) == len(scored)
    assert (run.completed, len(run.steps)) == (8, 64)


def test_a_replay_with_other_scores_stops(tmp_path):
    whole(tmp_path / "one")
    replies = providers.recorded(tmp_path / "one" / EVENTS)
    made = discovery(tmp_path / "two", providers.Replay(replies), generations=2)
    # Without the failure, no reply of the coder repairs it.
    with pytest.raises(ProviderError, match="reply 9 has role coder, but role thinker"):
        made.run()


def test_events_and_ledger_have_every_refinement(tmp_path):
    coder = ["(", write("g * 1"), write("0.9 * g + 0.1 * g"), write("2 * g")]
    provider = Roles(["no JSON", *map(think, "abcd")], coder)
    scores = Scores({text_of("2 * g"): "it took too long"})
    options = {"refinements": 5, "attempts": 1, "exploit": 0.0}
    made = discovery(tmp_path, provider, scores, **options)
    made.run()
    rows = jsonl.read(tmp_path / EVENTS)
    found = [row for row in rows if row["event"] == "refinement"]
    assert found == made.steps
    outcomes = ["failed_thinker", "failed_coder", "duplicate", "evaluated"]
    assert [row["outcome"] for row in found] == [*outcomes, "failed_evaluation"]
    assert [row["literals"] for row in found] == [[], [], [1], [0.9, 0.1], [2]]
    assert [row["grown"] for row in found[-2:]] == [True, False]
    (start,) = [row for row in rows if row["event"] == "generation"]
    assert [row["parent"] for row in found] == [start["base"]] * 4 + ["g0_3"]
    assert "computes the same as plain" in found[2]["problem"]
    assert found[3]["code"] == code("0.9 * g + 0.1 * g")
    ranks = [row["ranks"] for row in rows if row["event"] == "ranks"]
    assert ranks == [{"plain": 1.5, "half": 1.5}, {"plain": 2, "half": 2, "g0_3": 2}]
    ledger = jsonl.read(tmp_path / LEDGER)
    own = [row["stage"] for row in ledger if row["proposal"] == "g0_3"]
    assert own == ["reply", "parse", "reply", "parse", "train", "train"]


def test_the_thinker_sees_ranks_sizes_and_warnings(tmp_path):
    provider = Roles([think("a"), think("b")], [write("2 * g"), write("3 * g")])
    scores = Scores({text_of("2 * g"): 5.0})
    scores.warnings = ("not finite for gradients and momenta of 1e6",)
    discovery(tmp_path, provider, scores, refine_from="best").run()
    first, second = (p[-1]["content"] for p in provider.prompts[::2])
    assert "average rank 1.5 of 2 optimizers, " in first
    assert "average rank 1 of 3 optimizers, 3 operations and operands" in second
    warning = "Warning: not finite for gradients and momenta of 1e6"
    assert warning in first and warning in second
    worse = prompts.written(Member("n", "x", "CODE", None, {}, {}), BEST, {"n": 2.0})
    assert worse.endswith(f"for the best one so far:\n\n{BEST.code}")


BEST = Member("best", None, "BEST CODE", None, {}, {})


def test_events_of_another_version_are_refused(tmp_path):
    whole(tmp_path)
    rows = jsonl.read(tmp_path / EVENTS)
    rows[1]["environment"] = "Pong"
    jsonl.replace(tmp_path / EVENTS, rows)
    with pytest.raises(ValueError, match="event 2 .*environment Pong -> CartPole-v1"):
        discovery(tmp_path, None, generations=2).run()


def test_duplicates_cost_nothing(tmp_path):
    provider = Roles([think("a"), think("b")], [write("g * 1"), write("2 * g")])
    scores = Scores()
    made = discovery(tmp_path, provider, scores)
    made.run()
    assert [step["outcome"] for step in made.steps] == ["duplicate", "evaluated"]
    assert "computes the same as plain" in provider.prompts[2][-1]["content"]
    assert len(scores.trained) == 3 * len(GAMES)


def test_a_short_run_screens(tmp_path):
    provider = Roles([think("a"), think("b")], [write("2 * g"), write("3 * g")])
    scores = Scores({text_of("2 * g"): 0.5})
    made = discovery(tmp_path, provider, scores, screen_steps=512)
    made.run()
    assert [step["outcome"] for step in made.steps] == ["screened", "evaluated"]
    assert scores.trained.count((text_of("2 * g"), GAMES[0], 512)) == 1
    assert (text_of("2 * g"), GAMES[0], None) not in scores.trained


def test_a_hopeless_candidate_is_stopped(tmp_path):
    provider = Roles([think("a"), think("b")], [write("3 * g"), write("4 * g")])
    table = {"g": 2.0, "0.5 * g": 1.0, "3 * g": 0.0, "4 * g": 3.0}
    scores = Scores({text_of(update): value for update, value in table.items()})
    where = EvaluationConfig((*GAMES, "MountainCar-v0"), steps=4096, seeds=1)
    config = DiscoveryConfig(
        where, generations=1, refinements=2, ranked=(), stop_hopeless=True
    )
    made = Discovery(config, tmp_path, provider, None, scores, INITIAL)
    made.run()
    assert [step["outcome"] for step in made.steps] == ["hopeless", "evaluated"]
    trained = [name for text, name, _ in scores.trained if text == text_of("3 * g")]
    assert trained == list(GAMES)
    told = provider.prompts[2][-1]["content"]
    assert "with returns of 0 in CartPole-v1, 0 in Acrobot-v1 it cannot reach" in told
    assert [m.name for m in made.members] == ["plain", "half", "g0_1"]


def test_members_of_several_islands_count_once():
    good = [member(name, *[9.0] * 3) for name in "xyz"]
    bad = [member(name, *[1.0] * 3) for name in "uvw"]
    copies = [dataclasses.replace(m, island=1) for m in bad]
    found = {"a": 5.0, "b": 5.0}
    # Copies of the bad ones would lower the bar.
    assert archive.hopeless([*good, *bad, *copies], found, 3) is archive.hopeless(
        [*good, *bad], found, 3
    )
    assert archive.rankings([*good, *copies, *bad])["x"] == 2


def test_only_a_divergence_is_a_bad_score(tmp_path):
    coder = [write(f"{number} * g") for number in (2, 3, 4)]
    provider = Roles([think("a"), think("b")], coder)
    table = {text_of("g"): None, text_of("0.5 * g"): 1.0}
    table |= dict.fromkeys(["adam", text_of("2 * g")], "it took too long")
    made = discovery(tmp_path, provider, Scores(table), ranked=("adam", "lion"))
    with pytest.warns(UserWarning, match="adam is not in the archive.*too long"):
        made.run()
    assert [m.name for m in made.members] == ["plain", "half", "lion", "g0_0", "g0_1"]
    assert archive.best_first(made.members)[-1].name == "plain"
    slow = dict.fromkeys(map(text_of, ("g", "0.5 * g")), "it took too long")
    made = discovery(tmp_path / "none", provider, Scores(slow))
    message = "check_seconds=90, train_seconds=7200.*: no first member"
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=message):
        made.run()


def test_a_first_member_with_a_slow_check_does_not_enter(tmp_path):
    scores = Scores({text_of("0.5 * g"): "slow check"})
    for _ in range(2):  # the second run recalls the check
        made = discovery(tmp_path, Roles([think("a")], []), scores, refinements=1)
        with (
            pytest.warns(UserWarning, match="half is not in .* more than 90 seconds"),
            pytest.raises(ProviderError),
        ):
            made.run()
        assert [m.name for m in made.members] == ["plain"]


@pytest.mark.parametrize("rule", ["mine.txt", "./mine", "own:rule", "tuned.json"])
def test_rules_that_the_training_does_not_find_are_not_ranked(tmp_path, rule):
    given = ("adam", "optax.lion:1e-3", "discovered/lion", f"adam+{rule}")
    with pytest.raises(ValueError, match="ranked=.*must be a handcrafted optimizer"):
        discovery(tmp_path, Roles([], []), ranked=given).run()
    assert not jsonl.read(tmp_path / EVENTS)


def test_islands_take_turns_and_exchange_their_best(tmp_path):
    thinker = [think(str(i)) for i in range(4)]
    coder = [write(f"{i + 2} * g") for i in range(4)]
    scores = Scores({text_of("2 * g"): 9.0})
    options = {"generations": 4, "refinements": 1, "islands": 2, "migrate": 2}
    made = discovery(tmp_path, Roles(thinker, coder), scores, **options)
    made.run()
    islands = [m.island for m in made.members if m.name.startswith("g")]
    # The best of island 0 has come to island 1.
    assert [m.island for m in made.members if m.name == "g0_0"] == [0, 1]
    assert islands.count(0) >= 2 <= islands.count(1)
    # In the ranking of the card, one that has migrated counts once.
    rows = jsonl.read(tmp_path / EVENTS)
    found = origin.found(tmp_path)
    words = found.stages[0]["summary"]
    assert found.text == text_of("2 * g") and "4 generations" in words
    assert "average rank 1 among 6 members" in words
    jsonl.replace(tmp_path / EVENTS, rows[:-3])
    assert "3 generations" in origin.found(tmp_path).stages[0]["summary"]


def test_the_first_members_are_the_published_ones():
    for name, written in prompts.initial().items():
        ours = read_code(written, "optimizer")
        published = parse(load(f"discovered/archive_{name}").text or "")
        rng = np.random.default_rng(0)
        drawn = {n: rng.standard_normal((4, 3)).astype(np.float32) for n in ("p", "g")}
        numbers = {"t_p": np.float32(0.3)}
        results = []
        for function in (ours, published):
            inputs = {n: (drawn | numbers)[n] for n in function.inputs}
            memory = {n: np.full((4, 3), 0.1, np.float32) for n in function.slots}
            results.append(np.asarray(function.evaluate(inputs, memory)[0]))
        np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generations": 0}, "generations=0"),
        ({"exploit": 1.5}, "exploit=1.5"),
        ({"refine_from": "worst"}, "refine_from='worst' must be 'latest' or 'best'"),
        ({"thinker_temperature": -1.0}, "thinker_temperature=-1"),
        ({"screen_steps": 0.0}, "screen_steps=0"),
    ],
)
def test_impossible_discoveries_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiscoveryConfig(WHERE, **options)


def test_the_folder_of_a_conversation_is_refused(tmp_path):
    made = {"kind": "proposal", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="it is of kind proposal"):
        discovery(tmp_path, None).run()
    assert METHOD == "discovery"


def test_a_folder_in_use_is_not_read(tmp_path):
    made = {"kind": "proposal", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    with locked(tmp_path), pytest.raises(FolderInUseError):
        discovery(tmp_path, Roles([], [])).run()


def test_a_large_file_is_not_read_as_an_expression(tmp_path, monkeypatch):
    (tmp_path / "large.txt").write_text(START)
    monkeypatch.setattr(weights, "MAX_BYTES", len(START))
    assert origin.found(tmp_path / "large.txt").text == START
    monkeypatch.setattr(weights, "MAX_BYTES", len(START) - 1)
    with pytest.raises(ValueError, match="the file of an expression .*is larger than"):
        origin.found(tmp_path / "large.txt")


START = "optimizer\ninputs g, p\nreturn 0.5 * g + 1e-5 * p + tanh(0 * p)"
TUNING = {"generations": 3, "population": 4, "drops": 20}


class Formulas(Scores):
    """Candidates that are better the nearer they are to 0.3 times the gradient."""

    def __init__(self, moved: float = 0.0, troubles: dict[str, str] | None = None):
        super().__init__()
        self.moved, self.troubles = moved, troubles or {}

    def __call__(self, config, spend, *, text: Any = None, rule=None) -> Any:
        self.seed = config.first_seed
        return super().__call__(config, spend, text=text, rule=rule)

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        if self.text is None:
            return super().train(environment, steps)
        function = parse(self.text)
        inputs = dict.fromkeys(function.inputs, np.float32([1, -1]))
        inputs |= {name: np.zeros(2, "f4") for name in inputs if name == "p"}
        value = function.evaluate(inputs, function.init_memory((2,)))[0]
        goal = (0.3 + self.moved * bool(self.seed)) * np.array([1, -1])
        trouble = self.troubles.get(self.text)
        self.table[self.text] = trouble or 10 - float(abs(value - goal).max())
        return super().train(environment, steps)


def refinement(folder, scores=None, text: str = START, limits=None, **options):
    config = RefinementConfig(text, WHERE, **{**TUNING, **options})
    return Refinement(config, folder, limits, scores or Formulas())


def test_constants_are_tuned_and_what_a_formula_does_not_need_is_dropped(tmp_path):
    scores = Formulas()
    best = refinement(tmp_path, scores).run()
    function = parse((tmp_path / "best.txt").read_text())
    assert (
        best["text"] == function.to_text() and best["fitness"] > best["start_fitness"]
    )
    # Ties are for the simpler one, and the parameter is 0 here.
    assert function.inputs == ("g",)
    (number,) = function.init_constants().values()
    assert 0.2 < number < 0.5
    rows = jsonl.read(tmp_path / EVENTS)
    by_event = {row["event"]: row for row in rows}
    # CMA-ES improved it before anything was left out.
    assert by_event["tuned"]["fitness"] > by_event["tuned"]["start_fitness"]
    assert {e["first_seed"] for e in rows if "of" in e} == {0, WHERE.seeds}


def test_constants_that_are_better_by_luck_are_not_kept(tmp_path):
    # With the other seeds, the best is where the expression starts.
    best = refinement(tmp_path, Formulas(moved=0.2), drops=0).run()
    assert best["text"] == parse(START).to_text()
    assert best["fitness"] == best["start_fitness"]


def test_formulas_without_a_score_are_never_kept(tmp_path):
    simpler = "optimizer\ninputs g\nreturn 0.3 * g\n"
    text = "optimizer\ninputs g, p\nreturn 0.3 * g + 1e-5 * p"
    for trouble in ("it took more than 2 seconds", "out of memory"):
        scores = Formulas(troubles={simpler: trouble})
        folder = tmp_path / trouble[:3]
        best = refinement(folder, scores, text, generations=0).run()
        drops = [e for e in jsonl.read(folder / EVENTS) if e["event"] == "drop"]
        (lost,) = [e for e in drops if e["text"] == simpler]
        assert (
            lost["fitness"] is None and not lost["kept"] and trouble == lost["problem"]
        )
        assert best["text"] != simpler
    slow = Formulas(troubles={parse(START).to_text(): "it took too long"})
    with pytest.raises(ValueError, match="has no score .it took too long.; give"):
        refinement(tmp_path / "start", slow).run()


def test_a_time_limit_says_nothing_of_the_constants():
    from learned_opt_rl.training.proposal import refinement as module

    made = [module._Outcome(f) for f in (1.0, 2.0, 6.0)]
    slow, bad = module._Outcome(None), module._Outcome(None, diverged=True)
    assert module._ranked([*made, slow, bad]) == [1.0, 2.0, 6.0, 2.0, 0.0]


def test_numbers_move_on_their_own_scales():
    from learned_opt_rl.training.proposal.refinement import _moved

    values = np.array([0.999, 1e-3, -0.5, 3.0, 0.0, 9e11])
    moved = _moved(values, np.full((1, 6), 1.0))[0]
    assert moved.dtype == np.float32
    e = float(np.e)
    wanted = [0.999 * e / (0.999 * e + 1e-3), 1e-3 * e / (1e-3 * e + 0.999)]
    wanted += [-0.5 * e / (0.5 * e + 0.5), 3 * e, 1.0, 1e12]
    np.testing.assert_allclose(moved, wanted, rtol=1e-6)


@pytest.mark.parametrize("step", [200.0, 800.0, -200.0, -800.0])
def test_large_steps_keep_signs_and_numbers_below_1(step):
    from learned_opt_rl.training.proposal.refinement import _moved

    values = np.array([0.999, 1e-3, -0.5, 3.0, -3.0])
    moved = _moved(values, np.full((1, 5), step))[0]
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(np.sign(moved), np.sign(values))
    assert (np.abs(moved[:3]) < 1).all()


def test_a_refinement_recalls_the_numbers_that_it_has_drawn(tmp_path, monkeypatch):
    from learned_opt_rl.training.proposal import refinement as module

    best = refinement(tmp_path).run()
    drawn = module._moved
    # As on a machine with other rounding.
    monkeypatch.setattr(module, "_moved", lambda *a: np.nextafter(drawn(*a), np.inf))
    assert refinement(tmp_path).run() == best


@pytest.mark.parametrize("kept", [1, 2, 5, 9, 20, 40, 52, 60])
def test_a_refinement_killed_after_any_event_resumes_to_the_same_bytes(tmp_path, kept):
    first = refinement(tmp_path / "whole")
    best = first.run()
    content = (tmp_path / "whole" / EVENTS).read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) > kept
    other = tmp_path / "killed"
    other.mkdir()
    (other / "config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    (other / EVENTS).write_bytes(b"".join(lines[:kept]))
    assert refinement(other).run() == best
    for name in (EVENTS, "best.txt"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (other / name).read_bytes() == whole


def test_a_refinement_stops_at_its_limits_and_takes_more_drops(tmp_path):
    with pytest.raises(LimitReachedError, match="max_steps=0 is reached"):
        refinement(tmp_path / "none", limits=Limits(max_steps=0)).run()
    refinement(tmp_path, drops=1).run()
    refinement(tmp_path).run()
    refinement(tmp_path / "whole").run()
    whole, parts = ((tmp_path / n / EVENTS).read_bytes() for n in ("whole", "."))
    assert whole == parts
    with pytest.raises(ValueError, match="sigma 0.1 -> 0.2"):
        refinement(tmp_path, sigma=0.2).run()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match="drops=1 is less than the 20 of .*; give 20"):
        refinement(tmp_path, drops=1).run()
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generations": 0, "drops": 0}, "there is nothing to do; raise one of them"),
        ({"generations": -1}, "generations=-1"),
        ({"population": 5}, "population=5 must be even, at least 4"),
        ({"sigma": 0.0}, "sigma=0"),
        ({"text": "drift\ninputs r\nreturn (r - 1)**2"}, "has no constants to tune"),
    ],
)
def test_impossible_refinements_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RefinementConfig(**{"text": START, "evaluation": WHERE, **options})


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("missing", (), "is neither the folder of a search nor the file"),
        ("bad.txt", (), r"nor the file of an expression \(line 1"),
        ("good.txt", (), "names no environments; give --environments"),
        ("good.txt", ("--environments", "CartPole-v1", "--seeds", "0"), "seeds=0"),
        ("good.txt", ("--environments", "Nowhere"), "Nowhere"),
        ("es", (), "holds a run of kind evolution; give the folder of"),
        ("empty", (), "has no valid proposal with a score yet"),
        ("unread", (), "holds no run"),
    ],
)
def test_sources_without_a_formula_are_refused(
    tmp_path, capsys, source, words, message
):
    (tmp_path / "bad.txt").write_text("nonsense")
    (tmp_path / "good.txt").write_text(START)
    for name in ("es", "empty", "unread"):
        (tmp_path / name).mkdir()
    (tmp_path / "es" / "config.json").write_text('{"kind": "evolution", "config": {}}')
    with pytest.raises(ProviderError):
        discovery(tmp_path / "empty", Roles([], [])).run()
    out = str(tmp_path / "out")
    command = ["train", "refine", str(tmp_path / source), "--out", out, *words]
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_refinement_takes_the_settings_and_the_chain_of_its_search(tmp_path, capsys):
    whole(tmp_path / "search")
    command = [
        "train",
        "refine",
        str(tmp_path / "search"),
        "--out",
        str(tmp_path / "x"),
    ]
    options = ["--generations", "2", "--population", "4", "--drops", "5", "--dry-run"]
    assert main([*command, *options]) == 0
    shown = capsys.readouterr().out
    # The start, 8 members, the start and the best again, and 5 drops, in two games.
    assert "32 runs of 4,096 environment steps: 131,072 steps" in shown
    assert not (tmp_path / "x").exists()
    found = origin.found(tmp_path / "search")
    assert found.text == text_of("5 * g") and found.evaluation == WHERE
    config = RefinementConfig(found.text, WHERE, generations=0, drops=2)
    Refinement(config, tmp_path / "r", None, Formulas(), found.stages).run()
    again = origin.found(tmp_path / "r")
    with pytest.raises(ValueError, match="'g0_0': .* has one result; give no name"):
        origin.found(tmp_path / "r", "g0_0")
    kinds = [stage["kind"] for stage in again.stages]
    assert kinds == ["discovery", "refinement"]
    proposed = "scripted (as stated by the provider; the replies came through the roles"
    assert proposed in again.stages[0]["summary"]
    words = again.stages[1]["summary"]
    assert "Its constants were not tuned. Removing an operation was tried" in words
    assert again.stages[0]["steps"] == 10 * made_trainings(tmp_path / "search")


@pytest.mark.parametrize("lost", ["evaluation", "initial", "generations", "extra"])
def test_folders_with_other_fields_are_refused(tmp_path, capsys, lost):
    whole(tmp_path)
    made = json.loads((tmp_path / "config.json").read_text())
    if made["config"].pop(lost, None) is None:
        made["config"][lost] = 1
    (tmp_path / "config.json").write_text(json.dumps(made))
    if lost == "generations":  # it has a default
        made["config"].pop("ranked")
        (tmp_path / "config.json").write_text(json.dumps(made))
    for command in (
        ["train", "refine", str(tmp_path), "--out", str(tmp_path / "x")],
        ["train", "discover", "--replay", str(tmp_path)],
    ):
        assert main(command) == 2
        assert "does not have the fields that a search" in capsys.readouterr().err


@pytest.mark.parametrize("memory", ["nan", "inf", "-1"])
def test_impossible_limits_of_memory_are_refused(capsys, memory):
    command = ["train", "discover", "--dry-run", "--memory", memory]
    assert main(command) == 2
    assert f"memory={float(memory)!r} must be a number >= 0" in capsys.readouterr().err


def made_trainings(folder) -> int:
    return sum(e["event"] == "train" for e in jsonl.read(folder / EVENTS))


def test_the_bill_of_a_discovery_has_the_screening(capsys):
    command = ["train", "discover", "--environments", "CartPole-v1", "--seeds", "2"]
    size = ["--generations", "2", "--refinements", "3", "--screen-steps", "1000"]
    assert main([*command, *size, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    # 18 candidates, 4 first members, and two ranked rules, which are not screened.
    assert "48 runs of 1,000,000" in shown and "44 runs of 1,000 steps" in shown
