"""What is evolved: families of learned rules, as one flat vector of weights."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from learned_opt_rl import artifacts, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.weights import load_safetensors
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.runs.identity import weights_digest
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned

_SUFFIX = ".safetensors"


def evolvable() -> tuple[str, ...]:
    """Return the algorithms that evolution can train, without those of plugins."""
    found = {name: families.known(name) for name in families.names()}
    return tuple(name for name, family in found.items() if family and family.evolvable)


def is_evolvable(algorithm: str) -> bool:
    """Return whether evolution can train a family, which may be a plugin's."""
    try:
        return families.find(algorithm).evolvable
    except ArtifactError:
        return False


def draw(algorithm: str, sizes: Any, key: jax.Array) -> Any:
    """Draw a family's weights.

    Args:
        algorithm: A family.
        sizes: What its ``make_sizes`` returns.
        key: jax random key.

    Returns:
        Nested dict of float32 arrays.
    """
    family = families.find(algorithm)
    return getattr(family.import_module(), family.init)(key, sizes)


def rule_of(
    algorithm: str, sizes: Any, weights: Any, config: PPOConfig, environment: str
) -> Rule:
    """Make a rule to train agents with, from weights in memory.

    Args:
        algorithm: A family of optimizers or of drifts.
        sizes: What its ``make_sizes`` returns.
        weights: Nested dict of float32 arrays; may be traced.
        config: The run.
        environment: The environment's name, for tuned learning rates.

    Returns:
        The rule.

    Raises:
        ValueError: The family needs a tuned learning rate, and there is none.
    """
    family = families.find(algorithm)
    architecture = family.to_card(sizes)
    share = family.learning_rate_share(sizes)
    if share is not None and "learning_rate" not in architecture:
        rate = tuned("adam", environment)["learning_rate"]
        architecture["learning_rate"] = share * rate
    text = getattr(sizes, "text", None)
    artifact = artifacts.in_memory(algorithm, architecture, weights, text)
    from_artifact = family.import_module().from_artifact
    if artifact.card.kind == "drift":
        adam = handcrafted("adam", environment, config.num_updates)
        return Rule(lambda key: adam, from_artifact(artifact))
    horizon = config.horizon()
    return Rule(lambda key: from_artifact(artifact, horizon=horizon, key=key))


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """A family at given sizes.

    Attributes:
        algorithm: One of `evolvable`.
        sizes: Fields of its architecture; of an expression its text.

    Example:
        >>> learned = Learned("open", {"carry": None, "width": 16})
        >>> learned.size
        707
    """

    algorithm: str
    sizes: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Checks algorithm and sizes."""
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
        """The rule of a vector of weights, for a run in an environment.

        Args:
            vector: float32 ``[size]``; may be traced.
            config: The run.
            environment: The environment's name, for tuned learning rates.

        Returns:
            The rule.

        Raises:
            ValueError: The family needs a tuned learning rate, and there is none.
        """
        weights = self.unravel(vector)
        return rule_of(self.algorithm, self.architecture, weights, config, environment)

    def unravel(self, vector: jax.Array) -> Any:
        """The nested dict of weights of a vector ``[size]``."""
        leaves, structure = jax.tree.flatten(self._shapes())
        pieces, start = [], 0
        for leaf in leaves:
            pieces.append(vector[start : start + leaf.size].reshape(leaf.shape))
            start += leaf.size
        return jax.tree.unflatten(structure, pieces)

    def start(self, name: str, key: jax.Array) -> jax.Array:
        """Where a search starts.

        Args:
            name: ``"zeros"``; ``"random"``, as the family draws its weights (LPO's
                are small, near PPO); ``"declared"``, the constants that a closed form
                declares; the name of an artifact; or the path of a ``.safetensors``
                file, as distillation leaves in its folder.
            key: For ``"random"``.

        Returns:
            float32 ``[size]``.

        Raises:
            ArtifactError: There is no such artifact, it is of another algorithm or of
                other sizes, or the file cannot be used.
            ValueError: ``"declared"`` of what is no closed form.
        """
        if name == "zeros":
            return jnp.zeros(self.size, jnp.float32)
        if name == "declared" and self.algorithm != "expression":
            raise ValueError(
                f"start='declared' is for closed forms, not for {self.algorithm}; use "
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
                f"start={name!r} is of algorithm {artifact.card.algorithm!r}, but what "
                f"is evolved is {self.algorithm!r}; start from another artifact, zeros "
                "or random"
            )
        return self._of(name, artifact.weights)

    def _of(self, name: str, weights: Any) -> jax.Array:
        wanted, found = map(_sizes, (self._shapes(), weights))
        if wanted != found:
            raise ArtifactError(
                f"start={name!r} has weights of other shapes than "
                f"{self.architecture}: {found}, not {wanted}; set architecture= to "
                "what it was trained with"
            )
        as_float32 = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
        return ravel_pytree(as_float32)[0]

    def _shapes(self) -> Any:
        key = jax.eval_shape(lambda: jax.random.key(0))
        draw_here = functools.partial(draw, self.algorithm, self.architecture)
        return jax.eval_shape(draw_here, key)


def start_digest(name: str) -> str | None:
    """SHA-256 of the weights that a search starts from, if it is from a file."""
    return file_digest(name) if name.endswith(_SUFFIX) else weights_digest(name)


def file_digest(path: str) -> str:
    """SHA-256 of a file.

    Raises:
        ArtifactError: It cannot be read.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"start={path!r} cannot be read ({error.strerror}); give a file of "
            "weights, the name of an artifact, zeros or random"
        ) from error
    return hashlib.sha256(content).hexdigest()


def _sizes(weights: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
