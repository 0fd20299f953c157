"""Expressions that are checked and trained by the workers of a cluster."""

import functools
import json

import pytest

from learned_opt_rl.cli import main
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import connected
from learned_opt_rl.training.proposal import (
    Discovery,
    DiscoveryConfig,
    EvaluationConfig,
)
from learned_opt_rl.training.proposal.journal import EVENTS
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

    def __init__(self, memory):
        assert memory == WHERE.memory

    def ask(self, request, seconds):
        self.asked.append(request.get("environment") or request["do"])
        return json.loads(json.dumps(candidate.answer(request)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return


@pytest.fixture
def remotely(monkeypatch):
    monkeypatch.setattr(Here, "asked", [], raising=False)
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
        where = {"environment": name, "steps": steps}
        assert returned == candidate.answer(fixed | where)


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
