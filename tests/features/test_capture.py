"""Dormancy captured from flax modules, against activations worked out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.features import (
    broadcast_dormancy,
    dormancy,
    linen_dormancy,
    nnx_dormancy,
)

RELU = {"activation": jax.nn.relu}
TANH = {"activation": jnp.tanh}
ACTIVATIONS = [RELU, TANH]
IDS = ["relu", "tanh"]


@pytest.fixture
def x(getkey):
    return jax.random.normal(getkey(), (6, 3))


def dense(parameters, x):
    product = np.asarray(x) @ np.asarray(parameters["kernel"])
    return product + np.broadcast_to(parameters["bias"], product.shape)


def check(found, activation):
    np.testing.assert_allclose(found, dormancy(jnp.asarray(activation)), rtol=2e-5)


def tx():
    weights = open_rl.init(jax.random.key(1), open_rl.Architecture(None, 4))
    return open_rl.optimizer(weights, Horizon(100))


class Agent(nn.Module):
    """Separate actor and critic, and a parameter beside them."""

    act: object = jax.nn.relu

    @nn.compact
    def __call__(self, x):
        self.param("log_std", nn.initializers.zeros, (2,))
        h = self.act(nn.Dense(4, name="actor_0")(x))
        actor = nn.Dense(2, name="actor_1")(h)
        h = self.act(nn.Dense(5, name="critic_0")(x))
        return actor, nn.Dense(1, name="critic_1")(h)


@pytest.mark.parametrize("options", ACTIVATIONS, ids=IDS)
def test_linen_dense_layers(options, x):
    act, model = options["activation"], Agent(options["activation"])
    variables = model.init(jax.random.key(0), x)
    output, found = linen_dormancy(model, variables, x, **options)
    jax.tree.map(np.testing.assert_array_equal, output, model.apply(variables, x))
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    p, d = variables["params"], found["params"]
    for network in ("actor", "critic"):
        hidden = act(jnp.asarray(dense(p[f"{network}_0"], x)))
        for leaf in ("kernel", "bias"):
            check(d[f"{network}_0"][leaf], hidden)
            check(d[f"{network}_1"][leaf], dense(p[f"{network}_1"], hidden))
    assert d["log_std"].shape == () and d["log_std"] == 1


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (2, 2))(x))
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


def test_linen_conv_layers_average_over_space_and_batch(getkey):
    x = jax.random.normal(getkey(), (3, 4, 4, 2))
    model = Convolutional()
    variables = model.init(getkey(), x)
    found = linen_dormancy(model, variables, x)[1]["params"]
    p = variables["params"]
    hidden = nn.relu(nn.Conv(4, (2, 2)).apply({"params": p["Conv_0"]}, x))
    check(found["Conv_0"]["kernel"], hidden)
    check(found["Dense_0"]["bias"], dense(p["Dense_0"], hidden.reshape(3, -1)))


@pytest.mark.parametrize("layer", [nn.Dense(4), nn.DenseGeneral((2, 4))])
def test_a_linen_module_that_is_one_layer(layer, x):
    variables = layer.init(jax.random.key(0), x)
    output, found = linen_dormancy(layer, variables, x)
    check(found["params"]["kernel"], output)
    check(found["params"]["bias"], output)


class Torso(nn.Module):
    """A shared torso, two heads."""

    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x):
        first, second, actor, critic = self.names
        h = nn.relu(nn.Dense(4, name=first)(x))
        h = nn.relu(nn.Dense(4, name=second)(h))
        return nn.Dense(2, name=actor)(h), nn.Dense(1, name=critic)(h)


@pytest.mark.parametrize(
    ("names", "networks"),
    [
        (("Dense_0", "Dense_1", "actor", "critic"), None),
        (
            ("Dense_0", "Dense_1", "Dense_2", "Dense_3"),
            {"torso": "Dense_[01]", "actor": "Dense_2", "critic": "Dense_3"},
        ),
    ],
    ids=["names", "networks"],
)
def test_both_layers_of_a_shared_torso_are_hidden(names, networks, x):
    model = Torso(names)
    variables = model.init(jax.random.key(0), x)
    found = linen_dormancy(model, variables, x, networks=networks)[1]["params"]
    p, h = variables["params"], x
    for name in names[:2]:
        h = jax.nn.relu(jnp.asarray(dense(p[name], h)))
        check(found[name]["kernel"], h)
    for name in names[2:]:
        check(found[name]["kernel"], dense(p[name], h))


def test_networks_find_the_heads_of_a_single_module(x):
    names = ("Dense_0", "Dense_1", "Dense_2", "Dense_3")
    model = Torso(names)
    variables = model.init(jax.random.key(0), x)
    networks = {"actor": "Dense_[0-2]", "critic": "Dense_3"}
    actor, critic = model.apply(variables, x)
    found = linen_dormancy(model, variables, x, networks=networks)[1]["params"]
    check(found["Dense_2"]["kernel"], actor)
    check(found["Dense_3"]["kernel"], critic)
    # Without them all four layers are one network, whose last is Dense_3 alone.
    found = linen_dormancy(model, variables, x)[1]["params"]
    check(found["Dense_2"]["kernel"], jax.nn.relu(actor))


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4)
        return nn.Dense(2)(nn.relu(layer(x)) + nn.relu(layer(-3 * x)))


def test_a_linen_layer_called_twice_counts_both_calls(x):
    model = Twice()
    variables = model.init(jax.random.key(0), x)
    found = linen_dormancy(model, variables, x)[1]["params"]
    both = jnp.concatenate([x, -3 * x])
    hidden = jax.nn.relu(jnp.asarray(dense(variables["params"]["Dense_0"], both)))
    check(found["Dense_0"]["kernel"], hidden)


class Scale(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", nn.initializers.ones, ())


def test_linen_without_layers_says_what_to_do_instead(x):
    variables = Scale().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"no layer was captured.*dormancy\("):
        linen_dormancy(Scale(), variables, x)


class Recurrent(nn.Module):
    """Layers inside linen's lifted transformations."""

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.remat(nn.Dense)(4, name="remat")(x))
        h = nn.relu(nn.jit(nn.Dense)(4, name="jit")(h))
        cell = nn.scan(
            nn.GRUCell, variable_broadcast="params", split_rngs={"params": False}
        )
        return nn.Dense(2, name="z")(cell(4, name="cell")(jnp.zeros(4), h)[1])


def test_lifted_linen_layers_leak_no_tracers(x):
    model = Recurrent()
    variables = model.init(jax.random.key(0), x)
    output, found = linen_dormancy(model, variables, x)
    hidden = jax.nn.relu(jnp.asarray(dense(variables["params"]["remat"], x)))
    check(found["params"]["remat"]["kernel"], hidden)
    hidden = jax.nn.relu(jnp.asarray(dense(variables["params"]["jit"], hidden)))
    check(found["params"]["jit"]["kernel"], hidden)
    check(found["params"]["z"]["kernel"], output)
    for value in jax.tree.leaves(found["params"]["cell"]):
        assert value.shape == () and value == 1


class Nested(nn.Module):
    """The call of the output layer holds that of the hidden one: it is Dense_0."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(8)(x)))


def test_dead_units_of_nested_calls_have_no_dormancy(x):
    model = Nested()
    variables = model.init(jax.random.key(0), x)
    layer = variables["params"]["Dense_1"]
    layer["bias"] = layer["bias"].at[:3].set(-50.0)
    output, found = linen_dormancy(model, variables, x)
    check(
        found["params"]["Dense_1"]["kernel"], jax.nn.relu(jnp.asarray(dense(layer, x)))
    )
    assert (np.asarray(found["params"]["Dense_1"]["bias"])[:3] < 1e-6).all()
    check(found["params"]["Dense_0"]["kernel"], output)


class Jitted(nn.Module):
    """Layers that are alike share a program, which is traced once."""

    @nn.compact
    def __call__(self, x):
        layer = nn.jit(nn.Dense)
        for name in ("z", "a", "b"):
            x = nn.relu(layer(3, name=name)(x))
        return layer(2, name="head")(x), [
            nn.jit(Nested)(name=n)(x) for n in ("q1", "q2")
        ]


def test_jitted_linen_layers_that_are_alike_are_all_captured(x):
    model = Jitted()
    variables = model.init(jax.random.key(0), x)
    (output, q), found = linen_dormancy(model, variables, x)
    p, d, h = variables["params"], found["params"], x
    for name in ("z", "a", "b"):
        h = jax.nn.relu(jnp.asarray(dense(p[name], h)))
        check(d[name]["kernel"], h)
    check(d["head"]["kernel"], output)
    for name, value in zip(("q1", "q2"), q, strict=True):
        check(d[name]["Dense_0"]["kernel"], value)
        hidden = jax.nn.relu(jnp.asarray(dense(p[name]["Dense_1"], h)))
        check(d[name]["Dense_1"]["kernel"], hidden)


class Attentive(nn.Module):
    @nn.compact
    def __call__(self, x):
        attention = nn.MultiHeadDotProductAttention(2, name="attention")
        return nn.Dense(2)(nn.relu(attention(nn.Dense(4, name="in")(x))))


def test_attention_is_hidden_and_its_projections_are_raw(x):
    model = Attentive()
    variables = model.init(jax.random.key(0), x)
    output, found = linen_dormancy(model, variables, x)
    p, d = variables["params"], found["params"]
    inner = jnp.asarray(dense(p["in"], x))
    value = jnp.einsum("bi,ihd->bhd", inner, p["attention"]["value"]["kernel"])
    check(d["attention"]["value"]["kernel"], value)
    attention = nn.MultiHeadDotProductAttention(2)
    hidden = attention.apply({"params": p["attention"]}, inner)
    check(d["attention"]["out"]["bias"], jax.nn.relu(hidden))
    check(d["Dense_0"]["kernel"], output)


def vmapped(module, size, **options):
    return nn.vmap(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        axis_size=size,
        **options,
    )


class Critics(nn.Module):
    nested: bool = False

    @nn.compact
    def __call__(self, x):
        critics = vmapped(Nested, 3)
        return (vmapped(critics, 2) if self.nested else critics)(name="qf")(x)


@pytest.mark.parametrize("nested", [False, True])
def test_an_ensemble_has_dormancy_per_member(nested, x):
    model = Critics(nested)
    variables = model.init(jax.random.key(0), x)

    @jax.jit
    def loss(variables):
        output, found = linen_dormancy(model, variables, x)
        return (output**2).sum(), (output, found)

    (_, (output, found)), _ = jax.value_and_grad(loss, has_aux=True)(variables)
    p, d = variables["params"]["qf"], found["params"]["qf"]
    for member in np.ndindex((2, 3) if nested else (3,)):
        hidden, last = (
            {leaf: p[layer][leaf][member] for leaf in ("kernel", "bias")}
            for layer in ("Dense_1", "Dense_0")
        )
        hidden = jax.nn.relu(jnp.asarray(dense(hidden, x)))
        check(d["Dense_1"]["kernel"][member], hidden)
        check(d["Dense_0"]["bias"][member], output[member])
    spread = broadcast_dormancy(found, variables)
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables)]
    assert [value.shape for value in spread] == shapes


def test_an_ensemble_with_shared_parameters_is_more_data(x):
    class Batched(nn.Module):
        @nn.compact
        def __call__(self, x):
            shared = {
                "variable_axes": {"params": None},
                "split_rngs": {"params": False},
            }
            return nn.vmap(Nested, **shared)(name="net")(x)

    model = Batched()
    variables = model.init(jax.random.key(0), x)
    output, found = linen_dormancy(model, variables, x)
    check(found["params"]["net"]["Dense_0"]["kernel"], output)


def test_a_recurrent_cell_is_measured_by_what_it_gives(x):
    class Stepping(nn.Module):
        @nn.compact
        def __call__(self, x):
            _, h = nn.GRUCell(4, name="cell")(jnp.zeros((6, 4)), x)
            return nn.Dense(2)(h), h

    model = Stepping()
    variables = model.init(jax.random.key(0), x)
    (output, h), found = linen_dormancy(model, variables, x)
    for gate in ("in", "hn", "hr"):
        check(found["params"]["cell"][gate]["kernel"], h)
    check(found["params"]["Dense_0"]["kernel"], output)


class TwoOutputs(nn.Module):
    """A shared torso with the actor's outputs unnamed, and twin critics."""

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(4, name="torso")(x))
        q = [Nested(name=f"q{i}")(h) for i in (1, 2)]
        return nn.Dense(2, name="action_head")(h), q


def test_every_output_layer_is_raw(x):
    model = TwoOutputs()
    variables = model.init(jax.random.key(0), x)
    (action, q), found = linen_dormancy(model, variables, x)
    d = found["params"]
    check(d["action_head"]["kernel"], action)
    check(
        d["torso"]["kernel"],
        jax.nn.relu(jnp.asarray(dense(variables["params"]["torso"], x))),
    )
    for i in (0, 1):
        check(d[f"q{i + 1}"]["Dense_0"]["kernel"], q[i])


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))
        self.sow("intermediates", "h", h)
        return nn.Dense(2)(nn.relu(h))


@pytest.mark.parametrize("mutable", [["batch_stats"], ["batch_stats", "intermediates"]])
def test_linen_keywords_and_mutable_collections_are_passed_on(mutable, x):
    model = Normalized()
    variables = model.init(jax.random.key(0), x, train=False)
    options = {"train": True, "mutable": mutable}
    (output, state), found = linen_dormancy(model, variables, x, **options)
    expected = model.apply(variables, x, **options)
    jax.tree.map(np.testing.assert_array_equal, (output, state), expected)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    assert jnp.shape(found["batch_stats"]["BatchNorm_0"]["mean"]) == ()
    plain = linen_dormancy(model, variables, x, train=False)[0]
    np.testing.assert_array_equal(plain, model.apply(variables, x, train=False))


def test_linen_in_a_jitted_loss_feeds_the_optimizer(x):
    model = Agent()
    params, rule = model.init(jax.random.key(0), x), tx()

    def loss(params):
        (actor, critic), d = linen_dormancy(model, params, x)
        return (actor**2).mean() + (critic**2).mean(), d

    def plain(params):
        actor, critic = model.apply(params, x)
        return (actor**2).mean() + (critic**2).mean()

    @jax.jit
    def step(params, state):
        (value, d), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = rule.update(grads, state, params, dormancy=d)
        return value, d, grads, optax.apply_updates(params, updates)

    value, d, grads, updated = step(params, rule.init(params))
    expected, plain_grads = jax.jit(jax.value_and_grad(plain))(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        grads,
        plain_grads,
    )
    inner = linen_dormancy(model, params, x)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), d, inner)
    assert jax.tree.structure(updated) == jax.tree.structure(params)


def test_no_gradient_flows_through_dormancy(x):
    model = nn.Dense(2)

    def total(params):
        return sum(v[0] for v in jax.tree.leaves(linen_dormancy(model, params, x)[1]))

    params = model.init(jax.random.key(0), x)
    assert not any(g.any() for g in jax.tree.leaves(jax.grad(total)(params)))


class NnxAgent(nnx.Module):
    """A convolution for a torso, two heads, and a parameter of its own."""

    def __init__(self, act):
        rngs = nnx.Rngs(0)
        self.act = act
        self.conv = nnx.Conv(1, 4, (2, 2), rngs=rngs)
        self.actor_0 = nnx.Linear(4, 5, rngs=rngs)
        self.actor_1 = nnx.Linear(5, 2, rngs=rngs)
        self.critic = nnx.Linear(4, 1, rngs=rngs)
        self.log_std = nnx.Param(jnp.zeros(2))

    def hidden(self, x):
        return self.act(self.conv(x)).mean((1, 2))

    def __call__(self, x):
        h = self.hidden(x)
        return self.actor_1(self.act(self.actor_0(h))), self.critic(h)


@pytest.mark.parametrize("options", ACTIVATIONS, ids=IDS)
def test_nnx_layers(options, getkey):
    x, act = jax.random.normal(getkey(), (3, 4, 4, 1)), options["activation"]
    model = NnxAgent(act)
    output, found = nnx_dormancy(model, x, **options)
    jax.tree.map(np.testing.assert_array_equal, output, model(x))
    state = nnx.state(model, nnx.Param)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    found = nnx.to_pure_dict(found)
    for leaf in ("kernel", "bias"):
        check(found["conv"][leaf], act(model.conv(x)))
        check(found["actor_0"][leaf], act(model.actor_0(model.hidden(x))))
        check(found["actor_1"][leaf], output[0])
        check(found["critic"][leaf], output[1])
    assert found["log_std"].shape == () and found["log_std"] == 1


def test_nnx_leaves_no_intermediates_behind(getkey):
    x, model = jax.random.normal(getkey(), (3, 4, 4, 1)), NnxAgent(jax.nn.relu)
    before = nnx.state(model)
    nnx_dormancy(model, x)
    assert jax.tree.structure(nnx.state(model)) == jax.tree.structure(before)


class NnxTwice(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        self.second = nnx.Linear(4, 2, rngs=nnx.Rngs(1))

    def __call__(self, x, *, factor):
        h = nnx.relu(self.first(x)) + nnx.relu(self.first(factor * x))
        return self.second(h)


def test_an_nnx_layer_called_twice_counts_both_calls(x):
    model = NnxTwice()
    found = nnx.to_pure_dict(nnx_dormancy(model, x, factor=-3)[1])
    hidden = jax.nn.relu(model.first(jnp.concatenate([x, -3 * x])))
    check(found["first"]["kernel"], hidden)


class NnxScale(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return x * self.scale


def test_nnx_without_layers_says_what_to_do_instead(x):
    with pytest.raises(ValueError, match="no layer was captured"):
        nnx_dormancy(NnxScale(), x)


class NnxNested(nnx.Module):
    """Names against the order of execution, a cell in a scan, and attention."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.z = nnx.Linear(3, 4, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(4, 4, rngs=rngs))
        self.y = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.a = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.a(nnx.relu(self.y(self.rnn(nnx.relu(self.z(x))))))


def test_nnx_layers_are_taken_in_the_order_in_which_they_run(x):
    model, x = NnxNested(), x[None]
    output, found = nnx_dormancy(model, x)
    found = nnx.to_pure_dict(found)
    check(found["a"]["kernel"], output)
    check(found["z"]["kernel"], jax.nn.relu(model.z(x)))
    inner = model.rnn(jax.nn.relu(model.z(x)))
    check(found["y"]["value"]["kernel"], model.y.value(inner))
    check(found["y"]["out"]["kernel"], jax.nn.relu(model.y(inner)))
    assert all(v == 1 for v in jax.tree.leaves(found["rnn"]))
    assert nnx.graphdef(model) == nnx.graphdef(NnxNested())


def test_nnx_ensembles_have_dormancy_per_member(x):
    @nnx.vmap(in_axes=0, out_axes=0)
    def critics(key):
        return NnxCritic(nnx.Rngs(key))

    class Model(nnx.Module):
        def __init__(self):
            self.critics = critics(jax.random.split(jax.random.key(0)))

        def __call__(self, x):
            call = nnx.vmap(lambda critic, x: critic(x), in_axes=(0, None))
            return call(self.critics, x)

    model = Model()
    output, found = nnx_dormancy(model, x)
    kernels = np.asarray(model.critics.z.kernel[...])
    for member in range(2):
        hidden = jax.nn.relu(jnp.asarray(np.asarray(x) @ kernels[member]))
        check(found["critics"]["z"]["kernel"][...][member], hidden)
        check(found["critics"]["a"]["bias"][...][member], output[member])


class NnxCritic(nnx.Module):
    def __init__(self, rngs):
        self.z = nnx.Linear(3, 4, rngs=rngs)
        self.a = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.a(nnx.relu(self.z(x)))


def test_nnx_in_a_jitted_loss_feeds_the_optimizer(getkey):
    x, model = jax.random.normal(getkey(), (3, 4, 4, 1)), NnxAgent(jax.nn.relu)
    optimizer = nnx.Optimizer(model, tx(), wrt=nnx.Param)

    def loss(model):
        (actor, critic), d = nnx_dormancy(model, x)
        return (actor**2).mean() + (critic**2).mean(), d

    @nnx.jit
    def step(model, optimizer):
        (_, d), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, grads, dormancy=d)
        return d

    expected = nnx_dormancy(model, x)[1]
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    d = step(model, optimizer)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), d, expected)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert not changed.pop("log_std")  # the loss does not use it
    assert all(jax.tree.leaves(changed))
