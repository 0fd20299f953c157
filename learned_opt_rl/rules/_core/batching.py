"""How one agent's step runs when jax maps over several agents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Result = TypeVar("Result")


def one_agent_at_a_time(step: Callable[..., Result]) -> Callable[..., Result]:
    """Make ``jax.vmap`` of a step a loop over agents, on a CPU.

    A CPU gains nothing from agents side by side and loses its cache to them: each
    agent would cost twice what it costs alone. On other platforms, and under
    differentiation, the step is mapped as usual.

    Args:
        step: ``(*arguments) -> outputs`` of one agent, pytrees of arrays.

    Returns:
        The step. Decorate a function of a module, once: jax caches compilations by it.
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
