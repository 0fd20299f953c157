"""The contract, clause by clause, and how to check all, some or one of them."""

import dataclasses
import difflib
import functools
import unittest
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from learned_opt_rl.testing import (
    _calling,
    _other_kinds,
    _parameters,
    _sharding,
    _transforms,
    _updates,
)
from learned_opt_rl.testing._candidate import Candidate, as_maker, kind_of
from learned_opt_rl.testing._expect import ConformanceError
from learned_opt_rl.testing._transforms import MakeRule

Check = Callable[..., None]
Names = str | Collection[str]


def _by_name(*checks: Check) -> dict[str, Check]:
    return {check.__name__: check for check in checks}


CHECKS = _by_name(
    _calling.builds,
    _calling.plain_update,
    _calling.common_options,
    _calling.unknown_keywords,
    _calling.dormancy,
    _calling.proportions,
    _calling.missing_params,
    _calling.mismatched_gradients,
    _calling.inject_hyperparams,
    _parameters.any_pytree,
    _parameters.python_floats,
    _parameters.state_from_shapes,
    _parameters.zero_gradients,
    _parameters.lone_head,
    _parameters.many_leaves,
    _updates.moves,
    _updates.finite_updates,
    _updates.bounded_run,
    _updates.state_of_arrays,
    _updates.stable_state,
    _updates.one_compilation,
    _updates.npz_round_trip,
    _updates.no_hidden_state,
    _updates.same_seed,
    _updates.noise_key,
    _updates.reseeding,
    _transforms.jit,
    _transforms.scan,
    _transforms.cond,
    _transforms.vmap,
    _transforms.grad,
    _sharding.sharding,
    _sharding.state_sharding,
    _sharding.sharded_agents,
    _calling.chain,
    _calling.partition,
    _calling.masked,
    _calling.multi_steps,
    _calling.map_params,
)
"""Name -> check of a transformation; the docstring's first line is the promise.

A check takes a factory and raises (``ConformanceError``, or whatever the
transformation raised) when the promise is broken, ``unittest.SkipTest`` when it cannot
tell here. ``check_artifact(artifact, only=name)`` calls one with anything it accepts.
"""

DRIFT_CHECKS = _by_name(
    _other_kinds.gives_values,
    _other_kinds.elementwise,
    _other_kinds.mirror_conditions,
    _other_kinds.flat_at_one,
    _other_kinds.transforms,
    _other_kinds.policy_gradient,
)
"""Name -> check of a drift, as ``CHECKS`` are of a transformation."""

UPDATE_RULE_CHECKS = _by_name(
    _other_kinds.gives_targets,
    _other_kinds.episodes_are_apart,
    _other_kinds.workers_are_apart,
    _other_kinds.agent_gradient,
)
"""Name -> check of an update rule, as ``CHECKS`` are of a transformation."""

CHECKS_OF = {
    "optimizer": CHECKS,
    "drift": DRIFT_CHECKS,
    "update_rule": UPDATE_RULE_CHECKS,
}
"""A card's ``kind`` -> the checks of such artifacts."""

RULE_CHECKS = _by_name(_transforms.population, _transforms.weights_gradient)
"""Name -> check of a rule as a function of its weights, for ``check_rule``."""

# Where one of these fails, no other check can tell anything.
_FOUNDATIONS = ("builds", "plain_update", "gives_values", "gives_targets")
_LONGEST = 600  # characters of an error: jax's can fill several screens


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: Name of the check, a key of ``CHECKS`` or ``RULE_CHECKS``.
        outcome: ``"passed"``, ``"failed"`` or ``"skipped"``.
        detail: Why it failed or was skipped; empty when it passed.
        error: What was raised, with its traceback, when it failed.
    """

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""
    error: Exception | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the check ran and the promise was kept."""
        return self.outcome == "passed"


def conformance(
    artifact: Candidate,
    *,
    only: Names | None = None,
    skip: Names = (),
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
        kind: A key of ``CHECKS_OF``, by default what the artifact's card says, or
            ``"optimizer"`` without a card. Of another kind, ``artifact`` is a function
            ``(**options) -> drift`` or rule.
        options: The options that ``artifact`` takes, with a value to try each, such
            as ``{"seed": 7}``. By default `COMMON_OPTIONS` for an artifact of kind
            ``"optimizer"``, which must take all of them, and none for a function or
            a transformation, which is then called without options.

    Returns:
        One result per check, in the order of the kind's checks. Where the artifact
        cannot be built or called at all, the other checks are skipped.

    Raises:
        ArtifactError: The artifact cannot be loaded.
        TypeError: ``artifact`` is not of a type that can be checked.
        ValueError: ``only`` or ``skip`` name a check that does not exist.

    Example:
        >>> import optax
        >>> results = conformance(optax.sgd(0.1), only=["builds", "chain"])
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
    only: Names | None = None,
    skip: Names = (),
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[CheckResult]:
    """Check an artifact against the contract of its kind; raise where it breaks it.

    With pytest, one case per promise::

        @pytest.mark.parametrize("check", testing.CHECKS)
        def test_contract(check):
            testing.check_artifact("my/artifact", only=check)

    Arguments are those of ``conformance``, and so are its other errors.

    Returns:
        The results, none of them failed.

    Raises:
        ConformanceError: Checks failed; the message lists each with its promise and
            the reason, and ``__cause__`` groups the errors with their tracebacks.
        unittest.SkipTest: No check could be decided on this machine; pytest and
            unittest count that as a skipped test.

    Example:
        >>> import optax
        >>> check_artifact(optax.sgd(0.1), only="unknown_keywords")
        [CheckResult(name='unknown_keywords', outcome='passed', detail='')]
    """
    kind = kind_of(artifact) if kind is None else kind
    results = conformance(artifact, only=only, skip=skip, kind=kind, options=options)
    return _judge(results, _checks_of(kind))


def check_rule(
    make_tx: MakeRule, weights: Any, *, only: Names | None = None, skip: Names = ()
) -> list[CheckResult]:
    """Check that a rule is a function of its weights that jax can transform.

    This is what meta-training asks: vmap over a population, grad through an update.

    ``make_tx`` takes ``weights``, a pytree of float arrays that may be traced. ``only``
    and ``skip`` name ``RULE_CHECKS``. Results and errors are as for ``check_artifact``.

    Example:
        >>> import optax
        >>> results = check_rule(lambda rate: optax.sgd(rate), 0.1)
        >>> [result.name for result in results]
        ['population', 'weights_gradient']
    """
    chosen = _choose(RULE_CHECKS, only, skip)
    bound = {
        name: functools.partial(RULE_CHECKS[name], make_tx, weights) for name in chosen
    }
    return _judge(_run(bound), RULE_CHECKS)


def _checks_of(kind: str) -> Mapping[str, Check]:
    if kind not in CHECKS_OF:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(CHECKS_OF)}")
    return CHECKS_OF[kind]


def _choose(checks: Mapping[str, object], only: Names | None, skip: Names) -> list[str]:
    chosen = checks if only is None else [only] if isinstance(only, str) else only
    dropped = [skip] if isinstance(skip, str) else skip
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


def _run(checks: Mapping[str, Callable[[], None]]) -> list[CheckResult]:
    results: list[CheckResult] = []
    broken = None
    for name, check in checks.items():
        if broken is not None:
            results.append(CheckResult(name, "skipped", f"not run: {broken} failed"))
            continue
        results.append(_one(name, check))
        if results[-1].outcome == "failed" and name in _FOUNDATIONS:
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
    results: list[CheckResult], checks: Mapping[str, Check]
) -> list[CheckResult]:
    """Raise if a check failed, or if there were some and all were skipped."""
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        lines = [
            f"- {result.name}: {_promise(checks[result.name])}\n    {result.detail}"
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


def _promise(check: Check) -> str:
    """Return what a check promises: the first line of its docstring."""
    return (check.__doc__ or check.__name__).partition("\n")[0]
