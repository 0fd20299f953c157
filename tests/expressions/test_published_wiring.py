"""Three optimiser steps of the authors' code around the formulas, leaf by leaf."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.expressions import published
from tests.golden_open import subtree

IDS = [
    "no_features_symbolic_ant",
    "open_symbolic_ant",
    "open_symbolic_minatar",
    "no_features_llm_ant",
    "no_features_llm_minatar",
    "open_llm_ant",
    "open_llm_minatar",
    "open_recurrent_llm_minatar",
]
LEAVES = [
    (network, f"Dense_{layer}", leaf)
    for network in ("actor", "critic")
    for layer in range(3)
    for leaf in ("kernel", "bias")
]


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(
        reference / "golden" / "published_functions_wiring.npz", allow_pickle=False
    )


def get(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@pytest.mark.parametrize("name", IDS)
def test_three_steps(golden, name):
    function = published.load(name)
    memory = {
        path: function.init_memory(golden["params0/" + "/".join(path)].shape)
        for path in LEAVES
    }
    params = subtree(golden, "params0/")
    for step in range(3):
        grads = subtree(golden, f"step{step}/grads/")
        activations = subtree(golden, f"step{step}/activations/")
        expected = subtree(golden, f"{name}/step{step}/raw/")
        noise = subtree(golden, f"{name}/step{step}/noise/")
        t_p = golden[f"step{step}/training_proportion"]
        for path in LEAVES:
            network, layer, leaf = path
            index = layer[-1]
            activation = activations[network][index] + 1e-11
            inputs = {
                "p": get(params, path),
                "g": get(grads, path),
                "dorm": activation.size * activation / activation.sum(),
                "t_p": t_p,
                "b_p": golden[f"step{step}/batch_proportion"],
                "l_p": int(index) / 2,
                "iteration": step + 1,
            }
            if "rand" in function.inputs:
                inputs["rand"] = get(noise, path)
            if "lr" in function.inputs:
                inputs["lr"] = golden[f"{name}/base_learning_rate"] * (1 - t_p)
            found, memory[path] = function.evaluate(inputs, memory[path])
            assert found.dtype == jnp.float32
            dead = activations[network][index] < 1e-6
            rtol = np.where(dead, 1e-2, 1e-4) if name == "open_llm_ant" else 1e-4
            error = np.abs(found - get(expected, path))
            assert (error <= 1e-7 + rtol * np.abs(get(expected, path))).all(), path
            if "v" in memory[path]:
                var = get(subtree(golden, f"{name}/step{step}/var/"), path)
                np.testing.assert_allclose(
                    memory[path]["v"], var, rtol=1e-5, atol=1e-12
                )
        updates = subtree(golden, f"{name}/step{step}/update/")
        params = {
            network: {
                layer: {
                    leaf: params[network][layer][leaf] + updates[network][layer][leaf]
                    for leaf in ("kernel", "bias")
                }
                for layer in params[network]
            }
            for network in params
        }
