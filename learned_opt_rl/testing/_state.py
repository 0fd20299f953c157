"""Checks of the state: arrays alone, the same ones for ever, and nothing beside it."""

from __future__ import annotations

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run, options_of


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


def _first_change(before: Any, after: Any) -> str:
    """Name what made jax trace again."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        return "the state's structure changed"
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    )
    for (path, old), new in pairs:
        if jax.typeof(old) != jax.typeof(new):
            name = jax.tree_util.keystr(path)
            return f"(params, state){name}: {_avalue(old)} became {_avalue(new)}"
    return "the state's static parts changed"


def _avalue(leaf: Any) -> str:
    kind = jax.typeof(leaf)
    return f"{kind.str_short()} (weak_type={kind.weak_type})"
