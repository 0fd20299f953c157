"""What is evolved: families of learned rules, as one flat vector of weights."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from learned_opt_rl import artifacts, expressions
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.weights import load_safetensors
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.evaluation.runs.identity import weights_digest
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted
from learned_opt_rl.rules import discovered, lpo, no_features, open_rl, optim4rl
from learned_opt_rl.rules.tuned import tuned

_SUFFIX = ".safetensors"
OPTIM4RL_SHARE = 0.1  # of Adam's tuned learning rate; Goldie et al. 2024, B.4


@dataclasses.dataclass(frozen=True)
class Form:
    """The "architecture" of a closed form, whose declared constants are evolved.

    Attributes:
        text: An optimiser or a drift in the language of `expressions`.

    Raises:
        ExpressionError: The text is not valid.
        ValueError: It declares no constants.
    """

    text: str

    def __post_init__(self) -> None:
        """Checks the text."""
        if not self.function.constants:
            raise ValueError(
                "the form declares no constants, so there is nothing to evolve; add "
                "lines as `constant step = 0.001`"
            )

    @property
    def function(self) -> expressions.Function:
        """The text, parsed."""
        return expressions.parse(self.text)

    def evolved(self, weights: Mapping[str, Any]) -> expressions.Function:
        """The function with other constants; as text they are these to the bit.

        Args:
            weights: float32 scalars by name.

        Raises:
            WeightsError: They are not those that the text declares.
        """
        function = self.function
        declared = {constant.name for constant in function.constants}
        if {name: np.shape(value) for name, value in weights.items()} != {
            name: () for name in declared
        }:
            raise WeightsError(
                f"the weights {sorted(weights)} are not the constants that the "
                f"function declares, {sorted(declared)}"
            )
        constants = tuple(
            dataclasses.replace(c, value=float(str(np.float32(weights[c.name]))))
            for c in function.constants
        )
        return dataclasses.replace(function, constants=constants)


class Family(NamedTuple):
    """A kind of learned rule.

    Attributes:
        architecture: Its sizes, a dataclass.
        init: ``(key, architecture) -> weights``.
        rule: ``(weights, architecture, config, environment) -> rule``.
    """

    architecture: Callable[..., Any]
    init: Callable[[jax.Array, Any], Any]
    rule: Callable[[Any, Any, PPOConfig, str], Rule]


def _open(weights: Any, _: Any, config: PPOConfig, environment: str) -> Rule:
    horizon = config.horizon()
    return Rule(lambda key: open_rl.scale_by_open(weights, horizon, key=key))


def _open_separated(weights: Any, _: Any, config: PPOConfig, environment: str) -> Rule:
    horizon = config.horizon()
    return Rule(lambda key: open_rl.scale_by_open_separated(weights, horizon, key=key))


def _no_features(weights: Any, _: Any, config: PPOConfig, environment: str) -> Rule:
    return Rule(lambda key: no_features.scale_by_no_features(weights))


def _optim4rl(weights: Any, _: Any, config: PPOConfig, environment: str) -> Rule:
    rate = OPTIM4RL_SHARE * tuned("adam", environment)["learning_rate"]
    return Rule(lambda key: optim4rl.scale_by_optim4rl(weights, rate))


def _lpo(weights: Any, sizes: Any, config: PPOConfig, environment: str) -> Rule:
    adam = handcrafted("adam", environment, config.num_updates)
    drift = lpo.drift(weights, clip_eps=sizes.clip_eps, margin=sizes.margin)
    return Rule(lambda key: adam, drift)


def _expression(constants: Any, form: Form, config: PPOConfig, name: str) -> Rule:
    function, horizon = form.function, config.horizon()
    if function.kind == "drift":
        adam = handcrafted("adam", name, config.num_updates)
        return Rule(lambda key: adam, discovered.drift(function, constants=constants))
    rate = tuned("adam", name)["learning_rate"] if "lr" in function.inputs else 1.0
    return Rule(
        lambda key: discovered.scale_by_expression(
            function, horizon, constants=constants, learning_rate=rate, key=key
        )
    )


def _declared(_: jax.Array, form: Form) -> dict[str, jax.Array]:
    return {
        name: jnp.asarray(value, jnp.float32)
        for name, value in form.function.init_constants().items()
    }


FAMILIES: Mapping[str, Family] = {
    "open": Family(open_rl.Architecture, open_rl.init, _open),
    "open_separated": Family(
        open_rl.Architecture, open_rl.init_separated, _open_separated
    ),
    "no_features": Family(no_features.Architecture, no_features.init, _no_features),
    "optim4rl": Family(optim4rl.Architecture, optim4rl.init, _optim4rl),
    "lpo": Family(lpo.Architecture, lpo.init, _lpo),
    "expression": Family(Form, _declared, _expression),
}
"""The families by the name of their algorithm."""


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """A family at given sizes.

    Attributes:
        algorithm: A key of `FAMILIES`.
        sizes: Its architecture.

    Example:
        >>> learned = Learned("open", {"carry": None, "width": 16})
        >>> learned.size
        707
    """

    algorithm: str
    sizes: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Checks algorithm and sizes."""
        if self.algorithm not in FAMILIES:
            raise ValueError(
                f"algorithm={self.algorithm!r} must be one of {', '.join(FAMILIES)}"
            )
        try:
            self.architecture  # noqa: B018
        except TypeError as error:
            raise ValueError(
                f"architecture={dict(self.sizes)} does not fit the algorithm "
                f"{self.algorithm}: {error}"
            ) from error

    @property
    def architecture(self) -> Any:
        """The sizes as the family's own dataclass."""
        return FAMILIES[self.algorithm].architecture(**self.sizes)

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
        family, weights = FAMILIES[self.algorithm], self.unravel(vector)
        return family.rule(weights, self.architecture, config, environment)

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
            weights = FAMILIES[self.algorithm].init(key, self.architecture)
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
        family = FAMILIES[self.algorithm]
        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(lambda key: family.init(key, self.architecture), key)


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
