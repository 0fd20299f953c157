"""A family is one rule module and one record: every room reads the record.

This module is the rule module of an invented family, whose update is two numbers times
the gradient and its sign. Nothing else in the library knows of it.
"""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt_rl
from learned_opt_rl import artifacts, families, testing
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts import Card, registry
from learned_opt_rl.artifacts.weights import check_weights, save_safetensors
from learned_opt_rl.errors import ArtifactError, CardError, WeightsError
from learned_opt_rl.families import _table, schema
from learned_opt_rl.training.evolution import Campaign, Execution, preset
from learned_opt_rl.training.learned import Learned, draw
from learned_opt_rl.training.promotion.card import described
from learned_opt_rl.training.run_folder import read_run
from tests.artifact_files import card_data, install_plugin, write_card
from tests.training.promotions import run_of


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Two numbers, each for ``groups`` groups of leaves, of which the mean counts."""

    groups: schema.Size

    def __post_init__(self):
        schema.check(self, "architecture")


def init(key, architecture):
    return {"scale": jax.random.normal(key, (architecture.groups, 2))}


def from_artifact(artifact, *, horizon=None, key=None, **unused):
    gradient, sign = jnp.mean(jnp.asarray(artifact.weights["scale"]), axis=0)

    def update(updates, params=None):
        return jax.tree.map(
            lambda g: -(gradient * g + sign * jnp.sign(g)).astype(jnp.result_type(g)),
            updates,
        )

    return optax.with_extra_args_support(optax.stateless(update))


FAMILY = families.Family(
    algorithm="two_numbers",
    kind="optimizer",
    title="Two Numbers",
    citation=families.Citation("Nobody, 2025.", "https://example.org"),
    architecture=Architecture,
    shapes=lambda architecture: {"scale": (architecture.groups, 2)},
    inputs=lambda architecture: ("gradient", "sign of gradient"),
    module=__name__,
    presets={
        "two-numbers": {
            "algorithm": "two_numbers",
            "architecture": {"groups": 3},
            "environments": ["CartPole-v1"],
            "horizons": [[0, 2000]],
            "population": 4,
            "sigma": 0.1,
            "learning_rate": 0.1,
            "generations": 2,
        }
    },
)
RULES = "[learned_opt_rl.rules]\n"
SIZES = {"groups": 3}
WEIGHTS = {"scale": np.array([[1e-3, 1e-3]] * 3, "f4")}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(_table, "_FAMILIES", dict(_table._FAMILIES))
    families.register(FAMILY)


def card(**changes):
    weights = card_data()["weights"] | {"parameters": 6}
    data = {"algorithm": "two_numbers", "architecture": SIZES, "weights": weights}
    return card_data("tiny", **data | changes)


@pytest.fixture
def bundled(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    digest = save_safetensors(folder / "weights.safetensors", WEIGHTS)
    data = card()
    data["weights"]["sha256"] = digest
    write_card(folder, data)
    with registry.bundled_in(tmp_path):
        yield tmp_path


def test_the_registry_finds_and_runs_it(bundled):
    assert artifacts.rule_module("two_numbers").from_artifact is from_artifact
    tx = learned_opt_rl.pretrained("tiny")
    params = {"w": jnp.zeros(2)}
    updates, _ = tx.update({"w": jnp.array([1.0, -3.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.002, 0.004], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": {"groups": 0}}, "groups is 0; write an integer of at least"),
        ({"architecture": {}}, "architecture.groups is missing; add it"),
        ({"architecture": SIZES | {"grups": 1}}, "did you mean 'groups'"),
        ({"kind": "drift"}, "kind is 'drift'; write 'optimizer'"),
    ],
)
def test_its_cards_are_checked(change, message):
    with pytest.raises(CardError, match=message):
        Card.from_dict(card(**change))


def test_its_weights_are_checked():
    check_weights(WEIGHTS, Card.from_dict(card()))
    with pytest.raises(WeightsError, match=r"has shape \(2, 3\).*asks for \(3, 2\)"):
        check_weights({"scale": WEIGHTS["scale"].T}, Card.from_dict(card()))


def test_it_passes_the_conformance_suite(bundled):
    results = testing.check_artifact("tiny")
    assert {result.outcome for result in results} <= {"passed", "skipped"}


def test_it_can_be_evolved():
    learned = Learned("two_numbers", SIZES)
    assert learned.size == 6
    start = learned.start("random", jax.random.key(1))
    drawn = draw("two_numbers", Architecture(3), jax.random.key(1))
    np.testing.assert_array_equal(start, drawn["scale"].ravel())
    rule = learned.rule(jnp.ones(6), PPOConfig(), "CartPole-v1")
    tx = rule.optimizer(jax.random.key(0))
    updates, _ = tx.update({"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)}), None)
    assert updates["w"] == -2.0


def test_a_campaign_starts_from_its_preset(tmp_path):
    few = {"num_envs": 4, "num_steps": 32, "epochs": 1, "minibatches": 1}
    config = preset("two-numbers", agent={**few, "hidden": (4,)})
    standing = Campaign(config, tmp_path, Execution()).run()
    assert int(standing.search.generation) == 2
    assert standing.search.mean.shape == (6,)


def test_it_can_be_promoted(tmp_path):
    run = run_of(tmp_path / "run", "two_numbers", SIZES, WEIGHTS)
    fields = described(read_run(run))
    found = Card.from_dict(card(**json.loads(json.dumps(fields))))
    assert (found.algorithm, found.kind) == ("two_numbers", "optimizer")
    assert found.inputs == ("gradient", "sign of gradient")
    assert found.citation == FAMILY.citation
    assert (dict(found.architecture), found.weights.parameters) == (SIZES, 6)


def test_another_family_of_the_same_name_is_refused():
    families.register(FAMILY)  # once more is no harm
    with pytest.raises(ValueError, match="'two_numbers' is taken by the family 'Two N"):
        families.register(dataclasses.replace(FAMILY, title="Others"))


def test_a_plugin_brings_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(_table, "_FAMILIES", {})
    monkeypatch.syspath_prepend(tmp_path)
    code = "from tests.families.test_invented_family import *"
    install_plugin(tmp_path, "zoo_rule", RULES + "two_numbers = zoo_rule", code)
    install_plugin(tmp_path, "zoo_bare", RULES + "bare = zoo_bare", "x = 1")
    try:
        assert families.find("two_numbers") is FAMILY
        assert Learned("two_numbers", SIZES).size == 6
        with pytest.raises(ArtifactError, match="'bare': its module has no FAMILY"):
            families.find("bare")
    finally:
        sys.modules.pop("zoo_rule", None)
        sys.modules.pop("zoo_bare", None)


def test_names_of_the_interface_alone_are_listed():
    assert set(dir(artifacts)) == set(artifacts.__all__)
    assert set(dir(families)) == set(families.__all__)
