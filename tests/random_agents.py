"""Parameters as the agents of many libraries have them, drawn by hypothesis.

They are small, because each is compiled: at most about 12 leaves and 200 numbers.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import freeze
from hypothesis import strategies as st

# What modules are called in fifty models of purejaxrl, rejax, Stoix, SBX, Brax,
# CleanRL's jax files, JaxMARL, xland-minigrid, flax, equinox, haiku and transformers.
NAMES = (
    *("actor", "critic", "actor_mean", "actor_logstd", "action_head", "action_logits"),
    *("policy", "value", "policy_network", "value_network", "pi", "vf", "qf1", "qf2"),
    *("q_network", "target_network", "VmapCritic_0", "VectorCritic_0", "ensemble"),
    *("Dense_0", "Dense_1", "Conv_0", "LayerNorm_0", "BatchNorm_0", "Embed_0", "MLP_0"),
    *("ScannedRNN_0", "GRUCell_0", "OptimizedLSTMCell_0", "SelfAttention_0", "torso"),
    *("encoder", "decoder", "trunk", "head", "mlp/~/linear_0", "linear_1", "layers_0"),
    *("hidden_0", "fc1", "q_proj", "v_proj", "attn", "wte", "lm_head", "block_0"),
    *("RewardModel", "world_model", "params", "obs_norm", "log_alpha", "temperature"),
)
LEAF_NAMES = (("kernel", "bias"), ("weight", "bias"), ("w", "b"))
MOST_LEAVES, MOST_NUMBERS = 12, 200


class Pair(NamedTuple):
    value: Any
    policy: Any


class Single(NamedTuple):
    network: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    torso: Any
    head: Any


class Shape(NamedTuple):
    """Stands for a leaf until its dtype and its values are drawn."""

    axes: tuple[int, ...]


SIZES = st.sampled_from((1, 2, 3, 4))


@st.composite
def dense(draw: st.DrawFn, into: int | None = None) -> dict[str, Any]:
    kernel, bias = draw(st.sampled_from(LEAF_NAMES))
    outputs = draw(SIZES) if into is None else into
    layer = {kernel: Shape((draw(SIZES), outputs)), bias: Shape((outputs,))}
    if draw(st.booleans()):
        del layer[bias]
    return layer


@st.composite
def convolution(draw: st.DrawFn) -> dict[str, Any]:
    window, outputs = draw(st.sampled_from(((2,), (1, 3), (2, 2)))), draw(SIZES)
    return {"kernel": Shape((*window, 2, outputs)), "bias": Shape((outputs,))}


@st.composite
def cell(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):  # as haiku and equinox have it
        return {"w_h": Shape((2, 6)), "w_i": Shape((3, 6)), "b": Shape((6,))}
    return {gate: draw(dense(2)) for gate in ("hn", "in", "hr")}


@st.composite
def attention(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.sampled_from((("query", "key", "value"), ("q_proj", "v_proj"))))
    heads = {name: {"kernel": Shape((4, 2, 2))} for name in names}
    return {**heads, "out": {"kernel": Shape((2, 2, 4)), "bias": Shape((4,))}}


def norm(size: int) -> dict[str, Any]:
    return {"scale": Shape((size,)), "bias": Shape((size,))}


def bare(axes: tuple[int, ...]) -> Any:
    return Shape(axes)


LAYERS = st.one_of(
    dense(),
    dense(),
    convolution(),
    cell(),
    attention(),
    SIZES.map(norm),
    st.sampled_from(((5, 2), (4, 3))).map(lambda axes: {"embedding": Shape(axes)}),
    st.sampled_from(((), (4,), (6,), (0, 3), (1, 1))).map(bare),
    st.none(),
)


def is_shape(node: Any) -> bool:
    return isinstance(node, Shape)


@st.composite
def nested(draw: st.DrawFn, depth: int = 3) -> Any:
    """Draw a module: a layer, or a container of modules."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(LAYERS)
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    return draw(containers({name: draw(nested(depth - 1)) for name in names}))


@st.composite
def containers(draw: st.DrawFn, modules: dict[str, Any]) -> Any:
    parts, kind = list(modules.values()), draw(st.integers(0, 7))
    if kind == 0:
        return freeze(modules)
    if kind in (1, 2):
        return parts if kind == 1 else tuple(parts)
    if kind == 3 and len(parts) < 3:
        return (Single, Pair)[len(parts) - 1](*parts)
    if kind == 4 and len(parts) == 2:
        return Module(*parts)
    return modules


@st.composite
def shapes(draw: st.DrawFn) -> Any:
    """Draw the shapes of an agent, of which one module may be an ensemble."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    modules = {}
    for name in names:
        module = draw(nested())
        if draw(st.integers(0, 4)) == 0:
            module = jax.tree.map(
                lambda s: Shape((2, *s.axes)), module, is_leaf=is_shape
            )
        if is_small({**modules, name: module}):
            modules[name] = module
    return draw(containers(modules)) if modules else draw(dense())


def is_small(tree: Any) -> bool:
    sizes = [int(np.prod(s.axes)) for s in jax.tree.leaves(tree, is_leaf=is_shape)]
    return len(sizes) <= MOST_LEAVES and sum(sizes) <= MOST_NUMBERS


@st.composite
def agents(draw: st.DrawFn, dtypes: tuple[str, ...]) -> Any:
    """Draw parameters; their dtype is one, or a leaf's own in every fourth agent."""
    mixed = draw(st.integers(0, 3)) == 0
    dtype = draw(st.sampled_from(dtypes))
    random = np.random.default_rng(draw(st.integers(0, 2**16)))

    def array(shape: Shape) -> np.ndarray:
        own = random.choice(dtypes) if mixed else dtype
        scale = random.choice((0.5, 0.0), p=(0.8, 0.2))  # biases often start at 0
        return np.asarray(scale * random.standard_normal(shape.axes), jnp.dtype(own))

    return jax.tree.map(array, draw(shapes()), is_leaf=is_shape)


def gradients(params: Any, seed: int) -> Any:
    """Return normal gradients in the parameters' dtypes; some leaves have none."""
    random = np.random.default_rng(seed)

    def array(p: np.ndarray) -> np.ndarray:
        scale = random.choice((1.0, 0.0), p=(0.9, 0.1))
        return np.asarray(scale * random.standard_normal(p.shape), p.dtype)

    return jax.tree.map(array, params)
