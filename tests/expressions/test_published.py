"""Every published formula, against the independent evaluation of the golden files."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.expressions import _evaluate, lift, parse, simpler, size
from tests.expressions import published

DRIFTS = [n for n in published.IDS if published.load(n).kind == "drift"]
OPTIMIZERS = [n for n in published.IDS if published.load(n).kind == "optimizer"]
# Text -> golden id and the suffix of its outputs, where they are not the text's name.
VARIANTS = {
    "lpo_symbolic_ant_as_printed": ("lpo_symbolic_ant", "output_as_printed"),
    "lpo_symbolic_ant_negated_numerator": (
        "lpo_symbolic_ant",
        "output_negated_numerator",
    ),
    "no_features_symbolic_minatar_term1": ("no_features_symbolic_minatar", "term1"),
    "no_features_symbolic_minatar_term2": ("no_features_symbolic_minatar", "term2"),
    "no_features_symbolic_minatar_placeholder": (
        "no_features_symbolic_minatar",
        "placeholder_output",
    ),
    "open_recurrent_llm_minatar_fallback_zero": (
        "open_recurrent_llm_minatar",
        "output_if_fallback_zero",
    ),
    "discovered_2_guarded": ("discovered_2", "output_guarded"),
    "discovered_2_squared": ("discovered_2", "output_squared"),
    "discovered_2_guarded_squared": ("discovered_2", "output_guarded_squared"),
}
NORMALISED = ("open_symbolic_ant", "open_symbolic_minatar")
LEAVES = [n for n in OPTIMIZERS if n.startswith("archive_")]
ROWS = [n for n in OPTIMIZERS if not n.startswith(("archive_", "open_symbolic"))]


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(reference / "golden" / "published_functions.npz", allow_pickle=False)


def fields(golden, name):
    """The arrays of one golden id, under the names of the language."""
    arrays = {
        k.split("/")[1]: golden[k] for k in golden.files if k.split("/")[0] == name
    }
    renamed = {**published.INPUTS, **published.MEMORY}
    return {renamed.get(field, field): array for field, array in arrays.items()}


def close(found, expected, rtol=1e-10, atol=1e-14):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=rtol, atol=atol)


def test_the_texts_are_those_of_the_golden_file(golden):
    ids = {key.split("/")[0] for key in golden.files}
    covered = {VARIANTS.get(name, (name,))[0] for name in published.IDS}
    assert covered - {"open_symbolic_minatar_if_t_p"} == ids


@pytest.mark.exact
@pytest.mark.parametrize("name", DRIFTS)
def test_drift_and_its_slope(golden, name):
    golden_id, output = VARIANTS.get(name, (name, "output"))
    arrays = fields(golden, golden_id)
    function = published.load(name)
    rename = {"epsilon": "eps", "alpha": "alpha", "beta": "beta"}
    constants = {rename[k]: arrays[k] for k in arrays if k in rename}
    assert set(constants) == set(function.init_constants())
    axes = {k: 0 if np.ndim(v) else None for k, v in constants.items()}

    def drift(r, advantage, constants):
        inputs = {"r": r, "A": advantage, "log_r": jnp.log(r)}
        return function.evaluate(inputs, constants=constants)[0]

    with published.x64():
        args = (jnp.asarray(arrays["r"]), jnp.asarray(arrays["A"]), constants)
        found = jax.vmap(drift, (0, 0, axes))(*args)
        slope = jax.vmap(jax.grad(drift), (0, 0, axes))(*args)
        assert found.dtype == jnp.float64
        close(found, arrays[output])
        if output == "output":
            relu_offset = arrays["relu_offset"]
            close(np.maximum(found - relu_offset, 0), arrays["drift"])
            smooth = arrays["smooth"]
            assert smooth.sum() > 100
            close(slope[smooth], arrays["d_output_d_ratio"][smooth], 1e-9, 1e-13)


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_in_float32(golden, name):
    golden_id, output = VARIANTS.get(name, (name, "output"))
    arrays = fields(golden, golden_id)
    function = published.load(name)
    r, advantage = jnp.float32(arrays["r"]), jnp.float32(arrays["A"])
    found, _ = function.evaluate({"r": r, "A": advantage, "log_r": jnp.log(r)})
    assert found.dtype == jnp.float32
    # The constants of the text, which is one of the epsilons in the file.
    kept = np.ones(256, bool)
    if "epsilon" in arrays:
        kept = arrays["epsilon"] == function.init_constants()["eps"]
    assert kept.sum() > 20
    error = np.abs(found - arrays[output])
    allowed = 2e-5 * np.abs(arrays[output]) + 1e-6 * np.maximum(1, abs(arrays["A"]))
    assert (error <= allowed)[kept].all()


def rows(function, arrays):
    """Evaluate row by row, with the momenta of the golden file as they are."""
    names = {*function.inputs, *(slot.name for slot in function.memory)}
    values = {name: jnp.asarray(arrays[name], jnp.float64) for name in names}
    values |= {k: jnp.full(256, v) for k, v in function.init_constants().items()}

    def one(values):
        values = dict(values)
        output = _evaluate.run(function, values, (), jnp.float64)
        return output, {s.name: values[s.name] for s in function.memory}

    return jax.vmap(one)(values)


@pytest.mark.parametrize("name", ROWS)
def test_optimizer_of_one_parameter(golden, name):
    golden_id, output = VARIANTS.get(name, (name, "output"))
    arrays = fields(golden, golden_id)
    function = published.load(name)
    with published.x64():
        found, memory = rows(function, arrays)
        close(found, arrays[output])
        suffix = output.removeprefix("output")
        suffix = "" if suffix == "_if_fallback_zero" else suffix
        for slot in function.memory:
            if slot.decay is None:
                field = {v: k for k, v in published.MEMORY.items()}[slot.name]
                close(memory[slot.name], arrays[f"{field}_new{suffix}"])
                assert not np.array_equal(memory[slot.name], arrays[slot.name])


@pytest.mark.parametrize("name", NORMALISED)
def test_optimizer_on_normalised_features(golden, name):
    """The 256 rows are one tensor, over which each feature is normalised."""
    arrays = fields(golden, name)
    function = published.load(name)
    names = {"g", "rand", *(slot.name for slot in function.memory)}
    with published.x64():
        values = {n: jnp.asarray(arrays[n], jnp.float64) for n in names}
        found = _evaluate.run(function, values, (256,), jnp.float64)
        close(found, arrays["output"])


def test_open_symbolic_minatar_with_the_training_proportion(golden):
    """Its features are the file's, row by row, as its t_p is a number per row."""
    arrays = fields(golden, "open_symbolic_minatar")
    text = re.sub(
        r"rms_normalize\(.*\)", "g", published.source("open_symbolic_minatar_if_t_p")
    )
    text = re.sub("^(log_g|log_m|sgn_m) = .*\n", "", text, flags=re.M)
    text = text.replace("inputs g, rand, t_p", "inputs g, p, dorm, rand, t_p")
    text = text.replace("memory m_0_99 = momentum(0.99)\n", "")
    for feature, stand_in in (("log_g", "g"), ("log_m", "p"), ("sgn_m", "dorm")):
        text = text.replace(feature, stand_in)
    at = {feature: i for i, feature in enumerate(arrays["feature_names"])}
    features = arrays["features"].T
    with published.x64():
        inputs = {
            "g": features[at["log_g"]],
            "p": features[at["log_m_0_99"]],
            "dorm": features[at["sgn_m_0_99"]],
            "rand": arrays["rand"],
            "t_p": arrays["t_p"],
        }
        found = jax.vmap(lambda row: parse(text).evaluate(row)[0])(inputs)
        close(found, arrays["output_if_t_p"])


@pytest.mark.parametrize("name", LEAVES)
def test_optimizer_of_one_leaf(golden, name):
    arrays = fields(golden, name)
    function = published.load(name)
    with published.x64():
        inputs = {n: jnp.asarray(arrays[n]) for n in function.inputs}
        memory = {slot.name: jnp.asarray(arrays[slot.name]) for slot in function.memory}
        found, new = function.evaluate(inputs, memory)
        close(found, arrays["output"])
        for slot in memory:
            close(new[slot], arrays[f"{slot.replace('v', 'var')}_new"])
        if "g_small" in arrays:
            small, _ = function.evaluate(
                {**inputs, "g": jnp.asarray(arrays["g_small"])}
            )
            close(small, arrays["output_small"])


def test_every_text_names_its_source():
    for name in published.IDS:
        first = published.source(name).split("\n", 1)[0]
        assert first.startswith("# "), name
        assert re.search(r'"[A-Z].*[?"]', published.source(name)), name


@pytest.mark.parametrize("name", published.IDS)
def test_text_comes_back_from_the_tree(name):
    function = published.load(name)
    assert parse(function.to_text()) == function
    assert hash(parse(function.to_text())) == hash(function)
    statements = [
        line
        for line in published.source(name).splitlines()
        if line and not line.startswith("#")
    ]
    assert sorted(function.to_text().split("\n")[:-1]) == sorted(statements)


@pytest.mark.parametrize("name", published.IDS)
def test_latex_is_balanced(name):
    latex = published.load(name).to_latex()
    depth = 0
    for character in latex:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    for opening, closing in ((r"\left", r"\right"), (r"\begin{", r"\end{")):
        opened = len(re.findall(re.escape(opening) + r"(?![a-z])", latex))
        closed = len(re.findall(re.escape(closing) + r"(?![a-z])", latex))
        assert opened == closed
    lines = latex.count(r"\\" + "\n") + 1
    function = published.load(name)
    momenta = sum(slot.decay is not None for slot in function.memory)
    assert lines == len(function.body) + len(function.constants) + momenta + 1


@pytest.mark.parametrize("name", published.IDS)
def test_simpler_formulas_are_valid_and_declare_only_what_they_use(name):
    function = published.load(name)
    found = simpler(function)
    sizes = [size(one) for one in found]
    assert sizes == sorted(sizes) and max(sizes, default=0) < size(function)
    assert bool(found) == (size(function) > 1)
    texts = [one.to_text() for one in found]
    assert len({*texts, function.to_text()}) == len(texts) + 1
    # Parsing refuses what has no effect.
    assert [parse(text) for text in texts] == found


@pytest.mark.parametrize("name", ["discovered_1", "open_recurrent_llm_minatar"])
def test_lifted_numbers_compute_the_same(name):
    function = published.load(name)
    lifted = lift(function)
    assert parse(lifted.to_text()) == lifted == lift(lifted)
    assert len(lifted.constants) > len(function.constants)
    rng = np.random.default_rng(0)
    inputs = {n: np.float32(rng.uniform(0.1, 1)) for n in function.inputs}
    inputs["g"] = rng.standard_normal((3, 4)).astype("f4")
    memory = function.init_memory((3, 4))
    before, after = (f.evaluate(inputs, memory)[0] for f in (function, lifted))
    np.testing.assert_allclose(before, after, rtol=1e-6)
