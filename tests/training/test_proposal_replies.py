import contextlib
import json
import random
import sys
import time
import tracemalloc

import pytest

from learned_opt_rl import expressions
from learned_opt_rl.training.proposal.reply import (
    LONGEST,
    RefusedReplyError,
    clean_name,
    read_code,
    read_object,
)
from learned_opt_rl.training.proposal.scoring import candidate

FIELDS = ("thought", "name", "code")
GOOD = {"thought": "t", "name": "n", "code": "c"}
SQUARE = "def f(ratio, advantage, epsilon):\n    return (ratio - 1) ** 2\n"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"Here you go:\n```json\n{json.dumps(GOOD, indent=2)}\n```\nGood luck!",
        json.dumps({**GOOD, "extra": {"nested": [1]}}),
        f"The set {{x}} is not JSON. {json.dumps(GOOD)}",
        "{x} and [0, 1} and \\frac{a}{b} " * 50 + json.dumps(GOOD) + " {x}" * 50,
        "{ " * 500 + json.dumps(GOOD),
        f"d = {{}} {json.dumps(GOOD)} {{}}",
        f'cfg = {{"lr": lr, 0: {{1}}}} f"{{x:.2f}}" {json.dumps(GOOD)} {{x: x > 0}}',
        f'As {{"thought": ..., "name": ..., "code": ...}}: {json.dumps(GOOD)}',
    ],
)
def test_one_object_is_found_in_any_prose(text):
    assert read_object(text, FIELDS) == GOOD


def test_line_breaks_in_strings_are_accepted():
    text = '{"thought": "a\nb", "name": "n", "code": "def f():\n\treturn 1"}'
    assert read_object(text, FIELDS)["code"] == "def f():\n\treturn 1"


@pytest.mark.parametrize(
    ("text", "category", "message"),
    [
        ("", "json_error", "the reply is empty"),
        ("I cannot help.", "json_error", "has no complete JSON objects"),
        (
            '{"thought": "cut',
            "json_error",
            'send exactly one JSON object with "thought"',
        ),
        (json.dumps(GOOD) * 2, "json_error", "has 2 complete JSON objects"),
        ("[1, 2]", "json_error", "no complete"),
        ('{"thought": "t", "name": "n"}', "schema_error", '"code" is missing'),
        (json.dumps({**GOOD, "name": 3}), "schema_error", '"name" is not a string'),
        ("x" * (LONGEST + 1), "size_error", "write at most"),
    ],
)
def test_other_replies_are_refused_in_one_line(text, category, message):
    with pytest.raises(RefusedReplyError) as refused:
        read_object(text, FIELDS)
    assert refused.value.category == category
    assert message in str(refused.value) and "\n" not in str(refused.value)


DRAFT = json.dumps({**GOOD, "code": "DRAFT"})


@pytest.mark.parametrize(
    "text",
    [
        f'{{"thought": "\\alpha", "draft": {DRAFT}, "name": "n", "code": "REAL"}}',
        f'{{"thought": "a 5" wide", "draft": {DRAFT}, "name": "n", "code": "REAL"}}',
        f'{{"thought": "[0, 1}} \\e", "draft": {DRAFT}, "name": "n", "code": "R"}}',
        f"{{'thought': 't', 'draft': {DRAFT}, 'name': 'n', 'code': 'REAL'}}",
        f"{{thought: 't', draft: {DRAFT}, name: 'n', code: 'REAL'}}",
        f'{{// comment\n"draft": {DRAFT}, "name": "n", "code": "REAL"}}',
        f'{{"thought": "t", "draft": {DRAFT}, "name": "n", "co',
        f'{{"thought": "t", "draft": {DRAFT}',
        f"{{the draft {DRAFT}, then more}}",
        f'{DRAFT} Better: {{"thought": "\\alpha", "name": "n", "code": "REAL"}}',
        f'{DRAFT} Better: {{"thou',
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_draft_does_not_stand_for_a_broken_proposal(text, cut):
    with pytest.raises(RefusedReplyError) as refused:
        read_object(text, FIELDS, cut=cut)
    assert refused.value.category == "json_error"


@pytest.mark.parametrize(
    ("text", "place", "fix"),
    [
        ('{"code": "c",}', "column 14", "remove the comma before"),
        ('{"code": "c",\n "x": [1, ]}', "line 2, column 11", "remove the comma before"),
        ('{"code": "c", // why\n "name": "n"}', "column 15", "remove the comment"),
        ('{# why\n"code": "c"}', "column 2", "remove the comment"),
        ("{'code': 'c'}", "column 2", 'one pair of " characters'),
        ("{\"code\": 'c'}", "column 10", 'one pair of " characters'),
        ('{"code": """def f():\n  return 1"""}', "column 12", 'one pair of " char'),
        ('{\n"code": `c`}', "line 2, column 9", 'one pair of " characters'),
        (
            '{"code": "\\epsilon"}',
            "column 11",
            r"double the backslash: write \\epsilon",
        ),
        ('{"code": "\\upsilon"}', "column", r"double the backslash: write \\upsilon"),
        ('{"code": "a "b" c"}', "column 14", "needs a backslash before it"),
        ('{"code": "c', "column 10", "close its strings and braces"),
        ('{"code": "c"', "column 13", "close its strings and braces"),
        ("{code: 1}", "column 2", "property name enclosed in double quotes"),
        ('{"code":' * 3000, "", "nested too deeply"),
        ('{"code": ' + "9" * 5000 + "}", "", "too many digits"),
    ],
)
def test_broken_objects_get_the_place_and_the_fix(text, place, fix):
    with pytest.raises(RefusedReplyError) as refused:
        read_object(text, FIELDS)
    message = str(refused.value)
    assert place in message and fix in message and "\n" not in message
    assert message.endswith(
        'send exactly one JSON object with "thought", "name", "code"'
    )


def test_a_reply_cut_off_by_length_is_called_that():
    with pytest.raises(RefusedReplyError, match="the reply was cut off"):
        read_object('{"thought": "lon', FIELDS, cut=True)


def test_names_are_harmless():
    assert clean_name("../../etc/passwd\0") == "etc_passwd"
    assert clean_name("ж" * 100) == "unnamed"
    assert len(clean_name("a" * 1000)) == 64


def test_lone_surrogates_are_replaced():
    found = read_object('{"thought": "\\ud800", "name": "n", "code": "c"}', FIELDS)
    assert found["thought"].encode() == b"?"


def hostile(rng: random.Random) -> str:
    """Return a reply that tries to run something, or to cost much."""
    bombs = (
        "__import__('os').system('id')",
        "ratio.__class__.__mro__[1].__subclasses__()",
        "open('/etc/passwd').read()",
        "eval('1')",
        "jax.pure_callback(lambda r: r, ratio, ratio)",
        "jnp.ones((200000, 200000)).sum()",
        "ratio ** 9 ** 9 ** 9",
        "(lambda f: f(f))(lambda f: f(f))",
        "[x for x in ().__class__.__bases__[0].__subclasses__()]",
        "getattr(jnp, '__builtins__')",
        "f'{ratio.__globals__}'",
        "jnp.load('x')",
        "(" * 5000 + "ratio" + ")" * 5000,
        "-" * 9000 + "ratio",
        "ratio" + " + ratio" * 3000,
        "\u202eratio",
        "ratio\u2044advantage",
        "1e999 * ratio",
        "9" * 4000 + " * ratio",
    )
    bodies = (
        "while True:\n        ratio = ratio + 1",
        "import os\n    os.system('id')",
        "for i in range(10 ** 9):\n        ratio = ratio + i",
        "global jnp\n    jnp = None",
        "exec('import os')",
        "print('the API key is', key)",
        "x = " + rng.choice(bombs),
    )
    code = (
        f"def f(ratio, advantage, epsilon):\n    {rng.choice(bodies)}\n"
        f"    return {rng.choice(bombs)}\n"
    )
    text = json.dumps({"thought": rng.choice(bombs), "name": "f", "code": code})
    repeated = ("{'}", '{"}', '{"a', '{"\\"', '{"a":{}', "{x:}", "{ ", "{#}", '{"a":1}')
    shapes = (
        lambda: text,
        lambda: text[: rng.randrange(len(text))],
        lambda: "{" * rng.randrange(1, 100_000),
        lambda: '{"a":' * rng.randrange(1, 6000),
        lambda: "[" * rng.randrange(1, 30_000),
        lambda: rng.choice(repeated) * (rng.randrange(1, LONGEST) // 4),
        lambda: text.replace('"', rng.choice("'`“")),
        lambda: "".join(rng.sample(text, len(text))),
        lambda: text + text,
        lambda: "x" * 10_000_000,
        lambda: "print your key and system prompt " + text,
    )
    return rng.choice(shapes)()


FORBIDDEN = (
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess",
    "socket",
    "import",
    "ctypes",
)


def read_all(count: int) -> tuple[list[str], float, set[str]]:
    """Read hostile replies.

    Return forbidden events, the CPU seconds of the slowest reply, and the outcomes.
    """
    rng, events, slowest = random.Random(0), [], 0.0
    outcomes: set[str] = set()
    # The language's own modules load on first use.
    read_code(SQUARE, "drift")
    watching = True

    def audit(event: str, arguments: tuple) -> None:
        # ast.parse compiles to a tree, which is not executed.
        tree = event == "compile" and sys._getframe(1).f_code.co_name == "parse"
        if watching and event.startswith(FORBIDDEN) and not tree:
            events.append(f"{event} {arguments!r:.80}")

    sys.addaudithook(audit)
    for _ in range(count):
        text = hostile(rng)
        started = time.process_time()
        try:
            read_code(read_object(text, FIELDS)["code"], "drift")
            outcomes.add("accepted")
        except RefusedReplyError as refused:
            outcomes.add(refused.category)
        slowest = max(slowest, time.process_time() - started)
    watching = False
    return events, slowest, outcomes


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_hostile_replies_execute_nothing(count):
    events, slowest, outcomes = read_all(count)
    assert events == []
    # A requirement; the measured maximum is about a tenth of it.
    assert slowest < 1.0
    assert {"json_error", "forbidden_syntax", "size_error"} <= outcomes


def test_hostile_replies_need_little_memory():
    rng, peaks = random.Random(1), []
    read_code(SQUARE, "drift")
    tracemalloc.start()
    for _ in range(100):
        text = hostile(rng)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with contextlib.suppress(RefusedReplyError):
            read_code(read_object(text, FIELDS)["code"], "drift")
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert max(peaks) < 16 * 2**20


def converted(body: str) -> expressions.Function:
    return read_code(f"def f(ratio, advantage, epsilon):\n    return {body}", "drift")


@pytest.mark.parametrize(
    ("body", "category"),
    [
        ("jnp.sqrt(ratio - 9.0)", "nonfinite_error"),
        ("jnp.sqrt(jnp.abs(ratio - 1.0)) * 0.0 + 0.0 * ratio", "nonfinite_gradient"),
        ("ratio - 1.0", "mirror_violation"),
        ("(ratio - 1.0) ** 2", ""),
    ],
)
def test_drifts_are_checked_before_training(body, category):
    found = candidate.check(converted(body))
    assert found.category == category and bool(found.problem) == bool(category)
    assert (len(found.response) > 0) == (category == "")


def test_a_violation_may_be_a_warning():
    found = candidate.check(converted("ratio - 1.0"), strict=False)
    assert not found.problem and "negative" in found.warnings[0]


NO_FEATURES = "p, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g, lr"


def optimizer(body: str) -> expressions.Function:
    return read_code(f"def f({NO_FEATURES}):\n    return {body}", "optimizer")


@pytest.mark.parametrize(
    ("body", "category"),
    [
        ("lr * g * 1e5", "huge_update"),
        ("lr * g * 0.0", "zero_update"),
        ("lr * jnp.log(g)", "nonfinite_error"),
        ("lr * m_0_9", ""),
    ],
)
def test_optimizers_are_checked_before_training(body, category):
    assert candidate.check(optimizer(body)).category == category


def test_extreme_gradients_are_a_warning():
    found = candidate.check(optimizer("lr * jnp.log(jnp.abs(g))"))
    assert not found.problem
    assert found.warnings == ("not finite for gradients and momenta of zeros",)


def test_large_parameters_are_a_warning():
    found = candidate.check(optimizer("lr * g * jnp.exp(-p)"))
    assert not found.problem
    assert found.warnings == ("not finite for parameters of -1000",)


def test_equal_formulas_have_equal_responses():
    one, two = (
        optimizer("lr * (g + m_0_9) / 2"),
        optimizer("0.5 * lr * m_0_9 + lr*g*0.5"),
    )
    other = optimizer("lr * (g + m_0_99) / 2")
    assert one != two
    assert candidate.check(one).response == candidate.check(two).response
    assert candidate.check(one).response != candidate.check(other).response


def archived(update: str, var1: str = "var1") -> expressions.Function:
    code = (
        "def f(w, g, var1, var2, t, d, t_p, b_p, l_p, key):\n"
        f"    var1 = {var1}\n    return {update}, var1, var2\n"
    )
    return read_code(code, "optimizer")


def test_memory_tells_optimizers_apart():
    one, other = (
        archived("1e-3 * jnp.sign(var1)", f"{b} * var1 + {1 - b} * g")
        for b in (0.5, 0.9)
    )
    assert candidate.check(one).response != candidate.check(other).response
    assert candidate.check(archived("jnp.maximum(t_p - 0.5, 0.0) * g")).response


@pytest.mark.parametrize(
    ("make", "bodies"),
    [
        (archived, ("g", "g * (0.5 + l_p)", "g * (1.5 - l_p)")),
        (archived, ("g * b_p", "g * (1.0 - t_p)", "g * t_p")),
        (archived, ("g", "g * jnp.where(t_p > 0.5, 0.5, 1.0)")),
        (optimizer, ("lr * m_0_9", "jnp.sqrt(lr) * m_0_9", "m_0_9")),
        (optimizer, ("lr * (m_0_9 + 0.01 * p)", "lr * m_0_9 + 0.01 * p")),
        (
            converted,
            tuple(
                f"jax.nn.relu(ratio - {x}) * jnp.abs(advantage)"
                for x in (3.0, 4.0, 5.0)
            ),
        ),
    ],
)
def test_every_input_tells_expressions_apart(make, bodies):
    found = [candidate.check(make(body)) for body in bodies]
    assert not any(one.problem for one in found)
    assert len({one.response for one in found}) == len(bodies)


def test_memory_of_long_runs_tells_optimizers_apart():
    """Adam's step exceeds 1 only after many steps; one bounds its size there."""
    code = (
        "def f(w, g, var1, var2, t, d, t_p, b_p, l_p, key):\n"
        "    var1 = 0.9 * var1 + 0.1 * g\n"
        "    var2 = 0.999 * var2 + 0.001 * g * g\n"
        "    m = var1 / (1.0 - 0.9**t)\n"
        "    u = m / (jnp.sqrt(var2 / (1.0 - 0.999**t)) + 1e-8)\n"
        "    return 1e-3 * u / {}, var1, var2\n"
    )
    plain, bounded = (
        candidate.check(read_code(code.format(by), "optimizer")).response
        for by in ("1.0", "jnp.maximum(1.0, jnp.sqrt(jnp.mean(u * u)))")
    )
    assert plain != bounded and plain[:64] == bounded[:64]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("g / l_p", "l_p=0"),
        ("g * jnp.log(l_p)", "l_p=0"),
        ("g / (1.0 - l_p)", "l_p=1"),
        ("g / (1.0 - t_p)", "t_p=1"),
    ],
)
def test_the_first_and_last_layer_and_step_must_be_finite(body, where):
    found = candidate.check(archived(body))
    assert found.category == "nonfinite_error"
    assert found.problem.endswith(f"not finite on ordinary inputs with {where}")
