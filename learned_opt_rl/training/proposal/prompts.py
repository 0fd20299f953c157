"""The texts that a model gets: system prompts, the first request, and feedback.

The system prompts are the Markdown files in ``prompts``, filled in by ``$name``. They
state the momenta as they are computed; the published ones swap the two weights.

References:
    Goldie et al., "How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025,
    supplement D (what its prompts say; the words are ours).
"""

import functools
import importlib.resources
import json
import string
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from learned_opt_rl.training.proposal.archive import Member
from learned_opt_rl.training.proposal.scoring.evaluation import line

Target = Literal["drift", "no_features", "open", "open_recurrent"]
"""What a conversation looks for: a drift, or an optimizer by its inputs."""

TARGETS: tuple[Target, ...] = get_args(Target)


class Proposal(NamedTuple):
    """A proposal as it stands in a reply."""

    name: str
    thought: str
    code: str


class Scored(NamedTuple):
    """The code of a proposal and its fitness."""

    code: str
    fitness: float


_DRIFT = """def {name}(
    ratio: jnp.ndarray,
    advantage: jnp.ndarray,
    epsilon: float
) -> jnp.ndarray:
    excess = ratio - jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon)
    return {result}
"""
_MOMENTA = """    m_0_1: jnp.ndarray,
    m_0_5: jnp.ndarray,
    m_0_9: jnp.ndarray,
    m_0_99: jnp.ndarray,
    m_0_999: jnp.ndarray,
    m_0_9999: jnp.ndarray,
"""
_NO_FEATURES = f"""def {{name}}(
    p: jnp.ndarray,
{_MOMENTA}    g: jnp.ndarray,
    lr: float
) -> jnp.ndarray:
    return {{result}}
"""
_OPEN_ARGUMENTS = f"""def {{name}}(
    p: jnp.ndarray,
{_MOMENTA}    l_p: float,
    b_p: float,
    t_p: float,
    dorm: jnp.ndarray,
    g: jnp.ndarray,
    rand: jnp.ndarray,
    lr: float"""
_OPEN = f"""{_OPEN_ARGUMENTS}
) -> jnp.ndarray:
    return {{result}}
"""
_OPEN_RECURRENT = f"""{_OPEN_ARGUMENTS},
    iteration: float,
    var: jnp.ndarray
) -> tuple[jnp.ndarray, jnp.ndarray]:
    var = 0.999 * var + 0.001 * jnp.square(g)
    return {{result}}, var
"""
# Adam: the bias of both averages is corrected, and the root is guarded inside.
_FIRST, _SECOND = "m_0_9 / (1 - 0.9**iteration)", "var / (1 - 0.999**iteration)"
_ADAM = f"lr * ({_FIRST}) / jnp.sqrt({_SECOND} + 1e-8)"

_CODE: dict[Target, tuple[str, Proposal, Proposal]] = {
    "drift": (
        _DRIFT,
        Proposal("ppo_clip", "", "nn.relu(excess * advantage)"),
        Proposal(
            "tanh_clip",
            "A bounded excess keeps single samples from dominating the loss.",
            "nn.relu(jnp.tanh(excess) * advantage)",
        ),
    ),
    "no_features": (
        _NO_FEATURES,
        Proposal("sgd", "", "lr * g"),
        Proposal(
            "slow_momentum",
            "Gradients of single batches are noisy, so I use a momentum alone.",
            "lr * m_0_99",
        ),
    ),
    "open": (
        _OPEN,
        Proposal("sgd", "", "lr * g"),
        Proposal(
            "dormant_first",
            "Neurons that are rarely active should move further.",
            "lr * g / (dorm + 0.1)",
        ),
    ),
    "open_recurrent": (
        _OPEN_RECURRENT,
        Proposal("adam", "", _ADAM),
        Proposal(
            "noisy_adam",
            "A little noise that fades with lr may keep the policy exploring.",
            f"{_ADAM} + 0.1 * lr * rand",
        ),
    ),
}
"""A signature, the warm start and the worked example of each target."""


def warm_start(target: Target) -> Proposal:
    """Return the handcrafted algorithm that a conversation starts from."""
    form, start, _ = _CODE[target]
    return start._replace(code=form.format(name=start.name, result=start.code))


def rates(target: Target) -> str:
    """Return the rule whose tuned learning rates the proposals get: the warm start."""
    return "adam_like" if target == "open_recurrent" else "sgd"


def system(target: Target) -> str:
    """Return the system prompt of a conversation."""
    form, _, shown = _CODE[target]
    code = form.format(name=shown.name, result=shown.code)
    example = json.dumps(
        {"thought": shown.thought, "name": shown.name, "code": code}, indent=1
    )
    inputs = _text("optimizer_inputs.md")
    if target.startswith("open"):
        inputs += _text("open_inputs.md")
    returns = "Return only the result."
    mathematics = "elementwise mathematics and whole-array means, sums and norms"
    if target == "drift":
        # A drift judges one sample, so it may not reduce a batch.
        mathematics = "elementwise mathematics"
    if target == "open_recurrent":
        inputs += _text("recurrent_inputs.md")
        returns = "Return the update and the next `var`."
    name = "drift.md" if target == "drift" else "no_features.md"
    rules = string.Template(_text("rules.md").strip()).substitute(
        returns=returns, mathematics=mathematics
    )
    return string.Template(_text(name)).substitute(
        example=example, inputs=inputs, rules=rules
    )


_ARCHIVE = """def update_fn(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    # A momentum, with an update relative to the size of the parameters.
    var1 = 0.9 * var1 + 0.1 * g
    update = 0.001 * jnp.linalg.norm(w) * jnp.sign(var1)
    return update, var1, var2
"""


def initial() -> dict[str, str]:
    """Return the code of the four optimizers that a discovery starts from, by name.

    References:
        Goldie et al., "Do Symbolic or Black-Box Representations Generalise Better in
        Learned Optimisation?", 2025, appendix B.
    """
    text = _text("initial.json")
    return json.loads(text)


def thinker() -> str:
    """Return the system prompt of the role that suggests changes."""
    inputs = _text("archive_inputs.md").strip()
    return string.Template(_text("thinker.md")).substitute(inputs=inputs)


def coder() -> str:
    """Return the system prompt of the role that writes the suggested change."""
    return string.Template(_text("coder.md")).substitute(
        inputs=_text("archive_inputs.md").strip(),
        example=json.dumps({"code": _ARCHIVE}),
    )


def first(archive: Sequence[Scored]) -> str:
    """Return the first request, with the results so far."""
    results = json.dumps([one._asdict() for one in archive], indent=1)
    return f"Results so far:\n\n{results}\n\nSend the next proposal."


def fitness(value: float, details: str) -> str:
    """Return the feedback to a trained proposal."""
    return f"Fitness: {value:.6g}\n{details}\nSend the next proposal."


def invalid(message: str) -> str:
    """Return the feedback to a reply that cannot be used."""
    return f"This proposal is not valid: {message}\nSend another one."


def failed(message: str) -> str:
    """Return the feedback to a proposal whose training failed."""
    return f"Training with this proposal failed: {message}\nSend another one."


def to_refine(
    base: Member, others: Sequence[Member], ranks: Mapping[str, float]
) -> str:
    """Return the first message to the thinker, with the optimizer to improve."""
    texts = "\n\n".join(
        f"{m.code}\n{_results(m, ranks)}" for m in others if m.name != base.name
    )
    text = f"The optimizer to improve:\n\n{base.code}\n{_results(base, ranks)}\n\n"
    if texts:
        text += f"Others that are good in some environment:\n\n{texts}\n\n"
    return f"{text}Send your first suggestion."


def written(member: Member, current: Member, ranks: Mapping[str, float]) -> str:
    """Return the feedback to a suggestion, with the code that was trained with.

    The next suggestion is for ``current``, which may be an earlier optimizer.
    """
    which = "this optimizer."
    if current.name != member.name:
        which = f"the best one so far:\n\n{current.code}"
    return (
        f"The code that was written:\n\n{member.code}\n{_results(member, ranks)}\n\n"
        f"Send your next suggestion, for {which}"
    )


def unused(reason: str) -> str:
    """Return the feedback to a suggestion that led to no member."""
    return f"This suggestion added no optimizer: {reason}.\nSend another one."


def _results(member: Member, ranks: Mapping[str, float]) -> str:
    lines = [
        line(name, value, member.aucs[name], member.curves.get(name, ()))
        for name, value in member.returns.items()
    ]
    place = f"average rank {ranks[member.name]:.3g} of {len(ranks)} optimizers"
    lines.append(f"{place}, {member.size} operations and operands")
    return "\n".join([*lines, *(f"Warning: {text}" for text in member.warnings)])


@functools.cache
def _text(name: str) -> str:
    file = importlib.resources.files("learned_opt_rl.training.proposal") / "prompts"
    return (file / name).read_text(encoding="utf-8")
