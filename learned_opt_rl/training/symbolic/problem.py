"""What symbolic regression fits: columns and a target, from a teacher.

A drift is fitted on a grid of ratios and advantages, an optimizer on tensors of
`distillation.inputs` or on those of agents that the teacher trains. Every column has a
meaning, an expression of the inputs of a rule. So an expression over the columns is a
rule, and both are computed by the same code.

References:
    Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning Algorithms?",
    section 4.4, and the authors' released code.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.expressions import Function
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules.drifts import Drift, float64
from learned_opt_rl.rules.parts import SCALE, apply, deterministic_update
from learned_opt_rl.training.distillation import visited
from learned_opt_rl.training.distillation.inputs import SYNTHETIC, Tensors
from learned_opt_rl.training.distillation.teachers import Teacher, expression_step
from learned_opt_rl.training.symbolic.config import SymbolicConfig

# The published grid has log r in [-1, 1) and A in [-4, 4), with 1024 points each. Half
# as many take a quarter of the time and change no digit that is shown.
_GRID = 256
_LOG_RATIO, _ADVANTAGE = 1.0, 4.0

# Tensors and entries of each, 262,144 rows. The authors draw a million rows, of which
# their search sees 5,000 at a time.
_SHAPE = (1, 1024, 256)

# Where a drift is 0, any negative h gives it; these rows count less than the others.
_OFF, _OFF_WEIGHT = -0.5, 0.1
# softplus is never 0; this is its h for a drift of 0.001 (r - 1)^2.
_LOWEST, _LOWEST_WEIGHT = -6.9, 0.01
# A column whose rms is outside is divided by it, because backends print few digits.
_ORDER_ONE = (0.1, 10.0)

_MOMENTA = [f"m_{decay}".replace(".", "_") for decay in DECAYS]
_LOG = "log(abs({}) + 1e-13)"
_PLAIN = ["t_p", "l_p", "b_p", "dorm"]
_COLUMNS = {
    "open": {
        "p": "p",
        **{f"sgn_{m}": f"sign({m})" for m in _MOMENTA},
        **{f"log_{m}": _LOG.format(m) for m in _MOMENTA},
        "sgn_g": "sign(g)",
        "log_g": _LOG.format("g"),
    },
    "no_features": {name: name for name in ("p", *_MOMENTA, "g")},
}
"""The columns of a network that are divided by their rms, in the network's order."""


class Template(NamedTuple):
    """A form of drifts; ``h`` is the expression that is searched."""

    text: str  # over r and {h}
    # (drift, r - 1) -> values of h for it, and weights of their squared errors
    inverse: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _relu(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > 0) & (u != 0)
    h = np.where(on, drift / np.where(on, u, 1) ** 2, _OFF)
    return h, _weights(u**2, on, _OFF_WEIGHT)


def _softplus(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > np.logaddexp(_LOWEST, 0) * u**2) & (u != 0)
    value = np.where(on, drift / np.where(on, u, 1) ** 2, 1.0)
    h = np.where(on, value + np.log(-np.expm1(-value)), _LOWEST)
    return h, _weights(u**2 / (1 + np.exp(-h)), on, _LOWEST_WEIGHT)


def _weights(slope: np.ndarray, on: np.ndarray, off: float) -> np.ndarray:
    """Weigh errors of h as those of the drift, whose derivative is ``slope``."""
    moved = slope**2 * on
    return moved / max(moved.mean(), 1e-12) + off * ~on


def _free(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return drift, np.ones_like(u)


TEMPLATES = {
    "relu": Template("(r - 1)**2 * relu({h})", _relu),
    "softplus": Template("(r - 1)**2 * softplus({h})", _softplus),
    "free": Template("relu({h})", _free),
}
"""Forms of drifts. The first two are valid drifts for every finite h; the last need not
be flat at ratio 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A teacher as data.

    Attributes:
        kind: ``"drift"`` or ``"optimizer"``.
        meanings: What each column means, by its name.
        columns: float64 ``[n, k]``.
        target: float64 ``[n]``: the drift, or the update in units of ``unit``.
        slope: float64 ``[n]``: the derivative of the drift by the ratio; None for an
            optimizer.
        unit: The rms of an optimizer's updates; 1 for a drift.
        tensors: The tensors of an optimizer's rows; None for a drift.
    """

    kind: Literal["drift", "optimizer"]
    meanings: Mapping[str, str]
    columns: np.ndarray
    target: np.ndarray
    slope: np.ndarray | None = None
    unit: float = 1.0
    tensors: Tensors | None = None

    def table(self, template: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return columns, target and weights of the rows for a backend."""
        if template is None:
            return self.columns, self.target, np.ones(len(self.target))
        u = self.columns[:, list(self.meanings).index("u")]
        return self.columns, *TEMPLATES[template].inverse(self.target, u)

    def function(self, found: str) -> Function:
        """Return an expression over x0, x1, ... as one of the rule's inputs.

        Raises:
            ExpressionError: The expression cannot be converted.
        """
        names = {f"x{i}": name for i, name in enumerate(self.meanings)}
        named = re.sub(r"\bx\d+\b", lambda x: names.get(x[0], x[0]), found)
        if self.kind == "optimizer":
            named = f"{self.unit!r} * ({named})"
        return expressions.from_pysr(named, self.meanings, self.kind)


def filled(function: Function, template: str | None) -> Function:
    r"""Return a template with an expression as its ``h``; None for the expression.

    Example:
        >>> h = expressions.parse("drift\ninputs A, log_r\nreturn A - log_r")
        >>> print(filled(h, "relu").to_text(), end="")
        drift
        inputs r, A, log_r
        return (r - 1)**2 * relu(A - log_r)
    """
    if template is None:
        return function
    head, _, result = function.to_text().rpartition("return ")
    lines = head.splitlines()
    if "r" not in function.inputs and template != "free":
        read = [name for name in ("r", "A", "log_r") if name in {"r", *function.inputs}]
        lines[1 : 1 + bool(function.inputs)] = [f"inputs {', '.join(read)}"]
    whole = TEMPLATES[template].text.format(h=result.strip())
    return expressions.parse("\n".join([*lines, f"return {whole}", ""]))


def make_problem(config: SymbolicConfig, teacher: Teacher) -> Problem:
    """Return the data of a teacher.

    Raises:
        ValueError: The teacher cannot be fitted: it is an update rule, it has memory
            of its own, or its values are not finite or all equal.
    """
    require_symbolic(teacher)
    if teacher.drift is not None:
        made = _of_drift(teacher.drift)
    else:
        made = _of_optimizer(config, teacher)
    table = np.column_stack([made.columns, made.target])
    bad = int(np.sum(~np.isfinite(table).all(axis=1)))
    if bad:
        raise ValueError(
            f"teacher={teacher.name!r} is not finite on {bad:,} of {len(table):,} "
            "rows; give a teacher that is finite, or other inputs"
        )
    if np.ptp(made.target) == 0:
        raise ValueError(
            f"teacher={teacher.name!r} is {made.target[0]:g} on all rows; a constant "
            "has no formula to find"
        )
    return made


def require_symbolic(teacher: Teacher) -> None:
    """Raise ValueError for a teacher that is not a function of a step's inputs."""
    unrolled = teacher.unrolled
    if unrolled is None and teacher.drift is None:
        raise ValueError(
            f"teacher={teacher.name!r} is an update rule, which reads whole rollouts; "
            "give an optimizer or a drift"
        )
    if unrolled is not None and unrolled.stateful:
        count = len(_COLUMNS["open"]) + len(_PLAIN) + 1
        raise ValueError(
            f"teacher={teacher.name!r} is recurrent: its update depends on all former "
            f"steps, and a formula over 20 steps of {count} inputs has {20 * count} "
            "variables. Distill it into a feed-forward network first (train distill "
            "--student open:32)"
        )


def _of_drift(drift: Drift) -> Problem:
    places = np.arange(-_GRID, _GRID) / _GRID
    grids = np.meshgrid(_LOG_RATIO * places, _ADVANTAGE * places)
    x, advantage = (one.ravel() for one in grids)
    ratio = np.exp(x)
    with float64():
        given = jnp.asarray(ratio), jnp.asarray(advantage)
        total = jax.grad(lambda r, a: jnp.sum(drift(r, a)))
        value, slope = drift(*given), total(*given)
        arrays = np.asarray(value, float), np.asarray(slope, float)
    # The authors have the first three. LPO reads the products, too, and so do the
    # drifts of PPO and DPO.
    u = ratio - 1
    meanings = {"x": "log_r", "u": "r - 1", "A": "A"}
    meanings |= {"z": "(r - 1) * A", "w": "log_r * A"}
    columns = np.column_stack([x, u, advantage, u * advantage, x * advantage])
    return Problem("drift", meanings, columns, *arrays)


def _of_optimizer(config: SymbolicConfig, teacher: Teacher) -> Problem:
    unrolled = teacher.unrolled
    assert unrolled is not None
    x = _tensors(config, teacher)
    read = _COLUMNS.get(teacher.algorithm)
    plain = [*_PLAIN, "rand"] if teacher.algorithm == "open" else []
    if read is None:  # an expression, of which any input may count
        read, plain = {}, ["p", "g", *_MOMENTA, *_PLAIN, "rand"]
    shown = {name: values_of(text, x) for name, text in read.items()}
    if config.normalization == "joint" and read:
        update, shown = _jointly(teacher, x, shown)
    else:
        update = unrolled.update(teacher.weights, x)
        shown = {name: values_of(f"rms_normalize({t})", x) for name, t in read.items()}
    # A column may not have the name of the input that it normalizes.
    meanings = {
        f"{name}_n" if name == text else name: f"rms_normalize({text})"
        for name, text in read.items()
    }
    columns = [*shown.values()]
    for name in plain:
        values = values_of(name, x)
        size = float(np.sqrt(np.mean(values**2)))
        if size == 0:
            continue
        scaled = not _ORDER_ONE[0] <= size <= _ORDER_ONE[1]
        divisor = float(f"{size:.1g}") if scaled else 1.0
        key = f"{name}_n" if scaled else name
        meanings[key] = f"{name} / {divisor!r}" if scaled else name
        columns.append(values / divisor)
    target = np.asarray(update, float).ravel()
    size = float(np.sqrt(np.mean(target**2)))
    unit = float(f"{size:.3g}") if 0 < size < np.inf else 1.0
    return Problem(
        "optimizer",
        meanings,
        np.column_stack(columns),
        target / unit,
        unit=unit,
        tensors=x,
    )


def values_of(text: str, x: Tensors) -> np.ndarray:
    """Return an expression of an optimizer's inputs on tensors, float64 ``[n]``."""
    return np.asarray(updates(expressions.from_pysr("x0", [text]), {}, x), float)


def updates(
    function: Function, constants: Mapping[str, Any], tensors: Tensors
) -> jax.Array:
    """Return the updates of tensors of one step, ``[n]``.

    Without the loop over steps, nothing is compiled for each expression.
    """
    step, _ = expression_step(function)
    first = jax.tree.map(lambda leaf: leaf[0], tensors)
    return jax.vmap(lambda x: step(constants, {}, 0, x)[0])(first).ravel()


def _tensors(config: SymbolicConfig, teacher: Teacher) -> Tensors:
    if config.inputs == "visited":
        runs: Any = config.runs()
        options = {"steps": 1, "size": _SHAPE[2], "seed": config.seed}
        x = visited.visit(teacher.rule, runs, **options)
    else:
        x = SYNTHETIC[config.inputs](jax.random.key(config.seed), _SHAPE)
    noise = jax.random.normal(jax.random.key(config.seed + 1), x.gradient.shape)
    assert teacher.unrolled is not None
    return x._replace(noise=noise if teacher.unrolled.noisy else 0 * noise)


def _jointly(
    teacher: Teacher, x: Tensors, raw: Mapping[str, np.ndarray]
) -> tuple[jax.Array, dict[str, np.ndarray]]:
    """Divide all columns by one number, and let the network read those.

    The released script does, because its reduction covers the columns, too.
    """
    scale = np.sqrt(1e-5 + np.mean([np.mean(v**2) for v in raw.values()]))
    shown = {name: values / scale for name, values in raw.items()}
    rows = [*shown.values()]
    if teacher.algorithm == "open":
        rows += [values_of(name, x) for name in _PLAIN]
    outputs, _ = apply(teacher.weights, jnp.asarray(np.stack(rows), jnp.float32))
    update = deterministic_update(outputs)
    if teacher.algorithm == "open":
        update = update + SCALE * outputs[2] * x.noise.ravel()
    return update, shown
