"""Run a campaign from its last generation on disk to its end.

Several processes may run one campaign together, each with its own devices. All do the
same: draw the population, train their devices' share of it, gather the returns of all,
and move the mean. Only the first process reads and writes the folder. If a process
dies, jax aborts the others; the campaign then resumes from its last generation.
"""

import contextlib
import dataclasses
import io
import math
import pathlib
import time
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import Cluster
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.training import watchers as watching
from learned_opt_rl.training.evolution import estimate as estimates
from learned_opt_rl.training.evolution import fitness as judging
from learned_opt_rl.training.evolution import folder as folders
from learned_opt_rl.training.evolution.config import EvolutionConfig
from learned_opt_rl.training.evolution.estimate import Estimate
from learned_opt_rl.training.evolution.fitness import (
    AnyEvaluator,
    Evaluator,
    RemoteEvaluator,
)
from learned_opt_rl.training.evolution.folder import Folder, Standing
from learned_opt_rl.training.evolution.progress import CURVE, Curve, Progress
from learned_opt_rl.training.evolution.strategy import State, is_finite
from learned_opt_rl.training.run_folder import LOG
from learned_opt_rl.training.watchers import EVENTS, TensorBoard, Watchers


@dataclasses.dataclass(frozen=True)
class Execution:
    """How to run a campaign; the last digits of its numbers depend on ``block``.

    More runs side by side are faster on a GPU and need more memory. The default, 1 on a
    CPU and 64 elsewhere, depends on ``devices``: give a block to get the same numbers
    on more devices.
    """

    devices: int = 1  # number of devices that share a generation
    block: int | None = None  # runs that each device trains side by side
    tensorboard: bool = False  # whether to write events into ``tensorboard/``
    cluster: Cluster | None = None  # workers that train the runs


class SearchFailedError(ValueError):
    """A search lost its finite numbers; the message names what to change."""


class Campaign:
    """Meta-training by evolution in a folder.

    Args:
        config: The configuration.
        folder: The folder, created if it does not exist; a campaign in it resumes.
        execution: How to run it.
        stream: Receives the progress; standard error by default.

    Example:
        >>> import tempfile
        >>> from learned_opt_rl.training.evolution import preset
        >>> config = preset("open-breakout", generations=2, population=4)
        >>> campaign = Campaign(config, pathlib.Path(tempfile.gettempdir()) / "b")
        >>> standing = campaign.run()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: EvolutionConfig,
        folder: pathlib.Path,
        execution: Execution = Execution(),
        stream: TextIO | None = None,
    ) -> None:
        self.config, self.path, self.execution = config, folder, execution
        self._stream = output(stream)
        self._evaluators: dict[tuple[str, ...], AnyEvaluator] = {}
        self._evaluators_horizon: int | None = None

    def run(self) -> Standing:
        """Run the missing generations and return the last state.

        Each generation is on disk before the next begins: an interrupt or a kill loses
        at most one. A resumed campaign is bit-identical to an uninterrupted one.

        Raises:
            SearchFailedError: All returns of a generation, or the strategy's own
                numbers, are not finite; the generation before it stays on the disk.
            FolderInUseError: Another process uses the folder.
            ValueError: Devices or block do not fit the population, an environment does
                not exist, or the folder holds another campaign, more generations than
                the configuration has, or no whole state.
            MissingExtraError: The package of an environment, of the strategy or of
                TensorBoard is not installed.
            OSError: The folder cannot be written; its content is unharmed.
        """
        template = self._checked()
        if jax.process_index() > 0:  # takes part without the folder
            self._stream = io.StringIO()
            standing = self._standing(jnp.zeros(self.config.learned.size))
            return self._rest(of_the_first((False, standing)), None)
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            folder = Folder(self.path, self.config)
            standing = folder.load(template)
            fresh = standing is None
            standing = self._first() if standing is None else standing
            done, wanted = int(standing.search.generation), self.config.generations
            if done > wanted:
                raise ValueError(
                    f"generations={wanted}, but {done} are done; pass at least {done}"
                )
            if done < wanted:
                folder.claim(fresh, self.block)
            return self._rest(of_the_first((fresh, standing)), folder)

    def estimate(self) -> Estimate:
        """Estimate the cost of the missing generations; write nothing.

        A campaign with a log is as fast as its last generations were. For a new one, a
        short piece is compiled and timed (not with several processes or a cluster).

        Raises as `run`.
        """
        self._checked()
        if jax.process_index() > 0:  # only the first process reads the folder
            return estimates.counted(self.config, 0)
        folders.check_same(self.path, self.config)
        rows = jsonl.read(self.path / LOG)
        if rows:
            return estimates.from_log(self.config, rows)
        if jax.process_count() > 1 or self.execution.cluster is not None:
            return estimates.counted(self.config, 0)
        self._first()  # raises if the starting point does not exist

        def compiled(length: int, names: tuple[str, ...]) -> AnyEvaluator:
            whole = length == self.config.horizon(0)  # then `run` can use it, too
            return (self._evaluator_of if whole else self._compile)(length, names)

        return estimates.measured(self.config, self.execution.devices, compiled)

    def _checked(self) -> Standing:
        """Check execution, environments and packages; return the shapes of a state."""
        self.block  # noqa: B018
        devices, several = self.execution.devices, jax.process_count() > 1
        if self.execution.cluster is not None and (devices != 1 or several):
            raise ValueError(
                f"devices={devices} and {jax.process_count()} process(es) with a "
                "cluster; start a worker for each device, or leave out the cluster"
            )
        judging.tasks(self.config.runs(self.config.horizon(0)))
        if self.execution.tensorboard:
            watching.require_tensorboard()
        vector = jax.ShapeDtypeStruct((self.config.learned.size,), jnp.float32)
        return jax.eval_shape(self._standing, vector)

    @property
    def block(self) -> int:
        """Number of runs that a device trains side by side."""
        asked, block = self.execution, self.execution.block
        if asked.cluster is not None and block is None:
            block = 1  # the workers' devices are not known here
        return judging.check_execution(self.config, asked.devices, block)

    def _rest(self, start: tuple[Any, Standing], folder: Folder | None) -> Standing:
        fresh, standing = start
        with contextlib.closing(Watchers("campaign")) as watchers:
            if folder is not None:
                rows = jsonl.read(self.path / LOG)
                watchers.add(CURVE, lambda: Curve(self.path, rows))
                if self.execution.tensorboard:
                    events = self.path / EVENTS
                    watchers.add(EVENTS, lambda: TensorBoard(events, rows))

            def keep(standing: Standing, row: Record) -> None:
                if folder is not None:
                    folder.save(standing, [row])
                watchers(row)

            if fresh:
                standing, row = self._validated(standing, {"generation": 0})
                keep(standing, row)
            done = int(standing.search.generation)
            with Progress(self.config, done, self._stream) as progress:
                while done < self.config.generations:
                    standing, row = self.advance(standing)
                    keep(standing, row)
                    done += 1
                    progress(row, float(standing.best_validation))
        return standing

    def advance(self, standing: Standing) -> tuple[Standing, Record]:
        """Run one generation; return the state after it and its row of the log."""
        config, strategy = self.config, self.config.es
        generation = int(standing.search.generation)
        horizon, names = config.horizon(generation), config.drawn(generation)
        self._programs(horizon, names)  # compiles them before the time is taken
        started = time.perf_counter()
        population = strategy.ask(standing.search)
        keys = judging.member_keys(config, standing.search).reshape(-1)
        vectors = jnp.repeat(population, config.rollouts, axis=0)
        returns = self._returns(horizon, names, vectors, keys).reshape(
            config.population, config.rollouts, -1
        )
        fitness = judging.fitness(returns, config.only(names))
        search = strategy.tell(standing.search, jnp.asarray(fitness))
        self._check_finite(generation, fitness, search)
        row = self._row(generation, fitness, returns, time.perf_counter() - started)
        standing = standing._replace(search=search)
        if config.validation_due(generation + 1):
            return self._validated(standing, row)
        return standing, row

    def _check_finite(
        self, generation: int, fitness: np.ndarray, search: State
    ) -> None:
        """Raise SearchFailedError before a generation that is not finite is saved."""
        problem = None
        if not np.isfinite(fitness).any():
            problem = (
                "no member has a finite return: no episode ended, or all agents "
                "diverged. Raise horizons, or lower sigma or the agent's learning_rate"
            )
        elif not is_finite(search):
            problem = (
                "the mean or the step size is not finite. Lower sigma or "
                "learning_rate, or use another strategy"
            )
        if problem:
            raise SearchFailedError(
                f"generation {generation + 1} of strategy={self.config.strategy!r} "
                f"with sigma={self.config.sigma:g}: {problem}, in another folder; "
                f"{self.path} keeps the state after generation {generation} and the "
                "best weights so far"
            )

    def _row(
        self, generation: int, fitness: np.ndarray, returns: np.ndarray, seconds: float
    ) -> Record:
        config = self.config.only(self.config.drawn(generation))
        known = fitness[np.isfinite(fitness)]
        steps = config.steps_per_generation(config.horizon(generation))
        return {
            "generation": generation + 1,
            "horizon": config.horizon(generation),
            "best": jsonl.number(known.max(initial=-math.inf)),
            "mean": jsonl.number(known.mean()) if known.size else None,
            "std": jsonl.number(known.std()) if known.size else None,
            "failed": int(fitness.size - known.size),
            "fitness": [jsonl.number(value) for value in fitness],
            "returns": _by_environment(config, returns),
            "steps_per_second": round(steps / seconds, 1),
            "seconds": round(seconds, 3),
        }

    def _validated(self, standing: Standing, row: Record) -> tuple[Standing, Record]:
        """Validate the mean, and keep it if it is the best so far."""
        config, search = self.config, standing.search
        done = int(search.generation)
        horizon = config.horizon(max(done - 1, 0))
        keys = jax.random.split(self._key("validation"), config.validation_seeds)
        vectors = jnp.tile(search.mean, (config.validation_seeds, 1))
        returns = self._returns(horizon, config.environments, vectors, keys)[None]
        value = judging.fitness(returns, config)[0]
        row = {
            **row,
            "validation": jsonl.number(value),
            "validation_returns": _by_environment(config, returns),
        }
        # Values of different horizons are not comparable: the first finite one of a new
        # horizon wins. NaN never does.
        best, its_horizon = float(standing.best_validation), int(standing.best_horizon)
        if value > best or (horizon != its_horizon and np.isfinite(value)):
            standing = standing._replace(
                best_mean=search.mean,
                best_validation=jnp.float32(value),
                best_generation=search.generation,
                best_horizon=jnp.int32(horizon),
            )
        return standing, row

    def _first(self) -> Standing:
        key = self._key("start")
        return self._standing(self.config.learned.start(self.config.start, key))

    def _standing(self, mean: jax.Array) -> Standing:
        search = self.config.es.init(mean, self._key("search"))
        none = jnp.int32(0)
        return Standing(search, search.mean, jnp.float32(-jnp.inf), none - 1, none)

    def _key(self, purpose: str) -> jax.Array:
        number = ("search", "start", "validation").index(purpose)
        return jax.random.fold_in(jax.random.key(self.config.seed), number)

    def _programs(self, horizon: int, names: tuple[str, ...]) -> list[AnyEvaluator]:
        groups = self.config.programs(names)
        return [self._evaluator_of(horizon, group) for group in groups]

    def _returns(
        self, horizon: int, names: tuple[str, ...], vectors: jax.Array, keys: jax.Array
    ) -> np.ndarray:
        """Return final returns ``[runs, environments]``."""
        programs = self._programs(horizon, names)
        return np.concatenate([one.returns(vectors, keys) for one in programs], -1)

    def _evaluator_of(self, horizon: int, names: tuple[str, ...]) -> AnyEvaluator:
        """Return the program of a horizon; drop those of the horizon before."""
        if self._evaluators_horizon != horizon:
            self._evaluators, self._evaluators_horizon = {}, horizon
        if names not in self._evaluators:
            started = time.perf_counter()
            evaluator = self._evaluators[names] = self._compile(horizon, names)
            seconds, memory = time.perf_counter() - started, evaluator.memory
            needs = "" if memory is None else f", {memory / 2**20:,.0f} MiB per device"
            config = self.config.only(names)
            self._stream.write(
                f"{config.algorithm}: {config.learned.size:,} weights, "
                f"{config.steps_per_generation(horizon):,} environment steps per "
                f"generation{needs}; compiled in {seconds:.0f} s\n"
            )
            self._stream.flush()
        return self._evaluators[names]

    def _compile(self, horizon: int, names: tuple[str, ...]) -> AnyEvaluator:
        execution, config = self.execution, self.config.only(names)
        if execution.cluster is not None:
            return RemoteEvaluator(config, horizon, execution.cluster, self.block)
        return Evaluator(
            config, horizon, devices=execution.devices, block=execution.block
        )


def _by_environment(config: EvolutionConfig, returns: np.ndarray) -> Record:
    means = map(jsonl.number, returns.mean((0, 1)))
    return dict(zip(config.environments, means, strict=True))


def join(coordinator: str, count: int | None, index: int | None) -> None:
    """Make this process one of several. Call it before any other use of jax.

    ``coordinator`` is the address and port of the first process, for example
    ``"10.0.0.1:9999"``; or ``"auto"`` where jax detects the cluster (Slurm, Open MPI,
    TPU pods). ``index`` counts the processes from 0.
    """
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"coordinator='auto', but jax detects no cluster ({error}); give "
                "HOST:PORT of the first process, the number of processes and the index "
                "of this one"
            ) from error
        return
    if count is None or index is None or not 0 <= index < count:
        raise ValueError(
            f"coordinator={coordinator!r} with processes={count} and process={index}: "
            "give the number of processes and the index of this one, from 0"
        )
    # jax's default is to listen on every interface.
    bind = coordinator if index == 0 else None
    jax.distributed.initialize(coordinator, count, index, coordinator_bind_address=bind)


def of_the_first(tree: Any) -> Any:
    """Return the first process's arrays and typed PRNG keys, in all processes.

    Other processes contribute only shapes and dtypes.
    """
    tree = jax.tree.map(jnp.asarray, tree)
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    plain = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
    sent = multihost_utils.broadcast_one_to_all(plain)
    sent = jax.tree.map(jnp.asarray, sent)
    return jax.tree.map(
        lambda like, x: jax.random.wrap_key_data(x) if _is_key(like) else x, tree, sent
    )


def _is_key(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
