"""One line at run time for a run that outlasts its horizon."""

import logging
from typing import Any

import jax
import jax.numpy as jnp

_LOG = logging.getLogger("learned_opt_rl")

_EVERY = 64
"""Updates between two checks past the horizon: a run that resumes there is noticed
soon, and the calls to the host cost nothing measurable."""

_LOGGED: set[str] = set()  # messages of this process

# Where jax can call the host from compiled code.
_PLATFORMS = ("cpu", "gpu", "tpu")


def notice_past(count: jax.Array, horizon: Any, consequence: str) -> None:
    """Log once in a process that step ``count`` is past the horizon.

    A logger, unlike ``print`` and ``warnings``, never raises into compiled code, where
    an error would end the run.
    """
    if jax.default_backend() not in _PLATFORMS:
        return
    message = (
        f"past the horizon of {horizon.total_updates} updates; {consequence}. Pass "
        "horizon=Horizon(...) for longer runs"
    )

    def log_once() -> None:
        if message not in _LOGGED:
            _LOGGED.add(message)
            _LOG.warning(message)

    past = count - horizon.total_updates
    now = _any_agent((past >= 0) & (past % _EVERY == 0))
    jax.lax.cond(now, lambda: jax.debug.callback(log_once), lambda: None)


@jax.custom_batching.custom_vmap
def _any_agent(flag: jax.Array) -> jax.Array:
    """Return the flag; under ``vmap``, whether any agent's is set.

    A ``cond`` on one flag for each agent would run both branches at every step.
    """
    return flag


@_any_agent.def_vmap
def _(size: int, is_mapped: list[bool], flags: jax.Array) -> tuple[jax.Array, bool]:
    del size, is_mapped
    return _any_agent(jnp.any(flags, axis=0)), False
