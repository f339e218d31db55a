"""The cache stays within its limits. A full or broken disk causes an error for one file only."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from onefs.cache.reservations import CacheLimits
from onefs.cache.sparse import can_punch_holes
from onefs.content.content import Content
from onefs.errors import CacheError, CacheFull
from scripts.benchmarks.shared import disk_bytes
from tests.content.conftest import Open, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    dataset_of,
    read_all,
    served,
    some_bytes,
)
from tests.content.reader_process import ReaderProcess
from tests.running import network_disk, wait_until
from tests.scripted_server import Script, ScriptedServer

#: blocks that are pinned together (512 KiB), so that a small cache is still much larger
GROUP = 8 * BLOCK
LARGE = some_bytes(40 * GROUP)
SMALL = [some_bytes(100_000, seed=seed) for seed in range(30)]


#: bytes of disk for the small private files in the folder: records, maps, locks
RECORDS_SIZE = 30 * 4096


def small_files() -> dict[str, Script]:
    return {f"/{number}.npy": served(body) for number, body in enumerate(SMALL)}


def test_the_least_recently_used_files_are_evicted_first(open_content: Open) -> None:
    with ScriptedServer(small_files()) as server:
        content = open_content(limits=CacheLimits(1_200_000))
        sets = [dataset_of(server, body, f"/{number}.npy") for number, body in enumerate(SMALL)]
        for dataset, body in zip(sets, SMALL, strict=True):
            assert read_all(content, dataset) == body
            assert content.total_bytes() <= 1_200_000
            assert read_all(content, sets[0]) == SMALL[0]
            os.utime(content.store.private_folder / f"files/{sets[0].id}.json", (4e9, 4e9))
        assert content.cached_path(sets[0]) is not None
        assert content.cached_path(sets[-1]) is not None
        assert content.cached_path(sets[5]) is None
        asked = [request.target for request in server.requests]
        assert asked.count("/0.npy") == 1


def test_the_usage_counter_stays_exact(open_content: Open, tmp_path: Path) -> None:
    """Files whose size is not a multiple of a page are evicted and fetched again a few hundred
    times."""
    bodies = [some_bytes(9_001 + 17_777 * number, seed=number) for number in range(20)]
    bodies += [LARGE[: size * GROUP + 77] for size in (2, 9, 3)]
    with ScriptedServer({f"/{n}.npy": served(body) for n, body in enumerate(bodies)}) as server:
        content = open_content(small_file=GROUP, limits=CacheLimits(5 * GROUP))
        sets = [dataset_of(server, body, f"/{n}.npy") for n, body in enumerate(bodies)]
        for _ in range(10):
            for dataset, body in zip(sets, bodies, strict=True):
                assert read_all(content, dataset) == body
        assert len(server.requests) > 10 * len(bodies)
        wait_until(lambda: content.store.usage.reserved_bytes() == 0)
        there = disk_bytes(tmp_path / "cache")
        assert there - RECORDS_SIZE <= content.total_bytes() <= there
        # a file may be hashed at this moment
        wait_until(lambda: content.admin.clear() >= 0 and content.total_bytes() == 0)


def test_bytes_written_by_a_killed_process_are_counted(open_content: Open, tmp_path: Path) -> None:
    """The killed process updates the usage counter only after every REPORT_BYTES.

    A mount uses the folder at the same time.
    """
    origin = tmp_path / "origin"
    origin.write_bytes(LARGE)
    with ScriptedServer({"/a.b.npy": served(LARGE, rate=2e6), **small_files()}) as server:
        content = open_content(small_file=GROUP, limits=CacheLimits(60 * GROUP))
        large, small = dataset_of(server, LARGE), dataset_of(server, SMALL[0], "/0.npy")
        with ReaderProcess(tmp_path / "cache", [large], origins=[str(origin)]) as process:
            process.start_reading()
            wait_until(lambda: disk_bytes(tmp_path / "cache") > 6 * GROUP)
            process.kill()
        for name in ("0", "1"):  # the first process notices this
            small = dataset_of(server, SMALL[int(name)], f"/{name}.npy")
            assert read_all(content, small) == SMALL[int(name)]
        assert content.total_bytes() >= disk_bytes(tmp_path / "cache") - RECORDS_SIZE


def test_a_file_larger_than_the_cache_is_read_to_its_end(open_content: Open) -> None:
    limit = 12 * GROUP
    with ScriptedServer({"/a.b.npy": served(LARGE)}) as server:
        content = open_content(small_file=0, limits=CacheLimits(limit))
        dataset = dataset_of(server, LARGE)
        with HandleReader(content, dataset) as reader:
            for at in range(0, len(LARGE), 128 * 1024):
                assert reader.read(at, 128 * 1024) == LARGE[at : at + 128 * 1024]
                assert content.total_bytes() <= limit + GROUP
        assert content.state(dataset)[0] == "partial"


@pytest.mark.parametrize("strict", [True, False])
def test_a_file_that_must_be_complete_and_does_not_fit_is_an_error_at_once(
    open_content: Open, strict: bool
) -> None:
    """Blocks of the file would be evicted again and again before the file could be verified."""
    with ScriptedServer({"/a.b.npy": served(LARGE)}) as server:
        content = open_content(small_file=0, strict=strict, limits=CacheLimits(30 * GROUP))
        dataset = dataset_of(server, LARGE)
        whole: Callable[[], object] = partial(read_all, content, dataset)
        if not strict:
            whole = partial(content.fetch_file, dataset, place_of(dataset))
        with pytest.raises(CacheFull, match="does not fit into the cache"):
            whole()
        assert server.requests == []


def test_a_file_that_does_not_fit_beside_pinned_ones_is_an_error_and_readable(
    open_content: Open,
) -> None:
    one, two = LARGE[: 20 * GROUP], LARGE[15 * GROUP :]
    with ScriptedServer({"/a.b.npy": served(one), "/c.d.npy": served(two)}) as server:
        content = open_content(small_file=0, limits=CacheLimits(30 * GROUP))
        first, second = dataset_of(server, one), dataset_of(server, two, "/c.d.npy")
        content.fetch_file(first, place_of(first))
        content.admin.pin(first.id)
        with pytest.raises(CacheFull, match="does not fit into the cache"):
            content.fetch_file(second, place_of(second))
        assert read_all(content, second) == two
        assert content.cached_path(first) is not None


def test_blocks_are_evicted_where_files_cannot_be_sparse(
    open_content: Open, tmp_path: Path
) -> None:
    """The file system cannot free a part of a file, like NFS before 4.2. A file is evicted as a
    whole.

    No record of a block is cleared without freeing the block's bytes.
    """
    with (
        network_disk(tmp_path) as network,
        ScriptedServer({"/0": served(LARGE), "/1": served(LARGE)}) as s,
    ):
        with tempfile.TemporaryFile(dir=network) as file:
            if can_punch_holes(file.fileno()):
                pytest.skip("this bindfs can punch holes")
        content = open_content(cache=str(network), small_file=0, limits=CacheLimits(30 * GROUP))
        first, second = dataset_of(s, LARGE, "/0"), dataset_of(s, LARGE, "/1")
        with HandleReader(content, first) as reader:
            assert reader.read(0, 8 * GROUP) == LARGE[: 8 * GROUP]
            wait_until(lambda: content.store.usage.reserved_bytes() == 0)
            content.admin.clear()  # the file is open, and so its disk space stays in use
            assert content.total_bytes() >= 8 * GROUP
            asked = len(s.requests)
            assert reader.read(0, 8 * GROUP) == LARGE[: 8 * GROUP]
            assert len(s.requests) == asked
        with HandleReader(content, second) as reader:
            for at in range(0, 28 * GROUP, GROUP):
                assert reader.read(at, GROUP) == LARGE[at : at + GROUP]
        wait_until(lambda: content.store.usage.reserved_bytes() == 0)
        content.admin.clear()
        wait_until(lambda: content.admin.clear() >= 0 and content.total_bytes() == 0)


def test_a_large_small_file_cache(open_content: Open) -> None:
    """A file that is fetched as a whole, and does not fit into the cache, is still served."""
    with ScriptedServer({"/a.b.npy": served(LARGE)}) as server:
        content = open_content(small_file=1 << 30, limits=CacheLimits(GROUP))
        assert read_all(content, dataset_of(server, LARGE)) == LARGE


def test_an_open_file_stays_readable_when_it_is_evicted(open_content: Open) -> None:
    with ScriptedServer(small_files()) as server:
        content = open_content(limits=CacheLimits(250_000))
        sets = [dataset_of(server, body, f"/{number}.npy") for number, body in enumerate(SMALL)]
        with HandleReader(content, sets[0]) as reader:
            assert reader.read(0, 10) == SMALL[0][:10]
            for dataset in sets[1:5]:
                read_all(content, dataset)
            assert content.cached_path(sets[0]) is None
            assert reader.read_to_end() == SMALL[0]


def test_pinned_and_foreign_files_are_never_evicted(open_content: Open, tmp_path: Path) -> None:
    with ScriptedServer(small_files()) as server:
        content = open_content(limits=CacheLimits(350_000))
        sets = [dataset_of(server, body, f"/{number}.npy") for number, body in enumerate(SMALL)]
        foreign = content.store.final_path(place_of(sets[1]))
        foreign.parent.mkdir(parents=True)
        foreign.write_bytes(SMALL[1])
        read_all(content, sets[0])
        content.admin.pin(sets[0].id)
        for dataset, body in zip(sets[1:], SMALL[1:], strict=True):
            assert read_all(content, dataset) == body
        assert content.cached_path(sets[0]) is not None
        assert foreign.read_bytes() == SMALL[1]
        content.admin.unpin(sets[0].id)
        for dataset in sets[10:20]:
            read_all(content, dataset)
        assert content.cached_path(sets[0]) is None
        assert foreign.read_bytes() == SMALL[1]


def test_blocks_of_a_file_without_readers_are_evicted(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(LARGE), **small_files()}) as server:
        content = open_content(small_file=GROUP, limits=CacheLimits(6 * GROUP))
        large = dataset_of(server, LARGE)
        with HandleReader(content, large) as reader:
            for block in range(0, 12, 2):
                reader.read(block * GROUP, 10)
        header = content.store.partial_folder / f"{large.id}.json"
        os.utime(header, (1, 1))
        for number, body in enumerate(SMALL[:20]):
            read_all(content, dataset_of(server, body, f"/{number}.npy"))
        assert content.total_bytes() <= 6 * GROUP
        with HandleReader(content, large) as reader:
            for block in range(12):
                assert reader.read(block * GROUP, 10) == LARGE[block * GROUP :][:10]


def test_a_full_disk_is_an_error_and_service_returns(
    open_content: Open, disk: Path, tmp_path: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(LARGE), **small_files()}) as server:
        content = open_content(small_file=GROUP, cache=str(disk))
        large, small = dataset_of(server, LARGE), dataset_of(server, SMALL[0], "/0.npy")
        assert read_all(content, small) == SMALL[0]
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with HandleReader(content, large) as reader:
            with pytest.raises(CacheFull, match="full"):
                reader.read(0, 10)
            other = dataset_of(server, SMALL[1], "/1.npy")
            with pytest.raises(CacheFull):
                read_all(content, other)
            assert read_all(content, small) == SMALL[0]
            ballast.unlink()
            wait_until(lambda: reads_correctly(content, reader))


def reads_correctly(content: Content, reader: HandleReader) -> bool:
    try:
        return reader.read(9 * GROUP, 10) == LARGE[9 * GROUP : 9 * GROUP + 10]
    except CacheError:
        return False


def test_free_space_is_left_to_others(open_content: Open, disk: Path) -> None:
    with ScriptedServer({"/a.b.npy": served(LARGE)}) as server:
        content = open_content(
            small_file=0, cache=str(disk), limits=CacheLimits(None, min_free=4 << 20)
        )
        with HandleReader(content, dataset_of(server, LARGE)) as reader:
            for at in range(0, len(LARGE), 128 * 1024):
                assert reader.read(at, 128 * 1024) == LARGE[at : at + 128 * 1024]
                found = os.statvfs(disk)
                assert found.f_bavail * found.f_frsize >= (4 << 20) - GROUP
        disk.joinpath("ballast").write_bytes(bytes(3 << 20))
        with HandleReader(content, dataset_of(server, LARGE)) as reader:
            reader.read(0, 10)
            disk.joinpath("more").write_bytes(bytes(1 << 20))
            with pytest.raises(CacheFull, match="no space left"):
                reader.read(20 * GROUP, 5 * GROUP)


@pytest.mark.parametrize("how", ["read-only", "vanished"])
def test_a_disk_that_fails_and_comes_back(open_content: Open, disk: Path, how: str) -> None:
    with ScriptedServer({"/a.b.npy": served(LARGE), **small_files()}) as server:
        content = open_content(small_file=GROUP, cache=str(disk))
        small = dataset_of(server, SMALL[0], "/0.npy")
        assert read_all(content, small) == SMALL[0]
        folder = content.store.partial_folder
        away = folder.with_name("away")
        if how == "vanished":
            folder.rename(away)
        else:
            subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        for path, body in (("/a.b.npy", LARGE), ("/1.npy", SMALL[1])):
            with pytest.raises(CacheError):
                read_all(content, dataset_of(server, body, path))
        assert read_all(content, small) == SMALL[0]
        if how == "vanished":
            away.rename(folder)
        else:
            subprocess.run(["umount", "-l", str(folder)], check=True)

        def served_again() -> bool:
            try:
                return read_all(content, dataset_of(server, SMALL[1], "/1.npy")) == SMALL[1]
            except CacheError:
                return False

        wait_until(served_again)


def test_a_disk_that_is_pulled_out_and_put_back(open_content: Open, disk: Path) -> None:
    """While the disk is removed, its path is an empty folder on another disk."""
    place_of_disk = disk.with_name("place")
    place_of_disk.mkdir()

    def mount() -> None:
        subprocess.run(["mount", "--bind", str(disk), str(place_of_disk)], check=True)

    def umount() -> None:
        subprocess.run(["umount", "-l", str(place_of_disk)], check=True)

    with ScriptedServer({"/a.b.npy": served(LARGE), **small_files()}) as server:
        mount()
        try:
            content = open_content(small_file=GROUP, cache=str(place_of_disk))
            small = dataset_of(server, SMALL[0], "/0.npy")
            assert read_all(content, small) == SMALL[0]
        finally:
            umount()
        for path, body in (("/a.b.npy", LARGE), ("/0.npy", SMALL[0]), ("/1.npy", SMALL[1])):
            with pytest.raises(CacheError):
                read_all(content, dataset_of(server, body, path))
        assert list(place_of_disk.iterdir()) == []
        mount()
        try:
            assert content.state(small) == ("cached", "")
            wait_until(lambda: content.fetch_file(small, place_of(small)).read_bytes() == SMALL[0])
            other = dataset_of(server, SMALL[2], "/2.npy")
            assert read_all(content, other) == SMALL[2]
        finally:
            umount()


@pytest.mark.long
@pytest.mark.timeout(120)
def test_four_processes_keep_to_the_limit_together(tmp_path: Path) -> None:
    limit, processes, threads = 24 * GROUP, 4, 3
    bodies = [LARGE, LARGE[::-1], *SMALL]
    scripts, origins = {}, []
    for number, body in enumerate(bodies):
        scripts[f"/{number}.npy"] = served(body)
        origins.append(tmp_path / f"origin{number}")
        origins[-1].write_bytes(body)
    with ScriptedServer(scripts) as server, ExitStack() as stack:
        sets = [dataset_of(server, body, f"/{number}.npy") for number, body in enumerate(bodies)]
        running = [
            stack.enter_context(
                ReaderProcess(
                    tmp_path / "cache",
                    sets,
                    origins=[str(path) for path in origins],
                    threads=threads,
                    seconds=20,
                    seed=number,
                    small_file=GROUP,
                    cache_size=limit,
                )
            )
            for number in range(processes)
        ]
        for process in running:
            process.start_reading()
        highest, stop = [0], threading.Event()

        def sample() -> None:
            while not stop.wait(0.1):
                highest[0] = max(highest[0], disk_bytes(tmp_path / "cache"))

        sampler = threading.Thread(target=sample)
        sampler.start()
        results = [process.result() for process in running]
        stop.set()
        sampler.join()
    assert [result["wrong"] for result in results] == [0] * processes
    assert [result["errors"] for result in results] == [[]] * processes
    assert min(result["reads"] for result in results) > 100
    # one block or small file for each transfer in flight, and the folders' own small files
    assert highest[0] <= limit + processes * threads * GROUP + (1 << 20)
