"""Every optimizer we know of keeps the contract, and every broken one is caught."""

import subprocess
import sys
import unittest
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_rl import artifacts, testing
from learned_opt_rl.testing import ConformanceError, _sharding
from tests import broken_rules
from tests.testing.subjects import OPTIMIZERS, Subject, has_weights, marked, with_checks


@pytest.mark.parametrize(
    ("subject", "check"), with_checks(OPTIMIZERS, testing.CHECKS), indirect=["subject"]
)
def test_contract(subject: Subject, check: str) -> None:
    testing.check_artifact(subject.make, only=check)


@pytest.mark.parametrize("check", testing.RULE_CHECKS)
@pytest.mark.parametrize(
    "subject", marked(filter(has_weights, OPTIMIZERS)), indirect=True
)
def test_contract_of_the_rule(subject: Subject, check: str) -> None:
    testing.check_rule(subject.make_tx, subject.weights, only=check)


OF_NOISE = {"noise_key", "reseeding"}


# What the contract asks is nothing a good optimizer of optax's own would miss.
@pytest.mark.parametrize("tx", [optax.adam(1e-3), optax.sgd(0.1)], ids=["adam", "sgd"])
def test_optax_keeps_the_contract(tx: optax.GradientTransformationExtraArgs) -> None:
    results = testing.check_artifact(tx)
    assert [(result.name, result.outcome) for result in results] == [
        (name, "skipped" if name in OF_NOISE else "passed") for name in testing.CHECKS
    ]


class TestBroken:
    @pytest.mark.parametrize("fault", broken_rules.RULES)
    @pytest.mark.parametrize(
        "others", [False, pytest.param(True, marks=pytest.mark.slow)]
    )
    def test_exactly_the_right_checks_fail(self, fault: str, others: bool) -> None:
        """With ``others``, every check that should not fail runs too."""
        make, expected, words, options = broken_rules.RULES[fault]
        only = None if others else expected
        found = testing.conformance(make, only=only, options=options)
        results = {result.name: result for result in found}
        failed = {name for name, r in results.items() if r.outcome == "failed"}
        assert failed == set(expected)
        assert words in results[expected[0]].detail

    def test_every_check_has_a_rule_that_fails_it(self) -> None:
        caught = {name for rule in broken_rules.RULES.values() for name in rule.fails}
        assert caught == set(testing.CHECKS)

    def test_a_rule_that_cannot_run_is_reported_once(self) -> None:
        make = broken_rules.RULES["needs_another_keyword"].make
        _, failed, *others = testing.conformance(make)
        assert (failed.name, failed.outcome) == ("plain_update", "failed")
        assert {(r.outcome, r.detail) for r in others} == {
            ("skipped", "not run: plain_update failed")
        }

    def test_a_factory_that_raises_is_reported_once(self) -> None:
        def make(**options: Any) -> optax.GradientTransformationExtraArgs:
            raise OSError("no weights here")

        with pytest.raises(ConformanceError, match="1 of .* checks failed") as error:
            testing.check_artifact(make)
        assert "it raised OSError: no weights here" in str(error.value)


class TestBrokenRules:
    def test_weights_made_constant_fail(self) -> None:
        def frozen(weights: Any) -> optax.GradientTransformationExtraArgs:
            return optax.sgd(jax.lax.stop_gradient(weights))

        with pytest.raises(ConformanceError, match="ignores its weights") as error:
            testing.check_rule(frozen, jnp.float32(0.1))
        assert "1 of 2" in str(error.value)

    def test_weights_that_must_be_numbers_fail(self) -> None:
        with pytest.raises(ConformanceError, match="2 of 2 .*[\\s\\S]*Concretization"):
            testing.check_rule(lambda rate: optax.sgd(float(rate)), jnp.float32(0.1))

    def test_members_that_influence_each_other_fail(self) -> None:
        @jax.custom_batching.custom_vmap
        def mean(x: jax.Array) -> jax.Array:
            return x

        @mean.def_vmap
        def _(size: int, batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
            return jnp.full_like(x, x.mean()), True

        with pytest.raises(ConformanceError, match="member 0 of the population"):
            testing.check_rule(
                lambda rate: optax.sgd(mean(rate)), jnp.float32(0.1), only="population"
            )


class TestReport:
    def test_one_error_lists_every_failed_check(self) -> None:
        broken = broken_rules.RULES["knows_only_dicts"].make
        with pytest.raises(ConformanceError) as error:
            testing.check_artifact(
                broken, only=["builds", "any_pytree", "stable_state"]
            )
        assert str(error.value).splitlines() == [
            "2 of 3 checks failed:",
            "- any_pytree: For any pytree of parameters, updates have its structure, "
            "shapes and dtypes.",
            "    it raised TypeError: parameters of kind 'tuple' are too much",
            "- stable_state: Updates leave the state's structure, shapes and dtypes as "
            "``init`` made them.",
            "    it raised TypeError: parameters of kind 'tuple' are too much",
        ]
        cause = error.value.__cause__
        assert isinstance(cause, ExceptionGroup)
        assert [type(inner) for inner in cause.exceptions] == [TypeError, TypeError]

    def test_screens_of_error_are_cut(self) -> None:
        def make() -> optax.GradientTransformationExtraArgs:
            raise ValueError("x" * 10_000)

        (result,) = testing.conformance(make, only="builds")
        assert len(result.detail) < 1000 and result.detail.endswith("x ...")

    def test_skipping_leaves_a_check_out(self) -> None:
        some = {"builds", "chain", "jit"}
        results = testing.check_artifact(optax.sgd(0.1), only=some, skip="jit")
        assert [result.name for result in results] == ["builds", "chain"]

    @pytest.mark.parametrize("argument", ["only", "skip"])
    def test_an_unknown_check_is_an_error(self, argument: str) -> None:
        with pytest.raises(ValueError, match=f"{argument}= .*'chian'; .* 'chain'"):
            testing.check_artifact(optax.sgd(0.1), **{argument: "chian"})

    def test_one_device_skips_sharding_visibly(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = jax.devices()[:1]
        monkeypatch.setattr(_sharding.jax, "devices", lambda: one)
        tx = optax.sgd(0.1)
        with pytest.raises(unittest.SkipTest, match="sharding: needs two devices"):
            testing.check_artifact(tx, only="sharding")
        results = testing.check_artifact(tx, only=["builds", "sharding"])
        assert [result.outcome for result in results] == ["passed", "skipped"]


class TestCandidates:
    def test_an_artifact_or_its_name(self) -> None:
        for candidate in (artifacts.load("sign_mixture"), "sign_mixture"):
            testing.check_artifact(candidate, only=["builds", "plain_update"])

    def test_a_factory_is_called_with_the_options_it_is_said_to_take(self) -> None:
        asked = []

        def seeded(*, seed: int = 0) -> optax.GradientTransformationExtraArgs:
            asked.append(seed)
            return optax.sgd(0.1)

        testing.check_artifact(seeded, only="same_seed")
        assert asked == [0, 0]
        testing.check_artifact(seeded, only="same_seed", options={"seed": 7})
        assert asked == [0, 0, 0, 0, 7, 7]
        testing.check_artifact(lambda: optax.sgd(0.1), only="same_seed")

    def test_anything_else_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="artifact=3 cannot be checked; give an"):
            testing.check_artifact(3)

    def test_pytest_and_flax_are_not_needed(self) -> None:
        code = (
            "import sys; sys.modules['pytest'] = sys.modules['flax'] = None\n"
            "import optax; from learned_opt_rl import testing\n"
            "testing.check_artifact(optax.sgd(0.1), only=['chain', 'any_pytree'])"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
