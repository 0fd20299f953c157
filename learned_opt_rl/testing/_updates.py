"""Checks of what an update returns: finite directions, and a state of arrays alone."""

import io
import unittest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.rules import reseed
from learned_opt_rl.rules.open_rl import RuleState
from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run, options_of

_STEPS = 200
_BOUND = 1e3


def moves(make: Factory) -> None:
    """Three steps with gradients change some parameter."""
    run = Run(make)
    found, _ = run.steps(3)
    if not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(found)):
        expect.fail("three updates in a row were 0 for every parameter")


def finite_updates(make: Factory) -> None:
    """Zero, tiny and huge gradients give finite updates, in any order."""
    run = Run(make, probes.mixed())
    step = jax.jit(run.tx.update)
    state = run.state
    for size in (0.0, 1e-30, 1e30, 0.0):
        grads = jax.tree.map(lambda g, s=size: g * s, run.grads)
        updates, state = step(grads, state, run.params)
        expect.finite(updates, f"for gradients of size {size:g} the update")


def bounded_run(make: Factory) -> None:
    """A short regression ends with a finite loss and parameters below 1000.

    No more is promised: how fast a rule learns is for its card to report.
    """
    tx = optax.chain(optax.clip_by_global_norm(0.5), make())
    params = {
        "actor": {"Dense_0": {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}},
        "critic": {"Dense_0": {"kernel": jnp.zeros((8, 4))}},
    }

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        loss, grads = jax.value_and_grad(_regression_loss)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    (params, _), losses = jax.jit(
        lambda p: jax.lax.scan(step, (p, tx.init(p)), length=_STEPS)
    )(params)
    expect.finite(losses, f"the loss of {_STEPS} steps")
    largest = max(float(jnp.max(jnp.abs(p))) for p in jax.tree.leaves(params))
    if not largest < _BOUND:
        expect.fail(f"after {_STEPS} steps a parameter has grown to {largest:.3g}")


def _regression_loss(params: Any) -> jax.Array:
    """Mean squared error of both linear networks on 16 well-spread inputs."""
    inputs = jnp.cos(jnp.outer(jnp.arange(16.0), jnp.arange(1.0, 9.0)))
    loss = jnp.zeros(())
    for network in params.values():
        layer = network["Dense_0"]
        outputs = inputs @ layer["kernel"] + layer.get("bias", jnp.zeros(1))[None]
        targets = jnp.sin(jnp.arange(float(outputs.size))).reshape(outputs.shape)
        loss += jnp.mean((outputs - targets) ** 2)
    return loss


def state_of_arrays(make: Factory) -> None:
    """The state is a pytree of plain arrays, which any checkpointer can hold."""
    run = Run(make)
    for when, state in (("init", run.state), ("update", run.update()[1])):
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            where = f"after {when}, state{jax.tree_util.keystr(path)}"
            if not isinstance(leaf, jax.Array | np.ndarray):
                expect.fail(
                    f"{where} is {leaf!r}, a {type(leaf).__name__}; make it an array"
                )
            if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
                expect.fail(
                    f"{where} has dtype {leaf.dtype}, which no file holds; store "
                    "jax.random.key_data(key)"
                )


def stable_state(make: Factory) -> None:
    """Updates leave the state's structure, shapes and dtypes as ``init`` made them."""
    tx = make()
    for kind, params in probes.trees().items():
        grads = probes.gradients(params)
        before = jax.eval_shape(tx.init, params)
        _, after = jax.eval_shape(tx.update, grads, before, params)
        what = f"for parameters of kind '{kind}', the updated state"
        expect.same_types(after, before, what, "tx.init")


def one_compilation(make: Factory) -> None:
    """A jitted update is traced once: the second call finds everything compiled."""
    run = Run(make)
    traces = 0

    @jax.jit
    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        nonlocal traces
        traces += 1
        updates, state = run.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state = run.params, run.state
    for _ in range(3):
        given = (params, state)
        params, state = step(run.grads, state, params)
        if traces > 1:
            change = _first_change((run.params, run.state), given)
            expect.fail(f"jax traced it again: {change}")


def npz_round_trip(make: Factory) -> None:
    """A state saved to npz and read again continues bit by bit."""
    run = Run(make)
    _, state = run.steps(1)
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, state))
    file = io.BytesIO()
    np.savez(file, *leaves, allow_pickle=False)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        # npz knows no bfloat16: it keeps the bits and calls them void.
        read = [
            jnp.asarray(array.view(leaf.dtype))
            for array, leaf in zip(saved.values(), leaves, strict=True)
        ]
    continued, _ = run.steps(2, jax.tree.unflatten(structure, read))
    expected, _ = run.steps(2, state)
    expect.identical(continued, expected, "updates from the restored state")


def no_hidden_state(make: Factory) -> None:
    """An update depends on its arguments alone, not on the calls before it."""
    run = Run(make)
    first = run.update()
    run.steps(1, first[1])
    jax.eval_shape(run.tx.update, run.grads, run.state, run.params)
    expect.identical(run.update(), first, "the same call, later: (update, state)")


def same_seed(make: Factory) -> None:
    """Two transformations of one seed give the same updates."""
    options: list[dict[str, Any]] = [{}]
    if "seed" in options_of(make):
        options.append({"seed": 7})
    for chosen in options:
        first, again = (Run(make, **chosen).steps(2)[0] for _ in range(2))
        expect.identical(again, first, f"a second run with options {chosen}: updates")


def noise_key(make: Factory) -> None:
    """A state carries its key's generator: a run that resumes needs no ``key=``."""
    _require_noise(make, "key")
    run = Run(make, key=jax.random.key(3, impl="rbg"))
    _, state = run.update()
    expect.same_types(state, run.state, "the updated state", "tx.init")
    expected, _ = run.steps(1, state)
    resumed, _ = Run(make).steps(1, state)
    expect.identical(resumed, expected, "updates of a run resumed without key=")


def reseeding(make: Factory) -> None:
    """``reseed`` gives a copied state other noise, and changes nothing else."""
    _require_noise(make, "seed")
    run = Run(make)
    nodes = jax.tree.leaves(run.state, is_leaf=lambda n: isinstance(n, RuleState))
    if not any(isinstance(node, RuleState) for node in nodes):
        raise unittest.SkipTest("its state holds no RuleState, which reseed needs")
    states = [reseed(run.state, jax.random.key(word)) for word in (1, 2, 2)]
    expect.same_types(states[0], run.state, "the state after reseed", "tx.init")
    one, other, again = (run.steps(1, state)[0] for state in states)
    expect.identical(again, other, "updates after reseed by the same key")
    seeds = [Run(make, seed=seed).update()[0] for seed in (7, 8)]
    if _differ(*seeds) and not _differ(one, other):
        expect.fail("its seed changes the noise, but reseed does not")


def _require_noise(make: Factory, option: str) -> None:
    if option not in options_of(make):
        raise unittest.SkipTest(f"it takes no {option}=, so it has no noise")


def _differ(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.any(np.asarray(a) != np.asarray(b)) for a, b in pairs)


def _first_change(before: Any, after: Any) -> str:
    """Name what made jax trace again."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return "the state's structure changed"
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    )
    for (path, leaf), changed in pairs:
        old, new = jax.typeof(leaf), jax.typeof(changed)
        if old != new:
            return (
                f"(params, state){jax.tree_util.keystr(path)}: {old.str_short()} "
                f"(weak_type={old.weak_type}) became {new.str_short()} "
                f"(weak_type={new.weak_type})"
            )
    return "the state's static parts changed"
