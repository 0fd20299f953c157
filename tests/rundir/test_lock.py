import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from learned_opt_rl.rundir.lock import FolderInUseError, locked

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("31415")
file.flush()
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_is_one_processs_at_a_time(tmp_path):
    with locked(tmp_path):
        message = f"in use by process {os.getpid()}; wait"
        with pytest.raises(FolderInUseError, match=message), locked(tmp_path):
            pytest.fail("both have it")
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_process_leaves_no_lock(tmp_path):
    command = [sys.executable, "-S", "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match="31415"), locked(tmp_path):
            pytest.fail("both have it")
        process.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_without_locks_everyone_gets_in_after_one_warning(tmp_path, monkeypatch, name):
    def refuse(handle, operation):
        raise OSError(getattr(errno, name), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"{tmp_path.name} .* without locks .no locks"
    with pytest.warns(UserWarning, match=message), locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    with locked(tmp_path):  # warnings are errors
        pass


def test_other_errors_of_a_lock_are_raised(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken"), locked(tmp_path):
        pytest.fail("it was entered")
