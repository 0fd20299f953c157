"""From a name or a path to something that can be imitated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl import artifacts, expressions, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.artifacts.registry import Entry, load_entry
from learned_opt_rl.artifacts.weights import load_safetensors, read_limited
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted
from learned_opt_rl.expressions import Function
from learned_opt_rl.families.expression import Form
from learned_opt_rl.rules import discovered, lpo
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.training.distillation.folder import require_finished
from learned_opt_rl.training.distillation.unrolled import (
    Unrolled,
    expression_rule,
    network_rule,
)
from learned_opt_rl.training.evolution.learned import draw, rule_of

MARGIN = 1e-6
"""Of LPO's drift while it is distilled, teacher and student; specified so."""

_SIGN_MOMENTUM = """optimizer
inputs g, t_p
memory m = momentum(0.9)
constant c = {constant!r}
return c * (1 - t_p) * sign(m)
"""


def distillable() -> tuple[str, ...]:
    """Return the algorithms whose networks can imitate another rule."""
    found = {name: families.known(name) for name in families.names()}
    return tuple(
        name for name, family in found.items() if family and family.distillable
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """What a student imitates.

    Attributes:
        name: As it was asked for.
        algorithm: Of the artifact, as ``"open"`` or ``"expression"``.
        sizes: The architecture of a network; ``None`` for a closed form.
        sha256: Of the weights or the text.
        weights: Of ``unrolled``: a network's weights or a closed form's constants.
        unrolled: An optimiser over sequences; ``None`` for a drift.
        drift: ``None`` for an optimiser.
        rule: ``(config, environment) -> rule`` to train agents by.
    """

    name: str
    algorithm: str
    sizes: Mapping[str, Any] | None
    sha256: str
    weights: Any
    unrolled: Unrolled | None
    drift: Drift | None
    rule: Callable[[PPOConfig, str], Rule]


def teacher(
    name: str,
    *,
    learning_rate: float | None = None,
    like: tuple[str, Mapping[str, Any]] | None = None,
) -> Teacher:
    """Finds a teacher.

    Args:
        name: An artifact; the folder of one, or of a run of ``train``, whose best
            weights count; a file with a closed form; ``"sign_momentum:RATE"``, which
            is ``RATE * (1 - t_p) * sgn m_0.9``; or ``"random:SEED"``.
        learning_rate: Of a closed form's input ``lr``; by default its card's.
        like: Algorithm and sizes of a random teacher.

    Returns:
        The teacher.

    Raises:
        ValueError: There is none of that name, or it cannot be read or imitated.

    Example:
        >>> teacher("sign_momentum:8e-4").unrolled.stateful
        False
    """
    kind, colon, value = name.partition(":")
    path = pathlib.Path(name)
    if colon and kind == "sign_momentum":
        text = _SIGN_MOMENTUM.format(constant=_number(name, value))
        return _closed_form(name, text.encode(), learning_rate)
    if colon and kind == "random":
        return _random(name, _number(name, value), like)
    if path.is_file():
        content = read_limited(path, "give another file")
        return _closed_form(name, content, learning_rate)
    if (path / "config.json").is_file():
        return _of_run(name, path, learning_rate)
    if (path / "card.json").is_file():
        card = Card.load(path / "card.json")
        artifact = load_entry(Entry(card, path, "path"))
    else:
        artifact = artifacts.load(name)
    return _of_artifact(name, artifact, learning_rate)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"teacher={name!r}: {text!r} must be a number, at least 0, as in "
            "sign_momentum:8e-4 or random:0"
        )
    return number


def _random(
    name: str, seed: float, like: tuple[str, Mapping[str, Any]] | None
) -> Teacher:
    if seed != int(seed):
        raise ValueError(f"teacher={name!r} needs a whole number, as random:0")
    if like is None:
        raise ValueError(
            f"teacher={name!r} has the student's sizes; give those, as open:32"
        )
    algorithm, sizes = like
    made = families.find(algorithm).make_sizes(sizes)
    weights = draw(algorithm, made, jax.random.key(int(seed)))
    return _network(name, algorithm, sizes, weights, hashlib.sha256(name.encode()))


def _of_run(name: str, folder: pathlib.Path, learning_rate: float | None) -> Teacher:
    try:
        made = json.loads((folder / "config.json").read_text("utf-8"))
        kind, config = made.get("kind"), made["config"]
        algorithm, sizes = config["algorithm"], config["architecture"]
        content = (folder / "best.safetensors").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"teacher={name!r} is no run of train: {error!r}") from error
    if kind == "distillation":
        require_finished(folder)
    digest = hashlib.sha256(content)
    weights = load_safetensors(folder / "best.safetensors", digest.hexdigest())
    if algorithm == "expression":
        text = Form(**sizes).evolved(weights).to_text()
        return _closed_form(name, text.encode(), learning_rate)
    return _network(name, algorithm, sizes, weights, digest)


def _of_artifact(
    name: str, artifact: artifacts.Artifact, learning_rate: float | None
) -> Teacher:
    card = artifact.card
    if card.algorithm == "expression":
        text = str(artifact.text).encode()
        return _closed_form(name, text, learning_rate, card.architecture)
    family = families.known(card.algorithm)
    read: Any = card.architecture if family is None else family.read(card.architecture)
    sizes = read if family is None else dataclasses.asdict(read)
    content = card.weights.sha256
    return _network(name, card.algorithm, sizes, artifact.weights, content)


def _network(
    name: str, algorithm: str, sizes: Mapping[str, Any], weights: Any, digest: Any
) -> Teacher:
    if algorithm not in distillable():
        raise ValueError(
            f"teacher={name!r} is of algorithm {algorithm!r}; what can be distilled is "
            f"{', '.join(distillable())} and closed forms"
        )
    architecture = families.find(algorithm).make_sizes(sizes)
    sizes = dataclasses.asdict(architecture)  # with those that have defaults
    unrolled = drift = None
    if algorithm == "lpo":
        drift = lpo.drift(weights, clip_eps=sizes["clip_eps"], margin=MARGIN)
    else:
        weights = jax.tree.map(jnp.asarray, weights)
        unrolled = network_rule(algorithm, sizes["carry"])
    sha256 = digest if isinstance(digest, str) else digest.hexdigest()

    def rule(config: PPOConfig, environment: str) -> Rule:
        return rule_of(algorithm, architecture, weights, config, environment)

    return Teacher(name, algorithm, sizes, sha256, weights, unrolled, drift, rule)


def _closed_form(
    name: str,
    content: bytes,
    learning_rate: float | None,
    sizes: Mapping[str, Any] | None = None,
) -> Teacher:
    try:
        function = expressions.parse(content.decode("utf-8"))
    except ValueError as error:  # of the text, or of its encoding
        raise ValueError(f"teacher={name!r} is no closed form: {error}") from error
    sizes = sizes or {}
    if function.kind == "drift":
        unrolled = None
        drift = discovered.drift(function, offset=float(sizes.get("offset", 0.0)))
        rule = _run_drift(drift)
    else:
        rate = _rate(name, function, sizes.get("learning_rate"), learning_rate)
        unrolled, drift = expression_rule(function, rate), None
        rule = _run_optimizer(function, rate, bool(sizes.get("zero_mean", False)))
    digest = hashlib.sha256(content).hexdigest()
    constants = function.init_constants()
    return Teacher(name, "expression", None, digest, constants, unrolled, drift, rule)


def _rate(name: str, function: Function, own: Any, asked: float | None) -> float:
    """What the input ``lr`` is; anything where there is none."""
    if "lr" not in function.inputs:
        return 1.0
    if asked is None and own is None:
        raise ValueError(
            f"teacher={name!r} has the input lr, and no card says what that is; give "
            "teacher_rate, as 1e-3"
        )
    return float(own if asked is None else asked)


def _run_drift(drift: Drift) -> Callable[[PPOConfig, str], Rule]:
    def rule(config: PPOConfig, environment: str) -> Rule:
        adam = handcrafted("adam", environment, config.num_updates)
        return Rule(lambda key: adam, drift)

    return rule


def _run_optimizer(
    function: Function, rate: float, zero_mean: bool
) -> Callable[[PPOConfig, str], Rule]:
    def rule(config: PPOConfig, environment: str) -> Rule:
        return Rule(
            lambda key: discovered.optimizer(
                function,
                config.horizon(),
                learning_rate=rate,
                zero_mean_updates=zero_mean,
                key=key,
            )
        )

    return rule
