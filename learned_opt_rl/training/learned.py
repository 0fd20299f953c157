"""Learned rules in training: the weights of a family as one flat vector."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from learned_opt_rl import artifacts, checks, families
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import load_safetensors
from learned_opt_rl.errors import ArtifactError, UnknownArtifactError
from learned_opt_rl.evaluation.runs import rules
from learned_opt_rl.evaluation.runs.rules import Rule, weights_digest
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.training.run_folder import BEST, CONFIG, read_config, read_run


def evolvable() -> tuple[str, ...]:
    """Return the algorithms that evolution can train, without those of plugins."""
    return tuple(family.algorithm for family in _known() if family.evolvable)


def distillable() -> tuple[str, ...]:
    """Return the algorithms whose networks can imitate another rule."""
    return tuple(family.algorithm for family in _known() if family.distillable)


def _known() -> Iterable[Family]:
    return filter(None, map(families.known, families.names()))


def is_evolvable(algorithm: str) -> bool:
    """Return whether evolution can train a family, which may be a plugin's."""
    try:
        return families.find(algorithm).evolvable
    except ArtifactError:
        return False


def draw(algorithm: str, sizes: Any, key: jax.Array) -> Any:
    """Draw initial weights: a nested dict of float32 arrays.

    ``sizes`` is here and below the result of the family's ``make_sizes``.
    """
    family = families.find(algorithm)
    return getattr(family.import_module(), family.init)(key, sizes)


def artifact_of(
    algorithm: str, sizes: Any, weights: Any, rate: float | None = None
) -> artifacts.Artifact:
    """Return an artifact in memory, made of weights under training.

    The weights, a nested dict, may be traced. ``rate`` is the learning rate of a family
    that takes one.
    """
    architecture = families.find(algorithm).to_card(sizes)
    if rate is not None:
        architecture["learning_rate"] = rate
    text = getattr(sizes, "text", None)
    return artifacts.in_memory(algorithm, architecture, weights, text)


def rule_of(
    algorithm: str, sizes: Any, weights: Any, config: Any, environment: str
) -> Rule:
    """Return the rule of weights, which may be traced, for an agent.

    Raise ValueError if the family needs the environment's tuned learning rate, and
    there is none.
    """
    share, rate = families.find(algorithm).learning_rate_share(sizes), None
    if share is not None and getattr(sizes, "learning_rate", None) is None:
        rate = share * tuned("adam", environment)["learning_rate"]
    artifact = artifact_of(algorithm, sizes, weights, rate)
    return rules.of_artifact(artifact, config, environment)


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """A family, which is one of `evolvable`, with given sizes."""

    algorithm: str
    sizes: Mapping[str, Any]  # fields of the architecture; an expression's text

    def __post_init__(self) -> None:
        if not is_evolvable(self.algorithm):
            checks.one_of("algorithm", self.algorithm, evolvable())
        try:
            self.architecture  # noqa: B018
        except TypeError as error:
            raise ValueError(
                f"architecture={dict(self.sizes)} does not fit the algorithm "
                f"{self.algorithm}: {error}"
            ) from error
        if not self.size:
            raise ValueError(
                f"architecture={dict(self.sizes)}: the expression declares no "
                "constants; add a line such as `constant step = 0.001`"
            )

    @property
    def architecture(self) -> Any:
        """The sizes as the family's own dataclass."""
        return families.find(self.algorithm).make_sizes(self.sizes)

    @property
    def is_update_rule(self) -> bool:
        """Whether the rule makes the targets of an LPG agent."""
        return families.find(self.algorithm).kind == "update_rule"

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._shapes))

    def rule(self, vector: jax.Array, config: Any, environment: str) -> Rule:
        """Return the rule of a vector of weights, float32 ``[size]``; see `rule_of`."""
        weights = self.unravel(vector)
        return rule_of(self.algorithm, self.architecture, weights, config, environment)

    def unravel(self, vector: jax.Array) -> Any:
        """Return the nested dict of weights of a vector ``[size]``."""
        leaves, structure = jax.tree.flatten(self._shapes)
        pieces = jnp.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
        shaped = map(jnp.reshape, pieces, [leaf.shape for leaf in leaves])
        return jax.tree.unflatten(structure, shaped)

    def start(self, name: str, key: jax.Array) -> jax.Array:
        """Return the starting point of a search, float32 ``[size]``.

        It is ``"zeros"``; ``"random"``, the family's own initialization (LPO's is
        small, near PPO), drawn with the key; ``"declared"``, the constants that an
        expression declares; the name of an artifact; a run's folder, whose best weights
        are used (``./NAME`` if an artifact has its name); or the path of a
        ``.safetensors`` file.
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
        algorithm, sizes, weights = _stored(name)
        if algorithm not in (None, self.algorithm):
            raise ArtifactError(
                f"start={name!r} has algorithm {algorithm!r}, but the run trains "
                f"{self.algorithm!r}; start from another artifact, zeros or random"
            )
        # The shapes of an update rule's weights do not show, for example, the sign of a
        # policy target.
        if self.is_update_rule and sizes is not None:
            try:
                found = families.find(self.algorithm).make_sizes(sizes)
            except TypeError as error:
                raise ArtifactError(
                    f"start={name!r} has other sizes than this version ({error}); "
                    "start from another run or artifact"
                ) from error
            theirs = dataclasses.asdict(found)
            ours = dataclasses.asdict(self.architecture)
            other = [
                f"architecture.{k}={theirs[k]}" for k in ours if theirs[k] != ours[k]
            ]
            if other:
                raise ArtifactError(
                    f"start={name!r} does not fit {self.architecture}; set "
                    f"{' '.join(other)}"
                )
        wanted, found = map(_shown, (self._shapes, weights))
        if wanted != found:
            raise ArtifactError(
                f"start={name!r} does not fit {self.architecture}: its weights have "
                f"shapes {found}, not {wanted}; set architecture= to its sizes"
            )
        as_float32 = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
        return ravel_pytree(as_float32)[0]

    @functools.cached_property
    def _shapes(self) -> Any:
        """Shapes of the weights. Cached, because tracing takes a tenth of a second."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        draw_ = functools.partial(draw, self.algorithm, self.architecture)
        return jax.eval_shape(draw_, key)


def start_digest(name: str) -> str | None:
    """Return the SHA-256 of a starting point that is a file, a run or an artifact."""
    path = _file(name)
    return weights_digest(name) if path is None else file_digest(path)


def _file(name: str) -> pathlib.Path | None:
    """Return the file of a starting point, None for a name."""
    path = pathlib.Path(name)
    # An artifact's name means the artifact, whatever folders there are.
    if (path / CONFIG).is_file() and name not in registry.scan().entries:
        return path / BEST
    return path if name.endswith(".safetensors") else None


def file_digest(path: pathlib.Path | str) -> str:
    """Return the SHA-256 of a file, or raise ArtifactError."""
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"start={str(path)!r} cannot be read ({error.strerror}); give a file with "
            "weights, the name of an artifact, zeros or random"
        ) from error


def _stored(name: str) -> tuple[str | None, Mapping[str, Any] | None, Any]:
    """Return algorithm, sizes and weights; the first two are None where unknown."""
    path = _file(name)
    if path is None:
        try:
            artifact = artifacts.load(name)
        except UnknownArtifactError as error:
            raise UnknownArtifactError(
                f"start={name!r} is neither a folder with {CONFIG} nor a .safetensors "
                f"file, and {error}"
            ) from error
        return artifact.card.algorithm, artifact.card.architecture, artifact.weights
    digest = file_digest(path)
    if pathlib.Path(name).is_dir():
        run = read_run(path.parent)
        return run.algorithm, run.architecture, run.weights
    weights, made = load_safetensors(path, digest), path.with_name(CONFIG)
    config = read_config(path.parent)["config"] if made.exists() else {}
    return config.get("algorithm"), config.get("architecture"), weights


def _shown(weights: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
