"""Other strategies than ours: evosax's, behind the same interface.

They minimise, keep no key, and take a generation's population back; here they maximise
what they are told, draw from the campaign's key and the generation alone, so that a
campaign resumes to the bit, and draw the population again when they are told. The mean
is float32. Steps and sigma adapt themselves, as each strategy does with its defaults.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.evolution.strategy import State, generation_key

STRATEGIES = {
    "cma_es": "CMA_ES",
    "sep_cma_es": "Sep_CMA_ES",
    "lm_ma_es": "LM_MA_ES",
    "cr_fm_nes": "CR_FM_NES",
    "snes": "SNES",
}
"""evosax's classes by our names: those that adapt their own steps.

xNES is not among them: in evosax 0.3.2 its first generation has sigma squared.
"""


@dataclasses.dataclass(frozen=True)
class EvosaxStrategy:
    """A strategy of evosax; it maximises.

    Attributes:
        name: A key of `STRATEGIES`. ``"cma_es"`` holds matrices of ``[n, n]``
            and decomposes one in every generation.
        population: Members.
        sigma: Standard deviation of the first generation.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> strategy = EvosaxStrategy("snes", population=8, sigma=0.1)
        >>> state = strategy.init(jnp.zeros(3), jax.random.key(0))  # doctest: +SKIP
        >>> strategy.ask(state).shape  # doctest: +SKIP
        (8, 3)
    """

    name: str
    population: int = 64
    sigma: float = 0.03

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.name not in STRATEGIES:
            raise ValueError(
                f"strategy={self.name!r} must be openai_es, or of evosax one of "
                f"{', '.join(STRATEGIES)}"
            )
        if self.population < 4 or self.population % 2:
            raise ValueError(
                f"population={self.population} must be even, at least 4, for "
                f"strategy={self.name!r}"
            )
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be positive")

    def init(self, mean: jax.Array, key: jax.Array) -> State:
        """The search before its first generation.

        Args:
            mean: ``[n]``, any floating dtype; kept in float32.
            key: Typed PRNG key.

        Returns:
            The state; its ``optimizer`` is evosax's state.

        Raises:
            MissingExtraError: evosax is not installed.
        """
        mean = jnp.asarray(mean, jnp.float32)
        theirs, params = self._theirs(mean.size)
        with _their_numerics():
            inner = theirs.init(jax.random.fold_in(key, 0), mean, params)
        return State(mean, _strong(inner), jnp.int32(0), key)

    @functools.partial(jax.jit, static_argnums=0)
    def ask(self, state: State) -> jax.Array:
        """The members of the generation to come, float32 ``[population, n]``."""
        return self._drawn(state)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def tell(self, state: State, fitness: jax.Array) -> State:
        """The search after a generation.

        Args:
            state: The one its members were asked of.
            fitness: float32 ``[population]``, more is better, NaN is worst.

        Returns:
            The state with the distribution moved.
        """
        population, inner = self._drawn(state)
        theirs, params = self._theirs(state.mean.size)
        key = generation_key(state, "noise")
        with _their_numerics():
            inner, _ = theirs.tell(key, population, -fitness, inner, params)
        mean = jnp.asarray(theirs.get_mean(inner), jnp.float32)
        return State(mean, _strong(inner), state.generation + 1, state.key)

    def _drawn(self, state: State) -> tuple[jax.Array, Any]:
        theirs, params = self._theirs(state.mean.size)
        key = generation_key(state, "noise")
        with _their_numerics():
            return theirs.ask(key, state.optimizer, params)

    def _theirs(self, size: int) -> tuple[Any, Any]:
        theirs, params = _algorithm(self.name, self.population, size)
        return theirs, params.replace(std_init=jnp.float32(self.sigma))


@functools.cache
def _algorithm(name: str, population: int, size: int) -> tuple[Any, Any]:
    """An instance, for each of which evosax compiles anew, and its parameters."""
    try:
        from evosax import algorithms
    except ImportError as error:
        raise MissingExtraError(
            f"strategy={name!r} is evosax's ({error}): "
            "pip install 'learned-opt-rl[train]'"
        ) from error
    # They are arrays, and may first be made inside of a jitted function.
    with jax.ensure_compile_time_eval():
        theirs = getattr(algorithms, STRATEGIES[name])(population, jnp.zeros(size))
        return theirs, theirs.default_params


@contextlib.contextmanager
def _their_numerics() -> Iterator[None]:
    """Broadcasts as evosax writes them; products that a GPU does not round."""
    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("highest"):
        yield


def _strong(tree: Any) -> Any:
    """Without weak types, as a state has none that was read from disk."""
    return jax.tree.map(
        lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree
    )
