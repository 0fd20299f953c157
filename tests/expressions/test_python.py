"""Conversion of the Python that language models write."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.expressions import ExpressionError, from_python, parse
from tests.expressions import proposals, published, replies

ARGUMENTS = {"p": "w", "dorm": "d", "iteration": "t"}


def drift(body, header="ratio, advantage, epsilon"):
    return from_python(f"def f({header}):\n    {body}", "drift")


def numbers(shape, seed=0):
    keys = jax.random.split(jax.random.key(seed), 12)
    draws = [jax.random.normal(key, shape, jnp.float64) for key in keys]
    return iter(draws)


# ---------------------------------------------------------------- against running it


@pytest.mark.parametrize("proposal", proposals.ARCHIVE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_conversion_computes_what_the_python_computes(proposal, shape):
    function = from_python(proposals.source(proposal), "optimizer")
    assert parse(function.to_text()) == function
    with published.x64():
        draw = numbers(shape)
        var1 = var2 = jnp.zeros(shape)
        memory = function.init_memory(shape, jnp.float64)
        for step in range(3):
            scalars = {"t_p": 0.3 * (step + 1), "b_p": 0.5, "l_p": 0.25}
            w, g, d = next(draw), next(draw), jnp.abs(next(draw))
            arguments = {"w": w, "g": g, "d": d, "t": step + 1.0, **scalars}
            names = proposal.__code__.co_varnames[: proposal.__code__.co_argcount]
            given = {n: arguments[n] for n in names if n in arguments}
            expected, var1, var2 = proposal(**given, var1=var1, var2=var2, key=None)
            inputs = {n: arguments[ARGUMENTS.get(n, n)] for n in function.inputs}
            inputs["p"] = w
            found, memory = function.evaluate(inputs, memory)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
            for name, value in memory.items():
                carried = {"var1": var1, "var2": var2}[name]
                np.testing.assert_allclose(value, carried, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("proposal", proposals.OPEN, ids=lambda f: f.__name__)
def test_conversion_keeps_the_momenta(proposal):
    function = from_python(proposals.source(proposal), "optimizer")
    recurrent = "var" in proposal.__code__.co_varnames
    decays = {f"m_0_{d}": float(f"0.{d}") for d in ["1", "5", "9", "99", "999", "9999"]}
    with published.x64():
        draw = numbers((4,))
        memory = function.init_memory((4,), jnp.float64)
        momenta = dict.fromkeys(decays, 0.0)
        var = jnp.zeros(4)
        for step in range(1, 4):
            p, g, rand = next(draw), next(draw), next(draw)
            momenta = {n: b * momenta[n] + (1 - b) * g for n, b in decays.items()}
            arguments = {"p": p, "g": g, "lr": 0.1, **momenta}
            if recurrent:
                arguments |= {"l_p": 0.5, "b_p": 0.1, "t_p": 0.2, "dorm": 1.5}
                arguments |= {"rand": rand, "iteration": step * 3.0, "var": var}
                expected, var = proposal(**arguments)
            else:
                expected = proposal(**arguments)
            inputs = {name: arguments[name] for name in function.inputs}
            found, memory = function.evaluate(inputs, memory)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert not recurrent or np.allclose(memory["var"], var, rtol=1e-12)


# ------------------------------------------------------------------- recorded replies


@pytest.fixture(scope="module")
def conversation(reference):
    return json.loads((reference / "golden" / "llm_conversation.json").read_text())


@pytest.fixture(scope="module")
def thinker_coder(reference):
    return json.loads((reference / "golden" / "llm_thinker_coder.json").read_text())


PUBLISHED_AS = {
    "ppo_clip": "ppo_clip",
    "tanh_clip": "conversation_tanh_clip",
    "log_clip_penalty_v2": "lpo_llm_ant",
    "squared_log_clip": "conversation_squared_log_clip",
    "exp_taper_drift": "conversation_exp_taper_drift",
    "tanh_square2_drift": "conversation_tanh_square2_drift",
}


def test_proposals_of_the_conversation(conversation):
    entries = [conversation["prompt_example"], conversation["warm_start"]]
    entries += [p for p in conversation["proposals"] if p["expected_valid"]]
    assert {entry["name"] for entry in entries} == set(PUBLISHED_AS)
    r = jnp.exp(jnp.linspace(-1, 1, 31))
    advantage = jnp.tile(jnp.array([-2.0, -0.5, 0.0, 1.0, 3.0]), 31)
    inputs = {"r": jnp.repeat(r, 5), "A": advantage, "log_r": jnp.log(jnp.repeat(r, 5))}
    for entry in entries:
        function = from_python(entry["code"], "drift")
        assert function.init_constants() == {"eps": 0.2}
        for eps in (0.2, 0.3):
            found, _ = function.evaluate(inputs, constants={"eps": eps})
            text = published.load(PUBLISHED_AS[entry["name"]])
            expected, _ = text.evaluate(inputs, constants={"eps": eps})
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_rejected_proposal_of_the_conversation(conversation):
    [rejected] = [p for p in conversation["proposals"] if not p["expected_valid"]]
    with pytest.raises(ExpressionError) as caught:
        from_python(rejected["code"], "drift")
    line = 1 + rejected["code"][: rejected["code"].index(" and ")].count("\n")
    assert (caught.value.line, caught.value.category) == (line, "forbidden_syntax")
    assert "truth value of a whole array, which is ambiguous" in str(caught.value)
    assert "(a) & (b)" in str(caught.value)


# What running them shows (NaN, no drift) is not for the conversion to find.
FOUND_BY_RUNNING = {"nonfinite_error", "nonfinite_gradient", "mirror_violation"}


def test_synthetic_cases_of_the_conversation(conversation):
    seen = set()
    for case in conversation["synthetic_cases"]:
        reply = case["raw_reply"]
        if case["expected"] in ("json_error", "schema_error"):
            continue
        code = json.loads(reply[reply.index("{") :])["code"]
        kind = "optimizer" if "m_0_1" in code else "drift"
        expected = case["expected"].split("_or_")[0]
        if expected in {"accepted", "json_error", *FOUND_BY_RUNNING}:
            from_python(code, kind)
        else:
            with pytest.raises(ExpressionError) as caught:
                from_python(code, kind)
            assert caught.value.category == expected, case["name"]
            seen.add(expected)
    assert seen == {
        "syntax_error",
        "structure_error",
        "forbidden_syntax",
        "signature_error",
        "shape_error",
        "return_error",
    }


def test_initial_archive(thinker_coder):
    names = []
    for entry in thinker_coder["initial_archive"]:
        function = from_python(entry["code"], "optimizer")
        text = published.load(f"archive_{entry['name']}")
        names.append(entry["name"])
        p, g = jax.random.normal(jax.random.key(1), (2, 4, 3))
        inputs = {"p": p, "g": g, "t_p": 0.25}
        memories = [function.init_memory((4, 3)), text.init_memory((4, 3))]
        for _ in range(2):
            pairs = [
                f.evaluate(inputs, memory)
                for f, memory in zip((function, text), memories, strict=True)
            ]
            memories = [memory for _, memory in pairs]
            np.testing.assert_allclose(pairs[0][0], pairs[1][0], rtol=1e-6)
        found = jax.tree.leaves(memories[0])
        for array, expected in zip(found, jax.tree.leaves(memories[1]), strict=True):
            np.testing.assert_allclose(array, expected, rtol=1e-6)
    assert names == ["sign", "relative", "gradient", "clipped"]


def test_coder_replies(thinker_coder):
    outcomes = []
    for reply in thinker_coder["generation_script"]["replies"]:
        if reply["role"] == "coder":
            code = json.loads(reply["reply"])["code"]
            try:
                from_python(code, "optimizer")
            except ExpressionError as error:
                outcomes.append((reply.get("validation_error"), error.category))
            else:
                outcomes.append((reply.get("validation_error"), None))
    assert outcomes == [(None, None), ("shape", "shape_error"), (None, None)]


# ------------------------------------------------------------------------ what is left


def test_text_stays_readable():
    code = """
import jax
from jax import numpy as jnp

def update_fn(w, g, var1, var2, t, d, t_p, b_p, l_p, key):
    # Momentum of signs.
    var1 = t_p * var1 + (1 - t_p) * jnp.sign(g)
    norm = jnp.abs(w)
    norm = norm + 1.0
    wasted = jnp.exp(g)
    return 0.001 * norm * var1, var1, var2
"""
    assert from_python(code, "optimizer").to_text() == (
        "optimizer\n"
        "inputs p, g, t_p\n"
        "memory var1 = 0\n"
        "var1 = t_p * var1 + (1 - t_p) * sign(g)\n"
        "norm_2 = abs(p)\n"
        "norm_3 = norm_2 + 1\n"
        "return 0.001 * norm_3 * var1\n"
    )


def test_the_old_keywords_of_clip():
    """Older versions of jax call the bounds a_min and a_max."""
    old = drift("return jnp.clip(ratio, a_min=1 - epsilon, a_max=None)")
    assert old == drift("return jnp.clip(ratio, min=1 - epsilon)")
    assert old.to_text().endswith("return max(r, 1 - eps)\n")


@pytest.mark.parametrize("number", ["0.1", "-0.1", "1", "-0.0"])
def test_defaults(number):
    f = drift("return epsilon * ratio", f"ratio, advantage, epsilon: float = {number}")
    assert f.init_constants() == {"eps": float(number)}
    f = drift("return beta * ratio", f"ratio, advantage, epsilon, beta={number}")
    assert f.to_text().endswith("return beta * r\n")


REFUSED = [
    # The frame.
    ("", 1, "structure_error", "the source has no function"),
    ("x = 1", 1, "structure_error", "the source has no function"),
    ("def f(:", 1, "syntax_error", "this is not valid Python"),
    (
        "def f(ratio, advantage, epsilon):\n  return '\0'",
        1,
        "syntax_error",
        "null bytes",
    ),
    ("f = lambda ratio, advantage, epsilon: 1", 1, "structure_error", "no function"),
    (
        "async def f(ratio): return 1",
        1,
        "structure_error",
        "the source has no function",
    ),
    (
        "@jax.jit\ndef f(ratio, advantage, epsilon):\n  return ratio",
        1,
        "structure_error",
        "a decorator; remove it",
    ),
    (
        "def f(ratio, *, advantage, epsilon):\n  return ratio",
        1,
        "signature_error",
        "only plain arguments",
    ),
    (
        "def f(r, A):\n  return r",
        1,
        "signature_error",
        "the arguments are (r, A); write def f(ratio, advantage, epsilon)",
    ),
    (
        "def f(ratio, advantage=1, epsilon=2):\n  return ratio",
        1,
        "signature_error",
        "only epsilon and further arguments may have a default",
    ),
    (
        "def f(ratio, advantage, epsilon=open('x')):\n  return ratio",
        1,
        "signature_error",
        "the default of epsilon is not a number",
    ),
    (
        "def f(ratio, advantage, epsilon, b=ratio):\n  return ratio",
        1,
        "signature_error",
        "the default of b is not a number",
    ),
    (
        "x = 1\n\ndef f(ratio, advantage, epsilon, jnp=1):\n  return ratio",
        3,
        None,
        "'jnp' is a module; choose another name",
    ),
    ("from os import path\ndef f(): return 1", 2, "signature_error", "write def f("),
]
BODIES = [
    # Statements.
    ("x = 1", 1, "return_error", "f ends without return"),
    ("return", 2, "return_error", "1 values are returned; return the update"),
    ("return ratio, 1.0", 2, "return_error", "2 values are returned"),
    (
        "if advantage > 0:\n        return ratio\n    return ratio",
        2,
        None,
        "jnp.where(",
    ),
    ("while True:\n        pass", 2, None, "a while loop may never end"),
    ("try:\n        x = 1\n    except: pass", 2, None, "remove try"),
    ("with ratio:\n        pass", 2, None, "with has no use"),
    ("assert ratio", 2, None, "remove it"),
    ("global x", 2, None, "Python's Global is not part"),
    ("del ratio[0]", 2, None, "Python's Delete is not part"),
    ("del ratio\n    return ratio", 3, None, "unknown name 'ratio'"),
    ("import os", 2, None, "only jax, jax.numpy, jax.nn and jax.lax can be imported, "),
    ("from . import jax", 2, None, "can be imported"),
    ("return ratio\n    x = 1", 3, "structure_error", "a statement after return"),
    ("for i in range(3):\n        return ratio", 3, "structure_error", "has to end"),
    ("for i in range(65):\n        pass", 2, None, "at most 64"),
    ("for i in ratio:\n        pass", 2, None, "a loop runs over range(n)"),
    ("ratio.x = 1", 2, None, "only names can be assigned"),
    ("x, y = ratio, 1, 2", 2, None, "the right side does not have 2 values"),
    ("jnp = ratio", 2, None, "'jnp' is a module; choose another name"),
    ("ratio", 2, None, "nothing uses this value"),
    ("x, *y = ratio", 2, None, "the right side does not have 2 values"),
    # Expressions.
    ("return ratio if advantage > 0 else 1", 2, None, "jnp.where(c, a, b)"),
    ("return ratio * (advantage > 0 and ratio > 1)", 2, None, "(a) & (b)"),
    ("return ratio * (not advantage)", 2, None, "write ~condition"),
    ("return ratio * (0 < ratio < 1)", 2, None, "(a < b) & (b < c)"),
    ("return [x for x in ratio]", 2, None, "a loop runs over range(n)"),
    ("return [x for x in (1, 2) if x > 1]", 2, None, "a comprehension has one loop"),
    ("return ratio ^ 2", 2, None, "a ** b"),
    ("return ratio @ ratio", 2, None, "per element"),
    ("return ratio is advantage", 2, None, "Python's Is is not part"),
    ("return ratio & advantage", 2, None, "this is not a condition"),
    ("return ~ratio", 2, None, "this is not a condition"),
    ("return f'{ratio}'", 2, None, "a formatted string"),
    ("return 'ratio'", 2, None, "this is not a number"),
    ("return ratio * 1j", 2, None, "is not a number"),
    ("return ratio * 1e13", 2, "size_error", "a number is above 1e+12"),
    ("return ratio * 1e999", 2, "size_error", "a number is above 1e+12"),
    ("return ratio ** 17", 2, None, "an exponent is above 16"),
    ("return ratio ** -17", 2, None, "an exponent is above 16"),
    ("return ratoi", 2, None, "unknown name 'ratoi'; did you mean 'ratio'?"),
    ("return jnp", 2, None, "'jnp' is a module"),
    ("return __import__('os')", 2, None, "the function '__import__' is not part"),
    ("return ratio.__class__", 2, None, "the attribute '__class__' is not part"),
    ("return jnp.__dict__", 2, None, "jax.numpy.__dict__ is not part"),
    ("return ratio[0]", 2, "shape_error", "an array cannot be indexed"),
    ("return (ratio, advantage)[2]", 2, None, "a written number below 2"),
    ("return ratio.T", 2, "shape_error", ".T changes or reads a shape"),
    ("return ratio.reshape(2, 3)", 2, "shape_error", ".reshape changes or reads"),
    ("return ratio * ratio.shape[0]", 2, "shape_error", "the length of an axis"),
    ("return jnp.zeros((3, 4))", 2, None, "the shape of the parameters"),
    ("return jnp.dot(ratio, ratio)", 2, None, "write jnp.sum(a * b)"),
    ("return jnp.nan_to_num(ratio, neginf=1)", 2, None, "neginf without posinf"),
    ("x = [1, 2]\n    y = x\n    x.append(3)", 4, None, "write xs = xs + [x]"),
    ("x = (1, 2) * 100_000", 2, "size_error", "this tuple is too long"),
    ("x = (1, 2) - 3", 2, None, "a tuple has no arithmetic"),
    ("x = jnp.array([1, 2]) * ratio", 2, None, "these shapes differ"),
    ("x = jnp.stack([ratio, ratio])[ratio]", 2, None, "written whole number"),
    ("x = 1 if jnp.float32(2) > 1 else 2", 2, None, "jnp.where(c, a, b)"),
    ("x = 1 if epsilon > 0.1 else 2", 2, None, "jnp.where(c, a, b)"),
    ("x = ratio is advantage", 2, None, "Python's Is is not part"),
    ("x = ratio == 'adam'", 2, None, "not a number"),
    (
        "range = lambda n: n\n    for i in range(3):\n        pass",
        3,
        None,
        "a loop runs over range(n)",
    ),
    ("x = map(abs, (1, 2))", 2, None, "the function 'map' is not part"),
    ("for i in range(0, 3, 0):\n        pass", 2, None, "a loop runs over range"),
    (
        "jax.debug.print('x')",
        2,
        None,
        "jax.debug.print is not part of the language; it",
    ),
    ("x = jax.pure_callback(ratio)", 2, None, "it runs Python"),
    ("x = jnp.arange(3)", 2, None, "write the numbers out as a tuple"),
    ("x = jax.nn.softmax(ratio)", 2, None, "it mixes elements"),
    ("x = jnp.frobnicate(ratio)", 2, None, "write the expression without it"),
    ("x = __name__", 2, None, "Python's own names are not known here"),
    ("x = " + "z" * 5000, 2, None, "zzz...'; assign it before"),
    ("return max(ratio, 1)", 2, None, "jnp.maximum(a, b)"),
    ("return float(ratio)", 2, None, "float needs a written number"),
    ("return print(ratio)", 2, None, "the function 'print' is not part"),
    # Calls.
    (
        "return jnp.tahn(ratio)",
        2,
        None,
        "the language; did you mean 'tan",
    ),
    ("return jax.random.normal(ratio)", 2, None, "write the expression without them"),
    ("return jnp.exp(ratio, ratio)", 2, None, "this call takes (x)"),
    ("return jnp.exp()", 2, None, "this call has no 'x'"),
    ("return jnp.exp(*ratio)", 2, None, "write the arguments out"),
    ("return jnp.exp(**ratio)", 2, None, "the keyword ** does not fit"),
    ("return jnp.clip(ratio, 0, 1, arr=ratio)", 2, None, "the keyword arr does not"),
    ("return jnp.where(ratio > 1)", 2, None, "this call has no 'x'"),
    ("return ratio + jnp.sum(ratio)", 2, "shape_error", "a function of one sample"),
    ("return ratio.astype(int)", 2, None, "write astype(jnp.float32)"),
    ("return jnp.stack(ratio)", 2, "shape_error", "write a stack of a tuple"),
    ("return jnp.mean(jnp.stack([ratio, ratio]))", 2, "shape_error", "axis=0"),
    ("return jax.lax.cond(ratio > 1, ratio, ratio)", 2, None, "takes functions"),
    (
        "return jax.lax.cond(ratio > 1, lambda: (ratio, 1), lambda: ratio)",
        2,
        None,
        "both sides have to return as many numbers",
    ),
    ("def h(x):\n        return h(x)\n    return h(ratio)", 3, "size_error", "too dee"),
    ("h = lambda x: x\n    return h(ratio, 1)", 3, None, "this call takes (x)"),
    ("h = lambda *x: x\n    return h(ratio)", 3, None, "without *"),
    ("return jnp.float32(1.0)", 2, "shape_error", "the result is one number"),
    ("return ratio > 1", 2, "type_error", "return needs a number"),
]


@pytest.mark.parametrize(
    ("code", "line", "category", "message"),
    REFUSED
    + [
        (f"def f(ratio, advantage, epsilon):\n    {body}", line, category, message)
        for body, line, category, message in BODIES
    ],
)
def test_refusals_tell_line_construct_and_fix(code, line, category, message):
    with pytest.raises(ExpressionError) as caught:
        from_python(code, "drift")
    assert message in str(caught.value)
    assert caught.value.category == (category or "forbidden_syntax")
    if caught.value.line is not None:
        assert caught.value.line == line


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "p, g, lr",
            "write def f(p, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g",
        ),
        ("w, g, var1, var2", "write def f(w, g, var1, var2, t, d, t_p, b_p, l_p, key)"),
    ],
)
def test_refused_signatures_name_the_closest_interface(header, message):
    with pytest.raises(ExpressionError) as caught:
        from_python(f"def f({header}):\n    return g", "optimizer")
    assert message in str(caught.value)


MOMENTA = "m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999"


@pytest.mark.parametrize(
    ("header", "kind", "fix"),
    [
        ("ratio, advantage, epsilon", "drift", "write the expression without them"),
        (f"p, {MOMENTA}, g, lr", "optimizer", "write the expression without them"),
        (
            f"p, {MOMENTA}, l_p, b_p, t_p, dorm, g, rand, lr",
            "optimizer",
            "use the argument rand, which is standard normal noise",
        ),
    ],
)
def test_one_hint_for_random_numbers_by_interface(header, kind, fix):
    with pytest.raises(ExpressionError) as caught:
        draw = "jax.random.normal(key, g.shape)"
        from_python(f"def f({header}):\n    x = {draw}\n    return x", kind)
    assert caught.value.problem == f"random numbers cannot be drawn here; {fix}"


def test_an_unread_slot_stays_at_zero():
    f = from_python(
        "def f(w, g, var1, var2, t, d, t_p, b_p, l_p, key):\n"
        "    return g + var1, var1, var2",
        "optimizer",
    )
    assert f.memory == () and f.evaluate({"g": jnp.ones(2)})[0].tolist() == [1.0, 1.0]


def test_wrong_kinds_of_arguments():
    with pytest.raises(
        ExpressionError, match="kind='loss'; pass 'optimizer' or 'drift'"
    ):
        from_python("def f(): pass", "loss")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source is bytes; pass a string"):
        from_python(b"", "drift")  # type: ignore[arg-type]


def test_python_that_only_warns_is_quiet():
    """Warnings are errors in these tests."""
    assert drift("'\\d'\n    return ratio")


ARCHIVE = "w, g, var1, var2, t, d, t_p, b_p, l_p, key"


def noisy(update: str, before: str = "pass"):
    return from_python(
        f"def f({ARCHIVE}):\n    {before}\n    return {update}, var1, var2", "optimizer"
    )


@pytest.mark.parametrize(
    ("update", "before"),
    [
        ("g * jax.random.normal(key, g.shape)", "pass"),
        ("g * jax.random.normal(key, shape=jnp.shape(w), dtype=jnp.float32)", "pass"),
        (
            "g * z",
            "k1, k2 = jax.random.split(key)\n    z = jax.random.normal(k2, g.shape)",
        ),
        (
            "g * z",
            "key = jax.random.fold_in(key, 1)\n    z = jax.random.normal(key, g.shape)",
        ),
        ("g * z", "from jax import random\n    z = random.normal(key, g.shape)"),
    ],
)
def test_noise_with_a_key_becomes_the_input_rand(update, before):
    function = noisy(update, before)
    assert "rand" in function.inputs
    g, rand = np.float32([1, 2, 3]), np.float32([0.5, -1, 2])
    found, _ = function.evaluate({"g": g, "rand": rand})
    np.testing.assert_allclose(found, g * rand, rtol=1e-6)


def test_other_distributions_are_functions_of_normal_noise():
    rand = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    inputs = {"g": np.ones_like(rand), "rand": rand}

    def drawn(call: str) -> np.ndarray:
        function = noisy(f"g * jax.random.{call}")
        return np.asarray(function.evaluate({n: inputs[n] for n in function.inputs})[0])

    uniform = drawn("uniform(key, g.shape, minval=-1.0, maxval=3.0)")
    assert abs(uniform.mean() - 1) < 0.05 and uniform.min() >= -1 and uniform.max() <= 3
    np.testing.assert_allclose(np.histogram(uniform, 4)[0] / 20_000, 0.25, atol=0.02)
    assert abs(drawn("bernoulli(key, 0.3, g.shape)").mean() - 0.3) < 0.02
    assert set(drawn("rademacher(key, g.shape)")) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("update", "before", "message"),
    [
        ("g * jax.random.normal(key)", "pass", "this call has no 'shape'"),
        ("g * jax.random.normal(key, (3,))", "pass", "shape of the parameters"),
        ("g * jax.random.normal(key, t_p.shape)", "pass", "shape of the parameters"),
        ("g * jax.random.gumbel(key, g.shape)", "pass", "use jax.random.normal"),
        ("g * jax.random.normal(jax.random.PRNGKey(0), g.shape)", "pass", "cannot be"),
        ("g * jax.random.normal(w, g.shape)", "pass", "this is not a key"),
        ("g * key", "pass", "not a number"),
        (
            "g * jax.random.normal(a, g.shape) + jax.random.normal(b, g.shape)",
            "a, b = jax.random.split(key)",
            "noise is drawn once",
        ),
        ("g", "ks = jax.random.split(key, 99)\n    k = ks[0]", "at most 8"),
        ("g", "k = jax.random.fold_in(w, 1)", "this is not a key"),
        ("g * jax.random.normal(key, d.shape)", "pass", "shape of the parameters"),
    ],
)
def test_noise_that_the_language_lacks_is_refused(update, before, message):
    with pytest.raises(ExpressionError, match=message):
        noisy(update, before)


def test_the_share_of_replies_that_are_converted():
    """Of all replies, 95 % are converted or name the repair; 70 % are converted."""
    outcomes = dict.fromkeys(("converted", "hint", "other"), 0)
    for kind, source, *hint in [*replies.CONVERTED.values(), *replies.HINTS.values()]:
        try:
            function = from_python(source, kind)
        except ExpressionError as error:
            outcomes["hint" if hint and hint[0] in error.problem else "other"] += 1
        else:
            assert parse(function.to_text()) == function
            outcomes["converted"] += 1
    total = sum(outcomes.values())
    assert total > 250 and outcomes["converted"] >= 0.7 * total
    assert outcomes["converted"] + outcomes["hint"] >= 0.95 * total


@pytest.mark.parametrize("name", replies.HINTS)
def test_what_cannot_be_translated_gets_a_hint(name):
    kind, source, hint = replies.HINTS[name]
    with pytest.raises(ExpressionError) as caught:
        from_python(source, kind)
    assert hint in caught.value.problem


@pytest.mark.parametrize(
    ("further", "expected", "constants"),
    [
        ("n=2", 3.0, {}),
        ("n=3", 5.0, {}),
        ("n=2, rate=0.5", 3.0, {}),
        ("*, n=2", 3.0, {}),
        ("mode='a', n=2", 3.0, {}),
        ("flag=True, names=('a', 'b'), none=None, n=2", 3.0, {}),
    ],
)
def test_defaults_that_decide_are_not_tuned(further, expected, constants):
    function = drift(
        "return ratio * (3.0 if n == 2 else 5.0)",
        f"ratio, advantage, epsilon, {further}",
    )
    assert function.init_constants() == constants
    found = function.evaluate({"r": np.float32([1.0, 2.0])})[0]
    np.testing.assert_allclose(found, [expected, 2 * expected])


def test_a_default_that_decides_stays_a_number():
    function = drift(
        "x = ratio\n    for i in range(n):\n        x = x * n\n    return x",
        "ratio, advantage, epsilon, n=2",
    )
    assert function.to_text().count("n = 2\n") == 1
    found = function.evaluate({"r": np.float32([1.0, 2.0])})[0]
    np.testing.assert_allclose(found, [4.0, 8.0])


@pytest.mark.parametrize(
    "wrap",
    [
        "\ufeff{}",
        "```python\n{}```\n",
        "Here it is:\n```\n{}```\nIt is *good*.",
        "{}```\n",
    ],
)
def test_what_surrounds_code_is_left_out(wrap):
    code = "def f(ratio, advantage, epsilon):\n    return ratio\n"
    plain = from_python(code, "drift")
    assert from_python(wrap.format(code), "drift") == plain
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    assert from_python(indented, "drift") == plain
    assert from_python(code.replace("    ", "\xa0" * 4), "drift") == plain


def test_a_fence_keeps_the_line_numbers():
    with pytest.raises(ExpressionError, match="line 3, column 12"):
        from_python(
            "```\ndef f(ratio, advantage, epsilon):\n    return foo\n```", "drift"
        )


@pytest.mark.parametrize(
    "code",
    [
        "def f({long}):\n    return 1",
        "def f(ratio, advantage, epsilon, {long}=ratio):\n    return 1",
        "def f(ratio, advantage, epsilon):\n    return jnp.exp({long}=ratio)",
        "def f(ratio, advantage, epsilon):\n    return (lambda {long}: 1)()",
        "def f(ratio, advantage, epsilon):\n    return {long}(ratio)",
        "def f(ratio, advantage, epsilon):\n    {long} = ratio\n    return {long}x",
        "def f(ratio, advantage, epsilon):\n    return jnp.{long}",
        "def f(ratio, advantage, epsilon):\n    return '{long}' * ratio",
        "def {long}(ratio, advantage, epsilon):\n    x = 1",
        "import {long}",
        "def f(ratio, advantage, epsilon):\n    jnp.x = {long}",
    ],
)
def test_messages_are_one_short_line(code):
    with pytest.raises(ExpressionError) as caught:
        from_python(code.format(long="long" * 1500), "drift")
    assert len(str(caught.value)) < 450 and str(caught.value).isprintable()


def test_further_arguments_are_constants():
    function = from_python(*replies.CONVERTED["options"][::-1])
    assert function.init_constants() == {"beta": pytest.approx(0.9), "rate": 1e-3}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("n = 2\n    return ratio * (3.0 if n == 2 else 5.0)", 3.0),
        (
            "up = True\n    if up:\n        x = 7.0\n    else:\n        x = 9.0\n"
            "    return ratio * x",
            7.0,
        ),
        ("return ratio * sum(k for k in (1.0, 2.0, 4.0))", 7.0),
        ("a = [k * 2.0 for k in range(3)]\n    return ratio * a[2]", 4.0),
        ("return ratio * True", 1.0),
        ("k = 3\n    return ratio * (2.0 if k % 2 == 1 and k + 1 > 3 else 5.0)", 2.0),
        ("a, b = True, False\n    return ratio * (2.0 if a and not b else 5.0)", 2.0),
        ("k = 7\n    return ratio * (2.0 if k // 2 == 3 and -k < 0 else 5.0)", 2.0),
        ("k = 0.5\n    return ratio * (2.0 if k ** 2 <= 0.25 or ratio else 5.0)", 2.0),
        ("m = 'adam'\n    return ratio * (2.0 if m == 'adam' else 5.0)", 2.0),
        ("m = 'adam'\n    return ratio * (2.0 if m != 'adam' else 5.0)", 5.0),
        ("x = None\n    return ratio * (2.0 if x is None else x)", 2.0),
        ("x = (3.0, 4.0)\n    return ratio * (2.0 if x is None else x[0])", 3.0),
        ("x = 3.0\n    return ratio * (2.0 if x is None else x)", 3.0),
        ("a = [1.0, 2.0, 4.0]\n    i = 1\n    return ratio * (a[i + 1] + a[-1])", 8.0),
        ("a = [1.0, 2.0, 4.0]\n    return ratio * (sum(a[:2]) + sum(a[::-2]))", 8.0),
        (
            "x = 0\n    for i in range(0, 6, 2):\n        x += i\n    return ratio * x",
            6,
        ),
        (
            "x = 0\n    for i, b in enumerate((3.0, 5.0)):\n        x += i * b\n"
            "    return ratio * x",
            5.0,
        ),
        (
            "a = []\n    for b in reversed((1.0, 2.0)):\n        a.append(b)\n"
            "    return ratio * a[0]",
            2.0,
        ),
        ("a = [1.0] + [2.0] * 3\n    return ratio * sum(a)", 7.0),
        ("a = [1.0]\n    a += [2.0]\n    a.append(a[1])\n    return ratio * sum(a)", 5),
        ("a = list(range(3))\n    return ratio * len(a) * sum(a)", 9.0),
        ("return jnp.ravel(ratio.reshape(-1)) * 2", 2.0),
        ("a, b = 1.0, 2.0\n    del a\n    return ratio * b", 2.0),
        ("if True:\n        return ratio * 2\n    return ratio", 2.0),
        ("a = jnp.stack([ratio, ratio])\n    a *= 2.0\n    return a[0]", 2.0),
        ("n = int(2.7)\n    return ratio * (1.0, 2.0, 4.0)[n]", 4.0),
        (
            "e = jnp.finfo(jnp.float32).eps\n    return ratio * e / 2.0**-13 * 1024",
            1.0,
        ),
    ],
)
def test_what_python_decides_is_decided(body, expected):
    function = from_python(f"def f(ratio, advantage, epsilon):\n    {body}", "drift")
    inputs = {"r": np.float32([1.0, 2.0])}
    np.testing.assert_allclose(function.evaluate(inputs)[0], expected * inputs["r"])
