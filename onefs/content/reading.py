"""One open handle on a partial file: waits for its bytes and keeps them where they are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from onefs.content.answers import Changed
from onefs.content.blocks import State
from onefs.content.hosts import Hosts, Silent
from onefs.content.partial import Partial, Ticket
from onefs.content.scheduler import ELSEWHERE, Scheduler
from onefs.content.window import LONGEST_RUN, Window
from onefs.errors import BadContent, DeadlineExceeded, OnefsError, again

#: places of one file that are followed at once: threads of one reader, or a page here and there
WINDOWS = 4
#: blocks that stay pinned a little longer than for one read
RECENT = 2
#: seconds after which a waiter looks whether its deadline has passed
LOOK = 0.25


@dataclass
class _Hold:
    """Blocks that one thread has pinned: from ``first`` to ``last``, this one not included."""

    first: int
    last: int
    #: they are here, and so they stay
    here: bool = False


class Reading:
    """What one handle reads of a partial file. Thread-safe.

    Bytes that were promised stay: each thread's last read is pinned until the same thread reads
    again or the handle is closed. (libfuse sends a read's bytes from the thread that was promised
    them, before it takes the next request.)
    """

    def __init__(
        self,
        partial: Partial,
        scheduler: Scheduler,
        hosts: Hosts,
        stall: float,
        farthest: Callable[[], int],
        may_fetch: Callable[[int], bool] = lambda size: True,
    ) -> None:
        self.partial = partial
        #: bytes were handed out: from here on only this generation will do
        self.bound = False
        self._scheduler = scheduler
        self._hosts = hosts
        self._stall = stall
        self._farthest = farthest
        self._may_fetch = may_fetch
        self._lock = threading.Lock()
        self._held: dict[int, _Hold] = {}
        #: the last blocks that were read, pinned too: threads take turns on them
        self._recent: list[int] = []
        self._windows: list[Window] = []

    @property
    def fd(self) -> int:
        """The descriptor that holds the bytes, good until the handle is closed."""
        return self.partial.blocks.data

    def ready(self, offset: int, length: int) -> bool:
        """Whether these bytes are here; if so they stay. Raises BadContent or Changed."""
        first, last = self.partial.blocks_of(offset, length)
        self._check_state()
        hold = self._hold(first, last)
        self.partial.read_at = time.monotonic()
        if hold.here and self.partial.is_readable():
            return True
        if self.partial.missing(first, last) or not self.partial.is_readable():
            return False
        hold.here = self.bound = True
        self._look_ahead(offset, length)
        return True

    def wait(self, offset: int, length: int) -> bool:
        """Wait until these bytes are here; False when the whole file has to be proved first.

        For as long as blocks keep coming: raises DeadlineExceeded after ``stall`` seconds in which
        none of them came, else what the scheduler or the file server has to say.
        """
        hold = self._bring(offset, length, unproved=False)
        if hold is None:
            return False
        hold.here = self.bound = True
        return True

    def bring(self, offset: int, length: int) -> None:
        """Wait for bytes as :meth:`wait` does, though they may not be read before the whole is."""
        self._bring(offset, length, unproved=True)

    def _bring(self, offset: int, length: int, *, unproved: bool) -> _Hold | None:
        first, last = self.partial.blocks_of(offset, length)
        hold = self._hold(first, last)
        self._look_ahead(offset, length)
        demand = self.partial.demand
        ticket = Ticket(first, last)
        with self._scheduler.lock:
            demand.tickets.add(ticket)
        try:
            try:
                here = self._wait(ticket, unproved=unproved)
            except Silent:
                self._hosts.await_probe(self.partial.dataset.copies)
                ticket.error = None
                here = self._wait(ticket, unproved=unproved)
        finally:
            with self._scheduler.lock:
                demand.tickets.discard(ticket)
                self._scheduler.review(self.partial)
        return hold if here else None

    def close(self) -> None:
        """Let go of everything."""
        with self._scheduler.lock:
            self.partial.demand.windows.difference_update(self._windows)
            self._scheduler.review(self.partial)
        with self._lock:
            held = list(self._held.values())
            recent, self._recent = self._recent, []
            self._held.clear()
        for hold in held:
            self.partial.unpin(hold.first, hold.last)
        for block in recent:
            self.partial.unpin(block, block + 1)

    def _wait(self, ticket: Ticket, *, unproved: bool) -> bool:
        """Wait for the blocks of a ticket; False when they may not be read unproved."""
        demand = self.partial.demand
        got_on, left = time.monotonic(), ticket.last - ticket.first
        while True:
            seen = demand.changes
            self._check_state()
            missing = self.partial.missing(ticket.first, ticket.last)
            if not unproved and not self.partial.is_readable():
                return False
            if not missing:
                return True
            if len(missing) < left:
                got_on, left = time.monotonic(), len(missing)
            with self._scheduler.lock:
                if ticket.error is not None:
                    raise again(ticket.error)
                self._scheduler.want(self.partial, ticket, missing)
                moved = max(got_on, self._scheduler.waiting_since(self.partial, missing))
                due = moved + self._stall - time.monotonic()
                if due <= 0:
                    raise self._expired(missing)
                if demand.changes == seen:
                    elsewhere = any(block not in demand.in_flight for block in missing)
                    demand.condition.wait(min(due, ELSEWHERE if elsewhere else LOOK))

    def _expired(self, missing: list[int]) -> OnefsError:
        """Waiting has lasted too long: what went wrong last, if anything is known."""
        name = self.partial.dataset.name
        found: OnefsError = DeadlineExceeded(f"{name}: nothing has come for {self._stall:g} s")
        for block in missing:
            run = self.partial.demand.in_flight.get(block)
            if run is not None and run.running:
                self._hosts.overdue(run.url)
                found = again(run.trouble) if run.trouble is not None else found
        return found

    def _check_state(self) -> None:
        state = self.partial.blocks.recent_state()
        if state is State.BAD:
            raise BadContent(f"{self.partial.dataset.name}: {self.partial.reason}")
        if state is State.GONE:
            raise Changed(f"{self.partial.dataset.name} {self.partial.gone}: open it again")

    def _hold(self, first: int, last: int) -> _Hold:
        """Pin these blocks for this thread, in place of what it read before."""
        thread = threading.get_ident()
        with self._lock:
            before = self._held.get(thread)
        if before is not None and before.first <= first and last <= before.last:
            return before
        self._linger(last - 1)
        self.partial.pin(first, last)
        hold = _Hold(first, last)
        with self._lock:
            self._held[thread] = hold
        if before is not None:
            self.partial.unpin(before.first, before.last)
        return hold

    def _linger(self, block: int) -> None:
        """Pin one more block, in place of the oldest: pins that are shared cost no lock."""
        if block in self._recent:
            return
        self.partial.pin(block, block + 1)
        with self._lock:
            self._recent.append(block)
            old = self._recent.pop(0) if len(self._recent) > RECENT else None
        if old is not None:
            self.partial.unpin(old, old + 1)

    def _look_ahead(self, offset: int, length: int) -> None:
        with self._scheduler.lock:
            window = next((w for w in self._windows if w.follows(offset, length)), None)
            jumped = window is None
            if window is None:
                window = self._new_window()
            else:
                self._windows.remove(window)
            window.moved(offset, length)
            self._windows.append(window)
            if jumped:
                self._scheduler.review(self.partial)
            if self._may_fetch(LONGEST_RUN):
                self._scheduler.ahead(self.partial, window)
        self.partial.touch()

    def _new_window(self) -> Window:
        windows = self.partial.demand.windows
        if len(self._windows) >= WINDOWS:
            windows.discard(self._windows.pop(0))
        about = self.partial.blocks.about
        window = Window(about.size, about.block_size, self._farthest())
        windows.add(window)
        return window
