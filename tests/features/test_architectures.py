"""Roles of public agents' parameters against expectations written by hand."""

import warnings

import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_opt_rl.features import explain, leaf_roles, named_leaves, roles_or_warning
from tests.features import architectures as a

IMAGE = jnp.ones((2, 4, 4, 3))
SEQUENCE = jnp.ones((2, 4, 5))
CORE = "ScannedRNN_0/GRUCell_0"
BLOCK = "Dense_0+LayerNorm_0 Dense_1"


def inside(module, layers):
    """Prefix every layer of a row with the module's name."""
    return " ".join(
        "+".join(f"{module}/{name}" for name in layer.split("+"))
        for layer in layers.split()
    )


GTRXL = " ".join(
    inside(
        f"transformer/tf_layers_{i}",
        "attention1/query+attention1/key+attention1/value+ln1 attention1/out "
        "dense1+ln2 dense2 gate1/Dense_0 gate1/Dense_1 gate1/gating_bias "
        "gate2/Dense_0 gate2/Dense_1 gate2/gating_bias",
    )
    for i in range(2)
)
SIMBA_BLOCKS = " ".join(inside(f"SimBaBlock_{i}", BLOCK) for i in range(2))
BRO_BLOCKS = " ".join(
    inside(f"BroNetBlock_{i}", "Dense_0+LayerNorm_0 Dense_1+LayerNorm_1")
    for i in range(2)
)
BRO = f"Dense_0+LayerNorm_0 {BRO_BLOCKS}"
QKV = "query+key+value"
DREAMER = "linear0+norm0 linear1+norm1"

# Name -> parameters, and for each network its layers from the first to the last;
# modules at one position are joined by "+". Paths are without "params".
AGENTS = {
    "purejaxrl": (
        lambda: a.shapes(a.PureJaxRL(), a.OBS),
        {"network": "Dense_0 Dense_1 Dense_2 Dense_3 Dense_4 Dense_5"},
    ),
    "purejaxrl convolutional": (
        lambda: a.shapes(a.PureJaxRL(convolutional=True), IMAGE),
        {"network": "Conv_0 Dense_0 Dense_1 Dense_2 Dense_3 Dense_4 Dense_5"},
    ),
    "purejaxrl continuous": (
        lambda: a.shapes(a.PureJaxRL(continuous=True), a.OBS),
        {"network": "Dense_0 Dense_1 Dense_2 Dense_3 Dense_4 Dense_5 log_std"},
    ),
    "purejaxrl recurrent": (
        lambda: a.shapes(a.PureJaxRLRecurrent(), a.OBS),
        {"network": f"Dense_0 {CORE} Dense_1 Dense_2 Dense_3 Dense_4"},
    ),
    "rejax": (
        lambda: a.shapes(a.RejaxPolicy(), a.OBS),
        {"network": "features/Dense_0 features/Dense_1 action_mean+action_log_std"},
    ),
    "rejax dueling": (
        lambda: a.shapes(a.RejaxDueling(), a.OBS),
        {"network": "RejaxMLP_0/Dense_0 RejaxMLP_0/Dense_1 Dense_0 Dense_1"},
    ),
    "stoix recurrent": (
        lambda: a.STOIX_RECURRENT,
        {
            "actor": inside(
                "actor_params",
                f"pre_torso/Dense_0 {CORE} post_torso/Dense_0 action_head/Dense_0",
            ),
            "critic": inside(
                "critic_params", "torso/Dense_0 torso/Dense_1 critic_head/Dense_0"
            ),
        },
    ),
    "stoix shared torso": (
        lambda: a.STOIX_SHARED,
        {
            "network": "shared_torso/Dense_0 shared_torso/Dense_1 action_head/Dense_0",
            "critic": "critic_head/Dense_0",
        },
    ),
    "sbx droq": (
        lambda: a.shapes(a.Sbx(a.SBXCritic), a.OBS),
        {
            "critic": inside(
                "qf/VmapSBXCritic_0",
                "Dense_0+LayerNorm_0 Dense_1+LayerNorm_1 Dense_2",
            )
        },
    ),
    "sbx simba": (
        lambda: a.shapes(a.Sbx(a.SimBa), a.OBS),
        {
            "critic": inside(
                "qf/VmapSimBa_0", f"Dense_0+LayerNorm_0 {SIMBA_BLOCKS} Dense_1"
            )
        },
    ),
    "bronet": (
        lambda: {
            "actor": a.shapes(a.BroActor(), a.OBS),
            "critic": a.shapes(a.Sbx(a.BroNet), a.OBS),
        },
        {
            "actor": f"{inside('actor/BroNet_0', BRO)} actor/Dense_0 actor/Dense_1",
            "critic": inside("critic/qf/VmapBroNet_0", BRO),
        },
    ),
    "brax": (
        lambda: a.BRAX,
        {
            "actor": inside("policy", "hidden_0 hidden_1 hidden_2"),
            "critic": inside("value", "hidden_0 hidden_1 hidden_2"),
        },
    ),
    "brax sac": (
        lambda: {"q_params": a.BRAX_SAC_Q},
        {
            "critic": "q_params/MLP_0/hidden_0+q_params/MLP_1/hidden_0 "
            "q_params/MLP_0/hidden_1+q_params/MLP_1/hidden_1"
        },
    ),
    "cleanrl": (
        lambda: a.CLEANRL,
        {
            "network": inside("network_params", "Conv_0 Conv_1 Dense_0"),
            "actor": "actor_params/Dense_0",
            "critic": "critic_params/Dense_0",
        },
    ),
    "jaxmarl mappo": (
        lambda: {
            "actor": a.shapes(a.PureJaxRLRecurrent((3,)), a.OBS),
            "critic": a.shapes(a.PureJaxRLRecurrent((1,)), a.OBS),
        },
        {
            name: inside(name, f"Dense_0 {CORE} Dense_1 Dense_2")
            for name in ("actor", "critic")
        },
    ),
    "xland": (
        lambda: a.XLAND,
        {
            "network": "Embed_0 Conv_0 Conv_1 VmapRNNModel_0/GRU_0 "
            "VmapRNNModel_0/GRU_1 Dense_0 Dense_1 Dense_2 Dense_3"
        },
    ),
    "transformer xl": (
        lambda: a.shapes(a.TransformerXL(), SEQUENCE),
        {
            "network": f"transformer/encoder {GTRXL}",
            "actor": "actor_ln1 actor_ln2 actor_out",
            "critic": "critic_ln1 critic_ln2 critic_out",
        },
    ),
    "pqn layer norm": (
        lambda: a.shapes(a.PQN(), IMAGE)["params"],
        {
            "network": "CNN_0/Conv_0+CNN_0/LayerNorm_0+BatchNorm_0 "
            "CNN_0/Dense_0+CNN_0/LayerNorm_1 Dense_0"
        },
    ),
    "pqn batch norm": (
        lambda: a.shapes(a.PQN("batch"), IMAGE)["params"],
        {
            "network": "CNN_0/Conv_0+CNN_0/BatchNorm_0+BatchNorm_0 "
            "CNN_0/Dense_0+CNN_0/BatchNorm_1 Dense_0"
        },
    ),
    "dreamer": (
        a.dreamer,
        {
            "network": "enc/mlp0+enc/mlp0norm enc/mlp1+enc/mlp1norm "
            "dyn/dynin0+dyn/dynin0norm dyn/dynin1+dyn/dynin1norm "
            "dyn/dynin2+dyn/dynin2norm dyn/dynhid0+dyn/dynhid0norm dyn/dyngru",
            "actor": f"{inside('pol/mlp', DREAMER)} pol/head/logits",
            "critic": f"{inside('val/mlp', DREAMER)} val/head/logits",
        },
    ),
    "equinox": (
        a.equinox_agent,
        {
            "network": "encoder+norm1 attention/query_proj+attention/key_proj+"
            "attention/value_proj attention/output_proj+norm2 memory",
            "actor": "actor/layers/0 actor/layers/1",
            "critic": "value",
        },
    ),
    "haiku": (
        lambda: jax.eval_shape(hk.transform(a.haiku_agent).init, a.KEY, IMAGE),
        {
            "network": "conv2_d linear+layer_norm "
            f"{inside('multi_head_attention', QKV)} multi_head_attention/linear lstm",
            "actor": "policy_head/~/linear_0 policy_head/~/linear_1",
            "critic": "value_head",
        },
    ),
    "nnx": (
        a.nnx_agent,
        {
            "network": f"encoder {inside('attention', QKV)} attention/out core",
            "actor": "actor/layers/0+actor/layers/1 actor/layers/3",
            "critic": "critic",
        },
    ),
}


# These have a value that no name marks, so it explores, with a warning.
UNNAMED_CRITICS = {
    "purejaxrl",
    "purejaxrl convolutional",
    "purejaxrl continuous",
    "purejaxrl recurrent",
    "rejax dueling",
    "xland",
}


@pytest.mark.parametrize("name", AGENTS)
def test_roles_are_those_written_by_hand(name):
    build, networks = AGENTS[name]
    places = {
        module: (network, i / max(len(layers.split()) - 1, 1))
        for network, layers in networks.items()
        for i, layer in enumerate(layers.split())
        for module in layer.split("+")
    }
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        roles = roles_or_warning(build(), None, None)
    assert bool(warned) == (name in UNNAMED_CRITICS), warned
    for role in roles:
        parts = [part for part in role.path.split("/") if part != "params"]
        path = "/".join(parts)
        owner = max((m for m in places if f"{path}/".startswith(f"{m}/")), key=len)
        network, position = places[owner]
        found = (role.network, pytest.approx(role.position), role.explored)
        assert found == (network, position, network != "critic"), path


def names(text):
    return text.split()


LAYERS = names(
    "Dense_0 Dense_1 Dense_2 Dense_10 Conv_0 Conv_1 ConvTranspose_0 Embed_0 linear "
    "linear_1 conv2_d fc1 fc2 hidden_0 hidden_1 layers_0 layers_2 dense1 encoder "
    "mean log_std_layer action_mean"
)
NORMS = names("LayerNorm_0 LayerNorm_1 BatchNorm_0 RMSNorm_0 layer_norm ln1 bn2")
CELLS = names("GRUCell_0 OptimizedLSTMCell_0 ScannedRNN_0 lstm gru core")
ATTENTION = names(
    "MultiHeadDotProductAttention_0 SelfAttention_0 attention1 multi_head_attention"
)
MODULES = names(
    "MLP_0 MLP_1 CNN_0 BroNetBlock_0 SimBaBlock_1 tf_layers_0 tf_layers_1 torso "
    "shared_torso actor critic policy value qf q1 q2 VectorCritic_0 ActorCritic_0 "
    "QNetwork_0 pre_torso post_torso actor_params critic_params"
)
PROJECTIONS = [
    names("query key value out"),
    names("q_proj k_proj v_proj o_proj"),
    names("query_proj key_proj value_proj output_proj"),
    names("q k v"),
    names("q_proj v_proj"),
    names("query key value linear"),
]


def arrays(*keys):
    shape = st.sampled_from([(), (1,), (3,), (3, 4), (4, 4), (2, 3, 4), (2, 2, 3, 4)])
    leaf = shape.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32))
    return st.fixed_dictionaries({key: leaf for key in keys})


def modules(keys, contents):
    return st.dictionaries(st.sampled_from(keys), contents, max_size=4)


layer = arrays("kernel", "bias")
attentions = modules(
    ATTENTION,
    st.sampled_from(PROJECTIONS).flatmap(
        lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, layer))
    ),
)
cells = modules(
    CELLS, st.fixed_dictionaries({gate: layer for gate in ("in", "hn", "hr")})
)
flat = st.builds(
    lambda *parts: {name: part for each in parts for name, part in each.items()},
    modules(LAYERS, layer),
    modules(NORMS, arrays("scale", "bias")),
    cells,
    attentions,
)
trees = st.recursive(
    flat,
    lambda inner: st.builds(lambda a, b: a | b, flat, modules(MODULES, inner)),
    max_leaves=6,
)


def groups(tree, wanted, prefix=""):
    """Paths of the modules with these names."""
    for name, child in tree.items():
        if name in wanted:
            yield f"{prefix}{name}/"
        elif isinstance(child, dict):
            yield from groups(child, wanted, f"{prefix}{name}/")


@settings(deadline=None)
@given(trees, st.sampled_from(["logits", "head", "output", "policy_head", "q_head"]))
def test_any_tree_of_real_names_is_read(tree, head):
    tree = {"torso": tree, head: {"kernel": jax.ShapeDtypeStruct((4, 2), jnp.float32)}}
    roles = leaf_roles(tree)
    found = {role.path: role for role in roles}
    assert list(found) == [leaf.path for leaf in named_leaves(tree)]
    assert all(0 <= role.position <= 1 for role in roles)
    for network in {role.network for role in roles}:
        positions = {role.position for role in roles if role.network == network}
        assert max(positions) == (len(positions) > 1)
        if found[f"{head}/kernel"].network == network:
            assert found[f"{head}/kernel"].position == max(positions)
    for prefix in groups(tree, ATTENTION):
        inner = {r.network for r in roles if r.path.startswith(prefix)}
        assert len(inner) == 1  # no projection alone changes the network
    for prefix in groups(tree, CELLS):
        inner = {r[1:] for r in roles if r.path.startswith(prefix)}
        assert len(inner) == 1
    assert len(explain(tree).splitlines()) >= len(roles) + 1
