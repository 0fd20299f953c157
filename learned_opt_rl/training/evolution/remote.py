"""A generation's runs as tasks for the workers of a cluster."""

import dataclasses
import functools
import json

import jax
import numpy as np

from learned_opt_rl.rundir.cluster import Cluster, ClusterError, TaskError
from learned_opt_rl.training.evolution.config import EvolutionConfig
from learned_opt_rl.training.evolution.fitness import Evaluator, check_execution


@dataclasses.dataclass(frozen=True)
class RemoteEvaluator:
    """Runs a block of a generation per task and returns the numbers of `Evaluator`.

    Each worker compiles the program once. Returns do not depend on the number of
    workers or on how runs are assigned to them.
    """

    config: EvolutionConfig
    steps: int
    cluster: Cluster
    block: int
    memory = None  # of the workers, which is not known here

    def returns(self, vectors: jax.Array, keys: jax.Array) -> np.ndarray:
        """Train an agent per run and return ``[runs, environments]``.

        ``vectors`` are float32 ``[runs, n]``, ``keys`` are typed PRNG keys ``[runs]``.

        Raises:
            ClusterError: A task raised or killed its workers, or the scheduler was
                lost.
        """
        config, size = json.dumps(self.config.as_json()), self.block
        weights, data = np.asarray(vectors), np.asarray(jax.random.key_data(keys))
        tasks = [
            (config, self.steps, size, weights[at : at + size], data[at : at + size])
            for at in range(0, len(data), size)
        ]
        found: list[np.ndarray] = [np.empty(0)] * len(tasks)
        for index, returns in self.cluster.outcomes(perform, tasks):
            if isinstance(returns, TaskError):
                raise ClusterError(
                    f"cluster={self.cluster.address!r}: {returns}\n{returns.trace}"
                )
            found[index] = returns
        return np.concatenate(found)


AnyEvaluator = Evaluator | RemoteEvaluator


def perform(
    config: str, steps: int, block: int, vectors: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Return a block's final returns, float32 ``[runs, environments]``.

    Args:
        config: The campaign, as JSON, in the environments of the program.
        steps: Its horizon.
        block: Runs side by side.
        vectors: Float32 ``[runs, n]``.
        keys: Data of the keys, ``[runs, ...]``.
    """
    made = jax.random.wrap_key_data(jax.numpy.asarray(keys))
    return _evaluator(config, steps, block).returns(jax.numpy.asarray(vectors), made)


@functools.lru_cache(maxsize=8)
def _evaluator(config: str, steps: int, block: int) -> Evaluator:
    fields = EvolutionConfig.from_json(json.loads(config))
    return Evaluator(fields, steps, block=check_execution(fields, 1, block))
