"""Locks on datasets: between threads, processes and forks, and after the lock file has gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from onefs.cache.locks import DatasetLocks
from onefs.errors import DeadlineExceeded

_ID, _OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
#: prints whether the lock is free; waits if it is, and takes it
_HOLD = """
import sys
from pathlib import Path
from onefs.cache.locks import DatasetLocks
with DatasetLocks(Path(sys.argv[1]), shared=True).hold(sys.argv[2], 0.0):
    print("held", flush=True)
    sys.stdin.read()
"""


def _is_free(locks: DatasetLocks, dataset_id: str = _ID) -> bool:
    try:
        with locks.hold(dataset_id, 0.0):
            return True
    except DeadlineExceeded:
        return False


def _in_thread(work: Callable[[], bool]) -> bool:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(60)
    return found[0]


def _is_free_elsewhere(path: Path, dataset_id: str = _ID) -> bool:
    command = [sys.executable, "-c", _HOLD, str(path), dataset_id]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.stdout == b"held\n") is (done.returncode == 0)
    assert done.returncode == 0 or b"DeadlineExceeded" in done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_excludes_other_threads(tmp_path: Path, shared: bool) -> None:
    locks = DatasetLocks(tmp_path / "locks", shared=shared)
    with locks.hold(_ID, 0.0):
        assert not _in_thread(lambda: _is_free(locks))
        assert not _is_free(locks)
        assert _in_thread(lambda: _is_free(locks, _OTHER))
    assert _in_thread(lambda: _is_free(locks))


def test_a_lock_excludes_other_processes_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    locks = DatasetLocks(path, shared=True)
    with locks.hold(_ID, 0.0):
        assert not _is_free(locks)  # this frees nothing
        assert not _is_free_elsewhere(path)
        assert _is_free_elsewhere(path, _OTHER)
    assert _is_free_elsewhere(path)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), _ID], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        assert not _is_free(locks)
        other.stdin.close()
        assert other.wait(60) == 0
    assert _is_free(locks)


def test_a_lock_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    restored: list[bool] = []
    locks = DatasetLocks(path, shared=True, before=lambda: restored.append(True))
    for _ in range(2):
        assert _is_free(locks)
    assert len(restored) == 1
    path.unlink()
    with locks.hold(_ID, 0.0):
        assert len(restored) == 2
        assert not _is_free_elsewhere(path)


def test_the_lock_file_is_opened_once(tmp_path: Path) -> None:
    locks = DatasetLocks(tmp_path / "locks", shared=True)
    assert _is_free(locks)
    before = len(os.listdir("/proc/self/fd"))
    with locks.hold(_ID, 0.0), locks.hold(_OTHER, 0.0):
        assert len(os.listdir("/proc/self/fd")) == before
    locks.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_forked_child_has_no_lock_of_its_parent_and_frees_none(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    locks = DatasetLocks(path, shared=True)
    with locks.hold(_ID, 0.0):
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if not _is_free(locks) and _is_free(locks, _OTHER) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not _is_free_elsewhere(path)
    assert _is_free_elsewhere(path)
