"""Adoption in place: files of other programs are hashed first, without delay for other readers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onefs.cache import in_place, verify
from onefs.cache.adopt import AdoptionOutcome, adopt_folder
from onefs.cache.reservations import CacheLimits
from onefs.content.content import Content
from onefs.errors import DataServerCredentials, DeadlineExceeded, Stopping
from onefs.model import Dataset
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.running import BUSY_SECONDS, wait_until
from tests.scripted_server import ScriptedServer, answer

DATA = some_bytes(9 * BLOCK + 11)
OTHER = some_bytes(4 * BLOCK, seed=2)


class PausedHashing:
    """Replaces the check of a file. Each check ends only after a test permits it."""

    def __init__(self) -> None:
        self.may_finish = threading.Event()
        self.hashed = 0
        self.at: Callable[[], object] = lambda: None

    def judge(
        self, dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
    ) -> verify.ContentVerdict:
        self.hashed += 1
        verdict = verify.check_file(dataset, path, watch)
        while not self.may_finish.wait(0.05):
            self.at()
        watch(0)
        return verdict


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[PausedHashing]:
    found = PausedHashing()
    monkeypatch.setattr(in_place, "check_file", found.judge)
    yield found
    found.may_finish.set()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(OTHER)}) as running:
        yield running


def put(content: Content, dataset: Dataset, data: bytes) -> Path:
    """Store a file of another program at the ONE path of a dataset."""
    path = content.store.final_path(place_of(dataset))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_while_one_file_is_checked_others_are_read(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    content = open_content(small_file=BLOCK)
    mine, other = dataset_of(server, DATA), dataset_of(server, OTHER, "/c.d.npy")
    put(content, mine, DATA)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(read_all, content, mine) for _ in range(7)]
        wait_until(lambda: disk.hashed == 1)
        # other processes and periodic tasks do not wait for the hashing
        with content.store.locks.hold(mine.id, 0.0):
            pass
        assert read_all(content, other) == OTHER
        assert content.state(mine)[0] == "remote"
        disk.may_finish.set()
        assert [each.result(60) for each in waiting] == [DATA] * 7
    assert disk.hashed == 1
    assert content.state(mine)[0] == "cached"
    assert {request.target for request in server.requests} == {"/c.d.npy"}


def test_a_small_file_that_is_copied_after_a_failure_is_adopted(open_content: Open) -> None:
    content = open_content()
    with ScriptedServer({"/a.b.npy": answer(status=403)}) as server:
        mine = dataset_of(server, OTHER)
        with pytest.raises(DataServerCredentials):
            read_all(content, mine)
        put(content, mine, OTHER)
        assert read_all(content, mine) == OTHER
        assert content.state(mine)[0] == "cached"
        assert len(server.requests) == 1


def test_a_small_file_that_is_hashed_slowly_is_waited_for(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    content = open_content(stall=0.5)
    mine = dataset_of(server, OTHER)
    put(content, mine, OTHER)
    steps = iter(range(40))

    def go_on() -> None:  # for 2 seconds
        content.adopter._note_progress(0)
        if next(steps, None) is None:
            disk.may_finish.set()

    disk.at = go_on
    assert read_all(content, mine) == OTHER
    assert server.requests == []


def test_a_disk_that_gives_nothing_is_an_error_in_time(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    content = open_content(small_file=0, stall=1.0)
    mine = dataset_of(server, DATA)
    put(content, mine, DATA)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="the disk of the cache has returned no data"):
        read_all(content, mine)
    assert 0.9 < time.monotonic() - began < BUSY_SECONDS
    disk.may_finish.set()
    wait_until(lambda: content.state(mine)[0] == "cached")
    assert read_all(content, mine) == DATA
    assert server.requests == []


def test_readers_that_wait_for_a_check_are_woken_at_its_end(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    content = open_content(small_file=0, stall=60.0)
    mine = dataset_of(server, DATA)
    put(content, mine, DATA)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read_all, content, mine)
        wait_until(lambda: disk.hashed == 1)
        content.close()
        with pytest.raises(Stopping):
            waiting.result(60)
        disk.may_finish.set()


def test_a_file_written_to_while_it_is_checked_is_not_adopted(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    """The file has the right bytes when they are read, and then gets other bytes, but keeps its
    size.

    A copy that overwrites the file does this.
    """
    content = open_content(small_file=0)
    mine = dataset_of(server, DATA)
    path = put(content, mine, DATA)

    def overwrite() -> None:
        path.write_bytes(DATA[::-1])
        disk.may_finish.set()

    disk.at = overwrite
    assert read_all(content, mine) == DATA
    assert path.read_bytes() == DATA[::-1]
    assert len(server.requests) > 0


def test_a_folder_whose_file_is_written_to_while_it_is_checked(
    open_content: Open, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, mine = open_content(small_file=0), dataset_of(server, DATA)
    source = tmp_path / "own" / "a.b.npy"
    source.parent.mkdir()
    source.write_bytes(DATA)

    def judge(dataset: Dataset, path: Path, watch: object) -> verify.ContentVerdict:
        verdict = verify.check_file(dataset, path)
        source.write_bytes(DATA[::-1])
        return verdict

    monkeypatch.setattr("onefs.cache.adopt.check_file", judge)
    for copy in (False, True):
        source.write_bytes(DATA)
        [taken] = adopt_folder(
            content.store, source.parent, lambda *_: (mine, place_of(mine)), copy=copy
        )
        assert taken.outcome is AdoptionOutcome.DIFFERS
        assert not content.store.final_path(place_of(mine)).exists()
    assert read_all(content, mine) == DATA


def test_what_is_there_already_costs_nothing_of_the_hours_limit(
    open_content: Open, server: ScriptedServer
) -> None:
    content = open_content(small_file=BLOCK, max_fetch=10)
    large, small = dataset_of(server, DATA), dataset_of(server, OTHER[:999], "/c.d.npy")
    put(content, large, DATA)
    put(content, small, OTHER[:999])
    assert read_all(content, large) == DATA
    assert read_all(content, small) == OTHER[:999]
    assert server.requests == []


def test_a_complete_file_that_appears_beside_a_partial_one_is_adopted(
    open_content: Open, server: ScriptedServer
) -> None:
    """The file is adopted at the next opening. The blocks of the partial file stay until
    eviction."""
    content, mine = open_content(small_file=0), dataset_of(server, DATA)
    with HandleReader(content, mine) as reader:
        assert reader.read(3 * BLOCK, 10) == DATA[3 * BLOCK :][:10]
    put(content, mine, DATA)
    asked = len(server.requests)
    assert read_all(content, mine) == DATA
    assert len(server.requests) == asked
    assert content.admin.clear() >= BLOCK
    assert content.state(mine)[0] == "cached"


def test_a_wrong_file_is_checked_once(
    open_content: Open, server: ScriptedServer, disk: PausedHashing
) -> None:
    disk.may_finish.set()
    content = open_content(small_file=0, limits=CacheLimits(20 * BLOCK))
    mine = dataset_of(server, DATA)
    path = put(content, mine, DATA[::-1])
    for _ in range(3):
        with HandleReader(content, mine) as reader:
            assert reader.read(BLOCK, 10) == DATA[BLOCK : BLOCK + 10]
    assert disk.hashed == 1
    assert read_all(content, mine) == DATA
    wait_until(lambda: content.state(mine)[0] == "cached")
    assert path.read_bytes() == DATA[::-1]
    assert os.fspath(content.fetch_file(mine, place_of(mine))).endswith(f"aside/{mine.id}")
