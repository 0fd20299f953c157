"""Expressions that are checked and trained by the workers of a cluster."""

import contextlib
import functools
import json

import pytest

from learned_opt_rl.cli import main
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import ClusterError, connected
from learned_opt_rl.training.proposal import (
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
)
from learned_opt_rl.training.proposal.journal import EVENTS, LEDGER
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring import candidate, remote
from learned_opt_rl.training.proposal.scoring.evaluation import Candidate
from learned_opt_rl.training.proposal.scoring.worker import WorkerError
from tests.clusters import workers
from tests.training.test_discovery import Roles, code, think, write

pytest.importorskip("distributed")

GAMES = ("CartPole-v1", "Acrobot-v1")
WHERE = EvaluationConfig(GAMES, steps=4096, seeds=1, settings={"hidden": (8,)})
RULE = "optimizer\ninputs g\nreturn 0.01 * g"
CASES = (("CartPole-v1", 4096), ("Acrobot-v1", 4096), ("CartPole-v1", 1024))
INITIAL = {"plain": code("g")}


class Here:
    """A worker that answers in this process."""

    asked: list[str]
    error: tuple[str, Exception]  # of a request

    def __init__(self, memory):
        assert memory == WHERE.memory

    def ask(self, request, seconds):
        where = request.get("environment") or request["do"]
        self.asked.append(where)
        if where == self.error[0]:
            raise self.error[1]
        try:
            return json.loads(json.dumps(candidate.answer(request)))
        except ExpressionError as error:
            raise WorkerError(f"{type(error).__name__}: {error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return


@pytest.fixture
def remotely(monkeypatch):
    monkeypatch.setattr(Here, "asked", [], raising=False)
    monkeypatch.setattr(Here, "error", ("", OSError()), raising=False)
    monkeypatch.setattr(remote, "Worker", Here)
    with workers() as address, connected(address) as cluster:
        yield functools.partial(remote.RemoteCandidate, cluster=cluster)


def test_all_environments_are_trained_at_once_with_the_same_returns(remotely):
    spent = []
    with remotely(WHERE, lambda *a, **k: spent.append(k), text=RULE) as one:
        assert one.check()["problem"] == ""
        found = [one.train("CartPole-v1")]
        assert sorted(Here.asked) == ["Acrobot-v1", "CartPole-v1", "check"]
        found += [one.train("Acrobot-v1"), one.train("CartPole-v1", 1024)]
    assert len(Here.asked) == 4
    assert [costs.get("steps") for costs in spent] == [None, 4096, 4096, 1024]
    for returned, (name, steps) in zip(found, CASES, strict=True):
        fixed = {"do": "train", "text": RULE, "seeds": [0], "settings": WHERE.settings}
        where = {"environment": name, "steps": steps, "zero_mean": False}
        assert returned == candidate.answer(fixed | where)


@pytest.mark.parametrize("fails", [False, True])
def test_the_steps_of_all_environments_are_recorded(remotely, fails):
    Here.error = (GAMES[0] if fails else "", WorkerError("too slow"))
    spent = []
    raises = pytest.raises(WorkerError, match="^too slow$")
    with (
        remotely(WHERE, lambda *a, **k: spent.append(k), text=RULE) as one,
        raises if fails else contextlib.nullcontext(),
    ):
        one.train(GAMES[0])
    found = [(costs["environment"], costs["steps"]) for costs in spent]
    assert found == [(name, 4096) for name in GAMES]


def test_environments_with_results_are_not_trained_again(remotely):
    with remotely(WHERE, lambda *a, **k: None, text=RULE) as one:
        one.train(GAMES[1])
    assert Here.asked == [GAMES[1]]


@pytest.mark.parametrize(
    ("where", "events", "steps"), [("check", 0, 0), (GAMES[0], 1, 2 * 4096)]
)
def test_an_error_of_a_machine_is_not_of_the_expression(
    remotely, tmp_path, where, events, steps
):
    """It ends the search, which a repeated command resumes."""
    Here.error = (where, OSError("No space left on device"))
    config = DiscoveryConfig(WHERE, generations=1, refinements=1, ranked=())
    run = Discovery(config, tmp_path, Roles([], []), None, remotely, INITIAL)
    with pytest.raises(ClusterError, match="OSError: No space left on device"):
        run.run()
    recorded = jsonl.read(tmp_path / EVENTS)
    assert len(recorded) == events and not any(row["problem"] for row in recorded)
    assert sum(r.get("steps", 0) for r in jsonl.read(tmp_path / LEDGER)) == steps


def test_a_text_is_parsed_and_never_executed(remotely, tmp_path):
    path = tmp_path / "made"
    text = f"optimizer\ninputs g\nreturn open({str(path)!r}, 'w')"
    with remotely(WHERE, lambda *a, **k: None, text=text) as one:
        with pytest.raises(RefusedReplyError, match="checking it failed"):
            one.check()
        with pytest.raises(WorkerError, match="Error: "):
            one.train("CartPole-v1")
    assert not path.exists()


@pytest.mark.parametrize("words", [("discover",), ("propose", "drift")])
def test_the_commands_take_a_cluster(words, tmp_path, capsys):
    arguments = ["train", *words, "--cluster", "local:zero", "--out", str(tmp_path)]
    assert main(arguments) == 2
    problem = "error: --cluster='local:zero': give a number of processes"
    assert problem in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_discovery_on_workers_has_the_events_of_one_alone(tmp_path):
    def found(name, make):
        replies = Roles([think("a")], [write("0.5 * g")])
        config = DiscoveryConfig(
            WHERE, generations=1, refinements=1, ranked=("adam:1e-3",)
        )
        run = Discovery(config, tmp_path / name, replies, None, make, INITIAL)
        members = [(m.name, m.text, m.returns) for m in run.run()]
        return members, jsonl.read(tmp_path / name / EVENTS)

    alone = found("alone", Candidate)
    with connected("local:2") as cluster:
        make = functools.partial(remote.RemoteCandidate, cluster=cluster)
        assert found("cluster", make) == alone
