"""Learned rules in training: the weights of a family as one flat vector."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from learned_opt_rl import artifacts, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.weights import load_safetensors
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted, weights_digest
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned

_SUFFIX = ".safetensors"


def evolvable() -> tuple[str, ...]:
    """Return the algorithms that evolution can train, without those of plugins."""
    return _algorithms(lambda family: family.evolvable)


def distillable() -> tuple[str, ...]:
    """Return the algorithms whose networks can imitate another rule."""
    return _algorithms(lambda family: family.distillable)


def _algorithms(wanted: Callable[[Family], bool]) -> tuple[str, ...]:
    found = {name: families.known(name) for name in families.names()}
    return tuple(name for name, family in found.items() if family and wanted(family))


def is_evolvable(algorithm: str) -> bool:
    """Return whether evolution can train a family, which may be a plugin's."""
    try:
        return families.find(algorithm).evolvable
    except ArtifactError:
        return False


def draw(algorithm: str, sizes: Any, key: jax.Array) -> Any:
    """Draw initial weights of a family: a nested dict of float32 arrays.

    Args:
        algorithm: Name of the family.
        sizes: The result of its ``make_sizes``.
        key: Typed PRNG key.
    """
    family = families.find(algorithm)
    return getattr(family.import_module(), family.init)(key, sizes)


def artifact_of(
    algorithm: str, sizes: Any, weights: Any, rate: float | None = None
) -> artifacts.Artifact:
    """Return an artifact in memory, made of weights under training.

    Args:
        algorithm: Name of the family.
        sizes: The result of its ``make_sizes``.
        weights: Nested dict of float32 arrays; may be traced.
        rate: Learning rate of a family that takes one.
    """
    architecture = families.find(algorithm).to_card(sizes)
    if rate is not None:
        architecture["learning_rate"] = rate
    text = getattr(sizes, "text", None)
    return artifacts.in_memory(algorithm, architecture, weights, text)


def rule_of(
    algorithm: str, sizes: Any, weights: Any, config: PPOConfig, environment: str
) -> Rule:
    """Return the rule that trains agents in an environment.

    Args:
        algorithm: Name of a family of optimizers or of drifts.
        sizes: The result of its ``make_sizes``.
        weights: Nested dict of float32 arrays; may be traced.
        config: Configuration of the agent.
        environment: Name of the environment, for tuned learning rates.

    Raises:
        ValueError: The family needs a tuned learning rate, and there is none.
    """
    share, rate = families.find(algorithm).learning_rate_share(sizes), None
    if share is not None and getattr(sizes, "learning_rate", None) is None:
        rate = share * tuned("adam", environment)["learning_rate"]
    return run_artifact(
        artifact_of(algorithm, sizes, weights, rate), config, environment
    )


def run_artifact(
    artifact: artifacts.Artifact, config: PPOConfig, environment: str
) -> Rule:
    """Return the rule of an artifact in memory; a drift runs with tuned Adam."""
    from_artifact = families.find(artifact.card.algorithm).import_module().from_artifact
    if artifact.card.kind == "drift":
        adam = handcrafted("adam", environment, config.num_updates)
        return Rule(lambda key: adam, from_artifact(artifact))
    horizon = config.horizon()
    return Rule(lambda key: from_artifact(artifact, horizon=horizon, key=key))


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """A family with given sizes.

    Attributes:
        algorithm: One of `evolvable`.
        sizes: Fields of its architecture; for an expression its text.

    Example:
        >>> learned = Learned("open", {"carry": None, "width": 16})
        >>> learned.size
        707
    """

    algorithm: str
    sizes: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not is_evolvable(self.algorithm):
            raise ValueError(
                f"algorithm={self.algorithm!r} must be one of {', '.join(evolvable())}"
            )
        try:
            self.architecture  # noqa: B018
        except TypeError as error:
            raise ValueError(
                f"architecture={dict(self.sizes)} does not fit the algorithm "
                f"{self.algorithm}: {error}"
            ) from error

    @property
    def family(self) -> Family:
        """The record of the algorithm."""
        return families.find(self.algorithm)

    @property
    def architecture(self) -> Any:
        """The sizes as the family's own dataclass."""
        return self.family.make_sizes(self.sizes)

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._shapes()))

    def rule(self, vector: jax.Array, config: PPOConfig, environment: str) -> Rule:
        """Return the rule of a vector of weights, float32 ``[size]``; see `rule_of`."""
        weights = self.unravel(vector)
        return rule_of(self.algorithm, self.architecture, weights, config, environment)

    def unravel(self, vector: jax.Array) -> Any:
        """Return the nested dict of weights of a vector ``[size]``."""
        leaves, structure = jax.tree.flatten(self._shapes())
        pieces, start = [], 0
        for leaf in leaves:
            pieces.append(vector[start : start + leaf.size].reshape(leaf.shape))
            start += leaf.size
        return jax.tree.unflatten(structure, pieces)

    def start(self, name: str, key: jax.Array) -> jax.Array:
        """Return the starting point of a search, float32 ``[size]``.

        Args:
            name: ``"zeros"``; ``"random"``, the family's own initialization (LPO's is
                small, near PPO); ``"declared"``, the constants that an expression
                declares; the name of an artifact; or the path of a ``.safetensors``
                file, such as those in run folders.
            key: Typed PRNG key for ``"random"``.

        Raises:
            ArtifactError: The artifact does not exist or has another algorithm or other
                sizes, or the file cannot be used.
            ValueError: ``"declared"`` for a network.
        """
        if name == "zeros":
            return jnp.zeros(self.size, jnp.float32)
        if name == "declared" and self.algorithm != "expression":
            raise ValueError(
                f"start='declared' requires an expression, not {self.algorithm}; give "
                "zeros, random or the name of an artifact"
            )
        if name in ("random", "declared"):
            weights = draw(self.algorithm, self.architecture, key)
            return ravel_pytree(weights)[0]
        if name.endswith(_SUFFIX):
            return self._of(name, load_safetensors(name, file_digest(name)))
        artifact = artifacts.load(name)
        if artifact.card.algorithm != self.algorithm:
            raise ArtifactError(
                f"start={name!r} has algorithm {artifact.card.algorithm!r}, but the "
                f"campaign evolves {self.algorithm!r}; start from another artifact, "
                "zeros or random"
            )
        return self._of(name, artifact.weights)

    def _of(self, name: str, weights: Any) -> jax.Array:
        wanted, found = map(_sizes, (self._shapes(), weights))
        if wanted != found:
            raise ArtifactError(
                f"start={name!r} does not fit {self.architecture}: its weights have "
                f"shapes {found}, not {wanted}; set architecture= to its sizes"
            )
        as_float32 = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
        return ravel_pytree(as_float32)[0]

    def _shapes(self) -> Any:
        key = jax.eval_shape(lambda: jax.random.key(0))
        draw_here = functools.partial(draw, self.algorithm, self.architecture)
        return jax.eval_shape(draw_here, key)


def start_digest(name: str) -> str | None:
    """Return the SHA-256 of a starting point that is a file or an artifact."""
    return file_digest(name) if name.endswith(_SUFFIX) else weights_digest(name)


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file, or raise ArtifactError."""
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"start={path!r} cannot be read ({error.strerror}); give a file with "
            "weights, the name of an artifact, zeros or random"
        ) from error
    return hashlib.sha256(content).hexdigest()


def _sizes(weights: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
