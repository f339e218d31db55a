"""A partial file as this process uses it: verified blocks, claims and pins.

A block is held in two ways, each with a byte-range lock against other processes and a count of
this process's threads: by a *claim* (it is being fetched or evicted), and by a *pin* (it is being
read, and must not be evicted). A reader pins a block before it looks whether the block is present;
an eviction takes the claim and the pin exclusively first. So pinned blocks that are present stay.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable

from onefs.blocks.block_map import (
    MIXED_VERSIONS_MARKER,
    OPEN_LOCK_BYTE,
    PIN_LOCKS_START,
    BlockFile,
    PartialState,
)
from onefs.blocks.requests import Demand
from onefs.cache.folder import Place
from onefs.cache.use_times import note_use
from onefs.errors import DeadlineExceeded, OnefsError
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset

#: seconds between two notes that a partial file is in use
USE_NOTE_INTERVAL_SECONDS = 30.0
#: seconds after a read for which the reader counts as busy
BUSY_SECONDS = 0.1
#: seconds between two attempts to pin a block that is being evicted
_PIN_RETRY_SECONDS = 0.002
#: longest wait in seconds for the eviction of a block, whose process may be stopped
EVICTION_WAIT_SECONDS = 10.0


class PartialFile:
    """One dataset's partial file, shared by all its readers in this process. Thread-safe."""

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
        #: handles, requests and others that need the descriptors; guarded by the registry
        self.user_count = 0
        #: when the file was opened (monotonic seconds)
        self.started_at = time.monotonic()
        #: when blocks that were present were last read (monotonic seconds)
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
        #: pinned blocks that were found present after they were pinned, and so stay
        self._pinned_present: set[int] = set()
        self._touched_at = -math.inf
        #: blocks before this one were present at the last look
        self._present_up_to = 0
        self.try_lock_map(OPEN_LOCK_BYTE, shared=True)

    def is_sole_user(self) -> bool:
        """Whether no other open file, in this or another process, has it open."""
        return self.try_lock_map(OPEN_LOCK_BYTE)

    def touch(self) -> None:
        """Note that the file is being read, for the order of eviction."""
        now = time.monotonic()
        if now > self._touched_at + USE_NOTE_INTERVAL_SECONDS:
            self._touched_at = now
            header = self.block_file.folder / f"{self.dataset.id}.json"
            note_use(header, USE_NOTE_INTERVAL_SECONDS)

    def has_mixed_versions(self) -> bool:
        """Whether blocks may be of several versions, so that the whole file must be verified before
        more of it is read."""
        return MIXED_VERSIONS_MARKER in self.block_file.header.sources

    def is_readable(self) -> bool:
        """Whether blocks that are present may be read before the whole file is verified."""
        return not self.has_mixed_versions() or self.block_file.state() is PartialState.DONE

    def mark_mixed_versions(self) -> None:
        """Require, of all processes, that the whole file is verified before more of it is read.

        The caller holds the dataset's lock.
        """
        self.block_file.record_source(MIXED_VERSIONS_MARKER, "yes", alone=False)

    def is_busy(self) -> bool:
        """Whether it is being read, and no reader waits for a server."""
        return not self.demand.tickets and time.monotonic() < self.last_read_at + BUSY_SECONDS

    def block_range(self, offset: int, length: int) -> tuple[int, int]:
        """The first block of a byte range, and the one after its last."""
        size = self.block_file.header.block_size
        return offset // size, -(-(offset + length) // size)

    def missing_blocks(self, first: int, last: int) -> list[int]:
        """The absent blocks of a range; the other blocks' checksums have been verified.

        The caller has pinned the range.
        """
        if all(block in self._pinned_present for block in range(first, last)):
            return []
        absent = []
        for block, record in enumerate(self.block_file.records(first, last), first):
            if not record:
                self._verified[block] = 0
                absent.append(block)
            elif not self._verified[block] and not self._verify_block(block, record):
                absent.append(block)
            else:
                self._note_pinned_present(block)
        return absent

    def wanted_blocks(self) -> set[int]:
        """The blocks that readers of this process wait for, or are about to read."""
        with self.demand.condition:
            wanted = set(self.demand.in_flight)
            for ticket in self.demand.tickets:
                wanted.update(range(ticket.first, ticket.last))
            for window in self.demand.windows:
                wanted.update(range(*window.wanted_range()))
        return wanted

    def has_block(self, block: int) -> bool:
        """Whether a block was present and valid at the last look."""
        return block < len(self._verified) and bool(self._verified[block])

    def pin(self, first: int, last: int) -> None:
        """Protect blocks from eviction, whether they are present already or not.

        Raises DeadlineExceeded if another process takes too long to evict one of them.
        """
        if self._try_pin(first, last):
            return
        end = time.monotonic() + EVICTION_WAIT_SECONDS
        for block in range(first, last):
            while not self._try_pin(block, block + 1):
                if time.monotonic() > end:
                    self.unpin(first, block)
                    raise DeadlineExceeded(
                        f"{self.dataset.name}: another process has been evicting a block of it for "
                        f"{EVICTION_WAIT_SECONDS:g} s"
                    )
                time.sleep(_PIN_RETRY_SECONDS)

    def unpin(self, first: int, last: int) -> None:
        """Release one pin of each block."""
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
        """Claim adjacent absent blocks for fetching, as many as are not claimed already.

        Returns the first of them and the one after the last. Present blocks at the beginning of
        the range are skipped; an empty result means that the first absent block is claimed
        already.
        """
        with self._lock:
            records = self.block_file.records(first, last)
            start = next((first + i for i, record in enumerate(records) if not record), last)
            end = start
            while end < last and self._try_claim(end):
                end += 1
            return start, end

    def claim_all_absent(self) -> list[int]:
        """Claim every absent block of the file that is not claimed already."""
        with self._lock:
            return [block for block in range(self.block_file.block_count) if self._try_claim(block)]

    def release_claims(self, blocks: Iterable[int]) -> None:
        """Release claims."""
        with self._lock:
            released = sorted(blocks)
            self._claimed.difference_update(released)
            for start, end in contiguous_ranges(released):
                self.unlock_map(start, end - start)

    def mark_present(self, first: int, checksums: list[int]) -> None:
        """Record that claimed blocks, from ``first`` on, are present; release the claims."""
        self.block_file.set_records(first, checksums)
        last = first + len(checksums)
        with self._lock:
            for block in range(first, last):
                self._verified[block] = 1
                if block in self._pin_counts:
                    self._pinned_present.add(block)
                self._claimed.discard(block)
            self.unlock_map(first, last - first)

    def evict_block(self, block: int) -> bool:
        """Free a block's disk space, unless it is pinned or claimed; whether it was freed.

        The caller holds the dataset's lock. Raises OSError.
        """
        with self._lock:
            if block in self._pin_counts or block in self._claimed or not self.try_lock_map(block):
                return False
            try:
                if not self.try_lock_map(PIN_LOCKS_START + block):
                    return False
                try:
                    return self._punch_block(block)
                finally:
                    self.unlock_map(PIN_LOCKS_START + block)
            finally:
                self.unlock_map(block)

    def _punch_block(self, block: int) -> bool:
        record = self.block_file.records(block, block + 1)[0]
        if not record:
            return False
        start, end = self.block_file.span(block)
        self.block_file.clear_record(block)
        self._verified[block] = 0
        try:
            return punch_hole(self.block_file.data_fd, start, end - start)
        except OSError:  # the bytes are still on disk, and stay counted
            self.block_file.set_records(block, [record & 0xFFFFFFFF])
            raise

    def _note_pinned_present(self, block: int) -> None:
        with self._lock:
            if block in self._pin_counts:
                self._pinned_present.add(block)

    def _try_pin(self, first: int, last: int) -> bool:
        """Pin all of these blocks, or none of them."""
        with self._lock:
            locked: list[tuple[int, int]] = []
            for start, end in contiguous_ranges(
                b for b in range(first, last) if b not in self._pin_counts
            ):
                if not self.try_lock_map(PIN_LOCKS_START + start, end - start, shared=True):
                    for done, done_end in locked:
                        self.unlock_map(PIN_LOCKS_START + done, done_end - done)
                    return False
                locked.append((start, end))
            for block in range(first, last):
                self._pin_counts[block] = self._pin_counts.get(block, 0) + 1
            return True

    def _try_claim(self, block: int) -> bool:
        """Claim one block if it is absent. Its record is read with the lock held."""
        if block in self._claimed or not self.try_lock_map(block):
            return False
        if self.block_file.records(block, block + 1)[0]:
            self.unlock_map(block)
            return False
        self._claimed.add(block)
        return True

    def _verify_block(self, block: int, record: int) -> bool:
        """Verify a block that another process recorded; clear the record if it is wrong."""
        # another process marks mixed versions before it writes the record
        self.block_file.reload_header()
        if self.block_file.is_block_valid(block, record):
            self._verified[block] = 1
            return True
        with self._lock:
            if block in self._claimed or not self.try_lock_map(block):
                return False
            try:
                now = self.block_file.records(block, block + 1)[0]
                if now and not self.block_file.is_block_valid(block, now):
                    self.block_file.clear_record(block)
            finally:
                self.unlock_map(block)
        return False

    def is_probably_complete(self) -> bool:
        """Whether every block was present at the last look. Cheap: called at each arrival."""
        count, seen = self.block_file.block_count, self._present_up_to
        while seen < count:
            records = self.block_file.records(seen, min(seen + 1024, count))
            present = next((i for i, record in enumerate(records) if not record), len(records))
            seen += present
            self._present_up_to = max(self._present_up_to, seen)
            if present < len(records):
                return False
        return True

    def try_lock_map(self, byte: int, count: int = 1, *, shared: bool = False) -> bool:
        """Lock bytes of the block map; False if another open file has locked one of them."""
        return not self._shared or try_lock(self.block_file.map_fd, byte, count, shared=shared)

    def unlock_map(self, byte: int, count: int = 1) -> None:
        """Unlock bytes of the block map."""
        if self._shared:
            unlock(self.block_file.map_fd, byte, count)


def contiguous_ranges(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted blocks as ranges of adjacent ones: the first, and the one after the last."""
    ranges: list[tuple[int, int]] = []
    for block in blocks:
        if ranges and ranges[-1][1] == block:
            ranges[-1] = (ranges[-1][0], block + 1)
        else:
            ranges.append((block, block + 1))
    return ranges
