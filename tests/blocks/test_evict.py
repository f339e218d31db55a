"""Eviction: a file that cannot be removed is logged and stays counted, and others are evicted."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onefs.cache.adopt import Adoption, adopt_folder
from onefs.cache.folder import Place
from onefs.cache.reservations import CacheLimits
from onefs.content.content import Content
from onefs.errors import CacheError
from onefs.model import Dataset
from tests.call_counts import counted_calls
from tests.content.conftest import FileServer, Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    read_all,
    some_bytes,
)
from tests.running import wait_until

DATA = some_bytes(3 * BLOCK + 11)
SMALL = some_bytes(50_000, seed=2)


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make a file immutable with ``chattr +i``, so that not even root may remove or change it.

    Skip the test if the file system does not support this.
    """
    done = subprocess.run(["chattr", "+i", path], capture_output=True, timeout=20, check=False)
    if done.returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], timeout=20, check=True)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], timeout=20, check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], timeout=20, check=True)


def test_a_file_that_cannot_be_removed_is_named_and_stays_counted(
    open_content: Open, server: FileServer
) -> None:
    content = open_content()
    stays, goes = server.dataset("a.b.npy", SMALL), server.dataset("c.d.npy", SMALL[::-1])
    path = content.fetch_file(stays, place_of(stays))
    content.fetch_file(goes, place_of(goes))
    with immutable(path):
        with pytest.raises(CacheError, match=r"a\.b\.npy cannot be removed: Operation not"):
            content.admin.evict(stays.id)
        failures: list[str] = []
        freed = content.admin.clear(failures.append)
        assert len(failures) == 1
        assert str(path) in failures[0]
        assert len(SMALL) <= freed < len(SMALL) + 4096  # only the other file
        assert content.total_bytes() == content.store.measure_usage() >= len(SMALL)
        assert content.state(stays)[0] == "cached"
        assert [kept.dataset_id for kept in content.admin.list_items()] == [stays.id]
    assert content.admin.evict(stays.id) >= len(SMALL)
    assert content.total_bytes() == 0


def test_blocks_that_cannot_be_removed_are_named_and_stay_counted(
    open_content: Open, server: FileServer
) -> None:
    content = open_content(small_file=0)
    dataset = server.dataset("a.b.npy", DATA)
    with HandleReader(content, dataset) as reader:
        reader.read(0, BLOCK)
    counted = content.total_bytes()
    [data] = content.store.partial_folder.glob("*.data")
    with immutable(data):
        other = open_content(small_file=0)  # its process does not have the file open
        with pytest.raises(CacheError, match=r"cannot be removed: Operation not permitted"):
            other.admin.evict(dataset.id)
        assert content.total_bytes() == counted
    assert read_all(content, dataset) == DATA


def test_adjacent_blocks_are_evicted_together_except_those_that_are_read(
    open_content: Open, server: FileServer
) -> None:
    content, count = open_content(small_file=0), 40
    dataset = server.dataset("a.b.npy", some_bytes(64 * BLOCK))
    with HandleReader(content, dataset) as reader:
        # the first blocks are absent, so that none is being hashed, which protects it too
        for block in range(8, 8 + count):
            reader.read(block * BLOCK, BLOCK)
    wait_until(lambda: content.transfers() == [])
    other = open_content(small_file=0)  # its process does not have the file open
    with HandleReader(content, dataset) as reader, counted_calls() as calls:
        reader.read(28 * BLOCK, BLOCK)
        freed = other.admin.evict(dataset.id)
    assert (count - 16) * BLOCK <= freed
    assert content.total_bytes() == content.store.measure_usage() > 0
    assert calls["fallocate.punch_hole"] <= freed // BLOCK // 4
    assert read_all(content, dataset) == some_bytes(64 * BLOCK)


def test_eviction_goes_on_beside_what_cannot_be_removed(
    open_content: Open, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest file cannot be removed, so that other files are evicted.

    The log names the oldest file, and names it only once.
    """
    content = open_content(limits=CacheLimits(3 * 73_728))
    datasets = [server.dataset(f"a.b{n}.npy", some_bytes(70_000, n)) for n in range(6)]
    path = content.fetch_file(datasets[0], place_of(datasets[0]))
    with immutable(path):
        for dataset in datasets[1:]:
            content.fetch_file(dataset, place_of(dataset))
        assert content.state(datasets[0])[0] == "cached"
        assert content.total_bytes() == content.store.measure_usage() <= 3 * 73_728
    lines = [line for line in caplog.messages if "cannot be removed" in line]
    assert len(lines) == 1
    assert str(path) in lines[0]


def test_on_a_disk_that_is_read_only_nothing_is_called_freed(
    disk: Path, open_content: Open, server: FileServer
) -> None:
    content = open_content(cache=str(disk / "cache"))
    dataset = server.dataset("a.b.npy", SMALL)
    content.fetch_file(dataset, place_of(dataset))
    counted = content.total_bytes()
    content.store.close()  # a disk with open files cannot be made read-only
    content = open_content(cache=str(disk / "cache"))
    content.store.close()
    with read_only(disk), pytest.raises(CacheError):
        content.admin.evict(dataset.id)
    again = open_content(cache=str(disk / "cache"))
    assert again.total_bytes() == counted
    assert again.admin.evict(dataset.id) == counted


@pytest.mark.parametrize("other", ["folder", "file"])
def test_what_took_the_place_of_a_file_is_named_and_left_alone(
    open_content: Open, server: FileServer, other: str
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", SMALL)
    path = content.fetch_file(dataset, place_of(dataset))
    path.unlink()
    if other == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"mine")
    with pytest.raises(CacheError, match="was changed after onefs had downloaded it"):
        content.admin.evict(dataset.id)
    assert os.path.lexists(path)


def test_files_removed_during_verification_are_neither_wrong_nor_counted(
    open_content: Open, server: FileServer
) -> None:
    content, other = open_content(), open_content()
    datasets = [server.dataset(f"a.b{n}.npy", some_bytes(9_000, n)) for n in range(20)]
    for dataset in datasets:
        content.fetch_file(dataset, place_of(dataset))
    checks = content.admin.verify()
    found = [next(checks)]
    other.admin.clear()
    found.extend(checks)
    assert [check.good for check in found] == [True]


def test_a_file_that_is_removed_while_it_is_read_again_is_not_wrong(
    open_content: Open, server: FileServer
) -> None:
    content = open_content()
    datasets = [server.dataset(f"a.b{n}.npy", some_bytes(9_000, n)) for n in range(3)]
    paths = [content.fetch_file(dataset, place_of(dataset)) for dataset in datasets]
    paths[1].unlink()
    assert [check.good for check in content.admin.verify()] == [True, True]
    assert len(content.admin.list_items()) == 2


def test_verifying_beside_clearing_and_fetching_calls_nothing_wrong(
    open_content: Open, server: FileServer
) -> None:
    here, there = open_content(small_file=BLOCK), open_content(small_file=BLOCK)
    datasets = [server.dataset(f"a.b{n}.npy", some_bytes(30_000, n)) for n in range(12)]
    datasets.append(server.dataset("l.arge.npy", DATA))
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for dataset in datasets:
                there.fetch_file(dataset, place_of(dataset))
            there.admin.clear()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        found = [check for _ in range(60) for check in here.admin.verify()]
    finally:
        done.set()
        thread.join(60)
    assert [check for check in found if not check.good] == []


def test_a_file_that_vanishes_before_its_adoption_stops_nothing(
    open_content: Open, server: FileServer, tmp_path: Path
) -> None:
    content = open_content()
    datasets = [server.dataset(f"a.b{n}.npy", some_bytes(9_000, n)) for n in range(3)]
    folder = tmp_path / "own/lab/subject/2020-01-01/001/alf"
    folder.mkdir(parents=True)
    for number, dataset in enumerate(datasets):
        (folder / dataset.name).write_bytes(some_bytes(9_000, number))

    def find(key: str, where: Place) -> tuple[Dataset, Place] | None:
        if where[-1] == "a.b1.npy":
            (folder / "a.b1.npy").unlink()
        return next((d, place_of(d)) for d in datasets if d.name == where[-1])

    found = [_outcome(each) for each in adopt_folder(content.store, tmp_path / "own", find)]
    assert found == ["taken", "differs", "taken"]


def _outcome(adoption: Adoption) -> str:
    return adoption.outcome.value


def test_a_wrong_file_that_cannot_be_removed_is_counted_and_not_served(
    open_content: Open, server: FileServer
) -> None:
    content = open_content()
    dataset = server.dataset("a.b.npy", SMALL)
    path = content.fetch_file(dataset, place_of(dataset))
    before = path.stat()
    path.write_bytes(SMALL[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with immutable(path):
        [check] = content.admin.verify()
        assert check.good is False
        assert "cannot be removed" in check.reason
        assert content.total_bytes() >= len(SMALL)
        with pytest.raises(CacheError):
            _read(content, dataset)
    assert _read(content, dataset) == SMALL


def _read(content: Content, dataset: Dataset) -> bytes:
    return content.fetch_file(dataset, place_of(dataset)).read_bytes()
