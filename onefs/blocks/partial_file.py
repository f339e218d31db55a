"""A partial file as this process uses it: verified blocks, claims and pins.

A block can be held in two ways. A *claim* says that the block is being fetched or evicted. A *pin*
says that the block is being read, and must not be evicted. Claims and pins are byte-range locks, so
that other processes respect them. This process also keeps a set of its claims, and counts its pins.

A reader pins a block before the reader checks whether the block is present. An eviction first takes
the claim on the block, and then an exclusive lock on the byte that readers lock to pin the block.
So a block that is pinned and present stays.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator

from onefs.blocks.block_map import (
    MIXED_VERSIONS_MARKER,
    OPEN_LOCK_BYTE,
    PIN_LOCKS_START,
    BlockFile,
    PartialState,
)
from onefs.blocks.requests import Demand
from onefs.cache.folder import Place
from onefs.cache.sparse import disk_size
from onefs.cache.use_times import note_use
from onefs.errors import DeadlineExceeded, OnefsError
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset

#: records of the block map that are read together
RECORDS_PER_READ = 1024
#: seconds between two updates of the time of last use, while a partial file is being read
USE_NOTE_INTERVAL_SECONDS = 30.0
#: seconds after a read for which the reader still counts as busy
BUSY_SECONDS = 0.1
#: seconds between two attempts to pin a block that is being evicted
_PIN_RETRY_SECONDS = 0.002
#: longest wait in seconds for another process that is evicting a block. The wait must end, because
#: the other process may be suspended
EVICTION_WAIT_SECONDS = 10.0


class PartialFile:
    """The partial file of one dataset. Thread-safe.

    All readers of the dataset in this process share this object.
    """

    def __init__(
        self,
        dataset: Dataset,
        place: Place,
        blocks: BlockFile,
        condition: threading.Condition,
        *,
        shared: bool,
    ) -> None:
        self.dataset = dataset
        self.place = place
        self.block_file = blocks
        self.demand = Demand(condition)
        #: number of users (handles, requests, the verifier) that need the descriptors; guarded by
        #: the registry's lock
        self.user_count = 0
        #: when the file was opened (monotonic seconds)
        self.started_at = time.monotonic()
        #: when a reader last looked for blocks without waiting (monotonic seconds)
        self.last_read_at = 0.0
        #: why the file is bad, if this process rejected it
        self.rejection_reason = "the bytes are not those that the database describes"
        #: why the file was dropped
        self.drop_reason = "has changed on the server"
        #: the error of the last attempt to verify the file
        self.verify_error: OnefsError | None = None
        self._shared = shared
        self._lock = threading.Lock()
        self._verified = bytearray(blocks.block_count)
        self._claimed: set[int] = set()
        self._pin_counts: dict[int, int] = {}
        #: blocks that were present after they were pinned. Such blocks cannot be evicted
        self._pinned_present: set[int] = set()
        self._touched_at = -math.inf
        #: all blocks before this block were present when they were last checked
        self._present_up_to = 0
        self.try_lock_map(OPEN_LOCK_BYTE, shared=True)

    def is_sole_user(self) -> bool:
        """Whether this is the only object, in all processes, that has the partial file open."""
        return self.try_lock_map(OPEN_LOCK_BYTE)

    def touch(self) -> None:
        """Update the time of last use, which decides the order of eviction.

        The time is updated at most every USE_NOTE_INTERVAL_SECONDS.
        """
        now = time.monotonic()
        if now > self._touched_at + USE_NOTE_INTERVAL_SECONDS:
            self._touched_at = now
            header = self.block_file.folder / f"{self.dataset.id}.json"
            note_use(header, USE_NOTE_INTERVAL_SECONDS)

    def has_mixed_versions(self) -> bool:
        """Whether the blocks may come from different versions of the file on the servers.

        If this is true, the whole file must be verified before reading continues.
        """
        return MIXED_VERSIONS_MARKER in self.block_file.header.sources

    def is_readable(self) -> bool:
        """Whether the blocks that are present may be read now.

        Return False if the file has mixed versions and is not verified yet.
        """
        return not self.has_mixed_versions() or self.block_file.state() is PartialState.DONE

    def mark_mixed_versions(self) -> None:
        """Record that the blocks may come from different versions of the file.

        From then on, every process verifies the whole file before reading continues. The caller
        holds the dataset's lock.
        """
        self.block_file.record_source(MIXED_VERSIONS_MARKER, "yes", alone=False)

    def is_busy(self) -> bool:
        """Whether the file was read in the last BUSY_SECONDS, and all readers have the blocks they
        need."""
        return not self.demand.tickets and time.monotonic() < self.last_read_at + BUSY_SECONDS

    def block_range(self, offset: int, length: int) -> tuple[int, int]:
        """Return the first block of a byte range, and the block after the range's last block."""
        size = self.block_file.header.block_size
        return offset // size, -(-(offset + length) // size)

    def missing_blocks(self, first: int, last: int) -> list[int]:
        """Return the blocks of a range that are absent or have a wrong checksum.

        The range ends before ``last``. The caller has pinned the range.
        """
        if self._pinned_present.issuperset(range(first, last)):
            return []
        absent, present = [], []
        records = self.block_file.records(first, last)
        if any(record and not self._verified[first + i] for i, record in enumerate(records)):
            # another process may have recorded mixed versions, always before it recorded a block
            self.block_file.reload_header()
        # the checksum of each present block is verified once
        for block, record in enumerate(records, first):
            if not record:
                self._verified[block] = 0
                absent.append(block)
            elif not self._verified[block] and not self._verify_block(block, record):
                absent.append(block)
            else:
                present.append(block)
        self._note_pinned_present(present)
        return absent

    def note_present(self, first: int, last: int) -> None:
        """Note which blocks of a range are present, so that a read need not look again.

        The range ends before ``last``. The caller has pinned the range.
        """
        if not self._pinned_present.issuperset(range(first, last)):
            records = enumerate(self.block_file.records(first, last), first)
            self._note_pinned_present([n for n, record in records if record and self._verified[n]])

    def wanted_blocks(self) -> set[int]:
        """Return all blocks that readers of this process need.

        A reader waits for the block, or the block is being requested, or it is to be read ahead.
        """
        with self.demand.condition:
            wanted = set(self.demand.in_flight)
            for first, last in self.demand.wanted_ranges():
                wanted.update(range(first, last))
        return wanted

    def present_blocks(self) -> Iterator[int]:
        """Yield the blocks that have a record, in order."""
        count = self.block_file.block_count
        for start in range(0, count, RECORDS_PER_READ):
            records = self.block_file.records(start, min(start + RECORDS_PER_READ, count))
            yield from (block for block, record in enumerate(records, start) if record)

    def has_block(self, block: int) -> bool:
        """Whether a block was present and valid when this process last checked it."""
        return block < len(self._verified) and bool(self._verified[block])

    def pin(self, first: int, last: int) -> None:
        """Protect blocks from eviction. The blocks may be present or absent.

        Raises DeadlineExceeded if another process takes too long to evict one of the blocks.
        """
        if self._try_pin(first, last):
            return
        end = time.monotonic() + EVICTION_WAIT_SECONDS
        for block in range(first, last):
            while not self._try_pin(block, block + 1):
                if time.monotonic() > end:
                    self.unpin(first, block)
                    raise DeadlineExceeded(
                        f"{self.dataset.name}: another process has been removing a part of this "
                        f"file from the cache for {EVICTION_WAIT_SECONDS:g} s: try again"
                    )
                time.sleep(_PIN_RETRY_SECONDS)

    def unpin(self, first: int, last: int) -> None:
        """End one protection from eviction for each block from ``first`` to ``last`` (excluded)."""
        with self._lock:
            unpinned = []
            for block in range(first, last):
                self._pin_counts[block] -= 1
                if not self._pin_counts[block]:
                    del self._pin_counts[block]
                    self._pinned_present.discard(block)
                    unpinned.append(block)
            for start, end in contiguous_ranges(unpinned):
                self.unlock_map(PIN_LOCKS_START + start, end - start)

    def claim(self, first: int, last: int) -> tuple[int, int]:
        """Lock adjacent absent blocks in the range from ``first`` to ``last`` (excluded).

        Only this process then fetches these blocks. Return the first locked block, and the block
        after the last locked block. The two numbers are equal if no block was locked.
        """
        with self._lock:
            records = self.block_file.records(first, last)
            # present blocks at the beginning of the range are skipped
            start = next((first + i for i, record in enumerate(records) if not record), last)
            # end before a block that is present, or that another request has claimed
            for end in range(start, last):
                if records[end - first] or end in self._claimed:
                    last = end
                    break
            if start < last and self.try_lock_map(start, last - start):
                return start, self._keep_absent(start, last)
            end = start
            while end < last and self._try_claim(end):
                end += 1
            return start, end

    def claim_all_absent(self) -> list[int]:
        """Lock all absent blocks that are not locked yet, to fetch them. Return these blocks."""
        count, claimed = self.block_file.block_count, list[int]()
        for start in range(0, count, RECORDS_PER_READ):
            with self._lock:  # readers can pin blocks between two parts
                records = self.block_file.records(start, min(start + RECORDS_PER_READ, count))
                found = enumerate(records, start)
                absent = [n for n, record in found if not record and n not in self._claimed]
                for first, last in contiguous_ranges(absent):
                    claimed += self._claim_unlocked(first, last)
        return claimed

    def release_claims(self, blocks: Iterable[int]) -> None:
        """Release the claims (locks) on ``blocks``, so that other requests can fetch them."""
        with self._lock:
            released = sorted(blocks)
            self._claimed.difference_update(released)
            for start, end in contiguous_ranges(released):
                self.unlock_map(start, end - start)

    def mark_present(self, first: int, checksums: list[int]) -> None:
        """Record that fetched blocks are present, and release the locks on these blocks.

        ``checksums`` holds the crc32 of block ``first`` and of the blocks that follow.
        """
        self.block_file.set_records(first, checksums)
        last = first + len(checksums)
        with self._lock:
            self._verified[first:last] = b"\1" * len(checksums)
            self._pinned_present.update(self._pin_counts.keys() & range(first, last))
            self._claimed.difference_update(range(first, last))
            self.unlock_map(first, last - first)

    def evict_blocks(self, first: int, last: int) -> int:
        """Free the disk space of the blocks from ``first`` to ``last`` (excluded).

        Return the bytes of disk freed: 0 if one of the blocks is being read or fetched. The caller
        holds the dataset's lock. Raises OSError if the disk fails; then the blocks are still there.
        """
        count, held = last - first, (self._pin_counts, self._claimed)
        with self._lock:
            if any(block in each for each in held for block in range(first, last)):
                return 0
            if not self.try_lock_map(first, count):
                return 0
            try:
                if not self.try_lock_map(PIN_LOCKS_START + first, count):
                    return 0
                try:
                    return self._punch_blocks(first, last)
                finally:
                    self.unlock_map(PIN_LOCKS_START + first, count)
            finally:
                self.unlock_map(first, count)

    def _punch_blocks(self, first: int, last: int) -> int:
        records = self.block_file.records(first, last)
        present = [block for block, record in enumerate(records, first) if record]
        if not present:
            return 0
        spans = [self.block_file.span(block) for block in present]
        self.block_file.clear_records(first, last)
        self._verified[first:last] = bytes(last - first)
        try:
            if not punch_hole(self.block_file.data_fd, spans[0][0], spans[-1][1] - spans[0][0]):
                return 0
        except OSError:  # the bytes of the blocks are still on disk, and stay counted
            for block in present:
                self.block_file.set_records(block, [records[block - first] & 0xFFFFFFFF])
            raise
        return sum(disk_size(end - start) for start, end in spans)

    def _note_pinned_present(self, blocks: Iterable[int]) -> None:
        with self._lock:
            self._pinned_present.update(self._pin_counts.keys() & blocks)

    def _try_pin(self, first: int, last: int) -> bool:
        """Protect blocks from eviction, and return True.

        If one of the blocks is being evicted, protect no block and return False.
        """
        with self._lock:
            locked: list[tuple[int, int]] = []
            unpinned = [block for block in range(first, last) if block not in self._pin_counts]
            for start, end in contiguous_ranges(unpinned):
                if not self.try_lock_map(PIN_LOCKS_START + start, end - start, shared=True):
                    for done, done_end in locked:
                        self.unlock_map(PIN_LOCKS_START + done, done_end - done)
                    return False
                locked.append((start, end))
            for block in range(first, last):
                self._pin_counts[block] = self._pin_counts.get(block, 0) + 1
            return True

    def _keep_absent(self, first: int, last: int) -> int:
        """Claim locked blocks as far as they are absent, and unlock the others.

        Return the block after the last claimed block.
        """
        # read after locking: another process may have completed a block just before
        records = self.block_file.records(first, last)
        end = next((first + i for i, record in enumerate(records) if record), last)
        if end < last:
            self.unlock_map(end, last - end)
        self._claimed.update(range(first, end))
        return end

    def _claim_unlocked(self, first: int, last: int) -> list[int]:
        """Lock the absent blocks of a range that are not locked yet. Return these blocks."""
        is_locked = self.try_lock_map(first, last - first)
        end = self._keep_absent(first, last) if is_locked else first
        return [*range(first, end), *(n for n in range(end, last) if self._try_claim(n))]

    def _try_claim(self, block: int) -> bool:
        """Lock a block for fetching. Return False if the block is present or locked."""
        if block in self._claimed or not self.try_lock_map(block):
            return False
        return self._keep_absent(block, block + 1) > block

    def _verify_block(self, block: int, record: int) -> bool:
        """Verify a block that another process recorded. Return False if its checksum is wrong."""
        if self.block_file.is_block_valid(block, record):
            self._verified[block] = 1
            return True
        with self._lock:
            # the record of a block that is being fetched or evicted is not cleared
            if block in self._claimed or not self.try_lock_map(block):
                return False
            try:
                now = self.block_file.records(block, block + 1)[0]
                if now and not self.block_file.is_block_valid(block, now):
                    self.block_file.clear_records(block, block + 1)
            finally:
                self.unlock_map(block)
        return False

    def is_probably_complete(self) -> bool:
        """Whether every block was present when this process last read the block's record."""
        # called each time that blocks arrive: records of blocks that were present are not read
        # again
        count, seen = self.block_file.block_count, self._present_up_to
        while seen < count:
            records = self.block_file.records(seen, min(seen + RECORDS_PER_READ, count))
            present = next((i for i, record in enumerate(records) if not record), len(records))
            seen += present
            self._present_up_to = max(self._present_up_to, seen)
            if present < len(records):
                return False
        return True

    def try_lock_map(self, byte: int, count: int = 1, *, shared: bool = False) -> bool:
        """Lock bytes of the block map. Return False if another holder has locked one of them.

        A holder is another process, or another open file of this process.
        """
        # if processes do not share partial files, no lock is needed
        return not self._shared or try_lock(self.block_file.map_fd, byte, count, shared=shared)

    def unlock_map(self, byte: int, count: int = 1) -> None:
        """Unlock bytes of the block map that :meth:`try_lock_map` has locked."""
        if self._shared:
            unlock(self.block_file.map_fd, byte, count)


def contiguous_ranges(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Group sorted blocks into ranges of adjacent blocks.

    Each range is its first block and the block after its last block.
    """
    ranges: list[tuple[int, int]] = []
    for block in blocks:
        if ranges and ranges[-1][1] == block:
            ranges[-1] = (ranges[-1][0], block + 1)
        else:
            ranges.append((block, block + 1))
    return ranges
