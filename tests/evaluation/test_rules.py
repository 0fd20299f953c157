import dataclasses
import hashlib
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import agents, errors
from learned_opt_rl.agents import A2CConfig, LPGConfig, PPOConfig
from learned_opt_rl.evaluation.runs import rules
from learned_opt_rl.rules import discovered
from tests.conftest import REPOSITORY

HORIZON = PPOConfig().horizon()
PARAMS = {"w": jnp.array([1.0, -2.0])}
GRADS = {"w": jnp.array([0.3, -0.1])}


def updates(tx, steps):
    state, taken = tx.init(PARAMS), []
    for _ in range(steps):
        update, state = tx.update(GRADS, state, PARAMS)
        taken.append(update["w"])
    return np.array(taken)


@pytest.mark.parametrize(
    ("rule", "environment", "expected"),
    [
        ("adam:1e-3", "anything", optax.adam(1e-3)),
        ("sgd:0.5", "anything", optax.sgd(0.5)),
        (
            "adam",
            "Breakout-MinAtar",
            optax.adam(optax.linear_schedule(1e-2, 0.0, 4), b1=0.9, b2=0.99),
        ),
        (
            "adam",
            "ant",
            optax.adam(optax.linear_schedule(3e-4, 0.0, 4), b1=0.99, b2=0.99),
        ),
        (
            "rmsprop",
            "Freeway-MinAtar",
            optax.rmsprop(optax.linear_schedule(1e-3, 0.0, 4), decay=0.999),
        ),
        ("rmsprop", "Breakout-MinAtar", optax.rmsprop(2e-3, decay=0.99)),
        ("lion", "Breakout-MinAtar", optax.lion(8e-4, b1=0.9, b2=0.9)),
        (
            "lion",
            "Asterix-MinAtar",
            optax.lion(optax.linear_schedule(3e-4, 0.0, 4), b1=0.99, b2=0.9),
        ),
        (
            "sgd",
            "SpaceInvaders-MinAtar",
            optax.sgd(optax.linear_schedule(1.17, 0.0, 4)),
        ),
    ],
)
def test_settings_are_the_published_ones(rule, environment, expected):
    tx = rules.handcrafted(rule, environment, num_updates=4)
    np.testing.assert_allclose(updates(tx, 4), updates(expected, 4), rtol=1e-6)


def test_annealing_ends_at_zero():
    tx = rules.handcrafted("adam", "Freeway-MinAtar", num_updates=10)
    steps = np.abs(updates(tx, 11))
    assert (steps[0] > 0).all()
    np.testing.assert_array_equal(steps[10], 0)


def test_a_call_does_not_change_the_table():
    first = rules.handcrafted("adam", "ant", 4)
    second = rules.handcrafted("adam", "ant", 4)
    np.testing.assert_array_equal(updates(first, 3), updates(second, 3))


@pytest.mark.parametrize(
    ("rule", "environment", "message"),
    [
        ("adamw", "ant", "rule='adamw' is not a handcrafted optimizer"),
        ("adam:fast", "ant", "'fast' is not a positive number"),
        ("adam:-1", "ant", "'-1' is not a positive number"),
        ("adam:inf", "ant", "'inf' is not a positive number"),
        ("adam:", "ant", "'' is not a positive number"),
        ("lion", "hopper", "nothing is tuned for 'lion' on environment='hopper'"),
        ("adam", "Catch-bsuite", "give a learning rate, as in 'adam:1e-3'"),
    ],
)
def test_errors_name_what_is_wrong(rule, environment, message):
    with pytest.raises(ValueError, match=message):
        rules.handcrafted(rule, environment, 4)


def test_resolve_anneals_over_the_run():
    config = PPOConfig(20_000)
    factory = rules.resolve("adam", config, "Asterix-MinAtar").optimizer
    expected = optax.adam(optax.linear_schedule(3e-3, 0.0, config.num_updates))
    np.testing.assert_allclose(
        updates(factory(jax.random.key(0)), 5), updates(expected, 5), rtol=1e-6
    )


@pytest.mark.parametrize("rule", ["no-such-rule", "artifact:no-such-rule"])
def test_resolve_refuses_unknown_names_at_once(rule):
    with pytest.raises(errors.UnknownArtifactError, match="no-such-rule"):
        rules.resolve(rule, PPOConfig(), "Breakout-MinAtar")


@pytest.mark.parametrize("algorithm", ["open", "no_features", "optim4rl"])
@pytest.mark.parametrize("rule", ["learned", "artifact:learned", "open:learned"])
def test_resolve_gives_learned_rules_their_horizon_and_key(
    monkeypatch, rule, algorithm
):
    asked = []

    def pretrained(name, **options):
        asked.append((name, options))
        return optax.sgd(1.0)

    monkeypatch.setattr(rules, "pretrained", pretrained)
    card = dataclasses.replace(rules.artifacts.card("minatar"), algorithm=algorithm)
    monkeypatch.setattr(rules.artifacts, "card", lambda name: card)
    config = PPOConfig(20_000)
    key = jax.random.key(3)
    rules.resolve(rule, config, "Breakout-MinAtar").optimizer(key)
    ((name, options),) = asked
    assert name == "minatar"
    assert options == {"horizon": config.horizon(), "key": key}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("discovered/open_llm_ant", "rule='discovered/open_llm_ant': nothing is tuned"),
        ("discovered/dpo", "rule='discovered/dpo' is a drift, .* with tuned Adam, but"),
    ],
)
def test_resolve_says_at_once_what_is_not_tuned(rule, words):
    with pytest.raises(ValueError, match=words):
        rules.resolve(rule, PPOConfig(20_000), "Pong")


def test_an_lpg_agent_takes_update_rules_and_nobody_else_does(monkeypatch):
    config = LPGConfig(20_000)
    with pytest.raises(ValueError, match="'adam:1e-3' is not an update rule, which"):
        rules.resolve("adam:1e-3", config, "ant")
    with pytest.raises(ValueError, match="'minatar' is not an update rule, which"):
        rules.resolve("minatar", config, "ant")
    card = dataclasses.replace(rules.artifacts.card("minatar"), kind="update_rule")
    monkeypatch.setattr(rules.artifacts, "card", lambda name: card)
    monkeypatch.setattr(rules, "pretrained", lambda name: f"the rule {name}")
    rule = rules.resolve("learned", config, "Breakout-MinAtar")
    assert rule.update_rule == "the rule minatar"
    expected = agents.lpg_optimizer("Breakout-MinAtar", config.num_updates)
    np.testing.assert_array_equal(
        updates(rule.optimizer(jax.random.key(0)), 3), updates(expected, 3)
    )
    with pytest.raises(ValueError, match="needs an agent of its own; choose the agent"):
        rules.resolve("learned", PPOConfig(20_000), "Breakout-MinAtar")


def test_only_ppo_takes_a_drift():
    with pytest.raises(ValueError, match="replaces PPO's clip; choose the agent ppo"):
        rules.resolve("discovered/dpo", A2CConfig(20_000), "Breakout-MinAtar")


def test_a_feature_must_be_named():
    with pytest.raises(ValueError, match="'' is not a feature"):
        rules.resolve("minatar@", PPOConfig(20_000), "Breakout-MinAtar")


def test_resolve_gives_a_drift_tuned_adam():
    rule = rules.resolve("discovered/dpo", PPOConfig(20_000), "Breakout-MinAtar")
    assert rule.drift is not None
    assert float(rule.drift(jnp.array([1.5]), jnp.array([1.0]))[0]) > 0


@pytest.mark.parametrize("optimizer", ["adam:1e+3", "minatar@no-dormancy"])
def test_an_optimizer_and_a_drift_make_one_rule(optimizer):
    config, key = PPOConfig(20_000), jax.random.key(3)
    rule = rules.resolve(f"{optimizer}+discovered/dpo", config, "Pong")
    alone = rules.resolve(optimizer, config, "Pong")
    both = (x.optimizer(key) for x in (rule, alone))
    # Op by op, a network takes ten times as long.
    found, expected = (updates(x._replace(update=jax.jit(x.update)), 2) for x in both)
    np.testing.assert_array_equal(found, expected)
    sample = jnp.array([1.5]), jnp.array([1.0])
    dpo = discovered.pretrained("discovered/dpo")
    np.testing.assert_array_equal(rule.drift(*sample), dpo(*sample))
    digest = rules.weights_digest(f"{optimizer}+discovered/dpo")
    assert digest not in (None, rules.weights_digest("discovered/dpo"))
    assert digest != rules.weights_digest("sign_mixture+discovered/dpo")


@pytest.mark.parametrize(
    ("rule", "config", "words"),
    [
        ("adam+minatar", PPOConfig(), "'minatar' is not a drift; write OPTIMIZER"),
        ("adam:1e-3+adam", PPOConfig(), "'adam' is not a drift"),
        (
            "discovered/dpo+lpo/minatar",
            PPOConfig(),
            "'discovered/dpo' is a drift; write",
        ),
        ("minatar+discovered/dpo", A2CConfig(), "choose the agent ppo"),
        ("minatar+no-such-drift", PPOConfig(), "no artifact is named 'no-such-drift'"),
    ],
)
def test_other_combinations_are_refused(rule, config, words):
    with pytest.raises((ValueError, errors.UnknownArtifactError), match=words):
        rules.resolve(rule, config, "Breakout-MinAtar")


SIGN = """optimizer
inputs g, lr
return lr * sign(g)
"""
MODULE = """import optax
def mine(horizon):
    return optax.sgd(1.0 / horizon.total_updates)
def wrong(horizon):
    return horizon
made = optax.sgd(0.5)
def kl(ratio, advantage):
    return abs(advantage) * (ratio - 1) ** 2
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder, the current one, with rules of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "sign.txt").write_text(SIGN)
    (tmp_path / "kl.txt").write_text("drift\ninputs r, A\nreturn abs(A) * (r - 1)**2")
    (tmp_path / "code_of_mine.py").write_text(MODULE)
    shutil.copytree(REPOSITORY / "pretrained/sign_mixture", tmp_path / "copy")
    yield tmp_path
    sys.modules.pop("code_of_mine", None)


@pytest.mark.parametrize(
    ("rule", "like"),
    [
        ("optax.sgd:1e-3", lambda: optax.sgd(1e-3)),
        ("code_of_mine:mine", lambda: optax.sgd(1 / PPOConfig().num_updates)),
        ("code_of_mine:made", lambda: optax.sgd(0.5)),
        ("./copy", lambda: discovered.pretrained("sign_mixture", horizon=HORIZON)),
        (
            "sign.txt:0.5",
            lambda: discovered.optimizer(SIGN, HORIZON, learning_rate=0.5),
        ),
    ],
)
def test_a_rule_of_ones_own(own, rule, like):
    found = rules.resolve(rule, PPOConfig(), "Pong")
    made = found.optimizer(jax.random.key(0))
    np.testing.assert_array_equal(updates(made, 3), updates(like(), 3))
    assert found.drift is None


def test_the_digest_of_a_rule_of_ones_own_is_that_of_its_file(own):
    assert rules.weights_digest("optax.sgd:1e-3") is None
    assert rules.weights_digest("no/such.txt") is None
    for rule, file in (
        ("sign.txt:1", "sign.txt"),
        ("code_of_mine:mine", "code_of_mine.py"),
        ("./copy", "copy/card.json"),
    ):
        content = (own / file).read_bytes()
        assert rules.weights_digest(rule) == hashlib.sha256(content).hexdigest()
    # The name may stand in rows of somebody else, so nothing is imported for it.
    assert "code_of_mine" not in sys.modules


KL = "sgd:1+code_of_mine:kl"


def test_a_drift_of_ones_own_combines_with_any_optimizer(own):
    config, sample = PPOConfig(), (jnp.array([1.5]), jnp.array([-2.0]))
    for rule in ("kl.txt", "minatar+kl.txt", "optax.lion:1e-4+./kl.txt", KL):
        found = rules.resolve(rule, config, "Breakout-MinAtar")
        np.testing.assert_allclose(found.drift(*sample), [0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("optax.adamm:1e-3", "optax has no optimizer 'adamm' .*did you mean 'adam'"),
        ("optax.adam:fast", "the learning rate 'fast' is not a positive number"),
        ("optax.adam", "the learning rate '' is not a positive number"),
        ("sign.txt", "has the input lr; give its value, as in 'sign.txt:1e-3'"),
        ("sign.txt:x", "the learning rate 'x' is not .* as in 'sign.txt:1e-3'"),
        ("kl.txt:0.5", "has no input lr; name the file alone, 'kl.txt'"),
        ("optax.scale:1e-3", "optax has no optimizer 'scale' with a learning rate"),
        ("code_of_mine.py.txt", "No such file"),
        ("./nothing", "is not the folder of an artifact"),
        ("code_of_mine:yours", "has no attribute 'yours'"),
        ("no_such_module:mine", "No module named 'no_such_module'"),
        ("code_of_mine:wrong", "must return an optax optimizer, but .* Horizon"),
        ("code_of_mine:number", "3 is not an optax optimizer, a function horizon"),
        ("kl.txt+sign.txt:1", "is not a drift"),
    ],
)
def test_what_is_wrong_with_a_rule_of_ones_own(own, rule, words):
    with pytest.raises((ValueError, errors.ArtifactError), match=words):
        made = rules.resolve(rule, PPOConfig(), "Breakout-MinAtar")
        made.optimizer(jax.random.key(0))


def test_a_file_of_settings_runs_no_code(own):
    made = {"rule": "code_of_mine:mine", "settings": {"*": {}}}
    (own / "tuned.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="user-defined and takes no settings"):
        rules.resolve("tuned.json", PPOConfig(), "Pong")
    assert "code_of_mine" not in sys.modules


def test_names_in_foreign_rows_that_are_not_paths_have_no_digest():
    for rule in ("~nobody-here/x", "a\0.txt", f"{'m' * 300}:f", "adam+no/such.txt"):
        assert rules.weights_digest(rule) is None


def test_a_plus_in_a_path_is_part_of_it(own):
    (own / "c++").mkdir()
    (own / "c++/kl.txt").write_text((own / "kl.txt").read_text())
    for rule in ("./c++/kl.txt", "adam:1e-3+./c++/kl.txt"):
        assert rules.resolve(rule, PPOConfig(), "Breakout-MinAtar").drift is not None


def test_a_drift_without_a_tuned_adam_names_the_way_out(own):
    with pytest.raises(ValueError, match="rule='kl.txt' .*: name 'adam:1e-3.kl.txt'"):
        rules.resolve("kl.txt", PPOConfig(), "Pong")


def test_a_misspelt_optimiser_is_recognised():
    message = (
        "no artifact is named 'adamm:1e-3'.*; or do you mean the optimizer 'adam'?"
    )
    with pytest.raises(errors.UnknownArtifactError, match=message):
        rules.resolve("adamm:1e-3", PPOConfig(), "Breakout-MinAtar")


def test_a_digest_is_that_of_the_weights_whatever_is_missing():
    digest = rules.artifacts.card("minatar").weights.sha256
    assert rules.weights_digest("minatar") == digest
    assert rules.weights_digest("artifact:minatar@no-dormancy") == digest
    assert rules.weights_digest("adam:1e-3") is None
    assert rules.weights_digest("nobody/knows") is None
