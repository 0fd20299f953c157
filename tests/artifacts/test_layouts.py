"""Cards and weights of No Features, Optim4RL and LPO: what fits, what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from learned_opt_rl.artifacts import Card
from learned_opt_rl.artifacts.weights import check_weights, unflatten_names
from learned_opt_rl.errors import CardError, WeightsError
from learned_opt_rl.families import Shapes, find, lpo, open_network, optim4rl
from tests.artifact_files import card_data, remote_card_data

RECURRENT = {"carry": 2, "width": 3}
FEED_FORWARD = {"carry": None, "width": 3}
OLD = {"version": "arxiv2023", "carry": 2, "width": 3}
LPO = {"width": 3, "clip_eps": 0.2, "margin": 1e-4}
NEW = {"version": "rlc2024", "carry": 2, "width": None}


def open_shapes(carry: int | None, width: int) -> Shapes:
    return open_network.open_shapes(open_network.Architecture(carry, width))


def no_features_shapes(carry: int | None, width: int) -> Shapes:
    return open_network.no_features_shapes(open_network.Architecture(carry, width))


def optim4rl_shapes(version: optim4rl.Version, carry: int, width: int | None) -> Shapes:
    return optim4rl.optim4rl_shapes(optim4rl.Architecture(version, carry, width))


CASES = [
    ("no_features", RECURRENT, no_features_shapes(2, 3)),
    ("no_features", FEED_FORWARD, no_features_shapes(None, 3)),
    ("optim4rl", OLD, optim4rl_shapes("arxiv2023", 2, 3)),
    ("optim4rl", NEW | {"width": 3}, optim4rl_shapes("rlc2024", 2, 3)),
    ("optim4rl", NEW, optim4rl_shapes("rlc2024", 2, None)),
    ("optim4rl", NEW | {"learning_rate": 1e-3}, optim4rl_shapes("rlc2024", 2, None)),
    ("lpo", LPO, lpo.lpo_shapes(lpo.Architecture(3))),
]


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in LPO.items() if name != field}


def count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def card(algorithm: str, architecture: dict[str, Any], parameters: int = 1) -> Card:
    kind = find(algorithm).kind
    data = card_data(algorithm=algorithm, architecture=architecture, kind=kind)
    data["weights"]["parameters"] = parameters
    return Card.from_dict(data)


def check(algorithm: str, architecture: dict[str, Any], shapes: Shapes) -> None:
    """Check zeros of these shapes against a card of the right total."""
    flat = {name: np.zeros(shape, "f4") for name, shape in shapes.items()}
    check_weights(unflatten_names(flat), card(algorithm, architecture, count(shapes)))


@pytest.mark.parametrize(("algorithm", "architecture", "shapes"), CASES)
def test_weights_of_the_cards_architecture_pass(
    algorithm: str, architecture: dict[str, Any], shapes: Shapes
) -> None:
    check(algorithm, architecture, shapes)


@pytest.mark.parametrize(("algorithm", "architecture", "shapes"), CASES)
def test_weights_of_any_other_are_refused(
    algorithm: str, architecture: dict[str, Any], shapes: Shapes
) -> None:
    everything = [case[2] for case in CASES]
    others = [open_shapes(2, 3), open_shapes(None, 3), {"a": (4,)}, *everything]
    different = [other for other in others if other != shapes]
    assert len(different) >= 7
    for other in different:
        with pytest.raises(WeightsError, match="architecture"):
            check(algorithm, architecture, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense_0.kernel": (3, 8)}, r"dense_0.kernel has shape \(3, 8\)"),
        ({"dense_1.kernel": (1, 3)}, r"dense_1.kernel has shape \(1, 3\)"),
        ({"dense_1.kernel": None}, "lack 'dense_1.kernel'"),
        ({"dense_2.kernel": (1, 1)}, "unknown tensor 'dense_2.kernel'"),
    ],
)
def test_a_message_names_the_tensor(change: dict[str, Any], message: str) -> None:
    shapes = lpo.lpo_shapes(lpo.Architecture(3)) | change
    shapes = {name: shape for name, shape in shapes.items() if shape is not None}
    with pytest.raises(WeightsError, match=message):
        check("lpo", LPO, shapes)


@pytest.mark.parametrize(
    ("shapes", "total"),
    [
        (no_features_shapes(None, 16), 514),
        (no_features_shapes(8, 16), 1074),
        (optim4rl_shapes("rlc2024", 8, None), 514),
        (optim4rl_shapes("rlc2024", 8, 16), 1362),
        (optim4rl_shapes("arxiv2023", 8, 16), 1403),
        (optim4rl_shapes("arxiv2023", 16, 32), 5107),
    ],
)
def test_parameter_counts(shapes: Shapes, total: int) -> None:
    assert count(shapes) == total


@pytest.mark.parametrize(
    ("algorithm", "architecture", "message"),
    [
        ("no_features", {}, "architecture.carry is missing; add it"),
        ("no_features", {"width": 3}, "architecture.carry is missing"),
        ("no_features", FEED_FORWARD | {"type": "gru"}, "type is not a known field"),
        ("optim4rl", {"carry": 2}, "architecture.version is missing"),
        ("optim4rl", {"version": "rlc2024"}, "architecture.carry is missing"),
        ("optim4rl", OLD | {"version": "2023"}, "version is '2023'; write 'arxiv2023'"),
        ("optim4rl", OLD | {"widht": 3}, "did you mean 'width'"),
        ("optim4rl", OLD | {"width": 0}, "width is 0; write an integer of at least 1"),
        ("optim4rl", OLD | {"learning_rate": 0.0}, "0.0; write a number above 0"),
        ("optim4rl", OLD | {"learning_rate": "fast"}, "'fast'; write a finite number"),
        (
            "lpo",
            LPO | {"margin": 0},
            r"architecture\.margin is 0; write a number above",
        ),
        ("lpo", LPO | {"clip_eps": -0.2}, r"clip_eps is -0\.2; write a number above 0"),
        ("lpo", LPO | {"clip_eps": "0.2"}, r"clip_eps is '0\.2'; write a finite"),
        ("lpo", LPO | {"width": 1.5}, r"width is 1\.5; write an integer"),
        ("lpo", LPO | {"depth": 2}, r"architecture\.depth is not a known field"),
        ("lpo", without("width"), r"architecture\.width is missing; add it"),
        ("lpo", without("clip_eps"), r"architecture\.clip_eps is missing"),
        ("lpo", without("margin"), r"architecture\.margin is missing"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(
    algorithm: str, architecture: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError, match=message):
        card(algorithm, architecture)


@pytest.mark.parametrize(
    ("algorithm", "architecture"), [("no_features", RECURRENT), ("optim4rl", OLD)]
)
def test_the_authors_flat_vectors_are_opens_alone(
    algorithm: str, architecture: dict[str, Any]
) -> None:
    data = remote_card_data(b"w")
    data |= {"algorithm": algorithm, "architecture": architecture}
    with pytest.raises(CardError, match="weights.format is 'flat_npy'; use 'safeten"):
        Card.from_dict(data)
