"""Optax transformations that each break the contract in one way, and what catches it.

All are the same heavy ball but for the fault. ``RULES`` maps the fault to the checks
that must fail, no others, and to words of the first one's reason.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.rules.open_rl import RuleState


class State(NamedTuple):
    mean: Any
    extra: Any = ()


def mean_of(params):
    return jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)


def init(params):
    return State(mean_of(params))


def update(updates, state, params=None, **unused):
    updates = jax.tree.map(jnp.asarray, updates)
    mean = jax.tree.map(
        lambda m, g: 0.9 * m + 0.1 * g.astype(jnp.float32), state.mean, updates
    )
    steps = jax.tree.map(lambda m, g: (-0.1 * m).astype(g.dtype), mean, updates)
    return steps, State(mean, state.extra)


def rule(update=update, init=init):
    return optax.GradientTransformationExtraArgs(init, update)


def of_steps(change):
    """The rule with every leaf of its updates changed."""

    def changed(updates, state, params=None, **unused):
        steps, state = update(updates, state, params)
        return jax.tree.map(change, steps, updates), state

    return rule(changed)


def of_steps_through(function):
    """The rule with updates that pass through a function without a derivative."""

    def through(s, _):
        fixed = jax.lax.stop_gradient(s)
        return s - fixed + function(fixed)

    return of_steps(through)


def norm_of(tree):
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), 0.0))


def is_traced(tree):
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


class Broken(NamedTuple):
    make: Callable[..., Any]
    fails: tuple[str, ...]
    words: str
    options: dict[str, Any] | None = None


RULES: dict[str, Broken] = {}


def breaks(*checks, words="", options=None):
    """Register a factory under the checks that find it out; the first one tells."""

    def register(make):
        RULES[make.__name__] = Broken(make, checks, words, options)
        return make

    return register


@breaks(
    "common_options",
    "inject_hyperparams",
    words="networks=None is refused",
    options={"networks": None},
)
def takes_no_options(*, horizon=None):
    return rule()


@breaks("builds", words="made a GradientTransformation; return an optax.Gradient")
def is_no_extra_args_transformation():
    return optax.GradientTransformation(init, update)


@breaks("plain_update", words="loss")
def needs_another_keyword():
    def greedy(updates, state, params=None, *, loss, **unused):
        return update(updates, state)

    return rule(greedy)


@breaks("unknown_keywords", words="no_optimizer_knows_this")
def rejects_extra_keywords():
    def strict(
        updates,
        state,
        params=None,
        *,
        dormancy=None,
        training_proportion=None,
        batch_proportion=None,
    ):
        return update(updates, state)

    return rule(strict)


@breaks("dormancy", words="it raised")
def wants_dormancy_for_every_leaf():
    def picky(updates, state, params=None, *, dormancy=None, **unused):
        if dormancy is not None:
            jax.tree.map(lambda g, d: g * d[None], updates, dormancy)
        return update(updates, state)

    return rule(picky)


@breaks("dormancy", words="dormancy=1.0")
def takes_neurons_for_dead():
    def morbid(updates, state, params=None, *, dormancy=0.5, **unused):
        steps, state = update(updates, state)
        alive = jnp.mean(
            jnp.concatenate(list(map(jnp.ravel, jax.tree.leaves(dormancy))))
        )
        return jax.tree.map(lambda s: (s * alive).astype(s.dtype), steps), state

    return rule(morbid)


@breaks("proportions", words="training_proportion=0.0")
def divides_by_the_proportion():
    def hyperbolic(updates, state, params=None, *, training_proportion=0.5, **unused):
        steps, state = update(updates, state)
        rate = 0.5 / jnp.asarray(training_proportion)
        return jax.tree.map(lambda s: (s * rate).astype(s.dtype), steps), state

    return rule(hyperbolic)


@breaks("missing_params", words="its ValueError does not say 'not passing `params`'")
def fails_obscurely_without_params():
    def decaying(updates, state, params=None, **unused):
        decayed = jax.tree.map(lambda g, p: g + 0 * p, updates, params)
        return update(decayed, state)

    return rule(decaying)


@breaks("missing_params", words="it raised KeyError")
def raises_another_error_without_params():
    def rude(updates, state, params=None, **unused):
        if params is None:
            raise KeyError("params")
        return update(updates, state)

    return rule(rude)


@breaks("mismatched_gradients", words="without 'critic' were applied")
def makes_up_missing_gradients():
    def generous(updates, state, params=None, **unused):
        if params is not None and jax.tree.structure(updates) != jax.tree.structure(
            params
        ):
            updates = jax.tree.map(jnp.zeros_like, params)
        return update(updates, state)

    return rule(generous)


@breaks("inject_hyperparams", words="the injected update", options={"seed": 7})
def hides_its_options(**options):
    rate = 1 + options.get("seed", 0)
    return of_steps(lambda s, _: (rate * s).astype(s.dtype))


@breaks("inject_hyperparams", words="ConcretizationTypeError")
def wants_a_python_rate(learning_rate=0.1):
    factor = float(learning_rate)
    return of_steps(lambda s, _: (factor * s).astype(s.dtype))


@breaks("inject_hyperparams", words="the update at a learning rate set in the state")
def stores_its_rate_in_the_state(learning_rate=0.1):
    def stored(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        return jax.tree.map(lambda s: (state.extra * s).astype(s.dtype), steps), new

    start = jnp.asarray(learning_rate, jnp.float32)
    return rule(stored, lambda params: State(mean_of(params), start))


@breaks("any_pytree", words="kind 'bfloat16'['kernel'] is float32[2,3], that of these")
def updates_in_float32():
    return of_steps(lambda s, _: s.astype(jnp.float32))


@breaks("any_pytree", "stable_state", words="'tuple'")
def knows_only_dicts():
    def fussy(updates, state, params=None, **unused):
        if type(updates) is tuple:
            raise TypeError("parameters of kind 'tuple' are too much")
        return update(updates, state)

    return rule(fussy)


@breaks("any_pytree", words="'registered dataclass': structure is")
def returns_plain_dicts():
    def flattening(updates, state, params=None, **unused):
        steps, state = update(updates, state)
        if "Module" in str(jax.tree.structure(steps)):
            steps = dict(enumerate(jax.tree.leaves(steps)))
        return steps, state

    return rule(flattening)


@breaks("any_pytree", "stable_state", "masked", words="'empty'")
def needs_a_parameter():
    def nonempty(updates, state, params=None, **unused):
        if not jax.tree.leaves(updates):
            raise ValueError("parameters of kind 'empty'")
        return update(updates, state)

    return rule(nonempty)


@breaks("python_floats", words="'float' object has no attribute 'dtype'")
def asks_parameters_for_their_dtype():
    def typed(params):
        assert all(p.dtype != bool for p in jax.tree.leaves(params))
        return init(params)

    return rule(init=typed)


@breaks("state_from_shapes", words="it raised TypeError")
def seeds_its_state_with_the_parameters():
    return rule(init=lambda params: State(mean_of(params), 0 * norm_of(params)))


@breaks("zero_gradients", words="step 1 moves a target network by")
def decays_weights():
    def decaying(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        if params is not None:
            steps = jax.tree.map(
                lambda s, p: (s - 1e-3 * p).astype(s.dtype), steps, params
            )
        return steps, new

    return rule(decaying)


@breaks("lone_head", words="the sum of a temperature has changed by")
def removes_the_mean():
    def centered(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        leaves = jax.tree.leaves(steps)
        count = max(sum(leaf.size for leaf in leaves), 1)
        mean = sum((leaf.sum() for leaf in leaves), 0.0) / count

        def shift(s):  # not what has no gradient: that is another fault
            return jnp.where(s == 0, 0, s - mean).astype(s.dtype)

        return jax.tree.map(shift, steps), new

    return rule(centered)


@breaks("many_leaves", words="each further leaf of a shape adds")
def takes_many_operations_a_leaf():
    def step_by_step(s, _):
        for _ in range(120):
            s = 1.01 * s
        return s

    return of_steps(step_by_step)


@breaks("moves", "lone_head", words="three updates in a row were 0 for every parameter")
def never_moves():
    return of_steps(lambda s, _: 0 * s)


@breaks("finite_updates", words="for gradients of size 0 the update")
def divides_by_the_gradient_norm():
    def normalizing(updates, state, params=None, **unused):
        norm = norm_of(updates)
        unit = jax.tree.map(lambda g: g / norm.astype(jnp.result_type(g)), updates)
        return update(unit, state)

    return rule(normalizing)


@breaks("bounded_run", words="after 200 steps a parameter has grown to")
def climbs():
    return of_steps(lambda s, _: -1e5 * s)


@breaks(
    "state_of_arrays", words="after init, state.extra is 0, a int; make it an array"
)
def counts_in_a_python_int():
    def counting(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        return steps, new._replace(extra=state.extra + 1)

    return rule(counting, lambda params: State(mean_of(params), 0))


@breaks("state_of_arrays", "npz_round_trip", words="store jax.random.key_data(key)")
def keeps_a_typed_key():
    return rule(init=lambda params: State(mean_of(params), jax.random.key(0)))


@breaks("stable_state", words="'bfloat16', the updated state.mean['kernel'] is float32")
def widens_its_state():
    return rule(init=lambda params: State(jax.tree.map(jnp.zeros_like, params)))


@breaks(
    "stable_state",
    "one_compilation",
    "scan",
    "cond",
    "lone_head",
    "bounded_run",
    "partition",
    words="state.extra is float32[], that of tx.init is int32[]",
)
def changes_the_dtype_of_its_count():
    def averaging(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        return steps, new._replace(extra=state.extra / 2.0)

    return rule(averaging, lambda params: State(mean_of(params), jnp.zeros((), int)))


@breaks("one_compilation", words="weak_type=True) became float32[] (weak_type=False)")
def compiles_twice():
    def counting(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        return steps, new._replace(extra=state.extra + jnp.ones((), jnp.float32))

    return rule(counting, lambda params: State(mean_of(params), jax.jit(lambda: 0.0)()))


class Forgetful:
    """A pytree node that loses what is not an array, as it is taken apart."""

    def __init__(self, steps=0):
        self.steps = steps


jax.tree_util.register_pytree_node(
    Forgetful, lambda node: ((), None), lambda _, children: Forgetful()
)


@breaks("npz_round_trip", "scan", words="updates from the restored state")
def keeps_python_attributes_in_its_state():
    def annealing(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        taken = state.extra.steps
        steps = jax.tree.map(lambda s: s / (1 + taken), steps)
        return steps, new._replace(extra=Forgetful(taken + 1))

    return rule(annealing, lambda params: State(mean_of(params), Forgetful()))


@breaks(
    "no_hidden_state",
    "npz_round_trip",
    "dormancy",
    "unknown_keywords",
    "jit",
    "scan",
    "vmap",
    "sharding",
    "state_sharding",
    "sharded_agents",
    "chain",
    "multi_steps",
    words="the same call, later: (update, state)",
)
def counts_calls_in_python():
    calls = itertools.count(1)

    def tiring(updates, state, params=None, **unused):
        steps, state = update(updates, state)
        rate = 1 / next(calls)
        return jax.tree.map(lambda s: (s * rate).astype(s.dtype), steps), state

    return rule(tiring)


BUILT = itertools.count(1)


@breaks("same_seed", "inject_hyperparams", words="a second run with options {}")
def differs_from_build_to_build():
    rate = 1 + 1 / next(BUILT)
    return of_steps(lambda s, _: (rate * s).astype(s.dtype))


@breaks("same_seed", words="options {'seed': 7}", options={"seed": 7})
def ignores_a_seed_that_is_given(seed=0):
    rate = jnp.where(seed == 0, 1.0, 1 + 1 / next(BUILT))
    return of_steps(lambda s, _: (rate * s).astype(s.dtype))


@breaks("noise_key", words="a run resumed without key=", options={"key": None})
def keeps_its_key_outside_of_its_state(key=None):
    factor = 1.0 if key is None else 2.0
    return of_steps(lambda s, _: (factor * s).astype(s.dtype))


@breaks("reseeding", words="but reseed does not", options={"seed": 7})
def draws_noise_from_its_seed_alone(seed=0):
    def start(params):
        return RuleState(jnp.zeros((), int), mean_of(params), jnp.zeros(2, jnp.uint32))

    def noisy(updates, state, params=None, **unused):
        steps, new = update(updates, State(state.memory))
        rate = 1 + jax.random.uniform(jax.random.key(seed))
        steps = jax.tree.map(lambda s: (rate * s).astype(s.dtype), steps)
        return steps, state._replace(memory=new.mean)

    return rule(noisy, start)


@breaks(
    "jit",
    "scan",
    "vmap",
    "inject_hyperparams",
    "multi_steps",
    words="the jitted update",
)
def behaves_otherwise_when_traced():
    return of_steps(lambda s, _: 2 * s if is_traced(s) else s)


@breaks("vmap", words="side by side")
def has_a_wrong_batching_rule():
    @jax.custom_batching.custom_vmap
    def identity(x):
        return x

    @identity.def_vmap
    def _(size, batched, x):
        return 2 * x, batched[0]

    return of_steps_through(identity)


@breaks("grad", words="the derivative by grads['actor']")
def has_a_derivative_that_is_nan():
    return of_steps(lambda s, g: s + 0 * jnp.sqrt(g - g))


@breaks("sharding", "state_sharding", "sharded_agents", words="it raised ValueError")
def insists_on_the_first_device():
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return of_steps(lambda s, _: jax.lax.with_sharding_constraint(s, first))


@breaks("sharding", words="on a mesh with Explicit axes, the update of shape")
def gathers_its_updates():
    def gathered(s, _):
        # Only a mesh with Explicit axes is known while tracing.
        mesh = jax.typeof(s).sharding.mesh
        if mesh.empty or not mesh.are_all_axes_explicit:
            return s
        return jax.sharding.reshard(s, jax.P())

    return of_steps(gathered)


@breaks("sharding", words="tx.init(params): a state leaf of shape")
def starts_on_one_device():
    def host(params):
        return State(jax.tree.map(lambda p: jnp.zeros(jnp.shape(p)), params))

    return rule(init=host)


@breaks("sharding", "state_sharding", words="which does not begin with its")
def puts_its_axis_first():
    def doubled(mean):
        return jax.tree.map(lambda m: jnp.stack([m, m]), mean)

    def two(updates, state, params=None, **unused):
        steps, new = update(updates, state)
        return steps, State(new.mean, doubled(new.mean))

    return rule(two, lambda params: State(mean_of(params), doubled(mean_of(params))))


@breaks("sharded_agents", words="0th dimension of all xs should be replicated")
def takes_agents_one_by_one():
    @jax.custom_batching.custom_vmap
    def alone(x):
        return x

    @alone.def_vmap
    def _(size, batched, x):
        return jax.lax.map(lambda one: 1 * one, x), batched[0]

    return of_steps_through(alone)


@breaks("chain", words="too small")
def refuses_clipped_gradients():
    def proud(updates, state, params=None, **unused):
        norm = norm_of(updates)
        if not is_traced(norm) and 0 < norm < 0.6:
            raise ValueError("the gradient is too small")
        return update(updates, state)

    return rule(proud)


@breaks("partition", "masked", words="MaskedNode")
def refuses_masked_trees():
    def blind(updates, state, params=None, **unused):
        if "MaskedNode" in str(jax.tree.structure(updates)):
            raise TypeError("no MaskedNode, please")
        return update(updates, state)

    return rule(blind)


@breaks("map_params", "sharding", "state_sharding", words="it raised ValueError")
def keeps_a_list_of_leaves():
    def listing(updates, state, params=None, **unused):
        leaves, structure = jax.tree.flatten(updates)
        mean = jax.tree.unflatten(structure, state.mean)
        steps, new = update(updates, State(mean))
        return steps, State(jax.tree.leaves(new.mean))

    return rule(listing, lambda params: State(jax.tree.leaves(mean_of(params))))
