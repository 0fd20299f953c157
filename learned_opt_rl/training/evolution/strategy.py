"""OpenAI-ES: the mean of a Gaussian climbs the ranks of antithetic samples.

It does what evosax's ``Open_ES`` does (a test compares the two), and differs where
that would hurt a campaign: the noise is drawn again instead of recovered from the
population, which in float32 loses it for a small sigma; the mean is float32 always;
sigma decays from the first generation on, where evosax's lags by one; and there is no
key to keep, since every draw follows from the campaign's key and the generation.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

Shaping = Literal["centred_ranks", "pairs"]
"""How fitness is made comparable; see `shape`."""


class State(NamedTuple):
    """A search between two generations; arrays only.

    Attributes:
        mean: float32 ``[n]``.
        optimizer: Adam's state; of evosax's strategies, all of theirs.
        generation: int32 scalar, generations done.
        key: Typed PRNG key of the whole search; it stays as it is.
    """

    mean: jax.Array
    optimizer: Any
    generation: jax.Array
    key: jax.Array


class Strategy(Protocol):
    """What a campaign needs of an evolution strategy; see `OpenAIES` for the methods.

    Pure functions: draws follow from the state's key and generation.
    """

    def init(self, mean: jax.Array, key: jax.Array) -> State:
        """The search before its first generation."""
        ...

    def ask(self, state: State) -> jax.Array:
        """The members of the generation to come, float32 ``[population, n]``."""
        ...

    def tell(self, state: State, fitness: jax.Array) -> State:
        """The search after a generation; more fitness is better, NaN is worst."""
        ...


@dataclasses.dataclass(frozen=True)
class OpenAIES:
    """Settings of OpenAI-ES; it maximises.

    Attributes:
        population: Members, in pairs: member ``i`` and ``i + population // 2`` are the
            mean plus and minus the same noise.
        sigma: Standard deviation of the first generation.
        sigma_decay: Factor per generation: generation g (from 0) has
            ``sigma * sigma_decay**g``.
        learning_rate: Of Adam in the first generation.
        learning_rate_decay: Factor per generation.
        beta1: Of Adam.
        shaping: See `shape`.

    Raises:
        ValueError: A value is out of range.

    References:
        Salimans et al. 2017, algorithm 1 and section 2.1 (antithetic sampling, ranks).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> strategy = OpenAIES(population=8, sigma=0.1, learning_rate=0.1)
        >>> state = strategy.init(jnp.zeros(3), jax.random.key(0))
        >>> for _ in range(100):
        ...     population = strategy.ask(state)
        ...     fitness = -jnp.square(population - 1.0).sum(1)
        ...     state = strategy.tell(state, fitness)
        >>> bool(jnp.abs(state.mean - 1.0).max() < 0.1)
        True
    """

    population: int = 64
    sigma: float = 0.03
    sigma_decay: float = 0.999
    learning_rate: float = 0.03
    learning_rate_decay: float = 0.999
    beta1: float = 0.99
    shaping: Shaping = "centred_ranks"

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.population < 2 or self.population % 2:
            raise ValueError(
                f"population={self.population} must be even, at least 2: sampling is "
                "antithetic, members come in pairs"
            )
        for name in ("sigma", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be positive and finite"
                )
        for name in ("sigma_decay", "learning_rate_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in (0, 1]")
        if not 0 <= self.beta1 < 1:
            raise ValueError(f"beta1={self.beta1} must be in [0, 1)")
        if self.shaping not in ("centred_ranks", "pairs"):
            raise ValueError(
                f"shaping={self.shaping!r} must be 'centred_ranks' or 'pairs'"
            )

    def init(self, mean: jax.Array, key: jax.Array) -> State:
        """The search before its first generation.

        Args:
            mean: ``[n]``, any floating dtype; kept in float32.
            key: Typed PRNG key.

        Returns:
            The state.
        """
        mean = jnp.asarray(mean, jnp.float32)
        return State(mean, self._adam().init(mean), jnp.int32(0), key)

    @functools.partial(jax.jit, static_argnums=0)
    def ask(self, state: State) -> jax.Array:
        """The members of the generation to come, float32 ``[population, n]``."""
        step = self._sigma(state) * self._noise(state)
        return state.mean[None] + jnp.concatenate([step, -step])

    @functools.partial(jax.jit, static_argnums=0)
    def tell(self, state: State, fitness: jax.Array) -> State:
        """The search after a generation.

        Args:
            state: The one its members were asked of.
            fitness: float32 ``[population]``, more is better, NaN is worst.

        Returns:
            The state with the mean moved.
        """
        plus, minus = jnp.split(shape(fitness, self.shaping), 2)
        noise = self._noise(state)
        # [pairs] @ [pairs, n]; a GPU would round to TF32.
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
        rate = optax.exponential_decay(self.learning_rate, 1, self.learning_rate_decay)
        return optax.adam(rate, b1=self.beta1)


def generation_key(state: State, purpose: Literal["noise", "tasks"]) -> jax.Array:
    """The key of a generation for its noise, or for the tasks of its members."""
    key = jax.random.fold_in(state.key, state.generation)
    return jax.random.fold_in(key, ("noise", "tasks").index(purpose))


def shape(fitness: jax.Array, shaping: Shaping) -> jax.Array:
    """Makes fitness independent of its scale.

    Args:
        fitness: float32 ``[population]``; more is better, NaN is worst.
        shaping: ``"centred_ranks"``: ranks among all members, from -0.5 to 0.5, equal
            ones sharing theirs. ``"pairs"``: 0.5 for the better of a pair and -0.5 for
            the other, 0 for equals; members of different pairs, which may have had
            different tasks, are not compared.

    Returns:
        float32 ``[population]``, of sum 0.

    References:
        Salimans et al. 2017, section 2.1; Jackson et al. 2023 (GROOVE) and Goldie et
        al. 2024, appendix C.3, for pairs (antithetic task sampling).

    Example:
        >>> import jax.numpy as jnp
        >>> shape(jnp.array([3.0, 10.0, jnp.nan]), "centred_ranks").tolist()
        [0.0, 0.5, -0.5]
        >>> shape(jnp.array([3.0, 1.0, 2.0, 7.0]), "pairs").tolist()
        [0.5, -0.5, -0.5, 0.5]
    """
    fitness = jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
    if shaping == "pairs":
        plus, minus = jnp.split(fitness, 2)
        sign = 0.5 * ((plus > minus).astype(jnp.float32) - (plus < minus))
        return jnp.concatenate([sign, -sign])
    less = (fitness[None, :] < fitness[:, None]).sum(1)
    equal = (fitness[None, :] == fitness[:, None]).sum(1)
    return (less + (equal - 1) / 2) / (len(fitness) - 1) - 0.5
