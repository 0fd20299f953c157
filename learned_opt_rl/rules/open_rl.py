"""OPEN: a learned optimizer for plasticity, exploration and non-stationarity.

One small network, shared by all parameters, turns each parameter's value,
gradient, six momenta, layer position, neuron dormancy and the progress of the
run into an update, with learned noise for the parameters of the actor.

References:
    Goldie, Lu, Jackson, Whiteson and Foerster, 2024: "Can Learned Optimization
    Make Reinforcement Learning Less Difficult?", sections 5, B and C.

Example:
    >>> import jax.numpy as jnp, optax
    >>> from learned_opt_rl import Horizon, open_rl
    >>> params = {"w": jnp.ones(3)}
    >>> tx = open_rl.pretrained("minatar", horizon=Horizon(total_updates=2000))
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from collections.abc import Mapping
from typing import Unpack

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.open_network import OPEN, Architecture, open_shapes
from learned_opt_rl.features import Horizon, LeafRole
from learned_opt_rl.rules._core.artifact import (
    assumed_horizon,
    prints_its_name,
    require_algorithm,
)
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
from learned_opt_rl.rules.parts import (
    architecture_of,
    open_step,
    separated_step,
    slots,
)

__all__ = [
    "Architecture",
    "RuleState",
    "Weights",
    "from_artifact",
    "init",
    "init_separated",
    "optimizer",
    "pretrained",
    "scale_by_open",
]
__dir__ = __all__.copy


_NETWORKS = ("actor", "critic")


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return random weights, as a starting point for training.

    Args:
        key: jax random key.
        architecture: Sizes of the network; ``carry=None`` for a feed-forward one.

    Returns:
        Nested dict of float32 arrays, drawn as Flax does: LeCun-normal kernels
        (orthogonal for the GRU's recurrent maps), zero biases, unit LayerNorm scales.

    Example:
        >>> weights = init(jax.random.key(0), Architecture(carry=None, width=32))
        >>> weights["mlp"]["dense_0"]["kernel"].shape
        (19, 32)
    """
    return draw_weights(key, open_shapes(architecture))


def init_separated(key: jax.Array, architecture: Architecture) -> dict[str, Weights]:
    """Return random weights of a separated OPEN, one network each for actor and critic.

    Returns:
        ``{"actor": ..., "critic": ...}``, each drawn as by ``init``.

    Example:
        >>> sorted(init_separated(jax.random.key(0), Architecture(None, 16)))
        ['actor', 'critic']
    """
    actor, critic = jax.random.split(key)
    return {"actor": init(actor, architecture), "critic": init(critic, architecture)}


@lists(RunOptions)
def scale_by_open(
    weights: Weights, horizon: Horizon, **options: Unpack[RunOptions]
) -> optax.GradientTransformationExtraArgs:
    """Replace gradients by OPEN's direction; ``optimizer`` also flips its sign.

    As with optax's ``scale_by_*``, the result is to be multiplied by a negative
    step size: ``optax.scale(-1.0)``, because the step size is part of the weights.
    The arithmetic is float32, the direction has the parameters' dtypes, and its mean
    over all parameters is 0 (before the cast).

    ``tx.update(grads, state, params)`` needs nothing else. Optional keywords of
    ``update``: ``dormancy`` (a tree prefix of the parameters with scalars or
    ``[neurons]`` arrays; default 1), ``training_proportion`` and
    ``batch_proportion`` (scalars in [0, 1]; counted by default). Other keywords are
    ignored. Clip gradients to global norm 0.5, as the published agent does.

    ``weights`` are a nested dict of float32 arrays (``init``, or an artifact's
    ``weights``). They may be traced: vmap over a population and grad through ``update``
    work. ``{"actor": ..., "critic": ...}`` (``init_separated``) runs each network's
    parameters with its own weights, as the paper does on Deep Sea. Parameters that
    belong to no critic run with the actor's, and the mean that is removed is still that
    of all parameters together. The other arguments are those of ``rules.pretrained``.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``RuleState``.

    Raises:
        WeightsError: ``weights`` do not fit an OPEN network.
        TypeError: ``horizon`` is not a ``Horizon``; a parameter is not floating; the
            state is of another kind.
        ValueError: In ``update``: ``params`` is missing; gradients, state,
            parameters, weights and dormancy do not fit together; a proportion is
            not a scalar.

    References:
        Goldie et al. 2024, section 5 and appendix B; for separated weights section
        7.2 and appendix I.2.

    Example:
        >>> weights = init(jax.random.key(0), Architecture(carry=8, width=16))
        >>> rule = scale_by_open(weights, Horizon(total_updates=1000))
        >>> tx = optax.chain(rule, optax.scale_by_learning_rate(0.5))  # half the step
    """
    separated = isinstance(weights, Mapping) and not {*_NETWORKS}.isdisjoint(weights)
    architecture = _separated(weights) if separated else architecture_of(weights, OPEN)
    weights = as_float32(weights)

    def step(weights: Weights, inputs: Inputs, roles: list[LeafRole]) -> Outputs:
        if not separated:
            return open_step(weights, inputs)
        owners = ["actor" if role.explored else "critic" for role in roles]
        return separated_step(weights, inputs, owners)

    rule = Rule(slots(architecture.carry), step, weights, context=True, noise=True)
    return transformation(rule, read_options(horizon, options))


@lists(RunOptions)
def optimizer(
    weights: Weights, horizon: Horizon, **options: Unpack[RunOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return ``scale_by_open`` ready for ``optax.apply_updates``.

    Arguments and errors are those of ``scale_by_open``.

    Returns:
        ``optax.chain(scale_by_open(...), optax.scale(-1.0))``. The state is a pair
        whose first element is the ``RuleState``.

    Example:
        >>> weights = init(jax.random.key(0), Architecture(carry=8, width=16))
        >>> tx = optimizer(weights, Horizon(total_updates=1000))
    """
    direction = scale_by_open(weights, horizon, **options)
    return optax.chain(direction, optax.scale(-1.0))


@lists(ArtifactOptions)
@prints_its_name
def from_artifact(
    artifact: artifacts.Artifact, **options: Unpack[ArtifactOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return ``optimizer`` with the weights of an artifact.

    The options are those of ``rules.pretrained``; ``environment`` is not used.

    Raises:
        ArtifactError: The artifact is not of algorithm ``"open"`` or
            ``"open_separated"``, or neither its card nor the caller gives a horizon.
        WeightsError: The weights do not fit an OPEN network.

    Example:
        >>> artifact = artifacts.load("minatar")
        >>> tx = from_artifact(artifact, horizon=Horizon(2000), seed=1)
    """
    require_algorithm(artifact, "open", "open_separated")
    horizon, _, rest = parted(options)
    if horizon is None:
        horizon = assumed_horizon(artifact.card, "training proportion stays 1")
    return optimizer(artifact.weights, horizon, **rest)


@lists(ArtifactOptions)
def pretrained(
    name: str, *, fetch: bool = False, **options: Unpack[ArtifactOptions]
) -> optax.GradientTransformationExtraArgs:
    """Return a pretrained OPEN by name: one line in an agent.

    Options and errors are those of ``rules.pretrained``. Chain
    ``optax.clip_by_global_norm(0.5)`` before the transformation.

    Example:
        >>> rule = pretrained("minatar", horizon=Horizon(total_updates=2000))
        >>> tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
    """
    return from_artifact(artifacts.load(name, fetch=fetch), **options)


def _separated(weights: Mapping[str, Weights]) -> Architecture:
    """Return the one architecture of both networks' weights."""
    if set(weights) != set(_NETWORKS):
        raise WeightsError(
            f"weights of a separated OPEN are {list(weights)}, not {list(_NETWORKS)}; "
            'give {"actor": ..., "critic": ...}'
        )
    actor, critic = (architecture_of(weights[name], OPEN) for name in _NETWORKS)
    if actor != critic:
        raise WeightsError(
            f"weights of the actor are of {actor}, those of the critic of {critic}; "
            "give both the same architecture"
        )
    return actor
