"""What can be checked, and how it is called."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from learned_opt_rl import artifacts, families
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.errors import HorizonWarning
from learned_opt_rl.features import Horizon
from learned_opt_rl.testing import _probes as probes

Factory = Callable[..., optax.GradientTransformationExtraArgs]
"""Options (such as ``seed``) -> a fresh transformation."""

Candidate = str | Artifact | Factory | optax.GradientTransformation
"""An artifact's name, an artifact, a factory or a transformation."""

COMMON_OPTIONS: dict[str, Any] = {
    "horizon": Horizon(320, epochs=4, minibatches=8),
    "networks": {"actor": "actor", "critic": "critic"},
    "seed": 7,
    "key": None,
    "warn_past_horizon": True,
    "environment": "Breakout-MinAtar",
}
"""The options of every artifact of kind ``"optimizer"``, with a value to try."""


class Maker:
    """A factory, and the options that it takes, with a value to try for each."""

    def __init__(self, make: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._make = make
        self.__signature__ = inspect.signature(make)
        self.options = dict(options)

    def __call__(self, **options: Any) -> Any:
        with warnings.catch_warnings():
            # The checks are about any horizon, also the artifact's own.
            warnings.simplefilter("ignore", HorizonWarning)
            return self._make(**options)


def as_maker(
    candidate: Candidate, kind: str, options: Mapping[str, Any] | None
) -> Maker:
    """Return a maker for whatever stands for a learned rule; see ``conformance``."""
    if isinstance(candidate, str):
        candidate = artifacts.load(candidate)
    common = {}
    if isinstance(candidate, Artifact):
        common = COMMON_OPTIONS if kind == "optimizer" else {}
        rule = families.rule_module(candidate.card.algorithm)
        make = functools.partial(rule.from_artifact, candidate)
    elif isinstance(candidate, optax.GradientTransformation):

        def make() -> Any:
            return candidate

    elif callable(candidate):
        make = candidate
    else:
        raise TypeError(
            f"artifact={candidate!r} cannot be checked; give an artifact's name, an "
            "Artifact, a function returning an optax transformation, or the "
            "transformation itself"
        )
    return Maker(make, common if options is None else options)


def kind_of(candidate: Candidate) -> str:
    """Return the kind on a candidate's card; ``"optimizer"`` where it has no card."""
    if isinstance(candidate, str):
        return artifacts.card(candidate).kind
    if isinstance(candidate, Artifact):
        return candidate.card.kind
    return "optimizer"


def options_of(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the options to try with a factory; none where it is a plain function."""
    return getattr(make, "options", {})


class Run:
    """A transformation before its first step, by default on the probe agent."""

    def __init__(self, make: Factory, params: Any = None, **options: Any) -> None:
        self.tx = make(**options)
        self.params = probes.agent() if params is None else params
        self.grads = probes.gradients(self.params)
        self.state = self.tx.init(self.params)

    def update(self, **keywords: Any) -> tuple[Any, Any]:
        """Return the first update and the state after it."""
        return self.tx.update(self.grads, self.state, self.params, **keywords)

    def steps(self, count: int, state: Any = None) -> tuple[list[Any], Any]:
        """Return the updates of each step at fixed parameters, and the last state."""
        state, found = self.state if state is None else state, []
        for step in range(count):
            updates, state = self.tx.update(self.scaled(step), state, self.params)
            found.append(updates)
        return found, state

    def scaled(self, step: Any) -> Any:
        """Return the gradients of a step, counted from 0: smaller at each step."""
        return jax.tree.map(lambda g: g / (1.0 + step), self.grads)
