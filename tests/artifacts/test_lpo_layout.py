"""Cards and weights of LPO drifts are checked like those of OPEN."""

from typing import Any

import numpy as np
import pytest

from learned_opt_rl.artifacts import Card
from learned_opt_rl.artifacts.weights import check_weights
from learned_opt_rl.errors import CardError, WeightsError
from learned_opt_rl.families.lpo import Architecture, lpo_shapes
from tests.artifact_files import card_data

ARCHITECTURE = {"width": 3, "clip_eps": 0.2, "margin": 1e-4}


def card(architecture: dict[str, Any] = ARCHITECTURE, parameters: int = 27) -> Card:
    data = card_data(algorithm="lpo", kind="drift", architecture=architecture)
    data["weights"] = data["weights"] | {"parameters": parameters}
    return Card.from_dict(data)


def weights(kernel_in: tuple[int, ...], kernel_out: tuple[int, ...]) -> dict[str, Any]:
    shapes = {"dense_0": kernel_in, "dense_1": kernel_out}
    return {layer: {"kernel": np.ones(s, "f4")} for layer, s in shapes.items()}


def test_matching_weights_pass() -> None:
    check_weights(weights((8, 3), (3, 1)), card())
    shapes = lpo_shapes(Architecture(3))
    assert shapes == {"dense_0.kernel": (8, 3), "dense_1.kernel": (3, 1)}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (weights((3, 8), (3, 1)), r"dense_0.kernel has shape \(3, 8\)"),
        (weights((8, 3), (1, 3)), r"dense_1.kernel has shape \(1, 3\)"),
        ({"dense_0": {"kernel": np.ones((8, 3), "f4")}}, "lack 'dense_1.kernel'"),
        (
            weights((8, 3), (3, 1)) | {"dense_2": {"kernel": np.ones((1, 1), "f4")}},
            "unknown tensor 'dense_2.kernel'",
        ),
    ],
)
def test_other_weights_are_refused(found: dict[str, Any], message: str) -> None:
    total = sum(layer["kernel"].size for layer in found.values())
    with pytest.raises(WeightsError, match=message):
        check_weights(found, card(parameters=total))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 0}, r"architecture\.margin is 0; write a number above 0"),
        ({"clip_eps": -0.2}, r"architecture\.clip_eps is -0\.2; write a number above"),
        ({"clip_eps": "0.2"}, r"architecture\.clip_eps is '0\.2'; write a finite"),
        ({"width": 1.5}, r"architecture\.width is 1\.5; write an integer"),
        ({"depth": 2}, r"architecture\.depth is not a known field"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        card(ARCHITECTURE | change)


def test_every_field_is_needed() -> None:
    for field in ARCHITECTURE:
        rest = {k: v for k, v in ARCHITECTURE.items() if k != field}
        with pytest.raises(CardError, match=rf"architecture\.{field} is missing"):
            card(rest)
