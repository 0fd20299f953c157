import os
import shutil
import subprocess
import sys

import pytest

from learned_opt_rl.rundir import provenance

GIT = ("git", "-c", "user.name=someone", "-c", "user.email=someone@example.org")
PRINT = "from learned_opt_rl.rundir import provenance; print(provenance._revision())"


def git(folder, *arguments):
    done = subprocess.run(
        [*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "work")
    return git(folder, "rev-parse", "HEAD")


def copy_of_the_library(folder, name="learned-opt-rl"):
    """Copy the modules that a process needs to print the revision."""
    package = folder / "learned_opt_rl"
    (package / "rundir").mkdir(parents=True)
    source = os.path.dirname(provenance.__file__)
    for module in ("__init__.py", "provenance.py"):
        shutil.copy(os.path.join(source, module), package / "rundir")
    shutil.copy(os.path.join(source, "..", "_version.py"), package)
    (package / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')


def revision(folder, **variables):
    done = subprocess.run(
        [sys.executable, "-S", "-c", PRINT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)} | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_checkout_has_its_commit_whatever_git_is_told(tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    copy_of_the_library(ours)
    (ours / ".gitignore").write_text("__pycache__\n")
    head = commit(ours)
    other.mkdir()
    (other / "file").write_text("another project")
    commit(other)
    assert revision(ours) == head
    assert revision(ours, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other)) == head
    (ours / "learned_opt_rl" / "__init__.py").write_text("changed = True")
    assert revision(ours) == f"{head}-dirty"
    assert revision(ours, PATH="/nowhere") == "None"  # no git
    refusing = tmp_path / "bin" / "git"  # as for the folder of another user
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho fatal: dubious ownership >&2; exit 128\n")
    refusing.chmod(0o755)
    assert revision(ours, PATH=str(refusing.parent)) == "None"


@pytest.mark.parametrize("kind", ["installed", "vendored", "ignored"])
def test_the_users_commit_is_not_the_library_s(tmp_path, kind):
    copy = tmp_path / (".venv/site-packages" if kind == "installed" else ".")
    copy_of_the_library(copy, "learned-opt-rl" if kind == "ignored" else "their-work")
    (tmp_path / ".gitignore").write_text(
        "__pycache__\n" if kind == "vendored" else ".venv\nlearned_opt_rl\n"
    )
    commit(tmp_path)
    assert revision(copy) == "None"
