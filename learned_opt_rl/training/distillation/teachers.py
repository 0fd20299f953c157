"""Teachers: rules to imitate, found by name or by path, over sequences of tensors."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl import artifacts, expressions, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.registry import load_folder
from learned_opt_rl.artifacts.weights import read_limited
from learned_opt_rl.evaluation.runs.rules import Rule, of_artifact
from learned_opt_rl.expressions import Function
from learned_opt_rl.families.expression import Form
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules import discovered, lpo, parts
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.training import learned
from learned_opt_rl.training.distillation.inputs import Tensors
from learned_opt_rl.training.learned import distillable
from learned_opt_rl.training.run_folder import CONFIG, read_run

MARGIN = 1e-6
"""Margin of LPO's drift during distillation, for teacher and student.

The authors distill with 1e-6 and train with 1e-4 (Goldie et al. 2025, released code).
"""

_SIGN_MOMENTUM = """optimizer
inputs g, t_p
memory m = momentum(0.9)
constant c = {constant!r}
return c * (1 - t_p) * sign(m)
"""


class Unrolled(NamedTuple):
    """An optimizer over sequences, without the subtraction of the mean update."""

    # (weights, inputs) -> update [K, t, n] to subtract; memory starts empty
    update: Callable[[Any, Tensors], jax.Array]
    noisy: bool  # whether it adds noise
    stateful: bool  # whether it has memory besides the momenta in the inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A rule that a student imitates."""

    name: str  # as given
    algorithm: str  # its family, for example "open" or "expression"
    sizes: Mapping[str, Any] | None  # of a network; None for an expression
    sha256: str  # of the weights or the text
    weights: Any  # of a network, or the constants of an expression
    unrolled: Unrolled | None  # an optimizer over sequences; None for anything else
    drift: Drift | None  # None for anything else
    rule: Callable[[Any, str], Rule]  # (config, environment) -> rule that trains agents
    environments: tuple[str, ...] = ()  # where it was trained, if that is known
    zero_mean: bool = False  # whether an optimizer subtracts its mean update
    specialists: "tuple[Teacher, ...]" = ()  # each for the environments of its training

    def of(self, environment: str) -> "Teacher":
        """Return the first specialist that was trained in an environment, or itself.

        Raises:
            ValueError: There are specialists, and none was trained there.
        """
        if not self.specialists:
            return self
        for one in self.specialists:
            # Cards name a version, as in "Asterix-MinAtar (gymnax 0.0.6)".
            if environment in (name.partition(" ")[0] for name in one.environments):
                return one
        raise ValueError(
            f"teacher={self.name!r}: none was trained in {environment}; add one that "
            "was, or leave out the environment"
        )

    @property
    def kind(self) -> str:
        """``"optimizer"``, ``"drift"`` or ``"update rule"``."""
        if self.drift is not None:
            return "drift"
        return "optimizer" if self.unrolled is not None else "update rule"


def teacher(
    name: str,
    *,
    learning_rate: float | None = None,
    like: tuple[str, Mapping[str, Any]] | None = None,
) -> Teacher:
    """Find a teacher.

    Args:
        name: Name of an artifact; folder of an artifact or of a run of ``train``, whose
            best weights are used; file with an expression; ``"sign_momentum:RATE"``,
            which is ``RATE * (1 - t_p) * sgn m_0.9``; or ``"random:SEED"``. Several
            optimizers, joined by ``+``, are specialists.
        learning_rate: Value of an expression's input ``lr``; by default its card's.
        like: Algorithm and sizes of a random teacher.

    Raises:
        ValueError: The teacher does not exist, or cannot be read or imitated.

    Example:
        >>> teacher("sign_momentum:8e-4").unrolled.stateful
        False
    """
    kind, colon, value = name.partition(":")
    path = pathlib.Path(name)
    if colon and kind == "sign_momentum":
        text = _SIGN_MOMENTUM.format(constant=_number(name, value))
        return _expression(name, text.encode(), learning_rate)
    if colon and kind == "random":
        return _random(name, _number(name, value), like)
    if "+" in name and not path.exists():
        several = [teacher(one, learning_rate=learning_rate) for one in name.split("+")]
        return _specialists(name, several)
    if path.is_file():
        content = read_limited(path, "give another file")
        return _expression(name, content, learning_rate)
    if (path / CONFIG).is_file():
        return _of_run(name, path, learning_rate)
    if (path / "card.json").is_file():
        artifact = load_folder(path)
    else:
        artifact = artifacts.load(name)
    return _of_artifact(name, artifact, learning_rate)


def _specialists(name: str, several: list[Teacher]) -> Teacher:
    first = several[0]
    if any(one.algorithm != first.algorithm or not one.sizes for one in several):
        raise ValueError(
            f"teacher={name!r}: specialists must be networks of one algorithm, not "
            f"{', '.join(one.algorithm for one in several)}"
        )
    digest = hashlib.sha256("".join(one.sha256 for one in several).encode())

    def rule(config: Any, environment: str) -> Rule:
        return made.of(environment).rule(config, environment)

    made = dataclasses.replace(
        first,
        name=name,
        sha256=digest.hexdigest(),
        rule=rule,
        specialists=tuple(several),
        environments=tuple(n for one in several for n in one.environments),
    )
    return made


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"teacher={name!r}: {text!r} must be a number, at least 0, for example "
            "sign_momentum:8e-4 or random:0"
        )
    return number


def _random(
    name: str, seed: float, like: tuple[str, Mapping[str, Any]] | None
) -> Teacher:
    if seed != int(seed):
        raise ValueError(f"teacher={name!r} needs a whole number, for example random:0")
    if like is None:
        raise ValueError(
            f"teacher={name!r} takes the student's sizes; give those, for example "
            "open:32"
        )
    algorithm, sizes = like
    made = families.find(algorithm).make_sizes(sizes)
    weights = learned.draw(algorithm, made, jax.random.key(int(seed)))
    digest = hashlib.sha256(name.encode()).hexdigest()
    return _network(name, algorithm, sizes, weights, digest)


def _of_run(name: str, folder: pathlib.Path, learning_rate: float | None) -> Teacher:
    try:
        run = read_run(folder)
    except ValueError as error:
        raise ValueError(f"teacher={name!r}: {error}") from error
    if run.algorithm == "expression":
        text = Form(**run.architecture).evolved(run.weights).to_text()
        return _expression(name, text.encode(), learning_rate)
    made = _network(name, run.algorithm, run.architecture, run.weights, run.sha256)
    return dataclasses.replace(made, environments=run.environments)


def _of_artifact(
    name: str, artifact: artifacts.Artifact, learning_rate: float | None
) -> Teacher:
    card = artifact.card
    if card.algorithm == "expression":
        text = str(artifact.text).encode()
        return _expression(name, text, learning_rate, card.architecture)
    family, sizes = families.known(card.algorithm), card.architecture
    if family is not None:
        sizes = dataclasses.asdict(family.read(sizes))
    digest, where = card.weights.sha256, card.training.environments
    made = _network(name, card.algorithm, sizes, artifact.weights, digest)
    return dataclasses.replace(made, environments=tuple(where))


def _network(
    name: str, algorithm: str, sizes: Mapping[str, Any], weights: Any, sha256: str
) -> Teacher:
    if algorithm not in distillable():
        raise ValueError(
            f"teacher={name!r} has algorithm {algorithm!r}; only expressions and "
            f"{', '.join(distillable())} can be distilled"
        )
    architecture = families.find(algorithm).make_sizes(sizes)
    sizes = dataclasses.asdict(architecture)  # with the defaults that were left out
    weights, unrolled, drift = jax.tree.map(jnp.asarray, weights), None, None
    if algorithm == "lpo":
        drift = lpo.drift(weights, clip_eps=sizes["clip_eps"], margin=MARGIN)
    elif algorithm != "lpg":
        unrolled = network_rule(algorithm, sizes["carry"])
    rule = functools.partial(learned.rule_of, algorithm, architecture, weights)
    made = Teacher(name, algorithm, sizes, sha256, weights, unrolled, drift, rule)
    return dataclasses.replace(made, zero_mean=unrolled is not None)


def _expression(
    name: str,
    content: bytes,
    learning_rate: float | None,
    card: Mapping[str, Any] | None = None,
) -> Teacher:
    try:
        text = content.decode("utf-8")
        function = expressions.parse(text)
    except ValueError as error:  # from the parser, or from the decoder
        raise ValueError(f"teacher={name!r} is not an expression: {error}") from error
    card = card or {}
    constants = function.init_constants()
    unrolled = None
    if function.kind == "drift":
        architecture = {"offset": float(card.get("offset", 0.0))}
    else:
        rate = _rate(name, function, card.get("learning_rate"), learning_rate)
        zero_mean = bool(card.get("zero_mean", False))
        architecture = {"zero_mean": zero_mean, "learning_rate": rate}
        unrolled = expression_rule(function, rate)
    artifact = artifacts.in_memory("expression", architecture, constants, text)
    drift = discovered.from_artifact(artifact) if unrolled is None else None
    digest = hashlib.sha256(content).hexdigest()
    rule = functools.partial(of_artifact, artifact)
    made = Teacher(name, "expression", None, digest, constants, unrolled, drift, rule)
    return dataclasses.replace(made, zero_mean=architecture.get("zero_mean", False))


def _rate(name: str, function: Function, own: Any, asked: float | None) -> float:
    """Return the value of the input ``lr``; any value where there is none."""
    if "lr" not in function.inputs:
        return 1.0
    if asked is None and own is None:
        raise ValueError(
            f"teacher={name!r} has the input lr, but no card gives its value; give for "
            "example teacher_rate=1e-3"
        )
    return float(own if asked is None else asked)


def network_features(algorithm: str, carry: int | None) -> Callable[..., jax.Array]:
    """Return the features ``[rows, n]`` of a leaf as a function of a `visited.Look`."""
    if algorithm not in ("open", "no_features"):
        raise ValueError(
            f"algorithm={algorithm!r} cannot be distilled: no features over sequences "
            "are known for its networks; distill open, no_features or lpo"
        )

    def features(*leaf: Any) -> jax.Array:
        if algorithm == "open":
            return jnp.concatenate(parts.open_features(*leaf))
        rows = parts.no_features_features(*leaf[:3], recurrent=carry is not None)
        return jnp.concatenate(rows)

    return features


def network_rule(algorithm: str, carry: int | None) -> Unrolled:
    """Return OPEN or No Features over sequences; ``carry`` counts the GRU's units."""
    see, noisy = network_features(algorithm, carry), algorithm == "open"

    def features(x: Tensors) -> jax.Array:
        """Return the rows ``[features, n]`` of one tensor at one step."""
        times = x.training_proportion, x.layer_proportion, x.batch_proportion
        return see(x.parameter, x.gradient, x.momenta.T, times, x.dormancy)

    def update(weights: Any, x: Tensors) -> jax.Array:
        rows = jax.vmap(jax.vmap(features))(x)  # [K, t, features, n]
        outputs = unroll(weights, rows.swapaxes(0, 1)[None])[0][0]
        outputs = outputs.transpose(2, 1, 0, 3)
        moved = parts.deterministic_update(outputs)
        return moved + parts.SCALE * outputs[2] * x.noise if noisy else moved

    return Unrolled(update, noisy, carry is not None)


@jax.jit
def unroll(
    weights: Any, features: jax.Array, start: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Unroll a network over windows of K steps that follow each other.

    Features are ``[windows, tensors, K, features, n]`` of any float dtype, and
    ``start`` is the memory ``[tensors, u, n]`` of ``u`` units, maybe 0, before the
    first window; empty by default. The results are outputs ``[windows, tensors, K,
    outputs, n]`` and the carries before each window ``[windows, tensors, u, n]``.
    """
    count, tensors, steps, rows, size = features.shape
    tables = features.astype(jnp.float32).transpose(0, 2, 3, 1, 4)
    tables = tables.reshape(count, steps, rows, tensors * size)
    units = weights["gru"]["hn"]["kernel"].shape[-1] if "gru" in weights else 0
    if start is None:
        start = jnp.zeros((tensors, units, size))

    def step(carry: jax.Array, table: jax.Array) -> tuple[Any, jax.Array]:
        outputs, after = parts.apply(weights, jnp.concatenate([table, carry]))
        return after, outputs

    def window(carry: jax.Array, table: jax.Array) -> tuple[jax.Array, Any]:
        if units:
            after, outputs = jax.lax.scan(step, carry, table)
            return after, (outputs, carry)
        # Without memory, all steps are evaluated together.
        merged = jnp.moveaxis(table, 1, 0).reshape(rows, -1)
        outputs = parts.apply(weights, merged)[0].reshape(-1, steps, carry.shape[-1])
        return carry, (jnp.moveaxis(outputs, 1, 0), carry)

    carry = start.transpose(1, 0, 2).reshape(units, tensors * size)
    _, (outputs, carries) = jax.lax.scan(window, carry, tables)
    outputs = outputs.reshape(count, steps, -1, tensors, size)
    carries = carries.reshape(count, units, tensors, size)
    return outputs.transpose(0, 3, 1, 2, 4), carries.transpose(0, 2, 1, 3)


def expression_rule(function: Function, learning_rate: float) -> Unrolled:
    """Return an expression over sequences; its weights are its constants.

    Momenta with a decay of `DECAYS` come from the inputs. Other memory starts empty,
    and the input ``iteration`` then counts from there. Without other memory it follows
    from the training proportion of a run of 1e7 environment steps. ``learning_rate`` is
    the base of its input ``lr``, before the annealing.
    """
    step, stateful = expression_step(function, learning_rate)

    def of_tensor(constants: Any, x: Tensors) -> jax.Array:
        def next_step(memory: Any, at: tuple[jax.Array, Tensors]) -> Any:
            value, memory = step(constants, memory, *at)
            return memory, value

        steps, size = x.gradient.shape
        memory = function.init_memory((size,))
        return jax.lax.scan(next_step, memory, (jnp.arange(steps), x))[1]

    update = jax.vmap(of_tensor, in_axes=(None, 1), out_axes=1)
    return Unrolled(update, "rand" in function.inputs, stateful)


def expression_step(
    function: Function, learning_rate: float = 1.0
) -> tuple[Callable[[Any, Any, Any, Tensors], tuple[jax.Array, Any]], bool]:
    """Return one step of an expression, and whether it has memory besides momenta.

    The step is ``(constants, memory, i, inputs) -> (update [n], memory)``, for one
    tensor at one step. See `expression_rule`.
    """
    shown = {s.name: s.decay for s in function.memory if s.decay in DECAYS}
    stateful = len(shown) < len(function.memory)
    total = PPOConfig().num_updates

    def step(constants: Any, memory: Any, i: Any, x: Tensors) -> Any:
        before = dict(memory)
        for name, decay in shown.items():
            momentum = x.momenta[DECAYS.index(decay)]
            before[name] = (momentum - (1 - decay) * x.gradient) / decay
        t_p = x.training_proportion
        inputs = {
            "p": x.parameter,
            "g": x.gradient,
            "dorm": x.dormancy,
            "rand": x.noise,
            "t_p": t_p,
            "l_p": x.layer_proportion,
            "b_p": x.batch_proportion,
            "lr": learning_rate * (1 - t_p),
            "iteration": 1.0 + (i if stateful else t_p * total),
        }
        return function.evaluate(inputs, before, constants)

    return step, stateful
