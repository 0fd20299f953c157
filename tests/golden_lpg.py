"""Reading the golden files of LPG into this library's trees."""

import jax
import numpy as np

from learned_opt_rl.agents.lpg import Rollout
from learned_opt_rl.rules import lpg
from tests.golden_open import load as load
from tests.golden_open import subtree


def weights(arrays, prefix, conditioned=None):
    """An LPG's weights; ``conditioned`` is where the wider input kernels are."""
    tree = subtree(arrays, prefix)
    cell = tree["LPGGRU_0"]["GRUCell_0"]
    if conditioned is not None:
        wider = subtree(arrays, conditioned)["LPGGRU_0"]["GRUCell_0"]
        cell = {**cell, **{k: {**cell[k], **wider[k]} for k in wider}}
    embedding = tree["MLP_0"]
    return {
        "embedding": {f"dense_{i}": embedding[f"Dense_{i}"] for i in range(2)},
        "gru": cell,
        "policy": tree["Dense_0"],
        "target": tree["Dense_1"],
    }


def rule(arrays, prefix="params/plain/", conditioned=None, lifetime_inputs="none"):
    tree = weights(arrays, prefix, conditioned)
    architecture = lpg.Architecture(
        width=tree["policy"]["kernel"].shape[0],
        embedding=tree["embedding"]["dense_1"]["kernel"].shape[0],
        lifetime_inputs=lifetime_inputs,
    )
    return lpg.UpdateRule(tree, architecture)


def agent_network(arrays, prefix):
    """Of an actor, predictor (there: critic) or value; the tabular ones are bare."""
    tree = subtree(arrays, prefix)
    return tree.get("MLP_0", tree)


def agent_params(arrays, prefix):
    return {
        "actor": agent_network(arrays, f"{prefix}actor/"),
        "predictor": agent_network(arrays, f"{prefix}critic/"),
    }


def rollout(arrays, prefix):
    """``[B, T]`` transitions, with any axes before them."""
    r = subtree(arrays, prefix)
    last = r["next_obs"][..., -1:, :]
    observation = np.concatenate([r["obs"], last], axis=-2)
    np.testing.assert_array_equal(observation[..., 1:, :], r["next_obs"])
    return jax.tree.map(
        jax.numpy.asarray, Rollout(observation, r["action"], r["reward"], r["done"])
    )


def assert_close(found, expected, rtol=0.0, atol=0.0):
    """Leaf by leaf; ``rtol`` is relative to a leaf's largest entry."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)

    def check(path, f, e):
        bound = atol + rtol * np.abs(e).max()
        np.testing.assert_allclose(
            f, e, rtol=0, atol=bound, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree_util.tree_map_with_path(check, found, expected)
