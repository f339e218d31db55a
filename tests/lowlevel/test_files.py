"""Descriptors: waiting for a descriptor with any number, and no descriptor is left open."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from onefs.lowlevel.files import (
    Opener,
    open_or_create,
    open_private,
    replace_file,
    wait_readable,
)
from onefs.lowlevel.sqlite_file import SqliteFile

#: number of open files, more than ``select.select`` accepts
MANY = 1100


@pytest.fixture
def many_open() -> Iterator[ExitStack]:
    """Open many files in this process."""
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(open(os.devnull, "rb"))
        yield stack


def test_a_pipe_is_waited_for_in_a_process_with_many_files(many_open: ExitStack) -> None:
    reader, writer = os.pipe()
    try:
        assert reader > 1024
        assert not wait_readable(reader, 0.01)
        os.write(writer, b"x")
        assert wait_readable(reader, 30)
        os.read(reader, 1)
    finally:
        os.close(writer)
    assert wait_readable(reader, 30)  # the pipe has ended
    os.close(reader)


def test_a_database_that_is_dropped_leaves_no_file_open(tmp_path: Path) -> None:
    def begin(number: int) -> None:
        SqliteFile(tmp_path / f"{number}.sqlite", "CREATE TABLE IF NOT EXISTS a (b);", 1, "a file")

    begin(0)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        begin(number)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_replaced_file_has_the_new_content_or_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace_file(path, b"old")
    replace_file(path, b"new", durable=True)
    assert path.read_bytes() == b"new"

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        replace_file(path, b"newest", before_rename=fail)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]  # no temporary file is left


@pytest.mark.parametrize(("opener", "mode"), [(open_or_create, 0o660), (open_private, 0o600)])
def test_a_replaced_file_has_its_folders_permissions_unless_private(
    tmp_path: Path, opener: Opener, mode: int
) -> None:
    tmp_path.chmod(0o770)
    replace_file(tmp_path / "a", b"", opener=opener)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


_SEEDED = """
import os, random
from onefs.lowlevel.files import open_or_create, replace_file

def opener(path, flags):
    os.write(1, os.fsencode(path) + b"\\n")
    return open_or_create(path, flags)

random.seed(0)
state = random.getstate()
for _ in range(3):
    if not os.fork():
        replace_file("a", b"", opener=opener)
        os._exit(0)
    os.wait()
replace_file("a", b"", opener=opener)
assert random.getstate() == state
"""


def test_programs_that_seed_alike_use_different_temporary_files(tmp_path: Path) -> None:
    """And the program's own random numbers stay as they were seeded."""
    done = subprocess.run(
        [sys.executable, "-c", _SEEDED], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(set(done.stdout.splitlines())) == 4
