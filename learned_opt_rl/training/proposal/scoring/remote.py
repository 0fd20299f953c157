"""Checks and trainings of an expression as tasks for the workers of a cluster.

A task is the JSON request of `worker`: the text of an expression, never code. The
worker of the cluster starts a process for it, so the limits of time and memory hold.
"""

import json
from typing import Any

from learned_opt_rl.rundir.cluster import Cluster, ClusterError, TaskError
from learned_opt_rl.training.proposal.scoring.evaluation import Candidate
from learned_opt_rl.training.proposal.scoring.worker import Worker, WorkerError

_OWN = f"{WorkerError.__name__}: "
"""Start of the errors that belong to the expression; others belong to the cluster."""


class RemoteCandidate(Candidate):
    """A `Candidate` whose processes run on a cluster.

    It trains in all environments at once: the first request submits them all. On exit,
    it records the steps of those that were not requested. `check` and `train` raise
    ClusterError if a task failed for a reason that is not the expression's: a worker
    was lost, its disk is full, or a package is missing there.
    """

    def __init__(self, *arguments: Any, cluster: Cluster, **what: str) -> None:
        super().__init__(*arguments, **what)
        self._cluster = cluster
        self._found: dict[str, Any] = {}
        self._unread: dict[str, str] = {}  # environments of submitted trainings

    def _answer(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        config, name = self._config, request.get("environment")
        text = json.dumps({**request, "environment": name})
        self._unread.pop(text, None)
        if text not in self._found:
            names: tuple[Any, ...] = (name,)
            if request["do"] == "train" and request["steps"] == config.steps:
                # A resumed search has recorded the results in those before.
                names = config.environments[config.environments.index(name) :]
            texts = [json.dumps({**request, "environment": name}) for name in names]
            self._unread |= dict(zip(texts[1:], names[1:], strict=True))
            tasks = [(text, seconds, config.memory or 0) for text in texts]
            for index, found in self._cluster.outcomes(perform, tasks):
                self._found[texts[index]] = found
        found = self._found[text]
        if isinstance(found, TaskError):
            problem = str(found)
            if problem.startswith(_OWN):
                raise WorkerError(problem.removeprefix(_OWN))
            place = f"cluster={self._cluster.address!r}"
            raise ClusterError(f"{place}: {problem}\n{found.trace}")
        return json.loads(found)

    def __exit__(self, *_: Any) -> None:
        # Those of an interrupted training are not known: count them all, as `train`.
        steps = self._config.seeds * int(self._config.steps)
        for environment in self._unread.values():
            self._spend("train", 0.0, steps=steps, environment=environment)


def perform(request: str, seconds: float, memory: int) -> str:
    """Return the answer to a request as JSON; raise as `Worker.ask`."""
    with Worker(memory or None) as worker:
        return json.dumps(worker.ask(json.loads(request), seconds))
