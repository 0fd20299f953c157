"""Texts of expressions: accepted ones, and refusals that name file and place."""

import hashlib
import pathlib
from typing import Any

import numpy as np
import pytest

from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.artifacts.registry import Entry, load_entry
from learned_opt_rl.errors import ExpressionError, WeightsError
from tests.artifact_files import card_data

TEXT = "optimizer\ninputs g\nconstant a = 0.5\nconstant b = -2\nreturn a * g + b\n"
DRIFT = "drift\ninputs r\nreturn (r - 1)**2\n"


def load(folder: pathlib.Path, content: str | bytes, **changes: Any) -> Artifact:
    """Write a text beside the card of an optimizer with two constants, and load it."""
    if isinstance(content, str):
        content = content.encode()
    (folder / "expression.txt").write_bytes(content)
    weights = {
        "file": "expression.txt",
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": 2,
        "format": "expression",
    }
    data = card_data(
        algorithm="expression",
        representation="expression",
        architecture={"zero_mean": False},
        weights=weights | changes,
    )
    return load_entry(Entry(Card.from_dict(data), folder, "bundled"))


def test_text_and_constants_are_loaded(tmp_path: pathlib.Path) -> None:
    artifact = load(tmp_path, TEXT)
    assert artifact.text == TEXT
    assert {name: float(x) for name, x in artifact.weights.items()} == {
        "a": 0.5,
        "b": -2.0,
    }
    for value in artifact.weights.values():
        assert value.dtype == np.float32 and value.shape == ()


def test_a_text_without_constants_has_no_weights(tmp_path: pathlib.Path) -> None:
    artifact = load(tmp_path, "optimizer\ninputs g\nreturn g\n", parameters=0)
    assert artifact.weights == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimizer\ninputs g\nreturn g + q\n", "line 3, column 12: "),
        (
            "optimizer\ninputs g\nreturn (g\n",
            "line 3, column 8: this is not valid Python: '(' was never closed",
        ),
        ("optimiser\n", "line 1, column 1: "),
        ("", "line 1, column 1: "),
        ("import os\n", "line 1, column 1: "),
        ("optimizer\ninputs g\nreturn __import__('os')\n", "line 3, column 19: "),
        (b"optimizer\ninputs g\xff\n", "is not UTF-8 (byte 18); restore it"),
        (b"\xff\xfeo\0p\0", "is not UTF-8 (byte 0); restore it"),
        (DRIFT, "is of kind 'drift', but the card says 'optimizer'; correct one"),
        (
            "optimizer\ninputs g\nreturn g\n",
            "declares 0 constants, but the card says 2; correct one of the two",
        ),
        (
            TEXT.replace("+ b", "+ b * c").replace(
                "constant b", "constant c = 1\nconstant b"
            ),
            "declares 3 constants, but the card says 2; correct one of the two",
        ),
    ],
)
def test_other_texts_are_refused(
    tmp_path: pathlib.Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(WeightsError) as error:
        load(tmp_path, content)
    assert str(error.value).startswith(f"{tmp_path / 'expression.txt'}: {message}")


def test_the_place_is_in_the_cause(tmp_path: pathlib.Path) -> None:
    with pytest.raises(WeightsError) as error:
        load(tmp_path, "optimizer\ninputs g\n\nreturn g + q\n")
    assert isinstance(error.value.__cause__, ExpressionError)
    assert (error.value.__cause__.line, error.value.__cause__.column) == (4, 12)


def test_the_digest_is_checked_first(tmp_path: pathlib.Path) -> None:
    with pytest.raises(WeightsError, match="damaged; restore it.*write this sha256"):
        load(tmp_path, "no text of the language", sha256="0" * 64)


def test_line_ends_that_git_has_changed_are_named(tmp_path: pathlib.Path) -> None:
    sha256 = hashlib.sha256(TEXT.encode()).hexdigest()
    with pytest.raises(WeightsError, match="line ends CRLF; write LF, and put .*-text"):
        load(tmp_path, TEXT.replace("\n", "\r\n"), sha256=sha256)


def test_a_missing_file_is_a_weights_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(WeightsError, match=r"f\.txt: cannot be read \(No such file"):
        load(tmp_path, TEXT, file="f.txt")
