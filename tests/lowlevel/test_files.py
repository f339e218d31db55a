"""Descriptors: waiting for one whatever its number, and none that is left open."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from onefs.lowlevel.files import wait_readable
from onefs.lowlevel.sqlite_file import SqliteFile

#: more than ``select.select`` takes
MANY = 1100


@pytest.fixture
def many_open() -> Iterator[ExitStack]:
    """A process that has many files open."""
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
    assert wait_readable(reader, 30)  # it has ended
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
