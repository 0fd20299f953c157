"""Checks of parameters and agents that are spread over several devices."""

import unittest
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run

_AXIS = "device"
_MOST_DEVICES = 4  # every axis of `probes.divisible` can be split so often


def sharding(make: Factory) -> None:
    """Sharded parameters get the updates they have on one device, laid out alike."""
    meshes = list(_meshes())
    run = Run(make, probes.divisible())
    expected = _two_steps(run, run.grads, run.state, run.params)
    for mesh, kind in meshes:
        where = f"on a mesh with {kind} axes,"
        with jax.set_mesh(mesh):
            params, grads = _split(mesh, run.params), _split(mesh, run.grads)
            state = run.tx.init(params)
            _follows(run.tx, state, params, f"{where} tx.init(params)")
            steps = _two_steps(run, grads, state, params)
        for found, wanted in zip(steps, expected, strict=True):
            expect.close(found[0], wanted[0], f"{where} the sharded update")
            if kind == "Explicit":  # with Auto axes the layout is the compiler's choice
                _same_layout(found[0], params, f"{where} the update")
                _follows(run.tx, found[1], params, f"{where} the updated state")


def state_sharding(make: Factory) -> None:
    """``optax.tree.map_params`` makes the state's sharding from the parameters'."""
    mesh, _ = next(_meshes())
    run = Run(make, probes.divisible())
    ours = jax.tree.map(lambda spec: NamedSharding(mesh, spec), probes.layout(_AXIS))
    its = optax.tree.map_params(
        run.tx,
        lambda _, spec: NamedSharding(mesh, spec),
        jax.eval_shape(run.tx.init, run.params),
        probes.layout(_AXIS),
        transform_non_params=lambda _: NamedSharding(mesh, PartitionSpec()),
    )
    state = jax.jit(run.tx.init, out_shardings=its)(run.params)
    _follows(run.tx, state, _split(mesh, run.params), "tx.init with that sharding")
    step = jax.jit(
        run.tx.update, in_shardings=(ours, its, ours), out_shardings=(ours, its)
    )
    updates, _ = step(run.grads, state, run.params)
    expected, _ = jax.jit(run.tx.update)(run.grads, run.state, run.params)
    expect.close(updates, expected, "the update of a sharded state")


def sharded_agents(make: Factory) -> None:
    """Agents side by side under ``jax.vmap`` may be spread over devices."""
    meshes = list(_meshes())
    tx, count = make(), meshes[0][0].size
    agents = [
        jax.tree.map(lambda p, i=i: p * (1.0 + i), probes.agent()) for i in range(count)
    ]
    grads = [probes.gradients(agent, seed) for seed, agent in enumerate(agents)]
    given = stack(grads), stack(agents)

    def first_update(grads: Any, params: Any) -> Any:
        return tx.update(grads, tx.init(params), params)[0]

    expected = jax.jit(jax.vmap(first_update))(*given)
    for mesh, kind in meshes:
        spread = NamedSharding(mesh, PartitionSpec(_AXIS))
        with jax.set_mesh(mesh):
            placed = jax.device_put(given, spread)
            together = jax.jit(jax.vmap(first_update))(*placed)
        what = f"on a mesh with {kind} axes, the updates of agents"
        expect.close(together, expected, what)
        if kind == "Explicit":
            _same_layout(together, placed[1], what)


def stack(trees: list[Any]) -> Any:
    """Return trees of one structure as one tree, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _meshes() -> Iterator[tuple[Mesh, str]]:
    """Yield a mesh of all devices, up to four, with each type of axis."""
    count = min(len(jax.devices()), _MOST_DEVICES) // 2 * 2
    if not count:
        raise unittest.SkipTest(
            "needs two devices; on a CPU set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={_MOST_DEVICES}"
        )
    devices = np.array(jax.devices()[:count])
    for kind in (AxisType.Auto, AxisType.Explicit):
        yield Mesh(devices, (_AXIS,), axis_types=(kind,)), kind.name


def _split(mesh: Mesh, tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)),
        tree,
        probes.layout(_AXIS),
    )


def _two_steps(run: Run, grads: Any, state: Any, params: Any) -> list[tuple[Any, Any]]:
    step, found = jax.jit(run.tx.update), []
    for _ in range(2):
        updates, state = step(grads, state, params)
        found.append((updates, state))
    return found


def _follows(tx: Any, state: Any, params: Any, what: str) -> None:
    """Demand that every part of a state is split as the parameter it belongs to."""
    optax.tree.map_params(
        tx,
        lambda leaf, parameter: _same_layout(leaf, parameter, f"{what}: a state leaf"),
        state,
        params,
        transform_non_params=lambda leaf: None,
    )


def _same_layout(found: Any, params: Any, what: str) -> None:
    for leaf, parameter in zip(
        jax.tree.leaves(found), jax.tree.leaves(params), strict=True
    ):
        further = leaf.ndim - parameter.ndim  # axes, none of which may be split
        if leaf.shape[: parameter.ndim] != parameter.shape:
            expect.fail(
                f"{what} has shape {leaf.shape}, which does not begin with its "
                f"parameter's {parameter.shape}: the parameter's PartitionSpec would "
                "split another axis"
            )
        if _parts(leaf) != (*_parts(parameter), *[1] * further):
            expect.fail(
                f"{what} of shape {leaf.shape} is in {_parts(leaf)} parts along its "
                f"axes, its parameter of shape {parameter.shape} in {_parts(parameter)}"
            )


def _parts(leaf: Any) -> tuple[int, ...]:
    """Return in how many parts each axis of an array is."""
    local = leaf.sharding.shard_shape(leaf.shape)
    return tuple(n // part for n, part in zip(leaf.shape, local, strict=True))
