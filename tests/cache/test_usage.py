"""The usage counter: what is reported later, between processes and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs.cache.reservations import CacheLimits, DiskSpace
from onefs.cache.usage import MAX_UNREPORTED_BYTES, UsageCounter

#: writes 3 of 10 bytes without reporting them, and waits
_WRITES = """
import sys
from pathlib import Path
from onefs.cache.usage import UsageCounter
usage = UsageCounter(Path(sys.argv[1]), lambda: 0, shared=True)
usage.reserve_freely(10)
usage.reserve_freely(90)
usage.adjust_later(3, -10)
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def _counter(path: Path, measured: int = 0) -> Iterator[UsageCounter]:
    usage = UsageCounter(path, lambda: measured, shared=True)
    try:
        yield usage
    finally:
        usage.close()


def test_bytes_are_counted_exactly_when_nothing_is_reserved(tmp_path: Path) -> None:
    with _counter(tmp_path / "usage") as ours, _counter(tmp_path / "usage") as other:
        for _ in range(3):
            ours.reserve_freely(10)
        for _ in range(2):
            ours.adjust_later(10, -10)
            assert ours.total_bytes() == 30
        ours.reserve_freely(100)
        ours.adjust_later(0, -100)  # a download that failed
        ours.adjust_later(7, -10)
        assert (other.total_bytes(), other.reserved_bytes()) == (27, 0)
        ours.adjust(-20)
        assert other.total_bytes() == 7


def test_other_processes_never_count_too_few_bytes(tmp_path: Path) -> None:
    with _counter(tmp_path / "usage") as ours, _counter(tmp_path / "usage") as other:
        ours.reserve_freely(1000)
        reserved, written = 1000, 0
        for size in (300, 200, 100, 500, 50):
            ours.reserve_freely(size)
            reserved += size
            assert other.total_bytes() >= reserved + written
            ours.adjust_later(size, -size)
            reserved, written = reserved - size, written + size
            assert other.total_bytes() >= reserved + written
        assert ours.reserve(5, written + reserved + 4) == 1  # as exact as ever
        ours.adjust_later(1000, -1000)
        assert other.total_bytes() == ours.total_bytes() == written + 1000


def test_a_bounded_number_of_bytes_is_reported_later(tmp_path: Path) -> None:
    size = MAX_UNREPORTED_BYTES // 4
    with _counter(tmp_path / "usage") as ours, _counter(tmp_path / "usage") as other:
        ours.reserve_freely(100 * size)
        for _ in range(20):
            ours.adjust_later(size, -size)
            on_disk = other.total_bytes() - other.reserved_bytes()
        assert on_disk >= 20 * size - MAX_UNREPORTED_BYTES
        ours.adjust_later(0, -100 * size)


def test_a_killed_process_makes_others_measure_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    with _counter(path, measured=3) as ours:
        with subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
            assert ours.total_bytes() >= 93
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
        ours.adjust(-ours.total_bytes() + ours.reserved_bytes())
        assert ours.total_bytes() == 0
        ours.recount_if_needed()
        assert ours.total_bytes() == 3


def test_a_folder_without_limits_reserves_without_locking(tmp_path: Path) -> None:
    with _counter(tmp_path / "usage") as usage, _counter(tmp_path / "usage") as other:
        space = DiskSpace(tmp_path, usage, CacheLimits(), lambda count: None)
        with space.reservation(100, 100) as first, space.reservation(50, 50) as second:
            assert other.total_bytes() == 150
            first.note_written(100)
            second.note_written(40)
            assert usage.total_bytes() == 150
        assert (other.total_bytes(), other.reserved_bytes()) == (140, 0)


def test_bytes_that_were_lost_with_the_folder_are_not_counted(tmp_path: Path) -> None:
    with _counter(tmp_path / "usage") as usage:
        usage.reserve_freely(50)
        usage.adjust_later(30, -30)
        (tmp_path / "usage").unlink()
        usage.reopen()
        assert (usage.total_bytes(), usage.reserved_bytes()) == (20, 20)
        usage.adjust_later(0, -20)
        assert usage.total_bytes() == 0
