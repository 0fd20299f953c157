import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.rundir import checkpoint
from learned_opt_rl.rundir.checkpoint import Checkpoint

IDENTITY = {"rule": "adam", "config": {"hidden": (8, 8)}, "seeds": [0, 1]}


def tree():
    return {
        "keys": jax.random.split(jax.random.key(3), 2),
        "other": jax.random.key(1, impl="rbg"),
        "bf16": jnp.array([1.5, -2.0], jnp.bfloat16),
        "nan": jnp.array([jnp.nan, jnp.inf]),
        "flags": (jnp.array([True, False]), jnp.int8(-3), None),
        "empty": jnp.zeros((2, 0)),
    }


@pytest.fixture
def kept(tmp_path):
    return Checkpoint(tmp_path / "partial" / "run.npz", IDENTITY, every=60.0)


def test_every_leaf_comes_back_as_it_was(kept):
    kept.save(tree(), done=7, seconds=1.25)
    loaded, done, seconds = kept.load(jax.eval_shape(tree))
    assert (done, seconds) == (7, 1.25)
    assert jax.tree.structure(loaded) == jax.tree.structure(tree())
    for found, leaf in zip(*map(jax.tree.leaves, (loaded, tree())), strict=True):
        assert found.dtype == leaf.dtype
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            found, leaf = jax.random.key_data(found), jax.random.key_data(leaf)
        assert np.asarray(found).tobytes() == np.asarray(leaf).tobytes()


def test_there_may_be_none(kept):
    assert kept.load(tree()) is None
    kept.remove()
    kept.save(tree(), done=1, seconds=0.0)
    kept.remove()
    assert kept.load(tree()) is None


def test_it_is_due_now_and_then(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("LEARNED_OPT_RL_CHECKPOINT_SECONDS", "10")
    kept = Checkpoint(tmp_path / "run.npz", IDENTITY)
    assert not kept.due
    clock[0] += 10
    assert kept.due
    kept.save({}, done=1, seconds=0.0)
    assert not kept.due


def refused(kept, template, message):
    """The file is set aside with its bytes; put it back."""
    content = kept.path.read_bytes()
    with pytest.warns(UserWarning, match=f"cannot be resumed, .* over: {message}"):
        assert kept.load(template) is None
    (aside,) = kept.path.parent.iterdir()
    assert aside.name == "run.kept-1.npz"
    assert aside.read_bytes() == content
    aside.rename(kept.path)


def test_a_damaged_file_is_refused(kept):
    kept.save({"x": jnp.arange(3)}, done=1, seconds=0.0)
    whole = kept.path.read_bytes()
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        kept.path.write_bytes(flipped)
        refused(kept, {"x": jnp.arange(3)}, "the file is damaged")
        kept.path.write_bytes(whole[:place])
        refused(kept, {"x": jnp.arange(3)}, "the file is damaged")


def test_another_runs_file_is_refused(kept, monkeypatch):
    kept.save({"x": jnp.arange(3)}, done=1, seconds=0.0)
    refused(kept, {"y": jnp.arange(3)}, "its arrays do not match those")
    refused(
        kept, {"x": jnp.arange(4)}, r"its state\['x'\] is int32\[3\], .* int32\[4\]"
    )
    refused(kept, {"x": jnp.arange(3.0)}, "its .* is int32")
    other = Checkpoint(kept.path, {**IDENTITY, "rule": "sgd", "seeds": [0]})
    values = r"rule adam -> sgd, seeds \[0, 1\] -> \[0\]"
    refused(
        other, {"x": jnp.arange(3)}, rf"it was written with other values \({values}"
    )
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    refused(kept, {"x": jnp.arange(3)}, "its format is 1, but this version reads 2")


def test_states_of_another_revision_of_a_run_are_refused(kept):
    state = {"x": jnp.arange(3)}
    kept.save(state, done=1, seconds=0.0)
    newer = Checkpoint(kept.path, IDENTITY, revision=1)
    refused(newer, state, "its format is 1, but this version reads 1.1; resume it with")
    newer.save(state, done=2, seconds=0.0)
    assert newer.read(state)[1] == 2
    refused(kept, state, "its format is 1.1, but this version reads 1")


@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        ({"jax": "1"}, {"jax": "2"}, "jax 1 -> 2"),
        # A setting that is not given has its default, which need not be None.
        (
            {"agent": {"width": 8}},
            {"agent": {"width": 8, "clip": None}},
            "agent.clip (unset) -> None",
        ),
        # Long texts may differ only after their first lines.
        (
            {"text": "a\n" * 99},
            {"text": "a\n" * 98},
            r"text sha256:\w{8} -> sha256:\w{8}",
        ),
    ],
)
def test_differences_name_the_setting_and_both_values(found, wanted, text):
    assert checkpoint.differences(found, found) == []
    (shown,) = checkpoint.differences(found, wanted)
    pattern = text if "sha256" in text else re.escape(text)
    match = re.fullmatch(pattern, shown)
    assert match and len(set(shown.split()[1::2])) == 2


def test_the_state_of_another_version_waits_for_that_version(tmp_path):
    before, after = (
        Checkpoint(tmp_path / "run.npz", IDENTITY | {"versions": {"jax": version}})
        for version in ("0.10.2", "0.10.3")
    )
    before.save({"x": jnp.arange(3)}, done=900, seconds=1.0)
    with pytest.warns(UserWarning, match=r"jax 0.10.2 -> 0.10.3\).* run.kept-1.npz"):
        assert after.load({"x": jnp.arange(3)}) is None
    after.save({"x": jnp.arange(3)}, done=1, seconds=1.0)
    assert before.load({"x": jnp.arange(3)})[1:] == (900, 1.0)
    assert after.load({"x": jnp.arange(3)})[1:] == (1, 1.0)


def test_dataclasses_need_no_help(kept):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class State:
        x: jax.Array

    kept.save(State(jnp.arange(2)), done=1, seconds=0.0)
    loaded, _, _ = kept.load(State(jnp.arange(2)))
    assert isinstance(loaded, State)
    assert loaded.x.tolist() == [0, 1]
