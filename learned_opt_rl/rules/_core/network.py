"""Tables with one column per parameter, and the layers that run over them.

On a CPU every operation then works on long contiguous rows, whatever the (tiny) widths
of the layers. docs/overhead.md records what each step here gained.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rules._core.weights import Weights

Result = TypeVar("Result")

# By default a GPU would round the products to TF32 and lose parity with the published
# weights; on a CPU this changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST

# Columns per pass: on a CPU, a block of this size fits its caches; elsewhere the layers
# of so many parameters take about 400 MB.
_BLOCK = {"cpu": 2**14}
_LARGE_BLOCK = 2**20

# A table of several leaves copies their state. On a CPU, small copies stay near the
# caches. With tables of a sixteenth of the parameters these copies are small beside the
# state, and few networks are compiled.
_TABLE = {"cpu": 2**16}
_LARGE_TABLE = 2**18
_TABLES = 16

_MANY = 32  # leaves; an agent of two small networks has fewer, and runs without loops

_TILE = 64  # rows of a tile: with 16 channels, 4 KiB, which a CPU's first cache holds

Cut = Callable[..., jax.Array]
"""``cut(x, axis=0)`` returns a block's part of an array; scalars stay."""


def uncut(x: jax.Array, axis: int = 0) -> jax.Array:
    """Cut nothing off."""
    del axis
    return x


def tables(leaves: Sequence[jax.Array]) -> list[list[int]]:
    """Return the indices of the leaves of each table, in order of size.

    A leaf that is larger than a table is alone in its own.
    """
    smallest = _TABLE.get(jax.default_backend(), _LARGE_TABLE)
    limit = max(smallest, sum(leaf.size for leaf in leaves) // _TABLES)
    chosen, filled = [[]], 0
    for i in by_size(leaves):
        filled += leaves[i].size
        if chosen[-1] and filled > limit:
            chosen.append([])
            filled = leaves[i].size
        chosen[-1].append(i)
    return chosen


def by_size(leaves: Sequence[jax.Array]) -> list[int]:
    """Return the indices of the leaves in order of size."""
    return sorted(range(len(leaves)), key=lambda i: leaves[i].size)


def join(leaves: Sequence[jax.Array], channels: int = 0) -> jax.Array:
    """Return leaves ``[*shape, *c]``, with ``channels`` axes c, as float32 ``[n, *c]``.

    One leaf is not copied.
    """
    flat = [
        leaf.astype(jnp.float32).reshape(-1, *leaf.shape[leaf.ndim - channels :])
        for leaf in leaves
    ]
    return flat[0] if len(flat) == 1 else jnp.concatenate(flat)


def alike(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of leaves that are computed side by side, given their kinds.

    Many leaves of one kind share the programs of one stack. A few leaves are each
    alone, and nothing is copied.
    """
    if loops(len(keys)) == 1:
        return [[i] for i in range(len(keys))]
    kinds: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        kinds.setdefault(key, []).append(i)
    return list(kinds.values())


def stack(leaves: Sequence[Any]) -> jax.Array:
    """Return leaves or numbers of one shape as float32 ``[leaves, *shape]``."""
    arrays = [jnp.asarray(leaf, jnp.float32) for leaf in leaves]
    return join(arrays).reshape(len(arrays), *arrays[0].shape)


def split(joined: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """Cut ``[n, *c]`` into leaves ``[*shape, *c]`` of the shapes of ``like``."""
    sizes = [leaf.size for leaf in like]
    starts = _starts(tuple(np.cumsum([0, *sizes])[:-1].tolist()), joined)
    return [
        jax.lax.dynamic_slice_in_dim(joined, start, leaf.size).reshape(
            *leaf.shape, *joined.shape[1:]
        )
        for start, leaf in zip(starts, like, strict=True)
    ]


def _starts(starts: tuple[int, ...], joined: jax.Array) -> Sequence[Any]:
    """Return many starts as scalars that XLA on a CPU does not know.

    It would compile one program for each constant start, but compiles only one for
    all pieces of one size whose starts it cannot tell.
    """
    if len(starts) <= _MANY or jax.default_backend() != "cpu":
        return starts

    def branch() -> tuple[np.int32, ...]:
        return tuple(map(np.int32, starts))

    # Both branches are the same, which XLA does not notice.
    return jax.lax.cond(joined.reshape(-1)[0] < 0, branch, branch)


def as_rows(x: jax.Array) -> jax.Array:
    """Return ``[n]`` or ``[n, channels]`` as a table ``[channels, n]``."""
    return x[None] if x.ndim == 1 else _transposed(x)


def _transposed(x: jax.Array) -> jax.Array:
    """Transpose ``[n, channels]``, on a CPU tile by tile."""
    whole = x.shape[0] - x.shape[0] % _TILE
    if x.shape[1] == 1 or whole == 0 or jax.default_backend() != "cpu":
        return x.T
    tiles = x[:whole].reshape(-1, _TILE, x.shape[1]).transpose(0, 2, 1)
    # Without the barrier XLA would merge both steps into strides, which every later
    # pass over the rows would read, missing the cache at each element.
    tiles = jax.lax.optimization_barrier(tiles)
    head = tiles.transpose(1, 0, 2).reshape(x.shape[1], whole)
    return jnp.concatenate([head, x[whole:].T], axis=1)


def table_of_rows(rows: Sequence[jax.Array]) -> jax.Array:
    """Stack rows ``[r, n]`` into a network's input table."""
    table = jnp.concatenate(rows)
    if jax.default_backend() != "cpu":
        return table
    # Without the barrier XLA would split the first layer's product into one for each
    # piece, and add them up in every pass over the outputs.
    return jax.lax.optimization_barrier(table)


def dot(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Return ``kernel[i, o], x[i, n] -> [o, n]``."""
    return jax.lax.dot_general(
        kernel, x, (((0,), (0,)), ((), ())), precision=_PRECISION
    )


def gru(weights: Weights, table: jax.Array) -> jax.Array:
    """Run Flax's ``GRUCell``: ``[inputs, state below]`` rows to the new state's."""
    kernel, bias = gru_kernel(weights)
    gates = dot(kernel, table) + bias
    size = gates.shape[0] // 4
    h = table[weights["in"]["kernel"].shape[0] :]
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, which is cheaper; gru_kernel halved a.
    reset, update = 0.5 + 0.5 * jnp.tanh(gates[: 2 * size].reshape(2, size, -1))
    candidate = jnp.tanh(gates[2 * size : 3 * size] + reset * gates[3 * size :])
    return candidate + update * (h - candidate)


def gru_kernel(weights: Weights) -> tuple[jax.Array, jax.Array]:
    """Return one kernel ``[inputs + g, 4 g]``: gates r, z, n from x, n from h."""
    w = weights
    nothing_from_x = jnp.zeros_like(w["in"]["kernel"])
    nothing_from_h = jnp.zeros_like(w["hn"]["kernel"])
    columns = [
        (0.5 * w["ir"]["kernel"], 0.5 * w["hr"]["kernel"], 0.5 * w["ir"]["bias"]),
        (0.5 * w["iz"]["kernel"], 0.5 * w["hz"]["kernel"], 0.5 * w["iz"]["bias"]),
        (w["in"]["kernel"], nothing_from_h, w["in"]["bias"]),
        (nothing_from_x, w["hn"]["kernel"], w["hn"]["bias"]),
    ]
    kernel = [jnp.concatenate([x, h]) for x, h, _ in columns]
    bias = [bias for _, _, bias in columns]
    return jnp.concatenate(kernel, axis=1), jnp.concatenate(bias)[:, None]


def in_blocks(
    run: Callable[[Cut], Any], like: Any, leaves: int = 1, columns: int | None = None
) -> Any:
    """Compute arrays of the shapes ``[n, ...]`` of ``like``, a block of n at a time.

    ``run(cut)`` returns a block of every array from the parts that ``cut`` returns. The
    layers' outputs are ten times their inputs: in blocks, they stay in a CPU's cache,
    and no platform has to hold them all. A small n of a few leaves is one block.
    """
    size = jax.tree.leaves(like)[0].shape[0]
    columns = columns or _BLOCK.get(jax.default_backend(), _LARGE_BLOCK)
    count = max(-(-size // columns), loops(leaves))
    if min(count, size) <= 1:
        return run(uncut)
    width = -(-size // count)

    def block(i: jax.Array, outputs: Any) -> Any:
        # The last block overlaps the one before it, which nothing reads again.
        start = jnp.minimum(i * width, size - width)

        def cut(x: jax.Array, axis: int = 0) -> jax.Array:
            if not x.ndim:
                return x
            return jax.lax.dynamic_slice_in_dim(x, start, width, axis)

        return jax.tree.map(
            lambda x, part: jax.lax.dynamic_update_slice_in_dim(x, part, start, 0),
            outputs,
            run(cut),
        )

    return jax.lax.fori_loop(0, count, block, like)


def loops(leaves: int) -> int:
    """Return in how many passes at least to compute what is split into so many leaves.

    XLA fuses all that comes before a split into each of the pieces, and compiles for
    minutes where there are hundreds. It fuses nothing into or out of a loop.
    """
    return 2 if leaves > _MANY else 1


def is_small(leaves: Sequence[jax.Array]) -> bool:
    """Return whether to build a table of these leaves in memory, leaf by leaf."""
    size = sum(leaf.size for leaf in leaves)
    return size <= _LARGE_TABLE and loops(len(leaves)) == 1


def one_agent_at_a_time(step: Callable[..., Result]) -> Callable[..., Result]:
    """Make ``jax.vmap`` of one agent's step a loop over agents, on a CPU.

    A CPU gains nothing from agents side by side and loses its cache to them: each
    agent would cost twice what it costs alone. On other platforms, and under
    differentiation, the step is mapped as usual. Decorate a function of a module, once:
    jax caches compilations by the function.
    """
    in_turn = jax.custom_batching.custom_vmap(step)

    @in_turn.def_vmap
    def _(agents: int, batched: Any, *arguments: Any) -> Any:
        del agents
        leaves, structure = jax.tree.flatten(arguments)
        flags = jax.tree.leaves(batched)
        mapped = [x for x, flag in zip(leaves, flags, strict=True) if flag]

        def one(mine: list[jax.Array]) -> Result:
            rest = iter(mine)
            own = [next(rest) if f else x for x, f in zip(leaves, flags, strict=True)]
            return in_turn(*jax.tree.unflatten(structure, own))

        if any(jax.typeof(x).sharding.spec[0] for x in mapped):
            # No loop can run over agents that are sharded over devices.
            axes = jax.tree.map(lambda flag: 0 if flag else None, batched)
            outputs = jax.vmap(step, tuple(axes))(*arguments)
        else:
            outputs = jax.lax.map(one, mapped)
        return outputs, jax.tree.map(lambda _: True, outputs)

    @jax.custom_jvp
    @functools.wraps(step)
    def run(*arguments: Any) -> Result:
        on_cpu = jax.default_backend() == "cpu"
        return in_turn(*arguments) if on_cpu else step(*arguments)

    # A loop made by sequential_vmap cannot be transposed, so derivatives are those of
    # the plain step.
    @run.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        outputs, output_tangents = jax.jvp(step, primals, tangents)
        # The loop gives every output an axis of agents, and vmap expects the same of
        # these outputs: let each depend, by a zero, on everything that may be mapped.
        nothing = [jnp.ravel(x)[:0] for x in jax.tree.leaves(primals)]
        zero = sum(jnp.sum(x, dtype=jnp.float32) for x in nothing)
        return jax.tree.map(lambda y: y + zero, outputs), output_tangents

    return run
