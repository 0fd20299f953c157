"""Checks of how a transformation is called: what it needs, takes and refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing._candidate import Factory, Run, options_of

_OPTAX_MESSAGE = "not passing `params`"


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


def unknown_keywords(make: Factory) -> None:
    """Keywords of ``update`` that it does not know are ignored."""
    run = Run(make)
    told, _ = run.update(no_optimiser_knows_this=jnp.ones(3), nor_this="text")
    plain, _ = run.update()
    expect.identical(told, plain, "the update with unknown keywords")


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
