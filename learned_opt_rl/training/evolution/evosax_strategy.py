"""evosax's strategies behind the interface of `strategy.OpenAIES`.

They minimize and need a generation's population back. Here they maximize, and draw from
the campaign's key and the generation alone: campaigns resume bit-identically, and
``tell`` draws the population again. The mean is float32. Every strategy adapts its own
step sizes with its defaults.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl import checks
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.evolution.strategy import State, generation_key

STRATEGIES = {
    "cma_es": "CMA_ES",
    "sep_cma_es": "Sep_CMA_ES",
    "lm_ma_es": "LM_MA_ES",
    "cr_fm_nes": "CR_FM_NES",
    "snes": "SNES",
}
"""evosax's classes by our names: those that adapt their own step sizes.

xNES is missing, because its first generation has sigma squared in evosax 0.3.2.
"""


@dataclasses.dataclass(frozen=True)
class EvosaxStrategy:
    """A strategy of evosax, a key of `STRATEGIES`; it maximizes.

    ``"cma_es"`` stores matrices of ``[n, n]`` and decomposes one in every generation.
    """

    name: str
    population: int = 64
    sigma: float = 0.03  # standard deviation of the first generation

    def __post_init__(self) -> None:
        checks.one_of("strategy", self.name, ("openai_es", *STRATEGIES))
        if self.population < 4 or self.population % 2:
            raise ValueError(
                f"population={self.population} must be even, at least 4, for "
                f"strategy={self.name!r}"
            )
        checks.finite("sigma", self.sigma, "give for example 0.03", above=0)

    def check_size(self, size: int) -> None:
        """Raise ValueError if the strategy becomes NaN on so few weights.

        LM-MA-ES averages its paths at the rate ``population / size`` and takes the root
        of ``rate * (2 - rate)``. CR-FM-NES moves along its path at a rate proportional
        to ``size - 5``, and below 0 the axes of its Gaussian shrink past zero. Both are
        meant for many weights (Loshchilov et al. 2017; Nomura and Ono 2022).
        """
        least = {"lm_ma_es": self.population / 2, "cr_fm_nes": 5}.get(self.name, 1)
        if size >= least:
            return
        smaller = f" or population={2 * size}" if self.name == "lm_ma_es" else ""
        raise ValueError(
            f"strategy={self.name!r} with population={self.population} becomes NaN on "
            f"{size} weights: it needs at least {math.ceil(least)}. Use strategy="
            f"'cma_es', 'snes' or 'openai_es'{smaller if size > 1 else ''}"
        )

    def init(self, mean: jax.Array, key: jax.Array) -> State:
        """See `OpenAIES.init`; raise MissingExtraError without evosax."""
        mean = jnp.asarray(mean, jnp.float32)
        self.check_size(mean.size)
        theirs, params = self._theirs(mean.size)
        with _evosax_numerics():
            inner = theirs.init(jax.random.fold_in(key, 0), mean, params)
        return State(mean, _strong(inner), jnp.int32(0), key)

    @functools.partial(jax.jit, static_argnums=0)
    def ask(self, state: State) -> jax.Array:
        """See `OpenAIES.ask`."""
        return self._drawn(state)[0]

    @functools.partial(jax.jit, static_argnums=0)
    def tell(self, state: State, fitness: jax.Array) -> State:
        """See `OpenAIES.tell`."""
        population, inner = self._drawn(state)
        theirs, params = self._theirs(state.mean.size)
        key = generation_key(state, "noise")
        with _evosax_numerics():
            inner, _ = theirs.tell(key, population, -fitness, inner, params)
        mean = jnp.asarray(theirs.get_mean(inner), jnp.float32)
        return State(mean, _strong(inner), state.generation + 1, state.key)

    def _drawn(self, state: State) -> tuple[jax.Array, Any]:
        theirs, params = self._theirs(state.mean.size)
        key = generation_key(state, "noise")
        with _evosax_numerics():
            return theirs.ask(key, state.optimizer, params)

    def _theirs(self, size: int) -> tuple[Any, Any]:
        return _algorithm(self.name, self.population, size, self.sigma)


@functools.cache
def _algorithm(name: str, population: int, size: int, sigma: float) -> tuple[Any, Any]:
    """Return evosax's strategy and its parameters; each instance compiles again."""
    try:
        from evosax import algorithms
    except ImportError as error:
        raise MissingExtraError(
            f"strategy={name!r} is evosax's ({error}): "
            "pip install 'learned-opt-rl[train]'"
        ) from error
    # These are arrays, and the first call may come from inside a jitted function.
    with jax.ensure_compile_time_eval():
        theirs = getattr(algorithms, STRATEGIES[name])(population, jnp.zeros(size))
        return theirs, theirs.default_params.replace(std_init=jnp.float32(sigma))


@contextlib.contextmanager
def _evosax_numerics() -> Iterator[None]:
    """Allow evosax's broadcasts, and products that a GPU does not round to TF32."""
    with jax.numpy_rank_promotion("allow"), jax.default_matmul_precision("highest"):
        yield


def _strong(tree: Any) -> Any:
    """Remove weak types: a state that was read from disk has none."""
    return jax.tree.map(
        lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree
    )
