import copy
import dataclasses
import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_opt_rl.artifacts import Card
from learned_opt_rl.artifacts.card import FileWeights, RemoteWeights
from learned_opt_rl.errors import CardError
from tests.artifact_files import card_data, remote_card_data, write_card


def fields(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all object fields in a card."""
    if isinstance(data, dict) and path[-1:] != ("architecture",):
        below = [fields(value, (*path, key)) for key, value in data.items()]
        return [(*path, key) for key in data] + sum(below, [])
    if isinstance(data, list):
        return sum((fields(v, (*path, i)) for i, v in enumerate(data)), [])
    return []


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A deep copy of ``data`` with the item at ``path`` replaced."""
    data = copy.deepcopy(data)
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return data


def dotted(path: tuple[Any, ...]) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path)[1:]


def test_a_card_becomes_dataclasses_and_back() -> None:
    data = card_data()
    card = Card.from_dict(data)
    assert isinstance(card.weights, FileWeights)
    assert not card.is_remote
    assert card.results[0].interval == (1.0, 2.0)
    assert card.horizon is not None
    assert card.horizon.total_updates == 320
    assert card.to_dict() == data
    assert list(card.to_dict()) == list(data)
    assert Card.from_dict(card.to_dict()) == card


def test_a_remote_card_becomes_dataclasses_and_back() -> None:
    data = remote_card_data(b"content")
    card = Card.from_dict(data)
    assert isinstance(card.weights, RemoteWeights)
    assert card.is_remote
    assert card.to_dict() == data


def test_optional_fields_may_be_null() -> None:
    data = card_data(horizon=None)
    data["results"][0]["interval"] = None
    card = Card.from_dict(data)
    assert card.horizon is None
    assert card.results[0].interval is None
    assert card.to_dict() == data


def test_a_card_does_not_follow_later_changes_of_its_source() -> None:
    data = card_data()
    card = Card.from_dict(data)
    data["architecture"]["width"] = 99
    data["inputs"].append("more")
    assert card == Card.from_dict(card_data())


def test_a_notebook_shows_the_card_as_text() -> None:
    card = Card.from_dict(card_data(title="<script>x</script>"))
    page = card._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert all(str(result) in page for result in card.results) and card.results
    assert all(failure in page for failure in card.known_failures)


def test_a_card_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Card.from_dict(card_data()).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("path", fields(card_data()), ids=dotted)
def test_every_field_is_required(path: tuple[Any, ...]) -> None:
    data = card_data()
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    with pytest.raises(CardError) as error:
        Card.from_dict(data, source="a/card.json")
    assert str(error.value) == f"a/card.json: {dotted(path)} is missing; add it"


@pytest.mark.parametrize(
    "path", fields(card_data()) + fields(remote_card_data(b"w")), ids=dotted
)
def test_every_field_has_a_type(path: tuple[Any, ...]) -> None:
    data = remote_card_data(b"w") if path[-1] in ("url", "bytes") else card_data()
    with pytest.raises(CardError) as error:
        Card.from_dict(replaced(data, path, object()), source="a/card.json")
    assert str(error.value).startswith(f"a/card.json: {dotted(path)} is <object")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "schema is 2, but this version of learned_opt_rl reads"),
        (("schema",), 0, "schema is 0; write 1"),
        (("schema",), True, "schema is True; write 1"),
        (("schema",), 1.0, "schema is 1.0; write 1"),
        (("name",), "Tiny", "name is 'Tiny'; use 'name' or 'namespace/name'"),
        (("name",), "a/b/c", "name is 'a/b/c'"),
        (("name",), "../x", "name is '../x'"),
        (("name",), "tiny\n", r"name is 'tiny\n'"),
        (("title",), " ", "title is ' '; write a non-empty string"),
        (("title",), "\x1b[2J", "title holds the non-printable character U+001B"),
        (("summary",), "\ud800", "summary holds the non-printable character U+D800"),
        (("algorithm",), "OPEN", "algorithm is 'OPEN'"),
        (("representation",), "table", "write 'network' or 'expression'"),
        (("inputs",), "p", "inputs is 'p'; write a list"),
        (("inputs", 1), "", "inputs[1] is ''"),
        (("horizon", "epochs"), 0, "horizon.epochs is 0; write an integer of at least"),
        (("horizon", "epochs"), True, "horizon.epochs is True"),
        (("horizon", "epochs"), 4.0, "horizon.epochs is 4.0"),
        (("license",), "Apache 2.0", "license is 'Apache 2.0'; use an SPDX identifier"),
        (("license",), "unknown", "license is 'unknown'"),
        (("license",), "None", "license is 'None'"),
        (("license",), "", "license is ''"),
        (("weights", "sha256"), "0" * 63, "weights.sha256 is '000000000000...0000000"),
        (("weights", "sha256"), "A" * 64, "64 lower-case hexadecimal digits"),
        (("weights", "file"), "../w.safetensors", "in the card's own folder"),
        (("weights", "file"), "/etc/w.safetensors", "in the card's own folder"),
        (("weights", "file"), "weights.pkl", "name a .safetensors or .txt"),
        (("weights", "format"), "pickle", "weights.format is 'pickle'"),
        (("weights", "parameters"), -1, "weights.parameters is -1"),
        (("results", 0, "mean"), float("nan"), "results[0].mean is nan"),
        (("results", 0, "mean"), 10**400, "write a finite number"),
        (("results", 0, "mean"), False, "results[0].mean is False"),
        (("results", 0, "interval"), [1.0], "write [low, high] or null"),
        (("results", 0, "interval"), [2.0, 1.0], "write the lower bound first"),
        (("results", 0, "interval"), [1, "2"], "results[0].interval[1] is '2'"),
        (("architecture", "carry"), 0, "architecture.carry is 0"),
        (("architecture", "depth"), 2, "architecture.depth is not a known field"),
        (("architecture", "width"), None, "architecture.width is None; write an integ"),
        (("architecture", "width"), [1], "architecture.width is [1]"),
        (("training",), [], "training is []; write an object"),
        (("licence",), "MIT", "licence is not a known field; did you mean 'license'?"),
        (("zzz",), 1, "zzz is not a known field; use only schema, name"),
    ],
)
def test_errors_name_file_field_value_and_fix(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    with pytest.raises(CardError) as error:
        Card.from_dict(replaced(card_data(), path, value), source="a/card.json")
    assert str(error.value).startswith("a/card.json: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/w.npy",
        "file:///etc/passwd",
        "https://user:word@example.org/w.npy",
        "https://example.org/",
        "https://example.org/w.npy?x=1",
        "https://example.org/a b.npy",
        "w.npy",
    ],
)
def test_remote_weights_have_a_plain_https_address(url: str) -> None:
    data = replaced(remote_card_data(b"w"), ("weights", "url"), url)
    with pytest.raises(CardError, match="write a plain https:// address"):
        Card.from_dict(data)


@pytest.mark.parametrize(
    "license",
    [
        "MIT",
        "Apache-2.0",
        "GPL-2.0-or-later WITH Bison-exception-2.2",
        "MIT OR (Apache-2.0 AND CC-BY-4.0)",
        "LicenseRef-mine",
    ],
)
def test_spdx_expressions_are_licenses(license: str) -> None:
    assert Card.from_dict(card_data(license=license)).license == license


def test_a_feed_forward_network_has_no_carry() -> None:
    architecture = {"carry": None, "width": 4}
    card = Card.from_dict(card_data(architecture=architecture))
    assert card.architecture == architecture
    with pytest.raises(CardError, match=r"architecture\.carry is missing; add it"):
        Card.from_dict(card_data(architecture={"width": 4}))


def test_other_algorithms_choose_their_architecture() -> None:
    architecture = {"depth": 3, "gated": True, "act": "relu", "scale": 0.5}
    card = Card.from_dict(card_data(algorithm="other", architecture=architecture))
    assert card.architecture == architecture
    with pytest.raises(CardError, match=r"architecture\.sizes is \[1\]"):
        Card.from_dict(card_data(algorithm="other", architecture={"sizes": [1]}))


def test_flat_vectors_are_for_open_only() -> None:
    data = remote_card_data(b"w") | {"algorithm": "other"}
    with pytest.raises(CardError, match="use 'safetensors'"):
        Card.from_dict(data)


@pytest.mark.parametrize("data", [[], "card", 1, None])
def test_a_card_is_an_object(data: Any) -> None:
    with pytest.raises(CardError, match=r"the card is .*; write an object"):
        Card.from_dict(data)


def test_load_reads_a_file(tmp_path: pathlib.Path) -> None:
    path = write_card(tmp_path, card_data())
    assert Card.load(path) == Card.load(str(path)) == Card.from_dict(card_data())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON: .* at line 1, column 2"),
        (b'{"a": 1,}', "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'"\xff"', r"is not UTF-8 \(byte 1\)"),
        (b'{"a": {"b": 1, "b": 2}}', "repeats the key 'b'; keep one"),
        (b'{"a": NaN}', "holds NaN, which is not valid JSON"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999, too large"),
        (b"9" * 5000, "digits"),
        (b"[" * 200_000, "is nested too deeply"),
        (b" " * (256 * 1024) + b"{}", "is larger than 262144 bytes"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_a_card_is_strict_json(
    tmp_path: pathlib.Path, content: bytes, message: str
) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(CardError, match=message) as error:
        Card.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_missing_card_is_a_card_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CardError, match="cannot be read .*; restore it"):
        Card.load(tmp_path / "card.json")
    with pytest.raises(CardError, match="cannot be read .*; restore it"):
        Card.load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=8,
)


@settings(deadline=None)
@given(path=st.sampled_from(fields(card_data())), value=JSON)
def test_any_value_in_any_field_is_accepted_or_a_card_error(
    path: tuple[Any, ...], value: Any
) -> None:
    try:
        card = Card.from_dict(replaced(card_data(), path, value))
    except CardError as error:
        assert str(error).startswith("card: ")  # noqa: PT017
    else:
        assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@settings(deadline=None)
@given(content=st.binary(max_size=64) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_file_is_a_card_or_a_card_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "card.json"
    path.write_bytes(content)
    with pytest.raises(CardError):
        Card.load(path)
