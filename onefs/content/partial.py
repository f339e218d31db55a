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

from onefs.content.blocks import (
    OPEN,
    PINS,
    TO_BE_PROVED,
    BlockFile,
    State,
)
from onefs.content.holes import punch
from onefs.content.lock import try_lock, unlock
from onefs.content.store import USED_EVERY, Place
from onefs.content.window import Window
from onefs.errors import DeadlineExceeded, OnefsError
from onefs.model import Dataset

if TYPE_CHECKING:
    from onefs.content.scheduler import Run

#: seconds after a read for which the reader is taken to be at it
BUSY = 0.1
#: seconds between two tries to pin a block that is being evicted at this moment
_EVICTING = 0.002
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
    windows: set[Window] = field(default_factory=set)
    #: the run that will bring a block, for each block that has one
    in_flight: dict[int, Run] = field(default_factory=dict)
    #: blocks that another process is fetching, and when to look at them again
    elsewhere: dict[int, float] = field(default_factory=dict)
    #: the last error, and until when it is the answer for everybody
    failure: tuple[OnefsError, float] | None = None
    #: the server does not do ranges: one run at a time, from the beginning
    whole_only: bool = False
    #: grows whenever something changes that a waiter may wait for
    changes: int = 0

    def changed(self) -> None:
        """Wake everybody who waits."""
        self.changes += 1
        self.condition.notify_all()


class Partial:
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
        self.blocks = blocks
        self.demand = Demand(condition)
        #: handles, runs and others that need the descriptors; guarded by the registry
        self.users = 0
        #: when the first block came, seconds of the monotonic clock
        self.began = time.monotonic()
        #: when somebody last read what was here already, on the same clock
        self.read_at = 0.0
        #: why it is bad, where this process found out
        self.reason = "the bytes are not those that the database describes"
        #: what has become of it, once it was given up
        self.gone = "has changed on the server"
        #: why it could not be verified, when that was last tried and has failed
        self.unverified: OnefsError | None = None
        self._shared = shared
        self._lock = threading.Lock()
        self._proved = bytearray(blocks.count)
        self._claimed: set[int] = set()
        self._pins: dict[int, int] = {}
        #: pinned blocks that were here when looked at since: nobody can have evicted them
        self._kept: set[int] = set()
        self._touched = 0.0
        #: blocks before this one were here when last looked at
        self._seen = 0
        self.take(OPEN, shared=True)

    def alone(self) -> bool:
        """Whether no other open file, here or in another process, has it open."""
        return self.take(OPEN)

    def touch(self) -> None:
        """Note that it is being read, for the order of eviction."""
        now = time.time()
        if now > self._touched + USED_EVERY:
            self._touched = now
            with suppress(OSError):
                os.utime(self.blocks.folder / f"{self.dataset.id}.json", (now, now))

    def is_to_be_proved(self) -> bool:
        """Whether the whole has to be verified before more of it is read."""
        return TO_BE_PROVED in self.blocks.about.sources

    def is_readable(self) -> bool:
        """Whether blocks that are here may be read: the file is proved, or need not be."""
        return not self.is_to_be_proved() or self.blocks.state() is State.DONE

    def prove_first(self) -> None:
        """Have the whole verified before more of it is read, here and in other processes.

        The caller holds the dataset's lock.
        """
        self.blocks.name_source(TO_BE_PROVED, "yes", alone=False)

    def is_busy(self) -> bool:
        """Whether it is being read as fast as readers can, with nobody waiting for a server."""
        return not self.demand.tickets and time.monotonic() < self.read_at + BUSY

    def blocks_of(self, offset: int, length: int) -> tuple[int, int]:
        """First block of some bytes, and the one after their last."""
        size = self.blocks.about.block_size
        return offset // size, -(-(offset + length) // size)

    def missing(self, first: int, last: int) -> list[int]:
        """The blocks of a range that are not here; those that are have been proved.

        The caller has pinned them.
        """
        if all(block in self._kept for block in range(first, last)):
            return []
        absent = []
        for block, record in enumerate(self.blocks.records(first, last), first):
            if not record:
                self._proved[block] = 0
                absent.append(block)
            elif not self._proved[block] and not self._prove(block, record):
                absent.append(block)
            else:
                self._keep(block)
        return absent

    def wanted_blocks(self) -> set[int]:
        """The blocks that our own readers wait for, or will want soon."""
        with self.demand.condition:
            wanted = set(self.demand.in_flight)
            for ticket in self.demand.tickets:
                wanted.update(range(ticket.first, ticket.last))
            for window in self.demand.windows:
                wanted.update(range(*window.wanted()))
        return wanted

    def has(self, block: int) -> bool:
        """Whether a block was here when last looked at."""
        return block < len(self._proved) and bool(self._proved[block])

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
                time.sleep(_EVICTING)

    def unpin(self, first: int, last: int) -> None:
        """Let go of a pin."""
        with self._lock:
            free = []
            for block in range(first, last):
                self._pins[block] -= 1
                if not self._pins[block]:
                    del self._pins[block]
                    self._kept.discard(block)
                    free.append(block)
            for start, end in stretches(free):
                self.free(PINS + start, end - start)

    def claim(self, first: int, last: int) -> tuple[int, int]:
        """Claim absent blocks for fetching: the first stretch of a range that nobody else has.

        Blocks that are here are skipped at the front; an empty stretch means that the first
        absent one is somebody else's.
        """
        with self._lock:
            records = self.blocks.records(first, last)
            start = next((first + i for i, record in enumerate(records) if not record), last)
            end = start
            while end < last and self._claim(end):
                end += 1
            return start, end

    def claim_scattered(self) -> list[int]:
        """Claim every absent block of the file that nobody else has."""
        with self._lock:
            return [block for block in range(self.blocks.count) if self._claim(block)]

    def release(self, blocks: Iterable[int]) -> None:
        """Give claims up."""
        with self._lock:
            given = sorted(blocks)
            self._claimed.difference_update(given)
            for start, end in stretches(given):
                self.free(start, end - start)

    def arrived(self, first: int, checksums: list[int]) -> None:
        """The bytes of claimed blocks, from ``first`` on, are in the data file: tell everybody."""
        self.blocks.set_records(first, checksums)
        last = first + len(checksums)
        with self._lock:
            for block in range(first, last):
                self._proved[block] = 1
                if block in self._pins:
                    self._kept.add(block)
                self._claimed.discard(block)
            self.free(first, last - first)

    def evict(self, block: int) -> bool:
        """Give back a block's disk space, unless somebody reads, fetches or evicts it.

        The caller holds the dataset's lock. Raises OSError.
        """
        with self._lock:
            if block in self._pins or block in self._claimed or not self.take(block):
                return False
            try:
                if not self.take(PINS + block):
                    return False
                try:
                    return self._punch(block)
                finally:
                    self.free(PINS + block)
            finally:
                self.free(block)

    def _punch(self, block: int) -> bool:
        record = self.blocks.records(block, block + 1)[0]
        if not record:
            return False
        start, end = self.blocks.span(block)
        self.blocks.clear(block)
        self._proved[block] = 0
        try:
            return punch(self.blocks.data, start, end - start)
        except OSError:  # the bytes are still there, and count
            self.blocks.set_records(block, [record & 0xFFFFFFFF])
            raise

    def _keep(self, block: int) -> None:
        with self._lock:
            if block in self._pins:
                self._kept.add(block)

    def _try_pin(self, first: int, last: int) -> bool:
        """Pin all of these blocks, or none."""
        with self._lock:
            taken: list[tuple[int, int]] = []
            for start, end in stretches(b for b in range(first, last) if b not in self._pins):
                if not self.take(PINS + start, end - start, shared=True):
                    for mine, mine_end in taken:
                        self.free(PINS + mine, mine_end - mine)
                    return False
                taken.append((start, end))
            for block in range(first, last):
                self._pins[block] = self._pins.get(block, 0) + 1
            return True

    def _claim(self, block: int) -> bool:
        """Claim one block; its record is read again once nobody else can write it."""
        if block in self._claimed or not self.take(block):
            return False
        if self.blocks.records(block, block + 1)[0]:
            self.free(block)
            return False
        self._claimed.add(block)
        return True

    def _prove(self, block: int, record: int) -> bool:
        """Believe a record that somebody else wrote, or strike it out."""
        self.blocks.refresh()  # whether the file is to be proved was noted before the record
        if self.blocks.proves(block, record):
            self._proved[block] = 1
            return True
        with self._lock:
            if block in self._claimed or not self.take(block):
                return False
            try:
                now = self.blocks.records(block, block + 1)[0]
                if now and not self.blocks.proves(block, now):
                    self.blocks.clear(block)
            finally:
                self.free(block)
        return False

    def may_be_complete(self) -> bool:
        """Whether every block was here when last looked at; cheap, asked at each arrival."""
        count, seen = self.blocks.count, self._seen
        while seen < count:
            records = self.blocks.records(seen, min(seen + 1024, count))
            here = next((i for i, record in enumerate(records) if not record), len(records))
            seen += here
            self._seen = max(self._seen, seen)
            if here < len(records):
                return False
        return True

    def take(self, byte: int, count: int = 1, *, shared: bool = False) -> bool:
        """Lock bytes of the map, or say that somebody else has one of them."""
        return not self._shared or try_lock(self.blocks.map, byte, count, shared=shared)

    def free(self, byte: int, count: int = 1) -> None:
        """Unlock bytes of the map."""
        if self._shared:
            unlock(self.blocks.map, byte, count)


def stretches(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted blocks as ranges of neighbours: first, and the one after the last."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return found
