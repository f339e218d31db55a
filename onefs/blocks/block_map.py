"""Partial files on disk: the blocks that are present, and a checksum of each present block.

Three files in ``.onefs/partial/`` make one partial file:

``<id>.json``              the header (:class:`BlockMapHeader`), published by rename. The header
                           names the generation, a random text. Files of other generations are
                           ignored. The mtime of this file is the time of last use.
``<id>.<generation>.data`` the bytes, each block at its own offset. Absent blocks are holes.
``<id>.<generation>.map``  64-bit words, little-endian. Word 0 is the :class:`PartialState`.
                           Word ``1 + i`` is the record of block i. The record is 0 when the
                           block is absent, and ``1 << 32 | crc32`` when the block is present.

A partial file that is removed and created again gets a new generation.

The bytes of a block are written before the record of the block. The record is cleared before the
bytes are freed. After a crash or a power loss, a block may have a record although its bytes are
lost. Therefore a process verifies the checksum of each block that another process recorded.

The map file also carries the locks. Each lock is a lock on one byte of the map file:

byte i                       the claim on block i (an exclusive lock): the block is being fetched
                             or evicted
byte ``PIN_LOCKS_START + i`` the pin of block i (a shared lock): the block is being read
byte ``HASH_LOCK_BYTE``      locked by the process that verifies the whole file
byte ``OPEN_LOCK_BYTE``      locked (shared) by each process that has the partial file open

Most of these bytes are beyond the end of the map file. The locks do not depend on the values of
the bytes.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path

from onefs.cache.sparse import allocated_size, disk_size
from onefs.cache.use_times import last_use
from onefs.lowlevel.files import open_or_create, replace_file
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.model import Dataset

#: bytes of a block of a new partial file. Older partial files have larger blocks
BLOCK_SIZE = 64 * 1024
PIN_LOCKS_START = 1 << 40
HASH_LOCK_BYTE = 1 << 41
OPEN_LOCK_BYTE = (1 << 41) + 1
#: seconds for which a reader uses the state that it has read, before it reads the state again
STATE_CACHE_SECONDS = 0.02
#: a source with this URL marks a file whose blocks may be of several versions. The whole file must
#: then be verified before more of it is read. (No replica has this URL. Version 0.1 of onefs
#: ignores this source.)
MIXED_VERSIONS_MARKER = ""
_WORD_BYTES = 8
_PRESENT_BIT = 1 << 32
_PRESENT_BYTE = 4


class PartialState(IntEnum):
    """The state of a partial file, stored in the block map for all processes that have the file
    open."""

    LIVE = 1
    #: dropped, because the file on the server has changed or the partial file was removed. Readers
    #: must open the file again
    GONE = 2
    #: complete, but the bytes contradict the database
    BAD = 3
    #: complete and verified. The data file has its final name
    DONE = 4


@dataclass(frozen=True, slots=True)
class BlockMapHeader:
    """The header of a partial file: the size, md5 and path of its dataset, and its generation.

    ``generation`` is a random text. Each newly created partial file gets another text.
    """

    dataset_id: str
    #: bytes of the whole file
    size: int
    md5: str
    block_size: int
    generation: str
    #: the ONE path: the names of the folders, beginning with the lab, and the name of the file
    place: tuple[str, ...]
    #: the validator of each replica that blocks were fetched from, by the replica's URL (see
    #: ``responses.validator_of``)
    sources: dict[str, str] = field(default_factory=dict)


class BlockFile:
    """A partial file that is open in this process.

    Thread-safe if each caller holds the lock on every block that the caller changes.
    """

    def __init__(self, folder: Path, header: BlockMapHeader, data: int, records: int) -> None:
        self.folder = folder
        self.header = header
        #: descriptors of the data file and the map file, which :meth:`close` closes
        self.data_fd = data
        self.map_fd = records
        self.block_count = count_blocks(header.size, header.block_size)
        self._cached_state = PartialState.LIVE
        self._cached_state_until = 0.0
        #: the state that this process has set, if it is not LIVE
        self._final_state: PartialState | None = None

    def close(self) -> None:
        close_lock_file(self.data_fd)
        close_lock_file(self.map_fd)

    @property
    def data_path(self) -> Path:
        return self.folder / f"{self.header.dataset_id}.{self.header.generation}.data"

    def span(self, block: int) -> tuple[int, int]:
        """Return the offset of a block's first byte in the file, and the offset after the block's
        last byte."""
        start = block * self.header.block_size
        return start, min(start + self.header.block_size, self.header.size)

    def state(self) -> PartialState:
        """Return the state in the block map.

        Return GONE (readers must open the file again) if the block map has no valid state.
        """
        [word] = self._read_words(0, 1)
        return PartialState(word) if word in PartialState._value2member_map_ else PartialState.GONE

    def recent_state(self) -> PartialState:
        """Return the state, which is at most STATE_CACHE_SECONDS old.

        A state that this process has set is returned at once.
        """
        # for sequential readers: to read the block map at each read would release the interpreter
        # lock each time
        now = time.monotonic()
        if now > self._cached_state_until:
            self._cached_state, self._cached_state_until = self.state(), now + STATE_CACHE_SECONDS
        return self._final_state or self._cached_state

    def set_state(self, state: PartialState) -> None:
        os.pwrite(self.map_fd, struct.pack("<Q", state), 0)
        self._final_state = state if state is not PartialState.LIVE else None

    def records(self, first: int, last: int) -> tuple[int, ...]:
        """Return the records of the blocks from ``first`` to ``last``, ``last`` excluded.

        The record of a present block has its checksum. The record of an absent block is 0.
        """
        return self._read_words(1 + first, last - first)

    def set_records(self, first: int, checksums: list[int]) -> None:
        """Record that blocks are present.

        ``checksums`` holds the crc32 of block ``first`` and of the blocks that follow.
        """
        words = [_record_of(checksum) for checksum in checksums]
        os.pwrite(self.map_fd, struct.pack(f"<{len(words)}Q", *words), (1 + first) * _WORD_BYTES)

    def clear_records(self, first: int, last: int) -> None:
        """Record that the blocks from ``first`` to ``last`` (excluded) are absent."""
        os.pwrite(self.map_fd, bytes((last - first) * _WORD_BYTES), (1 + first) * _WORD_BYTES)

    def is_block_valid(self, block: int, record: int) -> bool:
        """Whether the bytes of a block on disk have the checksum in ``record``."""
        start, end = self.span(block)
        found = os.pread(self.data_fd, end - start, start)
        return len(found) == end - start and record == _record_of(zlib.crc32(found))

    def has_checksum(self, block: int, checksum: int) -> bool:
        """Whether a block is present and its record has the crc32 ``checksum``."""
        [record] = self.records(block, block + 1)
        return record == _record_of(checksum)

    def present_bytes(self) -> int:
        """Return the number of bytes in the present blocks."""
        raw = os.pread(self.map_fd, self.block_count * _WORD_BYTES, _WORD_BYTES)
        return _present_bytes(self.header, raw)

    def is_current(self) -> bool:
        """Whether the partial file on disk is the file that this object has opened.

        Return False if the file was removed or replaced.
        """
        header = read_header(self.folder, self.header.dataset_id)
        return header is not None and header.generation == self.header.generation

    def record_source(self, url: str, validator: str, *, alone: bool) -> str | None:
        """Record a server's version of the file. Return the version recorded for ``url``.

        ``validator`` is a text that identifies the version. A version that was recorded before for
        ``url`` is kept. If ``alone`` is true and another URL is recorded already, nothing is
        recorded, and None is returned. The caller holds the dataset's lock.
        """
        known = self.reload_header()
        # another thread may replace the header by the one on disk at any time
        header = self.header
        if url in header.sources:
            return header.sources[url]
        if alone and header.sources:
            return None
        header = replace(header, sources={**header.sources, url: validator})
        if known:
            _write_header(self.folder, header)
        self.header = header
        return validator

    def reload_header(self) -> bool:
        """Read the header again, to get the replicas that other processes have recorded.

        Return False if there is no valid header on disk.
        """
        known = read_header(self.folder, self.header.dataset_id)
        # a partial file that was created again has another generation
        if known is not None and known.generation == self.header.generation:
            self.header = known
        return known is not None

    def _read_words(self, first: int, count: int) -> tuple[int, ...]:
        raw = os.pread(self.map_fd, count * _WORD_BYTES, first * _WORD_BYTES)
        return struct.unpack(f"<{count}Q", raw.ljust(count * _WORD_BYTES, b"\0"))


def _record_of(checksum: int) -> int:
    """Return the record of a present block with the crc32 ``checksum``."""
    return _PRESENT_BIT | checksum


def count_blocks(size: int, block_size: int) -> int:
    """Return the number of blocks in a file of ``size`` bytes."""
    return -(-size // block_size)


def open_block_file(folder: Path, dataset: Dataset) -> BlockFile | None:
    """Open the partial file of a dataset. Return None if there is no usable partial file.

    A partial file is usable if all of these are true:

    - its size and md5 are those of the dataset
    - its data file and its map file exist
    - its state is LIVE (not removed, rejected or complete)

    Raises OSError if the disk fails.
    """
    header = read_header(folder, dataset.id)
    if header is None or (header.size, header.md5) != (dataset.size, dataset.md5):
        return None
    stem = f"{dataset.id}.{header.generation}"
    try:
        data = open_lock_file(folder / f"{stem}.data", flags=os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        records = open_lock_file(folder / f"{stem}.map", flags=os.O_RDWR)
    except OSError as error:
        close_lock_file(data)
        if isinstance(error, FileNotFoundError):
            return None
        raise
    blocks = BlockFile(folder, header, data, records)
    if os.fstat(data).st_size != header.size or blocks.state() is not PartialState.LIVE:
        blocks.close()
        return None
    return blocks


def create_block_file(
    folder: Path, dataset: Dataset, place: tuple[str, ...], block_size: int = BLOCK_SIZE
) -> BlockFile:
    """Create a partial file without blocks.

    The caller holds the dataset's lock, and has removed any older partial file. Raises OSError if
    the disk fails.
    """
    assert dataset.size is not None
    header = BlockMapHeader(
        dataset.id, dataset.size, dataset.md5, block_size, os.urandom(8).hex(), place
    )
    stem = f"{dataset.id}.{header.generation}"
    flags = os.O_RDWR | os.O_EXCL
    data = open_lock_file(folder / f"{stem}.data", open_or_create, flags)
    try:
        os.ftruncate(data, header.size)
        records = open_lock_file(folder / f"{stem}.map", open_or_create, flags)
    except OSError:
        close_lock_file(data)
        raise
    blocks = BlockFile(folder, header, data, records)
    try:
        blocks.set_state(PartialState.LIVE)
        _write_header(folder, header)
    except OSError:
        blocks.close()
        raise
    return blocks


def remove_block_file(folder: Path, dataset_id: str, *, retire: bool = True) -> int:
    """Remove a dataset's partial file, even if it is damaged. Return the bytes of disk freed.

    With ``retire``, processes that have the partial file open stop reading it. The caller holds the
    dataset's lock, and subtracts the returned bytes from the counted size of the cache. Raises
    OSError, with the name of the file, if a file cannot be removed.
    """
    header = read_header(folder, dataset_id)
    freed = 0
    for path in folder.glob(f"{dataset_id}.*.data"):
        size = _counted_bytes(path, header)
        # the data file first, because the header must stay if the data file cannot be removed
        path.unlink(missing_ok=True)
        freed += size
    (folder / f"{dataset_id}.json").unlink(missing_ok=True)
    for path in folder.glob(f"{dataset_id}.*"):
        with suppress(FileNotFoundError):  # another process has just removed it
            if path.suffix == ".map" and retire:
                _retire_map(path)
            path.unlink()
    return freed


def _retire_map(path: Path) -> None:
    """Set the state in a map file to GONE."""
    records = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(records, struct.pack("<Q", PartialState.GONE), 0)
    finally:
        os.close(records)


def _counted_bytes(data: Path, header: BlockMapHeader | None) -> int:
    """Return the bytes that the data file ``data`` adds to the counted size of the cache."""
    if header is None or data.name != f"{header.dataset_id}.{header.generation}.data":
        return allocated_size(data)
    try:
        words = data.with_suffix(".map").read_bytes()[_WORD_BYTES:]
    except FileNotFoundError:
        return allocated_size(data)
    block_count = count_blocks(header.size, header.block_size)  # a damaged map may have more words
    return disk_size(_present_bytes(header, words[: block_count * _WORD_BYTES]))


def _present_bytes(header: BlockMapHeader, words: bytes) -> int:
    """Return the number of bytes in the present blocks, whose records are in ``words``.

    The last block of a file may be shorter than the other blocks.
    """
    # the byte with the bit of present blocks; a map of many blocks is not made into numbers
    marks = words[_PRESENT_BYTE : len(words) // _WORD_BYTES * _WORD_BYTES : _WORD_BYTES]
    total = (len(marks) - marks.count(0)) * header.block_size
    if marks and len(marks) == count_blocks(header.size, header.block_size) and marks[-1]:
        total -= len(marks) * header.block_size - header.size
    return total


def read_header(folder: Path, dataset_id: str) -> BlockMapHeader | None:
    """Return the header of a dataset's partial file. Return None if the header is missing or
    invalid."""
    try:
        found = json.loads((folder / f"{dataset_id}.json").read_bytes())
        header = BlockMapHeader(**{**found, "place": tuple(found["place"])})
        sane = header.dataset_id == dataset_id and header.block_size > 0 and header.size >= 0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return header if sane else None


def iter_headers(folder: Path) -> Iterator[tuple[BlockMapHeader, float]]:
    """Yield the header of every partial file in a folder, and the time of the file's last use.

    The time is in seconds since the epoch.
    """
    for path in folder.glob("*.json"):
        with suppress(OSError):
            used_at = last_use(path)
            header = read_header(folder, path.stem)
            if header is not None:
                yield header, used_at


def _write_header(folder: Path, header: BlockMapHeader) -> None:
    replace_file(
        folder / f"{header.dataset_id}.json",
        json.dumps(asdict(header)).encode() + b"\n",
        # remove_block_file also removes a temporary file of this name, which a crash may leave
        temporary=folder / f"{header.dataset_id}.{header.generation}.{os.urandom(4).hex()}",
    )
