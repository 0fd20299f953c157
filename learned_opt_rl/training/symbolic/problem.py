"""Make the data that symbolic regression fits: columns and a target.

A drift is fitted on a grid of ratios and advantages, an optimizer on tensors of
`distillation.inputs` or on those recorded while the teacher trains agents. Every column
has a meaning, an expression of the inputs of a rule. So an expression over the columns
is a rule, and both are computed by the same code.

References:
    Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning Algorithms?",
    section 4.4, and the authors' released code.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

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
from learned_opt_rl.training.symbolic.config import TEMPLATES, SymbolicConfig

# The published grid has log r in [-1, 1) and A in [-4, 4), with 1024 points each. Half
# as many take a quarter of the time.
_GRID = 256
_LOG_RATIO, _ADVANTAGE = 1.0, 4.0

# Tensors and entries of each, 262,144 rows. The authors draw a million rows, of which
# their search sees 5,000 at a time.
_SHAPE = (1, 1024, 256)

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


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The columns and the target of a teacher.

    Attributes:
        kind: ``"drift"`` or ``"optimizer"``.
        meanings: What each column means, by its name.
        columns: float64 ``[n, k]``.
        target: float64 ``[n]``: the drift, or the update in units of ``unit``.
        deployed: float64 ``[n]``: what a rule is compared with. It differs from the
            target if an optimizer's inputs are normalized jointly.
        slope: float64 ``[n]``: the derivative of the drift by the ratio; None for an
            optimizer.
        unit: The rms of an optimizer's updates; 1 for a drift.
        tensors: The tensors of an optimizer's rows; None for a drift.
    """

    kind: Literal["drift", "optimizer"]
    meanings: Mapping[str, str]
    columns: np.ndarray
    target: np.ndarray
    deployed: np.ndarray
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


def make_problem(
    config: SymbolicConfig, teacher: Teacher, tensors: Tensors | None = None
) -> Problem:
    """Return the data of a teacher; an optimizer's tensors by default `tensors_of`.

    Raises:
        ValueError: The teacher cannot be fitted: it is an update rule, it has memory
            of its own, or its values are not finite or all equal.
    """
    require_symbolic(teacher)
    if teacher.drift is not None:
        made = _of_drift(teacher.drift)
    else:
        tensors = tensors_of(config, teacher) if tensors is None else tensors
        made = _of_optimizer(config, teacher, tensors)
    table = np.column_stack([made.columns, made.target])
    bad = int(np.sum(~np.isfinite(table).all(axis=1)))
    if bad:
        raise ValueError(
            f"teacher={teacher.name!r} is not finite on {bad:,} of {len(table):,} "
            "rows; give a teacher that is finite, or other inputs"
        )
    if config.loss == "slope" and not _varies(made.slope):
        raise ValueError(
            f"loss='slope': the slope of teacher={teacher.name!r} is constant or not "
            "finite on the grid; give loss='value'"
        )
    if np.ptp(made.target) == 0:
        raise ValueError(
            f"teacher={teacher.name!r} is {made.target[0]:g} on all rows; a constant "
            "has no formula to find"
        )
    return made


def _varies(values: np.ndarray | None) -> bool:
    return values is None or bool(np.isfinite(values).all() and np.ptp(values) > 0)


def require_symbolic(teacher: Teacher) -> None:
    """Raise ValueError for a teacher that is not a function of a step's inputs."""
    unrolled = teacher.unrolled
    if unrolled is None and teacher.drift is None:
        raise ValueError(
            f"teacher={teacher.name!r} is an update rule, which reads whole rollouts; "
            "give an optimizer or a drift"
        )
    if unrolled is not None and unrolled.stateful:
        raise ValueError(
            f"teacher={teacher.name!r} is recurrent: its update depends on all former "
            "steps, and over 20 steps the inputs of OPEN alone are 400 variables. "
            "Distill it into a feed-forward network first (train distill --student "
            "open:32)"
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
    value, slope = arrays
    return Problem("drift", meanings, columns, value, value, slope)


def _of_optimizer(config: SymbolicConfig, teacher: Teacher, x: Tensors) -> Problem:
    unrolled = teacher.unrolled
    assert unrolled is not None
    update = deployed = unrolled.update(teacher.weights, x)
    read = _COLUMNS.get(teacher.algorithm)
    plain = [*_PLAIN, "rand"] if teacher.algorithm == "open" else []
    if read is None:  # an expression, of which any input may count
        read, plain = {}, ["p", "g", *_MOMENTA, *_PLAIN, "rand"]
    if config.normalization == "joint":
        raw = {name: values_of(text, x) for name, text in read.items()}
        update, shown = _jointly(teacher, x, raw)
    else:
        shown = {name: values_of(f"rms_normalize({t})", x) for name, t in read.items()}
    # A column may not have the name of the input that it normalizes.
    meanings = {
        f"{name}_n" if name == text else name: f"rms_normalize({text})"
        for name, text in read.items()
    }
    more, scaled = _plain_columns(plain, x)
    target, goal = (np.asarray(one, float).ravel() for one in (update, deployed))
    size = float(np.sqrt(np.mean(target**2)))
    unit = float(f"{size:.3g}") if 0 < size < np.inf else 1.0
    return Problem(
        "optimizer",
        {**meanings, **more},
        np.column_stack([*shown.values(), *scaled]),
        target / unit,
        goal / unit,
        unit=unit,
        tensors=x,
    )


def _plain_columns(
    names: Iterable[str], x: Tensors
) -> tuple[dict[str, str], list[np.ndarray]]:
    """Return meanings and values of inputs that are not 0, scaled to order 1."""
    meanings, columns = {}, []
    for name in names:
        values = values_of(name, x)
        size = float(np.sqrt(np.mean(values**2)))
        if size == 0:
            continue
        scaled = not _ORDER_ONE[0] <= size <= _ORDER_ONE[1]
        divisor = float(f"{size:.1g}") if scaled else 1.0
        key = f"{name}_n" if scaled else name
        meanings[key] = f"{name} / {divisor!r}" if scaled else name
        columns.append(values / divisor)
    return meanings, columns


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


def tensors_of(config: SymbolicConfig, teacher: Teacher) -> Tensors:
    """Return the tensors of an optimizer's rows; visited ones train agents."""
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
    """Divide all columns by one number, and evaluate the network on them.

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
