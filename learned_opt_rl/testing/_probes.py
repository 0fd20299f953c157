"""Small parameter trees, one for each way in which agents' parameters differ."""

import dataclasses
import importlib
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """A pytree node that is no container, as Equinox modules and nnx states are."""

    kernel: Any
    bias: Any


def agent() -> dict[str, Any]:
    """The parameters most checks use: an actor and a critic of one layer each."""
    return {
        "actor": {"Dense_0": {"kernel": _array(3, 4), "bias": _array(4)}},
        "critic": {"Dense_0": {"kernel": _array(3, 2)}},
    }


def divisible() -> dict[str, Any]:
    """Parameters for each way to shard; axes that are split are multiples of four.

    `layout` splits the actor along outputs (tensor parallel) and the critic along
    inputs (FSDP), as ``PartitionSpec``s over one axis of a mesh.
    """
    return {
        "actor": {
            "Conv_0": {"kernel": _array(3, 1, 2, 4)},
            "Dense_0": {"kernel": _array(4, 8), "bias": _array(8)},
        },
        "critic": {"Dense_0": {"kernel": _array(8, 2)}},
        "log_std": _array(3),
    }


def layout(axis: str) -> dict[str, Any]:
    """Return ``PartitionSpec``s for `divisible`, over an axis of a mesh."""
    return {
        "actor": {
            "Conv_0": {"kernel": P(None, None, None, axis)},
            "Dense_0": {"kernel": P(None, axis), "bias": P(axis)},
        },
        "critic": {"Dense_0": {"kernel": P(axis)}},
        "log_std": P(),
    }


def partly_unused() -> dict[str, Any]:
    """Parameters that often have no gradient: a target network, rows of a table."""
    return {"target": {"kernel": _array(3, 4)}, "embedding": _array(5, 3)}


def heads() -> dict[str, Any]:
    """Groups of parameters without hidden layers, by their names in a message.

    Agents often give such groups optimizers of their own.
    """
    return {
        "a value head": {"critic": {"kernel": _array(4, 1), "bias": _array(1)}},
        "six log_std": {"log_std": _array(6)},
        "a temperature": {"log_alpha": _array()},
    }


def mixed() -> dict[str, Any]:
    """One tree of many kinds: containers, ranks from 0 to 4, two dtypes."""
    return {
        "actor": ({"kernel": _array(3, 3, 4, 8)}, [_array(8, dtype=jnp.bfloat16)]),
        "critic": Module(_array(3, 2, dtype=jnp.bfloat16), _array(2)),
        "temperature": _array(),
    }


def trees() -> dict[str, Any]:
    """All kinds of parameters, by what makes them special."""
    named = {
        "nested dict": agent(),
        "deep nested dict": {"actor": {"torso": {"Dense_0": {"kernel": _array(2, 3)}}}},
        "tuple": ({"kernel": _array(2, 3)}, (_array(3),)),
        "list": [[_array(2, 3), _array(3)], [_array(3, 1)]],
        "registered dataclass": {"actor": Module(_array(2, 3), _array(3))},
        "scalar": {"actor": {"kernel": _array(2, 3)}, "log_std": _array()},
        "convolution": {"Conv_0": {"kernel": _array(3, 3, 4, 8), "bias": _array(8)}},
        "bfloat16": {"kernel": _array(2, 3, dtype=jnp.bfloat16), "bias": _array(3)},
        "single leaf": _array(3),
        "empty": {},
        "zero-size": {"kernel": _array(0, 3), "bias": _array(0)},
        "two of zero size": [_array(0, 3), _array(0, 3), _array(2)],
    }
    if importlib.util.find_spec("flax") is not None:
        frozen = importlib.import_module("flax.core").freeze
        named["FrozenDict"] = frozen({"actor": {"kernel": _array(2, 3)}})
    return named


def gradients(params: Any, seed: int = 0) -> Any:
    """Normal gradients for parameters, in their dtypes."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(generator.standard_normal(p.shape), p.dtype), params
    )


def _array(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    """Parameters between -1 and 1, none of them 0."""
    size = int(np.prod(shape, dtype=int))
    return jnp.asarray(np.sin(1.0 + np.arange(size)).reshape(shape), dtype)
