"""Expressions measured against a teacher: tuned, shortened, compared and refused."""

import dataclasses

import numpy as np
import pytest

from learned_opt_rl import expressions
from learned_opt_rl.expressions import parse
from learned_opt_rl.training.distillation.teachers import teacher
from learned_opt_rl.training.proposal import EvaluationConfig
from learned_opt_rl.training.symbolic import configure, problem
from learned_opt_rl.training.symbolic.selection import Judge, Judged, front

pytestmark = pytest.mark.usefixtures("quick_compilation")

WHERE = EvaluationConfig(("CartPole-v1",), steps=4096, seeds=2)
DRIFT = "drift\ninputs r, A\nreturn (r - 1)**2 * softplus(1.5 * A)"
OPTIMIZER = "optimizer\ninputs p, g, rand\nmemory m_0_9 = momentum(0.9)\n"
OPTIMIZER += "return 0.002 * tanh(3 * m_0_9) + 0.0004 * p + 0.0001 * rand\n"


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """A judge of a drift and one of an optimizer, on few rows."""
    folder = tmp_path_factory.mktemp("rules")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "_SHAPE", (1, 8, 16))
        patch.setattr(problem, "_GRID", 8)
        for name, text in (("drift", DRIFT), ("optimizer", OPTIMIZER)):
            (folder / name).write_text(text)
            one = teacher(str(folder / name))
            inputs = {"inputs": "paper"} if name == "optimizer" else {}
            data = problem.make_problem(configure(one, WHERE, **inputs), one)
            made[name] = Judge(data)
            made[f"{name} slope"] = Judge(data, "slope")
    return made


def h(text, inputs="A"):
    return parse(f"drift\ninputs {inputs}\nreturn {text}\n")


def optimizer(text, inputs="g", memory=""):
    return parse(f"optimizer\ninputs {inputs}\n{memory}return {text}\n")


def result(one):
    return one.text.splitlines()[-1].removeprefix("return ")


def test_constants_are_tuned_and_rounded(judges):
    short, tuned = judges["drift"].judged(h("1.2 * A + 0.1"), "softplus")
    assert result(short) == "(r - 1)**2 * softplus(1.5 * A)"
    assert short.loss < 1e-9 and short.size == expressions.size(parse(short.text))
    assert tuned.loss < 1e-12
    (slope,) = [
        c for c in expressions.lift(parse(short.text)).init_constants().values()
    ]
    assert slope == 1.5


def test_operations_without_effect_are_left_out(judges):
    text = "max(1.4 * A + tanh(A - A), -50) + min(0.1, 7 - 7)"
    short, tuned = judges["drift"].judged(h(text), "softplus")
    assert result(short) == "(r - 1)**2 * softplus(1.5 * A)"
    assert short.size < tuned.size


@pytest.mark.parametrize(
    ("text", "inputs"),
    [("1.31 * relu(A)", "A"), ("relu(A) + 0.2 * abs(A)", "A"), ("0.3", "")],
)
def test_what_is_shorter_loses_no_more_than_it_may(judges, text, inputs):
    made = parse(f"drift\n{inputs and 'inputs A'}\nreturn {text}\n")
    short, tuned = judges["drift"].judged(made, "softplus")
    # Leaving out, rounding, and leaving out again may each cost one percent.
    assert short.loss <= 1.01**3 * tuned.loss + 3e-10
    assert short.size <= tuned.size and 1e-6 < tuned.loss < 1


def test_constants_have_the_fewest_digits_that_keep_the_loss(judges):
    # The best constants of this form have infinitely many digits.
    for one in judges["drift"].judged(h("1.31 * relu(A) + 0.21"), "softplus"):
        constants = expressions.lift(parse(one.text)).init_constants().values()
        digits = [len(f"{c:.12g}".replace(".", "").strip("0")) for c in constants]
        assert digits and max(digits) <= 3


def test_an_optimizer_is_tuned_in_its_units(judges):
    memory = "memory m_0_9 = momentum(0.9)\n"
    start = "0.0015 * tanh(2.5 * m_0_9) + 0.0001 * p + 0.0003 * rand"
    made = optimizer(start, "p, g, rand", memory)
    short, _ = judges["optimizer"].judged(made, None)
    found = expressions.lift(parse(short.text)).init_constants()
    assert [*found.values()] == pytest.approx([0.002, 3, 0.0004, 0.0001], rel=1e-3)
    assert short.loss < 1e-8


def test_terms_that_are_nearly_equal_become_one(judges):
    judge, memory = judges["optimizer"], "memory m_0_9 = momentum(0.9)\n"
    rest = "0.0004 * p + 0.0001 * rand"
    pair = "0.001 * tanh(2.9999 * m_0_9) + 0.001 * tanh(3.0001 * m_0_9)"
    one = optimizer(f"{pair} + {rest}", "p, g, rand", memory)
    merged = judge._merged(one, None)
    assert merged.to_text().count("tanh") == 1
    assert judge._measured(merged).loss < 1e-9
    one = optimizer(f"0.002 * m_0_9 + {rest}", "p, g, rand", memory)
    assert judge._merged(one, None) == one


@pytest.mark.parametrize(
    ("text", "inputs", "share"),
    [
        ("0.01 * g", "g", 1.0),
        # The gradient has a variance of 1/4, of which there are as many as of noise.
        ("2 * g + rand", "g, rand", 0.5),
        ("0.01 * rand + 0.001 * p", "p, rand", 0.0),
        ("0.01 * p", "p", 0.0),
    ],
)
def test_the_share_of_gradient_and_momenta(judges, text, inputs, share):
    judge = judges["optimizer"]
    measured = judge._measured(optimizer(text, inputs))
    assert measured.share == pytest.approx(share, abs=0.15)
    problem = judge.checked(measured).problem
    assert problem == ("" if share else "gradient and momenta carry 0 of its variance")


def test_momenta_count_as_gradients(judges):
    memory = "memory m_0_99 = momentum(0.99)\n"
    one = judges["optimizer"]._measured(optimizer("0.01 * m_0_99", "g", memory))
    assert one.share == pytest.approx(1, abs=0.15)
    assert not judges["optimizer"].checked(one).problem


def test_formulas_that_are_not_finite_are_refused(judges):
    on_data = judges["optimizer"]._measured(optimizer("log(g)"))
    assert on_data.loss == np.inf and not on_data.finite
    assert front([on_data], judges["optimizer"]) == []
    # This one is finite on all rows, but not for the gradients of a collapsing agent.
    beyond = judges["optimizer"]._measured(optimizer("0.001 * exp(g)"))
    assert beyond.finite
    (found,) = front([beyond], judges["optimizer"])
    assert "not finite for gradients and momenta of 1e6" in found.problem
    huge = judges["optimizer"].checked(
        judges["optimizer"]._measured(optimizer("1e5*g"))
    )
    assert "inputs of about 1 give an update of" in huge.problem


def test_a_drift_that_is_not_one_is_refused(judges):
    judge = judges["drift"]
    sloped = judge.checked(judge._measured(h("relu(A) * abs(r - 1)", "r, A")))
    assert sloped.problem.startswith("not a drift: ")
    valid = judge.checked(judge._measured(h("relu(A) * (r - 1)**2", "r, A")))
    assert not valid.problem and valid.share == 1.0


def test_the_loss_of_slopes_ignores_an_offset(judges):
    one = h("(r - 1)**2 * softplus(1.5 * A) + 1", "r, A")
    value, slope = (judges[name]._measured(one) for name in ("drift", "drift slope"))
    assert value.loss > 0.1 and slope.loss < 1e-20
    # Zero has no slope, so all of the target's mean square is left.
    flat = judges["drift slope"]._measured(h("0 * A", "A"))
    assert flat.loss >= 1
    short, _ = judges["drift slope"].judged(h("1.2 * A"), "softplus")
    assert result(short) == "(r - 1)**2 * softplus(1.5 * A)"


def test_an_optimizer_has_no_slope_to_compare(judges):
    one = optimizer("0.01 * g")
    assert judges["optimizer slope"]._measured(one) == judges["optimizer"]._measured(
        one
    )


class Named:
    """A judge that refuses some texts."""

    def __init__(self, *refused):
        self.refused = refused

    def checked(self, one):
        problem = "bad" if one.text in self.refused else ""
        return dataclasses.replace(one, problem=problem)


ROWS = [
    Judged("a", 3, 0.5),
    Judged("b", 5, 0.495),  # not much lower
    Judged("c", 7, 0.1),
    Judged("d", 7, 0.2),
    Judged("e", 9, 0.1),
    Judged("f", 11, float("inf")),
]


@pytest.mark.parametrize(
    ("refused", "kept"),
    [("", "ca"), ("c", "eda"), ("a", "cb"), ("cd", "ea"), ("ace", "db")],
)
def test_larger_expressions_without_a_lower_loss_are_dropped(refused, kept):
    found = front(ROWS[::-1], Named(*refused))
    usable = [one.text for one in found if not one.problem]
    assert usable == [*kept]
    # Refused ones that would have been kept come last, with their problem.
    rest = found[len(usable) :]
    assert {one.text for one in rest} <= {*refused}
    assert all(one.problem == "bad" for one in rest)
