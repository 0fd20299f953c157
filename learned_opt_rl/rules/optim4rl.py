"""Optim4RL: a learned optimizer shaped like Adam, with two small towers.

One tower turns each parameter's gradient into a first pseudo-moment M, the other into a
second, V; the direction is ``M / sqrt(V)``. The authors' repository has two optimizers
of this name: the one of the preprint, which the OPEN paper compares with, and the one
of its rewrite for the Reinforcement Learning Conference.

References:
    Lan, Mahmood, Yan and Xu, 2024: "Learning to Optimize for Reinforcement Learning",
    and its preprint of 2023; https://github.com/sail-sg/optim4rl.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from learned_opt_rl import optim4rl
    >>> params = {"w": jnp.ones(3)}
    >>> architecture = optim4rl.Architecture("arxiv2023", carry=8, width=16)
    >>> weights = optim4rl.init(jax.random.key(0), architecture)
    >>> tx = optim4rl.optimizer(weights, learning_rate=1e-3)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

import numbers
from collections.abc import Callable
from typing import Any, Unpack, cast

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.families.optim4rl import (
    TOWERS,
    Architecture,
    Version,
    optim4rl_shapes,
)
from learned_opt_rl.features import Horizon, LeafRole
from learned_opt_rl.rules._core.artifact import prints_its_name, require_algorithm
from learned_opt_rl.rules._core.network import (
    Cut,
    as_rows,
    dot,
    gru,
    in_blocks,
    is_small,
    join,
    one_agent_at_a_time,
    split,
    table_of_rows,
    tables,
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
    Slot,
    in_parts,
    transformation,
)
from learned_opt_rl.rules._core.weights import (
    Weights,
    as_float32,
    draw_weights,
    require_shapes,
)

__all__ = [
    "Architecture",
    "RuleState",
    "Version",
    "Weights",
    "from_artifact",
    "init",
    "optimizer",
    "pretrained",
    "scale_by_optim4rl",
]
__dir__ = __all__.copy


# Both as in the authors' code.
_TINY = 1e-18  # in the logarithm and under the root of 2023; a normal float32
_EPSILON = 1e-8  # under the root of 2024


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return random weights, as a starting point for training.

    They are a nested dict of float32 arrays, drawn as by ``open_rl.init``. The first
    updates are then about a learning rate along the gradient's sign.

    Example:
        >>> weights = init(jax.random.key(0), Architecture("arxiv2023", 8, 16))
        >>> weights["tower_1"]["mlp"]["dense_2"]["kernel"].shape
        (16, 2)
    """
    return draw_weights(key, optim4rl_shapes(architecture))


@lists(RunOptions)
def scale_by_optim4rl(
    weights: Weights,
    learning_rate: optax.ScalarOrSchedule = 1.0,
    horizon: Horizon | None = None,
    *,
    grad_clip: float | None = 1.0,
    **options: Unpack[RunOptions],
) -> optax.GradientTransformationExtraArgs:
    """Replace gradients by Optim4RL's direction ``M / sqrt(V)``.

    As with optax's ``scale_by_*``, the sign is left to a later ``optax.scale(-1.0)``,
    which ``optimizer`` adds.

    Every scalar parameter is treated alike and alone. Where the gradient is 0 the
    direction is 0, and the GRUs still advance. With weights of version ``"rlc2024"``
    the direction has the gradient's sign; those of ``"arxiv2023"`` may flip it.
    Gradients are constants to ``jax.grad``: meta-gradients reach the weights through
    the towers and the parameters, never through the towers' inputs.

    The arithmetic is float32, and the direction has the parameters' dtypes. Keywords
    of ``update`` are ignored: the rule has no time, depth, dormancy or noise, and by
    default no mean is removed.

    Args:
        weights: As for ``open_rl.scale_by_open``; may be traced.
        learning_rate: Scales the direction: a number, which may be traced, or an optax
            schedule.
        horizon: Accepted and not used.
        grad_clip: Clip each element of the gradient to ``[-c, c]`` first, as the
            published weights expect; may be traced; ``None`` clips nothing.
        **options: As for ``rules.pretrained``.

    Raises:
        WeightsError: ``weights`` do not fit an Optim4RL network.
        ValueError: ``grad_clip`` is not positive. In ``update`` as for
            ``open_rl.scale_by_open``.

    References:
        Lan et al. 2024, section 4; its preprint of 2023. Goldie et al. 2024, section
        6.1 and appendix B.4, for the sizes and learning rates of OPEN's baseline.

    Example:
        >>> architecture = Architecture("rlc2024", carry=8, width=None)
        >>> rule = scale_by_optim4rl(init(jax.random.key(0), architecture))
        >>> tx = optax.chain(rule, optax.scale_by_learning_rate(1e-3))
    """
    units = 2 * _architecture(weights).carry
    _require_clip(grad_clip)
    weights = as_float32(weights)

    def step(given: Any, inputs: Inputs, roles: list[LeafRole]) -> Outputs:
        del roles
        weights, grad_clip, rate = given
        if grad_clip is not None:
            clipped = [jnp.clip(g, -grad_clip, grad_clip) for g in inputs.gradients]
            inputs = inputs._replace(gradients=clipped)
        values, memory = _step(weights, inputs)
        now = learning_rate(inputs.count) if callable(learning_rate) else rate
        return [jnp.asarray(now, jnp.float32) * value for value in values], memory

    slots = {"carry": Slot((units,))}
    given = weights, grad_clip, None if callable(learning_rate) else learning_rate
    rule = Rule(slots, step, given, zero_mean=False, seen="gradient")
    return transformation(rule, read_options(horizon, options))


@lists(RunOptions)
def optimizer(
    weights: Weights,
    learning_rate: optax.ScalarOrSchedule,
    horizon: Horizon | None = None,
    *,
    grad_clip: float | None = 1.0,
    **options: Unpack[RunOptions],
) -> optax.GradientTransformationExtraArgs:
    """Return ``scale_by_optim4rl`` ready for ``optax.apply_updates``.

    The arguments are those of ``scale_by_optim4rl``. The learning rate is chosen for
    each environment; the OPEN paper takes a tenth of Adam's.

    Returns:
        ``optax.chain(scale_by_optim4rl(...), optax.scale(-1.0))``. The state is a
        pair whose first element is the ``RuleState``.

    Raises:
        TypeError: An option has another name.

    Example:
        >>> architecture = Architecture("rlc2024", carry=8, width=None)
        >>> weights = init(jax.random.key(0), architecture)
        >>> annealed = optax.linear_schedule(1e-3, 0.0, transition_steps=1000)
        >>> tx = optimizer(weights, annealed)
    """
    direction = scale_by_optim4rl(
        weights, learning_rate, horizon, grad_clip=grad_clip, **options
    )
    return optax.chain(direction, optax.scale(-1.0))


@lists(ArtifactOptions)
@prints_its_name
def from_artifact(
    artifact: artifacts.Artifact,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    grad_clip: float | None = 1.0,
    **options: Unpack[ArtifactOptions],
) -> optax.GradientTransformationExtraArgs:
    """Return ``optimizer`` with the weights and learning rate of an artifact.

    The default ``learning_rate`` is that of the card's architecture, which the artifact
    was trained with. The options are those of ``optimizer``; ``environment`` is not
    used.

    Raises:
        ArtifactError: The artifact is of an algorithm other than ``"optim4rl"``, or
            neither its card nor the caller gives a learning rate.
        WeightsError: The weights do not fit an Optim4RL network.

    Example:
        >>> tx = from_artifact(artifacts.load("optim4rl/breakout"))
    """
    require_algorithm(artifact, "optim4rl")
    horizon, _, rest = parted(options)
    if learning_rate is None:
        learning_rate = cast(Any, artifact.card.architecture.get("learning_rate"))
    if learning_rate is None:
        raise ArtifactError(
            f"the card of '{artifact.card.name}' names no learning_rate; pass "
            "learning_rate=, for example a tenth of the one tuned for Adam"
        )
    return optimizer(
        artifact.weights, learning_rate, horizon, grad_clip=grad_clip, **rest
    )


@lists(ArtifactOptions)
def pretrained(
    name: str,
    *,
    fetch: bool = False,
    learning_rate: optax.ScalarOrSchedule | None = None,
    grad_clip: float | None = 1.0,
    **options: Unpack[ArtifactOptions],
) -> optax.GradientTransformationExtraArgs:
    """Return a pretrained Optim4RL by name, as ``rules.pretrained`` does.

    Example:
        >>> tx = pretrained("optim4rl/breakout", learning_rate=3e-4)
    """
    return from_artifact(
        artifacts.load(name, fetch=fetch),
        learning_rate=learning_rate,
        grad_clip=grad_clip,
        **options,
    )


def _architecture(weights: Weights) -> Architecture:
    try:
        tower = weights["tower_1"]
        _, carry = jnp.shape(tower["gru"]["in"]["kernel"])
        deep = "dense_1" in tower["mlp"]
        width = jnp.shape(tower["mlp"]["dense_0"]["kernel"])[-1] if deep else None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(
            "weights do not fit an Optim4RL network: they need "
            "tower_1.gru.in.kernel and tower_1.mlp.dense_0.kernel, two-dimensional. "
            "Use optim4rl.init(key, architecture) or optim4rl.pretrained(name); for a "
            "population of weights, vmap over scale_by_optim4rl"
        ) from error
    architecture = Architecture(_version(weights), carry, width)
    shapes = optim4rl_shapes(architecture)
    require_shapes(weights, shapes, architecture, "scale_by_optim4rl")
    return architecture


def _version(weights: Weights) -> Version:
    """Return the version, by the number of inputs of the first tower."""
    inputs = jnp.shape(weights["tower_1"]["gru"]["in"]["kernel"])[0]
    return "arxiv2023" if inputs == TOWERS["arxiv2023"][0][0] else "rlc2024"


def _require_clip(grad_clip: Any) -> None:
    if grad_clip is None:
        return
    if isinstance(grad_clip, Tracer):  # as optax.inject_hyperparams passes it
        return
    is_number = isinstance(grad_clip, numbers.Real | jax.Array) and not isinstance(
        grad_clip, bool
    )
    if not is_number or not float(grad_clip) > 0:
        raise ValueError(
            f"grad_clip={grad_clip!r} must be a positive number; give None to clip "
            "nothing"
        )


@one_agent_at_a_time
def _step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run Optim4RL on all leaves, whose gradients are already clipped."""
    chosen = tables(inputs.params)
    return in_parts(inputs, chosen, lambda _, part: _table(weights, part))


def _table(weights: Weights, inputs: Inputs) -> Outputs:
    encode, ratio_of = _VERSIONS[_version(weights)]
    # Meta-gradients pass through the towers, not through the towers' inputs.
    gradient = jax.lax.stop_gradient(join(inputs.gradients))
    carry_of = _carry_rows(inputs)

    def block(cut: Cut) -> tuple[jax.Array, jax.Array]:
        g = as_rows(cut(gradient))
        (x_1, x_2), (h_1, h_2) = encode(g), jnp.split(carry_of(cut), 2)
        outputs, after = _towers(weights, table_of_rows([x_1, h_1, x_2, h_2]))
        return ratio_of(jnp.sign(g[0]), outputs), after.T

    like = gradient, join(inputs.memory["carry"], 1)
    ratio, after = in_blocks(block, like, len(inputs.params))
    return split(ratio, inputs.params), {"carry": split(after, inputs.params)}


def _carry_rows(inputs: Inputs) -> Callable[[Cut], jax.Array]:
    """Return a function from a cut to that part of the carry, ``[units, n]``."""
    carries = inputs.memory["carry"]
    if is_small(inputs.params):
        # Nothing is copied before each leaf is transposed.
        rows = jnp.concatenate([as_rows(join([h], 1)) for h in carries], axis=1)
        return lambda cut: cut(rows, 1)
    joined = join(carries, 1)
    return lambda cut: as_rows(cut(joined))


def _towers(weights: Weights, table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Run both towers; outputs and new carry ``[2 * carry, n]``, the first's on top.

    The table has a tower's inputs with its GRU state below them, and below that the
    same of the second tower.
    """
    first, second = weights["tower_1"], weights["tower_2"]
    rows = sum(first["gru"]["in"]["kernel"].shape)
    carries = gru(first["gru"], table[:rows]), gru(second["gru"], table[rows:])
    outputs = _mlp(first["mlp"], carries[0]), _mlp(second["mlp"], carries[1])
    return jnp.concatenate(outputs), jnp.concatenate(carries)


def _mlp(mlp: Weights, x: jax.Array) -> jax.Array:
    for layer in range(len(mlp)):
        dense = mlp[f"dense_{layer}"]
        x = dot(dense["kernel"], jax.nn.relu(x) if layer else x)
        x = x + dense["bias"][:, None]
    return x


def _logarithms(g: jax.Array) -> tuple[jax.Array, jax.Array]:
    magnitude = jnp.log(jnp.abs(g) + _TINY)
    return jnp.concatenate([jnp.sign(g), magnitude]), 2 * magnitude


def _signed_ratio(sign: jax.Array, outputs: jax.Array) -> jax.Array:
    """Let the first output flip the sign; its gradient passes as if of a tanh."""
    soft = jnp.tanh(outputs[0] + 1.0)
    hard = jnp.where(soft >= 0, 1.0, -1.0)
    flip = hard + (soft - jax.lax.stop_gradient(soft))  # adds 0: exact in the value
    root = jnp.sqrt(jnp.exp(outputs[2]) + _TINY)
    return sign * flip * jnp.exp(outputs[1]) / root


def _plain_ratio(sign: jax.Array, outputs: jax.Array) -> jax.Array:
    return sign * jnp.exp(outputs[0]) * jax.lax.rsqrt(jnp.exp(outputs[1]) + _EPSILON)


# What a version does around the towers: the gradient [1, n] to the rows of the first
# and the second, then the gradient's sign [n] and all outputs to M / sqrt(V), [n].
_VERSIONS = {
    "arxiv2023": (_logarithms, _signed_ratio),
    "rlc2024": (lambda g: (g, g * g), _plain_ratio),
}
