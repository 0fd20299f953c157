"""The strategies: OpenAI-ES, and those of evosax.

In OpenAI-ES the mean of a Gaussian climbs the ranks of antithetic samples. A test
compares it with evosax's ``Open_ES``. It differs where evosax would hurt a
campaign:

- It draws the noise again. evosax recovers the noise from the population, which in
  float32 loses it for a small sigma.
- The mean is always float32.
- sigma decays from the first generation on; evosax's lags by one.
- No key changes: every draw follows from the campaign's key and the generation.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import checks
from learned_opt_rl.errors import MissingExtraError

Shaping = Literal["centered_ranks", "pairs"]
"""How fitness becomes comparable; see `shape`."""


class State(NamedTuple):
    """A search between two generations; arrays only."""

    mean: jax.Array  # float32 [n]
    optimizer: Any  # Adam's state, or the whole state of a strategy of evosax
    generation: jax.Array  # int32 scalar, finished generations
    key: jax.Array  # typed PRNG key of the whole search; it never changes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of OpenAI-ES.

    Attributes:
        population: Number of members, in pairs: members ``i`` and
            ``i + population // 2`` are the mean plus and minus the same noise.
        sigma: Standard deviation of the noise in the first generation.
        sigma_decay: Factor per generation.
        learning_rate: Learning rate of the mean's Adam in the first generation.
        learning_rate_decay: Factor per generation.
        beta1: Adam's decay of gradients.
        shaping: How fitness becomes comparable, see `shape`. With ``"centered_ranks"``
            all members have the same seeds; with ``"pairs"`` each antithetic pair has
            seeds, and so levels, of its own.
        learning_rate_floor: The smallest learning rate of the decay.
        compat: Whether the second member of a pair wins if both are equal, as in GROOVE
            (Jackson et al. 2023): the mean then moves although nothing differs. It is
            for ``shaping="pairs"``, where otherwise neither wins.
    """

    population: int = 64
    sigma: float = 0.03
    sigma_decay: float = 0.999
    learning_rate: float = 0.03
    learning_rate_decay: float = 0.999
    beta1: float = 0.99
    shaping: Shaping = "centered_ranks"
    learning_rate_floor: float = 0.0
    compat: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenAIES(SearchSettings):
    """OpenAI-ES with the given `SearchSettings`; it maximizes.

    Its methods are pure functions of a `State`, from whose key and generation all draws
    follow. The source is algorithm 1 of Salimans et al. 2017, with antithetic sampling
    and ranks (section 2.1).
    """

    def __post_init__(self) -> None:
        if self.population < 2 or self.population % 2:
            raise ValueError(
                f"population={self.population} must be even, at least 2: sampling is "
                "antithetic, members come in pairs"
            )
        for name in ("sigma", "learning_rate"):
            checks.finite(name, getattr(self, name), "give for example 0.03", above=0)
            name = f"{name}_decay"
            fix = "give for example 0.999"
            checks.finite(name, getattr(self, name), fix, above=0, most=1)
        checks.finite("beta1", self.beta1, "give for example 0.99", least=0, below=1)
        checks.one_of("shaping", self.shaping, get_args(Shaping))
        floor, fix = (
            self.learning_rate_floor,
            "give 0 for no floor, or at most learning_rate",
        )
        checks.finite(
            "learning_rate_floor", floor, fix, least=0, most=self.learning_rate
        )
        if not isinstance(self.compat, bool):
            raise ValueError(f"compat={self.compat!r} must be True or False")
        if self.compat and self.shaping != "pairs":
            raise ValueError(
                f"compat={self.compat} changes the shaping 'pairs', not "
                f"shaping={self.shaping!r}; give shaping=pairs or leave compat out"
            )

    def init(self, mean: jax.Array, key: jax.Array) -> State:
        """Return the search before its first generation.

        ``mean`` is ``[n]`` of any floating dtype, and kept in float32.
        """
        mean = jnp.asarray(mean, jnp.float32)
        return State(mean, self._adam().init(mean), jnp.int32(0), key)

    @functools.partial(jax.jit, static_argnums=0)
    def ask(self, state: State) -> jax.Array:
        """Return the members of the next generation, float32 ``[population, n]``."""
        step = self._sigma(state) * self._noise(state)
        return state.mean[None] + jnp.concatenate([step, -step])

    @functools.partial(jax.jit, static_argnums=0)
    def tell(self, state: State, fitness: jax.Array) -> State:
        """Return the search after a generation, given their fitness ``[population]``.

        More fitness is better, NaN is worst.
        """
        plus, minus = jnp.split(shape(fitness, self.shaping, self.compat), 2)
        noise = self._noise(state)
        # [pairs] @ [pairs, n]. HIGHEST, because a GPU would round to TF32.
        ascent = jnp.dot(plus - minus, noise, precision=jax.lax.Precision.HIGHEST)
        gradient = -ascent / (self.population * self._sigma(state))
        updates, optimizer = self._adam().update(gradient, state.optimizer)
        mean = jnp.asarray(optax.apply_updates(state.mean, updates))
        return State(mean, optimizer, state.generation + 1, state.key)

    def _noise(self, state: State) -> jax.Array:
        """One draw per pair, ``[population // 2, n]``."""
        key = generation_key(state, "noise")
        return jax.random.normal(key, (self.population // 2, state.mean.size))

    def _sigma(self, state: State) -> jax.Array:
        return self.sigma * jnp.float32(self.sigma_decay) ** state.generation

    def _adam(self) -> optax.GradientTransformation:
        # Without decay, optax would take the floor for a ceiling.
        floor = self.learning_rate_floor if self.learning_rate_decay < 1 else None
        rate = optax.exponential_decay(
            self.learning_rate, 1, self.learning_rate_decay, end_value=floor or None
        )
        return optax.adam(rate, b1=self.beta1)


def is_finite(state: State) -> bool:
    """Return whether all numbers that move a search are finite."""
    # evosax's record of the best member is infinite until a member has a fitness.
    paths = jax.tree_util.tree_leaves_with_path((state.mean, state.optimizer))
    moving = [
        leaf for path, leaf in paths if ".best_" not in jax.tree_util.keystr(path)
    ]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in moving)


def generation_key(state: State, purpose: Literal["noise", "tasks"]) -> jax.Array:
    """Return a generation's key for its noise, or for the tasks of its members."""
    key = jax.random.fold_in(state.key, state.generation)
    return jax.random.fold_in(key, ("noise", "tasks").index(purpose))


def shape(fitness: jax.Array, shaping: Shaping, compat: bool = False) -> jax.Array:
    """Make fitness ``[population]`` independent of its scale; the result has sum 0.

    ``"centered_ranks"`` gives ranks among all members, from -0.5 to 0.5; equal members
    share theirs. ``"pairs"`` gives 0.5 to the better of a pair and -0.5 to the other,
    or 0 to equals; members of different pairs, which may have had different tasks, are
    not compared. With ``compat`` equals count as if the second were better.

    References:
        Salimans et al. 2017, section 2.1; Jackson et al. 2023 (GROOVE) and Goldie et
        al. 2024, appendix C.3, for pairs (antithetic task sampling).
    """
    fitness = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    if shaping == "pairs":
        plus, minus = jnp.split(fitness, 2)
        second = plus <= minus if compat else plus < minus
        sign = 0.5 * ((plus > minus).astype(jnp.float32) - second)
        return jnp.concatenate([sign, -sign])
    less = (fitness[None, :] < fitness[:, None]).sum(1)
    equal = (fitness[None, :] == fitness[:, None]).sum(1)
    # In whole numbers, so that a generation of equals gets 0 however XLA rounds.
    return (2 * less + equal - len(fitness)) / (2 * (len(fitness) - 1))


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

    evosax minimizes and needs a generation's population back; ``tell`` draws it again.
    Every strategy adapts its own step sizes, with its defaults. The mean is float32.
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
