"""A generation's runs as one program, on one device or several.

A run trains one agent in every environment with one vector of weights. Runs are trained
in blocks: the runs of a block side by side (``vmap``), the blocks one after the other.
A CPU has blocks of one, because agents side by side are slower there; a GPU has larger
blocks, as far as its memory goes. Devices share the blocks. The return of a run follows
from its weights and its key. Its last digits depend on the size of the blocks, but not
on the number of devices.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learned_opt_rl import envs
from learned_opt_rl.agents import ppo
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.rollouts import all_finite
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.program import over_devices, require_devices
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rundir.cluster import Cluster, ClusterError, TaskError
from learned_opt_rl.training.evolution.config import EvolutionConfig
from learned_opt_rl.training.evolution.strategy import State, generation_key
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.lifetimes import LifeConfig, live

RunFn = Callable[[jax.Array, jax.Array], jax.Array]
"""``(weights [n], key) -> returns [environments]``."""

_RUNS = "runs"
_BLOCK_OFF_CPU = 64  # the papers' population: a GPU trains a generation in one block


Task = tuple[PPOConfig | LifeConfig, Environment]
"""The configuration of an agent, and its environment."""


def tasks(runs: Mapping[str, PPOConfig | LifeConfig]) -> tuple[Task, ...]:
    """Return a task for the run in each environment."""
    return tuple((run, envs.make(name)) for name, run in runs.items())


def make_run(learned: Learned, tasks: tuple[Task, ...]) -> RunFn:
    """Return a run, which gives the agents' final returns, as one pure function.

    An agent whose parameters are not finite at the end has NaN, because environments
    reward such agents as well.
    """

    def one(vector: jax.Array, key: jax.Array, task: Task) -> jax.Array:
        rule_key, train_key = jax.random.split(key)
        config, env = task
        rule = learned.rule(vector, config, env.name)
        if isinstance(config, LifeConfig):
            own = cast(UpdateRule, rule.update_rule)
            params, returned = live(config, own, train_key)
        else:
            optimizer = rule.optimizer(rule_key)
            train = ppo.make_train(config, env, optimizer, drift=rule.drift)
            result = train(train_key)
            params, returned = result.params, result.final_return
        return jnp.where(all_finite(params), returned, jnp.nan)

    def run(vector: jax.Array, key: jax.Array) -> jax.Array:
        keys = [jax.random.fold_in(key, i) for i in range(len(tasks))]
        return jnp.stack([one(vector, *x) for x in zip(keys, tasks, strict=True)])

    return run


class Evaluator:
    """The compiled runs of a campaign at one horizon, counted in `horizon_unit`.

    ``devices`` share the runs; each trains ``block`` runs side by side. Memory grows
    with the block.
    """

    def __init__(
        self,
        config: EvolutionConfig,
        steps: int,
        *,
        devices: int = 1,
        block: int | None = None,
    ) -> None:
        self.block = check_execution(config, devices, block)
        runs = config.population * config.rollouts
        self._mesh = Mesh(np.array(jax.devices()[:devices]), (_RUNS,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(_RUNS))
        most = max(runs, config.validation_seeds)
        self._slots = math.ceil(most / (devices * self.block))
        run = make_run(config.learned, tasks(config.runs(steps)))
        program = jax.jit(self._over_devices(run, len(config.environments)))
        shape = (devices * self._slots, self.block)
        like = functools.partial(jax.ShapeDtypeStruct, sharding=self._sharding)
        vectors = like((*shape, config.learned.size), jnp.float32)
        data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
        keys = like((*shape, *data.shape), data.dtype)
        self._compiled = program.lower(vectors, keys, 0).compile()

    @property
    def memory(self) -> int | None:
        """Bytes that each device needs, None if the backend does not report it."""
        analysis = self._compiled.memory_analysis()
        return None if analysis is None else int(analysis.temp_size_in_bytes)

    def returns(self, vectors: jax.Array, keys: jax.Array) -> np.ndarray:
        """Train an agent per run and return ``[runs, environments]``.

        ``vectors`` are float32 ``[runs, n]``, ``keys`` are typed PRNG keys ``[runs]``.
        """
        runs, devices = len(keys), self._mesh.size
        blocks = math.ceil(runs / (devices * self.block))
        places = self._places(runs, blocks)
        # Every process has the whole arrays, and places its devices' part of them.
        placed = [np.asarray(x)[places] for x in (vectors, jax.random.key_data(keys))]
        arranged = [
            jax.make_array_from_callback(x.shape, self._sharding, x.__getitem__)
            for x in placed
        ]
        found: Any = self._compiled(*arranged, np.int32(blocks))
        while not found.is_ready():  # so that an interrupt ends a wait of minutes
            time.sleep(0.002)
        found = np.asarray(found)
        found = found.reshape(devices, self._slots, self.block, -1)[:, :blocks]
        return found.reshape(devices * blocks * self.block, -1)[:runs]

    def _places(self, runs: int, blocks: int) -> np.ndarray:
        """Return the run in each slot, ``[devices * slots, block]``.

        Runs fill the first blocks of each device in order; the last run fills up their
        blocks. Later slots are not trained.
        """
        places = np.zeros((self._mesh.size, self._slots, self.block), np.int32)
        order = np.arange(self._mesh.size * blocks * self.block).clip(max=runs - 1)
        places[:, :blocks] = order.reshape(self._mesh.size, blocks, self.block)
        return places.reshape(-1, self.block)

    def _over_devices(self, run: RunFn, environments: int) -> Any:
        side_by_side = run if self.block == 1 else jax.vmap(run)

        def share(vectors: jax.Array, data: jax.Array, blocks: jax.Array) -> jax.Array:
            keys = jax.random.wrap_key_data(data)

            def step(i: jax.Array, found: jax.Array) -> jax.Array:
                which = (i, 0) if self.block == 1 else i
                returns = side_by_side(vectors[which], keys[which])
                return found.at[i].set(returns.reshape(self.block, environments))

            empty = jnp.zeros((self._slots, self.block, environments))
            # The bound is an argument: the compiler would rewrite a loop of one, and
            # blocks would differ in their last digits.
            found = jax.lax.fori_loop(0, blocks, step, empty)
            return jax.lax.all_gather(found, _RUNS)

        shared, whole = PartitionSpec(_RUNS), PartitionSpec()
        return over_devices(share, self._mesh, (shared, shared, whole), whole)


def member_keys(config: EvolutionConfig, state: State) -> jax.Array:
    """Return the keys of a generation's runs, typed ``[population, rollouts]``.

    Each generation has new keys. All members share them; with shaping ``"pairs"``, only
    the two members of a pair do.
    """
    pairs = config.population // 2
    which = jnp.arange(pairs) * (config.shaping == "pairs")
    key = generation_key(state, "tasks")
    keys = jax.vmap(lambda pair: jax.random.fold_in(key, pair))(which)
    keys = jax.vmap(lambda key: jax.random.split(key, config.rollouts))(keys)
    return jnp.concatenate([keys, keys])


def fitness(returns: Any, config: EvolutionConfig) -> np.ndarray:
    """Return the members' fitness for ``[members, rollouts, environments]``.

    It is the mean of the normalized returns, NaN if one of them is NaN.
    """
    divisors = np.asarray(config.normalizers(), np.float32)
    return (np.asarray(returns, np.float32) / divisors).mean((1, 2))


def check_execution(config: EvolutionConfig, devices: int, block: int | None) -> int:
    """Check devices and block before anything compiles, and return the block.

    The default is 1 on a CPU and 64 elsewhere, or as many runs as a device has.
    """
    population = config.population
    if devices < 1 or population % devices:
        raise ValueError(
            f"devices={devices} does not divide the population of {population}; choose "
            f"a divisor of {population}, or another population"
        )
    require_devices(devices)
    if jax.process_count() > 1 and devices != jax.device_count():
        raise ValueError(
            f"devices={devices}, but {jax.process_count()} processes have "
            f"{jax.device_count()}; several processes use all of their devices"
        )
    runs = population * config.rollouts // devices
    if block is None:
        wanted = 1 if jax.default_backend() == "cpu" else _BLOCK_OFF_CPU
        return max(n for n in range(1, min(wanted, runs) + 1) if runs % n == 0)
    if block < 1 or runs % block:
        raise ValueError(
            f"block={block} does not divide the {runs} runs of a generation on each "
            f"device; choose a divisor of {runs}"
        )
    return block


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
