"""Several processes that run one campaign together, each with devices of its own.

All of them do the same: draw the same population, train their devices' share of it,
get the returns of all, and move the mean. Only the first reads and writes the folder.
A process that dies takes the others down (jax aborts them); the campaign then goes on
from the last generation it kept.
"""

from typing import Any

import jax
import jax.numpy as jnp


def join(coordinator: str, count: int | None, index: int | None) -> None:
    """Makes this process one of several; before anything else is asked of jax.

    Args:
        coordinator: Address and port of the first process, as ``"10.0.0.1:9999"``; or
            ``"auto"``, where jax finds all of this out (Slurm, Open MPI, TPU pods).
        count: How many processes.
        index: Which of them this is, from 0.

    Raises:
        ValueError: Count or index is missing or out of range; or ``"auto"`` where jax
            knows no cluster.
    """
    if coordinator == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"coordinator='auto', but this is no cluster that jax knows ({error}); "
                "give HOST:PORT of the first process, their number and which this is"
            ) from error
        return
    if count is None or index is None or not 0 <= index < count:
        raise ValueError(
            f"coordinator={coordinator!r} needs the number of processes and which of "
            f"them this is, from 0; not processes={count} and process={index}"
        )
    # By default jax would listen on every interface.
    bind = coordinator if index == 0 else None
    jax.distributed.initialize(coordinator, count, index, coordinator_bind_address=bind)


def of_the_first(tree: Any) -> Any:
    """What the first process has, in all of them.

    Args:
        tree: Arrays, among them typed PRNG keys; of other processes only shapes and
            dtypes count.

    Returns:
        The tree of the first process, as arrays of jax.

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
