"""Locks of files: exclusion between open files, waiting, and file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.lowlevel import locks
from onefs.lowlevel.locks import lock_file, lock_or_go_on, try_lock, unlock, unlock_file


@pytest.fixture
def two_open(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Open one file twice, and return both descriptors."""
    path = tmp_path / "lock"
    with path.open("wb+") as first, path.open("rb+") as second:
        yield first.fileno(), second.fileno()


def refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_ranges_of_bytes_exclude_each_other_between_open_files(two_open: tuple[int, int]) -> None:
    first, second = two_open
    assert try_lock(first, 5, 2)
    assert not try_lock(second, 6)
    assert try_lock(second, 7)
    unlock(first, 5, 2)
    assert try_lock(second, 5, 2, shared=True)
    assert try_lock(first, 5, 2, shared=True)


def test_a_locked_file_is_waited_for_until_the_timeout(two_open: tuple[int, int]) -> None:
    first, second = two_open
    assert lock_file(first)
    assert not lock_file(second)
    began = time.monotonic()
    assert not lock_file(second, 0.2)
    assert time.monotonic() - began >= 0.2
    unlock_file(first)
    assert lock_file(second)


def test_the_wait_for_a_lock_ends_once_it_is_not_needed(two_open: tuple[int, int]) -> None:
    first, second = two_open
    assert lock_file(first)
    assert not lock_file(second, 3600.0, keep_waiting=lambda: False)


def test_the_lock_of_a_process_that_is_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from onefs.lowlevel.locks import lock_file\n"
        "file = open(sys.argv[1], 'wb'); print(lock_file(file.fileno()), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with path.open("rb+") as file:
            assert not lock_file(file.fileno())
            holder.kill()
            assert lock_file(file.fileno(), 30.0)


@pytest.mark.parametrize("cause", ["the file system", "Python"])
def test_work_continues_where_there_are_no_locks(
    two_open: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cause: str,
) -> None:
    """A lock on a whole file succeeds. A lock on bytes without ``lock_or_go_on`` is an error."""
    if cause == "Python":
        monkeypatch.setattr(locks, "_SUPPORTED", frozenset())
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    first, second = two_open
    assert lock_file(first)
    assert lock_file(second, 3600.0)
    assert lock_or_go_on(lambda: try_lock(first, 0))
    unlock_file(first)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        try_lock(first, 0)
    assert not caplog.records
    assert lock_file(first, advice="do not sync twice")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "has no locks" in record.message
    assert "do not sync twice" in record.message


def test_onefs_is_imported_where_python_has_no_fcntl(tmp_path: Path) -> None:
    """All modules that ``ONE`` loads work without the module ``fcntl``."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from onefs import ONE\n"
        "import onefs.cache.locks, onefs.cache.usage, onefs.catalogue.sync, onefs.alyx.rate_limit\n"
        "import onefs.catalogue.prefetch.leases, onefs.cache.one_tables, onefs.lowlevel.locks\n"
        "import onefs.content.content, onefs.tree.laboratory_tree\n"
        "import pathlib; print(onefs.cache.locks.can_lock(pathlib.Path(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
