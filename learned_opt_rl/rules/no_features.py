"""No Features: OPEN's network without what OPEN adds for reinforcement learning.

A baseline of the OPEN paper that sees only gradients and momenta: no time, depth or
dormancy, and no noise. The recurrent form comes from the OPEN paper. The feed-forward
form, which also sees the parameter's value, comes from the authors' later paper.

References:
    Goldie, Lu, Jackson, Whiteson and Foerster, 2024: "Can Learned Optimization
    Make Reinforcement Learning Less Difficult?", section 6.1 and appendix B.4.
    Goldie et al., 2025: "How Should We Meta-Learn RL Algorithms?", section 5 and
    Table 8.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from learned_opt_rl import no_features
    >>> params = {"w": jnp.ones(3)}
    >>> weights = no_features.init(jax.random.key(0), no_features.Architecture(8, 16))
    >>> tx = no_features.optimizer(weights)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from typing import Unpack

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.families.open_network import (
    NO_FEATURES,
    Architecture,
    no_features_shapes,
)
from learned_opt_rl.features import Horizon, LeafRole
from learned_opt_rl.rules._core.artifact import prints_its_name, require_algorithm
from learned_opt_rl.rules._core.options import (
    ArtifactOptions,
    RunOptions,
    lists,
    parted,
    read_options,
)
from learned_opt_rl.rules._core.transform import (
    Inputs,
    Outputs,
    Rule,
    RuleState,
    transformation,
)
from learned_opt_rl.rules._core.weights import Weights, as_float32, draw_weights
from learned_opt_rl.rules.parts import architecture_of, no_features_step, slots

__all__ = [
    "Architecture",
    "RuleState",
    "Weights",
    "from_artifact",
    "init",
    "optimizer",
    "pretrained",
    "scale_by_no_features",
]
__dir__ = __all__.copy


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return random weights, as a starting point for training.

    They are a nested dict of float32 arrays, drawn as by ``open_rl.init``, of the
    feed-forward form where ``architecture.carry`` is ``None``.

    Example:
        >>> weights = init(jax.random.key(0), Architecture(carry=None, width=32))
        >>> weights["mlp"]["dense_0"]["kernel"].shape
        (8, 32)
    """
    return draw_weights(key, no_features_shapes(architecture))


@lists(RunOptions)
def scale_by_no_features(
    weights: Weights, horizon: Horizon | None = None, **options: Unpack[RunOptions]
) -> optax.GradientTransformationExtraArgs:
    """Replace gradients by No Features' direction; ``optimizer`` also flips its sign.

    Sign, arithmetic, dtypes, mean and errors are as for ``open_rl.scale_by_open``. The
    weights, which may be traced, decide the form: with ``gru``, six momenta and the
    gradient enter as sign and logarithm; without, they enter as they are, together with
    the parameter's value. Each input is divided by its rms over the leaf. Keywords of
    ``update`` are ignored. Clip gradients to global norm 0.5, as the published agent
    does.

    References:
        Goldie et al. 2024, section 6.1 and appendix B.4; Goldie et al. 2025, Table 8.

    Example:
        >>> feed_forward = Architecture(carry=None, width=16)
        >>> weights = init(jax.random.key(0), feed_forward)
        >>> rule = scale_by_no_features(weights)
    """
    units = architecture_of(weights, NO_FEATURES).carry
    weights = as_float32(weights)

    def step(weights: Weights, inputs: Inputs, roles: list[LeafRole]) -> Outputs:
        del roles
        return no_features_step(weights, inputs)

    rule = Rule(slots(units), step, weights)
    return transformation(rule, read_options(horizon, options))


@lists(RunOptions)
def optimizer(
    weights: Weights, horizon: Horizon | None = None, **options: Unpack[RunOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return ``scale_by_no_features`` ready for ``optax.apply_updates``.

    ``horizon`` and the options of ``rules.pretrained`` are accepted and not used.

    Returns:
        ``optax.chain(scale_by_no_features(weights), optax.scale(-1.0))``. The state
        is a pair whose first element is the ``RuleState``.

    Raises:
        WeightsError: ``weights`` do not fit a No Features network.
        TypeError: An option has another name.

    Example:
        >>> tx = optimizer(init(jax.random.key(0), Architecture(carry=8, width=16)))
    """
    direction = scale_by_no_features(weights, horizon, **options)
    return optax.chain(direction, optax.scale(-1.0))


@lists(ArtifactOptions)
@prints_its_name
def from_artifact(
    artifact: artifacts.Artifact, **options: Unpack[ArtifactOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return ``optimizer`` with the weights of an artifact.

    Raises:
        ArtifactError: The artifact is of an algorithm other than ``"no_features"``.
        WeightsError: The weights do not fit a No Features network.

    Example:
        >>> tx = from_artifact(artifacts.load("no_features/minatar"))
    """
    require_algorithm(artifact, "no_features")
    horizon, _, rest = parted(options)
    return optimizer(artifact.weights, horizon, **rest)


@lists(ArtifactOptions)
def pretrained(
    name: str, *, fetch: bool = False, **options: Unpack[ArtifactOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return a pretrained No Features by name, as ``rules.pretrained`` does.

    Example:
        >>> tx = pretrained("no_features/minatar")
    """
    return from_artifact(artifacts.load(name, fetch=fetch), **options)
