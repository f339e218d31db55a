"""A file that is there in parts: which of its blocks are on disk, and the proof for each.

Three files in ``.onefs/partial/`` make one partial file:

``<id>.json``              what it is a part of (:class:`BlockMapHeader`); published by rename.
                           It names the generation, and is what makes the other two count.
``<id>.<generation>.data`` the bytes, each block at its own offset; the rest are holes.
``<id>.<generation>.map``  64-bit words, little-endian. Word 0 is the :class:`PartialState`.
                           Word ``1 + i`` is block i's record: 0 when the block is absent, else
                           ``1 << 32 | crc32``.

A block's bytes are written before its record, and its record is cleared before its bytes are given
up. After a crash or a power loss a record may outlive its bytes: so nobody believes a record that
an earlier process left before the checksum has proved it.

The map also carries the locks: byte i is block i's claim (exclusive: somebody is fetching or
evicting it), byte ``PIN_LOCKS_START + i`` its pin (shared: somebody is reading it), byte
``HASH_LOCK_BYTE`` the right to verify the whole, byte ``OPEN_LOCK_BYTE`` (shared) that a process
has it open. Apart from the first ones these lie beyond the file's end; none of them has to do with
the bytes there.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from pathlib import Path

from onefs.cache.sparse import allocated_size, disk_size
from onefs.lowlevel.files import open_or_create, replace_file
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.model import Dataset

BLOCK_SIZE = 512 * 1024
PIN_LOCKS_START = 1 << 40
HASH_LOCK_BYTE = 1 << 41
OPEN_LOCK_BYTE = (1 << 41) + 1
#: seconds for which a reader believes that no other process has changed a file's state
STATE_CACHE_SECONDS = 0.02
#: among the sources of a file: blocks of it may be of several versions, so that the whole has to be
#: proved before more of it is read. (No copy has this URL; earlier versions do not look for it.)
MIXED_VERSIONS_MARKER = ""
_WORD_BYTES = 8
_PRESENT_BIT = 1 << 32


class PartialState(IntEnum):
    """What has become of a partial file, told to every process that has it open."""

    LIVE = 1
    #: dropped: the remote file changed, or its bytes were evicted; open it anew
    GONE = 2
    #: complete, and not what the database describes
    BAD = 3
    #: complete and verified; the data file has been given its final name
    DONE = 4


@dataclass(frozen=True, slots=True)
class BlockMapHeader:
    """What a partial file is a part of."""

    dataset_id: str
    #: bytes of the whole
    size: int
    md5: str
    block_size: int
    generation: str
    #: below the cache folder: where it will stand
    place: tuple[str, ...]
    #: URL of each copy that blocks came from, and its validator (see ``answers.validator_of``)
    sources: dict[str, str] = field(default_factory=dict)


class BlockFile:
    """One partial file, open. Thread-safe as far as its callers hold each block's claim."""

    def __init__(self, folder: Path, about: BlockMapHeader, data: int, records: int) -> None:
        self.folder = folder
        self.header = about
        #: descriptors of the data and the map; :meth:`close` ends both
        self.data_fd = data
        self.map_fd = records
        self.block_count = count_blocks(about.size, about.block_size)
        self._cached_state = PartialState.LIVE
        self._cached_state_until = 0.0
        #: what this process has made of it, if that is the end
        self._final_state: PartialState | None = None

    def close(self) -> None:
        close_lock_file(self.data_fd)
        close_lock_file(self.map_fd)

    @property
    def data_path(self) -> Path:
        return self.folder / f"{self.header.dataset_id}.{self.header.generation}.data"

    def span(self, block: int) -> tuple[int, int]:
        """First byte of a block, and the one after its last."""
        start = block * self.header.block_size
        return start, min(start + self.header.block_size, self.header.size)

    def state(self) -> PartialState:
        """GONE when the word makes no sense."""
        word = self._read_words(0, 1)[0]
        return PartialState(word) if word in PartialState._value2member_map_ else PartialState.GONE

    def recent_state(self) -> PartialState:
        """The state, in which what other processes did may be LOOK seconds late.

        For who reads in order: each look at the file costs a turn in the queue for the interpreter.
        """
        now = time.monotonic()
        if now > self._cached_state_until:
            self._cached_state, self._cached_state_until = self.state(), now + STATE_CACHE_SECONDS
        return self._final_state or self._cached_state

    def set_state(self, state: PartialState) -> None:
        os.pwrite(self.map_fd, struct.pack("<Q", state), 0)
        self._final_state = state if state is not PartialState.LIVE else None

    def records(self, first: int, last: int) -> tuple[int, ...]:
        """The records of blocks ``first`` to ``last``, this one not included; 0 means absent."""
        return self._read_words(1 + first, last - first)

    def set_records(self, first: int, checksums: list[int]) -> None:
        """Say that the bytes of blocks are in the data file, and what their crc32 is each."""
        words = [_PRESENT_BIT | checksum for checksum in checksums]
        os.pwrite(self.map_fd, struct.pack(f"<{len(words)}Q", *words), (1 + first) * _WORD_BYTES)

    def clear_record(self, block: int) -> None:
        """Say that a block is absent."""
        os.pwrite(self.map_fd, bytes(_WORD_BYTES), (1 + block) * _WORD_BYTES)

    def is_block_valid(self, block: int, record: int) -> bool:
        """Whether the block's bytes on disk are those that ``record`` was written for."""
        start, end = self.span(block)
        found = os.pread(self.data_fd, end - start, start)
        return len(found) == end - start and record == _PRESENT_BIT | zlib.crc32(found)

    def has_checksum(self, block: int, checksum: int) -> bool:
        """Whether a block is here, and its record is of bytes with this crc32."""
        return self.records(block, block + 1)[0] == _PRESENT_BIT | checksum

    def present_bytes(self) -> int:
        """Bytes of the blocks that have a record."""
        records = self.records(0, self.block_count)
        found = sum(1 for record in records if record) * self.header.block_size
        if records and records[-1]:
            start, end = self.span(self.block_count - 1)
            found -= self.header.block_size - (end - start)
        return found

    def is_current(self) -> bool:
        """Whether these are still the files that count for the dataset."""
        about = read_header(self.folder, self.header.dataset_id)
        return about is not None and about.generation == self.header.generation

    def record_source(self, url: str, validator: str, *, alone: bool) -> str | None:
        """Note the validator of a copy, unless one is known: the one that counts from now on.

        None when blocks of another copy are here and ``alone`` forbids a mixture. The caller
        holds the dataset's lock.
        """
        known = self.reload_header()
        if url not in self.header.sources:
            if alone and self.header.sources:
                return None
            self.header = replace(self.header, sources={**self.header.sources, url: validator})
            if known:
                _write_header(self.folder, self.header)
        return self.header.sources[url]

    def reload_header(self) -> bool:
        """Read what other processes have noted of the sources; False when there is nothing."""
        known = read_header(self.folder, self.header.dataset_id)
        if known is not None and known.generation == self.header.generation:
            self.header = known
        return known is not None

    def _read_words(self, first: int, count: int) -> tuple[int, ...]:
        raw = os.pread(self.map_fd, count * _WORD_BYTES, first * _WORD_BYTES)
        return struct.unpack(f"<{count}Q", raw.ljust(count * _WORD_BYTES, b"\0"))


def count_blocks(size: int, block_size: int) -> int:
    return -(-size // block_size)


def open_block_file(folder: Path, dataset: Dataset) -> BlockFile | None:
    """The partial file of a dataset as it stands; None when there is none that can be used.

    One of another size or md5, or without its other files, is of no use. Raises OSError.
    """
    about = read_header(folder, dataset.id)
    if about is None or (about.size, about.md5) != (dataset.size, dataset.md5):
        return None
    stem = f"{dataset.id}.{about.generation}"
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
    blocks = BlockFile(folder, about, data, records)
    if os.fstat(data).st_size != about.size or blocks.state() is not PartialState.LIVE:
        blocks.close()
        return None
    return blocks


def create_block_file(
    folder: Path, dataset: Dataset, place: tuple[str, ...], block_size: int = BLOCK_SIZE
) -> BlockFile:
    """A new partial file without any block.

    What is left of another was removed, and the caller holds the dataset's lock. Raises OSError.
    """
    assert dataset.size is not None
    about = BlockMapHeader(
        dataset.id, dataset.size, dataset.md5, block_size, secrets.token_hex(8), place
    )
    stem = f"{dataset.id}.{about.generation}"
    flags = os.O_RDWR | os.O_EXCL
    data = open_lock_file(folder / f"{stem}.data", open_or_create, flags)
    try:
        os.ftruncate(data, about.size)
        records = open_lock_file(folder / f"{stem}.map", open_or_create, flags)
    except OSError:
        close_lock_file(data)
        raise
    blocks = BlockFile(folder, about, data, records)
    try:
        blocks.set_state(PartialState.LIVE)
        _write_header(folder, about)
    except OSError:
        blocks.close()
        raise
    return blocks


def remove_block_file(folder: Path, dataset_id: str, *, retire: bool = True) -> int:
    """Remove a dataset's partial file, in whatever condition. The caller holds its lock.

    ``retire``: who has it open is told that it is GONE. Gives the bytes of disk that are counted
    for its blocks. Raises OSError, with the file's name, when its bytes cannot be removed.
    """
    about = read_header(folder, dataset_id)
    freed = 0
    for path in folder.glob(f"{dataset_id}.*.data"):
        size = _counted_bytes(path, about)
        # the bytes first: what names them stays for as long as they cannot be removed
        path.unlink(missing_ok=True)
        freed += size
    (folder / f"{dataset_id}.json").unlink(missing_ok=True)
    for path in folder.glob(f"{dataset_id}.*"):
        if path.suffix == ".map" and retire:
            records = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.pwrite(records, struct.pack("<Q", PartialState.GONE), 0)
            finally:
                os.close(records)
        path.unlink(missing_ok=True)
    return freed


def _counted_bytes(data: Path, about: BlockMapHeader | None) -> int:
    """Bytes of disk that are counted for a data file: those of the blocks that have a record."""
    if about is None or data.name != f"{about.dataset_id}.{about.generation}.data":
        return allocated_size(data)
    try:
        words = data.with_suffix(".map").read_bytes()[_WORD_BYTES:]
    except FileNotFoundError:
        return allocated_size(data)
    records = memoryview(words[: len(words) // _WORD_BYTES * _WORD_BYTES]).cast("Q")
    found = sum(1 for record in records if record) * about.block_size
    if records and len(records) == count_blocks(about.size, about.block_size) and records[-1]:
        found -= len(records) * about.block_size - about.size
    return disk_size(found)


def read_header(folder: Path, dataset_id: str) -> BlockMapHeader | None:
    """What a dataset's partial file says that it is; None when it says nothing sensible."""
    try:
        found = json.loads((folder / f"{dataset_id}.json").read_bytes())
        about = BlockMapHeader(**{**found, "place": tuple(found["place"])})
        sane = about.dataset_id == dataset_id and about.block_size > 0 and about.size >= 0
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return about if sane else None


def iter_headers(folder: Path) -> Iterator[BlockMapHeader]:
    """Every partial file of a folder."""
    for path in folder.glob("*.json"):
        with suppress(OSError):
            about = read_header(folder, path.stem)
            if about is not None:
                yield about


def _write_header(folder: Path, about: BlockMapHeader) -> None:
    replace_file(
        folder / f"{about.dataset_id}.json",
        json.dumps(asdict(about)).encode() + b"\n",
        # by this name remove_block_file finds what a crash has left
        temporary=folder / f"{about.dataset_id}.{about.generation}.{secrets.token_hex(4)}",
    )
