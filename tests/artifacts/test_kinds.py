"""A card's kind, and how it goes together with algorithm, architecture and format."""

from typing import Any

import pytest

from learned_opt_rl.artifacts import Card
from learned_opt_rl.errors import CardError
from tests.artifact_files import card_data

LPG = {
    "core": "gru",
    "width": 8,
    "embedding": 4,
    "target_width": 5,
    "gamma_input": False,
    "lifetime_inputs": "none",
    "policy_sign": "descend",
    "prediction": "categorical",
}
LPO = {"width": 3, "clip_eps": 0.2, "margin": 1e-4}
TEXT = {"file": "f.txt", "sha256": "0" * 64, "parameters": 0, "format": "expression"}
OPTIMIZER = {"zero_mean": True}
DRIFT = {"offset": 1e-6}

# Algorithm, architecture, the one kind that fits.
FITTING = [
    ("open", {"carry": 2, "width": 3}, "optimizer"),
    ("no_features", {"carry": None, "width": 3}, "optimizer"),
    ("optim4rl", {"version": "rlc2024", "carry": 2, "width": None}, "optimizer"),
    ("lpo", LPO, "drift"),
    ("lpg", LPG, "update_rule"),
    ("expression", OPTIMIZER, "optimizer"),
    ("expression", DRIFT, "drift"),
]
KINDS = ["optimizer", "drift", "update_rule"]


def card(algorithm: str, architecture: dict[str, Any], kind: str) -> Card:
    data = card_data(algorithm=algorithm, architecture=architecture, kind=kind)
    if algorithm == "expression":
        data |= {"representation": "expression", "weights": TEXT}
    return Card.from_dict(data)


@pytest.mark.parametrize(("algorithm", "architecture", "kind"), FITTING)
def test_the_kind_follows_from_the_algorithm(
    algorithm: str, architecture: dict[str, Any], kind: str
) -> None:
    found = card(algorithm, architecture, kind)
    assert (found.kind, found.architecture) == (kind, architecture)
    assert Card.from_dict(found.to_dict()) == found
    for other in set(KINDS) - {kind}:
        with pytest.raises(CardError) as error:
            card(algorithm, architecture, other)
        assert str(error.value) == (
            f"card: kind is '{other}'; write '{kind}' for this algorithm and "
            "architecture"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugins_algorithm_has_any_kind(kind: str) -> None:
    assert card("mine", {"depth": 2}, kind).kind == kind


@pytest.mark.parametrize("kind", ["optimiser", "", None, 1, ["drift"]])
def test_an_unknown_kind_is_refused(kind: Any) -> None:
    with pytest.raises(CardError, match="kind is .*; write 'optimizer' or 'drift' or"):
        card("open", {"carry": None, "width": 3}, kind)


@pytest.mark.parametrize(
    ("algorithm", "stored"),
    [
        ("expression", {"file": "w.safetensors", "format": "safetensors"}),
        ("open", TEXT),
        ("mine", TEXT),
    ],
)
def test_texts_are_for_expressions_alone(
    algorithm: str, stored: dict[str, Any]
) -> None:
    architecture = {"expression": OPTIMIZER, "mine": {}}.get(
        algorithm, {"carry": None, "width": 3}
    )
    data = card_data(algorithm=algorithm, architecture=architecture)
    data["weights"] = data["weights"] | stored
    message = "algorithm 'expression' and format 'expression' go together"
    with pytest.raises(CardError, match=f"weights.format is .*; {message}"):
        Card.from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "f.safetensors"}, "'f.safetensors'; name a .txt file in the card's"),
        ({"file": "f.py"}, "weights.file is 'f.py'; name a .safetensors or .txt file"),
        (
            {"file": "../f.txt"},
            "weights.file is '../f.txt'; name a .safetensors or .txt",
        ),
        ({"file": "f.txt\n"}, "name a .safetensors or .txt file"),
        ({"parameters": -1}, "parameters is -1; write an integer of at least 0"),
        ({"parameters": True}, "parameters is True; write an integer"),
        ({"bytes": 10}, "weights.bytes is not a known field"),
        ({"format": "python"}, "weights.format is 'python'; write 'safetensors' or"),
    ],
)
def test_the_record_of_a_text(change: dict[str, Any], message: str) -> None:
    data = card_data(algorithm="expression", architecture=OPTIMIZER)
    with pytest.raises(CardError, match=message):
        Card.from_dict(data | {"weights": TEXT | change})


@pytest.mark.parametrize(
    ("algorithm", "architecture", "message"),
    [
        ("expression", {}, "architecture.zero_mean is missing; add it"),
        ("expression", {"zero_mean": 0}, "zero_mean is 0; write true or false"),
        ("expression", DRIFT | OPTIMIZER, "architecture.zero_mean is not a known"),
        ("expression", {"offset": "0"}, "offset is '0'; write a finite number"),
        (
            "expression",
            {"offset": None},
            "offset is None; write a value or leave it out",
        ),
        ("expression", OPTIMIZER | {"learning_rate": 0}, "is 0; write a number above"),
        ("expression", OPTIMIZER | {"learning_rates": 1}, "learning_rates is 1; write"),
        ("expression", OPTIMIZER | {"carry": 1}, "architecture.carry is not a known"),
        ("lpg", LPG | {"core": "rnn"}, "core is 'rnn'; write 'gru' or 'lstm'"),
        ("lpg", LPG | {"width": 0}, "width is 0; write an integer of at least 1"),
        ("lpg", LPG | {"gamma_input": 1}, "gamma_input is 1; write true or false"),
        (
            "lpg",
            LPG | {"lifetime_inputs": "log"},
            "write 'none' or 'relative' or 'raw'",
        ),
        ("lpg", LPG | {"policy_sign": "up"}, "write 'descend' or 'ascend'"),
        ("lpg", LPG | {"depth": 1}, "architecture.depth is not a known field"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(
    algorithm: str, architecture: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError, match=message):
        card(algorithm, architecture, "optimizer")


@pytest.mark.parametrize("field", LPG)
def test_lpg_needs_every_field(field: str) -> None:
    rest = {key: value for key, value in LPG.items() if key != field}
    with pytest.raises(CardError, match=rf"architecture\.{field} is missing; add it"):
        card("lpg", rest, "update_rule")


def test_a_learning_rate_may_be_left_out() -> None:
    for rates in ({}, {"learning_rate": 1e-3}, {"learning_rates": "adam_like"}):
        architecture = OPTIMIZER | rates
        assert (
            card("expression", architecture, "optimizer").architecture == architecture
        )
