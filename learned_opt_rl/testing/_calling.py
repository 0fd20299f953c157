"""Checks of how a transformation is called, by users and by optax's combinators."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing._candidate import Factory, Run, options_of

_OPTAX_MESSAGE = "not passing `params`"
_RATE = 1e-2  # not the default of any rule


def builds(make: Factory) -> None:
    """The factory makes an optax transformation that takes extra keywords."""
    tx = make()
    if not isinstance(tx, optax.GradientTransformationExtraArgs):
        expect.fail(
            f"it made a {type(tx).__name__}; return an "
            "optax.GradientTransformationExtraArgs (optax.with_extra_args_support "
            "makes one)"
        )


def common_options(make: Factory) -> None:
    """Options that every family has are accepted, also those that it ignores."""
    options = options_of(make)
    for name, value in options.items():
        try:
            make(**{name: value})
        except TypeError as error:
            expect.fail(
                f"option {name}={value!r} is refused ({error}); accept the options of "
                "every family, and ignore those that are not used"
            )
    run = Run(make, **options)
    updates, _ = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")


def plain_update(make: Factory) -> None:
    """``tx.update(grads, state, params)`` works with nothing else."""
    run = Run(make)
    updates, _ = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")


def inject_hyperparams(make: Factory) -> None:
    """``optax.inject_hyperparams`` builds it, and sets its learning rate as it runs."""
    build, options = optax.inject_hyperparams(make), options_of(make)
    # Options that a signature does not name get lost: **options, for example.
    wanted, _ = Run(make, **options).update()
    expect.close(_jitted(Run(build, **options)), wanted, "the injected update")
    if "learning_rate" not in inspect.signature(make).parameters:
        return
    wanted, _ = Run(make, learning_rate=_RATE).update()
    run = Run(build, learning_rate=_RATE / 2)
    run.state = optax.tree.set(run.state, learning_rate=jnp.asarray(_RATE))
    expect.close(_jitted(run), wanted, "the update at a learning rate set in the state")
    scheduled = Run(build, learning_rate=optax.constant_schedule(_RATE))
    expect.close(_jitted(scheduled), wanted, "the update with a schedule")


def _jitted(run: Run) -> Any:
    return jax.jit(run.tx.update)(run.grads, run.state, run.params)[0]


def unknown_keywords(make: Factory) -> None:
    """Keywords of ``update`` that it does not know are ignored."""
    run = Run(make)
    found, _ = run.update(no_optimizer_knows_this=jnp.ones(3), nor_this="text")
    plain, _ = run.update()
    expect.identical(found, plain, "the update with unknown keywords")


def dormancy(make: Factory) -> None:
    """``dormancy=`` may be per neuron, per module or one scalar; 1 is the fallback."""
    run = Run(make)
    per_leaf = jax.tree.map(lambda p: jnp.linspace(0, 2, p.shape[-1]), run.params)
    per_module = {"actor": {"Dense_0": jnp.linspace(0, 2, 4)}, "critic": 0.5}
    for given in (per_leaf, per_module, 0.5):
        updates, _ = run.update(dormancy=given)
        expect.finite(updates, "the update with dormancy")
    plain, _ = run.update()
    alive, _ = run.update(dormancy=1.0)
    expect.identical(alive, plain, "the update with dormancy=1.0")


def proportions(make: Factory) -> None:
    """``training_proportion=`` and ``batch_proportion=`` may be numbers or arrays."""
    run = Run(make)
    for name in ("training_proportion", "batch_proportion"):
        for value in (0.0, 1.0, jnp.zeros(()), jnp.ones(())):
            updates, _ = run.update(**{name: value})
            expect.finite(updates, f"the update with {name}={value!r}")


def missing_params(make: Factory) -> None:
    """Without ``params`` it works, or raises ``ValueError`` with optax's message."""
    run = Run(make)
    try:
        updates, _ = run.tx.update(run.grads, run.state)
    except ValueError as error:
        if _OPTAX_MESSAGE not in str(error):
            expect.fail(f"its ValueError does not say {_OPTAX_MESSAGE!r}: {error}")
    except Exception as error:
        expect.fail(
            f"it raised {type(error).__name__}: {error}; begin update with: "
            f"if params is None: raise ValueError('You are {_OPTAX_MESSAGE} ...')"
        )
    else:
        expect.same_types(updates, run.params, "the update", "the parameters")


def mismatched_gradients(make: Factory) -> None:
    """Gradients that lack a parameter are an error before any parameter changes."""
    run = Run(make)
    grads: Any = {"actor": run.grads["actor"]}
    try:
        updates, _ = run.tx.update(grads, run.state, run.params)
        optax.apply_updates(run.params, updates)
    except Exception:  # which one is the rule's choice
        return
    expect.fail("gradients without 'critic' were applied to parameters that have it")


# optax holds its own optimizers to some of these in its (unpublished) test suite: extra
# keywords, gradient accumulation, tree.map_params.


def chain(make: Factory) -> None:
    """In ``optax.chain`` after clipping it sees clipped gradients and its keywords."""
    tx, clip = make(), optax.clip_by_global_norm(0.5)
    run, chained = Run(lambda: tx), Run(lambda: optax.chain(clip, tx))
    found, _ = chained.update(training_proportion=0.5)
    run.grads, _ = clip.update(run.grads, clip.init(run.params))
    expected, _ = run.update(training_proportion=0.5)
    expect.identical(found, expected, "the chained update")


def partition(make: Factory) -> None:
    """In ``optax.partition`` (multi_transform) it moves only its own parameters."""
    labels = {"actor": "learned", "critic": "plain"}
    run = Run(
        lambda: optax.partition({"learned": make(), "plain": optax.sgd(1.0)}, labels)
    )
    updates, state = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")
    descent = jax.tree.map(jnp.negative, run.grads["critic"])
    expect.identical(updates["critic"], descent, "the update of sgd's parameters")
    expect.same_types(state, run.state, "the updated state", "tx.init")


def masked(make: Factory) -> None:
    """In ``optax.masked`` it leaves the gradients of other parameters alone."""
    run = Run(lambda: optax.masked(make(), {"actor": True, "critic": False}))
    updates, _ = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")
    expect.identical(updates["critic"], run.grads["critic"], "the masked update")
    nothing = Run(lambda: optax.masked(make(), False))
    untouched, _ = nothing.update()
    expect.identical(untouched, nothing.grads, "the update with all masked")


def multi_steps(make: Factory) -> None:
    """In ``optax.MultiSteps`` it steps once per accumulation, on the mean gradient."""
    tx = make()
    patient = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    run = Run(lambda: optax.with_extra_args_support(patient))
    step = jax.jit(run.tx.update)
    waiting, state = step(run.grads, run.state, run.params)
    zeros = jax.tree.map(jnp.zeros_like, run.params)
    expect.close(waiting, zeros, "the update while accumulating")
    moving, _ = step(run.grads, state, run.params)
    expect.close(moving, Run(lambda: tx).update()[0], "the accumulated update")


def map_params(make: Factory) -> None:
    """``optax.tree.map_params`` finds its way through the state."""
    run = Run(make)
    mapped = optax.tree.map_params(run.tx, lambda leaf: leaf, run.state)
    expect.identical(mapped, run.state, "the state mapped by the identity")
