"""Judge expressions on all data: prune, tune and round them, and keep the best.

A backend's table has losses of a few rows, and constants fitted to another target. Here
every expression is measured as the rule it would be.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from learned_opt_rl import expressions
from learned_opt_rl.expressions import Function
from learned_opt_rl.rules import discovered
from learned_opt_rl.rules.drifts import float64
from learned_opt_rl.training.proposal.scoring import candidate
from learned_opt_rl.training.symbolic.config import filled
from learned_opt_rl.training.symbolic.problem import Problem, updates

# Rows on which constants are tuned; all rows count for the loss.
_TUNED_ROWS = 1 << 14
_TUNING_STEPS = 50
# A simpler expression, or one with fewer digits, may lose this share of the loss, and
# this share of the target's variance.
_WORSE, _NOTHING = 1.01, 1e-13
_DIGITS = range(2, 9)
# Constants that agree in these digits may be one.
_ALIKE = 3
# A larger expression counts from this much lower loss on.
_LOWER = 0.98
# Least share of an optimizer's variance that gradient and momenta carry.
_LEAST_SHARE = 1e-3


@dataclasses.dataclass(frozen=True)
class Judged:
    """An expression and how it compares with the teacher.

    Attributes:
        text: The rule.
        size: Its operations and operands.
        loss: Mean squared error on all rows over the target's variance.
        share: Share of its variance that gradient and momenta carry, in [0, 1]; 1 for
            a drift.
        problem: Why it cannot be used; empty if it can.
    """

    text: str
    size: int
    loss: float
    share: float = 1.0
    problem: str = ""

    @property
    def finite(self) -> bool:
        """Whether it has a loss."""
        return bool(np.isfinite(self.loss))


class Judge:
    """Measures expressions against a teacher.

    Args:
        problem: The teacher as data.
        loss: ``"value"`` or ``"slope"``.
    """

    def __init__(self, problem: Problem, loss: str = "value") -> None:
        self._problem = problem
        slopes = loss == "slope" and problem.slope is not None
        self._slopes = slopes
        target = problem.slope if slopes else problem.deployed
        assert target is not None
        self._target = target * problem.unit
        self._variance = float(np.var(self._target))
        count = len(problem.target)
        rng = np.random.default_rng(0)
        self._few = rng.choice(count, min(count, _TUNED_ROWS), replace=False)
        if problem.tensors is not None:  # whole tensors, which have one rms each
            _, tensors, size = problem.tensors.gradient.shape
            few = min(tensors, max(1, _TUNED_ROWS // size))
            self._tensors = np.sort(rng.choice(tensors, few, replace=False))
            self._few = np.arange(count).reshape(tensors, size)[self._tensors].ravel()

    def judged(self, function: Function, template: str | None) -> list[Judged]:
        """Simplify and tune an expression, and measure it on all rows.

        Its constants are tuned and rounded, and operations without effect are removed.
        The result with these operations comes second: it may be valid where the first
        is not.
        """
        tuned = self._tuned(expressions.fold(function), template)
        pruned = self._tuned(self._pruned(tuned, template), template)
        merged = self._merged(pruned, template)
        short = self._pruned(self._rounded(merged, template), template)
        found = short, self._rounded(tuned, template)
        return [self._measured(filled(one, template)) for one in found]

    def checked(self, one: Judged) -> Judged:
        """Return an expression with the problem that keeps it from being used."""
        found = candidate.check(expressions.parse(one.text))
        problem = found.problem
        if self._problem.kind == "optimizer":
            problem = problem or "; ".join(found.warnings)
        if not problem and not one.share >= _LEAST_SHARE:
            problem = f"gradient and momenta carry {one.share:.2g} of its variance"
        return dataclasses.replace(one, problem=problem)

    def _measured(self, function: Function) -> Judged:
        values = self._values(function, None)
        loss = float(np.mean((values - self._target) ** 2)) / self._variance
        return Judged(
            function.to_text(),
            expressions.size(function),
            loss if np.isfinite(loss) else float("inf"),
            self._share(function),
        )

    def _pruned(self, function: Function, template: str | None) -> Function:
        """Leave out operations while the loss stays."""
        best = self._loss(function, template)
        rest = expressions.simpler(function)
        while rest:
            one = rest.pop(0)
            if self._keeps(self._loss(one, template), best):
                function = expressions.fold(one)
                rest = expressions.simpler(function)
        return function

    def _tuned(self, function: Function, template: str | None) -> Function:
        """Fit the constants to the target by least squares."""
        lifted = expressions.lift(function)
        whole = filled(lifted, template)
        names = [constant.name for constant in lifted.constants]
        if not names:
            return function
        target = self._target[self._few]
        with self._wide():

            def residuals(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
                constants = dict(zip(names, vector, strict=True))
                error = self._traced(whole, constants, self._few) - target
                return error, error

            # One program: the solver asks for the slopes where it asked for values.
            program = jax.jit(jax.jacfwd(residuals, has_aux=True))

            @functools.lru_cache(maxsize=2)
            def both(vector: bytes) -> tuple[np.ndarray, np.ndarray]:
                slopes, error = program(np.frombuffer(vector))
                return _bounded(error), _bounded(slopes)

            start = np.array([*lifted.init_constants().values()])
            found = optimize.least_squares(
                lambda vector: both(vector.tobytes())[0],
                start,
                jac=lambda vector: both(vector.tobytes())[1],  # pyright: ignore
                x_scale="jac",
                max_nfev=_TUNING_STEPS,
            )
        largest = expressions.Limits.MAGNITUDE
        values = np.clip(found.x, -largest, largest)
        moved = _with(lifted, dict(zip(names, values, strict=True)))
        return min((function, moved), key=lambda one: self._loss(one, template))

    def _merged(self, function: Function, template: str | None) -> Function:
        """Make constants that are nearly equal one, so that equal terms merge."""
        lifted = expressions.lift(function)
        exact = lifted.init_constants()
        first: dict[str, float] = {}
        same = {n: first.setdefault(f"{v:.{_ALIKE}g}", v) for n, v in exact.items()}
        if len(first) == len(exact):
            return function
        one = self._tuned(_with(lifted, same), template)
        loss = self._loss(one, template)
        return one if self._keeps(loss, self._loss(function, template)) else function

    def _rounded(self, function: Function, template: str | None) -> Function:
        """Give the constants as few digits as the loss allows."""
        lifted = expressions.lift(function)
        exact = lifted.init_constants()
        best = self._loss(function, template)
        for digits in _DIGITS:
            short = {n: float(f"{value:.{digits}g}") for n, value in exact.items()}
            one = _with(lifted, short)
            if self._keeps(self._loss(one, template), best):
                return one
        return function

    def _keeps(self, loss: float, best: float) -> bool:
        return loss <= max(_WORSE * best, best + _NOTHING)

    def _loss(self, function: Function, template: str | None) -> float:
        """Return the loss on the rows on which constants are tuned."""
        values = self._values(filled(function, template), self._few)
        error = float(np.mean((values - self._target[self._few]) ** 2))
        return error / self._variance if np.isfinite(error) else float("inf")

    def _values(self, function: Function, rows: Any) -> np.ndarray:
        with self._wide():
            return np.asarray(self._traced(function, {}, rows), float)

    def _traced(
        self, function: Function, constants: Mapping[str, Any], rows: Any
    ) -> jax.Array:
        """Return the rule's values ``[n]`` on some rows, or on all for None."""
        problem = self._problem
        if problem.tensors is None:
            columns = problem.columns if rows is None else problem.columns[rows]
            x, u, advantage = columns.T[:3]
            drift = discovered.drift(function, constants=constants)
            if not self._slopes:
                return drift(jnp.asarray(u + 1), jnp.asarray(advantage))
            total = jax.grad(lambda r, a: jnp.sum(drift(r, a)))
            return total(jnp.exp(jnp.asarray(x)), jnp.asarray(advantage))
        tensors = problem.tensors
        if rows is not None:
            tensors = jax.tree.map(lambda leaf: leaf[:, self._tensors], tensors)
        return updates(function, constants, tensors)

    def _share(self, function: Function) -> float:
        """Return the total effect of gradient and momenta, by Jansen's estimator.

        Whole tensors exchange gradient and momenta; other inputs stay.
        """
        x = self._problem.tensors
        if x is None:
            return 1.0
        moved = {
            name: jnp.roll(getattr(x, name), 1, axis=1)
            for name in ("gradient", "momenta")
        }
        before = np.asarray(updates(function, {}, x), float)
        after = np.asarray(updates(function, {}, x._replace(**moved)), float)
        variance = float(np.var(before))
        effect = float(np.mean((before - after) ** 2))
        if not (0 < variance < np.inf and np.isfinite(effect)):
            return 0.0
        return min(effect / (2 * variance), 1.0)

    def _wide(self) -> contextlib.AbstractContextManager[Any]:
        # Tensors are float32, as in training. Drifts must be flat at ratio 1 to more
        # digits than that.
        return contextlib.nullcontext() if self._problem.tensors else float64()


def front(found: Iterable[Judged], judge: Judge) -> list[Judged]:
    """Return the usable expressions that are better than all simpler ones, best first.

    Those with a problem come last.
    """
    left, refused = list(found), []
    checked: dict[str, Judged] = {}
    while True:
        kept = best_of_sizes(left)
        for one in kept:
            if one.text not in checked:
                checked[one.text] = judge.checked(one)
        bad = {one.text for one in kept if checked[one.text].problem}
        if not bad:
            return [checked[one.text] for one in kept] + refused
        refused += [checked[text] for text in sorted(bad)]
        left = [one for one in left if one.text not in bad]


def best_of_sizes(found: Iterable[Judged]) -> list[Judged]:
    """Return the finite expressions that are better than all simpler ones, best first.

    Example:
        >>> rows = [("a", 3, 0.5), ("b", 5, 0.5), ("c", 7, 0.1), ("d", 9, float("inf"))]
        >>> [one.text for one in best_of_sizes(Judged(*row) for row in rows)]
        ['c', 'a']
    """
    kept: list[Judged] = []
    for one in sorted(found, key=lambda j: (j.size, j.loss, j.text)):
        if one.finite and (not kept or one.loss < _LOWER * kept[-1].loss):
            kept.append(one)
    return kept[::-1]


def _with(function: Function, constants: Mapping[str, float]) -> Function:
    """Write constants into an expression as numbers."""
    text = dataclasses.replace(
        function,
        constants=tuple(
            dataclasses.replace(one, value=float(constants[one.name]))
            for one in function.constants
        ),
    )
    return expressions.fold(expressions.inline(text))


def _bounded(values: Any) -> np.ndarray:
    # Least squares stops at a value that is not finite; a large one turns it back.
    return np.nan_to_num(np.asarray(values, float), nan=1e6, posinf=1e6, neginf=-1e6)
