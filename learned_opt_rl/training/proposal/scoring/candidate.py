"""What a worker does with a proposal: check it, or train agents with it."""

import dataclasses
from collections.abc import Container
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl import agents, expressions
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.evaluation.runs.rules import Rule, handcrafted, resolve
from learned_opt_rl.evaluation.runs.run import run
from learned_opt_rl.expressions import Function
from learned_opt_rl.rules import discovered, drifts
from learned_opt_rl.rules.tuned import tuned

_ROWS, _NEURONS = 16, 8  # of the tensors on which proposals are evaluated
# An optimizer's steps on them, from the first to the last of a run. No input is a
# function of another, so that expressions that differ in any input differ here.
_STEPS = [
    {"t_p": 0.0, "b_p": 0.6, "l_p": 0.5, "lr": 1.0, "iteration": 1.0},
    {"t_p": 1 / 3, "b_p": 0.0, "l_p": 1.0, "lr": 0.5, "iteration": 2.0},
    {"t_p": 2 / 3, "b_p": 1.0, "l_p": 0.0, "lr": 2.0, "iteration": 3.0},
    {"t_p": 1.0, "b_p": 0.3, "l_p": 0.3, "lr": 0.3, "iteration": 4.0},
]
_LARGEST_STEP = 1e3
"""An update this many learning rates long, for inputs of about 1, ends in NaN."""

# Extreme inputs: what is not finite there is worth a warning, not a refusal.
_EXTREMES = {"zeros": 0.0, "1e6": 1e6, "1e-12": 1e-12}
# Parameters do not reach more. An exponential of them overflows from 88 on.
_PARAMETERS = (1e3, -1e3)
# Digits of the table: more than two ways of computing the same agree on in float32.
_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Checked:
    """What the checks found.

    Attributes:
        problem: Why the proposal is refused, for the model; empty if it is not.
        category: One word for it: ``"nonfinite_error"``, ``"nonfinite_gradient"``,
            ``"mirror_violation"``, ``"zero_update"`` or ``"huge_update"``.
        warnings: What the model should know of a proposal that is not refused.
        response: Its values on the table, rounded: 128 of a drift, 640 of an optimizer;
            equal for equal expressions.
    """

    problem: str = ""
    category: str = ""
    warnings: tuple[str, ...] = ()
    response: tuple[float, ...] = ()


def check(function: Function, *, strict: bool = True) -> Checked:
    """Check a drift or an optimizer.

    A drift must be finite with finite slopes, and with ``strict`` satisfy the
    conditions of mirror learning; otherwise violations are warnings. An optimizer must
    be finite, not always zero, and not huge.
    """
    if function.kind == "drift":
        return _check_drift(function, strict)
    return _check_optimizer(function)


def _check_drift(function: Function, strict: bool) -> Checked:
    def f(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        inputs = {"r": ratio, "log_r": jnp.log(ratio), "A": advantage}
        return function.evaluate(inputs)[0]

    rng = np.random.default_rng(0)
    # A few ratios are far from 1, up to 20, where only some expressions differ.
    logs = rng.uniform(-1, 1, (_ROWS, _NEURONS))
    logs[-4:] *= 3
    ratio = np.exp(logs).astype(np.float32)
    ratio[0] = 1.0
    advantage = rng.standard_normal(ratio.shape).astype(np.float32)
    value = np.asarray(f(jnp.asarray(ratio), jnp.asarray(advantage)))
    slope = jax.grad(lambda r: jnp.sum(f(r, jnp.asarray(advantage))))
    slopes = np.asarray(slope(jnp.asarray(ratio)))
    if not np.isfinite(value).all():
        return Checked(_not_finite(value, "values"), "nonfinite_error")
    if not np.isfinite(slopes).all():
        problem = _not_finite(slopes, "derivatives with respect to ratio")
        return Checked(
            f"{problem}; guard the argument of roots and logarithms, also in branches "
            "that jnp.where does not select",
            "nonfinite_gradient",
        )
    failures = [str(one) for one in drifts.check(f, size=60).failures]
    if failures and strict:
        return Checked(f"not a drift: {failures[0]}", "mirror_violation")
    return Checked(warnings=tuple(failures), response=_rounded(value))


def _check_optimizer(function: Function) -> Checked:
    rng = np.random.default_rng(0)
    inputs, memory = _tensors(function, rng)
    updates, slots = [], function.init_memory((_ROWS, _NEURONS))
    for step in _STEPS:
        given = dict(inputs)
        if updates:
            given |= {n: rng.permuted(x) for n, x in inputs.items() if np.ndim(x)}
        numbers = {name: x for name, x in step.items() if name in given}
        given |= {name: np.float32(x) for name, x in numbers.items()}
        value, slots = function.evaluate(given, slots)
        updates.append(np.asarray(value))
        changed = np.concatenate([np.ravel(x) for x in (value, *slots.values())])
        if not np.isfinite(changed).all():
            where = ", ".join(f"{name}={x:.3g}" for name, x in numbers.items())
            problem = _not_finite(changed, "values") + (where and f" with {where}")
            return Checked(problem, "nonfinite_error")
    # A few steps from empty memory never reach every state of it, for example a
    # momentum that exceeds the root of the mean square. No run may reach this one.
    given = inputs | ({"iteration": np.float32(1e3)} if "iteration" in inputs else {})
    late, _ = function.evaluate(given, memory)
    value = np.stack([*updates, np.nan_to_num(np.asarray(late))])
    if not value.any():
        return Checked("the update is zero for all inputs", "zero_update")
    largest = float(np.abs(value).max())
    if largest > _LARGEST_STEP:
        problem = f"inputs of about 1 give an update of {largest:.3g}; scale it down"
        return Checked(problem, "huge_update")
    warnings = [
        f"not finite for gradients and momenta of {name}"
        for name, size in _EXTREMES.items()
        if not _finite_at(function, inputs, memory, ("g", "dorm", *memory), size)
    ]
    warnings += [
        f"not finite for parameters of {size:g}"
        for size in _PARAMETERS
        if not _finite_at(function, inputs, memory, ("p",), size)
    ]
    return Checked(warnings=tuple(warnings), response=_rounded(value))


def _tensors(
    function: Function, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return inputs and memory of about 1, the same for every function."""
    shape = (_ROWS, _NEURONS)
    # Drawn whether the function reads them or not, so that its others stay the same.
    drawn: dict[str, Any] = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name in ("p", "g", "rand")
    }
    drawn["dorm"] = rng.uniform(0, 2, _NEURONS).astype(np.float32)
    inputs = {**drawn, **{name: np.float32(x) for name, x in _STEPS[0].items()}}
    # Each slot's draw follows from its name: reordered code gets the same numbers.
    memory = {}
    for slot in function.memory:
        named = np.random.default_rng([*slot.name.encode()])
        memory[slot.name] = np.abs(named.standard_normal(shape)).astype(np.float32)
    return {name: inputs[name] for name in function.inputs}, memory


def _finite_at(
    function: Function,
    inputs: dict[str, Any],
    memory: dict[str, Any],
    names: Container[str],
    size: float,
) -> bool:
    """Return whether all is finite if the inputs and slots named have this value."""

    def sized(given: dict[str, Any]) -> dict[str, Any]:
        return {n: np.full_like(x, size) if n in names else x for n, x in given.items()}

    value, after = function.evaluate(sized(inputs), sized(memory))
    return all(np.isfinite(x).all() for x in (value, *after.values()))


def _not_finite(values: np.ndarray, what: str) -> str:
    share = 1 - np.isfinite(values).mean()
    return f"{share:.0%} of its {what} are not finite on ordinary inputs"


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    # Adding 0.0 makes -0.0 equal 0.0.
    return tuple(float(f"{x:.{_DIGITS}g}") + 0.0 for x in values.ravel())


POINTS = 8
"""Points of the learning curve in the feedback."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of `evaluation`: ``do`` is ``"check"`` or ``"train"``."""
    if request["do"] == "check":
        function = expressions.parse(request["text"])
        return dataclasses.asdict(check(function, strict=request["strict"]))
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
