"""Several processes that run one campaign together, each with its own devices.

All processes do the same: draw the population, train their devices' share of it, gather
the returns of all, and move the mean. Only the first reads and writes the folder. If a
process dies, jax aborts the others; the campaign then resumes from its last generation.
"""

from typing import Any

import jax
import jax.numpy as jnp


def join(coordinator: str, count: int | None, index: int | None) -> None:
    """Make this process one of several. Call it before any other use of jax.

    Args:
        coordinator: Address and port of the first process, for example
            ``"10.0.0.1:9999"``; or ``"auto"`` where jax detects the cluster (Slurm,
            Open MPI, TPU pods).
        count: Number of processes.
        index: Index of this process, from 0.

    Raises:
        ValueError: Count or index is missing or out of range, or jax does not detect a
            cluster.
    """
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"coordinator='auto', but jax detects no cluster ({error}); give "
                "HOST:PORT of the first process, the number of processes and the index "
                "of this one"
            ) from error
        return
    if count is None or index is None or not 0 <= index < count:
        raise ValueError(
            f"coordinator={coordinator!r} with processes={count} and process={index}: "
            "give the number of processes and the index of this one, from 0"
        )
    # jax's default is to listen on every interface.
    bind = coordinator if index == 0 else None
    jax.distributed.initialize(coordinator, count, index, coordinator_bind_address=bind)


def of_the_first(tree: Any) -> Any:
    """Return the tree of the first process, in all processes, as jax arrays.

    Args:
        tree: Arrays and typed PRNG keys; other processes contribute only shapes and
            dtypes.

    Example:
        >>> of_the_first({"x": 3})["x"].item()
        3
    """
    tree = jax.tree.map(jnp.asarray, tree)
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    plain = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
    sent = multihost_utils.broadcast_one_to_all(plain)
    return jax.tree.map(
        lambda like, x: (
            jax.random.wrap_key_data(x) if _is_key(like) else jnp.asarray(x)
        ),
        tree,
        sent,
    )


def _is_key(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
