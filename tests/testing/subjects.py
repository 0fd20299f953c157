"""Every learned optimiser the suite is run over, by name."""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax

from learned_opt_rl import Horizon, artifacts, open_rl
from learned_opt_rl.artifacts import Artifact, registry
from learned_opt_rl.artifacts.card import Card

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "examples/plugin/example_rl_optimizer"
PLUGIN_NAME = "example/sign-momentum"
ARCHITECTURES = {
    "initial 8x16": open_rl.Architecture(8, 16),
    "initial 16x32": open_rl.Architecture(16, 32),
    "initial feed-forward 32": open_rl.Architecture(None, 32),
}
NAMES = [*artifacts.cards(), PLUGIN_NAME, *ARCHITECTURES]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A learned optimiser: its factory, its rule as a function of weights, those."""

    make: Callable[..., Any]
    make_tx: Callable[[Any], Any]
    weights: Any


@functools.cache
def initial(name: str) -> Subject:
    weights = open_rl.init(jax.random.key(0), ARCHITECTURES[name])
    horizon = Horizon(320, epochs=4, minibatches=8)
    make = functools.partial(open_rl.scale_by_open, weights, horizon)
    return Subject(make, lambda w: open_rl.scale_by_open(w, horizon), weights)


@functools.cache
def registered(name: str, *, fetch: bool = False) -> Subject:
    artifact = artifacts.load(name, fetch=fetch)
    return of_rule(artifacts.rule_module(artifact.card.algorithm), artifact)


@functools.cache
def plugin() -> Subject:
    """The example plugin, which is not installed here: straight from its folder."""
    spec = importlib.util.spec_from_file_location(PLUGIN.name, PLUGIN / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    card = Card.load(PLUGIN / "card.json")
    entry = registry.Entry(card, PLUGIN, "plugin example")
    return of_rule(module, registry.load_entry(entry))


def of_rule(rule: ModuleType, artifact: Artifact) -> Subject:
    def make_tx(weights: Any) -> Any:
        return rule.from_artifact(dataclasses.replace(artifact, weights=weights))

    make = functools.partial(rule.from_artifact, artifact)
    return Subject(make, make_tx, artifact.weights)
