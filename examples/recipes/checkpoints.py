"""Save and resume a run in three ways. The resumed run is bit-identical.

The optimizer's state is a tuple of arrays. It contains the momenta, the step count and
the key of the noise.
"""

import pathlib
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from learned_opt_rl import Horizon, open_rl


# [orbax]
def orbax(run, folder):
    """Save and restore with orbax."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "run", run)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "run", jax.eval_shape(lambda: run))


# [equinox]
def equinox(run, folder):
    """Save and restore with Equinox."""
    eqx.tree_serialise_leaves(folder / "run.eqx", run)
    return eqx.tree_deserialise_leaves(folder / "run.eqx", jax.eval_shape(lambda: run))


# [npz]
def npz(run, folder):
    """Save and restore with a plain npz file."""
    leaves, structure = jax.tree.flatten(run)
    np.savez(folder / "run.npz", *leaves)
    with np.load(folder / "run.npz") as file:
        return structure.unflatten([jnp.asarray(file[name]) for name in file.files])


# [end]
x = jax.random.normal(jax.random.key(0), (64, 4))
rule = open_rl.pretrained("minatar", horizon=Horizon(60))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)


@jax.jit
def step(run):
    """Apply one gradient update to the parameters and the state."""
    params, state = run
    grads = jax.grad(lambda p: ((jnp.tanh(x @ p["actor"]) - x) ** 2).mean())(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def train(run):
    """Run half of the training."""
    for _ in range(30):
        run = step(run)
    return run


def same(a, b):
    """Check whether all arrays are bit-identical."""
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


params = {"actor": jnp.zeros((4, 4))}
half = train((params, tx.init(params)))
whole = train(half)
for through in orbax, equinox, npz:
    with tempfile.TemporaryDirectory() as folder:
        resumed = train(through(half, pathlib.Path(folder)))
    print(f"through {through.__name__}: identical {same(resumed, whole)}")
