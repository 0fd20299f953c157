"""Reading the golden file of Optim4RL into this library's trees."""

from tests.golden_open import load as _load
from tests.golden_open import subtree

TAGS = [
    "rlc2024_linear_head",
    "rlc2024_mlp16",
    "rlc2024_linear_head_noclip",
    "arxiv2023_mlp16",
    "arxiv2023_mlp16_signflip",
]


def load(reference):
    return _load(reference, "optim4rl")


def weights(arrays, tag, kind="theta"):
    """Meta-parameters (or their gradient) by our names."""
    tree = subtree(arrays, f"{tag}/{kind}/params/")
    return {f"tower_{i}": _tower(tree[f"rnn{i}"], tree[f"mlp{i}"]) for i in (1, 2)}


def _tower(gru, mlp):
    # The reference counts its ReLUs as layers.
    names = {name: f"dense_{int(name.removeprefix('layers_')) // 2}" for name in mlp}
    return {"gru": gru, "mlp": {names[name]: layer for name, layer in mlp.items()}}
