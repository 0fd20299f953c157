"""What a worker does with a proposal: check it, or train agents with it."""

import dataclasses
from typing import Any

import numpy as np

from learned_opt_rl import agents, expressions
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted, resolve
from learned_opt_rl.evaluation.runs.run import run
from learned_opt_rl.expressions import Function
from learned_opt_rl.rules import discovered
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.training.proposal.scoring import checks

POINTS = 8
"""Points of the learning curve in the feedback."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of `evaluation`: ``do`` is ``"check"`` or ``"train"``."""
    if request["do"] == "check":
        function = expressions.parse(request["text"])
        return dataclasses.asdict(checks.check(function, strict=request["strict"]))
    environment = request["environment"]
    config = agents.preset(environment, request["steps"], **request["settings"])
    rule = _rule(request, config, environment)
    return _summary(run(rule, environment, config, request["seeds"], name="proposal"))


def _rule(request: dict[str, Any], config: PPOConfig, environment: str) -> Rule:
    if request["text"] is None:
        return resolve(request["rule"], config, environment)
    function = expressions.parse(request["text"])
    if function.kind == "drift":
        adam = handcrafted("adam", environment, config.num_updates)
        return Rule(lambda key: adam, discovered.drift(function))
    return _optimizer(function, config, environment, request)


def _optimizer(
    function: Function, config: PPOConfig, environment: str, request: dict[str, Any]
) -> Rule:
    options = {"learning_rate": 1.0, "centered": request["zero_mean"]}
    if "lr" in function.inputs:
        rates = tuned(request["rates"], environment)
        options["learning_rate"] = rates["learning_rate"]

    def make(key: Any) -> Any:
        return discovered.optimizer(function, config.horizon(), key=key, **options)

    return Rule(make)


def _summary(rows: list[Row]) -> dict[str, Any]:
    """Return the results of all seeds; a diverged one has no number."""
    curves = np.array([row.curve for row in rows], float)
    ends = np.linspace(0, curves.shape[1] - 1, POINTS + 1).astype(int)[1:]
    return {
        "returns": [None if row.failed else row.final_return for row in rows],
        "auc": [None if row.failed else row.auc for row in rows],
        "curve": [_number(curves[:, end].mean()) for end in ends],
        "steps": sum(int(row.total_timesteps) for row in rows),
    }


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
