"""Whatever the files: a valid artifact or a clean error, in time; nothing is run."""

import copy
import hashlib
import json
import pathlib
import sys
import time
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_opt_rl import expressions
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.artifacts.registry import Entry, bundled_root, load_entry
from learned_opt_rl.artifacts.weights import flatten_names
from learned_opt_rl.errors import CardError, FetchError, WeightsError
from learned_opt_rl.expressions._text import NOT_RUN
from tests.artifact_files import card_data, remote_card_data, write_artifact

# Seconds of processor time for one artifact, read or refused.
LIMIT = 1.0
# What python reports (sys.addaudithook) when it runs something.
RUNNING = {
    "compile",
    "exec",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}
TEXTS = {
    name: (bundled_root() / "discovered" / name / "expression.txt").read_bytes()
    for name in ("discovered_3", "open_symbolic_minatar", "dpo")
}
CARDS = {
    name: json.loads((bundled_root() / "discovered" / name / "card.json").read_text())
    for name in TEXTS
}


class Watch:
    """Collects what python runs while it is on; a hook cannot be taken out again."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "compile" and arguments[1] == NOT_RUN:
            return  # ast.parse reports this too; running the result reports "exec"
        if self.on and event in RUNNING:
            self.seen.append(f"{event} {arguments!r}")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("fuzz")


def runs(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def load(watch: Watch, folder: pathlib.Path, card: bytes) -> Artifact | None:
    """The artifact of a card in a folder, or None after a clean error."""
    (folder / "card.json").write_bytes(card)
    watch.on, start = True, time.process_time()
    try:
        loaded = Card.load(folder / "card.json")
        return load_entry(Entry(loaded, folder, "plugin fuzz"))
    except (CardError, WeightsError, FetchError) as error:
        message = str(error)
        assert len(message) < 2000
        assert message.isprintable()
        return None
    finally:
        watch.on = False
        assert time.process_time() - start < LIMIT
        assert watch.seen == []


def check(artifact: Artifact | None) -> None:
    """What was loaded can be used."""
    if artifact is None:
        return
    card = artifact.card
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    flat = flatten_names(artifact.weights) if artifact.weights else {}
    assert sum(leaf.size for leaf in flat.values()) == card.weights.parameters
    for leaf in flat.values():
        assert leaf.dtype == np.float32 and np.isfinite(leaf).all()
    if artifact.text is not None:
        assert expressions.parse(artifact.text).kind == card.kind


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**18, -(10**18), 10**400, 1e308, "\x1b[2J", "../x", "a\0b"]),
    st.sampled_from(["optimizer", "drift", "update_rule", "expression", "open", "lpo"]),
    st.sampled_from(["lpg", "no_features", "optim4rl", "safetensors", "flat_npy"]),
    st.sampled_from(["__class__", "__import__('os').system('false')", "os", "weights"]),
)
JSON = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text(max_size=5), below, max_size=3)
    ),
    max_leaves=6,
)
ORIGINALS = [card_data(), remote_card_data(b"content"), *CARDS.values()]
FIELDS = sorted({key for card in ORIGINALS for key in (*card, *card["weights"])})


def nodes(data: Any) -> list[Any]:
    """All objects and lists of a document."""
    below = data.values() if isinstance(data, dict) else data
    inner = [nodes(value) for value in below if isinstance(value, dict | list)]
    return [data, *sum(inner, [])]


@st.composite
def edited(draw: st.DrawFn, originals: st.SearchStrategy[Any]) -> Any:
    """A card with a few fields deleted, replaced, added, swapped or nested."""
    data = copy.deepcopy(draw(originals))
    for _ in range(draw(st.integers(0, 3))):
        node = draw(st.sampled_from(nodes(data)))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys or draw(st.integers(0, 5)) == 0:
            if isinstance(node, dict):
                node[draw(st.sampled_from(FIELDS) | st.text(max_size=5))] = draw(JSON)
            else:
                node.append(draw(JSON))
            continue
        key = draw(st.sampled_from(keys))
        change = draw(st.integers(0, 4))
        if change == 0:
            del node[key]
        elif change == 1:
            node[key] = draw(SCALARS)
        elif change == 2:
            node[key] = draw(JSON)
        elif change == 3:
            for _ in range(draw(st.sampled_from([1, 5, 60]))):
                node[key] = draw(st.sampled_from([[node[key]], {"a": node[key]}]))
        else:
            other = draw(st.sampled_from(keys))
            node[key], node[other] = node[other], node[key]
    return data


@st.composite
def damaged(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a few cuts, flips, repetitions and insertions."""
    content = draw(originals)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.integers(0, 12))
        change = draw(st.integers(0, 4))
        if change == 0:
            content = content[:start] + content[stop:]
        elif change == 1:
            content = content[:start]
        elif change == 2:
            flipped = bytes(b ^ draw(st.integers(1, 255)) for b in content[start:stop])
            content = content[:start] + flipped + content[stop:]
        elif change == 3:
            again = content[start:stop] * draw(st.integers(1, 200))
            content = content[:start] + again + content[stop:]
        else:
            content = content[:start] + draw(INSERTED) + content[start:]
    return content


INSERTED = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0"]),
    st.sampled_from([b" return g ", b"\nmemory m = 0\n", b" optimizer ", b" p**g**g "]),
    st.sampled_from([b"__import__('os').system('false')", b"g.__class__", b"eval(g)"]),
    st.sampled_from([b"lambda: g", b"exec('1')", b"import os\n", b"__builtins__"]),
    st.sampled_from([b"(" * 500, b"-" * 500, b"9" * 500, b"1e999", b"[" * 500]),
    st.sampled_from([b'"a": 1, ', b"{", b"}", b"NaN", b"null", b"1e999", b"9" * 5000]),
)


def encoded(data: Any) -> bytes:
    return json.dumps(data).encode()


def check_card(watch: Watch, folder: pathlib.Path, card: bytes) -> None:
    own = folder / "card"
    if not own.exists():
        write_artifact(own, "tiny")
        (own / "expression.txt").write_bytes(TEXTS["dpo"])
    check(load(watch, own, card))


def check_weights(watch: Watch, folder: pathlib.Path, content: bytes) -> None:
    check(load_as_stated(watch, folder, card_data(), "weights.safetensors", content))


def check_text(watch: Watch, folder: pathlib.Path, name: str, content: bytes) -> None:
    check(load_as_stated(watch, folder, CARDS[name], "expression.txt", content))


def load_as_stated(
    watch: Watch, folder: pathlib.Path, card: Any, file: str, content: bytes
) -> Artifact | None:
    """Load content whose digest is the card's, so that it is parsed."""
    (folder / file).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    stated = card | {"weights": card["weights"] | {"sha256": digest}}
    return load(watch, folder, encoded(stated))


def stored_weights(folder: pathlib.Path) -> bytes:
    own = folder / "original"
    if not own.exists():
        write_artifact(own, "tiny")
    return (own / "weights.safetensors").read_bytes()


ORIGINAL = st.sampled_from(ORIGINALS)
ANY_CARD = st.one_of(edited(ORIGINAL).map(encoded), damaged(ORIGINAL.map(encoded)))
ANY_TEXT = st.sampled_from(sorted(TEXTS)).flatmap(
    lambda name: st.tuples(st.just(name), damaged(st.just(TEXTS[name])))
)


def test_what_is_not_damaged_is_loaded(watch: Watch, folder: pathlib.Path) -> None:
    """Else the tests below could see nothing but errors."""
    content = stored_weights(folder)
    file = "weights.safetensors"
    assert load_as_stated(watch, folder, card_data(), file, content) is not None
    for name, text in TEXTS.items():
        found = load_as_stated(watch, folder, CARDS[name], "expression.txt", text)
        assert found is not None and found.text == text.decode()
    own = folder / "original"
    assert load(watch, own, (own / "card.json").read_bytes()) is not None


def test_the_watch_sees_what_is_run(watch: Watch) -> None:
    watch.on = True
    eval("1 + 1")
    watch.on = False
    assert [event.split()[0] for event in watch.seen] == ["compile", "exec"]
    watch.seen.clear()


@given(card=ANY_CARD)
@runs(200)
def test_any_card(watch: Watch, folder: pathlib.Path, card: bytes) -> None:
    check_card(watch, folder, card)


@given(data=st.data())
@runs(200)
def test_any_weights(watch: Watch, folder: pathlib.Path, data: st.DataObject) -> None:
    check_weights(watch, folder, data.draw(damaged(st.just(stored_weights(folder)))))


@given(text=ANY_TEXT)
@runs(200)
def test_any_text(watch: Watch, folder: pathlib.Path, text: tuple[str, bytes]) -> None:
    check_text(watch, folder, *text)


@pytest.mark.slow
@given(card=ANY_CARD)
@runs(10_000)
def test_many_cards(watch: Watch, folder: pathlib.Path, card: bytes) -> None:
    check_card(watch, folder, card)


@pytest.mark.slow
@given(data=st.data())
@runs(10_000)
def test_many_weights(watch: Watch, folder: pathlib.Path, data: st.DataObject) -> None:
    check_weights(watch, folder, data.draw(damaged(st.just(stored_weights(folder)))))


@pytest.mark.slow
@given(text=ANY_TEXT)
@runs(10_000)
def test_many_texts(
    watch: Watch, folder: pathlib.Path, text: tuple[str, bytes]
) -> None:
    check_text(watch, folder, *text)


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').system('false')",
        "optimizer\ninputs g\nreturn __import__('os').system('false')",
        "optimizer\ninputs g\nreturn g.__class__.__bases__",
        "optimizer\ninputs g\nreturn eval(g)",
        "optimizer\ninputs g\nmemory __class__ = 0\nreturn g",
        "optimizer\ninputs g\nreturn (lambda: g)()",
        "optimizer\ninputs g\nreturn open('/etc/passwd')",
        "# -*- coding: utf-7 -*-\nimport os",
        "cos\nsystem\n(S'false'\ntR.",
    ],
)
def test_python_and_pickles_are_no_texts(
    watch: Watch, folder: pathlib.Path, value: str
) -> None:
    card, content = CARDS["discovered_3"], value.encode()
    assert load_as_stated(watch, folder, card, "expression.txt", content) is None


@pytest.mark.parametrize(
    "card",
    [
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b'{"schema": ' + b"9" * 200_000 + b"}",
        encoded(card_data(architecture=dict.fromkeys(("carry", "width"), 10**18))),
        encoded(card_data(name="a/" * 50_000)),
        encoded(card_data(license="MIT AND " * 20_000)),
        encoded(card_data(license="(" * 100_000)),
        encoded(card_data(inputs=["g"] * 40_000)),
    ],
    ids=range(8),
)
def test_hostile_cards(watch: Watch, folder: pathlib.Path, card: bytes) -> None:
    check_card(watch, folder, card)
