"""Faults of SQLite files: locks held by other processes, and full disks."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import process

#: holds a writer's lock on each SQLite file that is named, until standard input ends
_HOLD_LOCKS = """
import sqlite3, sys
held = []
for path in sys.argv[2:]:
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    connection.execute("BEGIN " + sys.argv[1])
    held.append(connection)
print("held", flush=True)
sys.stdin.read()
for connection in held:
    connection.execute("ROLLBACK")
    connection.close()
print("free", flush=True)
"""


@contextmanager
def locks_held(*paths: Path, kind: str = "EXCLUSIVE") -> Iterator[Callable[[], None]]:
    """Hold a lock on SQLite files in another process; yield the function that releases it."""
    command: list[str | Path] = [sys.executable, "-c", _HOLD_LOCKS, kind, *paths]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process(command, **pipes) as other:
        given, said = other.stdin, other.stdout
        assert given is not None
        assert said is not None
        assert said.readline() == b"held\n"

        def let_go() -> None:
            given.close()
            assert said.readline() == b"free\n"

        yield let_go


@contextmanager
def small_disk(root: Path, mebibytes: int = 4) -> Iterator[Path]:
    """Yield a folder on a disk of so many MiB; skip without the right to mount one."""
    place = root / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], timeout=20, check=False)


def fill_disk(disk: Path) -> None:
    """Write ``filler`` until the disk is full."""
    with (disk / "filler").open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
