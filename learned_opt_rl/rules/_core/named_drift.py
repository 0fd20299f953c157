"""Drifts that print as what they are."""

import dataclasses
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True, repr=False)
class NamedDrift:
    """A drift that prints as a text."""

    text: str
    function: Callable[[jax.Array, jax.Array], jax.Array]

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """Return the drift, elementwise."""
        return self.function(ratio, advantage)

    def __repr__(self) -> str:
        return self.text
