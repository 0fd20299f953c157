import os

import pytest

from learned_opt_rl.rundir import atomic


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_are_for_everyone_the_umask_allows(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        atomic.write_atomically(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_kill_before_the_rename_leaves_a_file_that_can_be_removed(
    tmp_path, monkeypatch
):
    path = tmp_path / "config.json"
    path.write_bytes(b"old")
    foreign = tmp_path / ".config.json.swp"
    foreign.write_bytes(b"an editor's")
    with monkeypatch.context() as patch:
        # A killed process does not run its cleanup.
        patch.setattr(type(path), "unlink", lambda path, missing_ok: None)
        patch.setattr(os, "replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            atomic.write_atomically(path, b"new")
    assert len(list(tmp_path.iterdir())) == 3
    assert path.read_bytes() == b"old"
    atomic.remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == [foreign, path]


def test_a_file_is_set_aside_under_a_free_name(tmp_path):
    path = tmp_path / "run.npz"
    for text in ("first", "second"):
        path.write_text(text)
        atomic.set_aside(path)
    kept = atomic.kept_beside(path)
    assert [one.name for one in kept] == ["run.kept-1.npz", "run.kept-2.npz"]
    assert [one.read_text() for one in kept] == ["first", "second"]
