"""Parity of OPEN with the authors' implementation and with a loop-level oracle."""

import jax
import numpy as np
import pytest

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.features import broadcast_dormancy, leaf_roles
from tests import golden_open, oracle_open
from tests.rules.open_cases import part

RECURRENT = [
    f"open_recurrent_{task}_{actions}"
    for task in ("multi", "breakout", "ant")
    for actions in ("discrete", "continuous")
]
FILES = [*RECURRENT, "open_feedforward_h16"]
HORIZON = Horizon(1000)


def trajectory(arrays):
    """Our three steps over a golden file, from its parameters and gradients."""
    params = golden_open.subtree(arrays, "params0/")
    tx = open_rl.optimizer(
        golden_open.weights(arrays),
        HORIZON,
        networks=golden_open.SILENT,
        zero_gradients="move",  # as published
    )
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(3):
        updates, state = update(
            golden_open.subtree(arrays, f"step{step}/grads/"),
            state,
            params,
            dormancy=golden_open.dormancy(arrays, step),
            training_proportion=arrays[f"step{step}/training_proportion"],
            batch_proportion=arrays[f"step{step}/batch_proportion"],
        )
        yield step, params, updates, state
        params = jax.tree.map(lambda p, u: p + u, params, updates)


# Absolute slack beside rtol 1e-5, for values near zero: carries are O(1) and come
# from float32 sums, so their rounding is absolute. Under jit XLA contracts products
# and sums to FMAs, which moves momenta where b*m and (1-b)*g cancel; op by op, the
# momenta are bit-equal.
SLACK = {"eager": {"carry": 2e-6, "momentum": 0.0}}
SLACK["jit"] = {"carry": 1e-5, "momentum": 1e-8}


# Op by op a file takes several times as long as compiled.
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(
            *(name, mode),
            marks=pytest.mark.slow if mode == "eager" else (),
        )
        for name in FILES
        for mode in SLACK
    ],
)
def test_updates_carries_and_momenta_equal_the_reference(reference, name, mode):
    with jax.disable_jit(mode == "eager"):
        check_against_reference(golden_open.load(reference, name), SLACK[mode])


def check_against_reference(arrays, slack):
    for step, _, updates, state in trajectory(arrays):
        expected = golden_open.subtree(arrays, f"step{step}/update/")
        assert jax.tree.structure(expected) == jax.tree.structure(updates)
        jax.tree.map(
            lambda e, u: np.testing.assert_allclose(u, e, rtol=0, atol=1.5e-7),
            expected,
            updates,
        )
        for kind, found in (
            ("carry", part(state, "carry")),
            ("momentum", part(state, "momenta")),
        ):
            expected = golden_open.subtree(arrays, f"step{step}/{kind}/")
            for network, tree in expected.items():
                jax.tree.map(
                    lambda e, f, atol=slack[kind]: np.testing.assert_allclose(
                        f, e, rtol=1e-5, atol=atol
                    ),
                    tree,
                    found[network],
                )


@pytest.mark.parametrize("name", ["open_recurrent_ant_continuous", FILES[-1]])
def test_oracle_agrees_with_the_library(reference, name):
    arrays = golden_open.load(reference, name)
    weights = golden_open.weights(arrays)
    before = None
    for step, params, updates, state in trajectory(arrays):
        leaves = oracle_leaves(arrays, step, params, before)
        t_p = float(arrays[f"step{step}/training_proportion"])
        b_p = float(arrays[f"step{step}/batch_proportion"])
        expected, momenta, carries = oracle_open.step(weights, leaves, t_p, b_p)
        for e, u in zip(expected, jax.tree.leaves(updates), strict=True):
            np.testing.assert_allclose(u, e, rtol=0, atol=1.5e-7)
        for e, m in zip(momenta, jax.tree.leaves(part(state, "momenta")), strict=True):
            np.testing.assert_allclose(m, e, rtol=1e-5, atol=1e-8)
        for e, c in zip(carries, jax.tree.leaves(part(state, "carry")), strict=True):
            np.testing.assert_allclose(c, e, rtol=1e-5, atol=1e-5)
        before = state


def oracle_leaves(arrays, step, params, before):
    given = golden_open.dormancy(arrays, step)
    dormancy = broadcast_dormancy(given, params)
    flat = [np.asarray(p) for p in jax.tree.leaves(params)]
    grads = jax.tree.leaves(golden_open.subtree(arrays, f"step{step}/grads/"))
    recurrent = any("gru_params" in name for name in arrays.files)
    units = arrays["theta/params/params/layers_0/kernel"].shape[0]
    momenta = [np.zeros((*p.shape, 6)) for p in flat]
    carries = [np.zeros((*p.shape, units)) if recurrent else None for p in flat]
    if before is not None:
        momenta = [np.asarray(m) for m in jax.tree.leaves(part(before, "momenta"))]
        if recurrent:
            carries = [np.asarray(c) for c in jax.tree.leaves(part(before, "carry"))]
    positions = [role.position for role in leaf_roles(params)]
    rows = zip(flat, grads, momenta, carries, positions, dormancy, strict=True)
    names = ("p", "g", "m", "h", "position", "dormancy")
    return [
        {**dict(zip(names, row, strict=True)), "dormancy": np.asarray(row[5])}
        for row in rows
    ]
