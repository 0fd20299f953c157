"""A rule on an environment, compiled once for groups of so many seeds."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learned_opt_rl.agents.config import Config
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.agents import make_loop
from learned_opt_rl.evaluation.runs.observe import observe
from learned_opt_rl.evaluation.runs.rules import Rule


class State(NamedTuple):
    """A group between two rollouts; every array has a leading axis of seeds.

    Attributes:
        runner: The agents' own.
        curve: float32 ``[seeds, num_rollouts]``, mean return after each rollout, NaN
            before an episode was finished.
        dormant: float32 ``[seeds, num_rollouts]``, share of dormant neurons.
    """

    runner: Any
    curve: jax.Array
    dormant: jax.Array

    @property
    def nan_updates(self) -> jax.Array:
        """int32 ``[seeds]``, updates that were not finite."""
        return self.runner.opt_state.nan_updates


class Program:
    """Trains groups of ``num_agents`` seeds, over ``devices`` devices.

    The run is two programs, so that the host hears of it, may save it and can be
    stopped: a callback from within one could not be interrupted, and callbacks are
    known to hang on CPU (jax issue 25861).

    Attributes:
        config: The run.
        env: Where it is played.
        num_agents: Seeds in a group.
        template: Shapes, dtypes and placement of a `State`.
        compile_seconds: What both programs took to compile.
    """

    def __init__(
        self,
        config: Config,
        env: Environment,
        rule: Rule,
        num_agents: int,
        devices: int = 1,
    ) -> None:
        """Compiles."""
        check_devices(num_agents, devices)
        started = time.perf_counter()
        self.config, self.env, self.num_agents = config, env, num_agents
        self._rule = rule
        if devices > 1:
            mesh = Mesh(np.array(jax.devices()[:devices]), ("seeds",))
            start, advance = self._over(mesh)
            self._placement = NamedSharding(mesh, PartitionSpec("seeds"))
        else:
            start = jax.vmap(self._start)
            advance = jax.vmap(self._advance, (0, 0, None, None))
            self._placement = None
        seeds = self._placed(jax.ShapeDtypeStruct((num_agents,), jnp.int32))
        self.template: State = self._placed(jax.eval_shape(start, seeds))
        self._first = jax.jit(start).lower(seeds).compile()
        rest = jax.jit(advance).lower(seeds, self.template, 0, 1)
        self._rest = rest.compile()
        self.compile_seconds = time.perf_counter() - started

    def start(self, seeds: Sequence[int]) -> State:
        """The group before its first rollout."""
        return self._first(self._put(np.asarray(seeds, np.int32)))

    def advance(
        self, seeds: Sequence[int], state: State, done: int, until: int
    ) -> State:
        """The group after ``until`` rollouts, of which it has ``done``."""
        return self._rest(self._put(np.asarray(seeds, np.int32)), state, done, until)

    def restore(self, state: State) -> State:
        """Puts a state read from a file where the program wants it."""
        return jax.tree.map(self._put, state)

    def _start(self, seed: jax.Array) -> State:
        optimizer, train_key = self._optimizer(seed)
        start, _ = make_loop(self.config, self.env, self._rule, optimizer)
        empty = jnp.zeros(self.config.num_rollouts)
        return State(start(train_key), empty, empty)

    def _advance(
        self, seed: jax.Array, state: State, done: jax.Array, until: jax.Array
    ) -> State:
        optimizer, _ = self._optimizer(seed)
        _, iterate = make_loop(self.config, self.env, self._rule, optimizer)

        def step(i: jax.Array, state: State) -> State:
            runner = iterate(state.runner)
            return State(
                runner,
                state.curve.at[i].set(runner.mean_return),
                state.dormant.at[i].set(runner.opt_state.dormant),
            )

        return jax.lax.fori_loop(done, until, step, state)

    def _optimizer(self, seed: jax.Array) -> tuple[Any, jax.Array]:
        rule_key, train_key = jax.random.split(jax.random.key(seed))
        return observe(self._rule.optimizer(rule_key)), train_key

    def _over(self, mesh: Mesh) -> tuple[Any, Any]:
        """Both functions with each device vmapping its share of the seeds."""
        seeds, all_of_it = PartitionSpec("seeds"), PartitionSpec()

        def share(function: Any, axes: Any, specs: Any) -> Any:
            # The loops carry constants that each device then changes for itself, which
            # the check of varying values rejects; nothing here crosses devices.
            return jax.shard_map(
                jax.vmap(function, axes),
                mesh=mesh,
                in_specs=specs,
                out_specs=seeds,
                check_vma=False,
            )

        return (
            share(self._start, (0,), (seeds,)),
            share(
                self._advance, (0, 0, None, None), (seeds, seeds, all_of_it, all_of_it)
            ),
        )

    def _placed(self, shapes: Any) -> Any:
        if self._placement is None:
            return shapes
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=self._placement
            ),
            shapes,
        )

    def _put(self, array: Any) -> jax.Array:
        return jax.device_put(array, self._placement)


def check_devices(num_agents: int, devices: int) -> None:
    """Raises unless there are so many devices, and they share the agents evenly."""
    if devices < 1 or num_agents % devices:
        raise ValueError(
            f"devices={devices} does not divide the {num_agents} seeds trained at once"
            f"; choose a divisor of {num_agents}, or a multiple of the devices as "
            "at_once"
        )
    require_devices(devices)


def require_devices(devices: int) -> None:
    """Raises unless there are so many devices."""
    found = jax.devices()
    if devices > len(found):
        raise ValueError(
            f"devices={devices}, but there are {len(found)} ({found[0].platform}); "
            "lower it, or for that many CPU devices set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
        )
