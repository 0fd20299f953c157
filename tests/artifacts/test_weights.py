import hashlib
import io
import pathlib
import pickle
import re
from typing import Any

import jax
import jax.flatten_util
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_opt_rl.artifacts import Card
from learned_opt_rl.artifacts.weights import (
    MAX_BYTES,
    check_weights,
    flatten_names,
    from_flat_npy,
    load_safetensors,
    save_safetensors,
    unflatten_names,
)
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.open_network import Architecture, open_shapes
from tests.artifact_files import (
    PARAMETERS,
    SHAPES,
    card_data,
    npy_bytes,
    remote_card_data,
)

NAMES = st.text(st.characters(exclude_characters="."), min_size=1, max_size=4)
TREES = st.recursive(
    st.integers(0, 9).map(np.float32),
    lambda below: st.dictionaries(NAMES, below, min_size=1, max_size=3),
    max_leaves=6,
).filter(lambda tree: isinstance(tree, dict))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(folder: pathlib.Path, content: bytes) -> tuple[pathlib.Path, str]:
    """A weights file of any content, and its true digest."""
    path = folder / "weights.safetensors"
    path.write_bytes(content)
    return path, digest(content)


class TestNames:
    @given(TREES)
    def test_flatten_then_unflatten_is_the_identity(self, tree: dict[str, Any]) -> None:
        assert unflatten_names(flatten_names(tree)) == tree

    def test_names_are_joined_with_dots(self) -> None:
        tree = {"gru": {"in": {"bias": 1.0}}, "scale": 2.0}
        assert flatten_names(tree) == {"gru.in.bias": 1.0, "scale": 2.0}

    @pytest.mark.parametrize("tree", [{}, {"a": {}}, {"": 1}, {"a.b": 1}, {1: 1}])
    def test_trees_that_names_cannot_restore(self, tree: dict[Any, Any]) -> None:
        with pytest.raises(WeightsError, match="remove it|non-empty string"):
            flatten_names(tree)

    @pytest.mark.parametrize(
        "flat",
        [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a..b": 1}, {".a": 1}, {"": 1}],
    )
    def test_names_that_are_no_tree(self, flat: dict[str, int]) -> None:
        with pytest.raises(WeightsError, match="uses a name twice|has an empty part"):
            unflatten_names(flat)

    def test_a_name_of_many_parts_is_refused(self) -> None:
        with pytest.raises(WeightsError, match="has more than 32 parts"):
            unflatten_names({"a." * 5000 + "a": 1})


class TestSafetensors:
    def test_what_is_saved_is_loaded(self, tmp_path: pathlib.Path) -> None:
        rows = np.arange(6, dtype=np.float32).reshape(2, 3)
        weights = {
            "fortran": np.asfortranarray(rows),
            "strided": np.arange(9, dtype=np.float32)[::2],
            "scalar": np.float32(3),
            "jax": {"array": jax.numpy.ones((2, 2))},
        }
        path = tmp_path / "weights.safetensors"
        loaded = load_safetensors(path, save_safetensors(path, weights))
        jax.tree.map(np.testing.assert_array_equal, loaded, weights)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(loaded))
        assert loaded["scalar"].shape == ()

    def test_a_header_as_long_as_the_first_byte_of_a_pickle(
        self, tmp_path: pathlib.Path
    ) -> None:
        path = tmp_path / "weights.safetensors"
        weights = {"c" * 17: np.float32(1), "d": np.float32(2)}
        saved = save_safetensors(path, weights)
        assert path.read_bytes()[:1] == b"\x80"
        assert load_safetensors(path, saved) == weights

    def test_the_same_weights_give_the_same_bytes(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "weights.safetensors"
        forward = {"a": np.zeros(3, "f4"), "b": {"c": np.ones(2, "f4")}}
        backward = dict(reversed(forward.items()))
        first = save_safetensors(path, forward)
        assert digest(path.read_bytes()) == first
        for weights in (forward, backward) * 4:
            assert save_safetensors(path, weights) == first

    @pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
    def test_an_interrupted_save_leaves_the_old_file(
        self,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        error: BaseException,
    ) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(b"old")

        def interrupted(*_: object) -> None:
            raise error

        monkeypatch.setattr("os.replace", interrupted)
        with pytest.raises(type(error)):
            save_safetensors(path, {"a": np.zeros(1, "f4")})
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == b"old"

    @pytest.mark.parametrize(
        ("leaf", "message"),
        [
            (np.zeros(2), r"a\.b has dtype float64; convert it to float32"),
            (np.zeros(2, ml_dtypes.bfloat16), r"a\.b has dtype bfloat16"),
            (np.array([None]), r"a\.b has dtype object"),
            (np.float32([1, np.nan, np.inf]), r"a\.b holds 2 values that are NaN"),
        ],
    )
    def test_only_finite_float32_is_saved(
        self, tmp_path: pathlib.Path, leaf: np.ndarray, message: str
    ) -> None:
        with pytest.raises(WeightsError, match=message):
            save_safetensors(tmp_path / "w.safetensors", {"a": {"b": leaf}})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (pickle.dumps({"a": np.zeros(2)}), "is a pickle, which can run code"),
            (b"PK\x03\x04rest", "is a zip archive"),
            (npy_bytes(np.zeros(2, "f4")), r"is a \.npy file, not safetensors"),
            (b"", "is not a safetensors file"),
            (b"\xff" * 64, "is not a safetensors file"),
            (safetensors.numpy.save({"a": np.zeros(2)}), "a has dtype float64"),
            (safetensors.numpy.save({"a": np.full(2, np.nan, "f4")}), "NaN"),
            (safetensors.numpy.save({"a..b": np.zeros(2, "f4")}), "has an empty part"),
            (safetensors.numpy.save({"a": np.zeros(9, "f4")})[:-4], "safetensors file"),
            (
                safetensors.numpy.save({"a": np.zeros(2, "f2")}).replace(
                    b"F16", b"BF16"
                ),
                "is not a safetensors file",
            ),
        ],
        ids=lambda value: repr(value[:12]),
    )
    def test_other_content_is_refused(
        self, tmp_path: pathlib.Path, content: bytes, message: str
    ) -> None:
        path, sha256 = saved(tmp_path, content)
        with pytest.raises(WeightsError, match=message) as error:
            load_safetensors(path, sha256)
        assert str(path) in str(error.value)

    def test_nothing_is_parsed_before_the_digest_is_right(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "weights.safetensors"
        expected = save_safetensors(path, {"a": np.zeros(4, "f4")})
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path, actual = saved(tmp_path, bytes(content))
        monkeypatch.setattr("safetensors.numpy.load", pytest.fail)
        with pytest.raises(WeightsError) as error:
            load_safetensors(path, expected)
        assert f"sha256 is {actual}" in str(error.value)
        assert f"the card says {expected}" in str(error.value)
        assert "reinstalling the package" in str(error.value)

    def test_a_truncated_file_fails_its_digest(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "weights.safetensors"
        expected = save_safetensors(path, {"a": np.zeros(4, "f4")})
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(WeightsError, match="was changed or damaged"):
            load_safetensors(path, expected)

    def test_a_huge_file_is_not_read(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "weights.safetensors"
        with path.open("wb") as stream:
            stream.truncate(MAX_BYTES + 1)  # sparse: takes no space
        with pytest.raises(WeightsError, match=f"larger than the {MAX_BYTES} bytes"):
            load_safetensors(path, "0" * 64)

    def test_a_missing_file_is_a_weights_error(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(WeightsError, match=r"cannot be read \(No such file"):
            load_safetensors(tmp_path / "weights.safetensors", "0" * 64)

    @settings(deadline=None)
    @given(st.data())
    def test_any_damage_is_a_weights_error_or_finite_float32(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        good = {"a": {"b": np.arange(3, dtype="f4")}, "c": np.zeros((2, 2), "f4")}
        path = tmp_path_factory.mktemp("fuzz") / "weights.safetensors"
        save_safetensors(path, good)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
                st.integers(0, 255)
            )
        path, sha256 = saved(path.parent, bytes(content))
        try:
            weights = load_safetensors(path, sha256)
        except WeightsError:
            return
        for leaf in flatten_names(weights).values():
            assert leaf.dtype == np.float32
            assert np.isfinite(leaf).all()


class TestFlatVectors:
    def vector(self) -> np.ndarray:
        return np.arange(PARAMETERS, dtype=np.float32)

    def load(self, content: bytes, **changes: Any) -> dict[str, Any]:
        card = Card.from_dict(remote_card_data(content) | changes)
        return from_flat_npy(content, card)

    def authors_tree(self, carry: int | None) -> dict[str, Any]:
        """The tree the authors flatten, built from flax's names and our sizes."""
        shapes = open_shapes(Architecture(carry, 3))
        layers = {"dense_0": 0, "norm_0": 1, "dense_1": 3, "norm_1": 4, "dense_2": 6}
        rng = np.random.default_rng(0)
        tree: dict[str, Any] = {"params": {"params": {}}}
        if carry is not None:
            tree["gru_params"] = {"params": {}}
        for name, shape in shapes.items():
            part, layer, leaf = name.split(".")
            root = tree["gru_params" if part == "gru" else "params"]["params"]
            own = layer if part == "gru" else f"layers_{layers[layer]}"
            root.setdefault(own, {})[leaf] = rng.normal(size=shape).astype("f4")
        return tree

    @pytest.mark.parametrize("carry", [2, None])
    def test_the_order_is_that_of_ravel_pytree(self, carry: int | None) -> None:
        tree = self.authors_tree(carry)
        vector, _ = jax.flatten_util.ravel_pytree(tree)
        architecture = {"carry": carry, "width": 3}
        weights = self.load(npy_bytes(np.asarray(vector)), architecture=architecture)
        mlp = tree["params"]["params"]
        names = {"dense_0": 0, "norm_0": 1, "dense_1": 3, "norm_1": 4, "dense_2": 6}
        expected = {"mlp": {name: mlp[f"layers_{i}"] for name, i in names.items()}}
        if carry is not None:
            expected["gru"] = tree["gru_params"]["params"]
        jax.tree.map(np.testing.assert_array_equal, weights, expected)

    @pytest.mark.parametrize(
        ("carry", "width", "count"), [(8, 16, 1211), (16, 32, 3571), (None, 16, 707)]
    )
    def test_parameter_counts(self, carry: int | None, width: int, count: int) -> None:
        sizes = [
            np.prod(shape) for shape in open_shapes(Architecture(carry, width)).values()
        ]
        assert sum(sizes) == count

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (pickle.dumps(np.zeros(2)), "is a pickle, which can run code"),
            (b"PK\x03\x04rest", "is a zip archive"),
            (b"nothing known", r"is not a plain \.npy file"),
            (npy_bytes(np.zeros(PARAMETERS)), "has dtype float64"),
            (npy_bytes(np.zeros(PARAMETERS, ">f4")), "has dtype >f4"),
            (npy_bytes(np.full(PARAMETERS, np.inf, "f4")), "NaN or infinite"),
            (npy_bytes(np.zeros(PARAMETERS - 1, "f4")), "has shape"),
            (npy_bytes(np.zeros((1, PARAMETERS), "f4")), "has shape"),
            (npy_bytes(np.zeros(PARAMETERS, "f4"))[:-4], r"not a plain \.npy file"),
        ],
        ids=lambda value: repr(value[:12]),
    )
    def test_other_content_is_refused(self, content: bytes, message: str) -> None:
        with pytest.raises(WeightsError, match=message) as error:
            self.load(content)
        assert str(error.value).startswith("far/tiny: ")

    def test_object_arrays_are_not_unpickled(self) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return pytest.fail, ("unpickled",)

        stream = io.BytesIO()
        np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
        with pytest.raises(WeightsError, match="Object arrays cannot be loaded"):
            self.load(stream.getvalue())

    def test_the_digest_is_checked_first(self) -> None:
        content = npy_bytes(self.vector())
        card = Card.from_dict(remote_card_data(content))
        with pytest.raises(WeightsError, match="learned-opt-rl fetch far/tiny"):
            from_flat_npy(content[:-1], card)

    def test_a_card_of_local_weights_is_refused(self) -> None:
        card = Card.from_dict(card_data())
        with pytest.raises(WeightsError, match="read them with load_safetensors"):
            from_flat_npy(b"", card)

    def test_sizes_too_large_to_exist_are_an_error(self) -> None:
        architecture = {"carry": 2**40, "width": 2**40}
        with pytest.raises(WeightsError, match="correct the card"):
            self.load(npy_bytes(self.vector()), architecture=architecture)

    @settings(deadline=None)
    @given(st.data())
    def test_any_damage_is_a_weights_error_or_finite_float32(
        self, data: st.DataObject
    ) -> None:
        content = bytearray(npy_bytes(self.vector()))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, 140))] = data.draw(st.integers(0, 255))
        try:
            weights = self.load(bytes(content))
        except WeightsError:
            return
        check_weights(weights, Card.from_dict(card_data()))


class TestReleasedFiles:
    """The authors' files, where they are at hand."""

    RELEASED = ("ant", "asterix", "breakout", "freeway", "gridworld", "spaceinvaders")

    def released(
        self, reference: pathlib.Path, repository: pathlib.Path, name: str
    ) -> tuple[bytes, Card]:
        card = Card.load(repository / f"pretrained/goldie2024/{name}/card.json")
        file = "multi" if name == "minatar" else name
        return (reference / f"weights/{file}_OPEN.npy").read_bytes(), card

    @pytest.mark.parametrize("name", [*RELEASED, "minatar"])
    def test_cards_fit_their_files(
        self, reference: pathlib.Path, repository: pathlib.Path, name: str
    ) -> None:
        content, card = self.released(reference, repository, name)
        assert card.to_dict()["weights"]["bytes"] == len(content)
        check_weights(from_flat_npy(content, card), card)

    @pytest.mark.parametrize(
        ("name", "golden"),
        [
            ("minatar", "open_recurrent_multi_discrete"),
            ("breakout", "open_recurrent_breakout_discrete"),
            ("ant", "open_recurrent_ant_continuous"),
        ],
    )
    def test_weights_by_name_are_those_of_the_golden_files(
        self, reference: pathlib.Path, repository: pathlib.Path, name: str, golden: str
    ) -> None:
        content, card = self.released(reference, repository, name)
        weights = flatten_names(from_flat_npy(content, card))
        layers = {"0": "dense_0", "1": "norm_0", "3": "dense_1", "4": "norm_1"}
        layers["6"] = "dense_2"
        named = {}
        with np.load(reference / f"golden/{golden}.npz") as file:
            for key in file.files:
                if match := re.fullmatch(r"theta/gru_params/params/(\w+)/(\w+)", key):
                    named[f"gru.{match[1]}.{match[2]}"] = file[key]
                if match := re.fullmatch(r"theta/params/params/layers_(.)/(\w+)", key):
                    named[f"mlp.{layers[match[1]]}.{match[2]}"] = file[key]
        assert set(named) == set(weights)
        for key, expected in named.items():
            np.testing.assert_array_equal(weights[key], expected, err_msg=key)


class TestCheckWeights:
    def weights(self, **changes: Any) -> dict[str, Any]:
        flat = {name: np.zeros(shape, "f4") for name, shape in SHAPES.items()}
        flat |= {name.replace("__", "."): value for name, value in changes.items()}
        return unflatten_names({k: v for k, v in flat.items() if v is not None})

    def check(self, weights: dict[str, Any], **changes: Any) -> None:
        total = sum(leaf.size for leaf in flatten_names(weights).values())
        data = card_data(**changes)
        data["weights"]["parameters"] = total
        check_weights(weights, Card.from_dict(data))

    def test_matching_weights_pass(self) -> None:
        self.check(self.weights())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"gru__hn__bias": None}, "the weights lack 'gru.hn.bias'"),
            ({"gru__hx__bias": np.zeros(2, "f4")}, "unknown tensor 'gru.hx.bias'"),
            ({"gru__hn__bias": np.zeros(3, "f4")}, r"gru.hn.bias has shape \(3,\)"),
            ({"gru__hn__bias": np.zeros(2)}, "gru.hn.bias has dtype float64"),
        ],
    )
    def test_other_weights_are_refused(
        self, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(WeightsError, match=message):
            self.check(self.weights(**changes))

    def test_the_total_is_checked_for_any_algorithm(self) -> None:
        card = Card.from_dict(card_data(algorithm="other", architecture={}))
        with pytest.raises(WeightsError, match=f"1 weights, .* says {PARAMETERS}"):
            check_weights({"a": np.zeros(1, "f4")}, card)

    def test_other_algorithms_have_shapes_of_their_own(self) -> None:
        self.check({"a": np.zeros(5, "f4")}, algorithm="other", architecture={})
