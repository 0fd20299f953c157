"""Measure the cost of each layout of OPEN's network, the reason for its shape.

Every variant computes the same outputs (checked to 5e-6) for the parameters of the
Breakout agent; ``python -m bench.layouts --out results/layouts.json`` times them in
turn. docs/overhead.md says what was concluded.
"""

import argparse
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.overhead import compiled, interleaved, print_table, with_ratios
from learned_opt_rl import open_rl
from learned_opt_rl.families.open_network import INPUTS
from learned_opt_rl.rules import parts
from learned_opt_rl.rules._core.network import dot, gru_kernel, in_blocks
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance

# Leaf sizes of the Breakout agent: two MLPs of 400-64-64 with heads of 3 and 1.
LEAVES = (64, 25_600, 64, 4_096, 3, 192, 64, 25_600, 64, 4_096, 1, 64)
STEPS = 8  # per timing, chained through the carry as in an agent


def columns_last(weights: Any, table: jax.Array) -> Any:
    """Apply the textbook layout: one row per parameter, layers as in Flax."""
    x, h = table[:, :INPUTS], table[:, INPUTS:]
    gru, mlp = weights["gru"], weights["mlp"]

    def dense(layer: Any, y: jax.Array) -> jax.Array:
        return y @ layer["kernel"] + layer["bias"][None]

    def norm(layer: Any, y: jax.Array) -> jax.Array:
        mean, square = y.mean(1, keepdims=True), (y * y).mean(1, keepdims=True)
        scaled = (y - mean) * jax.lax.rsqrt(square - mean**2 + 1e-6)
        return jax.nn.relu(scaled * layer["scale"][None] + layer["bias"][None])

    r = jax.nn.sigmoid(dense(gru["ir"], x) + h @ gru["hr"]["kernel"])
    z = jax.nn.sigmoid(dense(gru["iz"], x) + h @ gru["hz"]["kernel"])
    n = jnp.tanh(dense(gru["in"], x) + r * dense(gru["hn"], h))
    h = (1 - z) * n + z * h
    y = norm(mlp["norm_0"], dense(mlp["dense_0"], h))
    y = norm(mlp["norm_1"], dense(mlp["dense_1"], y))
    return dense(mlp["dense_2"], y), h


def per_leaf(weights: Any, table: jax.Array) -> Any:
    """Apply the textbook layout once per leaf instead of once for all."""
    pieces = jnp.split(table, np.cumsum(LEAVES)[:-1])
    outputs = [columns_last(weights, piece) for piece in pieces]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *outputs)


def rows(weights: Any, table: jax.Array) -> Any:
    """Apply one column per parameter, but LayerNorm by a reduction over axis 0."""
    kernel, bias = gru_kernel(weights["gru"])
    gates = dot(kernel, table) + bias
    g = gates.shape[0] // 4
    r = 0.5 + 0.5 * jnp.tanh(gates[:g])
    z = 0.5 + 0.5 * jnp.tanh(gates[g : 2 * g])
    n = jnp.tanh(gates[2 * g : 3 * g] + r * gates[3 * g :])
    y = h = n + z * (table[INPUTS:] - n)
    mlp = weights["mlp"]
    for i in ("0", "1"):
        dense, norm = mlp[f"dense_{i}"], mlp[f"norm_{i}"]
        y = dot(dense["kernel"], y) + dense["bias"][:, None]
        mean, square = y.mean(0, keepdims=True), (y * y).mean(0, keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(square - mean**2 + 1e-6)
        y = jax.nn.relu(y * norm["scale"][:, None] + norm["bias"][:, None])
    return dot(mlp["dense_2"]["kernel"], y) + mlp["dense_2"]["bias"][:, None], h


def in_blocks_of_4096(weights: Any, table: jax.Array) -> Any:
    """Apply the library's network to 4096 columns at a time."""

    def block(cut: Any) -> Any:
        outputs, carry = parts.apply(weights, cut(table, 1))
        return outputs.T, carry.T

    like = jnp.zeros((table.shape[1], 3)), table[INPUTS:].T
    outputs, carry = in_blocks(block, like, columns=4096)
    return outputs.T, carry.T


ROW_VARIANTS = {
    "column per parameter, LayerNorm by reduction": rows,
    "column per parameter, blocks of 4096": in_blocks_of_4096,
    "column per parameter, LayerNorm by adds (the library)": parts.apply,
}
COLUMN_VARIANTS = {
    "row per parameter, one table (textbook)": columns_last,
    "row per parameter, a table per leaf": per_leaf,
}


def chained(variant: Any, weights: Any, features: jax.Array, carry: Any, axis: int):
    """Take ``STEPS`` steps, each with the carry of the step before."""

    def step(h: jax.Array, _: None) -> Any:
        outputs, h = variant(weights, jnp.concatenate([features, h], axis))
        return h, outputs.sum()

    return jax.lax.scan(step, carry, None, STEPS)


def measure(carry: int, width: int, repetitions: int) -> list[dict]:
    """Time every variant for one architecture; rows as for ``bench.overhead``."""
    weights = open_rl.init(jax.random.key(0), open_rl.Architecture(carry, width))
    n = sum(LEAVES)
    features = jax.random.normal(jax.random.key(1), (INPUTS, n))
    state = jax.random.normal(jax.random.key(2), (carry, n))
    expected = parts.apply(weights, jnp.concatenate([features, state]))
    programs = {}
    for names, transposed in ((COLUMN_VARIANTS, True), (ROW_VARIANTS, False)):
        x, h = (features.T, state.T) if transposed else (features, state)
        axis = 1 if transposed else 0
        for name, variant in names.items():
            found = variant(weights, jnp.concatenate([x, h], axis))
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a.T if transposed else a, b, atol=5e-6)
            run = functools.partial(chained, variant, axis=axis)
            programs[name] = (compiled(run, weights, x, h)[0], x, h)
    times = interleaved(
        {
            k: lambda p=p, x=x, h=h: p(weights, x, h)
            for k, (p, x, h) in programs.items()
        },
        repetitions,
    )
    return with_ratios(
        [
            {
                "network": f"{carry}/{width}",
                "layout": name,
                "microseconds": round(1e6 * seconds / STEPS),
            }
            for name, seconds in times.items()
        ],
        "microseconds",
        "times_textbook",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both recurrent architectures, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args(argv)
    table = []
    for carry, width in ((8, 16), (16, 32)):
        table += measure(carry, width, arguments.repetitions)
    report = {**provenance(), "layouts": table}
    write_json(arguments.out, report, indent=1)
    print_table("The network, 60 thousand parameters, per step", table)


if __name__ == "__main__":
    main()
