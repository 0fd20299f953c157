"""Reading the golden files of OPEN into this library's trees."""

import pathlib

import numpy as np

# No noise anywhere: both networks carry a critic's name.
SILENT = {"critic_a": "^actor", "critic_b": "^critic"}
_MLP = {"layers_0": "dense_0", "layers_1": "norm_0", "layers_3": "dense_1"}
_MLP |= {"layers_4": "norm_1", "layers_6": "dense_2"}


def subtree(arrays, prefix):
    """The nested dict of all arrays whose key starts with ``prefix``."""
    tree = {}
    for name in arrays.files:
        if name.startswith(prefix):
            node = tree
            *parents, leaf = name[len(prefix) :].split("/")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = arrays[name]
    return tree


def load(reference: pathlib.Path, name: str):
    return np.load(reference / "golden" / f"{name}.npz", allow_pickle=False)


def weights(arrays):
    mlp = subtree(arrays, "theta/params/params/")
    tree = {"mlp": {_MLP[name]: layer for name, layer in mlp.items()}}
    gru = subtree(arrays, "theta/gru_params/params/")
    return {"gru": gru, **tree} if gru else tree


def dormancy(arrays, step):
    """Per module, from the recorded mean absolute activations."""
    tree = {}
    for network, layers in subtree(arrays, f"step{step}/activations/").items():
        tree[network] = {}
        for index, activation in layers.items():
            a = activation + 1e-11
            value = (a.size * a / a.sum()).astype(np.float32)
            log_std = network == "actor" and f"params0/actor/Dense_{index}/bias"
            if log_std and log_std not in arrays.files:
                tree[network]["log_std"] = value[0]
            else:
                tree[network][f"Dense_{index}"] = value
    return tree
