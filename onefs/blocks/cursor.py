"""Read cursor: the reads of one open dataset from its partial file.

A read waits until its blocks are present, and pins these blocks: they are not evicted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onefs.blocks.block_map import PartialState
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.readahead import MAX_REQUEST_BYTES, Readahead
from onefs.blocks.requests import Ticket
from onefs.blocks.scheduler import FETCHED_ELSEWHERE_RECHECK_SECONDS, Scheduler
from onefs.download.hosts import CircuitOpen, Hosts
from onefs.download.sources.interface import RemoteFileChanged
from onefs.errors import BadContent, DeadlineExceeded, OnefsError, copy_error

#: bytes of adjacent blocks that are pinned together, so that few reads need a lock
PIN_GROUP_BYTES = 512 << 10
#: number of groups that stay pinned after other groups are read
RECENT_PINNED_GROUPS = 2
#: seconds between two checks whether a waiting reader has reached its deadline
STALL_CHECK_SECONDS = 0.25


@dataclass
class _PinnedRange:
    """Groups of blocks that one thread protects from eviction: from ``first`` to ``last``
    (excluded)."""

    first: int
    last: int


class ReadCursor:
    """The reads of one open dataset from its partial file. Thread-safe.

    The blocks of a read cannot be evicted until the same thread reads again or the cursor is
    closed.

    - ``stall``: seconds without progress after which a read fails
    - ``max_readahead``: returns the longest read-ahead in bytes
    - ``can_read_ahead``: returns True if the given number of bytes may be read ahead
    """

    def __init__(
        self,
        partial: PartialFile,
        scheduler: Scheduler,
        hosts: Hosts,
        stall: float,
        max_readahead: Callable[[], int],
        can_read_ahead: Callable[[int], bool],
    ) -> None:
        self.partial = partial
        #: True after bytes were served. Then no bytes of a later version of the file may be served
        self.has_served_bytes = False
        self._scheduler = scheduler
        self._hosts = hosts
        self._stall = stall
        self._can_read_ahead = can_read_ahead
        self._lock = threading.Lock()
        block_count, block_size = (
            partial.block_file.block_count,
            partial.block_file.header.block_size,
        )
        self._group_size = max(1, PIN_GROUP_BYTES // block_size)
        self._block_count = block_count
        #: the groups of each thread's last read. They can be unpinned at its next read, because a
        #: thread of libfuse sends the bytes of one request before it takes the next request
        self._pinned_by_thread: dict[int, _PinnedRange] = {}
        #: the groups that were read last. These groups stay pinned, because another thread may soon
        #: read the same group
        self._recent_groups: list[int] = []
        about = partial.block_file.header
        self._readahead = Readahead(about.size, about.block_size, max_readahead)
        with scheduler.lock:
            partial.demand.readaheads.add(self._readahead)

    @property
    def fd(self) -> int:
        """Return the descriptor of the data file, which is valid until the cursor is closed."""
        return self.partial.block_file.data_fd

    def pin_if_present(self, offset: int, length: int) -> bool:
        """Protect a range of bytes from eviction. Return True if the range can be read now.

        Does not wait. Return False if a block of the range is absent, or if the whole file must be
        verified first. Raises BadContent if the file contradicts the database. Raises
        RemoteFileChanged if the file must be opened again.
        """
        first, last = self.partial.block_range(offset, length)
        self._check_state()
        self._pin_for_thread(first, last)
        self.partial.last_read_at = time.monotonic()
        if self.partial.missing_blocks(first, last) or not self.partial.is_readable():
            return False
        self.has_served_bytes = True
        self._read_ahead(offset, length)
        return True

    def wait_readable(self, offset: int, length: int) -> bool:
        """Wait until bytes can be read. Return False if the whole file must be verified first.

        Raises BadContent if the file contradicts the database. Raises RemoteFileChanged if the file
        must be opened again. Raises DeadlineExceeded if no block arrives for ``stall`` seconds.
        Also raises the errors of :meth:`Scheduler.request`.
        """
        if not self._pin_and_wait(offset, length, unverified=False):
            return False
        self.has_served_bytes = True
        return True

    def wait_unverified(self, offset: int, length: int) -> None:
        """Wait until bytes are present, even if the whole file must be verified before reading.

        Raises the errors of :meth:`wait_readable`.
        """
        self._pin_and_wait(offset, length, unverified=True)

    def _pin_and_wait(self, offset: int, length: int, *, unverified: bool) -> bool:
        first, last = self.partial.block_range(offset, length)
        self._pin_for_thread(first, last)
        demand = self.partial.demand
        ticket = Ticket(first, last)
        # added before the read-ahead, which requests these blocks too, and may be cancelled
        with self._scheduler.lock:
            demand.tickets.add(ticket)
        try:
            self._read_ahead(offset, length, self.partial.missing_blocks(first, last))
            try:
                is_readable = self._wait_for_ticket(ticket, unverified=unverified)
            except CircuitOpen:
                self._hosts.wait_for_probe(self.partial.dataset.replicas)
                ticket.error = None
                is_readable = self._wait_for_ticket(ticket, unverified=unverified)
        finally:
            with self._scheduler.lock:
                demand.tickets.discard(ticket)
                self._scheduler.cancel_unwanted(self.partial)
        return is_readable

    def expect_whole_file(self) -> None:
        """Read ahead as far as the space allows from now on, because all blocks are needed."""
        self._readahead.is_whole = True

    def close(self) -> None:
        """Allow the eviction of all blocks again, and stop read-ahead."""
        with self._scheduler.lock:
            self.partial.demand.readaheads.discard(self._readahead)
            self._scheduler.cancel_unwanted(self.partial)
        with self._lock:
            all_pinned = list(self._pinned_by_thread.values())
            recent, self._recent_groups = self._recent_groups, []
            self._pinned_by_thread.clear()
        for pinned in all_pinned:
            self.partial.unpin(*self._blocks_of(pinned.first, pinned.last))
        for group in recent:
            self.partial.unpin(*self._blocks_of(group, group + 1))

    def _wait_for_ticket(self, ticket: Ticket, *, unverified: bool) -> bool:
        """Wait until the blocks that ``ticket`` asks for are present, and return True.

        If the whole file must be verified before reading, return False at once. With
        ``unverified``, wait for the blocks of such a file too.
        """
        demand = self.partial.demand
        progress_at, left = time.monotonic(), ticket.last - ticket.first
        while True:
            change_count = demand.change_count
            self._check_state()
            missing = self.partial.missing_blocks(ticket.first, ticket.last)
            if not unverified and not self.partial.is_readable():
                return False
            if not missing:
                return True
            if len(missing) < left:
                progress_at, left = time.monotonic(), len(missing)
            with self._scheduler.lock:
                if ticket.error is not None:
                    raise copy_error(ticket.error)
                self._scheduler.request(self.partial, missing)
                latest = max(progress_at, self._scheduler.last_progress(self.partial, missing))
                due = latest + self._stall - time.monotonic()
                if due <= 0:
                    raise self._deadline_error(missing)
                if demand.change_count == change_count:
                    elsewhere = any(block not in demand.in_flight for block in missing)
                    demand.condition.wait(
                        min(
                            due,
                            FETCHED_ELSEWHERE_RECHECK_SECONDS if elsewhere else STALL_CHECK_SECONDS,
                        )
                    )

    def _deadline_error(self, missing: list[int]) -> OnefsError:
        """Return the error for a reader that has waited too long for the ``missing`` blocks.

        This is the last error of a running request for these blocks, or else a DeadlineExceeded.
        """
        name = self.partial.dataset.name
        error: OnefsError = DeadlineExceeded(
            f"no data of the file {name} has arrived for {self._stall:g} s: check the network, and "
            "try again"
        )
        for block in missing:
            request = self.partial.demand.in_flight.get(block)
            if request is not None and request.running:
                self._hosts.note_timeout(request.url)
                error = copy_error(request.last_error) if request.last_error is not None else error
        return error

    def _check_state(self) -> None:
        state = self.partial.block_file.recent_state()
        if state is PartialState.BAD:
            raise BadContent(f"{self.partial.dataset.name}: {self.partial.rejection_reason}")
        if state is PartialState.GONE:
            raise RemoteFileChanged(
                f"the file {self.partial.dataset.name} {self.partial.drop_reason}: open the file "
                "again"
            )

    def _pin_for_thread(self, first: int, last: int) -> None:
        """Protect the blocks of a read from eviction, until the next read of the same thread."""
        first_group, last_group = first // self._group_size, -(-last // self._group_size)
        thread = threading.get_ident()
        with self._lock:
            before = self._pinned_by_thread.get(thread)
        # the last read has pinned all these blocks already
        if before is not None and before.first <= first_group and last_group <= before.last:
            return
        self._pin_recent(last_group - 1)
        blocks = self._blocks_of(first_group, last_group)
        self.partial.pin(*blocks)
        with self._lock:
            self._pinned_by_thread[thread] = _PinnedRange(first_group, last_group)
        if before is not None:
            self.partial.unpin(*self._blocks_of(before.first, before.last))
        # last, because it may fail: the blocks above are unpinned all the same when they are due
        self.partial.note_present(*blocks)

    def _pin_recent(self, group: int) -> None:
        """Protect a group of blocks from eviction even after its read has ended.

        Only the last RECENT_PINNED_GROUPS such groups are protected.
        """
        if group in self._recent_groups:
            return
        # two threads may pin the same group at the same time without harm
        self.partial.pin(*self._blocks_of(group, group + 1))
        with self._lock:
            self._recent_groups.append(group)
            old = (
                self._recent_groups.pop(0)
                if len(self._recent_groups) > RECENT_PINNED_GROUPS
                else None
            )
        if old is not None:
            self.partial.unpin(*self._blocks_of(old, old + 1))

    def _blocks_of(self, first_group: int, last_group: int) -> tuple[int, int]:
        """Return the blocks of groups: the first block, and the block after the last block."""
        size = self._group_size
        return first_group * size, min(last_group * size, self._block_count)

    def _read_ahead(self, offset: int, length: int, missing: Sequence[int] = ()) -> None:
        """Request what the read-ahead plans after a read, whose ``missing`` blocks are absent."""
        with self._readahead.lock:
            window = self._readahead.advance(offset, length)
            if (lost := self._first_unrequested(missing)) is not None:
                window.note_lost(lost, offset + length)
        window.find_limit()  # without locks, which readers of other files may need
        with self._readahead.lock:
            is_new, has_requests = window.is_new, window.has_requests()
        # most reads change no request, so that they need not wait for the scheduler
        if has_requests and self._can_read_ahead(MAX_REQUEST_BYTES):
            with self._scheduler.lock:
                self._scheduler.fetch_ahead(self.partial, window)
        elif is_new and self.partial.demand.in_flight:
            with self._scheduler.lock:
                self._scheduler.cancel_unwanted(self.partial)
        self.partial.touch()

    def _first_unrequested(self, blocks: Sequence[int]) -> int | None:
        """Return the first of these blocks that no request of any process is for."""
        # without the scheduler's lock: a block that is requested now is not requested twice
        demand, now = self.partial.demand, time.monotonic()
        return next(
            (
                block
                for block in blocks
                if block not in demand.in_flight and demand.fetched_elsewhere.get(block, 0.0) <= now
            ),
            None,
        )
