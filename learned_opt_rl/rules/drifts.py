"""Drifts: penalties of a policy loss for moving the policy too far.

A drift is an elementwise function ``(ratio, advantage) -> drift``. Mirror learning
requires a drift that is never negative, and 0 and flat where the ratio is 1. Any such
drift gives a policy improvement step; PPO's clipping is one of them. `check` tests
whether a function is a drift. `losses.policy_loss` takes any drift.

References:
    Kuba et al. 2022, "Mirror Learning: A Unifying Framework of Policy Optimisation".
    Lu et al. 2022, "Discovered Policy Optimisation" (DPO).
    Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning Algorithms?".

Example:
    >>> from learned_opt_rl.rules import drifts, losses
    >>> import jax.numpy as jnp
    >>> ratio, advantage = jnp.array([1.0, 1.5]), jnp.array([1.0, -1.0])
    >>> loss = losses.policy_loss(ratio, advantage, drifts.dpo())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from learned_opt_rl.rules._core.named_drift import NamedDrift

__all__ = [
    "Drift",
    "DriftReport",
    "Failure",
    "PPODrift",
    "check",
    "dpo",
    "from_function",
    "ppo",
]
__dir__ = __all__.copy


# (ratio, advantage) -> drift: elementwise, non-negative, 0 at ratio 1. A comment and
# not a docstring, because docs/api describes the alias.
Drift: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]

# exp(log-probability difference) underflows to 0; its logarithm must not be -inf.
SMALLEST_RATIO = 1e-30


@dataclasses.dataclass(frozen=True)
class PPODrift:
    """PPO's drift, flat for ratios closer to 1 than ``clip_eps``; see `ppo`."""

    clip_eps: float

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """Return the drift, elementwise."""
        require_same_shape(ratio, advantage)
        return jax.nn.relu((ratio - self.clip(ratio)) * advantage)

    def clip(self, ratio: jax.Array) -> jax.Array:
        """Return the ratio, clipped to the band."""
        return jnp.clip(ratio, 1 - self.clip_eps, 1 + self.clip_eps)


def ppo(clip_eps: float = 0.2) -> PPODrift:
    """Return PPO's clipping as a drift: ``relu((r - clip(r, 1 - eps, 1 + eps)) * A)``.

    With it, `losses.policy_loss` is PPO's clipped objective.

    Args:
        clip_eps: Half-width of the band without drift, positive; may be traced.

    Raises:
        ValueError: ``clip_eps`` is not positive.

    References:
        Schulman et al. 2017, equation 7 (the clipped objective); Goldie et al. 2025,
        section 3 (as a drift).

    Example:
        >>> ppo(0.25)(jnp.array([1.0, 1.5]), jnp.array([1.0, 1.0])).tolist()
        [0.0, 0.25]
    """
    require_positive("clip_eps", clip_eps)
    return PPODrift(clip_eps)


def dpo(alpha: float = 2.0, beta: float = 0.6) -> Drift:
    """Return Discovered Policy Optimisation, a formula for what LPO had learned.

    For ``A >= 0`` the drift is ``relu(z - alpha tanh(z / alpha))`` with
    ``z = (r - 1) A``; for ``A < 0`` it is ``relu(z - beta tanh(z / beta))`` with
    ``z = A log r``.

    So ``alpha`` is the scale from which positive advantages are restrained, ``beta``
    that of negative ones; both are positive.

    Raises:
        ValueError: ``alpha`` or ``beta`` is not positive.

    References:
        Lu et al. 2022; the constants are those of the authors' released code.

    Example:
        >>> print(dpo()(jnp.array([1.5, 0.6]), jnp.array([1.0, -1.0])).round(3))
        [0.01  0.096]
    """
    require_positive("alpha", alpha)
    require_positive("beta", beta)

    def drift(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        require_same_shape(ratio, advantage)
        positive = (ratio - 1) * advantage
        negative = jnp.log(jnp.maximum(ratio, SMALLEST_RATIO)) * advantage
        return jnp.where(
            advantage >= 0, _restrained(positive, alpha), _restrained(negative, beta)
        )

    return NamedDrift(f"dpo(alpha={alpha}, beta={beta})", drift)


def _restrained(z: jax.Array, scale: float) -> jax.Array:
    return jax.nn.relu(z - scale * jnp.tanh(z / scale))


def from_function(
    f: Callable[[jax.Array, jax.Array], jax.Array], *, offset: float = 0.0
) -> Drift:
    """Return a drift from any formula: ``relu(f(r, A) - offset)``.

    Args:
        f: ``(ratio, advantage) -> value``, elementwise, of JAX operations.
        offset: Subtracted before the rectifier, at least 0. A formula that is 0 at
            ratio 1 but not flat there becomes flat very close to 1 with 1e-6 (the
            published symbolic functions) or 1e-4 (LPO). Proposals of language models
            have 0.

    Raises:
        TypeError: ``f`` is not callable.
        ValueError: ``offset`` is negative or NaN; when called: ratio, advantage and
            ``f``'s value differ in shape.

    References:
        Goldie et al. 2025, supplement C.

    Example:
        >>> drift = from_function(lambda r, a: a * jnp.log(r), offset=1e-6)
        >>> drift(jnp.array([1.0, 0.5]), jnp.array([3.0, 3.0])).tolist()
        [0.0, 0.0]
    """
    require_drift("f", f)
    if not isinstance(offset, Tracer) and not offset >= 0:
        raise ValueError(
            f"offset={offset!r} must be at least 0: a negative one makes the drift "
            "positive at ratio 1, where it has to vanish"
        )

    def drift(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return jax.nn.relu(evaluate(f, ratio, advantage) - offset)

    return drift


def evaluate(f: Drift, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Return ``f(ratio, advantage)``; raise ``ValueError`` where shapes differ."""
    require_same_shape(ratio, advantage)
    value = f(ratio, advantage)
    if jnp.shape(value) != jnp.shape(ratio):
        raise ValueError(
            f"the drift has shape {jnp.shape(value)} for ratio and advantage of shape "
            f"{jnp.shape(ratio)}; it must be elementwise, one value for each"
        )
    return value


def require_same_shape(ratio: Any, advantage: Any) -> None:
    """Raise ``ValueError`` unless both have one shape: broadcasting hides bugs."""
    if jnp.shape(ratio) != jnp.shape(advantage):
        raise ValueError(
            f"ratio has shape {jnp.shape(ratio)}, advantage {jnp.shape(advantage)}; "
            "give both one value per transition, in the same shape"
        )


def require_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is positive (or traced)."""
    if not isinstance(value, Tracer) and not value > 0:
        raise ValueError(f"{name}={value!r} must be positive")


def require_drift(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(
            f"{name}={value!r} is not a function (ratio, advantage) -> drift; pass one "
            "such as drifts.ppo(0.2)"
        )


# Half-widths of log r and of A: the range of training, and one well beyond it.
_RANGES = ((1.0, 4.0), (3.0, 10.0))

# Distance from r = 1, so small that an offset of 1e-6 still hides a slope there. The
# kink of |r - 1| shows at this distance; automatic differentiation calls it flat.
_BESIDE = 2.0**-26


@dataclasses.dataclass(frozen=True)
class Failure:
    """The worst violation of one condition on one range.

    Attributes:
        problem: ``"negative"``, ``"not zero at r = 1"``, ``"not flat at r = 1"`` or
            ``"not finite"`` (value or slope).
        ratio: Ratio at the worst point.
        advantage: Advantage at the worst point.
        value: The drift there, or its slope with respect to the ratio.
        share: Share of the tested points that violate the condition.
        after_relu: Whether ``relu(f - offset)`` violates it too.
    """

    problem: str
    ratio: float
    advantage: float
    value: float
    share: float
    after_relu: bool

    def __str__(self) -> str:
        return (
            f"{self.problem}: {self.value:.3g} at r = {self.ratio:.4g}, "
            f"A = {self.advantage:.4g} ({self.share:.1%} of the points)"
            + ("" if self.after_relu else "; the relu removes it")
        )


@dataclasses.dataclass(frozen=True)
class DriftReport:
    """The result of `check`. ``f`` is the given function, ``D = relu(f - offset)``.

    Numbers are for the narrower grid unless stated otherwise.

    Attributes:
        minimum: Minimum of ``f``, on the grid and on the wide grid.
        at_one: Largest ``|f(1, A)|``.
        slope: Largest ``|df/dr|`` at ``r = 1``.
        slope_after_relu: Largest ``|dD/dr|`` at ``r = 1``.
        active: Share of the grid where ``D > 0``.
        correlation: Correlation of ``D`` with PPO's drift (clip 0.2); 0 for a constant.
        failures: Where ``f`` is not a drift, on the grid and then on the wide grid.
    """

    minimum: tuple[float, float]
    at_one: float
    slope: float
    slope_after_relu: float
    active: float
    correlation: float
    failures: tuple[Failure, ...]

    @property
    def valid(self) -> bool:
        """Return whether ``f`` itself is a drift."""
        return not self.failures

    @property
    def valid_after_relu(self) -> bool:
        """Return whether ``D`` is a drift."""
        return not any(failure.after_relu for failure in self.failures)

    def __str__(self) -> str:
        near, wide = self.minimum
        verdict = "a valid drift" if self.valid else "valid after the relu"
        lines = [
            verdict if self.valid_after_relu else "not a valid drift",
            f"  minimum               {near:.3g} ({_range(0)}), "
            f"{wide:.3g} ({_range(1)})",
            f"  largest |f(1, A)|     {self.at_one:.3g}",
            f"  largest slope at r=1  {self.slope:.3g} "
            f"(after the relu {self.slope_after_relu:.3g})",
            f"  drift on              {self.active:.2f} of the grid",
            f"  correlation with PPO  {self.correlation:.2f}",
        ]
        return "\n".join(lines + [f"  {failure}" for failure in self.failures])


def check(
    drift: Drift, *, offset: float = 0.0, size: int = 200, tolerance: float = 1e-6
) -> DriftReport:
    """Check that a function is a drift, and report where it is not.

    A drift must be non-negative, and 0 and flat at ratio 1. It must be finite with a
    finite slope, or training ends in NaN. All are tested in float64 on a grid over
    ``log r`` in [-1, 1] and ``A`` in [-4, 4], and again on [-3, 3] and [-10, 10].

    A formula that `from_function` will rectify can be checked as it is, with the same
    offset: ``valid`` is then about the formula and ``valid_after_relu`` about the
    drift. An offset hides a slope at 1 and does not remove it, so look at ``slope``
    too. The grid has ``size`` points along each axis. Violations up to
    ``tolerance * max(1, |A|)`` are rounding. Print the report to read it.

    Raises:
        TypeError: ``drift`` is not callable.
        ValueError: ``drift`` is not elementwise; ``offset`` is negative; ``size`` is
            less than 2.

    References:
        Kuba et al. 2022; Goldie et al. 2025, section 3.

    Example:
        >>> check(dpo()).valid
        True
        >>> report = check(lambda r, a: (r - 1) * a)
        >>> print(report.failures[0])
        negative: -6.87 at r = 2.718, A = -4 (50.0% of the points); the relu removes it
    """
    require_drift("drift", drift)
    if size < 2:
        raise ValueError(f"size={size!r} must be at least 2 points along each axis")
    with float64():
        rectified = from_function(drift, offset=offset)
        found = [_Values.of(drift, *half_widths, size) for half_widths in _RANGES]
        after = [_Values.of(rectified, *half_widths, size) for half_widths in _RANGES]
        baseline = _Values.of(ppo(), *_RANGES[0], size).value
    failures: list[Failure] = []
    for raw, mended in zip(found, after, strict=True):
        left = {failure.problem for failure in mended.failures(tolerance)}
        failures += (
            dataclasses.replace(failure, after_relu=failure.problem in left)
            for failure in raw.failures(tolerance)
        )
    near, wide = (values.minimum for values in found)
    return DriftReport(
        minimum=(near, min(near, wide)),
        at_one=_largest(found[0].at_one),
        slope=_largest(found[0].slope),
        slope_after_relu=_largest(after[0].slope),
        active=float(np.mean(after[0].value > 0)),
        correlation=_correlation(after[0].value, baseline),
        failures=tuple(failures),
    )


@dataclasses.dataclass(frozen=True)
class _Values:
    """Values of a function on one range: ``[size, size]``, at ratio 1 ``[size]``."""

    ratios: np.ndarray
    advantages: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    at_one: np.ndarray
    slope: np.ndarray

    @classmethod
    def of(cls, f: Drift, width: float, height: float, size: int) -> _Values:
        log_ratios, advantages = (np.linspace(-x, x, size) for x in (width, height))
        ratios = np.exp(log_ratios)
        value, gradient = _with_gradient(f, *np.meshgrid(ratios, advantages))
        one = np.ones(size)
        at_one, slope = _with_gradient(f, one, advantages)
        for step in (_BESIDE, -_BESIDE):
            beside, _ = _with_gradient(f, one + step, advantages)
            quotient = (beside - at_one) / step
            slope = np.where(np.abs(quotient) > np.abs(slope), quotient, slope)
        return cls(ratios, advantages, value, gradient, at_one, slope)

    @property
    def minimum(self) -> float:
        every = np.append(self.value, self.at_one)
        return float(np.nanmin(every, initial=np.inf))

    def failures(self, tolerance: float) -> Iterator[Failure]:
        grid = np.meshgrid(self.ratios, self.advantages)
        row = np.ones_like(self.advantages), self.advantages
        not_finite = np.where(np.isfinite(self.gradient), self.value, self.gradient)
        tried = [
            ("negative", grid, self.value, -self.value),
            ("not zero at r = 1", row, self.at_one, np.abs(self.at_one)),
            ("not flat at r = 1", row, self.slope, np.abs(self.slope)),
            ("not finite", grid, not_finite, _infinite_unless_finite(not_finite)),
            ("not finite", row, self.slope, _infinite_unless_finite(self.slope)),
        ]
        for problem, (ratios, advantages), value, violation in tried:
            wrong = violation > tolerance * np.maximum(1, np.abs(advantages))
            if wrong.any():
                worst = np.unravel_index(
                    np.argmax(np.where(wrong, violation, -np.inf)), wrong.shape
                )
                yield Failure(
                    problem,
                    float(ratios[worst]),
                    float(advantages[worst]),
                    float(value[worst]),
                    float(wrong.mean()),
                    after_relu=True,
                )


def _infinite_unless_finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), 0, np.inf)


def _with_gradient(
    f: Drift, ratio: np.ndarray, advantage: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return values, and derivatives with respect to the ratio."""

    def total(ratio: jax.Array, advantage: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = evaluate(f, ratio, advantage)
        return jnp.sum(value), value

    gradient, value = jax.grad(total, has_aux=True)(
        jnp.asarray(ratio), jnp.asarray(advantage)
    )
    return np.asarray(value), np.asarray(gradient)


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not (np.isfinite(a).all() and np.ptp(a)):
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _range(index: int) -> str:
    width, height = _RANGES[index]
    return f"|log r| <= {width:g}, |A| <= {height:g}"


def float64() -> Any:
    """Return a context in which JAX computes in float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # jax < 0.8  # pyright: ignore

    return enable_x64()
