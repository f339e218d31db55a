"""Several processes and hosts share one cache folder, and each block is fetched only once."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from onefs.cache.files import make_process_folder
from onefs.cache.locks import can_lock
from onefs.lowlevel.pids import pid_namespace_id
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    blocks_sent,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.content.reader_process import ReaderProcess
from tests.running import wait_until
from tests.scripted_server import ScriptedConnection, ScriptedServer

DATA = some_bytes(24 * BLOCK + 77)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    path = tmp_path / "origin"
    path.write_bytes(DATA)
    return path


def test_four_processes_of_eight_threads_fetch_each_block_once(
    tmp_path: Path, origin: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA, rate=40e6)}) as server, ExitStack() as stack:
        dataset = dataset_of(server, DATA)
        processes = [
            stack.enter_context(
                ReaderProcess(
                    tmp_path / "cache",
                    [dataset],
                    origins=[str(origin)],
                    threads=8,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            process.start_reading()
        results = [process.result() for process in processes]
        assert [result["errors"] for result in results] == [[]] * 4
        assert [result["wrong"] for result in results] == [0] * 4
        assert blocks_sent(server.requests, len(DATA)) == [1] * 25


def test_two_hosts_share_blocks_and_files(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA), "/c.d.npy": served(DATA[:9999])}) as server:
        large, small = dataset_of(server, DATA), dataset_of(server, DATA[:9999], "/c.d.npy")
        one = open_content(small_file=BLOCK)
        other = open_content(small_file=BLOCK)
        with HandleReader(one, large) as first, HandleReader(other, large) as second:
            assert first.read(5 * BLOCK, 100) == second.read(5 * BLOCK, 100)
            assert second.read(9 * BLOCK, 100) == first.read(9 * BLOCK, 100)
        assert other.state(large)[0] == "partial"
        assert one.fetch_file(large, place_of(large)).read_bytes() == DATA
        assert read_all(one, small) == DATA[:9999]
        assert other.state(large) == ("cached", "")
        assert other.cached_path(large) == one.cached_path(large)
        assert other.cached_path(small) == one.cached_path(small)
        assert blocks_sent(server.requests[:-1], len(DATA)) == [1] * 25


def test_without_locks_partial_files_are_private_and_complete_ones_shared(
    open_content: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        content = open_content(small_file=0, share_partials=False)
        assert "no byte-range locks" in caplog.text
        with HandleReader(content, dataset) as reader:
            assert reader.read(5 * BLOCK, 100) == DATA[5 * BLOCK : 5 * BLOCK + 100]
        other = open_content(small_file=0)
        assert other.state(dataset)[0] == "remote"
        assert content.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA
        assert other.state(dataset)[0] == "cached"


def test_without_locks_two_processes_that_fetch_a_file_keep_one(open_content: Open) -> None:
    """Each of them has found no record of the file before it fetched the file."""
    asked, may_answer = threading.Event(), threading.Event()

    def held(talk: ScriptedConnection) -> None:
        asked.set()
        may_answer.wait(60)
        served(DATA)(talk)

    with (
        ScriptedServer({"/a.b.npy": [held, served(DATA)]}) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        dataset = dataset_of(server, DATA)
        slow, fast = (open_content(small_file=1 << 30, share_partials=False) for _ in range(2))
        later = pool.submit(read_all, slow, dataset)
        assert asked.wait(60)
        try:
            assert read_all(fast, dataset) == DATA
        finally:
            may_answer.set()
        assert later.result(60) == DATA
        assert list((slow.store.private_folder / "aside").iterdir()) == []
        final = slow.store.final_path(place_of(dataset))
        assert fast.cached_path(dataset) == slow.cached_path(dataset) == final
        assert slow.admin.evict(dataset.id) > 0


def test_the_self_test_of_locks(tmp_path: Path) -> None:
    assert can_lock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_its_blocks_to_the_next(tmp_path: Path, origin: Path) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA, rate=4e6)}) as server:
        dataset = dataset_of(server, DATA)
        job = {"origins": [str(origin)], "threads": 4}
        with ReaderProcess(tmp_path / "cache", [dataset], **job) as process:
            process.start_reading()
            wait_until(lambda: sum(blocks_sent(server.requests, len(DATA))) > 6)
            threading.Event().wait(0.5)
            process.kill()
        before = blocks_sent(server.requests, len(DATA))
        with ReaderProcess(tmp_path / "cache", [dataset], **job) as process:
            process.start_reading()
            result = process.result()
        assert (result["errors"], result["wrong"]) == ([], 0)
        after = blocks_sent(server.requests, len(DATA))
        again = [b for b in range(25) if before[b] and after[b] > before[b]]
        assert after[0] == 1, "what was complete is not fetched again"
        assert len(again) < sum(map(bool, before))
        assert max(after) <= 2


@pytest.mark.long
@pytest.mark.timeout(400)
def test_twenty_kills_of_a_process_yield_no_wrong_byte(tmp_path: Path, origin: Path) -> None:
    """Each new process reads the right bytes, and fetches again only blocks that were in flight."""
    kills, chance = 20, random.Random(5)
    with ScriptedServer({"/a.b.npy": served(DATA, rate=3e6)}) as server:
        dataset = dataset_of(server, DATA)
        job = {"origins": [str(origin)], "threads": 4, "seconds": 60, "small_file": 0}
        for number in range(kills):
            job["seed"] = number
            with ReaderProcess(tmp_path / "cache", [dataset], **job) as process:
                process.start_reading()
                threading.Event().wait(chance.uniform(0.05, 1.0))
                process.kill()
        job.pop("seconds")
        with ReaderProcess(tmp_path / "cache", [dataset], **job) as process:
            process.start_reading()
            result = process.result()
        assert (result["errors"], result["wrong"]) == ([], 0)
        fetched = sum(blocks_sent(server.requests, len(DATA)))
        assert fetched <= 25 + kills * 12 * 2


def test_folders_of_processes_elsewhere_stay_on_a_disk_without_locks(tmp_path: Path) -> None:
    """Another container may have the same host name, and a process with the same number."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = tmp_path / f"{pid_namespace_id()}-{ended.pid}"
    elsewhere = [tmp_path / f"0123456789ab-{ended.pid}", tmp_path / f"{os.getpid()}-notes"]
    before = tmp_path / f"{os.uname().nodename}-{ended.pid}"
    for folder in (gone, before, *elsewhere):
        folder.mkdir()
        (folder / "block").write_bytes(b"x")
    own = make_process_folder(tmp_path)
    assert own.is_dir()
    assert own not in (gone, before, *elsewhere)
    assert not gone.exists()
    assert all((folder / "block").exists() for folder in (before, *elsewhere))
