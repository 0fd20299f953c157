"""Checks and trainings of an expression as tasks for the workers of a cluster.

A task is the JSON request of `worker`: the text of an expression, never code. The
worker of the cluster starts a process for it, so the limits of time and memory hold.
"""

import json
from typing import Any

from learned_opt_rl.rundir.cluster import Cluster, TaskError
from learned_opt_rl.training.proposal.scoring.evaluation import Candidate
from learned_opt_rl.training.proposal.scoring.worker import Worker, WorkerError


class RemoteCandidate(Candidate):
    """A `Candidate` whose processes run on a cluster, one per environment at once.

    Its first full training asks for those in the other environments, too.
    """

    def __init__(self, *arguments: Any, cluster: Cluster, **what: str) -> None:
        super().__init__(*arguments, **what)
        self._cluster = cluster
        self._found: dict[str, Any] = {}

    def _answer(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        key = json.dumps(request)
        if key not in self._found:
            config = self._config
            names: list[Any] = [request.get("environment")]
            if request["do"] == "train" and request["steps"] == config.steps:
                names = [*config.environments]
            texts = [json.dumps({**request, "environment": name}) for name in names]
            tasks = [(text, seconds, config.memory or 0) for text in texts]
            for index, found in self._cluster.outcomes(perform, tasks):
                self._found[texts[index]] = found
            key = texts[names.index(request.get("environment"))]
        found = self._found[key]
        if isinstance(found, TaskError):
            raise WorkerError(str(found).removeprefix("WorkerError: "))
        return json.loads(found)


def perform(request: str, seconds: float, memory: int) -> str:
    """Return the answer to a request as JSON; raise as `Worker.ask`."""
    with Worker(memory or None) as worker:
        return json.dumps(worker.ask(json.loads(request), seconds))
