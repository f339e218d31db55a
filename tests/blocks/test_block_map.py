"""The three files of a partial file: their format, the states, damage and removal."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from onefs.blocks import block_map
from onefs.blocks.block_map import (
    HASH_LOCK_BYTE,
    MIXED_VERSIONS_MARKER,
    OPEN_LOCK_BYTE,
    PIN_LOCKS_START,
    BlockFile,
    PartialState,
    count_blocks,
    create_block_file,
    iter_headers,
    open_block_file,
    read_header,
    remove_block_file,
)
from onefs.model import Dataset
from tests.content.ranged_file import some_bytes

BLOCK = 4096
DATA = some_bytes(3 * BLOCK + 100)
CHECKSUMS = [zlib.crc32(DATA[start : start + BLOCK]) for start in range(0, len(DATA), BLOCK)]
ID = "0b7a4d6c-6f9c-4c63-9f3c-1f1f0d6f0001"
OTHER_ID = "0b7a4d6c-6f9c-4c63-9f3c-1f1f0d6f0002"
DATASET = Dataset(ID, ID, "a.b.npy", size=len(DATA), md5="8" * 32)
PLACE = ("lab", "subject", "2020-01-01", "001", "alf", "a.b.npy")


@pytest.fixture(autouse=True)
def _no_descriptor_stays_open() -> Iterator[None]:
    gc.collect()  # what earlier tests left may have files open
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[BlockFile]:
    """Return a partial file of DATA without blocks."""
    created = create_block_file(tmp_path, DATASET, PLACE, BLOCK)
    yield created
    created.close()


def opened(folder: Path) -> BlockFile:
    found = open_block_file(folder, DATASET)
    assert found is not None
    return found


def store(blocks: BlockFile, *numbers: int) -> None:
    """Write blocks of DATA, and record that they are present."""
    for number in numbers:
        start, end = blocks.span(number)
        os.pwrite(blocks.data_fd, DATA[start:end], start)
        blocks.set_records(number, [CHECKSUMS[number]])


def words(folder: Path) -> list[int]:
    """Return the 64-bit words of the only map file."""
    [path] = folder.glob("*.map")
    raw = path.read_bytes()
    return [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]


def change_header(folder: Path, **fields: object) -> None:
    path = folder / f"{ID}.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


# -- the format, which processes of other versions of onefs share


def test_the_format_on_disk(tmp_path: Path, blocks: BlockFile) -> None:
    blocks.set_records(1, [0xFFFFFFFF, 0])
    blocks.record_source("http://a/b", "etag", alone=False)
    generation = blocks.header.generation
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{ID}.{generation}.data",
        f"{ID}.{generation}.map",
        f"{ID}.json",
    ]
    assert words(tmp_path) == [1, 0, 0x1FFFFFFFF, 0x100000000]
    assert blocks.data_path.stat().st_size == len(DATA)
    assert blocks.data_path.stat().st_blocks == 0
    assert json.loads((tmp_path / f"{ID}.json").read_bytes()) == {
        "dataset_id": ID,
        "size": len(DATA),
        "md5": "8" * 32,
        "block_size": BLOCK,
        "generation": generation,
        "place": list(PLACE),
        "sources": {"http://a/b": "etag"},
    }


def test_the_bytes_that_carry_the_locks() -> None:
    assert (PIN_LOCKS_START, HASH_LOCK_BYTE, OPEN_LOCK_BYTE) == (2**40, 2**41, 2**41 + 1)


def test_a_partial_file_of_another_process_is_read(tmp_path: Path) -> None:
    header = {"dataset_id": ID, "size": 10, "md5": "0" * 32, "block_size": 4, "generation": "g"}
    (tmp_path / f"{ID}.json").write_text(json.dumps({**header, "place": PLACE}))
    (tmp_path / f"{ID}.g.data").write_bytes(b"0123456789")
    record = (zlib.crc32(b"4567") | 1 << 32).to_bytes(8, "little")
    (tmp_path / f"{ID}.g.map").write_bytes((1).to_bytes(8, "little") + bytes(8) + record)
    blocks = open_block_file(tmp_path, Dataset(ID, ID, "a", size=10, md5="0" * 32))
    assert blocks is not None
    found = blocks.records(0, 3)
    assert [bool(each) for each in found] == [False, True, False]
    assert blocks.is_block_valid(1, found[1])
    assert blocks.header.place == PLACE
    blocks.close()


def test_blocks_are_of_64_kib(tmp_path: Path) -> None:
    created = create_block_file(tmp_path, DATASET, PLACE)
    assert created.header.block_size == 64 * 1024
    created.close()


def test_each_partial_file_has_a_generation_of_its_own(tmp_path: Path) -> None:
    generations = set()
    for _ in range(3):
        created = create_block_file(tmp_path, DATASET, PLACE, BLOCK)
        generations.add(created.header.generation)
        created.close()
        remove_block_file(tmp_path, ID)
    assert len(generations) == 3


# -- blocks


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_the_last_block_may_be_short(size: int, count: int) -> None:
    assert count_blocks(size, 8) == count


def test_the_blocks_span_the_file(blocks: BlockFile) -> None:
    assert blocks.block_count == 4
    assert [blocks.span(block) for block in range(4)] == [
        (0, BLOCK),
        (BLOCK, 2 * BLOCK),
        (2 * BLOCK, 3 * BLOCK),
        (3 * BLOCK, 3 * BLOCK + 100),
    ]


def test_a_block_is_present_until_its_record_is_cleared(blocks: BlockFile) -> None:
    store(blocks, 0, 2, 3)
    assert [bool(each) for each in blocks.records(0, 4)] == [True, False, True, True]
    assert [bool(each) for each in blocks.records(1, 3)] == [False, True]
    assert blocks.records(2, 2) == ()
    assert blocks.has_checksum(2, CHECKSUMS[2])
    assert not blocks.has_checksum(2, CHECKSUMS[3])
    assert not blocks.has_checksum(2, CHECKSUMS[2] - 1)
    assert not blocks.has_checksum(1, 0)
    assert blocks.present_bytes() == 2 * BLOCK + 100
    blocks.clear_records(2, 3)
    assert [bool(each) for each in blocks.records(0, 4)] == [True, False, False, True]
    assert blocks.present_bytes() == BLOCK + 100
    blocks.clear_records(3, 4)
    assert blocks.present_bytes() == BLOCK
    blocks.set_records(1, CHECKSUMS[1:])
    assert blocks.present_bytes() == len(DATA)
    assert blocks.state() is PartialState.LIVE


def test_all_bytes_of_a_file_of_whole_blocks_are_counted(tmp_path: Path) -> None:
    created = create_block_file(tmp_path, Dataset(ID, ID, "a", size=2 * BLOCK), PLACE, BLOCK)
    created.set_records(0, [1, 2])
    assert created.present_bytes() == 2 * BLOCK
    created.close()


def test_the_only_block_may_be_short(tmp_path: Path) -> None:
    created = create_block_file(tmp_path, Dataset(ID, ID, "a", size=100), PLACE, BLOCK)
    created.set_records(0, [1])
    assert created.present_bytes() == 100
    created.close()


def test_all_bytes_of_a_file_of_many_blocks_are_counted(tmp_path: Path) -> None:
    created = create_block_file(tmp_path, Dataset(ID, ID, "a", size=999), PLACE, 2)
    created.set_records(0, [1] * 500)
    assert created.present_bytes() == 999
    created.close()


def test_a_block_is_valid_if_its_bytes_have_the_checksum(blocks: BlockFile) -> None:
    store(blocks, 0, 1, 3)
    records = blocks.records(0, 4)
    assert [blocks.is_block_valid(block, records[block]) for block in (0, 1, 3)] == [True] * 3
    assert not blocks.is_block_valid(2, records[2])
    assert not blocks.is_block_valid(0, records[1])
    os.pwrite(blocks.data_fd, b"?", 2 * BLOCK - 1)
    assert not blocks.is_block_valid(1, records[1])


def test_a_block_that_the_disk_has_in_part_is_not_valid(blocks: BlockFile) -> None:
    """Even if the bytes that are left have the recorded checksum."""
    os.pwrite(blocks.data_fd, DATA[:BLOCK], 0)
    blocks.set_records(0, [zlib.crc32(DATA[:100])])
    os.ftruncate(blocks.data_fd, 100)
    assert not blocks.is_block_valid(0, blocks.records(0, 1)[0])


def test_a_map_that_was_cut_off_has_no_more_blocks(tmp_path: Path, blocks: BlockFile) -> None:
    store(blocks, 0, 1, 2, 3)
    [path] = tmp_path.glob("*.map")
    os.truncate(path, 8 * 3)
    assert [bool(each) for each in blocks.records(0, 4)] == [True, True, False, False]
    assert blocks.present_bytes() == 2 * BLOCK


# -- states


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (1, "LIVE"),
        (2, "GONE"),
        (3, "BAD"),
        (4, "DONE"),
        (0, "GONE"),
        (5, "GONE"),
        (1 << 40, "GONE"),
    ],
)
def test_the_state_is_the_first_word(
    tmp_path: Path, blocks: BlockFile, word: int, state: str
) -> None:
    [path] = tmp_path.glob("*.map")
    with path.open("r+b") as file:
        file.write(word.to_bytes(8, "little"))
    assert blocks.state().name == state


def test_a_state_is_seen_by_each_process(tmp_path: Path, blocks: BlockFile) -> None:
    other = opened(tmp_path)
    store(blocks, 0)
    for state in (PartialState.BAD, PartialState.DONE, PartialState.GONE):
        blocks.set_state(state)
        assert other.state() is state
    assert words(tmp_path)[1] == 1 << 32 | CHECKSUMS[0]
    other.close()


def test_an_empty_map_has_the_state_gone(tmp_path: Path, blocks: BlockFile) -> None:
    [path] = tmp_path.glob("*.map")
    os.truncate(path, 0)
    assert blocks.state() is PartialState.GONE


def test_the_recent_state_is_read_again_after_a_fiftieth_of_a_second(
    tmp_path: Path, blocks: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.5
    monkeypatch.setattr(block_map, "time", SimpleNamespace(monotonic=lambda: now))
    other = opened(tmp_path)
    assert blocks.recent_state() is PartialState.LIVE
    other.set_state(PartialState.BAD)
    now = 0.515
    assert blocks.recent_state() is PartialState.LIVE
    now = 0.525
    assert blocks.recent_state() is PartialState.BAD
    other.close()


def test_the_first_recent_state_is_that_on_disk(
    tmp_path: Path, blocks: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = opened(tmp_path)
    other.set_state(PartialState.BAD)
    monkeypatch.setattr(block_map, "time", SimpleNamespace(monotonic=lambda: 0.5))
    assert blocks.recent_state() is PartialState.BAD
    other.close()


def test_a_state_that_this_process_has_set_is_recent_at_once(
    blocks: BlockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_map, "time", SimpleNamespace(monotonic=lambda: 0.5))
    assert blocks.recent_state() is PartialState.LIVE
    blocks.set_state(PartialState.DONE)
    assert blocks.recent_state() is PartialState.DONE
    blocks.set_state(PartialState.LIVE)
    assert blocks.recent_state() is PartialState.LIVE


# -- the header and its sources


def test_the_first_validator_of_a_replica_stays(tmp_path: Path, blocks: BlockFile) -> None:
    other = opened(tmp_path)
    assert blocks.record_source("u", "one", alone=True) == "one"
    assert blocks.record_source("u", "two", alone=True) == "one"
    assert other.record_source("u", "three", alone=False) == "one"
    assert other.record_source("v", "four", alone=True) is None
    assert "v" not in other.header.sources
    assert other.record_source("v", "five", alone=False) == "five"
    assert blocks.reload_header()
    assert blocks.header.sources == {"u": "one", "v": "five"}
    found = read_header(tmp_path, ID)
    assert found == blocks.header
    other.close()


def test_the_source_of_a_removed_file_is_not_written(tmp_path: Path, blocks: BlockFile) -> None:
    remove_block_file(tmp_path, ID)
    assert blocks.record_source("u", "one", alone=True) == "one"
    assert not blocks.reload_header()
    assert blocks.header.sources == {"u": "one"}
    assert list(tmp_path.iterdir()) == []


def test_the_header_of_another_generation_is_ignored(tmp_path: Path, blocks: BlockFile) -> None:
    assert blocks.is_current()
    mine = blocks.header
    remove_block_file(tmp_path, ID)
    assert not blocks.is_current()
    newer = create_block_file(tmp_path, DATASET, PLACE, BLOCK)
    newer.record_source(MIXED_VERSIONS_MARKER, "yes", alone=False)
    assert blocks.reload_header()
    assert blocks.header == mine
    assert not blocks.is_current()
    assert newer.is_current()
    newer.close()


@pytest.mark.parametrize("generation", ["", "0", "z"])
def test_each_other_generation_is_another_file(
    tmp_path: Path, blocks: BlockFile, generation: str
) -> None:
    change_header(tmp_path, generation=generation, sources={"u": "one"})
    assert not blocks.is_current()
    assert blocks.reload_header()
    assert blocks.header.sources == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset_id": OTHER_ID},
        {"dataset_id": ID.replace("1", "0")},
        {"block_size": 0},
        {"block_size": -1},
        {"size": -1},
        {"size": "9"},
        {"place": None},
        {"unknown": 1},
    ],
)
def test_an_invalid_header_counts_as_missing(
    tmp_path: Path, blocks: BlockFile, fields: dict[str, object]
) -> None:
    change_header(tmp_path, **fields)
    assert read_header(tmp_path, ID) is None
    assert open_block_file(tmp_path, DATASET) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\0" * 100])
def test_a_damaged_header_counts_as_missing(tmp_path: Path, blocks: BlockFile, text: str) -> None:
    (tmp_path / f"{ID}.json").write_text(text)
    assert read_header(tmp_path, ID) is None
    assert not blocks.reload_header()


def test_small_sizes_in_a_header_are_valid(tmp_path: Path, blocks: BlockFile) -> None:
    change_header(tmp_path, size=0, block_size=1)
    header = read_header(tmp_path, ID)
    assert header is not None
    assert (header.size, header.block_size) == (0, 1)


def test_a_header_that_the_disk_cannot_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / f"{ID}.json").mkdir()
    with pytest.raises(IsADirectoryError):
        read_header(tmp_path, ID)
    assert list(iter_headers(tmp_path)) == []


def test_all_valid_headers_of_a_folder_are_listed_with_their_last_use(tmp_path: Path) -> None:
    for number, dataset_id in enumerate((ID, OTHER_ID)):
        create_block_file(tmp_path, Dataset(dataset_id, "", "a", size=9), PLACE, BLOCK).close()
        os.utime(tmp_path / f"{dataset_id}.json", (1, 1_600_000_000 + number))
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "damaged.json").write_text("{")
    listed = sorted((header.dataset_id, used_at) for header, used_at in iter_headers(tmp_path))
    assert listed == [(ID, 1_600_000_000), (OTHER_ID, 1_600_000_001)]


def test_a_header_cannot_be_changed(blocks: BlockFile) -> None:
    with pytest.raises(AttributeError):
        blocks.header.size = 1  # type: ignore[misc]


# -- opening and creating


def test_a_partial_file_is_opened_again_with_its_blocks(tmp_path: Path, blocks: BlockFile) -> None:
    store(blocks, 0, 3)
    again = opened(tmp_path)
    assert again.records(0, 4) == blocks.records(0, 4)
    assert again.header == blocks.header
    assert os.pread(again.data_fd, 10, 0) == DATA[:10]
    again.close()


@pytest.mark.parametrize(
    "dataset",
    [
        replace(DATASET, id=OTHER_ID),
        replace(DATASET, size=len(DATA) - 1),
        replace(DATASET, size=len(DATA) + 1),
        replace(DATASET, size=None),
        replace(DATASET, md5="7" * 32),
        replace(DATASET, md5="9" * 32),
        replace(DATASET, md5=""),
    ],
)
def test_the_partial_file_of_another_content_is_not_opened(
    tmp_path: Path, blocks: BlockFile, dataset: Dataset
) -> None:
    assert open_block_file(tmp_path, dataset) is None


@pytest.mark.parametrize("suffix", ["data", "map", "json"])
def test_a_partial_file_without_one_of_its_files_is_not_opened(
    tmp_path: Path, blocks: BlockFile, suffix: str
) -> None:
    [path] = tmp_path.glob(f"*.{suffix}")
    path.unlink()
    assert open_block_file(tmp_path, DATASET) is None
    assert not path.exists()


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
def test_a_data_file_of_another_size_is_not_opened(
    tmp_path: Path, blocks: BlockFile, size: int
) -> None:
    os.truncate(blocks.data_path, size)
    assert open_block_file(tmp_path, DATASET) is None


@pytest.mark.parametrize("state", [PartialState.GONE, PartialState.BAD, PartialState.DONE])
def test_a_partial_file_that_is_not_live_is_not_opened(
    tmp_path: Path, blocks: BlockFile, state: PartialState
) -> None:
    blocks.set_state(state)
    assert open_block_file(tmp_path, DATASET) is None


@pytest.mark.parametrize("suffix", ["data", "map"])
def test_a_file_that_the_disk_cannot_open_is_an_error(
    tmp_path: Path, blocks: BlockFile, suffix: str
) -> None:
    [path] = tmp_path.glob(f"*.{suffix}")
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        open_block_file(tmp_path, DATASET)


def test_a_partial_file_that_cannot_be_created_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        create_block_file(tmp_path / "missing", DATASET, PLACE)
    with pytest.raises(OSError, match="too large"):
        create_block_file(tmp_path, Dataset(ID, ID, "a", size=2**62), PLACE)
    (tmp_path / f"{ID}.json").mkdir()
    with pytest.raises(IsADirectoryError):
        create_block_file(tmp_path, DATASET, PLACE)


def test_files_that_are_there_already_are_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.urandom", bytes)  # so many zeros
    for suffix in ("data", "map"):
        path = tmp_path / f"{ID}.{'0' * 16}.{suffix}"
        path.write_bytes(b"of another process")
        with pytest.raises(FileExistsError):
            create_block_file(tmp_path, DATASET, PLACE)
        assert path.read_bytes() == b"of another process"
        for each in tmp_path.iterdir():
            each.unlink()


def test_locks_of_a_partial_file_end_when_it_is_closed(tmp_path: Path) -> None:
    created = create_block_file(tmp_path, DATASET, PLACE, BLOCK)
    fcntl.flock(created.map_fd, fcntl.LOCK_EX)
    fcntl.flock(created.data_fd, fcntl.LOCK_EX)
    created.close()
    files = [*tmp_path.glob("*.map"), *tmp_path.glob("*.data")]
    assert len(files) == 2
    for path in files:
        with path.open("rb") as other:  # raises BlockingIOError if a lock is left
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- removal


def test_a_removed_partial_file_leaves_nothing_and_is_gone_for_its_readers(
    tmp_path: Path, blocks: BlockFile
) -> None:
    store(blocks, 0, 3)
    (tmp_path / f"{ID}.{blocks.header.generation}.0123abcd").write_bytes(b"left by a crash")
    assert remove_block_file(tmp_path, ID) == 2 * 4096  # a whole block, and a short one in a page
    assert list(tmp_path.iterdir()) == []
    assert os.pread(blocks.map_fd, 8, 0) == bytes([2, 0, 0, 0, 0, 0, 0, 0])
    assert blocks.state() is PartialState.GONE
    assert blocks.has_checksum(0, CHECKSUMS[0])
    assert remove_block_file(tmp_path, ID) == 0


def test_readers_of_a_completed_file_go_on(tmp_path: Path, blocks: BlockFile) -> None:
    blocks.set_state(PartialState.DONE)
    remove_block_file(tmp_path, ID, retire=False)
    assert list(tmp_path.iterdir()) == []
    assert blocks.state() is PartialState.DONE


def test_the_partial_file_of_another_dataset_stays(tmp_path: Path, blocks: BlockFile) -> None:
    other = create_block_file(tmp_path, Dataset(OTHER_ID, "", "a", size=9), PLACE, BLOCK)
    remove_block_file(tmp_path, ID)
    assert len(list(tmp_path.iterdir())) == 3
    assert other.state() is PartialState.LIVE
    other.close()


@pytest.mark.parametrize("missing", ["json", "map"])
def test_what_is_left_without_a_header_or_map_counts_with_its_space_on_disk(
    tmp_path: Path, blocks: BlockFile, missing: str
) -> None:
    """Nothing says which of its blocks are present."""
    with blocks.data_path.open("wb") as file:
        file.write(some_bytes(2 * BLOCK))
        os.fsync(file.fileno())
    [path] = tmp_path.glob(f"*.{missing}")
    path.unlink()
    allocated = blocks.data_path.stat().st_blocks * 512
    assert allocated >= 2 * BLOCK
    assert remove_block_file(tmp_path, ID) == allocated
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("generation", ["0", "z"])
def test_files_of_another_generation_are_removed_and_counted(
    tmp_path: Path, blocks: BlockFile, generation: str
) -> None:
    """Their map may be of blocks of another size, so their space on disk is counted."""
    store(blocks, 1)
    other = tmp_path / f"{ID}.{generation}.data"
    with other.open("wb") as file:
        file.write(some_bytes(3 * BLOCK))
        os.fsync(file.fileno())
    other.with_suffix(".map").write_bytes(b"\1" * 16)
    expected = BLOCK + other.stat().st_blocks * 512
    assert remove_block_file(tmp_path, ID) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [0, 4, 8, 13, 16, 21])
def test_the_blocks_of_a_map_that_was_cut_off_are_counted(
    tmp_path: Path, blocks: BlockFile, length: int
) -> None:
    store(blocks, 0, 1, 2, 3)
    [path] = tmp_path.glob("*.map")
    os.truncate(path, length)
    assert remove_block_file(tmp_path, ID) == max(0, length // 8 - 1) * BLOCK


def test_words_of_a_map_beyond_the_last_block_are_not_counted(
    tmp_path: Path, blocks: BlockFile
) -> None:
    store(blocks, 0, 3)
    [path] = tmp_path.glob("*.map")
    with path.open("ab") as file:
        file.write(b"\1" * 24)
    assert remove_block_file(tmp_path, ID) == 2 * 4096


def test_two_processes_may_remove_a_partial_file_at_the_same_time(tmp_path: Path) -> None:
    """This happens if the file system has no locks."""
    barrier = threading.Barrier(2)

    def remove() -> None:
        barrier.wait(60)
        remove_block_file(tmp_path, ID)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            create_block_file(tmp_path, DATASET, PLACE, BLOCK).close()
            for removal in [pool.submit(remove) for _ in range(2)]:
                removal.result(60)
            assert list(tmp_path.iterdir()) == []


def test_the_header_stays_while_the_data_file_cannot_be_removed(
    tmp_path: Path, blocks: BlockFile
) -> None:
    blocks.data_path.unlink()
    blocks.data_path.mkdir()
    with pytest.raises(OSError, match=blocks.data_path.name) as caught:
        remove_block_file(tmp_path, ID)
    assert caught.value.errno in (errno.EISDIR, errno.EPERM)
    assert read_header(tmp_path, ID) == blocks.header
    assert blocks.state() is PartialState.LIVE


def test_the_target_of_a_link_is_not_changed(tmp_path: Path, blocks: BlockFile) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"of the user")
    [path] = tmp_path.glob("*.map")
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        remove_block_file(tmp_path, ID)
    assert target.read_bytes() == b"of the user"


def test_a_change_of_the_header_is_never_seen_in_part(tmp_path: Path, blocks: BlockFile) -> None:
    """The header is replaced, so that a reader that has it open still reads the old one."""
    before = (tmp_path / f"{ID}.json").stat().st_ino
    with (tmp_path / f"{ID}.json").open("rb") as file:
        old = json.loads(file.read())
        blocks.record_source("u", "one", alone=True)
        file.seek(0)
        assert json.loads(file.read()) == old
    assert (tmp_path / f"{ID}.json").stat().st_ino != before
    assert abs((tmp_path / f"{ID}.json").stat().st_mtime - time.time()) < 3600


def test_a_source_is_recorded_while_another_thread_reads_the_header(blocks: BlockFile) -> None:
    """Requests for parts of a file end at the same time, and each looks at the header."""
    end = threading.Event()

    def reload() -> None:
        while not end.is_set():
            blocks.reload_header()

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reload)
        try:
            for number in range(150):
                url = f"http://server/{number}"
                assert blocks.record_source(url, f"etag {number}", alone=False) == f"etag {number}"
        finally:
            end.set()
        reading.result(30)
