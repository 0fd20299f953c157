"""The conversation that proposes algorithms: record, resume, limits, providers."""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import tyro

from learned_opt_rl.cli import main
from learned_opt_rl.cli._propose import Propose
from learned_opt_rl.expressions import parse
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.proposal import (
    Conversation,
    ConversationConfig,
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
    Files,
    Limits,
    ProviderError,
    Reply,
    Scripted,
    journal,
    prompts,
    providers,
)
from learned_opt_rl.training.proposal.conversation import BEST_TEXT
from learned_opt_rl.training.proposal.journal import (
    EVENTS,
    LEDGER,
    LimitReachedError,
)
from learned_opt_rl.training.proposal.reply import RefusedReplyError, read_code
from learned_opt_rl.training.proposal.scoring import evaluation as scoring
from learned_opt_rl.training.proposal.scoring.evaluation import Candidate
from learned_opt_rl.training.proposal.scoring.worker import Worker, WorkerError
from learned_opt_rl.training.run_folder import read_config

WHERE = EvaluationConfig(("CartPole-v1",), steps=4096, seeds=2)
CONFIG = ConversationConfig("drift", WHERE, generations=4)


def reply(name: str, body: str) -> str:
    code = f"def {name}(ratio, advantage, epsilon):\n    return {body}\n"
    return json.dumps({"thought": "t", "name": name, "code": code})


REPLIES = [
    reply("square", "(ratio - 1.0) ** 2"),
    "no JSON",
    reply("again", "jnp.square(ratio - 1.0) * 1.0"),
    reply("cubed", "jnp.abs(ratio - 1.0) ** 3"),
]


class Scores:
    """Candidates whose returns come from a table, or are made of the text."""

    def __init__(self, table: dict[str, float | None] | None = None) -> None:
        self.table, self.texts = table or {}, []

    def __call__(self, config, spend, *, text: Any = None, rule=None) -> Any:
        self.text, self.spend = text, spend
        self.texts.append(text)
        return self

    def check(self) -> jsonl.Record:
        return {"warnings": [], "response": [float(len(self.text))], "problem": ""}

    def train(self, environment: str, steps: float | None = None) -> jsonl.Record:
        self.spend("train", 1.0, steps=1000)
        value = self.table.get(self.text, 10 / len(self.text))
        if value is None:
            raise WorkerError(f"an agent diverged in {environment}")
        return {"returns": [value], "auc": [value], "curve": [value] * 8}

    def __enter__(self) -> "Scores":
        return self

    def __exit__(self, *_: object) -> None:
        return


def run(folder, provider=None, config=CONFIG, limits=None, scores=None):
    made = Conversation(
        config,
        folder,
        provider or Scripted(REPLIES),
        limits,
        scores or Scores(),
    )
    return made, made.run()


def events(folder) -> list[jsonl.Record]:
    return jsonl.read(folder / EVENTS)


def test_the_best_proposal_is_kept_as_an_expression(tmp_path):
    _, best = run(tmp_path)
    assert best["name"] == "square"
    assert parse((tmp_path / BEST_TEXT).read_text()).kind == "drift"
    outcomes = [e["category"] for e in events(tmp_path) if e["event"] == "outcome"]
    assert outcomes == ["scored", "json_error", "scored", "scored"]


def test_invalid_replies_go_back_to_the_model(tmp_path):
    made, _ = run(tmp_path)
    messages = made.messages
    turns = ["assistant", "user"] * 4
    assert [m["role"] for m in messages] == ["system", "user", *turns]
    assert messages[4]["content"] == "no JSON"
    assert "not valid: the reply has no complete JSON objects" in messages[5]["content"]
    assert messages[3]["content"].startswith("Fitness: ")
    assert "learning curve" in messages[3]["content"]


class Lengths(Scripted):
    """Notes how long the conversations are, and replies in order."""

    def __init__(self, replies: list[str]) -> None:
        super().__init__(replies)
        self.rest, self.lengths, self.characters = list(replies), [], 0

    def complete(self, messages, *, temperature=None, seed=None) -> Reply:
        self.lengths.append(len(messages))
        self.characters += sum(len(message["content"]) for message in messages)
        return Reply(self.rest.pop(0), "scripted")


def test_history_bounds_the_prompt(tmp_path):
    config = ConversationConfig("drift", WHERE, generations=4, history=1)
    provider = Lengths(REPLIES)
    run(tmp_path, provider, config)
    assert provider.lengths == [2, 4, 4, 4]


def test_a_formula_that_was_scored_is_not_trained_with_again(tmp_path):
    same = [REPLIES[0], reply("renamed", "(ratio - 1) ** 2.0")]
    scores = Scores()
    config = ConversationConfig("drift", WHERE, generations=2)
    run(tmp_path, Scripted(same), config, scores=scores)
    assert len(scores.texts) == 2  # with the warm start
    last = events(tmp_path)[-1]
    assert last["category"] == "duplicate" and "same as square" in last["feedback"]


class Alike(Scores):
    """Candidates of which all compute the same on the table of the checks."""

    def check(self) -> jsonl.Record:
        return super().check() | {"response": [1.0]}


def test_a_formula_that_computes_the_same_is_not_trained_with(tmp_path):
    config = ConversationConfig("drift", WHERE, generations=2)
    run(tmp_path, Scripted([REPLIES[0], REPLIES[3]]), config, scores=Alike())
    found = [e for e in events(tmp_path) if e["event"] == "outcome"]
    assert [e["category"] for e in found] == ["duplicate"] * 2
    assert "computes the same as ppo_clip" in found[0]["feedback"]
    assert sum(e["event"] == "train" for e in events(tmp_path)) == 1


def test_limits_hold_between_the_environments_of_a_candidate(tmp_path):
    where = EvaluationConfig(("CartPole-v1", "Acrobot-v1"), steps=4096, seeds=2)
    config = ConversationConfig("drift", where, generations=2)
    with pytest.raises(LimitReachedError, match="max_steps=3000 is reached: 3000"):
        run(tmp_path, config=config, limits=Limits(max_steps=3000))
    last = events(tmp_path)[-1]
    assert (last["event"], last["environment"]) == ("train", "CartPole-v1")
    run(tmp_path, config=config)
    run(tmp_path / "whole", config=config)
    whole, parts = ((tmp_path / name / EVENTS).read_bytes() for name in ("whole", "."))
    assert whole == parts


def test_a_start_without_a_score_is_an_error(tmp_path):
    start = read_code(prompts.warm_start("drift").code, "drift").to_text()
    with pytest.raises(ValueError, match="ppo_clip, which .* has no score .an agent"):
        run(tmp_path, scores=Scores({start: None}))


class Slow(Scores):
    """Candidates whose checks take too long."""

    def check(self) -> jsonl.Record:
        raise RefusedReplyError("check_failed", "it took more than 90 seconds")


def test_a_start_with_a_slow_check_is_an_error_that_names_the_limit(tmp_path):
    for _ in range(2):  # the second run recalls the check
        message = "check_seconds=90, .*ppo_clip.* no score .it took more than 90 sec"
        with pytest.raises(ValueError, match=message) as error:
            run(tmp_path, scores=Slow())
        assert not isinstance(error.value, RefusedReplyError)


def test_a_fitness_of_zero_counts_and_a_failed_training_does_not(tmp_path):
    codes = [json.loads(REPLIES[i])["code"] for i in (0, 3)]
    texts = [read_code(code, "drift").to_text() for code in codes]
    table = {texts[0]: 0.0, texts[1]: None}
    _, best = run(tmp_path, scores=Scores(table))
    found = {e.get("name"): e for e in events(tmp_path) if e["event"] == "outcome"}
    assert found["square"]["fitness"] == 0.0
    assert found["square"]["feedback"].startswith("Fitness: 0")
    assert found["cubed"]["category"] == "training_failed"
    assert "diverged in CartPole-v1" in found["cubed"]["feedback"]
    assert best["name"] not in ("square", "cubed")


@pytest.mark.parametrize("kept", range(1, 16))
def test_a_run_killed_after_any_event_resumes_to_the_same_events(tmp_path, kept):
    run(tmp_path / "whole")
    whole = (tmp_path / "whole" / EVENTS).read_bytes()
    other = tmp_path / "killed"
    run(other, config=ConversationConfig("drift", WHERE, generations=1))
    lines = whole.splitlines(keepends=True)
    # A kill may leave half of the next line.
    (other / EVENTS).write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    with pytest.warns(UserWarning, match="unfinished line"):
        run(other)
    assert (other / EVENTS).read_bytes() == whole


def test_more_generations_go_on(tmp_path):
    run(tmp_path, config=ConversationConfig("drift", WHERE, generations=2))
    run(tmp_path)
    assert sum(e["event"] == "reply" for e in events(tmp_path)) == 4
    with pytest.raises(ValueError, match="generations=2 is less than the 4 of"):
        run(tmp_path, config=ConversationConfig("drift", WHERE, generations=2))


def test_the_folder_of_another_run_is_refused(tmp_path):
    run(tmp_path)
    other = ConversationConfig("drift", EvaluationConfig(("CartPole-v1",), 8192, 2), 4)
    with pytest.raises(ValueError, match="steps 4096.* -> 8192.*another folder"):
        run(tmp_path, config=other)


class Counted:
    """Replies with stated tokens."""

    def __init__(self, model: str = "o3-mini") -> None:
        self.model, self.calls = model, 0

    def complete(self, messages, *, temperature=None, seed=None) -> Reply:
        self.calls += 1
        return Reply(f"no JSON {self.calls}", self.model, 10_000, 1_000)


@pytest.mark.parametrize(
    ("limits", "calls", "message"),
    [
        (Limits(max_cost=0), 0, "max_cost=0 is reached"),
        (Limits(max_cost=0.02), 2, "0.0308 dollars are spent; raise it"),
        (Limits(max_cost=0.02, prices=(2.0, 0.0)), 1, "max_cost=0.02 is reached: 0.02"),
        (Limits(max_steps=500), 0, "max_steps=500 is reached: 1000"),
        (Limits(max_hours=1e-4), 0, "max_hours=0.0001 is reached"),
    ],
)
def test_limits_stop_before_the_next_call(tmp_path, limits, calls, message):
    provider = Counted()
    with pytest.raises(LimitReachedError, match=message):
        run(tmp_path, provider, limits=limits)
    assert provider.calls == calls


def test_a_cost_limit_needs_a_known_price(tmp_path):
    with pytest.raises(
        LimitReachedError, match="'mystery' has no known price.*--prices"
    ):
        run(tmp_path, Counted("mystery"), limits=Limits(max_cost=1))


def test_the_ledger_has_all_costs(tmp_path):
    config = ConversationConfig("drift", WHERE, generations=1)
    run(tmp_path, Counted(), config)
    train, asked, parsed = jsonl.read(tmp_path / LEDGER)
    assert (train["stage"], train["steps"]) == ("train", 1000)
    assert (asked["prompt_tokens"], asked["price"]) == (10_000, pytest.approx(0.0154))
    assert parsed["stage"] == "parse" and parsed["seconds"] >= 0
    names = [row["proposal"] for row in (train, asked, parsed)]
    assert names == ["ppo_clip", "1", "1"]


def test_a_session_ends_with_its_costs(tmp_path, capsys):
    run(tmp_path, Counted(), ConversationConfig("drift", WHERE, generations=2))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("total: 2 replies, ")
    assert last.endswith(" 1e+03 environment steps, 22,000 paid tokens for $0.0308")
    with pytest.raises(ProviderError):
        run(tmp_path / "other", Scripted([]))
    assert capsys.readouterr().err.splitlines()[-1].startswith("total: 0")


class Stuck:
    """A worker that is killed before it has answered."""

    def __init__(self, memory: int | None) -> None:
        self.pid = memory

    def ask(self, request, seconds):
        raise WorkerError(f"it took more than {seconds:g} seconds")

    def close(self) -> None:
        return


def test_a_killed_training_counts_all_its_steps(monkeypatch):
    monkeypatch.setattr(scoring, "Worker", Stuck)
    rows = []

    def spend(stage: str, seconds: float, **costs: Any) -> None:
        rows.append((stage, costs.get("steps")))

    with Candidate(WHERE, spend, text="") as one:
        for steps in (None, 512):
            with pytest.raises(WorkerError):
                one.train("CartPole-v1", steps)
        with pytest.raises(RefusedReplyError, match="it took more than 90 seconds"):
            one.check()
    assert rows == [("train", 2 * 4096), ("screen", 2 * 512), ("check", None)]


def test_a_recorded_run_replays_without_its_provider(tmp_path):
    run(tmp_path / "one")
    replies = providers.recorded(tmp_path / "one" / EVENTS)
    run(tmp_path / "two", providers.Replay(replies))
    names = (tmp_path / name / EVENTS for name in ("one", "two"))
    assert len({name.read_bytes() for name in names}) == 1
    config = ConversationConfig("drift", WHERE, generations=5)
    # Nothing is paid twice, even if the replies stated tokens.
    tokens = {"prompt_tokens": 9, "completion_tokens": 9}
    stated = [{**one, "reply": {**one["reply"], **tokens}} for one in replies]
    run(tmp_path / "free", providers.Replay(stated), limits=Limits(max_cost=1e-9))
    rows = [r for r in jsonl.read(tmp_path / "free" / LEDGER) if r["stage"] == "reply"]
    assert {(r["prompt_tokens"], r["price"]) for r in rows} == {(0, 0.0)}
    with pytest.raises(ProviderError, match="the record ends after 4 replies"):
        run(tmp_path / "two", providers.Replay(replies), config)


def test_a_replay_that_is_resumed_takes_the_next_reply(tmp_path):
    run(tmp_path / "one")
    replies = providers.recorded(tmp_path / "one" / EVENTS)
    half = ConversationConfig("drift", WHERE, generations=2)
    run(tmp_path / "two", providers.Replay(replies), half)
    run(tmp_path / "two", providers.Replay(replies))
    assert events(tmp_path / "two") == events(tmp_path / "one")


def reworded(monkeypatch) -> None:
    """Change all prompt files and feedback, and what the converter says."""
    text = prompts._text
    monkeypatch.setattr(
        prompts, "_text", lambda name: text(name) + "\n" * name.endswith(".md")
    )
    for name in ("first", "fitness", "invalid", "failed", "to_refine", "written"):
        monkeypatch.setattr(prompts, name, lambda *_: "other words")
    monkeypatch.setattr(prompts, "unused", lambda *_: "other words")

    def refuse(*_: object) -> None:
        raise RefusedReplyError("syntax_error", "other words")

    monkeypatch.setattr(journal, "read_code", refuse)


def conversations(folder) -> list[list[providers.Message]]:
    """Return the messages that each reply answers, from the events."""
    last: dict[str, list] = {}
    found = []
    for event in events(folder):
        if event["event"] == "reply":
            own = last.get(event["role"], [])[: event["kept"]] + event["messages"]
            said = providers.Message(role="assistant", content=event["reply"]["text"])
            last[event["role"]] = [*own, said]
            found.append(own)
    return found


def test_a_conversation_outlives_its_prompts(tmp_path, monkeypatch):
    _, best = run(tmp_path / "one")
    reworded(monkeypatch)
    content = (tmp_path / "one" / EVENTS).read_bytes()
    again = Conversation(CONFIG, tmp_path / "one", None, None, Scores())
    assert again.run() == best
    assert (tmp_path / "one" / EVENTS).read_bytes() == content
    # A new reply answers the new prompts.
    more = ConversationConfig("drift", WHERE, generations=5)
    run(tmp_path / "one", Scripted([*REPLIES, "no JSON"]), more)
    *_, asked = conversations(tmp_path / "one")
    assert asked[0]["content"] == prompts.system("drift") and len(asked) == 10


def test_the_published_record_replays_with_its_scores(tmp_path):
    folder = pathlib.Path(__file__).parents[2] / "results" / "propose_drift"
    rows = jsonl.read(folder / EVENTS)
    by_key = {(e["of"], e["environment"]): e for e in rows if e["event"] == "train"}
    checks = {e["text"]: e for e in rows if e["event"] == "check"}

    class Recorded(Scores):
        def check(self) -> jsonl.Record:
            return checks[self.text]

        def train(self, environment: str, steps: float | None = None):
            return by_key[self.text, environment]["scores"]

    config = ConversationConfig.from_json(read_config(folder)["config"])
    replay = providers.Replay(providers.recorded(folder / EVENTS))
    _, best = run(tmp_path, replay, config, scores=Recorded())
    assert best["text"] == (folder / BEST_TEXT).read_text()
    wanted = [e for e in rows if e["event"] == "outcome"]
    made = [e for e in events(tmp_path) if e["event"] == "outcome"]
    assert [e["fitness"] for e in made] == [e["fitness"] for e in wanted]


def test_a_record_has_what_was_asked_once(tmp_path):
    class Noted(Scripted):
        asked: list = []

        def complete(self, messages, **_: Any) -> Reply:
            self.asked.append(list(messages))
            return super().complete(messages)

    run(tmp_path, Noted(REPLIES))
    assert conversations(tmp_path) == Noted.asked
    found = [e for e in events(tmp_path) if e["event"] == "reply"]
    assert [len(e["messages"]) for e in found] == [2, 1, 1, 1]
    who = {(e["role"], e["attempt"], e["temperature"]) for e in found}
    assert who == {("proposer", 1, None)}


def test_files_answer_their_own_prompts(tmp_path):
    folder = tmp_path / "run"
    for body in ("(ratio - 1) ** 2", "(ratio - 1) ** 4"):
        with pytest.raises(
            ProviderError, match="no reply yet. Save the reply as reply-"
        ):
            run(folder, Files(tmp_path / "prompts"))
        (prompt,) = [
            path
            for path in (tmp_path / "prompts").glob("prompt-*")
            if not path.with_name(path.name.replace("prompt", "reply")).exists()
        ]
        assert "# user" in prompt.read_text()
        answer = prompt.with_name(prompt.name.replace("prompt", "reply"))
        answer.write_text(reply("mine", body))
    with pytest.raises(ProviderError):
        run(folder, Files(tmp_path / "prompts", model="a person"))
    found = [e["reply"]["model"] for e in events(folder) if e["event"] == "reply"]
    assert found == ["files", "a person"]


def answered(folder: pathlib.Path, text: str) -> None:
    """Save a text as the reply to the one prompt that has none."""
    replies = [
        path.with_name(path.name.replace("prompt", "reply"))
        for path in folder.glob("prompt-*")
    ]
    (missing,) = [path for path in replies if not path.exists()]
    missing.write_text(text)


def test_a_conversation_held_twice_needs_two_replies(tmp_path):
    messages = [providers.Message(role="user", content="hello")]
    for seeds in ((None, None), (3, 8)):
        folder = tmp_path / str(seeds)
        first = Files(folder)
        for given, seed in zip(("old", "new"), seeds, strict=True):
            with pytest.raises(ProviderError):
                first.complete(messages, seed=seed)
            answered(folder, given)
            assert first.complete(messages, seed=seed).text == given
        # A run that was killed before it recorded them asks again.
        again = Files(folder)
        found = [again.complete(messages, seed=seed).text for seed in seeds]
        assert found == ["old", "new"]


def test_a_reply_read_before_a_kill_is_read_again(tmp_path):
    class Killed(Files):
        def complete(self, messages, **options) -> Reply:
            super().complete(messages, **options)
            raise KeyboardInterrupt

    config = ConversationConfig("drift", WHERE, generations=3)
    for made in REPLIES[:3]:
        with pytest.raises(ProviderError):
            run(tmp_path / "run", Files(tmp_path / "files"), config)
        answered(tmp_path / "files", made)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", Killed(tmp_path / "files"), config)
    run(tmp_path / "run", Files(tmp_path / "files"), config)
    found = [
        e["reply"]["text"] for e in events(tmp_path / "run") if e["event"] == "reply"
    ]
    assert found == REPLIES[:3]


def test_a_reply_that_is_still_written_is_waited_for(tmp_path):
    messages = [providers.Message(role="user", content="hello")]
    with pytest.raises(ProviderError):
        Files(tmp_path).complete(messages)
    answered(tmp_path, "")
    (path,) = tmp_path.glob("reply-*")

    def write() -> None:
        for part in ("{", '"a": ', "1", "}"):
            time.sleep(0.4)
            path.write_text(path.read_text() + part)

    writer = threading.Thread(target=write)
    writer.start()
    assert Files(tmp_path, wait=60).complete(messages).text == '{"a": 1}'
    writer.join()
    # Without a wait, the file is read as it is.
    path.write_text("{")
    assert Files(tmp_path).complete(messages).text == "{"


def test_a_script_drives_a_discovery_in_the_order_of_calls(tmp_path):
    signature = "w, g, var1, var2, t, d, t_p, b_p, l_p, key"

    def code(update: str) -> str:
        return f"def update_fn({signature}):\n    return {update}, var1, var2\n"

    def search(folder, replies):
        config = DiscoveryConfig(WHERE, generations=2, refinements=2, ranked=())
        given = (Scripted(replies), None, Scores(), {"plain": code("g")})
        return Discovery(config, tmp_path / folder, *given).run()

    replies = []
    for number in range(4):
        replies += [json.dumps({"thought": "t", "suggestion": str(number)})]
        replies += [json.dumps({"code": code(f"g * {'2.0 * ' * number} 3.0")})]
    assert len(search("whole", replies)) == 5
    with pytest.raises(ProviderError, match="the script has 5 replies; add one"):
        search("parts", replies[:5])
    search("parts", replies)
    assert len({(tmp_path / f / EVENTS).read_bytes() for f in ("whole", "parts")}) == 1


def test_the_golden_conversation(tmp_path, reference):
    golden = json.loads((reference / "golden" / "llm_conversation.json").read_text())
    proposals = golden["proposals"][:4]
    texts = [{k: p[k] for k in ("thought", "name", "code")} for p in proposals]
    table = {}
    for one in (golden["warm_start"], *proposals):
        if one["fitness"] is not None:
            table[read_code(one["code"], "drift").to_text()] = one["fitness"]
    scores = Scores(table)
    replies = [json.dumps(text) for text in texts]
    made, best = run(tmp_path / "whole", Scripted(replies), scores=scores)
    wanted = golden["expected_best"]
    reference_return = golden["warm_start"]["fitness"]
    assert best["name"] == wanted["name"]
    assert best["fitness"] * reference_return == pytest.approx(wanted["fitness"])
    roles = [m["role"] for m in made.messages]
    assert roles.count("assistant") == 4 and roles.count("user") == 5
    outcomes = [e for e in events(tmp_path / "whole") if e["event"] == "outcome"]
    valid = [e["fitness"] is not None for e in outcomes]
    assert valid == [False, True, True, True] and len(scores.texts) == 4
    # The reason goes back to the model.
    assert "line" in outcomes[0]["feedback"] and "(a) & (b)" in outcomes[0]["feedback"]
    ranked = sorted(
        [e for e in events(tmp_path / "whole") if e.get("fitness") is not None],
        key=lambda e: -e["fitness"],
    )
    assert [e["name"] for e in ranked] == wanted["ranking"]
    two = ConversationConfig("drift", WHERE, generations=2)
    run(tmp_path / "parts", Scripted(replies), two, scores=Scores(table))
    run(tmp_path / "parts", Scripted(replies), scores=Scores(table))
    whole, parts = (tmp_path / name / EVENTS for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


GOLDEN_CATEGORIES = {
    "json_error_or_recovered": {"mirror_violation", ""},
    "accepted": {""},
    "forbidden_syntax_or_timeout": {"forbidden_syntax"},
    "forbidden_syntax_or_resource_error": {"forbidden_syntax"},
}


def test_the_golden_replies_are_refused_for_their_reasons(reference):
    from learned_opt_rl.training.proposal.reply import read_object
    from learned_opt_rl.training.proposal.scoring import candidate

    golden = json.loads((reference / "golden" / "llm_conversation.json").read_text())
    for case in golden["synthetic_cases"]:
        kind = "optimizer" if case["name"].startswith("optimiser") else "drift"
        try:
            found = read_object(case["raw_reply"], ("thought", "name", "code"))
            category = candidate.check(read_code(found["code"], kind)).category
        except RefusedReplyError as refused:
            category = refused.category
        expected = case["expected"]
        allowed = GOLDEN_CATEGORIES.get(expected, {expected})
        assert category in allowed, f"{case['name']}: {category}"


class Endpoint(http.server.BaseHTTPRequestHandler):
    """An endpoint that fails in the ways of its script, then answers."""

    script: list = []
    seen: list = []

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        self.seen.append((self.headers, body))
        step = self.script.pop(0)
        if step == "hang":
            time.sleep(1.5)
            return
        status, content, headers = step
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: object) -> None:
        return


def answer(text: str, finish: str = "stop") -> tuple:
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text},
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    fields = {"id": "1", "object": "chat.completion", "created": 0, "model": "m-1"}
    return 200, json.dumps({**fields, "choices": [choice], "usage": usage}), {}


@pytest.fixture
def endpoint(monkeypatch):
    pytest.importorskip("openai")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    Endpoint.seen = []
    yield Endpoint
    server.shutdown()
    server.server_close()


def ask(script: list, endpoint, **options) -> Reply:
    endpoint.script = script
    messages = [providers.Message(role="user", content="hello")]
    return providers.OpenAI("m", timeout=1.0, **options).complete(
        messages, temperature=0.5, seed=3
    )


def test_an_endpoint_is_asked_in_json_mode(endpoint):
    found = ask([answer("{}")], endpoint)
    assert found == Reply("{}", "m-1", 7, 3, cut=False)
    headers, body = endpoint.seen[0]
    assert headers["Authorization"] == "Bearer secret-key-123"
    assert body["response_format"] == {"type": "json_object"}
    assert (body["temperature"], body["seed"]) == (0.5, 3)
    assert not body.get("stream")


BOUNDS: dict[str, Any] = {"timeout": 1.0, "retries": 0, "max_tokens": None}
LIMITED = (429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.1"})
BROKEN = (500, '{"error": {"message": "oops"}}', {})


@pytest.mark.parametrize("trouble", [LIMITED, BROKEN, "hang"])
def test_passing_trouble_is_retried(endpoint, trouble):
    assert ask([trouble, answer("{}")], endpoint).text == "{}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([(401, '{"error": {"message": "bad key secret-key-123"}}', {})], r"\*\*\*"),
        ([(200, "no JSON", {})], "gave no reply"),
        ([(200, "<html>\n<p>secret-key-123</p>", {})], "not in OpenAI's format"),
        ([BROKEN], "gave no reply"),
    ],
)
def test_lasting_trouble_is_an_error_without_the_key(endpoint, script, message):
    with pytest.raises(ProviderError, match=message) as error:
        ask(script, endpoint, retries=0)
    text = str(error.value)
    assert "secret" not in text and "repeat the command" in text and "\n" not in text


def body(**fields: Any) -> tuple:
    status, content, headers = answer("{}")
    return status, json.dumps(json.loads(content) | fields), headers


def choice(message: Any) -> tuple:
    return body(choices=[{"index": 0, "finish_reason": "stop", "message": message}])


@pytest.mark.parametrize(
    "trouble",
    [
        *(body(choices=found) for found in ({"a": 1}, [], None, "ab", [None], 3)),
        *(choice(message) for message in (None, "hi", [])),
        *(choice({"content": content}) for content in ([{"text": "a"}], {"a": 1}, 5)),
        *((200, text, {}) for text in ("", "[]", "null", "5", '"x"', "{}", "<html>")),
        (200, answer("{}")[1][:50], {}),
        (200, "[" * 100_000, {}),
    ],
)
def test_answers_of_no_known_form_are_retried_then_an_error(
    endpoint, trouble, monkeypatch
):
    monkeypatch.setattr(providers, "_PAUSE", 0.0)
    assert ask([trouble, trouble, answer("{}")], endpoint, retries=2).text == "{}"
    with pytest.raises(ProviderError, match="not in OpenAI's format") as error:
        ask([trouble] * 2, endpoint, retries=1)
    assert "\n" not in str(error.value) and not endpoint.script


@pytest.mark.parametrize("tokens", [-5, True, 5.0, "3", None, [1], 10**400])
def test_tokens_that_are_not_a_count_are_unknown(endpoint, tokens):
    usage = {"prompt_tokens": tokens, "completion_tokens": 3}
    found = ask([body(usage=usage, model={"a": 1})], endpoint)
    assert found == Reply("{}", "m", None, 3)
    assert ask([body(usage=tokens)], endpoint) == Reply("{}", "m-1", None, None)


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"timeout": 0}, {"retries": -1}, {"retries": 1.5}]
)
def test_impossible_bounds_of_an_endpoint_are_refused(endpoint, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        providers.OpenAI("m", **options)
    with pytest.raises(ValueError, match=f"{name}={value}"):
        providers.check_bounds(**{**BOUNDS, **options})


def test_errors_before_sending_are_not_retried(endpoint, monkeypatch):
    monkeypatch.setattr(providers.time, "sleep", pytest.fail)
    with pytest.raises(TypeError):
        message: Any = {"role": "user", "content": object()}
        providers.OpenAI("m").complete([message])
    assert not endpoint.seen


def test_all_troubles_of_a_reply_share_the_retries(endpoint, monkeypatch):
    monkeypatch.setattr(providers, "_PAUSE", 0.0)
    with pytest.raises(ProviderError, match="not in OpenAI's format"):
        ask(
            [LIMITED, (200, "<html>", {}), LIMITED, (200, "[]", {})],
            endpoint,
            retries=3,
        )
    assert len(endpoint.seen) == 4


def test_a_conversation_survives_the_troubles_of_an_endpoint(
    endpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(providers, "_PAUSE", 0.0)
    square, _, again, cubed = REPLIES
    endpoint.script = [
        *(LIMITED, answer(square), BROKEN, BROKEN, answer("")),
        *((200, '{"choices": {"a": 1}}', {}), "hang", (200, "<html>", {})),
        *(answer(cubed[:60], "length"), LIMITED, BROKEN, answer(again)),
        *((503, "", {}), answer(cubed)),
    ]
    config = ConversationConfig("drift", WHERE, generations=5, temperature=0.5)
    provider = providers.OpenAI("m", timeout=1.0, retries=4)
    made, best = run(tmp_path, provider, config)
    assert best["name"] == "square" and not endpoint.script
    texts = [square, "", cubed[:60], again, cubed]
    replies = [e["reply"] for e in events(tmp_path) if e["event"] == "reply"]
    assert [one["text"] for one in replies] == texts
    assert [one["cut"] for one in replies] == [False, False, True, False, False]
    outcomes = [e for e in events(tmp_path) if e["event"] == "outcome"]
    assert [e["category"] for e in outcomes] == [
        *("scored", "json_error", "json_error", "scored", "scored")
    ]
    assert "the reply is empty" in outcomes[1]["feedback"]
    assert "the reply was cut off" in outcomes[2]["feedback"]
    # The last request has the whole conversation.
    sent = endpoint.seen[-1][1]["messages"]
    assert sent == made.messages[:-2]
    rows = [r for r in jsonl.read(tmp_path / LEDGER) if r["stage"] == "reply"]
    assert [r["completion_tokens"] for r in rows] == [3] * 5
    # Another run from the record is the same, without the endpoint.
    replies = providers.recorded(tmp_path / EVENTS)
    run(tmp_path / "replayed", providers.Replay(replies), config)
    both = (tmp_path / EVENTS, tmp_path / "replayed" / EVENTS)
    assert len({path.read_bytes() for path in both}) == 1


def test_a_run_resumes_after_an_endpoint_gave_up(endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(providers, "_PAUSE", 0.0)
    endpoint.script = [*map(answer, REPLIES)]
    run(tmp_path / "whole", providers.OpenAI("m", timeout=1.0))
    parts = [answer(REPLIES[0]), BROKEN, "hang"]
    endpoint.script = [*parts, *map(answer, REPLIES[1:])]
    for _ in range(2):
        with pytest.raises(ProviderError, match="repeat the command"):
            run(tmp_path / "parts", providers.OpenAI("m", timeout=1.0, retries=0))
    run(tmp_path / "parts", providers.OpenAI("m", timeout=1.0, retries=0))
    both = (tmp_path / name / EVENTS for name in ("whole", "parts"))
    assert len({path.read_bytes() for path in both}) == 1


def test_cut_off_and_empty_answers_are_seen(endpoint):
    assert ask([answer('{"thou', "length")], endpoint).cut
    assert ask([answer("")], endpoint).text == ""


def test_an_endpoint_needs_a_key(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderError, match="OPENAI_API_KEY is not set.*files"):
        providers.OpenAI("m")


def test_a_worker_checks_trains_and_never_sees_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-123")
    # As a plugin that prints when it is imported.
    (tmp_path / "sitecustomize.py").write_text("print('loaded', flush=True)")
    monkeypatch.syspath_prepend(tmp_path)
    costs = []
    config = EvaluationConfig(
        ("CartPole-v1",), steps=512, seeds=2, settings={"hidden": (8,)}
    )
    text = "drift\ninputs r\nreturn (r - 1)**2"
    with Candidate(config, lambda *a, **k: costs.append((a[0], k)), text=text) as one:
        one.check()
        scores = one.train("CartPole-v1")
    assert len(scores["returns"]) == 2 and len(scores["curve"]) == 8
    assert [stage for stage, _ in costs] == ["check", "train"]
    assert costs[1][1]["steps"] == 1024
    with Worker() as worker:
        environment = pathlib.Path(f"/proc/{worker.pid}/environ")
        there = environment.read_bytes() if environment.exists() else b""
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask({"do": "nothing"}, 60)
    assert b"secret" not in there
    text = "drift\ninputs r\nreturn r - 1"
    with (
        Candidate(config, lambda *a, **k: None, text=text) as bad,
        pytest.raises(RefusedReplyError, match="not a drift: negative"),
    ):
        bad.check()


def test_a_worker_that_takes_too_long_is_killed():
    with Worker() as worker:
        with pytest.raises(WorkerError, match=r"more than 0\.05 seconds"):
            worker.ask({"do": "check", "text": "", "strict": True}, 0.05)
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_worker_dies_with_its_parent():
    script = (
        "from learned_opt_rl.training.proposal.scoring.worker import Worker\n"
        "import os, time\n"
        "worker = Worker()\n"
        "worker.ask({'do': 'check', 'text': 'drift\\ninputs r\\nreturn (r - 1)**2',"
        " 'strict': False}, 120)\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(ran.stdout)
    deadline = time.monotonic() + 20
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_worker_that_needs_too_much_memory_dies_alone():
    with (
        Worker(memory=1 << 28) as worker,
        pytest.raises(WorkerError, match="memory|died"),
    ):
        text = "drift\ninputs r\nreturn (r - 1)**2"
        worker.ask({"do": "check", "text": text, "strict": True}, 60)


@pytest.mark.parametrize("target", prompts.TARGETS)
def test_prompts_are_complete_and_their_examples_convert(target, capsys):
    assert main(["train", "propose", target, "--show-prompt"]) == 0
    shown = capsys.readouterr().out
    assert "$" not in shown and '"thought"' in shown
    assert ("whole-array means" in shown) is (target != "drift")  # refused in drifts
    kind = "drift" if target == "drift" else "optimizer"
    start = shown.index("{\n")
    example, _ = json.JSONDecoder().raw_decode(shown, start)
    read_code(example["code"], kind)
    read_code(prompts.warm_start(target).code, kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generations": 0}, "generations=0"),
        ({"target": "loss"}, "target='loss' must be one of drift, no_features, open"),
        ({"history": 0}, "history=0"),
        ({"temperature": 9.0}, "temperature=9"),
    ],
)
def test_impossible_conversations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConversationConfig(**{"target": "drift", "evaluation": WHERE, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environments": ()}, "is empty"),
        ({"environments": ("Brakeout-MinAtar",)}, "Breakout-MinAtar"),
        ({"steps": 1}, "total_timesteps"),
        ({"seeds": 0}, "seeds=0"),
        ({"train_seconds": 0}, "train_seconds=0"),
        ({"memory": -1}, "memory=-1 .*give bytes, or None"),
    ],
)
def test_impossible_evaluations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**{"environments": ("CartPole-v1",), **options})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["propose", "drift", "--prices", "2", "8"], "9.84 dollars"),
        (
            ["propose", "drift", "--provider", "openai", "--model", "gpt-4o"],
            "8,192 tok",
        ),
        (
            ["discover", "--prices", "0", "10", "--max-tokens", "1000"],
            "about 51.20 dollars, if",
        ),
        (
            ["propose", "drift", "--provider", "openai", "--model", "new"],
            "unknown price: pass --prices PROMPT REPLY",
        ),
        (["discover", "--temperatures", "none", "0.3"], "at most 5,120 replies"),
        (["discover", "--temperatures", "0.7", "none"], "at most 5,120 replies"),
    ],
)
def test_the_bill_has_replies_and_dollars(command, message, capsys):
    assert main(["train", *command, "--dry-run"]) == 0
    assert message in capsys.readouterr().out


def test_the_bill_of_refinements_of_the_best_repeats_it(capsys):
    sent = []
    for start in ("latest", "best"):
        command = ["train", "discover", "--refine-from", start, "--max-tokens", "100"]
        assert main([*command, "--prices", "1", "0", "--dry-run"]) == 0
        (found,) = re.findall("([0-9,]+) tokens of prompts", capsys.readouterr().out)
        sent.append(int(found.replace(",", "")))
    # 80 generations of up to 24 turns; turn n repeats n codes more.
    assert sent[1] - sent[0] == 80 * sum(range(24)) * 100


@pytest.mark.parametrize("option", ["--retries=-1", "--timeout=-5", "--max-tokens=0"])
def test_a_dry_run_checks_the_options_of_an_endpoint(option, capsys):
    assert main(["train", "discover", "--dry-run", option]) == 2
    name, value = option[2:].split("=")
    assert f"{name.replace('-', '_')}={value}" in capsys.readouterr().err


def test_the_bill_in_dollars_covers_a_conversation(tmp_path, capsys):
    command = ["train", "propose", "drift", "--dry-run", "--generations", "4"]
    command += ["--prices", "1e6", "0", "--max-tokens", "100"]
    assert main(command) == 0
    found = re.search(r"about ([\d,]+)\.00 dollars", capsys.readouterr().out)
    assert found
    provider = Lengths(REPLIES)
    run(tmp_path, provider)
    assert provider.characters / 4 < int(found[1].replace(",", ""))
    assert main([*command, "--history", "1"]) == 0
    less = re.search(r"about ([\d,]+)\.00 dollars", capsys.readouterr().out)
    assert less and int(less[1].replace(",", "")) < int(found[1].replace(",", ""))


def test_the_options_of_an_endpoint_reach_it(endpoint, tmp_path):
    given = "--provider openai --model m --no-json-mode --max-tokens 7 --timeout 1"
    command = tyro.cli(Propose, args=["drift", *given.split(), "--retries", "0"])
    endpoint.script = [answer("{}"), BROKEN, "hang"]
    provider, messages = command.answering(tmp_path), []
    provider.complete(messages)
    (sent,) = [body for _, body in endpoint.seen]
    assert sent == {"messages": [], "model": "m", "max_completion_tokens": 7}
    for _ in range(2):
        with pytest.raises(ProviderError):
            provider.complete(messages)
    assert not endpoint.script


def test_the_command_states_the_bill_and_stops_cleanly(tmp_path, capsys):
    command = ["train", "propose", "drift", "--out", str(tmp_path / "run")]
    where = ["--environments", "CartPole-v1", "--steps", "4096", "--seeds", "2"]
    assert main([*command, *where, "--dry-run", "--generations", "3"]) == 0
    assert "8 runs of 4,096 environment steps" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    limits = ["--train-seconds", "60", "--check-seconds", "30", "--memory", "0"]
    assert main([*command, *where, *limits, "--max-cost", "0"]) == 1
    made = json.loads((tmp_path / "run" / "config.json").read_text())
    scoring = made["config"]["evaluation"]
    assert (scoring["train_seconds"], scoring["check_seconds"]) == (60, 30)
    assert scoring["memory"] is None
    shown = capsys.readouterr()
    assert "stopped: max_cost=0 is reached" in shown.err
    assert main([*command, *where, *limits, "--max-cost", "0", "--quiet"]) == 1
    # The bill is not progress.
    assert "total: 0" in shown.err and "total: 0" in capsys.readouterr().err
    assert not jsonl.read(tmp_path / "run" / EVENTS)
    assert main([*command, *where, "--provider", "replay"]) == 2
    assert "--record FOLDER" in capsys.readouterr().err
    wrong = ["--provider", "replay", "--record", str(tmp_path / "wrong")]
    assert main([*command, *where, *wrong]) == 2
    assert "does not exist; give the folder of a recorded" in capsys.readouterr().err
