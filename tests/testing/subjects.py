"""Every learned optimizer and drift the suite is run over, by name."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import jax
import pytest

from learned_opt_rl import Horizon, artifacts, open_rl
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.rules import lpg, lpo, no_features, optim4rl

HORIZON = Horizon(320, epochs=4, minibatches=8)
KEY = jax.random.key(0)
# Name -> the rule with any further arguments, and weights as a function of nothing.
INITIAL: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    **{
        f"initial {name}": (
            functools.partial(open_rl.optimizer, horizon=HORIZON),
            functools.partial(open_rl.init, KEY, open_rl.Architecture(*sizes)),
        )
        for name, sizes in {
            "8x16": (8, 16),
            "16x32": (16, 32),
            "feed-forward 32": (None, 32),
        }.items()
    },
    "initial separated": (
        functools.partial(open_rl.optimizer, horizon=HORIZON),
        lambda: {
            name: open_rl.init(key, open_rl.Architecture(8, 16))
            for name, key in zip(
                ("actor", "critic"), jax.random.split(KEY), strict=True
            )
        },
    ),
    **{
        f"initial no features {carry}x16": (
            no_features.optimizer,
            functools.partial(
                no_features.init, KEY, no_features.Architecture(carry, 16)
            ),
        )
        for carry in (None, 8)
    },
    **{
        f"initial optim4rl {version}": (
            functools.partial(optim4rl.optimizer, learning_rate=1e-3),
            functools.partial(
                optim4rl.init, KEY, optim4rl.Architecture(version, 8, width)
            ),
        )
        for version, width in (("arxiv2023", 16), ("rlc2024", None))
    },
}
INITIAL_DRIFTS = {
    "initial lpo": lambda: lpo.drift(lpo.init(KEY, lpo.Architecture(width=16)))
}


def _initial_lpg(**changes: Any) -> lpg.UpdateRule:
    sizes = lpg.Architecture(width=8, embedding=4, target_width=5, **changes)
    return lpg.UpdateRule(lpg.init(KEY, sizes), sizes)


INITIAL_UPDATE_RULES = {
    "initial lpg": _initial_lpg,
    "initial lpg ascended": functools.partial(_initial_lpg, policy_sign="ascend"),
    "initial lpg with lifetime": functools.partial(
        _initial_lpg, core="lstm", gamma_input=True, lifetime_inputs="relative"
    ),
}

# One subject for each family. The others differ from these in their numbers, or in
# slots that the broken rules have too; `make test-slow` has them all.
USUAL = {
    "discovered/open_symbolic_minatar",
    "initial 8x16",
    "initial no features 8x16",
    "initial optim4rl arxiv2023",
    "discovered/dpo",
    "discovered/conversation_tanh_clip",
    "initial lpo",
    *INITIAL_UPDATE_RULES,
}


def of_kind(kind: str) -> list[str]:
    """The registered artifacts of a kind."""
    return [name for name, card in artifacts.cards().items() if card.kind == kind]


def has_weights(name: str) -> bool:
    """Whether there is anything that the rule is a function of."""
    return name in INITIAL or artifacts.card(name).weights.parameters > 0


# A network and an expression that is soon compiled run the checks that compile most.
SOON_COMPILED = {"initial 8x16", "discovered/archive_relative"}
LONG_CHECKS = {"inject_hyperparams", "lone_head", "many_leaves", "zero_gradients"}
# tests/rules/test_sharding.py has a small rule of every family.
OF_SHARDING = {"sharded_agents", "sharding", "state_sharding"}


def with_checks(names: Iterable[str], checks: Iterable[str]) -> list[Any]:
    """Return names with each check; unusual names are slow, and most long checks."""
    checks = list(checks)
    return [
        pytest.param(name, check, marks=[] if fast else pytest.mark.slow)
        for name in names
        for check in checks
        for fast in [name in _quick_subjects(check)]
    ]


def _quick_subjects(check: str) -> set[str]:
    """Return the subjects of a check that `make test` runs."""
    if check in OF_SHARDING:
        return {"discovered/archive_relative"}
    return SOON_COMPILED if check in LONG_CHECKS else USUAL


def marked(names: Iterable[str]) -> list[Any]:
    """Return the names as parameters of a test; the unusual ones are slow."""
    return [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


OPTIMIZERS = [*of_kind("optimizer"), *INITIAL]
DRIFTS = [*of_kind("drift"), *INITIAL_DRIFTS]
UPDATE_RULES = [*of_kind("update_rule"), *INITIAL_UPDATE_RULES]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is checked: its factory, its rule as a function of weights, those."""

    make: Callable[..., Any] | Artifact
    make_tx: Callable[[Any], Any] | None = None
    weights: Any = None


@functools.cache
def initial(name: str) -> Subject:
    if name in INITIAL:
        rule, init = INITIAL[name]
        weights = init()
        return Subject(functools.partial(rule, weights), rule, weights)
    return Subject({**INITIAL_DRIFTS, **INITIAL_UPDATE_RULES}[name])


@functools.cache
def registered(name: str, *, fetch: bool = False) -> Subject:
    artifact = artifacts.load(name, fetch=fetch)
    return of_rule(artifacts.rule_module(artifact.card.algorithm), artifact)


def of_rule(rule: ModuleType, artifact: Artifact) -> Subject:
    def make_tx(weights: Any) -> Any:
        given = dataclasses.replace(artifact, weights=weights)
        return rule.from_artifact(given, horizon=HORIZON)

    return Subject(artifact, make_tx, artifact.weights)
