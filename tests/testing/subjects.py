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
from learned_opt_rl.rules import no_features, optim4rl

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "examples/plugin/example_rl_optimizer"
PLUGIN_NAME = "example/sign-momentum"
HORIZON = Horizon(320, epochs=4, minibatches=8)
KEY = jax.random.key(0)
# Name -> the rule with any further arguments, and weights as a function of nothing.
INITIAL: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    **{
        f"initial {name}": (
            functools.partial(open_rl.scale_by_open, horizon=HORIZON),
            functools.partial(open_rl.init, KEY, open_rl.Architecture(*sizes)),
        )
        for name, sizes in {
            "8x16": (8, 16),
            "16x32": (16, 32),
            "feed-forward 32": (None, 32),
        }.items()
    },
    "initial separated": (
        functools.partial(open_rl.scale_by_open_separated, horizon=HORIZON),
        lambda: {
            name: open_rl.init(key, open_rl.Architecture(8, 16))
            for name, key in zip(
                ("actor", "critic"), jax.random.split(KEY), strict=True
            )
        },
    ),
    **{
        f"initial no features {carry}x16": (
            no_features.scale_by_no_features,
            functools.partial(
                no_features.init, KEY, no_features.Architecture(carry, 16)
            ),
        )
        for carry in (None, 8)
    },
    **{
        f"initial optim4rl {version}": (
            functools.partial(optim4rl.scale_by_optim4rl, learning_rate=1e-3),
            functools.partial(
                optim4rl.init, KEY, optim4rl.Architecture(version, 8, width)
            ),
        )
        for version, width in (("arxiv2023", 16), ("rlc2024", None))
    },
}
NAMES = [*artifacts.cards(), PLUGIN_NAME, *INITIAL]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A learned optimiser: its factory, its rule as a function of weights, those."""

    make: Callable[..., Any]
    make_tx: Callable[[Any], Any]
    weights: Any


@functools.cache
def initial(name: str) -> Subject:
    rule, init = INITIAL[name]
    weights = init()
    return Subject(functools.partial(rule, weights), rule, weights)


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
