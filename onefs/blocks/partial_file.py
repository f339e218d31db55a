"""A partial file as this process sees it: proved blocks, claims, pins, and who waits for what.

Two kinds of hold on a block, each a byte-range lock for other processes and a count for our own
threads: a *claim* (we are fetching it, or evicting it), and a *pin* (somebody reads it: it is
not to be evicted). A reader pins first and looks afterwards; who evicts takes claim and pin for
itself first. So bytes that a reader has been promised stay where they are.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onefs.blocks.block_file import (
    MIXED_VERSIONS_MARKER,
    OPEN_LOCK_BYTE,
    PIN_LOCKS_START,
    BlockFile,
    PartialState,
)
from onefs.blocks.readahead import ReadaheadWindow
from onefs.cache.store import USE_NOTE_INTERVAL_SECONDS, Place
from onefs.errors import DeadlineExceeded, OnefsError
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset

if TYPE_CHECKING:
    from onefs.blocks.scheduler import BlockRequest

#: seconds after a read for which the reader is taken to be at it
BUSY_SECONDS = 0.1
#: seconds between two tries to pin a block that is being evicted at this moment
_PIN_RETRY_SECONDS = 0.002
#: seconds that evicting a block may take: another process that stands still may hold its lock
EVICTION_WAIT_SECONDS = 10.0


@dataclass(eq=False)
class Ticket:
    """Somebody waits for the blocks from ``first`` to ``last``, this one not included."""

    first: int
    last: int
    #: why they will not come
    error: OnefsError | None = None


@dataclass
class Demand:
    """What is asked of a partial file, and what is under way. Guarded by the scheduler's lock."""

    condition: threading.Condition
    tickets: set[Ticket] = field(default_factory=set)
    windows: set[ReadaheadWindow] = field(default_factory=set)
    #: the run that will bring a block, for each block that has one
    in_flight: dict[int, BlockRequest] = field(default_factory=dict)
    #: blocks that another process is fetching, and when to look at them again
    fetched_elsewhere: dict[int, float] = field(default_factory=dict)
    #: the last error, and until when it is the answer for everybody
    last_failure: tuple[OnefsError, float] | None = None
    #: the server does not do ranges: one run at a time, from the beginning
    without_ranges: bool = False
    #: grows whenever something changes that a waiter may wait for
    change_count: int = 0

    def notify_waiters(self) -> None:
        """Wake everybody who waits."""
        self.change_count += 1
        self.condition.notify_all()


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
        #: handles, runs and others that need the descriptors; guarded by the registry
        self.user_count = 0
        #: when the first block came, seconds of the monotonic clock
        self.started_at = time.monotonic()
        #: when somebody last read what was here already, on the same clock
        self.last_read_at = 0.0
        #: why it is bad, where this process found out
        self.rejection_reason = "the bytes are not those that the database describes"
        #: what has become of it, once it was given up
        self.drop_reason = "has changed on the server"
        #: why it could not be verified, when that was last tried and has failed
        self.verify_error: OnefsError | None = None
        self._shared = shared
        self._lock = threading.Lock()
        self._verified = bytearray(blocks.block_count)
        self._claimed: set[int] = set()
        self._pin_counts: dict[int, int] = {}
        #: pinned blocks that were here when looked at since: nobody can have evicted them
        self._pinned_present: set[int] = set()
        self._touched_at = 0.0
        #: blocks before this one were here when last looked at
        self._present_up_to = 0
        self.try_lock_map(OPEN_LOCK_BYTE, shared=True)

    def is_sole_user(self) -> bool:
        """Whether no other open file, here or in another process, has it open."""
        return self.try_lock_map(OPEN_LOCK_BYTE)

    def touch(self) -> None:
        """Note that it is being read, for the order of eviction."""
        now = time.time()
        if now > self._touched_at + USE_NOTE_INTERVAL_SECONDS:
            self._touched_at = now
            with suppress(OSError):
                os.utime(self.block_file.folder / f"{self.dataset.id}.json", (now, now))

    def has_mixed_versions(self) -> bool:
        """Whether the whole has to be verified before more of it is read."""
        return MIXED_VERSIONS_MARKER in self.block_file.header.sources

    def is_readable(self) -> bool:
        """Whether blocks that are here may be read: the file is proved, or need not be."""
        return not self.has_mixed_versions() or self.block_file.state() is PartialState.DONE

    def mark_mixed_versions(self) -> None:
        """Have the whole verified before more of it is read, here and in other processes.

        The caller holds the dataset's lock.
        """
        self.block_file.record_source(MIXED_VERSIONS_MARKER, "yes", alone=False)

    def is_busy(self) -> bool:
        """Whether it is being read as fast as readers can, with nobody waiting for a server."""
        return not self.demand.tickets and time.monotonic() < self.last_read_at + BUSY_SECONDS

    def block_range(self, offset: int, length: int) -> tuple[int, int]:
        """First block of some bytes, and the one after their last."""
        size = self.block_file.header.block_size
        return offset // size, -(-(offset + length) // size)

    def missing_blocks(self, first: int, last: int) -> list[int]:
        """The blocks of a range that are not here; those that are have been proved.

        The caller has pinned them.
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
        """The blocks that our own readers wait for, or will want soon."""
        with self.demand.condition:
            wanted = set(self.demand.in_flight)
            for ticket in self.demand.tickets:
                wanted.update(range(ticket.first, ticket.last))
            for window in self.demand.windows:
                wanted.update(range(*window.wanted_range()))
        return wanted

    def has_block(self, block: int) -> bool:
        """Whether a block was here when last looked at."""
        return block < len(self._verified) and bool(self._verified[block])

    def pin(self, first: int, last: int) -> None:
        """Keep these blocks from being evicted, whether they are here already or not.

        Raises DeadlineExceeded when another process does not end evicting one of them.
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
        """Let go of a pin."""
        with self._lock:
            free = []
            for block in range(first, last):
                self._pin_counts[block] -= 1
                if not self._pin_counts[block]:
                    del self._pin_counts[block]
                    self._pinned_present.discard(block)
                    free.append(block)
            for start, end in contiguous_ranges(free):
                self.unlock_map(PIN_LOCKS_START + start, end - start)

    def claim(self, first: int, last: int) -> tuple[int, int]:
        """Claim absent blocks for fetching: the first stretch of a range that nobody else has.

        Blocks that are here are skipped at the front; an empty stretch means that the first
        absent one is somebody else's.
        """
        with self._lock:
            records = self.block_file.records(first, last)
            start = next((first + i for i, record in enumerate(records) if not record), last)
            end = start
            while end < last and self._try_claim(end):
                end += 1
            return start, end

    def claim_all_absent(self) -> list[int]:
        """Claim every absent block of the file that nobody else has."""
        with self._lock:
            return [block for block in range(self.block_file.block_count) if self._try_claim(block)]

    def release_claims(self, blocks: Iterable[int]) -> None:
        """Give claims up."""
        with self._lock:
            given = sorted(blocks)
            self._claimed.difference_update(given)
            for start, end in contiguous_ranges(given):
                self.unlock_map(start, end - start)

    def mark_present(self, first: int, checksums: list[int]) -> None:
        """The bytes of claimed blocks, from ``first`` on, are in the data file: tell everybody."""
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
        """Give back a block's disk space, unless somebody reads, fetches or evicts it.

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
        except OSError:  # the bytes are still there, and count
            self.block_file.set_records(block, [record & 0xFFFFFFFF])
            raise

    def _note_pinned_present(self, block: int) -> None:
        with self._lock:
            if block in self._pin_counts:
                self._pinned_present.add(block)

    def _try_pin(self, first: int, last: int) -> bool:
        """Pin all of these blocks, or none."""
        with self._lock:
            taken: list[tuple[int, int]] = []
            for start, end in contiguous_ranges(
                b for b in range(first, last) if b not in self._pin_counts
            ):
                if not self.try_lock_map(PIN_LOCKS_START + start, end - start, shared=True):
                    for mine, mine_end in taken:
                        self.unlock_map(PIN_LOCKS_START + mine, mine_end - mine)
                    return False
                taken.append((start, end))
            for block in range(first, last):
                self._pin_counts[block] = self._pin_counts.get(block, 0) + 1
            return True

    def _try_claim(self, block: int) -> bool:
        """Claim one block; its record is read again once nobody else can write it."""
        if block in self._claimed or not self.try_lock_map(block):
            return False
        if self.block_file.records(block, block + 1)[0]:
            self.unlock_map(block)
            return False
        self._claimed.add(block)
        return True

    def _verify_block(self, block: int, record: int) -> bool:
        """Believe a record that somebody else wrote, or strike it out."""
        # whether the file must be verified was noted before the record
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
        """Whether every block was here when last looked at; cheap, asked at each arrival."""
        count, seen = self.block_file.block_count, self._present_up_to
        while seen < count:
            records = self.block_file.records(seen, min(seen + 1024, count))
            here = next((i for i, record in enumerate(records) if not record), len(records))
            seen += here
            self._present_up_to = max(self._present_up_to, seen)
            if here < len(records):
                return False
        return True

    def try_lock_map(self, byte: int, count: int = 1, *, shared: bool = False) -> bool:
        """Lock bytes of the map, or say that somebody else has one of them."""
        return not self._shared or try_lock(self.block_file.map_fd, byte, count, shared=shared)

    def unlock_map(self, byte: int, count: int = 1) -> None:
        """Unlock bytes of the map."""
        if self._shared:
            unlock(self.block_file.map_fd, byte, count)


def contiguous_ranges(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted blocks as ranges of neighbours: first, and the one after the last."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return found
