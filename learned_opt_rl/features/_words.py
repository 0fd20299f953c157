"""What the names of modules and parameters mean."""

import functools
import re

# Kind -> words. They come from flax, haiku, equinox and public agents.
_TABLE = {
    "critic": "critic critics value values vf v val qf q baseline advantage advantages",
    "actor": "actor actors policy policies pi pol",
    # Projections inside attention. Outside attention, q and value name a critic.
    "query_key_value": "q k v kv qkv query queries key keys value values",
    "key": "k kv qkv query queries key keys",
    "projection": "proj projection to attention attn linear dense layer w c lora",
    "certain_projection": "proj projection to attention attn",
    "attention": "attention attn mha mhsa",
    "cell": "gru lstm rnn mgu recurrent",
    "cell_part": "cell optimized simple scanned scan conv vanilla core layer deep reset"
    " batched vmap peephole stacked",
    "gate": "ir iz in hr hz hn ii if if_ ig io hi hf hg ho i h ih hh dense_i dense_h",
    "norm": "norm norms ln bn gn renorm layernorm batchnorm rmsnorm groupnorm",
    "norm_leaf": "scale bias offset shift weight gamma beta mean var",
    "norm_sign": "scale offset gamma",
    "last_norm": "f final last out output",
    "dense": "dense linear fc hidden",
    # A Gaussian policy's, which has as many outputs as the mean.
    "spread": "std sigma stddev logstd scale",
    # Where a module stands among its siblings.
    "first": "embed embedding embeddings embedder emb encoder encoders enc stem input"
    " inputs in pre tokenizer cls token dynin",
    "convolution": "conv convs cnn convolution impala resnet",
    "late": "post down decoder dec dyngru predictor proj projection o contract",
    "head": "head heads logits logit output outputs out final readout mean mu loc std"
    " sigma stddev logstd advantage advantages value values obslogit priorlogit",
}
WORDS = {kind: frozenset(text.split()) for kind, text in _TABLE.items()}

_RANKS = ("first", "convolution", "", "late", "head")  # "" is any other name
MIDDLE, HEAD = _RANKS.index(""), _RANKS.index("head")


@functools.lru_cache(4096)
def words(name: str) -> frozenset[str]:
    """Return the words of a name: ``"valueHead_0"`` has value and head."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return frozenset(re.findall(r"[a-z]+", spaced.lower()))


def has(name: str, kind: str) -> bool:
    """Return whether one of the words of a name is of a kind."""
    return not WORDS[kind].isdisjoint(words(name))


@functools.lru_cache(4096)
def rank(name: str) -> int:
    """Return the rank of a module among its siblings, from the words of its name."""
    if has(name, "attention"):  # "MultiHeadAttention" is not a head
        return MIDDLE
    order = ("first", "head", "convolution", "late")  # a "value_encoder" is an encoder
    return _RANKS.index(next((kind for kind in order if has(name, kind)), ""))


def is_cell(name: str) -> bool:
    """Return whether a name such as ``"ScannedRNN_0"`` names a recurrent cell."""
    found = words(name)
    return has(name, "cell") and found <= WORDS["cell"] | WORDS["cell_part"]


def names_network(name: str, siblings: set[str], within_attention: bool) -> str | None:
    """Return the network that a name stands for: ``"critic"``, ``"actor"`` or None.

    ``"layer"`` marks a projection of attention. The names below it are ignored.
    """
    found = words(name)
    critic, actor = has(name, "critic"), has(name, "actor")
    if critic == actor:  # "ActorCritic_0" names both: the components inside decide
        return None
    inner = WORDS["query_key_value"] | WORDS["projection"] | WORDS["norm"]
    if actor or not found <= inner:
        return "actor" if actor else "critic"
    if any(has(sibling, "actor") for sibling in siblings):
        return "critic"
    inside = (
        within_attention
        or bool(found & (WORDS["certain_projection"] | WORDS["key"]))
        or any(has(sibling, "key") for sibling in siblings)
    )
    return "layer" if inside else "critic"


def stem(name: str) -> str:
    """Return a name without its numbers: ``"Dense_"`` for ``"Dense_2"``."""
    return re.sub(r"\d+", "", name).rstrip("_")


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``Dense_2`` before ``Dense_10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts)
