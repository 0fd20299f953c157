"""Closed forms as transformations: the published wiring, options and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import Horizon, artifacts, discovered, expressions, losses, rules
from learned_opt_rl.errors import ArtifactError, ExpressionError
from learned_opt_rl.rules._core import transform
from tests.golden_open import subtree
from tests.rules.open_cases import part

WIRED = [
    "no_features_symbolic_ant",
    "open_symbolic_ant",
    "open_symbolic_minatar",
    "no_features_llm_ant",
    "no_features_llm_minatar",
    "open_llm_ant",
    "open_llm_minatar",
    "open_recurrent_llm_minatar",
]
PARAMS = {
    "actor": {"Dense_0": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}},
    "critic": {"Dense_0": {"kernel": jnp.ones((3, 1)), "bias": jnp.zeros(1)}},
}
HORIZON = Horizon(1000)
SIGN = "optimizer\ninputs g, lr\nreturn lr * sign(g)"


@pytest.fixture(scope="module")
def golden(reference):
    path = reference / "golden" / "published_functions_wiring.npz"
    return np.load(path, allow_pickle=False)


def gradients():
    def wave(p):
        return jnp.cos(jnp.arange(p.size * 1.0)).reshape(p.shape)

    return jax.tree.map(wave, PARAMS)


def assert_close(found, wanted, rtol, atol=1e-7):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol),
        found,
        wanted,
    )


@pytest.mark.parametrize("name", WIRED)
def test_three_steps_of_the_authors_code(golden, name, monkeypatch):
    def noise(drawn, key, leaves, roles):
        # Functions that read no noise have none recorded.
        return [
            jnp.asarray(drawn.get(role.path, np.zeros(leaf.shape)))
            for role, leaf in zip(roles, leaves, strict=True)
        ]

    options = {"horizon": HORIZON, "zero_gradients": "move"}  # as published
    if f"{name}/base_learning_rate" in golden:
        options["learning_rate"] = float(golden[f"{name}/base_learning_rate"])
    tx = discovered.pretrained(f"discovered/{name}", **options)
    params = subtree(golden, "params0/")
    state = tx.init(jax.tree.map(jnp.asarray, params))

    @jax.jit
    def update(grads, state, params, drawn, **told):
        # The noise is that of this step.
        monkeypatch.setattr(
            transform, "exploration_noise", functools.partial(noise, drawn)
        )
        return tx.update(grads, state, params, **told)

    for step in range(3):
        drawn = {
            key.removeprefix(f"{name}/step{step}/noise/"): golden[key]
            for key in golden
            if key.startswith(f"{name}/step{step}/noise/")
        }
        activations = subtree(golden, f"step{step}/activations/")
        dormancy = {
            network: {
                f"Dense_{i}": (a := np.asarray(value) + 1e-11).size * a / a.sum()
                for i, value in layers.items()
            }
            for network, layers in activations.items()
        }
        updates, state = update(
            subtree(golden, f"step{step}/grads/"),
            state,
            params,
            drawn,
            dormancy=dormancy,
            training_proportion=float(golden[f"step{step}/training_proportion"]),
            batch_proportion=float(golden[f"step{step}/batch_proportion"]),
        )
        expected = subtree(golden, f"{name}/step{step}/update/")
        for network, layers in expected.items():
            for layer, leaves in layers.items():
                # Dormant neurons divide by almost nothing: the README allows 1e-2.
                dead = activations[network][layer[-1]] < 1e-6
                rtol = np.where(dead & (name == "open_llm_ant"), 1e-2, 1e-4)
                for leaf, wanted in leaves.items():
                    error = np.abs(updates[network][layer][leaf] - wanted)
                    where = (network, layer, leaf)
                    assert (error <= 1e-7 + rtol * np.abs(wanted)).all(), where
        memory, kept = part(state, "memory"), f"{name}/step{step}/var/"
        if any(key.startswith(kept) for key in golden):
            assert_close(memory["v"], subtree(golden, kept), 1e-5, atol=1e-12)
        params = jax.tree.map(lambda p, u: p + u, params, expected)


def test_the_learning_rate_falls_linearly():
    tx = discovered.optimizer(SIGN, Horizon(5), learning_rate=0.1)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    found = []
    for _ in range(5):
        updates, state = update(gradients(), state, PARAMS)
        found.append(float(jnp.abs(updates["actor"]["Dense_0"]["kernel"]).max()))
    np.testing.assert_allclose(found, [0.1, 0.075, 0.05, 0.025, 0.0], atol=1e-7)


def test_noise_reaches_the_actor_only_and_differs_between_equal_leaves():
    text = "optimizer\ninputs rand\nreturn rand"
    params = {n: {"a": jnp.zeros(4), "b": jnp.zeros(4)} for n in ("actor", "critic")}
    tx = discovered.optimizer(text, Horizon(10), seed=3)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, state = tx.update(grads, tx.init(params), params)
    assert not np.any(updates["critic"]["a"])
    assert not np.allclose(updates["actor"]["a"], updates["actor"]["b"])
    again, _ = tx.update(grads, state, params)
    assert not np.allclose(updates["actor"]["a"], again["actor"]["a"])


def test_zero_mean_is_over_all_parameters_together():
    tx = discovered.optimizer(
        "optimizer\ninputs g\nreturn g", Horizon(10), zero_mean=True
    )
    updates, _ = tx.update(gradients(), tx.init(PARAMS), PARAMS)
    everything = jnp.concatenate([jnp.ravel(u) for u in jax.tree.leaves(updates)])
    assert abs(float(everything.mean())) < 1e-7
    assert abs(float(updates["critic"]["Dense_0"]["bias"][0])) > 1e-3


def test_constants_are_a_pytree_a_population_can_vary():
    text = "optimizer\ninputs g\nconstant c = 2\nreturn c * g"

    @jax.jit
    def first(c):
        tx = discovered.optimizer(text, Horizon(10), constants={"c": c})
        return tx.update(gradients(), tx.init(PARAMS), PARAMS)[0]

    together = jax.vmap(first)(jnp.array([1.0, 3.0]))
    plain = gradients()["actor"]["Dense_0"]["kernel"]
    kernel = together["actor"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(kernel[1], -3 * plain, rtol=1e-6)

    @jax.jit
    @jax.grad
    def slope(c):
        return first(c)["actor"]["Dense_0"]["kernel"].sum()

    np.testing.assert_allclose(slope(1.0), -plain.sum(), rtol=1e-5)


def test_the_tuned_rate_is_taken_by_the_name_of_the_environment():
    name = "discovered/no_features_llm_minatar"
    one = discovered.pretrained(name, horizon=HORIZON, environment="Asterix-MinAtar")
    other = discovered.pretrained(name, horizon=HORIZON, learning_rate=0.52)
    found = [
        jax.jit(tx.update)(gradients(), tx.init(PARAMS), PARAMS)[0]
        for tx in (one, other)
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_slots_are_declared_in_the_state():
    tx = discovered.pretrained("discovered/discovered_1", horizon=HORIZON)
    state = tx.init(PARAMS)
    assert set(part(state, "memory")) == {"v1", "v2", "had a gradient"}
    assert jax.tree.structure(part(state, "memory")["v1"]) == jax.tree.structure(PARAMS)
    assert part(optax.tree.map_params(tx, lambda p: p + 1, state), "memory")["v2"][
        "actor"
    ]


def test_every_drift_artifact_is_a_loss_ppo_can_descend():
    names = [n for n, c in artifacts.cards().items() if c.kind == "drift"]
    assert len(names) >= 10
    ratio, advantage = jnp.exp(jnp.linspace(-1, 1, 11)), jnp.linspace(-2, 2, 11)
    for name in names:
        d = rules.pretrained(name)
        loss = losses.policy_loss(ratio, advantage, d)
        assert loss >= -(ratio * advantage).mean() - 1e-6, name


def test_an_action_the_policy_has_dropped_does_not_make_the_gradient_nan():
    drifts = {
        name: rules.pretrained(name)
        for name, card in artifacts.cards().items()
        if card.kind == "drift"
    }

    @jax.jit
    @jax.vmap
    def slopes(advantage):
        def loss(log_ratio, d):
            return losses.policy_loss(jnp.exp(log_ratio), advantage, d)

        at = jnp.float32(-110.0)
        return {name: jax.grad(loss)(at, d) for name, d in drifts.items()}

    for name, slope in slopes(jnp.array([1.0, 0.0, -1.0])).items():
        assert jnp.isfinite(slope).all(), name


def test_a_drift_has_the_dtype_of_the_ratio():
    ratio = jnp.array([1.5], jnp.bfloat16)
    found = discovered.pretrained("discovered/dpo")(ratio, ratio)
    assert found.dtype == jnp.bfloat16


def test_the_mean_can_be_kept():
    name = "discovered/open_symbolic_minatar"
    tx = discovered.pretrained(name, horizon=HORIZON, zero_mean=False)
    updates, _ = jax.jit(tx.update)(gradients(), tx.init(PARAMS), PARAMS)
    total = sum(float(u.sum()) for u in jax.tree.leaves(updates))
    assert total < -1e-4


def test_a_constant_of_a_drift_can_be_changed():
    narrow = discovered.pretrained("discovered/lpo_llm_ant", constants={"eps": 0.05})
    wide = discovered.pretrained("discovered/lpo_llm_ant")
    at = jnp.array([1.15]), jnp.array([1.0])
    assert float(narrow(*at)[0]) > 0 == float(wide(*at)[0])


class TestErrors:
    def test_both_rates(self):
        with pytest.raises(TypeError, match="learning_rate=0.1 and environment='x'"):
            discovered.pretrained(
                "discovered/open_llm_ant", learning_rate=0.1, environment="x"
            )

    def test_an_environment_without_a_tuned_rate(self):
        with pytest.raises(ValueError, match="'sgd' on environment='Pong'"):
            discovered.pretrained(
                "discovered/open_llm_ant", horizon=HORIZON, environment="Pong"
            )

    def test_an_environment_for_a_function_without_a_rate(self):
        with pytest.raises(
            ArtifactError, match="no input lr. Leave environment='ant' out"
        ):
            discovered.tuned_learning_rate("discovered/discovered_1", "ant")
        ignored = {"horizon": HORIZON, "environment": "ant"}
        discovered.pretrained("discovered/discovered_1", **ignored)

    def test_a_drift_is_no_optimizer(self):
        text = "drift\ninputs r, A\nreturn r * A"
        with pytest.raises(ValueError, match=r"discovered.drift\(function\)"):
            discovered.optimizer(text, Horizon(10))
        with pytest.raises(ValueError, match="scale_by_expression"):
            discovered.drift(SIGN)

    def test_an_artifact_of_another_algorithm(self):
        with pytest.raises(ArtifactError, match="is of algorithm 'open', not"):
            discovered.pretrained("minatar")

    def test_an_unknown_constant(self):
        with pytest.raises(ExpressionError, match="sets 'mm', .* declares m$"):
            discovered.pretrained(
                "discovered/discovered_1", horizon=HORIZON, constants={"mm": 1.0}
            )
        with pytest.raises(ExpressionError, match="declares alpha, beta"):
            discovered.pretrained("discovered/dpo", constants={"gamma": 1.0})

    def test_an_option_a_drift_does_not_take(self):
        with pytest.raises(TypeError, match="a drift, which takes no learning_rate"):
            discovered.pretrained("discovered/dpo", learning_rate=0.1)

    def test_no_function(self):
        with pytest.raises(TypeError, match=r"function=3 must be a text or an"):
            discovered.drift(3)

    def test_a_state_of_another_function(self):
        one = discovered.pretrained("discovered/discovered_1", horizon=HORIZON)
        other = discovered.pretrained("discovered/archive_gradient")
        with pytest.raises(ValueError, match=r"slots \[.*\], .* \[.*'v1', 'v2'\]"):
            one.update(gradients(), other.init(PARAMS), PARAMS)

    def test_no_horizon(self):
        with pytest.raises(TypeError, match="horizon=10 must be a Horizon"):
            discovered.optimizer(SIGN, 10)

    def test_params_are_missing(self):
        tx = discovered.optimizer(SIGN, Horizon(10))
        with pytest.raises(ValueError, match="not passing `params`"):
            tx.update(gradients(), tx.init(PARAMS))

    def test_a_text_that_does_not_parse(self):
        with pytest.raises(ExpressionError, match="line 3"):
            discovered.optimizer("optimizer\ninputs g\nreturn g +", Horizon(10))


def test_the_text_of_an_artifact_is_the_file(repository):
    artifact = artifacts.load("discovered/dpo")
    path = repository / "pretrained/discovered/dpo/expression.txt"
    assert artifact.text == path.read_text()
    declared = expressions.parse(artifact.text).init_constants()
    assert artifact.weights == {name: np.float32(x) for name, x in declared.items()}
