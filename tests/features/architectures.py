"""Public agents' parameter trees: modules with their names and widths, no weights."""

import functools

import equinox as eqx
import flax.linen as nn
import flax.struct
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

KEY = jax.random.key(0)
OBS = jnp.ones((2, 5))


def shapes(module, *args, **options):
    """The parameters of a linen module, as shapes."""
    return jax.eval_shape(functools.partial(module.init, **options), KEY, *args)


def tree(**layers):
    """A tree from ``actor__Dense_0=(4, 8)``: kernels of these shapes, and biases."""
    root = {}
    for path, shape in layers.items():
        node = root
        for part in path.split("__"):
            node = node.setdefault(part, {})
        node["kernel"] = jax.ShapeDtypeStruct(shape, jnp.float32)
        node["bias"] = jax.ShapeDtypeStruct(shape[-1:], jnp.float32)
    return root


def dense(x, *widths):
    for width in widths[:-1]:
        x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(widths[-1])(x)


class PureJaxRL(nn.Module):
    """luchris429/purejaxrl: actor then critic, the layers numbered through."""

    continuous: bool = False
    convolutional: bool = False

    @nn.compact
    def __call__(self, x):
        if self.convolutional:
            x = nn.relu(nn.Conv(6, (2, 2))(x)).reshape(len(x), -1)
        actor = dense(x, 8, 8, 3)
        if self.continuous:
            self.param("log_std", nn.initializers.zeros, (3,))
        return actor, dense(x, 8, 8, 1)


class ScannedRNN(nn.Module):
    @functools.partial(
        nn.scan, variable_broadcast="params", split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry, x):
        return nn.GRUCell(8)(carry, x)


class PureJaxRLRecurrent(nn.Module):
    """luchris429/purejaxrl, ppo_rnn; FLAIROx/JaxMARL has the same for each network."""

    heads: tuple = (3, 1)

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8)(x))
        _, x = ScannedRNN()(jnp.zeros(8), x)
        return [dense(x, 8, head) for head in self.heads]


class RejaxMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(dense(x, 8, 8))


class RejaxPolicy(nn.Module):
    """keraJLi/rejax: features, and one or two heads."""

    def setup(self):
        self.features = RejaxMLP()
        self.action_mean = nn.Dense(3)
        self.action_log_std = nn.Dense(3)

    def __call__(self, x):
        x = self.features(x)
        return self.action_mean(x), self.action_log_std(x)


class RejaxDueling(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = RejaxMLP()(x)
        return nn.Dense(1)(x) + nn.Dense(3)(x)


class SBXCritic(nn.Module):
    """araffin/sbx: a critic with layer norm, as in DroQ."""

    @nn.compact
    def __call__(self, x):
        for width in (8, 8):
            x = nn.relu(nn.LayerNorm()(nn.Dense(width)(x)))
        return nn.Dense(1)(x)


class SimBaBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + dense(nn.LayerNorm()(x), 32, 8)


class SimBa(nn.Module):
    """SonyResearch/simba, araffin/sbx: residual blocks with a norm first."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        for _ in range(2):
            x = SimBaBlock()(x)
        return nn.Dense(3)(nn.LayerNorm()(x))


class BroNetBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.LayerNorm()(nn.Dense(8)(x)))
        return x + nn.LayerNorm()(nn.Dense(8)(y))


class BroNet(nn.Module):
    """naumix/BiggerRegularizedOptimistic: residual blocks with a norm last."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Dense(8)(x)))
        for _ in range(2):
            x = BroNetBlock()(x)
        return x


class BroActor(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = BroNet()(x)
        return nn.Dense(3)(x), nn.Dense(3)(x)


def ensemble(critic):
    """A class of two critics, as araffin/sbx makes it."""

    class VectorCritic(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.vmap(
                critic,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=None,
                axis_size=2,
            )()(x)

    return VectorCritic


class Sbx(nn.Module):
    critic: type

    def setup(self):
        self.qf = ensemble(self.critic)()

    def __call__(self, x):
        return self.qf(x)


class PQNEncoder(nn.Module):
    norm: str

    @nn.compact
    def __call__(self, x):
        def norm(x):
            if self.norm == "layer":
                return nn.relu(nn.LayerNorm()(x))
            return nn.relu(nn.BatchNorm(use_running_average=True)(x))

        x = norm(nn.Conv(6, (2, 2))(x)).reshape(len(x), -1)
        return norm(nn.Dense(8)(x))


class PQN(nn.Module):
    """mttga/purejaxql: norms after every layer, and one before the first."""

    norm: str = "layer"

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(x)
        x = PQNEncoder(self.norm, name="CNN_0")(x)
        return nn.Dense(3)(x)


XLAND = tree(  # corl-team/xland-minigrid: Sequential names its layers in the parent
    params__Conv_0=(2, 2, 4, 6),
    params__Conv_1=(2, 2, 6, 6),
    params__Dense_0=(9, 8),
    params__Dense_1=(8, 3),
    params__Dense_2=(9, 8),
    params__Dense_3=(8, 1),
)
XLAND["params"]["Embed_0"] = {"embedding": jnp.zeros((3, 2))}
XLAND["params"]["VmapRNNModel_0"] = {
    f"GRU_{i}": {
        "Wi": jnp.zeros((27, 98 if i == 0 else 9)),
        "Wh": jnp.zeros((27, 9)),
        "bi": jnp.zeros(27),
        "bn": jnp.zeros(9),
    }
    for i in range(2)
}


class Gating(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.param("gating_bias", nn.initializers.zeros, (8,))
        return sum(nn.Dense(8, use_bias=False)(x) for _ in range(2))


class TransformerLayer(nn.Module):
    def setup(self):
        self.attention1 = nn.MultiHeadDotProductAttention(num_heads=2)
        self.ln1, self.ln2 = nn.LayerNorm(), nn.LayerNorm()
        self.dense1, self.dense2 = nn.Dense(8), nn.Dense(8)
        self.gate1, self.gate2 = Gating(), Gating()

    def __call__(self, x):
        x = self.gate1(self.attention1(self.ln1(x)))
        return self.gate2(self.dense2(self.dense1(self.ln2(x))))


class Transformer(nn.Module):
    def setup(self):
        self.encoder = nn.Dense(8)
        self.tf_layers = [TransformerLayer() for _ in range(2)]

    def __call__(self, x):
        x = self.encoder(x)
        for layer in self.tf_layers:
            x = layer(x)
        return x


class TransformerXL(nn.Module):
    """Reytuag/transformerXL_PPO_JAX (PPO-GTrXL on Craftax)."""

    def setup(self):
        self.transformer = Transformer()
        self.actor_ln1, self.actor_ln2 = nn.Dense(8), nn.Dense(8)
        self.actor_out = nn.Dense(3)
        self.critic_ln1, self.critic_ln2 = nn.Dense(8), nn.Dense(8)
        self.critic_out = nn.Dense(1)

    def __call__(self, x):
        x = self.transformer(x)
        actor = self.actor_out(self.actor_ln2(self.actor_ln1(x)))
        return actor, self.critic_out(self.critic_ln2(self.critic_ln1(x)))


@flax.struct.dataclass
class CleanRLParams:
    """vwxyzjn/cleanrl, ppo_atari_envpool_xla_jax_scan."""

    network_params: dict
    actor_params: dict
    critic_params: dict


CLEANRL = CleanRLParams(
    tree(
        params__Conv_0=(8, 8, 4, 6),
        params__Conv_1=(4, 4, 6, 6),
        params__Dense_0=(24, 8),
    ),
    tree(params__Dense_0=(8, 3)),
    tree(params__Dense_0=(8, 1)),
)


@flax.struct.dataclass
class BraxParams:
    """google/brax, PPONetworkParams."""

    policy: dict
    value: dict


BRAX = BraxParams(
    tree(params__hidden_0=(5, 8), params__hidden_1=(8, 8), params__hidden_2=(8, 6)),
    tree(params__hidden_0=(5, 8), params__hidden_1=(8, 8), params__hidden_2=(8, 1)),
)
BRAX_SAC_Q = tree(  # q_network of brax's SAC: two critics without a critic's name
    params__MLP_0__hidden_0=(8, 8),
    params__MLP_0__hidden_1=(8, 1),
    params__MLP_1__hidden_0=(8, 8),
    params__MLP_1__hidden_1=(8, 1),
)


@flax.struct.dataclass
class ActorCriticParams:
    """EdanToledo/Stoix: two trees, or a shared torso."""

    actor_params: dict
    critic_params: dict


STOIX_RECURRENT = ActorCriticParams(
    tree(
        params__pre_torso__Dense_0=(5, 8),
        params__ScannedRNN_0__GRUCell_0__in=(8, 8),
        params__ScannedRNN_0__GRUCell_0__hn=(8, 8),
        params__post_torso__Dense_0=(8, 8),
        params__action_head__Dense_0=(8, 3),
    ),
    tree(
        params__torso__Dense_0=(5, 8),
        params__torso__Dense_1=(8, 8),
        params__critic_head__Dense_0=(8, 1),
    ),
)
STOIX_SHARED = tree(
    params__shared_torso__Dense_0=(5, 8),
    params__shared_torso__Dense_1=(8, 8),
    params__action_head__Dense_0=(8, 3),
    params__critic_head__Dense_0=(8, 1),
)


def dreamer():
    """danijar/dreamerv3: ninjax's flat dict."""
    leaves = {}

    def linear(name, into, out, norm=True):
        leaves[f"{name}/kernel"], leaves[f"{name}/bias"] = (into, out), (out,)
        if norm:
            at, _, last = name.rpartition("/")
            last = f"norm{last[6:]}" if last.startswith("linear") else f"{last}norm"
            leaves[f"{at}/{last}/scale"] = (out,)

    for i, (into, out) in enumerate([(5, 8), (8, 8)]):
        linear(f"enc/mlp{i}", into, out)
    for name, into in (("dynin0", 8), ("dynin1", 6), ("dynin2", 3), ("dynhid0", 32)):
        linear(f"dyn/{name}", into, 8)
    linear("dyn/dyngru", 8, 24, norm=False)
    for name, out in (("pol", 3), ("val", 255)):
        linear(f"{name}/mlp/linear0", 14, 8)
        linear(f"{name}/mlp/linear1", 8, 8)
        linear(f"{name}/head/logits", 8, out, norm=False)
    return {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in sorted(leaves.items())}


class EquinoxAgent(eqx.Module):
    """Fields in the order of the forward pass, which is not the alphabet's."""

    encoder: eqx.nn.Linear
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    memory: eqx.nn.GRUCell
    actor: eqx.nn.MLP
    value: eqx.nn.Linear

    def __init__(self):
        self.encoder = eqx.nn.Linear(5, 8, key=KEY)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(8), eqx.nn.LayerNorm(8)
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=KEY)
        self.memory = eqx.nn.GRUCell(8, 8, key=KEY)
        self.actor = eqx.nn.MLP(8, 3, 8, 1, key=KEY)
        self.value = eqx.nn.Linear(8, 1, key=KEY)


def equinox_agent():
    return eqx.filter(EquinoxAgent(), eqx.is_inexact_array)


def haiku_agent(x):
    """dm-haiku: a convolution, attention, an LSTM and two heads."""
    x = jax.nn.relu(hk.Conv2D(4, 2)(x)).reshape(len(x), -1)
    x = hk.Linear(8)(x)
    x = hk.MultiHeadAttention(2, 4, w_init=hk.initializers.Constant(0.1))(x, x, x)
    x = hk.LayerNorm(-1, True, True)(x)
    x, _ = hk.LSTM(8)(x, hk.LSTMState(jnp.zeros((2, 8)), jnp.zeros((2, 8))))
    policy = hk.nets.MLP([8, 3], name="policy_head")(x)
    return policy, hk.Linear(1, name="value_head")(x)


class NnxAgent(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.encoder = nnx.Linear(5, 8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.core = nnx.OptimizedLSTMCell(8, 8, rngs=rngs)
        self.actor = nnx.Sequential(
            nnx.Linear(8, 8, rngs=rngs),
            nnx.LayerNorm(8, rngs=rngs),
            jax.nn.relu,
            nnx.Linear(8, 3, rngs=rngs),
        )
        self.critic = nnx.Linear(8, 1, rngs=rngs)


def nnx_agent():
    return nnx.state(nnx.eval_shape(NnxAgent), nnx.Param)
