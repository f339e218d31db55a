"""Large files: a read fetches only the blocks that it reads, and a complete file is verified."""

from __future__ import annotations

import logging
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from onefs.blocks import registry
from onefs.blocks.block_map import (
    HASH_LOCK_BYTE,
    BlockFile,
    create_block_file,
    open_block_file,
)
from onefs.cache import usage
from onefs.cache.folder import Place
from onefs.cache.mismatches import UnconfirmedMismatch
from onefs.cache.reservations import CacheLimits
from onefs.cache.sparse import disk_size
from onefs.content.content import Content
from onefs.content.handle import DatasetHandle
from onefs.dates import dataset_mtime
from onefs.errors import BadContent, CacheError, FetchLimit, Unreachable
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset
from tests.call_counts import counted_calls
from tests.content.conftest import Open, in_threads, pass_time, place_of
from tests.content.ranged_file import (
    BLOCK,
    HandleReader,
    blocks_sent,
    dataset_of,
    open_files,
    read_all,
    read_first_bytes,
    requested_span,
    served,
    some_bytes,
)
from tests.running import wait_until
from tests.scripted_server import ScriptedServer

DATA = some_bytes(12 * BLOCK + 1234)


def final(tmp_path: Path, dataset: Dataset) -> Path:
    return tmp_path / "cache/lab/Subjects/subject/2020-01-01/001/alf" / dataset.name


def verified(content: Content, dataset: Dataset, state: str = "cached") -> None:
    wait_until(lambda: content.state(dataset)[0] == state, what=f"never {state}")


def test_a_random_read_costs_its_blocks(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(7 * BLOCK + 5, 100) == DATA[7 * BLOCK + 5 : 7 * BLOCK + 105]
            assert reader.read(len(DATA) - 9, 9) == DATA[-9:]
            assert reader.read(2 * BLOCK - 1, 2) == DATA[2 * BLOCK - 1 : 2 * BLOCK + 1]
            assert reader.read(7 * BLOCK, 100) == DATA[7 * BLOCK : 7 * BLOCK + 100]
        assert blocks_sent(server.requests, len(DATA)) == [0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        assert content.state(dataset) == ("partial", "")
        # a request releases the rest of its reservation just after its last block arrives
        wait_until(lambda: content.total_bytes() == 3 * BLOCK + disk_size(1234))


def test_the_hourly_limit_counts_the_blocks_of_a_read(open_content: Open) -> None:
    """A read that touches two blocks fetches both."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0, max_fetch=2 * BLOCK), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(5, 9) == DATA[5:14]
            with pytest.raises(FetchLimit, match=f"{BLOCK} bytes were fetched"):
                reader.read(3 * BLOCK - 1, 2)
            assert reader.read(7 * BLOCK - 9, 9) == DATA[7 * BLOCK - 9 : 7 * BLOCK]
        assert sum(blocks_sent(server.requests, len(DATA))) == 2


@pytest.mark.parametrize(("former", "ours"), [(8 * BLOCK, BLOCK), (BLOCK, 8 * BLOCK)])
def test_a_partial_file_keeps_the_size_of_its_blocks(
    open_content: Open, monkeypatch: pytest.MonkeyPatch, former: int, ours: int
) -> None:
    """Another version of onefs has begun the file, and both read it at the same time."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        _use_block_size(monkeypatch, former)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as one:
            assert one.read(9 * BLOCK, 5) == DATA[9 * BLOCK : 9 * BLOCK + 5]
            _use_block_size(monkeypatch, ours)
            second = open_content(small_file=0)
            with HandleReader(second, dataset) as other:
                for offset in range(0, len(DATA) - 99, BLOCK // 2):
                    reader = (one, other)[offset // BLOCK % 2]
                    assert reader.read(offset, 99) == DATA[offset : offset + 99]
                assert read_all(second, dataset) == DATA
        verified(second, dataset)
        assert blocks_sent(server.requests, len(DATA)) == [1] * 13


def _use_block_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def create(folder: Path, dataset: Dataset, place: Place) -> BlockFile:
        return create_block_file(folder, dataset, place, size)

    monkeypatch.setattr(registry, "create_block_file", create)


def test_an_older_partial_file_fetches_its_large_blocks_within_the_hourly_limit(
    open_content: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        _use_block_size(monkeypatch, 4 * BLOCK)
        read_first_bytes(open_content(small_file=0), dataset, 10)
        content = open_content(small_file=0, max_fetch=3 * BLOCK)
        with HandleReader(content, dataset) as reader:
            assert reader.handle.try_fd(0, 10) is not None
            with pytest.raises(FetchLimit):
                reader.read(4 * BLOCK, 10)
        assert sum(blocks_sent(server.requests, len(DATA))) == 4


def test_blocks_without_any_replica_are_an_onefs_error(open_content: Open) -> None:
    """The file is known only from cache tables, and Alyx has not sent the file's address."""
    dataset = Dataset("1" * 32, "e", "a.b.npy", size=5 * BLOCK, from_tables=True)
    content = open_content(small_file=0)
    with (
        HandleReader(content, dataset) as reader,
        pytest.raises(Unreachable, match="has not sent its URL"),
    ):
        reader.read(0, 100)
    with pytest.raises(Unreachable, match="has not sent its URL"):
        open_content().fetch_file(dataset, place_of(dataset))


def test_a_file_read_in_order_is_fetched_ahead_once_and_verified(
    open_content: Open, tmp_path: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        assert read_all(content, dataset) == DATA
        verified(content, dataset)
        assert blocks_sent(server.requests, len(DATA)) == [1] * 13
        assert final(tmp_path, dataset).read_bytes() == DATA
        assert final(tmp_path, dataset).stat().st_mtime == dataset_mtime(place_of(dataset), dataset)
        partial = tmp_path / "cache/.onefs/partial"
        wait_until(lambda: list(partial.iterdir()) == [], what="the partial file stays")
        count = len(server.requests)
        assert read_all(content, dataset) == DATA
        assert len(server.requests) == count


def test_a_handle_opened_on_a_part_reads_on_when_the_file_is_complete(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read_to_end() == DATA
            verified(content, dataset)
            assert reader.handle.try_fd(0, 100)
            assert reader.read_to_end() == DATA


def test_path_waits_until_the_file_is_verified(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        seen: list[int] = []
        assert content.fetch_file(dataset, place_of(dataset), seen.append).read_bytes() == DATA
        assert content.state(dataset) == ("cached", "")
        assert seen == sorted(seen)
        assert blocks_sent(server.requests, len(DATA)) == [1] * 13


def test_a_short_read_of_the_disk_is_no_verdict(open_content: Open) -> None:
    """Some blocks can be read from the disk, and the next block cannot.

    Waiting readers get the error, and the file is not rejected.
    """
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server, ThreadPoolExecutor(1) as pool:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            reader.read(12 * BLOCK, 10)
            blocks = open_block_file(content.store.partial_folder, dataset)
            assert blocks is not None
            assert try_lock(blocks.map_fd, HASH_LOCK_BYTE)  # another process is about to verify it
            waiting = pool.submit(content.fetch_file, dataset, place_of(dataset))
            wait_until(lambda: all(blocks.records(0, blocks.block_count)))
            os.truncate(blocks.data_path, len(DATA) - 5 * BLOCK)
            unlock(blocks.map_fd, HASH_LOCK_BYTE)
            blocks.close()
            with pytest.raises(CacheError, match="Input/output error"):
                waiting.result(60)
            assert content.state(dataset)[0] == "partial"
            assert list((content.store.private_folder / "rejected").iterdir()) == []
        content.close()
        # the checksums show which blocks the disk has lost, and these blocks are fetched again
        os.truncate(blocks.data_path, len(DATA))
        after = open_content(small_file=0)
        assert after.fetch_file(dataset, place_of(dataset)).read_bytes() == DATA


def test_what_is_there_is_used_by_the_next_process(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as reader:
            reader.read(3 * BLOCK, BLOCK)
        first.close()
        assert read_all(open_content(small_file=0), dataset) == DATA
        assert blocks_sent(server.requests, len(DATA)) == [1] * 13


def test_what_was_complete_when_the_process_died_is_verified_by_the_next_reader(
    open_content: Open, tmp_path: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        blocks = create_block_file(content.store.partial_folder, dataset, place_of(dataset))
        for block in range(blocks.block_count):
            start, end = blocks.span(block)
            os.pwrite(blocks.data_fd, DATA[start:end], start)
            blocks.set_records(block, [zlib.crc32(DATA[start:end])])
        blocks.close()
        with HandleReader(content, dataset) as reader:
            assert reader.read(3 * BLOCK, 100) == DATA[3 * BLOCK : 3 * BLOCK + 100]
        verified(content, dataset)
        assert final(tmp_path, dataset).read_bytes() == DATA
        assert server.requests == []


def test_a_block_whose_checksum_is_wrong_is_fetched_again(
    open_content: Open, tmp_path: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        first = open_content(small_file=0)
        with HandleReader(first, dataset) as reader:
            reader.read(3 * BLOCK, 2 * BLOCK)
        first.close()
        blocks = open_block_file(tmp_path / "cache/.onefs/partial", dataset)
        assert blocks is not None
        os.pwrite(blocks.data_fd, b"\0" * 4096, 4 * BLOCK + 4096)
        blocks.close()
        assert read_all(open_content(small_file=0), dataset) == DATA
        assert blocks_sent(server.requests, len(DATA))[2:6] == [1, 1, 2, 1]


@pytest.mark.parametrize("damage", ["map", "about", "data"])
def test_damaged_partial_files_are_created_again(
    open_content: Open, tmp_path: Path, damage: str
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        read_first_bytes(open_content(small_file=0), dataset, 3 * BLOCK)
        for path in (tmp_path / "cache/.onefs/partial").iterdir():
            kind = "about" if path.suffix == ".json" else path.suffix.strip(".")
            if kind == damage:
                path.write_bytes(some_bytes(50))
        assert read_all(open_content(small_file=0), dataset) == DATA


@pytest.mark.parametrize("kind", ["rubbish records", "short"])
def test_a_map_that_lies_yields_no_wrong_byte(
    open_content: Open, tmp_path: Path, kind: str
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        dataset = dataset_of(server, DATA)
        read_first_bytes(open_content(small_file=0), dataset, 3 * BLOCK)
        (path,) = (tmp_path / "cache/.onefs/partial").glob("*.map")
        state = path.read_bytes()[:8]
        path.write_bytes(state if kind == "short" else state + some_bytes(13 * 8))
        content = open_content(small_file=0)
        assert read_all(content, dataset) == DATA
        verified(content, dataset)


def test_bytes_that_contradict_the_md5_are_quarantined(
    open_content: Open, caplog: pytest.LogCaptureFixture
) -> None:
    invalidated: list[Dataset] = []
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0, on_invalidated=invalidated.append)
        dataset = dataset_of(server, DATA, md5="0" * 32)
        with caplog.at_level(logging.INFO), HandleReader(content, dataset) as reader:
            assert reader.read_to_end() == DATA  # not verified yet
            wait_until(lambda: invalidated == [dataset])  # the dataset's cached pages are dropped
            for _ in range(3):
                with pytest.raises(BadContent, match="had other bytes than the database describes"):
                    reader.read(0, 10)
            assert content.state(dataset)[0] == "remote"
            assert content.total_bytes() == 0
        first = len(server.requests)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(UnconfirmedMismatch, match="onefs refresh"),
        ):
            reader.read(0, 10)
        assert len(server.requests) == first
        pass_time(content)
        with caplog.at_level(logging.INFO), HandleReader(content, dataset) as reader:
            with suppress(BadContent):  # the verdict may come before the last read
                assert reader.read_to_end() == DATA
            verified(content, dataset, "bad")
            with pytest.raises(BadContent):
                reader.read(0, 10)
            wait_until(lambda: invalidated == [dataset, dataset])  # the last step, after the log
        assert "the database says md5 000" in content.state(dataset)[1]
        assert "onefs refresh" in content.state(dataset)[1]
        lines = [each for each in caplog.records if "the database says" in each.getMessage()]
        assert [each.levelno for each in lines] == [logging.INFO] * 2  # reads get it as an error
        count = len(server.requests)
        for again in (content, open_content(small_file=0)):
            with pytest.raises(BadContent, match="the database says"):
                again.open(dataset, place_of(dataset))
        assert len(server.requests) == count
        mended = dataset_of(server, DATA)
        assert read_all(content, mended) == DATA


def test_strict_serves_nothing_before_all_is_verified(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0, strict=True)
        good = dataset_of(server, DATA)
        with HandleReader(content, good) as reader:
            assert not reader.handle.try_fd(0, 10)
            assert reader.read(0, 10) == DATA[:10]
            assert content.state(good) == ("cached", "")
            assert reader.read_to_end() == DATA


def test_strict_refuses_wrong_bytes(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0, strict=True)
        dataset = dataset_of(server, DATA, md5="0" * 32)
        with (
            HandleReader(content, dataset) as reader,
            pytest.raises(UnconfirmedMismatch, match="md5"),
        ):
            reader.read(0, 10)
        pass_time(content)
        with HandleReader(content, dataset) as reader, pytest.raises(BadContent, match="md5"):
            reader.read(0, 10)


def test_without_md5_a_complete_file_is_unverified(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA, md5="")
        assert read_all(content, dataset) == DATA
        verified(content, dataset, "unverified")


def test_many_readers_and_contents_cause_one_download(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA, rate=20e6)}) as server:
        dataset = dataset_of(server, DATA)
        contents = [open_content(small_file=0), open_content(small_file=0)]
        found = in_threads(16, lambda: [read_all(content, dataset) for content in contents])
        assert found == [[DATA, DATA]] * 16
        assert blocks_sent(server.requests, len(DATA)) == [1] * 13


def test_a_reader_that_leaves_releases_the_file(open_content: Open) -> None:
    data = some_bytes(64 * BLOCK)
    with ScriptedServer({"/a.b.npy": served(data, rate=8e6)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        with HandleReader(content, dataset) as reader:
            for at in range(0, 8 * BLOCK, 128 * 1024):
                reader.read(at, 128 * 1024)
            assert content.transfers()
        wait_until(lambda: content.transfers() == [], what="an unwanted transfer continues")
        fetched = content.total_bytes()
        assert 8 * BLOCK <= fetched <= 32 * BLOCK


def test_the_first_bytes_of_a_file_cost_one_block(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 16384) == DATA[:16384]
        assert blocks_sent(server.requests, len(DATA)) == [1] + [0] * 12


def test_a_read_of_present_blocks_does_not_wait_for_the_scheduler(open_content: Open) -> None:
    data, part = some_bytes(24 << 20), 32 * 1024
    with ScriptedServer({"/a.b.npy": served(data)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        with HandleReader(content, dataset) as reader:
            offsets = [jump + at for jump in range(0, 24 << 20, 4 << 20) for at in (0, part)]
            for offset in offsets:
                reader.read(offset, part)
            wait_until(lambda: content.transfers() == [])
            assert isinstance(reader.handle, DatasetHandle)
            cursor = reader.handle._cursor
            assert cursor is not None
            found: list[int | None] = []
            thread = threading.Thread(
                target=lambda: found.extend(reader.handle.try_fd(at, part) for at in offsets)
            )
            with cursor.partial.demand.condition:  # the lock of the scheduler
                thread.start()
                thread.join(10)
                found_meanwhile = list(found)
            thread.join(10)
            assert found_meanwhile == [cursor.fd] * len(offsets)


def test_a_file_that_is_fetched_as_a_whole_is_requested_in_few_long_parts(
    open_content: Open,
) -> None:
    data = some_bytes(24 << 20)
    with ScriptedServer({"/a.b.npy": served(data)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        assert content.fetch_file(dataset, place_of(dataset)).read_bytes() == data
        spans = [requested_span(each, len(data)) or (0, 0) for each in server.requests]
        assert max(end - start for start, end in spans) >= 3 << 20


def test_the_hourly_limit_counts_the_larger_blocks_of_an_older_partial_file(
    open_content: Open,
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0, max_fetch=4 * BLOCK), dataset_of(server, DATA)
        folder, place = content.store.partial_folder, place_of(dataset)
        create_block_file(folder, dataset, place, block_size=8 * BLOCK).close()
        with HandleReader(content, dataset) as reader, pytest.raises(FetchLimit):
            reader.read(0, 100)
        assert server.requests == []


def test_present_blocks_are_read_while_the_cache_folder_is_away(
    open_content: Open, tmp_path: Path
) -> None:
    """How much may be read ahead is unknown then, and nothing is read ahead."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0, limits=CacheLimits(min_free=1))
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 8 * BLOCK) == DATA[: 8 * BLOCK]
            away = content.cache_dir.rename(tmp_path / "away")
            cursor = content.large_files.open_cursor(dataset, place_of(dataset))
            assert cursor is not None
            assert all(cursor.pin_if_present(block * BLOCK, BLOCK) for block in range(8))
            away.rename(content.cache_dir)
            content.large_files.close_cursor(cursor)
        ours = f"{tmp_path}/"
        wait_until(lambda: not [p for p in open_files() if p.startswith(ours) and dataset.id in p])


def test_present_blocks_are_read_while_the_size_of_the_cache_is_locked(
    open_content: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is suspended has locked it."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=0, limits=CacheLimits(min_free=1))
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(0, 8 * BLOCK) == DATA[: 8 * BLOCK]
            cursor = content.large_files.open_cursor(dataset, place_of(dataset))
            assert cursor is not None
            monkeypatch.setattr(usage, "_GUARD_WAIT_SECONDS", 0.01)
            with (content.store.root / ".onefs/usage").open("r+b") as counter:
                wait_until(lambda: try_lock(counter.fileno(), usage._GUARD_LOCK_BYTE))
                assert all(cursor.pin_if_present(block * BLOCK, BLOCK) for block in range(8))
            content.large_files.close_cursor(cursor)


def test_a_read_of_a_file_without_ranges_looks_at_few_blocks(open_content: Open) -> None:
    """One request is for all blocks, and each read checks whether the request is still needed."""
    data, ahead = some_bytes(512 * BLOCK), 16
    served_slowly = served(data, ranges=False, rate=20e6)
    with ScriptedServer({"/a.b.npy": served_slowly}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        with HandleReader(content, dataset) as reader:
            reader.read(0, 2 * BLOCK)
            with counted_calls() as counted:
                for block in range(2, 2 + ahead):
                    reader.read(block * BLOCK, BLOCK)
        assert counted["partial_file.has_block"] < 512


def test_all_absent_blocks_are_claimed_together(open_content: Open) -> None:
    data = some_bytes(512 * BLOCK)
    with ScriptedServer({"/a.b.npy": served(data)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        with HandleReader(content, dataset) as reader:
            reader.read(100 * BLOCK, BLOCK)
            cursor = content.large_files.open_cursor(dataset, place_of(dataset))
            assert cursor is not None
            partial = cursor.partial
            assert partial.claim(200, 210) == (200, 210)
            with counted_calls() as counted:
                claimed = partial.claim_all_absent()
            assert claimed == [*range(100), *range(101, 200), *range(210, 512)]
            assert counted["locks.try_lock"] <= 3
            assert counted["block_map.records"] <= 4
            partial.release_claims([*claimed, *range(200, 210)])
            content.large_files.close_cursor(cursor)


def test_what_was_read_ahead_when_a_reader_leaves_is_a_quarter_and_one_mib(
    open_content: Open,
) -> None:
    data, read = some_bytes(24 << 20), 6 << 20
    with ScriptedServer({"/a.b.npy": served(data, rate=20e6)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, data)
        with HandleReader(content, dataset) as reader:
            for at in range(0, read, 128 * 1024):
                reader.read(at, 128 * 1024)
        wait_until(lambda: content.transfers() == [], what="an unwanted transfer continues")
        assert read <= content.total_bytes() <= 1.25 * read + (1 << 20)
        assert sum(blocks_sent(server.requests, len(data))) * BLOCK <= 1.25 * read + (1 << 20)


def test_a_small_file_is_fetched_in_one_request(open_content: Open) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content = open_content(small_file=len(DATA))
        dataset = dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            assert reader.read(BLOCK, 10) == DATA[BLOCK : BLOCK + 10]
        assert content.state(dataset) == ("cached", "")
        assert len(server.requests) == 1
        assert "range" not in server.requests[0].headers


def test_each_path_has_pages_of_its_own(open_content: Open) -> None:
    """A dataset may be shown at several paths. Each path has its own version of the bytes."""
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        kept = []
        for at in (None, ("a", "day"), None, ("a", "day"), ("another", "day")):
            handle = content.open(dataset, place_of(dataset), at)
            kept.append(handle.keep_cache)
            assert os.pread(handle.wait_fd(0, 10), 10, 0) == DATA[:10]
            handle.close()
        assert kept == [False, False, True, True, False]


def test_the_kernel_may_keep_pages_of_one_generation_only(
    open_content: Open, tmp_path: Path
) -> None:
    with ScriptedServer({"/a.b.npy": served(DATA)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        with HandleReader(content, dataset) as reader:
            reader.read(0, 10)
        kept = content.open(dataset, place_of(dataset))
        assert kept.keep_cache
        kept.close()
        assert content.fetch_file(dataset, place_of(dataset)).is_file()
        assert content.open(dataset, place_of(dataset)).keep_cache
        final(tmp_path, dataset).unlink()
        assert not content.open(dataset, place_of(dataset)).keep_cache


def test_a_file_without_readers_is_closed(open_content: Open, tmp_path: Path) -> None:
    """The file is closed even if its reader ends before all requests and the hashing have ended."""
    with ScriptedServer({"/a.b.npy": served(DATA, rate=40e6)}) as server:
        content, dataset = open_content(small_file=0), dataset_of(server, DATA)
        for end in (4, 5, 6, 7, 8):
            with HandleReader(content, dataset) as reader:
                for at in range(end * BLOCK // 2, end * BLOCK, 128 * 1024):
                    assert reader.read(at, 1000) == DATA[at : at + 1000]
        # only files of this test, because datasets of other tests have the same id
        ours = f"{tmp_path}/"
        wait_until(lambda: not [p for p in open_files() if p.startswith(ours) and dataset.id in p])
