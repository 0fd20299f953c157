"""What parameter paths say: network, layer and exploration."""

from typing import NamedTuple

import equinox as eqx
import flax.core
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from learned_opt_rl.errors import RolesWarning
from learned_opt_rl.features import LeafRole, explain, leaf_roles, roles_or_warning

ONE = jnp.ones(1)


def tree(*paths):
    """A nested dict with an array at each slash-separated path."""
    root = {}
    for path in paths:
        *parents, leaf = path.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = ONE
    return root


def by_path(parameters, networks=None):
    return {role.path: role for role in leaf_roles(parameters, networks)}


def positions(parameters, networks=None):
    return {role.path: role.position for role in leaf_roles(parameters, networks)}


def test_a_flax_style_actor_and_critic():
    layers = [f"Dense_{i}/{leaf}" for i in range(3) for leaf in ("bias", "kernel")]
    parameters = tree(
        *(f"actor/{name}" for name in layers), *(f"critic/{name}" for name in layers)
    )
    expected = [
        LeafRole(f"{network}/{name}", network, i // 2 / 2, network == "actor")
        for network in ("actor", "critic")
        for i, name in enumerate(layers)
    ]
    assert leaf_roles(parameters) == expected
    assert leaf_roles(flax.core.freeze(parameters)) == expected


@pytest.mark.parametrize(
    ("word", "network"),
    [
        *((word, "critic") for word in ["critic", "value", "values", "vf", "qf"]),
        *((word, "critic") for word in ["baseline", "Critic_0", "qf1", "value_fn"]),
        *((word, "critic") for word in ["ValueHead", "TwinCritic", "mlp_critic"]),
        *((word, "actor") for word in ["actor", "policy", "pi", "ActorHead", "pi_0"]),
        *((word, "network") for word in ["torso", "Dense_0", "evaluate", "pipe"]),
    ],
)
def test_the_words_of_a_path_choose_the_network(word, network):
    role = leaf_roles(tree(f"params/{word}/Dense_0/kernel"))[0]
    assert (role.network, role.explored) == (network, network != "critic")


def test_the_outermost_word_decides():
    roles = by_path(tree("critic/policy_torso/kernel", "actor/value_head/kernel"))
    assert roles["critic/policy_torso/kernel"].network == "critic"
    assert roles["actor/value_head/kernel"].network == "actor"


def test_parameters_named_value_are_a_critics():
    roles = by_path(tree("heads/policy", "heads/value"))
    assert not roles["heads/value"].explored
    assert roles["heads/policy"].explored


def test_numbers_in_names_are_ordered_as_numbers():
    parameters = tree(*(f"Dense_{i}/kernel" for i in (10, 2, 0, 9, 1)))
    assert positions(parameters) == {
        "Dense_0/kernel": 0.0,
        "Dense_1/kernel": 0.25,
        "Dense_2/kernel": 0.5,
        "Dense_9/kernel": 0.75,
        "Dense_10/kernel": 1.0,
    }


@pytest.mark.parametrize("root", ["", "params/", "params/actor/"])
def test_log_std_is_one_more_layer_the_last(root):
    parameters = tree(
        *(f"{root}{name}/kernel" for name in ("Dense_0", "Dense_1", "mean")),
        f"{root}log_std",
    )
    assert list(positions(parameters).values()) == [0.0, 1 / 3, 1.0, 2 / 3]


def test_several_leaves_beside_the_layers_are_a_layer_each():
    parameters = tree("actor/Dense_0/kernel", "actor/log_std", "actor/scale")
    assert list(positions(parameters).values()) == [0.0, 0.5, 1.0]


def test_networks_are_counted_apart():
    parameters = tree(
        "actor/a/w", "actor/b/w", "actor/c/w", "critic/a/w", "critic/b/w", "torso/a/w"
    )
    assert list(positions(parameters).values()) == [0.0, 0.5, 1.0, 0.0, 1.0, 0.0]


def test_haiku_paths():
    def network(x):
        actor = hk.nets.MLP([3, 3, 2], name="actor")(x)
        return actor, hk.nets.MLP([3, 1], name="critic")(x)

    parameters = hk.transform(network).init(jax.random.key(0), jnp.ones((1, 4)))
    found = by_path(parameters)
    assert found["actor/~/linear_1/w"] == LeafRole(
        "actor/~/linear_1/w", "actor", 0.5, True
    )
    assert found["critic/~/linear_1/b"][1:] == ("critic", 1.0, False)
    unnumbered = positions(tree("linear/w", "linear_1/w", "linear_2/w"))
    assert list(unnumbered.values()) == [0.0, 0.5, 1.0]


class EquinoxAgent(eqx.Module):
    actor: eqx.nn.MLP
    critic: eqx.nn.MLP
    log_std: jax.Array

    def __init__(self):
        self.actor = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
        self.critic = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(1))
        self.log_std = jnp.zeros(2)


def test_equinox_modules():
    found = by_path(eqx.filter(EquinoxAgent(), eqx.is_inexact_array))
    assert found["actor/layers/1/weight"][1:] == ("actor", 0.5, True)
    assert found["actor/layers/2/bias"].position == 1.0
    assert found["critic/layers/1/weight"][1:] == ("critic", 1.0, False)
    assert found["log_std"].explored


class NnxAgent(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.actor = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(3)])
        self.value = nnx.Linear(2, 1, rngs=rngs)
        self.log_std = nnx.Param(jnp.zeros(2))


def test_nnx_state_reads_as_the_module_does():
    model = NnxAgent()
    state = leaf_roles(nnx.state(model, nnx.Param))
    assert {role.path for role in state} == {
        *(f"actor/{i}/{leaf}" for i in range(3) for leaf in ("bias", "kernel")),
        *("log_std", "value/bias", "value/kernel"),
    }
    found = {role.path: role for role in state}
    assert found["actor/1/kernel"][1:] == ("actor", 0.5, True)
    assert found["value/kernel"][1:] == ("critic", 0.0, False)
    assert found["log_std"][1:] == ("network", 0.0, True)
    assert sorted(leaf_roles(model)) == sorted(state)


class Pair(NamedTuple):
    actor: jax.Array
    critic: jax.Array


def test_tuples_lists_and_named_tuples():
    layers = [(ONE, ONE), [ONE, ONE], (ONE, ONE)]
    assert [r[1:] for r in leaf_roles(layers)] == [
        ("network", p, True) for p in (0.0, 0.0, 0.5, 0.5, 1.0, 1.0)
    ]
    assert [r.explored for r in leaf_roles(Pair(ONE, ONE))] == [True, False]


def test_a_bare_leaf_and_an_empty_tree():
    assert leaf_roles(ONE) == [LeafRole("", "network", 0.0, True)]
    assert leaf_roles({}) == leaf_roles({"a": None}) == []


def test_masked_nodes_do_not_count():
    parameters = tree("a/w", "b/w") | {"c": {"w": optax.MaskedNode()}}
    assert list(positions(parameters).values()) == [0.0, 1.0]


class ActorCritic(nn.Module):
    """purejaxrl's: one module, six layers, and only their order tells them apart."""

    @nn.compact
    def __call__(self, x):
        actor = nn.Dense(2)(nn.tanh(nn.Dense(4)(nn.tanh(nn.Dense(4)(x)))))
        log_std = self.param("log_std", nn.initializers.zeros, (2,))
        critic = nn.Dense(1)(nn.tanh(nn.Dense(4)(nn.tanh(nn.Dense(4)(x)))))
        return actor, log_std, critic


@pytest.fixture(scope="module")
def single_module():
    return ActorCritic().init(jax.random.key(0), jnp.ones((1, 3)))


PATTERNS = {"actor": "Dense_[0-2]|log_std", "critic": "Dense_[3-5]"}


def test_patterns_split_a_single_module(single_module):
    found = by_path(single_module, PATTERNS)
    kernels = [found[f"params/Dense_{i}/kernel"][1:] for i in range(6)]
    assert kernels == [
        ("actor", 0.0, True),
        ("actor", 1 / 3, True),
        ("actor", 2 / 3, True),
        ("critic", 0.0, False),
        ("critic", 0.5, False),
        ("critic", 1.0, False),
    ]
    assert found["params/log_std"][1:] == ("actor", 1.0, True)


def test_a_sequence_of_patterns_names_the_layers_in_order(single_module):
    networks = {**PATTERNS, "actor": ["Dense_2", "Dense_1", "Dense_0|log_std"]}
    found = by_path(single_module, networks)
    order = [found[f"params/Dense_{i}/bias"].position for i in range(3)]
    assert order == [1.0, 0.5, 0.0]
    assert found["params/log_std"].position == 1.0
    assert found["params/Dense_4/bias"].position == 0.5


def test_a_leaf_that_several_layer_patterns_match_is_of_the_first():
    parameters = tree("Dense_1/w", "Dense_10/w")
    assert list(positions(parameters, {"net": ("Dense_10", "Dense_1")}).values()) == [
        1.0,
        0.0,
    ]


def test_masks_and_callables_choose_leaves(single_module):
    def critic(parameters):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: str(path[1].key) in {"Dense_3", "Dense_4", "Dense_5"},
            parameters,
        )

    mask = jax.tree.map(lambda flag: not flag, critic(single_module))
    by_mask = leaf_roles(single_module, {"actor": mask, "critic": critic})
    assert by_mask == leaf_roles(single_module, PATTERNS)


def test_a_mask_may_be_a_tree_prefix():
    parameters = [{"w": ONE, "b": ONE}, {"w": ONE}]
    networks = {"actor": [True, False], "critic": [np.bool_(False), np.bool_(True)]}
    assert [r.network for r in leaf_roles(parameters, networks)] == [
        "actor",
        "actor",
        "critic",
    ]


def test_a_mask_that_is_a_callable_module_is_still_a_mask():
    parameters = eqx.filter(eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.is_array)
    mask = jax.tree.map(lambda _: True, parameters)
    assert callable(mask)
    roles = leaf_roles(parameters, {"critic": mask})
    assert [role.network for role in roles] == ["critic", "critic"]


@pytest.mark.parametrize(
    ("name", "explored"),
    [("qf_1", False), ("my_critic", False), ("anything", True), ("actor", True)],
)
def test_the_name_of_an_override_says_whether_it_explores(name, explored):
    assert leaf_roles(ONE, {name: ""})[0].explored is explored


def test_a_leaf_without_a_network_is_named(single_module):
    with pytest.raises(ValueError, match=r"'params/log_std' matches none of \['a'"):
        leaf_roles(single_module, {"a": "Dense_[0-2]", "critic": "Dense_[3-5]"})


def test_a_leaf_of_two_networks_is_named(single_module):
    with pytest.raises(ValueError, match=r"Dense_2/bias' .*several: \['actor', 'cri"):
        leaf_roles(single_module, {**PATTERNS, "critic": "Dense_[2-5]"})


@pytest.mark.parametrize(
    ("selector", "match"),
    [
        ("Dense_(", "unterminated"),
        (["a", "*"], "nothing to repeat"),
        ({"other": True}, "pytree structure"),
        (lambda parameters: {"other": True}, "pytree structure"),
        (3, "leaves are"),
        ({"a": {"w": ONE}}, "leaves are"),
    ],
    ids=["regex", "regexes", "mask", "callable", "number", "arrays"],
)
def test_a_malformed_selector_is_refused_by_name(selector, match):
    with pytest.raises(ValueError, match=r"(?s)networks\['actor'\]=.*" + match):
        leaf_roles(tree("a/w"), {"actor": selector})


@pytest.mark.parametrize("networks", ["actor", ["actor", "critic"], 1])
def test_networks_that_are_no_mapping_are_refused(networks):
    with pytest.raises(TypeError, match="networks=.* must map network names"):
        leaf_roles(tree("a/w"), networks)


def test_a_head_comes_after_the_layers_its_name_sorts_before():
    parameters = tree("actor/Dense_0/w", "actor/Dense_1/w", "actor/action_logits/w")
    found = by_path(parameters)
    assert found["actor/action_logits/w"].position == 1.0
    assert found["actor/Dense_1/w"].position == 0.5


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("params/ActorCritic_0/actor/Dense_0/kernel", "actor"),
        ("actor_critic/critic/Dense_0/kernel", "critic"),
        ("policy_value_net/value_head/kernel", "critic"),
        ("QNetwork_0/Dense_0/kernel", "critic"),
        ("q1/Dense_0/kernel", "critic"),
        ("valueHead/kernel", "critic"),
        ("unique/kernel", "network"),
    ],
)
def test_names_that_hold_several_words(path, network):
    ((_, found, _, explored),) = leaf_roles(tree(path))
    assert (found, explored) == (network, network != "critic")


@pytest.mark.parametrize(
    ("paths", "critics"),
    [
        ("block_0/q_proj/w block_0/k_proj/w block_0/v_proj/w block_0/o_proj/w", ""),
        ("block_0/q_proj/lora_a block_0/v_proj/lora_a", ""),
        ("mha/to_q/w mha/to_kv/w mha/to_out/w", ""),
        ("layer/q layer/k layer/v", ""),
        ("SelfAttention_0/value/lora_a", ""),
        ("SelfAttention_0/value/kernel SelfAttention_0/query/kernel", ""),
        ("attn/q_ln/scale attn/query/w attn/key/w attn/value/critic/w", ""),
        ("Attention_0/c_attn/w Attention_0/key_value/w", ""),
        ("q/w v/w pi/w", "q/w v/w"),
        ("value_proj/w policy_proj/w", "value_proj/w"),
        (
            "AttentionActorCritic_0/value_head/w AttentionActorCritic_0/key/w",
            "value_head",
        ),
        ("critic/attention/query/w critic/attention/key/w", "critic"),
    ],
)
def test_the_names_inside_attention_name_no_critic(paths, critics):
    roles = leaf_roles(tree(*paths.split()))
    found = {role.path for role in roles if not role.explored}
    assert found == {p for p in paths.split() if any(c in p for c in critics.split())}


class Heads(NamedTuple):
    value: jax.Array
    policy: jax.Array


def test_fields_called_value_keep_their_name():
    roles = leaf_roles({"heads": Heads(ONE, ONE)})
    assert [(r.path, r.explored) for r in roles] == [
        ("heads/value", False),
        ("heads/policy", True),
    ]
    boxed = {"Dense_0": nn.Partitioned(ONE, names=("data",)), "w": nnx.Param(ONE)}
    assert [role.path for role in leaf_roles(boxed)] == ["Dense_0", "w"]


def kernels(**shapes):
    return {
        name: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
        for name, shape in shapes.items()
    }


ORDERS = {  # layers in the order in which they run; a dict sorts them by name
    "widths": kernels(zeta=(5, 8), beta=(8, 6), alpha=(6, 3)),
    "encoder": kernels(encoder=(5, 8), backbone=(8, 8), out=(8, 3)),
    "convolutions": kernels(Conv_0=(2, 2, 3, 4), Dense_0=(16, 8), Dense_1=(8, 3)),
    "block": {
        "up": kernels(fc=(5, 8)),
        "down": kernels(fc=(8, 5)),
        **kernels(head=(5, 3)),
    },
    "core": {
        **kernels(Dense_0=(5, 8)),
        "memory": kernels(ir=(8, 8), hr=(8, 8)),
        **kernels(Dense_1=(8, 3)),
    },
    "core before the only layer": {
        "OptimizedLSTMCell_0": kernels(ii=(5, 8), hi=(8, 8)),
        **kernels(Dense_0=(8, 3)),
    },
}


@pytest.mark.parametrize("name", ORDERS)
def test_layers_are_in_the_order_in_which_they_run(name):
    parameters = ORDERS[name]
    places = {}
    for role in leaf_roles(parameters):
        places.setdefault(role.path.split("/")[0], set()).add(role.position)
    expected = {key: {i / (len(places) - 1)} for i, key in enumerate(parameters)}
    assert places == expected


@pytest.mark.parametrize(
    ("norm", "layer"),
    [
        ("Dense_1_norm", "Dense_1"),
        ("bn_Dense_0", "Dense_0"),
        ("LayerNorm_0", "Dense_0"),
        ("final_norm", "Dense_1"),
    ],
)
def test_a_norm_has_the_position_of_the_layer_it_follows(norm, layer):
    scale = {norm: {"scale": ONE, "bias": ONE}}
    parameters = tree("Dense_0/w", "Dense_1/w", "head/w") | scale
    found = positions(parameters)
    assert found[f"{norm}/scale"] == found[f"{layer}/w"]
    assert list(found.values()).count(1.0) == 1  # the head
    lists = {"layers": [{"w": ONE}, {"w": ONE}], "norms": [{"scale": ONE}] * 2}
    assert list(positions(lists).values()) == [0.0, 1.0, 0.0, 1.0]


class HeadFirst(NamedTuple):
    head: dict
    zeta: dict
    alpha: dict


def test_fields_keep_their_order_but_a_head_is_last():
    parameters = HeadFirst(*({"w": ONE} for _ in HeadFirst._fields))
    assert list(positions(parameters).values()) == [1.0, 0.0, 0.5]


def test_a_norm_without_a_scale_is_known_by_its_name():
    found = positions(tree("Dense_0/w", "Dense_1/w", "LayerNorm_0/bias"))
    assert found["LayerNorm_0/bias"] == found["Dense_0/w"] == 0.0


def test_bare_arrays_are_layers_by_their_number():
    parameters = {f"{leaf}{i}": ONE for i in (1, 2, 10) for leaf in "wb"}
    found = positions({"pi": parameters, "q": {"w": ONE, "b": ONE}})
    assert found == {
        **{f"pi/{leaf}{i}": p for i, p in ((1, 0), (2, 0.5), (10, 1)) for leaf in "wb"},
        **{"q/w": 0, "q/b": 0},
    }


def test_twin_critics_count_side_by_side():
    parameters = tree(*(f"q{i}/Dense_{j}/kernel" for i in (1, 2) for j in range(3)))
    assert list(positions(parameters).values()) == [0.0, 0.5, 1.0] * 2
    assert not any(role.explored for role in leaf_roles(parameters))


def test_layers_override_the_order():
    parameters = tree("actor/a/w", "actor/b/w", "critic/a/w", "critic/b/w")
    swapped = {"layers": ["/b/", "/a/"]}
    assert [r.position for r in leaf_roles(parameters, **swapped)] == [1, 0, 1, 0]
    swapped = {"layers": {"critic": ["/b/", "/a/"]}}
    assert [r.position for r in leaf_roles(parameters, **swapped)] == [0, 1, 1, 0]
    together = {"networks": {"net": ["/a/", "/b/"]}, "layers": ["/b/", "."]}
    assert [r.position for r in leaf_roles(parameters, **together)] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("layers", "error", "match"),
    [
        (["/a/"], ValueError, "'net/b/w' matches none of .'/a/'.. Add a pattern"),
        (["("], ValueError, "layers= has '\\(', which is not a regular expression"),
        ({"actor": ["a"]}, ValueError, "'actor', but the parameters belong to"),
        ("/a/", TypeError, "must list regular expressions"),
        ([1], TypeError, "must list regular expressions"),
        ({"network": "a"}, TypeError, "must list regular expressions"),
        (3, TypeError, "must list regular expressions"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, error, match):
    with pytest.raises(error, match=match):
        leaf_roles(tree("net/a/w", "net/b/w"), layers=layers)


def two_networks(*widths):
    return tuple(kernels(Dense_0=(5, 8), Dense_1=(8, width)) for width in widths)


def test_a_guess_is_warned_of_once_with_the_way_out():
    parameters = two_networks(2, 1)
    with pytest.warns(RolesWarning, match=r"'0' and '1'.*explain\(params\).*networks="):
        roles = roles_or_warning(parameters, None, None)
    assert [role.position for role in roles] == [0, 1, 0, 1]
    roles_or_warning(parameters, None, None)  # the second time is silent
    assert "A guess: " in explain(parameters)


def test_the_warning_names_the_line_of_the_user_and_not_of_optax():
    guessing = optax.GradientTransformation(
        lambda params: roles_or_warning(params, None, None), lambda *_: ((), ())
    )
    tx = optax.chain(optax.identity(), guessing)
    with pytest.warns(RolesWarning) as caught:
        tx.init(two_networks(3, 1, 1))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("parameters", "layer"),
    [
        # purejaxrl's agent
        (kernels(Dense_0=(5, 8), Dense_1=(8, 2), Dense_2=(5, 8), Dense_3=(8, 1)), 3),
        # a common trunk
        (kernels(Dense_0=(5, 9), Dense_1=(9, 2), Dense_4=(9, 1)), 4),
        # a named actor beside an unnamed critic
        ({"actor": kernels(Dense_0=(5, 2)), "net": kernels(Dense_6=(5, 1))}, 6),
        # equinox has [out, in]
        (
            {
                f"Dense_{i}": {"weight": np.ones((out, before)), "bias": np.ones(out)}
                for i, (before, out) in enumerate([(5, 9), (9, 2), (9, 1)])
            },
            2,
        ),
    ],
)
def test_a_value_without_a_name_is_warned_of(parameters, layer):
    message = rf"Dense_{layer}' has one output, like the value of a critic.*networks="
    with pytest.warns(RolesWarning, match=message):
        roles_or_warning(parameters, None, None)
    heads = {"critic": f"Dense_{layer}", "actor": f"Dense_(?!{layer})"}
    roles_or_warning(parameters, heads, None)  # warnings are errors


def test_an_order_that_only_the_alphabet_gives_is_a_guess():
    parameters = kernels(joint=(11, 8), trunk=(5, 8), head=(8, 3))
    with pytest.warns(
        RolesWarning, match="'joint' and 'trunk' are in alphabetical order"
    ):
        roles_or_warning(parameters, None, None)
    roles_or_warning(parameters, None, ["trunk", "joint", "head"])


@pytest.mark.parametrize(
    ("parameters", "networks"),
    [
        (two_networks(3, 1), {"actor": "^0/", "critic": "^1/"}),
        ({"actor": two_networks(3, 1)[0], "critic": two_networks(3, 1)[1]}, None),
        ({f"Block_{i}": kernels(Dense_0=(8, 8), Dense_1=(8, 8)) for i in (0, 1)}, None),
        (kernels(Dense_0=(5, 8), Dense_1=(8, 8), Dense_2=(8, 1)), None),
        (kernels(Dense_0=(5, 8), mean=(8, 1), log_std=(8, 1)), None),
        (kernels(Dense_0=(5, 8), Dense_1=(8, 3), value=(8, 1)), None),
        (kernels(Dense_0=(5, 8), Dense_1=(8, 3), Dense_2=(8, 5)), None),
    ],
    ids=["networks", "names", "blocks", "one", "gaussian", "named", "two_actions"],
)
def test_certain_roles_are_silent(parameters, networks):
    roles_or_warning(parameters, networks, None)  # warnings are errors
    assert "A guess: " not in explain(parameters, networks)


def test_explain_prints_what_leaf_roles_reads(capsys, single_module):
    table = explain(single_module, PATTERNS, {"critic": ["Dense_5", "."]})
    assert capsys.readouterr().out == f"{table}\n"
    rows = [row.split() for row in table.splitlines()]
    assert rows[0] == ["leaf", "shape", "network", "layer", "position", "explored"]
    assert rows[2][-5:] == ["2)", "actor", "0", "0.00", "yes"]
    assert rows[-2][-4:] == ["critic", "0", "0.00", "no"]
    assert len(rows) == 1 + len(leaf_roles(single_module))
