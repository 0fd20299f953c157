"""An optimiser that measures each of its updates, whatever optimiser it is."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.evaluation.runs.observe import dormant_share
from learned_opt_rl.features import init_momenta, update_momenta

_OTHER_BITS = 0x9E3779B9


class Diagnostics(NamedTuple):
    """What is to be said of one update; a dict is by network, as the parameters are.

    Attributes:
        cosine: float32 ``[7]``, of the step (the update, descending) with the gradient
            and with its six momenta, over all parameters together.
        relative_update: Root mean square of the update without noise, over that of the
            parameters.
        relative_noise: The same of the noise.
        dormant: Share of dormant neurons; NaN where no dormancies are given.
    """

    cosine: jax.Array
    relative_update: dict[str, jax.Array]
    relative_noise: dict[str, jax.Array]
    dormant: dict[str, jax.Array]


class DiagnosedState(NamedTuple):
    """State of `diagnosed`.

    Attributes:
        inner: The state of the optimiser.
        momenta: Per leaf ``[*shape, 6]`` float32.
        last: Of the last update.
    """

    inner: Any
    momenta: Any
    last: Diagnostics


def diagnosed(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Measures every update of an optimiser and passes it on as it is.

    The optimiser is asked twice, the second time with another random key in its state:
    two updates that differ in their noise alone tell how much of them is noise. So it
    costs more than twice as much.

    Args:
        optimizer: Any optax transformation of a dict of networks.

    Returns:
        The same with a `DiagnosedState` around its state.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> DiagnosedState:
        nothing = {name: jnp.float32(jnp.nan) for name in params}
        return DiagnosedState(
            optimizer.init(params),
            jax.tree.map(init_momenta, params),
            Diagnostics(jnp.full(7, jnp.nan), nothing, nothing, nothing),
        )

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        before, grads = cast(DiagnosedState, state), updates
        momenta = jax.tree.map(lambda g, m: update_momenta(m, g), grads, before.momenta)
        updates, inner = optimizer.update(grads, before.inner, params, **extra)
        again, _ = optimizer.update(grads, other_noise(before.inner), params, **extra)
        found = _diagnostics(updates, again, grads, momenta, params, extra)
        return updates, DiagnosedState(inner, momenta, found)

    return optax.GradientTransformationExtraArgs(init, update)


def other_noise(state: Any) -> Any:
    """The same state with other random keys, which are the leaves called ``key``."""

    def change(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        named = isinstance(path[-1], jax.tree_util.GetAttrKey) if path else False
        if named and path[-1].name == "key":
            return leaf ^ jnp.uint32(_OTHER_BITS)
        return leaf

    return jax.tree_util.tree_map_with_path(change, state)


def _diagnostics(
    updates: Any, again: Any, grads: Any, momenta: Any, params: Any, extra: Any
) -> Diagnostics:
    seen = extra.get("dormancy") or {}
    spread = {name: _spread(updates[name], again[name]) for name in updates}
    size = {name: jnp.maximum(_rms(params[name]), 1e-12) for name in updates}
    step = -_flat(updates)
    banks = jnp.concatenate(
        [m.reshape(-1, m.shape[-1]).T for m in jax.tree.leaves(momenta)], axis=1
    )
    others = jnp.concatenate([_flat(grads)[None], banks])
    return Diagnostics(
        cosine=jax.vmap(lambda other: _cosine(step, other))(others),
        relative_update={name: spread[name][0] / size[name] for name in updates},
        relative_noise={name: spread[name][1] / size[name] for name in updates},
        dormant={name: dormant_share(seen.get(name)) for name in updates},
    )


def _spread(one: Any, other: Any) -> tuple[jax.Array, jax.Array]:
    """Root mean squares of what two updates share and of their noise.

    The product of two updates with independent noises is, on average, the square of
    what they share; half the square of their difference is the noise's.
    """
    a, b = _flat(one), _flat(other)
    shared = jnp.sqrt(jnp.maximum(jnp.mean(a * b), 0.0))
    return shared, jnp.sqrt(jnp.mean(jnp.square(a - b)) / 2)


def _flat(tree: Any) -> jax.Array:
    return jnp.concatenate(
        [x.astype(jnp.float32).ravel() for x in jax.tree.leaves(tree)]
    )


def _rms(tree: Any) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(_flat(tree))))


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """NaN where one of the two is zero: there is no direction then."""
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
