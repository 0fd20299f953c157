"""A rule on an environment, compiled once for groups of a fixed number of seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learned_opt_rl.agents import a2c, lpg, ppo
from learned_opt_rl.agents.config import A2CConfig, Config, LPGConfig
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.row import agent_of
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rules.lpg import UpdateRule

DORMANT = 0.025
"""A neuron of at most this dormancy is dormant (the mean of a layer is 1).

Our choice: OPEN's figures use 0, which only relu neurons reach.
"""


class State(NamedTuple):
    """A group between two rollouts; every array has a leading axis of seeds."""

    runner: Any  # the agents' own state
    # Float32 [seeds, num_rollouts]: mean return after each rollout, and the share of
    # dormant neurons; see `without_nan`.
    curve: jax.Array
    dormant: jax.Array


class Program:
    """Trains groups of ``num_agents`` seeds, over ``devices`` devices.

    A run is two programs, a start and an advance, so that the host can report, save
    and stop it: a callback from within one program could not be interrupted, and
    callbacks can hang on CPU (jax issue 25861). ``template`` has the shapes, dtypes and
    placement of a `State`. A function ``values -> rule`` is a rule whose numbers may
    change between two runs without compilation: set ``values``, scalars by name.
    """

    def __init__(
        self,
        config: Config,
        env: Environment,
        rule: Rule | Callable[[Mapping[str, Any]], Rule],
        num_agents: int,
        devices: int = 1,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """Compile both programs."""
        check_devices(num_agents, devices)
        started = time.perf_counter()
        self.config, self.env, self.num_agents = config, env, num_agents
        self.values, self._rule = dict(values or {}), rule
        start = jax.vmap(self._start, (0, None))
        advance = jax.vmap(self._advance, (0, 0, None, None, None))
        self._placement = None
        if devices > 1:
            mesh = Mesh(np.array(jax.devices()[:devices]), ("seeds",))
            each, whole = PartitionSpec("seeds"), PartitionSpec()
            start = over_devices(start, mesh, (each, whole), each)
            specs = (each, each, whole, whole, whole)
            advance = over_devices(advance, mesh, specs, each)
            self._placement = NamedSharding(mesh, each)
        seeds = self._placed(jax.ShapeDtypeStruct((num_agents,), jnp.int32))
        self.template: State = self._placed(jax.eval_shape(start, seeds, self._numbers))
        self._first = jax.jit(start).lower(seeds, self._numbers).compile()
        rest = jax.jit(advance).lower(seeds, self.template, 0, 1, self._numbers)
        self._rest = rest.compile()
        self.compile_seconds = time.perf_counter() - started

    @property
    def memory(self) -> int | None:
        """Bytes that a group needs, None where the compiler does not report it."""
        return memory_of(self._rest)

    def seconds_per_rollout(self, seeds: Sequence[int]) -> float:
        """Measure the time of a rollout of a group, with the optimizer's steps."""
        state = self.advance(seeds, self.start(seeds), 0, 1)
        jax.block_until_ready(state)  # The first call is slower.

        def seconds(rollouts: int) -> float:
            started = time.perf_counter()
            jax.block_until_ready(self.advance(seeds, state, 0, rollouts))
            return (time.perf_counter() - started) / rollouts

        each = seconds(1)
        # Short rollouts are measured over half a second.
        enough = min(int(0.5 / each), self.config.num_rollouts)
        return each if enough < 2 else seconds(enough)

    def start(self, seeds: Sequence[int]) -> State:
        """Return the group before its first rollout."""
        return self._first(self._put(np.asarray(seeds, np.int32)), self._numbers)

    def advance(
        self, seeds: Sequence[int], state: State, done: int, until: int
    ) -> State:
        """Return the group after ``until`` rollouts, given it after ``done``."""
        numbers = self._put(np.asarray(seeds, np.int32))
        return self._rest(numbers, state, done, until, self._numbers)

    def restore(self, state: State) -> State:
        """Put a state that was read from a file on the program's devices."""
        return jax.tree.map(self._put, state)

    @property
    def _numbers(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(v, np.float32) for name, v in self.values.items()}

    def _start(self, seed: jax.Array, values: Mapping[str, jax.Array]) -> State:
        rule, optimizer, train_key = self._made(seed, values)
        start, _ = make_loop(self.config, self.env, rule, optimizer)
        empty = jnp.zeros(self.config.num_rollouts)
        return State(start(train_key), empty, empty)

    def _advance(
        self,
        seed: jax.Array,
        state: State,
        done: jax.Array,
        until: jax.Array,
        values: Mapping[str, jax.Array],
    ) -> State:
        rule, optimizer, _ = self._made(seed, values)
        _, iterate = make_loop(self.config, self.env, rule, optimizer)

        def step(i: jax.Array, state: State) -> State:
            runner = iterate(state.runner)
            return State(
                runner,
                state.curve.at[i].set(without_nan(runner.mean_return)),
                state.dormant.at[i].set(runner.opt_state.dormant),
            )

        return jax.lax.fori_loop(done, until, step, state)

    def _made(
        self, seed: jax.Array, values: Mapping[str, jax.Array]
    ) -> tuple[Rule, Any, jax.Array]:
        rule = self._rule if isinstance(self._rule, Rule) else self._rule(values)
        rule_key, train_key = jax.random.split(jax.random.key(seed))
        return rule, observe(rule.optimizer(rule_key)), train_key

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


def over_devices(
    function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """Apply `jax.shard_map` without its check of varying values."""
    # Loops carry constants that each device then changes for itself, which the check
    # of varying values rejects.
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def make_loop(
    config: Config, env: Environment, rule: Rule, optimizer: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``start(key) -> runner`` and ``iterate(runner) -> runner`` of the agent.

    The type of the configuration determines the agent.
    """
    agent = agent_of(config)
    if (agent == "lpg") != (rule.update_rule is not None):
        raise ValueError(
            f"agent={agent!r}: only the agent lpg runs a Rule with an update_rule, "
            "and it needs one"
        )
    if isinstance(config, LPGConfig):
        return lpg.make_loop(config, env, cast(UpdateRule, rule.update_rule), optimizer)
    if not isinstance(config, A2CConfig):
        return ppo.make_loop(config, env, optimizer, drift=rule.drift)
    if rule.drift is not None:
        raise ValueError("agent='a2c': only the agent ppo accepts a drift")
    return a2c.make_loop(config, env, optimizer)


class ObserveState(NamedTuple):
    """State of `observe`."""

    inner: Any
    nan_updates: jax.Array  # int32, updates with an entry that is not finite
    # float32 share at the last update; -inf if no dormancies are given
    dormant: jax.Array


def observe(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that counts its bad updates and the dormant neurons.

    References:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon", definition 3.1.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> ObserveState:
        return ObserveState(optimizer.init(params), jnp.int32(0), jnp.float32(-jnp.inf))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        observed = cast(ObserveState, state)
        updates, inner = optimizer.update(updates, observed.inner, params, **extra)
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]
        bad = ~jnp.stack(finite).all() if finite else jnp.bool_(False)
        share = without_nan(dormant_share(extra.get("dormancy")))
        return updates, ObserveState(inner, observed.nan_updates + bad, share)

    return optax.GradientTransformationExtraArgs(init, update)


def without_nan(values: jax.Array) -> jax.Array:
    """Write NaN, which stands for "none", as -inf.

    ``jax_debug_nans`` makes a NaN in the results of a program an error. Rows have None
    for either.
    """
    return jnp.where(jnp.isnan(values), -jnp.inf, values)


def dormant_share(dormancy: Any) -> jax.Array:
    """Return the share in [0, 1] of neurons that are dormant; NaN without neurons.

    Each array is ``[neurons]``; scalars do not stand for neurons and are left out.
    """
    neurons = [jnp.ravel(x) for x in jax.tree.leaves(dormancy) if jnp.ndim(x)]
    if not neurons:
        return jnp.float32(jnp.nan)
    return (jnp.concatenate(neurons) <= DORMANT).astype(jnp.float32).mean()


def check_devices(num_agents: int, devices: int) -> None:
    """Raise unless the devices exist and divide the agents evenly."""
    if devices < 1 or num_agents % devices:
        raise ValueError(
            f"devices={devices} does not divide the {num_agents} seeds trained at once"
            f"; choose a divisor of {num_agents}, or a multiple of the devices as "
            "at_once"
        )
    require_devices(devices)


def require_devices(devices: int) -> None:
    """Raise unless there are so many devices."""
    found = jax.devices()
    if devices > len(found):
        raise ValueError(
            f"devices={devices}, but there are {len(found)} ({found[0].platform}); "
            "lower it, or for that many CPU devices set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
        )


def memory_of(compiled: Any) -> int | None:
    """Return the bytes of a compiled program, None where they are not reported."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    parts = ("argument", "output", "temp")
    return sum(getattr(analysis, f"{part}_size_in_bytes") for part in parts)


def memory_limit() -> int | None:
    """Return the first local device's bytes for arrays, None on a CPU."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def memory_peak() -> int | None:
    """Return the first local device's peak use in bytes, None on a CPU."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
