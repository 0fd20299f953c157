"""Running the checks: all, some or one of them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import unittest
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from learned_opt_rl.testing._candidate import Candidate, as_maker, kind_of
from learned_opt_rl.testing._checks import (
    CHECKS_OF,
    FOUNDATIONS,
    RULE_CHECKS,
    promise,
)
from learned_opt_rl.testing._expect import ConformanceError
from learned_opt_rl.testing._transforms import MakeRule

_LONGEST = 600  # characters of an error: jax's can fill several screens


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """How one check went.

    Attributes:
        name: Name of the check, a key of ``CHECKS`` or ``RULE_CHECKS``.
        outcome: ``"passed"``, ``"failed"`` or ``"skipped"``.
        detail: Why it failed or was skipped; empty when it passed.
        error: What was raised, with its traceback, when it failed.

    Example:
        >>> CheckResult("jit", "passed").passed
        True
    """

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""
    error: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the promise was seen to be kept."""
        return self.outcome == "passed"


def conformance(
    artifact: Candidate,
    *,
    only: str | Collection[str] | None = None,
    skip: str | Collection[str] = (),
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check an artifact against the contract of its kind, and report.

    Args:
        artifact: The name of an artifact (already fetched, if remote), an
            ``Artifact``, a function ``(**options) -> transformation``, or an optax
            transformation.
        only: Names of the checks to run; all of the kind's by default.
        skip: Names of checks to leave out.
        kind: ``"optimizer"``, ``"drift"`` or ``"update_rule"``, whose checks are
            ``CHECKS``, ``DRIFT_CHECKS`` and ``UPDATE_RULE_CHECKS``. By default what
            the artifact's card says; ``"optimizer"`` for what has no card. Of another
            kind, ``artifact`` is a function ``(**options) -> drift`` or rule.
        options: The options that ``artifact`` takes, with a value to try each, such
            as ``{"seed": 7}``. By default `COMMON_OPTIONS` for an artifact of kind
            ``"optimizer"``, which must take all of them, and none for a function or
            a transformation, which is then called without options.

    Returns:
        One result per check, in the order of the kind's checks. Where it cannot be
        built or called at all, the other checks are skipped.

    Raises:
        ArtifactError: The artifact cannot be loaded.
        TypeError: ``artifact`` is nothing that can be checked.
        ValueError: ``only`` or ``skip`` name a check that does not exist.

    Example:
        >>> import optax
        >>> from learned_opt_rl import testing
        >>> results = testing.conformance(optax.sgd(0.1), only=["builds", "chain"])
        >>> [(result.name, result.outcome) for result in results]
        [('builds', 'passed'), ('chain', 'passed')]
    """
    kind = kind_of(artifact) if kind is None else kind
    checks = _checks_of(kind)
    chosen = _choose(checks, only, skip)
    make = as_maker(artifact, kind, options)
    return _run({name: functools.partial(checks[name], make) for name in chosen})


def check_artifact(
    artifact: Candidate,
    *,
    only: str | Collection[str] | None = None,
    skip: str | Collection[str] = (),
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check an artifact against the contract of its kind; raise where it breaks it.

    With pytest, one case per promise::

        @pytest.mark.parametrize("check", testing.CHECKS)
        def test_contract(check):
            testing.check_artifact("my/artifact", only=check)

    Args:
        artifact: As for ``conformance``.
        only: Names of the checks to run; all of the kind's by default.
        skip: Names of checks to leave out.
        kind: As for ``conformance``.
        options: As for ``conformance``.

    Returns:
        The results, none of them failed.

    Raises:
        ConformanceError: Checks failed; the message lists each with its promise and
            the reason, and ``__cause__`` groups the errors with their tracebacks.
        unittest.SkipTest: No check could be decided on this machine; pytest and
            unittest count that as a skipped test.
        ArtifactError: The artifact cannot be loaded.
        TypeError: ``artifact`` is nothing that can be checked.
        ValueError: ``only`` or ``skip`` name a check that does not exist.

    Example:
        >>> import optax
        >>> from learned_opt_rl import testing
        >>> testing.check_artifact(optax.sgd(0.1), only="unknown_keywords")
        [CheckResult(name='unknown_keywords', outcome='passed', detail='')]
    """
    kind = kind_of(artifact) if kind is None else kind
    results = conformance(artifact, only=only, skip=skip, kind=kind, options=options)
    return _judge(results, _checks_of(kind))


def check_rule(
    make_tx: MakeRule,
    weights: Any,
    *,
    only: str | Collection[str] | None = None,
    skip: str | Collection[str] = (),
) -> list[CheckResult]:
    """Check that a rule is a function of its weights that jax can transform.

    This is what meta-training asks: vmap over a population, grad through an update.

    Args:
        make_tx: From weights, which may be traced, to the transformation.
        weights: A pytree of float arrays.
        only: Names of the checks to run; all of ``RULE_CHECKS`` by default.
        skip: Names of checks to leave out.

    Returns:
        The results, none of them failed.

    Raises:
        ConformanceError: As ``check_artifact`` does.
        ValueError: ``only`` or ``skip`` name a check that does not exist.

    Example:
        >>> import optax
        >>> from learned_opt_rl import testing
        >>> results = testing.check_rule(lambda rate: optax.sgd(rate), 0.1)
        >>> [result.name for result in results]
        ['population', 'weights_gradient']
    """
    chosen = _choose(RULE_CHECKS, only, skip)
    bound = {
        name: functools.partial(RULE_CHECKS[name], make_tx, weights) for name in chosen
    }
    return _judge(_run(bound), RULE_CHECKS)


def _checks_of(kind: str) -> Mapping[str, Any]:
    if kind not in CHECKS_OF:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(CHECKS_OF)}")
    return CHECKS_OF[kind]


def _choose(
    checks: Mapping[str, object],
    only: str | Collection[str] | None,
    skip: str | Collection[str],
) -> list[str]:
    chosen = list(checks) if only is None else _names(only)
    dropped = _names(skip)
    for argument, names in (("only", chosen), ("skip", dropped)):
        for name in names:
            if name not in checks:
                near = difflib.get_close_matches(str(name), checks, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(
                    f"{argument}= names no check {name!r}; {hint}There are "
                    f"{', '.join(checks)}"
                )
    return [name for name in checks if name in chosen and name not in dropped]


def _names(given: str | Collection[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _run(checks: Mapping[str, Callable[[], None]]) -> list[CheckResult]:
    results: list[CheckResult] = []
    broken = None
    for name, check in checks.items():
        if broken is not None:
            results.append(CheckResult(name, "skipped", f"not run: {broken} failed"))
            continue
        results.append(_one(name, check))
        if results[-1].outcome == "failed" and name in FOUNDATIONS:
            broken = name
    return results


def _one(name: str, check: Callable[[], None]) -> CheckResult:
    try:
        check()
    except unittest.SkipTest as skipped:
        return CheckResult(name, "skipped", str(skipped))
    except ConformanceError as error:
        return CheckResult(name, "failed", _shorten(str(error)), error)
    except Exception as error:  # a third party's transformation can fail in any way
        detail = _shorten(f"it raised {type(error).__name__}: {error}")
        return CheckResult(name, "failed", detail, error)
    return CheckResult(name, "passed")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _judge(
    results: list[CheckResult], checks: Mapping[str, Callable[..., None]]
) -> list[CheckResult]:
    """Raise if a check failed, or if there were some and all were skipped."""
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        lines = [
            f"- {result.name}: {promise(checks[result.name])}\n    {result.detail}"
            for result in failed
        ]
        summary = f"{len(failed)} of {len(results)} checks failed:"
        errors = [result.error for result in failed if result.error is not None]
        raise ConformanceError("\n".join([summary, *lines])) from ExceptionGroup(
            "what the failed checks raised", errors
        )
    if results and not any(result.passed for result in results):
        raise unittest.SkipTest("; ".join(f"{r.name}: {r.detail}" for r in results))
    return results
