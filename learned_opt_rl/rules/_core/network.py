"""Tables with one column per parameter, and the layers that run over them.

On a CPU every operation then works on long contiguous rows, whatever the (tiny) widths
of the layers. docs/overhead.md records what each step here gained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._core.weights import Weights

Result = TypeVar("Result")

# By default a GPU would round the products to TF32 and lose parity with the published
# weights; on a CPU this changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST

# Columns per pass on a CPU: the layers of so many parameters fit its last-level cache.
_BLOCK = 2**16

_TILE = 64  # rows of a tile: with 16 channels, 4 KiB, which a CPU's first cache holds


def as_rows(leaf: jax.Array, channels: int = 1) -> jax.Array:
    """Return ``[*shape]``, or ``[*shape, channels]``, as float32 ``[channels, n]``."""
    return _transposed(leaf.astype(jnp.float32).reshape(-1, channels))


def side_by_side(leaves: Sequence[jax.Array], channels: int = 1) -> jax.Array:
    """Return the leaves as one float32 table ``[channels, n]``, in leaf order."""
    return jnp.concatenate([as_rows(leaf, channels) for leaf in leaves], axis=1)


def split(table: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """Cut ``[n]`` into leaves ``[*shape]``, ``[channels, n]`` into ``[*shape, c]``."""
    columns = table.T  # [n, channels]
    pieces, start = [], 0
    for leaf in like:
        piece = columns[start : start + leaf.size]
        pieces.append(piece.reshape(*leaf.shape, *columns.shape[1:]))
        start += leaf.size
    return pieces


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
    network: Callable[[Weights, jax.Array], Any],
    weights: Weights,
    table: jax.Array,
    columns: int | None = None,
) -> Any:
    """Run ``network(weights, table)`` on a block of columns at a time.

    The layers' outputs are ten times the table: in blocks, they stay in a CPU's cache.
    By default a CPU gets blocks, and other platforms get all columns at once.
    """
    size = table.shape[1]
    if columns is None:
        columns = _BLOCK if jax.default_backend() == "cpu" else size
    count = -(-size // max(columns, 1))
    if count <= 1:
        return network(weights, table)
    width = -(-size // count)
    padded = jnp.pad(table, ((0, 0), (0, count * width - size)))

    def block(start: jax.Array) -> Any:
        part = jax.lax.dynamic_slice_in_dim(padded, start, width, axis=1)
        return network(weights, part)

    blocks = jax.lax.map(block, width * jnp.arange(count))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :size], blocks
    )


def one_agent_at_a_time(step: Callable[..., Result]) -> Callable[..., Result]:
    """Make ``jax.vmap`` of one agent's step a loop over agents, on a CPU.

    A CPU gains nothing from agents side by side and loses its cache to them: each
    agent would cost twice what it costs alone. On other platforms, and under
    differentiation, the step is mapped as usual. Decorate a function of a module, once:
    jax caches compilations by the function.
    """
    in_turn = jax.custom_batching.sequential_vmap(step)

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
