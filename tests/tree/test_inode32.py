"""Tests of inode numbers below 2**32: they are stored, and no two files have the same number."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from onefs.tree.inode32 import INODES_FILENAME, InodeNumbers
from onefs.tree.nodes import inode_of_path, inode_of_uuid
from tests.running import process, within

#: gives numbers to the things named on the command line, a folder of 40 at a time
_PROCESS = """
import sys
from pathlib import Path
from onefs.tree.inode32 import InodeNumbers
from onefs.tree.nodes import inode_of_path
numbers = InodeNumbers(Path(sys.argv[1]))
for folder in range(int(sys.argv[2])):
    wide = [inode_of_path(str(folder), str(file)) for file in range(40)]
    print(*numbers.get_or_assign(wide), flush=True)
sys.stdin.read()
"""


def wide_of(count: int, folder: str = "folder") -> list[int]:
    return [inode_of_path(folder, str(number)) for number in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / INODES_FILENAME


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., InodeNumbers]]:
    made: list[InodeNumbers] = []

    def start(**options: int) -> InodeNumbers:
        made.append(InodeNumbers(path, **options))
        return made[-1]

    yield start
    for numbers in made:
        numbers.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the file locked during the block, with a write transaction on another connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_numbers_fit_and_are_never_0_or_1(opened: Callable[..., InodeNumbers]) -> None:
    found = opened().get_or_assign([1, *wide_of(1000)])
    assert found[0] == 1  # the root
    assert len(set(found)) == 1001
    assert all(1 < number < 2**32 for number in found[1:])


def test_numbers_that_collide_when_truncated_are_distinct(
    opened: Callable[..., InodeNumbers],
) -> None:
    pair = [inode_of_uuid(str(uuid.UUID(int=(high << 96) + 77))) for high in (1, 2)]
    assert pair[0] != pair[1]
    assert pair[0] % 2**32 == pair[1] % 2**32
    first, second = opened().get_or_assign(pair)
    assert first != second


def test_numbers_are_stored(opened: Callable[..., InodeNumbers]) -> None:
    numbers = opened()
    before = numbers.get_or_assign(wide_of(1500))
    assert numbers.get_or_assign(wide_of(1500)) == before
    numbers.close()
    again = opened()
    assert again.get_or_assign(wide_of(1500)) == before
    assert not set(again.get_or_assign(wide_of(10, "another"))) & set(before)


def test_numbers_beyond_the_memory_limit_are_read_from_the_file(
    opened: Callable[..., InodeNumbers],
) -> None:
    numbers = opened()
    folders = [wide_of(1000, str(folder)) for folder in range(120)]
    before = [numbers.get_or_assign(folder) for folder in folders]
    assert len({number for folder in before for number in folder}) == 120_000
    assert [numbers.get_or_assign(folder) for folder in folders] == before
    assert numbers.get_or_assign(wide_of(60_000, "large"))[:1000] == numbers.get_or_assign(
        wide_of(1000, "large")
    )


def test_threads_get_the_same_numbers(opened: Callable[..., InodeNumbers]) -> None:
    numbers, found = opened(), []
    threads = [
        threading.Thread(target=lambda: found.append(numbers.get_or_assign(wide_of(500))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert all(each == found[0] for each in found)


def test_processes_get_the_same_numbers(path: Path, opened: Callable[..., InodeNumbers]) -> None:
    command: list[str | Path] = [sys.executable, "-c", _PROCESS, path, "25"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with process(command, **pipes) as one, process(command, **pipes) as two:
        said = [each.communicate(timeout=60)[0] for each in (one, two)]
    assert said[0] == said[1]
    assert len(set(said[0].split())) == 1000
    again = opened().get_or_assign([inode_of_path("24", str(file)) for file in range(40)])
    assert " ".join(map(str, again)) == said[0].splitlines()[-1]


def test_a_killed_process_has_stored_the_numbers_that_it_showed(
    path: Path, opened: Callable[..., InodeNumbers]
) -> None:
    command: list[str | Path] = [sys.executable, "-c", _PROCESS, path, "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with process(command, **pipes) as killed:
        assert killed.stdout is not None
        shown = killed.stdout.readline().split()
        killed.send_signal(signal.SIGKILL)
        killed.wait(60)
    numbers = opened()
    assert numbers.get_or_assign([inode_of_path("0", str(file)) for file in range(40)]) == list(
        map(int, shown)
    )
    assert not set(numbers.get_or_assign(wide_of(100))) & set(map(int, shown))


def test_a_locked_file_does_not_block(
    path: Path, opened: Callable[..., InodeNumbers], caplog: pytest.LogCaptureFixture
) -> None:
    numbers = opened()
    before = numbers.get_or_assign(wide_of(100))
    with locked(path), within():
        shown = [numbers.get_or_assign(wide_of(40, str(folder))) for folder in range(100)]
        assert numbers.get_or_assign(wide_of(100)) == before
    found = [number for folder in shown for number in folder]
    assert len({*found, *before}) == 4100
    assert max(found) < 2**32
    assert caplog.text.count("cannot be stored for now") == 1
    numbers.close()
    again = opened()
    assert [again.get_or_assign(wide_of(40, str(folder))) for folder in range(100)] == shown


def test_without_a_reserve_the_long_number_is_shown_and_not_stored(
    path: Path, opened: Callable[..., InodeNumbers]
) -> None:
    numbers = opened(reserve=10)
    with locked(path):
        found = numbers.get_or_assign(wide_of(15))
    assert found[10:] == wide_of(15)[10:]
    assert max(found[:10]) < 2**32
    numbers.close()
    again = opened().get_or_assign(wide_of(15))
    assert again[:10] == found[:10]
    assert max(again) < 2**32


def test_when_all_are_assigned_long_numbers_are_shown(
    opened: Callable[..., InodeNumbers], caplog: pytest.LogCaptureFixture
) -> None:
    numbers = opened(limit=200, reserve=20)
    first = numbers.get_or_assign(wide_of(50))
    found = numbers.get_or_assign(wide_of(300, "more"))
    given = [each for each in (*first, *found) if each < 2**32]
    assert len(set(given)) == len(given) > 90
    assert all(1 < each < 200 for each in given)
    assert [each for each in found if each >= 2**32] == wide_of(300, "more")[len(given) - 50 :]
    assert numbers.get_or_assign(wide_of(300, "more")) == found
    assert caplog.text.count("are assigned") == 1
    assert f"remove {INODES_FILENAME}" in caplog.text
    numbers.close()
    assert opened(limit=200, reserve=20).get_or_assign(wide_of(50)) == first


def test_a_damaged_file_does_not_give_two_files_one_number(
    path: Path, opened: Callable[..., InodeNumbers]
) -> None:
    numbers = opened()
    before = numbers.get_or_assign(wide_of(1000))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"no database" * 1000)
    shown = numbers.get_or_assign(wide_of(1000, "more"))
    assert len({*before, *shown, *numbers.get_or_assign(wide_of(1000, "another"))}) == 3000
