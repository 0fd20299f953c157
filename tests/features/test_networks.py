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

from learned_opt_rl.features import LeafRole, leaf_roles

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
