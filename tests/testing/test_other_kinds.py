"""Drifts and update rules keep contracts of their own, and broken ones are caught."""

from typing import Any

import optax
import pytest

from learned_opt_rl import artifacts, testing
from learned_opt_rl.rules import drifts
from learned_opt_rl.testing import ConformanceError
from tests.broken_drifts import DRIFTS as BROKEN_DRIFTS
from tests.broken_rules import Broken
from tests.broken_update_rules import UPDATE_RULES as BROKEN_UPDATE_RULES
from tests.rules import lpg_cases
from tests.testing.subjects import DRIFTS, UPDATE_RULES, Subject, marked

BROKEN = {"drift": BROKEN_DRIFTS, "update_rule": BROKEN_UPDATE_RULES}
FAULTS = [(kind, fault) for kind, faults in BROKEN.items() for fault in faults]


@pytest.mark.parametrize("check", testing.DRIFT_CHECKS)
@pytest.mark.parametrize("subject", marked(DRIFTS), indirect=True)
def test_drifts(subject: Subject, check: str) -> None:
    testing.check_artifact(subject.make, only=check, kind="drift")


@pytest.mark.parametrize("check", testing.UPDATE_RULE_CHECKS)
@pytest.mark.parametrize("subject", marked(UPDATE_RULES), indirect=True)
def test_update_rules(subject: Subject, check: str) -> None:
    testing.check_artifact(subject.make, only=check, kind="update_rule")


# What the contract asks is nothing a good drift or rule of anybody's would miss.
@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("drift", drifts.ppo()),
        ("drift", lambda ratio, advantage: 0 * ratio * advantage),
        ("drift", lambda ratio, advantage: (ratio - 1) ** 2),
        ("update_rule", lpg_cases.reinforce(0.9)),
        ("update_rule", lpg_cases.rule(prediction="unbounded")),
        ("update_rule", lpg_cases.rule(prediction="value", target_width=1)),
    ],
    ids=["ppo", "none", "quadratic", "reinforce", "unbounded", "value"],
)
def test_good_ones_pass(kind: str, good: Any) -> None:
    results = testing.check_artifact(lambda: good, kind=kind)
    assert [(result.name, result.outcome) for result in results] == [
        (name, "passed") for name in testing.CHECKS_OF[kind]
    ]


class TestBroken:
    @pytest.mark.parametrize(("kind", "fault"), FAULTS)
    def test_exactly_the_right_checks_fail(self, kind: str, fault: str) -> None:
        make, expected, words, _ = BROKEN[kind][fault]
        results = {r.name: r for r in testing.conformance(make, kind=kind)}
        failed = {name for name, r in results.items() if r.outcome == "failed"}
        assert failed == set(expected)
        assert words in results[expected[0]].detail

    @pytest.mark.parametrize(("kind", "broken"), BROKEN.items())
    def test_every_check_is_failed_by_one(
        self, kind: str, broken: dict[str, Broken]
    ) -> None:
        caught = {name for fault in broken.values() for name in fault.fails}
        assert caught == set(testing.CHECKS_OF[kind])

    @pytest.mark.parametrize(
        ("kind", "fault", "first"),
        [
            ("drift", "wants_a_width", "gives_values"),
            ("update_rule", "WantsValues", "gives_targets"),
        ],
    )
    def test_one_that_cannot_run_is_reported_once(
        self, kind: str, fault: str, first: str
    ) -> None:
        failed, *others = testing.conformance(BROKEN[kind][fault].make, kind=kind)
        assert (failed.name, failed.outcome) == (first, "failed")
        assert {(r.outcome, r.detail) for r in others} == {
            ("skipped", f"not run: {first} failed")
        }

    def test_the_error_says_which_promise(self) -> None:
        make = BROKEN_DRIFTS["slopes_at_one"].make
        with pytest.raises(ConformanceError) as error:
            testing.check_artifact(make, kind="drift")
        assert str(error.value).splitlines()[:2] == [
            "1 of 6 checks failed:",
            "- flat_at_one: At a ratio of exactly 1 the derivative is 0: the first "
            "step is a plain one.",
        ]


class TestKind:
    def test_it_is_taken_from_the_card(self) -> None:
        name = "discovered/dpo"
        for candidate in (name, artifacts.load(name)):
            results = testing.check_artifact(candidate)
            assert [result.name for result in results] == list(testing.DRIFT_CHECKS)

    def test_it_may_be_given(self) -> None:
        results = testing.check_artifact(lambda: drifts.dpo(), kind="drift")
        assert [result.name for result in results] == list(testing.DRIFT_CHECKS)

    def test_without_a_card_it_is_an_optimizer(self) -> None:
        (result,) = testing.conformance(lambda: drifts.dpo(), only="builds")
        assert "it made a NamedDrift; return an optax.Gradient" in result.detail

    def test_a_wrong_one_fails(self) -> None:
        results = testing.conformance(optax.sgd(0.1), kind="drift")
        assert [r.name for r in results if r.outcome == "failed"] == ["gives_values"]

    @pytest.mark.parametrize("kind", ["drfit", "", "network"])
    def test_an_unknown_one_is_an_error(self, kind: str) -> None:
        message = f"kind='{kind}' must be one of optimizer, drift, update_rule"
        for function in (testing.check_artifact, testing.conformance):
            with pytest.raises(ValueError, match=message):
                function(lambda: drifts.dpo(), kind=kind)

    def test_checks_are_those_of_the_kind(self) -> None:
        with pytest.raises(ValueError, match="only= names no check 'chain'; There are"):
            testing.check_artifact("discovered/dpo", only="chain")
