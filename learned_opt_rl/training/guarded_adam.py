"""Adam that can be differentiated through, for agents inside a meta-gradient."""

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents._gradients import safe_sqrt


def guarded_adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """``optax.adam``, whose own derivative is finite where a gradient is zero.

    An input that is never active, or a dead unit, has a gradient of exactly zero, and
    there the derivative of Adam's root is infinite: the meta-gradient is NaN. Here the
    root's derivative is 0 there. The updates are Adam's.

    Args:
        learning_rate: A number, or a function of the step.
        b1: Decay of the mean of gradients.
        b2: Decay of the mean of their squares.
        eps: Added to the root.

    Returns:
        An optax transformation with the state of ``optax.scale_by_adam``.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> tx = guarded_adam(0.1)
        >>> def moved(gradient):
        ...     return tx.update(gradient, tx.init(gradient))[0]
        >>> bool(jnp.isfinite(jax.grad(moved)(jnp.float32(0))))
        True
    """

    def init_fn(params: optax.Params) -> optax.ScaleByAdamState:
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu, nu)

    def update_fn(updates, state, params=None):
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        count = optax.safe_increment(state.count)
        mean = optax.tree.bias_correction(mu, b1, count)
        square = optax.tree.bias_correction(nu, b2, count)
        moved = jax.tree.map(lambda m, s: m / (safe_sqrt(s) + eps), mean, square)
        return moved, optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(
        optax.GradientTransformation(init_fn, update_fn),
        optax.scale_by_learning_rate(learning_rate),
    )
