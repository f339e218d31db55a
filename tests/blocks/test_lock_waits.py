"""Waits for locks of other processes: each wait has a limit, and ends when the mount ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onefs.blocks import large_file as large_file_module
from onefs.blocks import partial_file as partial_module
from onefs.blocks import verifier as verifier_module
from onefs.blocks.block_map import PIN_LOCKS_START, create_block_file
from onefs.blocks.partial_file import PartialFile
from onefs.cache.locks import DatasetLocks
from onefs.errors import DeadlineExceeded, OnefsError
from onefs.lowlevel.locks import try_lock, wait_for_lock
from onefs.model import Dataset
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    served,
    some_bytes,
)
from tests.scripted_server import ScriptedConnection, ScriptedServer

DATA = some_bytes(4 * BLOCK)
ID = "0b7a4d6c-6f9c-4c63-9f3c-1f1f0d6f0001"


def test_a_block_that_another_process_never_ends_evicting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_module, "EVICTION_WAIT_SECONDS", 0.3)
    dataset = Dataset(ID, ID, "a.b.npy", size=len(DATA), md5="0" * 32)
    blocks = create_block_file(tmp_path, dataset, place_of(dataset))
    partial = PartialFile(dataset, place_of(dataset), blocks, threading.Condition(), shared=True)
    (path,) = tmp_path.glob("*.map")
    with path.open("r+b") as other:
        assert try_lock(other.fileno(), PIN_LOCKS_START + 2)
        with pytest.raises(DeadlineExceeded, match="removing a part of this file from the cache"):
            partial.pin(0, 4)
    partial.pin(0, 4)  # the failed pin has left no block pinned
    partial.unpin(0, 4)
    with path.open("r+b") as other:
        assert try_lock(other.fileno(), PIN_LOCKS_START, 4)
    blocks.close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_is_not_waited_for_once_the_request_is_cancelled(
    tmp_path: Path, shared: bool
) -> None:
    locks = DatasetLocks(tmp_path / "locks", shared=shared)
    began = time.monotonic()
    with (
        locks.hold(ID, 60.0),
        pytest.raises(DeadlineExceeded),
        locks.hold(ID, 60.0, lambda: False),
    ):
        pass
    assert time.monotonic() - began < 20


def test_the_end_does_not_wait_for_a_lock_of_another_process(
    open_content: Open, tmp_path: Path
) -> None:
    """A request waits for the dataset's lock, in order to record its source, when onefs is
    stopped."""
    asked, locked = threading.Event(), threading.Event()

    def script(talk: ScriptedConnection) -> None:
        asked.set()
        locked.wait(20)
        served(DATA)(talk)

    with ScriptedServer({"/a.b.npy": script}) as server:
        content, dataset = open_content(stall=60.0, small_file=0), dataset_of(server, DATA)
        failed: list[Exception] = []

        def read() -> None:
            with HandleReader(content, dataset) as reader:
                try:
                    reader.read(0, 100)
                except OnefsError as error:
                    failed.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert asked.wait(10)
        with DatasetLocks(tmp_path / "cache/.onefs/locks", shared=True).hold(dataset.id, 10.0):
            locked.set()
            time.sleep(0.5)  # the request now waits for the lock
            began = time.monotonic()
            content.close()
            assert time.monotonic() - began < 30
            thread.join(20)
        assert not thread.is_alive()
        assert failed


def test_hashing_goes_on_when_it_is_needed_again_at_the_end_of_a_wait(
    open_content: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that was evicted, and is back a moment later, ends the wait for the lock early."""
    waits: list[float] = []

    def wait(attempt: Callable[[], bool], timeout: float, needed: Callable[[], bool]) -> bool:
        waits.append(timeout)
        return len(waits) > 1 and wait_for_lock(attempt, timeout, needed)

    monkeypatch.setattr(verifier_module, "wait_for_lock", wait)
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(stall=10.0, small_file=0), dataset_of(server, DATA)
        assert content.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA
    assert len(waits) > 1


def test_a_reader_begins_hashing_that_has_ended_early(
    open_content: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block was absent for a moment, and another process has fetched it again."""
    hash_blocks, until = verifier_module.Verifier._hash_present_blocks, time.monotonic() + 2

    def end_early(verifier: verifier_module.Verifier, progress: Any) -> None:
        if time.monotonic() > until:
            hash_blocks(verifier, progress)

    monkeypatch.setattr(verifier_module.Verifier, "_hash_present_blocks", end_early)
    monkeypatch.setattr(large_file_module, "VERIFY_TIMEOUT_SECONDS", 30.0)
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(stall=10.0, small_file=0), dataset_of(server, DATA)
        assert content.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA


@pytest.mark.parametrize("name", ["onefs-blocks", "onefs-hash"])
def test_work_waits_while_no_thread_can_be_started(
    open_content: Open, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """For a short time no thread can be started to fetch the first block, or to hash the file."""
    start, until = threading.Thread.start, time.monotonic() + 1.5

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name) and time.monotonic() < until:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(stall=10.0, small_file=0), dataset_of(server, DATA)
        assert content.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA
