"""OPEN: a learned optimiser for plasticity, exploration and non-stationarity.

One small network, shared by all parameters, turns each parameter's value,
gradient, six momenta, its layer, its neuron's dormancy and the progress of the
run into an update, with learned noise for the parameters of the actor.

References:
    Goldie, Lu, Jackson, Whiteson and Foerster, 2024: "Can Learned Optimization
    Make Reinforcement Learning Less Difficult?", sections 5, B and C.

Example:
    >>> import jax.numpy as jnp, optax
    >>> from learned_opt_rl import open_rl
    >>> params = {"w": jnp.ones(3)}
    >>> tx = open_rl.pretrained("minatar")
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.features import Horizon, LeafRole, Networks
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules._artifact import require_algorithm
from learned_opt_rl.rules._open_network import Architecture as Architecture
from learned_opt_rl.rules._open_network import Weights as Weights
from learned_opt_rl.rules._open_network import init as init
from learned_opt_rl.rules._open_separated import separated_architecture, step_separated
from learned_opt_rl.rules._open_step import SCALE as SCALE
from learned_opt_rl.rules._open_step import StepOutputs, step
from learned_opt_rl.rules._open_table import TableInputs
from learned_opt_rl.rules._open_transform import Options, transformation
from learned_opt_rl.rules._open_transform import ScaleByOpenState as ScaleByOpenState
from learned_opt_rl.rules._progress import horizon_of
from learned_opt_rl.rules._weights import as_float32


def scale_by_open(
    weights: Weights,
    horizon: Horizon,
    *,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
    warn_past_horizon: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """OPEN with given weights, as an optax transformation.

    ``tx.update(grads, state, params)`` needs nothing else. Optional keywords of
    ``update``: ``dormancy`` (a tree prefix of the parameters with scalars or
    ``[neurons]`` arrays; 1 if not given), ``training_proportion`` and
    ``batch_proportion`` (scalars in [0, 1]; from the state's count and
    ``horizon`` if not given). Others are ignored. Gradients should be clipped as
    in the published agent: global norm 0.5.

    Arithmetic is float32; updates have the parameters' dtypes and are added to
    them as any optax update. Their mean over all parameters is removed, before
    the cast. There is no learning rate: the step size is part of the weights.

    Args:
        weights: Nested dict of float32 arrays (``init``, or an artifact's
            ``weights``). May be traced: vmap over a population and grad through
            ``update`` work.
        horizon: Length of the run.
        networks: Which parameters are whose, where paths do not say; see
            ``features.leaf_roles``.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.
        warn_past_horizon: Print one line when the run outlasts ``horizon``.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByOpenState``.

    Raises:
        WeightsError: ``weights`` are not those of an OPEN network.
        TypeError: ``horizon`` is no ``Horizon``; a parameter is not floating; the
            state is not of this kind.
        ValueError: In ``update``: ``params`` is missing; gradients, state,
            parameters, weights and dormancy do not fit together; a proportion is
            no scalar.

    References:
        Goldie et al. 2024, section 5 and appendix B.

    Example:
        >>> import jax
        >>> from learned_opt_rl import Horizon, open_rl
        >>> weights = open_rl.init(jax.random.key(0), open_rl.Architecture(8, 16))
        >>> tx = open_rl.scale_by_open(weights, Horizon(total_updates=1000))
    """
    units = network.architecture_of(weights).carry
    weights = as_float32(weights)
    options = Options(networks, seed, key, warn_past_horizon)
    return transformation(
        lambda inputs, roles: step(weights, inputs), units, horizon, options
    )


def init_separated(key: jax.Array, architecture: Architecture) -> dict[str, Weights]:
    """Weights as an untrained separated OPEN has them.

    Args:
        key: jax random key.
        architecture: Of both networks.

    Returns:
        ``{"actor": ..., "critic": ...}``, each as by ``init``, with draws of its own.

    Example:
        >>> import jax
        >>> from learned_opt_rl import open_rl
        >>> key, architecture = jax.random.key(0), open_rl.Architecture(None, 16)
        >>> sorted(open_rl.init_separated(key, architecture))
        ['actor', 'critic']
    """
    actor, critic = jax.random.split(key)
    return {"actor": init(actor, architecture), "critic": init(critic, architecture)}


def scale_by_open_separated(
    weights: dict[str, Weights],
    horizon: Horizon,
    *,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
    warn_past_horizon: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """OPEN with weights of their own for the actor and for the critic.

    The paper's variant for Deep Sea, where the gradient leads the actor, but not the
    critic, into a local optimum. Everything else is ``scale_by_open``: the paper
    changes the weights alone, so the mean that equation 9 removes is still that over
    all parameters of both networks together, and each moves the other by it. (For a
    mean per network, ``optax.multi_transform`` with one ``scale_by_open`` per network
    does it; then each also draws its own noise.)

    The parameters of a critic (by ``features.leaf_roles``: those that get no noise)
    are the critic's; all others, also those that no name assigns, are the actor's.
    Name them with ``networks`` where the paths do not say, as in Flax's ``Dense_3``.

    Args:
        weights: ``{"actor": ..., "critic": ...}``, each as for ``scale_by_open``, of
            one architecture. May be traced.
        horizon: As for ``scale_by_open``, like all that follow.
        networks: Which parameters are whose.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.
        warn_past_horizon: Print one line when the run outlasts ``horizon``.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByOpenState``.

    Raises:
        WeightsError: ``weights`` are not those of two OPEN networks of one
            architecture.
        TypeError: As for ``scale_by_open``.
        ValueError: As for ``scale_by_open``.

    References:
        Goldie et al. 2024, section 7.2 and appendix I.2 ("separated").

    Example:
        >>> import jax
        >>> from learned_opt_rl import Horizon, open_rl
        >>> architecture = open_rl.Architecture(8, 16)
        >>> weights = open_rl.init_separated(jax.random.key(0), architecture)
        >>> tx = open_rl.scale_by_open_separated(weights, Horizon(total_updates=1000))
    """
    units = separated_architecture(weights).carry
    weights = as_float32(weights)
    options = Options(networks, seed, key, warn_past_horizon)

    def run(inputs: TableInputs, roles: list[LeafRole]) -> StepOutputs:
        names = ["actor" if role.explored else "critic" for role in roles]
        return step_separated(weights, inputs, names)

    return transformation(run, units, horizon, options)


def from_artifact(
    artifact: artifacts.Artifact, *, horizon: Horizon | None = None, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """``scale_by_open`` with the weights and horizon of an artifact.

    Args:
        artifact: A loaded artifact whose algorithm is ``"open"``, or
            ``"open_separated"``, which makes it ``scale_by_open_separated``.
        horizon: Length of your run; by default the one the artifact was trained
            for.
        **options: As for ``scale_by_open``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The artifact is of another algorithm, or neither it nor the
            caller gives a horizon.
        WeightsError: Its weights are not those of an OPEN network.

    Example:
        >>> from learned_opt_rl import artifacts, open_rl
        >>> tx = open_rl.from_artifact(artifacts.load("minatar"), seed=1)
    """
    require_algorithm(artifact, "open", "open_separated")
    horizon = horizon_of(artifact.card, horizon)
    separated = artifact.card.algorithm == "open_separated"
    rule = scale_by_open_separated if separated else scale_by_open
    return rule(artifact.weights, horizon, **options)


def pretrained(
    name: str,
    *,
    fetch: bool = False,
    horizon: Horizon | None = None,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
    warn_past_horizon: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """A pretrained OPEN artifact by name: one line in an agent.

    Args:
        name: Name of the artifact, e.g. ``"minatar"`` or ``"goldie2024/minatar"``.
        fetch: Download a remote artifact that is not in the cache yet.
        horizon: Length of your run; by default the one the artifact was trained
            for. ``Horizon.ppo(...)`` computes it.
        networks: As for ``scale_by_open``, like all that follow.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.
        warn_past_horizon: Print one line when the run outlasts ``horizon``.

    Returns:
        The optax transformation; chain ``optax.clip_by_global_norm(0.5)`` before it.

    Raises:
        ArtifactError: The name is unknown, or card or weights are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> import optax
        >>> from learned_opt_rl import open_rl
        >>> tx = optax.chain(
        ...     optax.clip_by_global_norm(0.5), open_rl.pretrained("minatar")
        ... )
    """
    return from_artifact(
        artifacts.load(name, fetch=fetch),
        horizon=horizon,
        networks=networks,
        seed=seed,
        key=key,
        warn_past_horizon=warn_past_horizon,
    )
