"""Teachers over sequences against the transformations that agents are trained by."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from learned_opt_rl import Horizon, agents, artifacts, discovered, no_features, open_rl
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.features import update_momenta
from learned_opt_rl.training.distillation import configure, inputs, teacher
from learned_opt_rl.training.distillation.teachers import (
    expression_rule,
    network_rule,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

STEPS, SIZE = 4, 6
T_P, B_P = 0.25, 0.5


@pytest.fixture
def sequence(getkey):
    """One tensor from the first update on, with constant proportions."""
    x = inputs.paper(getkey(), (STEPS, 1, SIZE))

    def step(momenta, gradient):
        momenta = update_momenta(momenta, gradient)
        return momenta, momenta

    momenta = jax.lax.scan(step, jnp.zeros((SIZE, 6)), x.gradient[:, 0])[1]
    return x._replace(
        momenta=jnp.moveaxis(momenta, -1, 1)[:, None],
        training_proportion=jnp.full((STEPS, 1), T_P),
        batch_proportion=jnp.full((STEPS, 1), B_P),
        layer_proportion=jnp.zeros((STEPS, 1)),
    )


def transformed(tx, x):
    """Updates ``[K, n]`` of an optax transformation, to subtract."""

    def step(state, at):
        parameter, gradient, dormancy = at
        update, state = tx.update(
            {"critic": gradient},
            state,
            {"critic": parameter},
            training_proportion=T_P,
            batch_proportion=B_P,
            dormancy={"critic": dormancy},
        )
        return state, -update["critic"]

    start = tx.init({"critic": x.parameter[0, 0]})
    sequence = x.parameter[:, 0], x.gradient[:, 0], x.dormancy[:, 0]
    return np.asarray(jax.jit(lambda s: jax.lax.scan(step, start, s)[1])(sequence))


def zero_mean(update):
    return np.asarray(update - update.mean(-1, keepdims=True))


@pytest.mark.parametrize("carry", [None, 4])
@pytest.mark.parametrize("rule", [open_rl, no_features], ids=["open", "no_features"])
def test_a_network_over_a_sequence_is_its_transformation_step_by_step(
    rule, carry, sequence, getkey
):
    weights = rule.init(getkey(), rule.Architecture(carry, 8))
    if rule is open_rl:
        tx, name = open_rl.optimizer(weights, Horizon(100), zero_mean=True), "open"
    else:
        tx, name = no_features.optimizer(weights, zero_mean=True), "no_features"
    unrolled = network_rule(name, carry)
    assert unrolled.noisy == (rule is open_rl)
    assert unrolled.stateful == (carry is not None)
    moved = jax.jit(unrolled.update)(weights, sequence)[:, 0]
    expected = transformed(tx, sequence)  # a critic has no noise
    np.testing.assert_allclose(zero_mean(moved), expected, rtol=1e-4, atol=1e-9)


def test_open_adds_the_noise_it_is_given(sequence, getkey):
    weights = open_rl.init(getkey(), open_rl.Architecture(None, 8))
    update = jax.jit(network_rule("open", None).update)
    once, twice = (
        update(weights, sequence._replace(noise=jnp.full((STEPS, 1, SIZE), z)))
        for z in (1.0, 2.0)
    )
    none = update(weights, sequence)
    assert float(jnp.abs(once - none).max()) > 1e-5
    np.testing.assert_allclose(twice - none, 2 * (once - none), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "discovered/no_features_llm_ant",
        "discovered/discovered_1",
        "discovered/open_symbolic_minatar",
    ],
)
def test_an_expression_over_a_sequence_is_its_transformation(name, sequence):
    """With momenta it is shown, with memory of its own, with norms of the tensor."""
    found = teacher(name, learning_rate=0.5)
    assert found.unrolled.stateful == (name == "discovered/discovered_1")
    moved = found.unrolled.update(found.weights, sequence)[:, 0]
    options = {"learning_rate": 0.5, "zero_mean": False}
    tx = discovered.from_artifact(artifacts.load(name), horizon=Horizon(100), **options)
    expected = transformed(tx, sequence)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-8)


def test_sign_momentum_is_lion_with_equal_betas_annealed(sequence):
    found = teacher("sign_momentum:8e-4")
    moved = found.unrolled.update(found.weights, sequence)[:, 0]
    tx, params = optax.lion(8e-4, 0.9, 0.9, weight_decay=0), jnp.zeros(SIZE)
    state = tx.init(params)
    for k in range(STEPS):
        update, state = tx.update(sequence.gradient[k, 0], state, params)
        np.testing.assert_allclose(moved[k], -update * (1 - T_P), rtol=1e-6)


def test_an_expression_with_memory_counts_iterations_from_the_sequence(sequence):
    from learned_opt_rl import expressions

    text = "optimizer\ninputs g, iteration\n{}return iteration + 0 * {}"
    memory = expressions.parse(text.format("memory v = 0\nv = v + g\n", "v"))
    counted = expression_rule(memory, 1.0).update({}, sequence)[:, 0, 0]
    assert counted.tolist() == [1, 2, 3, 4]
    plain = expression_rule(expressions.parse(text.format("", "g")), 1.0)
    at = plain.update({}, sequence)[:, 0, 0]
    np.testing.assert_allclose(at, 1 + T_P * 39040)


def test_teachers_from_paths(tmp_path, repository, getkey):
    """An artifact's folder, a run's folder, and a text with a constant."""
    folder = repository / "pretrained" / "minatar"
    by_path, by_name = teacher(str(folder)), teacher("minatar")
    assert by_path.sha256 == by_name.sha256
    assert by_path.sizes == {"carry": 16, "width": 32}

    run = tmp_path / "run"
    run.mkdir()
    weights = open_rl.init(getkey(), open_rl.Architecture(2, 4))
    digest = save_safetensors(run / "best.safetensors", weights)
    config = {"algorithm": "open", "architecture": {"carry": 2, "width": 4}}
    (run / "config.json").write_text(
        json.dumps({"kind": "evolution", "config": config})
    )
    found = teacher(str(run))
    assert (found.sha256, found.unrolled.stateful) == (digest, True)

    text = tmp_path / "form.txt"
    text.write_text("optimizer\ninputs g\nconstant c = 0.5\nreturn c * g\n")
    assert teacher(str(text)).weights == {"c": 0.5}

    save_safetensors(run / "best.safetensors", {"c": np.float32(0.25)})
    config = {"algorithm": "expression", "architecture": {"text": text.read_text()}}
    (run / "config.json").write_text(
        json.dumps({"kind": "evolution", "config": config})
    )
    assert teacher(str(run)).weights == {"c": 0.25}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sign_momentum:fast", "'fast' must be a number"),
        ("sign_momentum:-1", "'-1' must be a number"),
        ("minatr", "did you mean 'minatar'"),
        ("random:0", "random:0' takes the student's sizes"),
    ],
)
def test_missing_teachers_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        teacher(name)


def test_specialists_teach_where_they_were_trained():
    both = teacher("breakout+distilled/minatar_half")
    first, second = both.specialists
    assert both.of("Breakout-MinAtar") is first
    assert both.of("Freeway-MinAtar") is second
    assert both.sha256 not in (first.sha256, second.sha256)
    widths = [one.sizes["width"] for one in both.specialists]
    assert widths == [32, 16]
    # Agents are trained by the rule of their environment.
    config = agents.preset("Freeway-MinAtar", 1e6)
    layers = {f"Dense_{i}": {"kernel": jnp.ones((2, 2))} for i in range(2)}
    params = {"actor": layers, "critic": layers}
    made = []
    for one in (both, second, first):
        tx = one.rule(config, "Freeway-MinAtar").optimizer(jax.random.key(0))
        made.append(ravel_pytree(tx.update(params, tx.init(params), params)[0])[0])
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    with pytest.raises(ValueError, match="none was trained in CartPole-v1; add one"):
        both.of("CartPole-v1")
    assert first.of("CartPole-v1") is first


def test_specialists_are_networks_of_one_algorithm_and_label_runs():
    with pytest.raises(ValueError, match="networks of one algorithm, not open"):
        teacher("breakout+sign_mixture")
    with pytest.raises(ValueError, match="specialists label recorded runs only; give"):
        configure("half", teacher="breakout+distilled/minatar_half")
    where = {"environments": ("CartPole-v1",), "student": "open:4", "inputs": "runs"}
    with pytest.raises(ValueError, match="none was trained in CartPole-v1"):
        configure("same", teacher="breakout+distilled/minatar_half", **where)


def test_files_that_are_not_teachers_are_refused(tmp_path):
    text = tmp_path / "form.txt"
    text.write_text("optimizer\ninputs g\nreturn h\n")
    with pytest.raises(ValueError, match=r"form.txt' is not an expression: line 3"):
        teacher(str(text))
    text.write_text("optimizer\ninputs g, lr\nreturn lr * g\n")
    with pytest.raises(ValueError, match="has the input lr, but no card"):
        teacher(str(text))
    assert teacher(str(text), learning_rate=0.5).unrolled is not None
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not the configuration of a run"):
        teacher(str(tmp_path))
    config = {"algorithm": "open", "architecture": {}}
    made = json.dumps({"kind": "distillation", "config": config})
    (tmp_path / "config.json").write_text(made)
    (tmp_path / "best.safetensors").write_text("begun")
    with pytest.raises(ValueError, match="holds a distillation that did not finish"):
        teacher(str(tmp_path))
