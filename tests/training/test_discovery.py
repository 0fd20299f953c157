"""The archive and the discovery by thinker and coder."""

import json
from typing import Any

import numpy as np
import pytest

from learned_opt_rl.artifacts import load
from learned_opt_rl.cli import main
from learned_opt_rl.expressions import parse
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.proposal import (
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
    ProviderError,
    Reply,
    archive,
    prompts,
)
from learned_opt_rl.training.proposal.archive import Member
from learned_opt_rl.training.proposal.discovery import METHOD
from learned_opt_rl.training.proposal.journal import EVENTS
from learned_opt_rl.training.proposal.reply import read_code
from learned_opt_rl.training.proposal.worker import WorkerError

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

    def __init__(self, table: dict[str, Any] | None = None) -> None:
        self.table, self.trained = table or {}, []

    def __call__(self, config, spend, *, text: Any = None, rule=None) -> Any:
        self.text, self.spend, self.rule = text, spend, rule
        self.names = config.environments
        return self

    def check(self) -> jsonl.Record:
        # Formulas of the same value have the same response.
        value = str(parse(self.text).to_text()).replace("g * 1", "g")
        return {"problem": "", "response": [float(b) for b in value.encode()]}

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        self.trained.append((self.text or self.rule, environment, steps))
        self.spend("train", 1.0, steps=10)
        found = self.table.get(str(self.text or self.rule), 1.0)
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, dict):
            found = found[environment]
        if found is None:
            raise WorkerError(f"an agent diverged in {environment}")
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


def test_a_record_rebuilds_the_archive_without_a_provider(tmp_path, capsys):
    made, _ = whole(tmp_path)
    scores = Scores()
    again = discovery(tmp_path, None, scores, generations=2)
    again.run()
    assert again.members == made.members and not scores.trained
    more = discovery(tmp_path, None, scores, generations=3)
    with pytest.raises(ProviderError, match="the record ends here"):
        more.run()
    assert main(["train", "discover", "--replay", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert made.members[-1].name in shown and "average rank" in shown


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
