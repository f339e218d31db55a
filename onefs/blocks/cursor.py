"""One open handle on a partial file: waits for its bytes and keeps them where they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from onefs.blocks.block_file import PartialState
from onefs.blocks.partial_file import PartialFile, Ticket
from onefs.blocks.readahead import MAX_REQUEST_BYTES, ReadaheadWindow
from onefs.blocks.scheduler import FETCHED_ELSEWHERE_RECHECK_SECONDS, Scheduler
from onefs.download.hosts import CircuitOpen, Hosts
from onefs.download.responses import RemoteFileChanged
from onefs.errors import BadContent, DeadlineExceeded, OnefsError, copy_error

#: places of one file that are followed at once: threads of one reader, or a page here and there
MAX_WINDOWS = 4
#: blocks that stay pinned a little longer than for one read
RECENT_PINNED_BLOCKS = 2
#: seconds after which a waiter looks whether its deadline has passed
STALL_CHECK_SECONDS = 0.25


@dataclass
class _PinnedRange:
    """Blocks that one thread has pinned: from ``first`` to ``last``, this one not included."""

    first: int
    last: int
    #: they are here, and so they stay
    is_present: bool = False


class ReadCursor:
    """What one handle reads of a partial file. Thread-safe.

    Bytes that were promised stay: each thread's last read is pinned until the same thread reads
    again or the handle is closed. (libfuse sends a read's bytes from the thread that was promised
    them, before it takes the next request.)
    """

    def __init__(
        self,
        partial: PartialFile,
        scheduler: Scheduler,
        hosts: Hosts,
        stall: float,
        farthest: Callable[[], int],
        may_fetch: Callable[[int], bool] = lambda size: True,
    ) -> None:
        self.partial = partial
        #: bytes were handed out: from here on only this generation will do
        self.has_served_bytes = False
        self._scheduler = scheduler
        self._hosts = hosts
        self._stall = stall
        self._max_readahead = farthest
        self._can_fetch_ahead = may_fetch
        self._lock = threading.Lock()
        self._pinned_by_thread: dict[int, _PinnedRange] = {}
        #: the last blocks that were read, pinned too: threads take turns on them
        self._recent_blocks: list[int] = []
        self._windows: list[ReadaheadWindow] = []

    @property
    def fd(self) -> int:
        """The descriptor that holds the bytes, good until the handle is closed."""
        return self.partial.block_file.data_fd

    def pin_if_present(self, offset: int, length: int) -> bool:
        """Whether these bytes are here; if so they stay. Raises BadContent or Changed."""
        first, last = self.partial.block_range(offset, length)
        self._check_state()
        hold = self._pin_for_thread(first, last)
        self.partial.last_read_at = time.monotonic()
        if hold.is_present and self.partial.is_readable():
            return True
        if self.partial.missing_blocks(first, last) or not self.partial.is_readable():
            return False
        hold.is_present = self.has_served_bytes = True
        self._read_ahead(offset, length)
        return True

    def wait_readable(self, offset: int, length: int) -> bool:
        """Wait until these bytes are here; False when the whole file has to be proved first.

        For as long as blocks keep coming: raises DeadlineExceeded after ``stall`` seconds in which
        none of them came, else what the scheduler or the file server has to say.
        """
        hold = self._pin_and_wait(offset, length, unproved=False)
        if hold is None:
            return False
        hold.is_present = self.has_served_bytes = True
        return True

    def wait_unverified(self, offset: int, length: int) -> None:
        """Wait for bytes as :meth:`wait` does, though they may not be read before the whole is."""
        self._pin_and_wait(offset, length, unproved=True)

    def _pin_and_wait(self, offset: int, length: int, *, unproved: bool) -> _PinnedRange | None:
        first, last = self.partial.block_range(offset, length)
        hold = self._pin_for_thread(first, last)
        self._read_ahead(offset, length)
        demand = self.partial.demand
        ticket = Ticket(first, last)
        with self._scheduler.lock:
            demand.tickets.add(ticket)
        try:
            try:
                here = self._wait_for_ticket(ticket, unproved=unproved)
            except CircuitOpen:
                self._hosts.wait_for_probe(self.partial.dataset.replicas)
                ticket.error = None
                here = self._wait_for_ticket(ticket, unproved=unproved)
        finally:
            with self._scheduler.lock:
                demand.tickets.discard(ticket)
                self._scheduler.cancel_unwanted(self.partial)
        return hold if here else None

    def close(self) -> None:
        """Let go of everything."""
        with self._scheduler.lock:
            self.partial.demand.windows.difference_update(self._windows)
            self._scheduler.cancel_unwanted(self.partial)
        with self._lock:
            held = list(self._pinned_by_thread.values())
            recent, self._recent_blocks = self._recent_blocks, []
            self._pinned_by_thread.clear()
        for hold in held:
            self.partial.unpin(hold.first, hold.last)
        for block in recent:
            self.partial.unpin(block, block + 1)

    def _wait_for_ticket(self, ticket: Ticket, *, unproved: bool) -> bool:
        """Wait for the blocks of a ticket; False when they may not be read unproved."""
        demand = self.partial.demand
        got_on, left = time.monotonic(), ticket.last - ticket.first
        while True:
            seen = demand.change_count
            self._check_state()
            missing = self.partial.missing_blocks(ticket.first, ticket.last)
            if not unproved and not self.partial.is_readable():
                return False
            if not missing:
                return True
            if len(missing) < left:
                got_on, left = time.monotonic(), len(missing)
            with self._scheduler.lock:
                if ticket.error is not None:
                    raise copy_error(ticket.error)
                self._scheduler.request(self.partial, ticket, missing)
                moved = max(got_on, self._scheduler.last_progress(self.partial, missing))
                due = moved + self._stall - time.monotonic()
                if due <= 0:
                    raise self._deadline_error(missing)
                if demand.change_count == seen:
                    elsewhere = any(block not in demand.in_flight for block in missing)
                    demand.condition.wait(
                        min(
                            due,
                            FETCHED_ELSEWHERE_RECHECK_SECONDS if elsewhere else STALL_CHECK_SECONDS,
                        )
                    )

    def _deadline_error(self, missing: list[int]) -> OnefsError:
        """Waiting has lasted too long: what went wrong last, if anything is known."""
        name = self.partial.dataset.name
        found: OnefsError = DeadlineExceeded(f"{name}: nothing has come for {self._stall:g} s")
        for block in missing:
            run = self.partial.demand.in_flight.get(block)
            if run is not None and run.running:
                self._hosts.note_timeout(run.url)
                found = copy_error(run.last_error) if run.last_error is not None else found
        return found

    def _check_state(self) -> None:
        state = self.partial.block_file.recent_state()
        if state is PartialState.BAD:
            raise BadContent(f"{self.partial.dataset.name}: {self.partial.rejection_reason}")
        if state is PartialState.GONE:
            raise RemoteFileChanged(
                f"{self.partial.dataset.name} {self.partial.drop_reason}: open it again"
            )

    def _pin_for_thread(self, first: int, last: int) -> _PinnedRange:
        """Pin these blocks for this thread, in place of what it read before."""
        thread = threading.get_ident()
        with self._lock:
            before = self._pinned_by_thread.get(thread)
        if before is not None and before.first <= first and last <= before.last:
            return before
        self._pin_recent(last - 1)
        self.partial.pin(first, last)
        hold = _PinnedRange(first, last)
        with self._lock:
            self._pinned_by_thread[thread] = hold
        if before is not None:
            self.partial.unpin(before.first, before.last)
        return hold

    def _pin_recent(self, block: int) -> None:
        """Pin one more block, in place of the oldest: pins that are shared cost no lock."""
        if block in self._recent_blocks:
            return
        self.partial.pin(block, block + 1)
        with self._lock:
            self._recent_blocks.append(block)
            old = (
                self._recent_blocks.pop(0)
                if len(self._recent_blocks) > RECENT_PINNED_BLOCKS
                else None
            )
        if old is not None:
            self.partial.unpin(old, old + 1)

    def _read_ahead(self, offset: int, length: int) -> None:
        with self._scheduler.lock:
            window = next((w for w in self._windows if w.is_sequential(offset, length)), None)
            jumped = window is None
            if window is None:
                window = self._add_window()
            else:
                self._windows.remove(window)
            window.advance(offset, length)
            self._windows.append(window)
            if jumped:
                self._scheduler.cancel_unwanted(self.partial)
            if self._can_fetch_ahead(MAX_REQUEST_BYTES):
                self._scheduler.fetch_ahead(self.partial, window)
        self.partial.touch()

    def _add_window(self) -> ReadaheadWindow:
        windows = self.partial.demand.windows
        if len(self._windows) >= MAX_WINDOWS:
            windows.discard(self._windows.pop(0))
        about = self.partial.block_file.header
        window = ReadaheadWindow(about.size, about.block_size, self._max_readahead())
        windows.add(window)
        return window
