"""Which blocks are asked for next, by how many connections at once.

What somebody waits for comes first, then what readers will want soon; between files, the one with
the fewest requests under way. What nobody wants any more is dropped from the queue, and given up
when it is under way already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from onefs.content.hosts import Hosts, failure_pause, stands_nowhere
from onefs.content.partial import Partial, Ticket, stretches
from onefs.content.partials import Partials
from onefs.content.transfer import Transfer
from onefs.content.window import Window
from onefs.errors import CacheError, OnefsError, Stopping, again, reason_of
from onefs.flights import Workers
from onefs.http import Stream
from onefs.urls import host_of

#: connections to one file server at once, and how many of them may fetch ahead
HOST_CONNECTIONS = 12
HOST_AHEAD = 8
#: connections that fetch ahead in one file
FILE_AHEAD = 6
#: requests under way in all
WORKERS = 32
#: bytes asked for and not there yet, in all, beyond which nothing is fetched ahead
IN_FLIGHT = 256 << 20
#: seconds until a block that another process is fetching is looked at again
ELSEWHERE = 0.03


class Run:
    """Neighbouring blocks of one file, asked for together. Guarded by the scheduler's lock."""

    def __init__(self, partial: Partial, first: int, last: int, *, urgent: bool, url: str) -> None:
        self.partial = partial
        self.first = first
        self.last = last
        #: somebody waits for one of its blocks
        self.urgent = urgent
        #: the copy that is tried first, and counts for its server's connections
        self.url = url
        self.host = host_of(url)
        self.running = False
        #: when it last got on: it began, or one of its blocks came
        self.moved = time.monotonic()
        #: nobody wants it any more, or onefs is being stopped
        self.stop = threading.Event()
        self.stream: Stream | None = None
        #: what went wrong last, while it is being tried again
        self.trouble: OnefsError | None = None

    def attach(self, stream: Stream) -> None:
        """Name the stream that :meth:`give_up` is to end."""
        self.stream = stream
        if self.stop.is_set():
            raise Stopping(f"{self.partial.dataset.name} is not wanted any more")

    def give_up(self) -> None:
        """End it wherever it is."""
        self.stop.set()
        if self.stream is not None:
            self.stream.abort()

    def brings(self) -> Iterable[int]:
        """Its blocks that have not come yet."""
        in_flight = self.partial.demand.in_flight
        return [block for block in range(self.first, self.last) if in_flight.get(block) is self]


class Scheduler:
    """The queue of runs, and the threads that work it off. Thread-safe.

    ``fetch`` does a run on a thread of its own, tells :meth:`arrived` of each block, and raises
    what ended it early. Methods that say so are called with ``lock`` held.
    """

    def __init__(
        self,
        lock: threading.Lock,
        partials: Partials,
        hosts: Hosts,
        fetch: Callable[[Run], None],
    ) -> None:
        self.lock = lock
        self._partials = partials
        self._hosts = hosts
        self._fetch = fetch
        self._pool = Workers(WORKERS, thread_name_prefix="onefs-blocks")
        self._queue: list[Run] = []
        self._running: set[Run] = set()
        self._closed = False

    def close(self) -> None:
        """Wake who waits, with Stopping, and end every run."""
        with self.lock:
            self._closed = True
            runs = [*self._queue, *self._running]
            self._queue.clear()
            for run in runs:
                run.give_up()
                self._fail(run.partial, range(run.first, run.last), _stopping(), pause=0.0)
        # no limit: every run was told to stop, and waits for nothing but the disk
        self._pool.shutdown(wait=True, cancel_futures=True)

    def want(self, partial: Partial, ticket: Ticket, missing: list[int]) -> None:
        """Somebody waits for these blocks. The lock is held.

        Raises the error of the last run, for a while, DeadlineExceeded when the file server is
        known not to answer, Throttled when it has asked to wait, Unreachable or ServerError when
        there is no copy, and Stopping.
        """
        if self._closed:
            raise _stopping()
        demand = partial.demand
        now = time.monotonic()
        if demand.failure is not None and now < demand.failure[1]:
            raise again(demand.failure[0])
        fresh = []
        for block in missing:
            run = demand.in_flight.get(block)
            if run is not None:
                run.urgent = True
            elif demand.elsewhere.get(block, 0.0) <= now:
                fresh.append(block)
        self._pool.nudge()
        for first, last in stretches(fresh):
            self._add(partial, first, last, urgent=True)
        self._dispatch()

    def ahead(self, partial: Partial, window: Window) -> None:
        """Fetch what a reader will want soon. The lock is held."""
        if self._closed or partial.demand.failure is not None:
            return
        for first, last in window.plan():
            absent = [
                block
                for block, record in enumerate(partial.blocks.records(first, last), first)
                if not record and block not in partial.demand.in_flight
            ]
            for start, end in stretches(absent):
                self._add(partial, start, end, urgent=False)
        self._dispatch()

    def review(self, partial: Partial) -> None:
        """Drop what nobody wants any more. The lock is held."""
        for run in {*partial.demand.in_flight.values()}:
            if not _wanted(run):
                run.give_up()
                if not run.running:
                    self._queue.remove(run)
                    self._forget(run)
        self._dispatch()

    def arrived(self, run: Run, blocks: range) -> None:
        """Blocks of a run are there."""
        with self.lock:
            demand = run.partial.demand
            for block in blocks:
                demand.in_flight.pop(block, None)
            demand.failure = None
            run.moved = time.monotonic()
            demand.changed()

    def widen(self, run: Run, blocks: list[int]) -> None:
        """A run turns out to bring other blocks too: the server sends the whole file."""
        with self.lock:
            run.partial.demand.whole_only = True
            run.first, run.last = 0, run.partial.blocks.count
            for block in blocks:
                run.partial.demand.in_flight.setdefault(block, run)

    def narrow(self, run: Run, first: int, last: int) -> None:
        """A run brings fewer blocks: others are there, or another process fetches them."""
        with self.lock:
            demand = run.partial.demand
            again = time.monotonic() + ELSEWHERE
            for block in run.brings():
                if not first <= block < last:
                    del demand.in_flight[block]
                    demand.elsewhere[block] = again
            run.first, run.last = first, last
            demand.changed()

    def waiting_since(self, partial: Partial, missing: list[int]) -> float:
        """When what these blocks wait for last got on. The lock is held."""
        moved = 0.0
        for block in missing:
            run = partial.demand.in_flight.get(block)
            if run is not None:
                stamp = run.moved if run.running else self._hosts.last_moved(run.url)
                moved = max(moved, stamp)
        return moved

    def transfers(self) -> list[Transfer]:
        """The files of which blocks are being fetched."""
        found: dict[int, Transfer] = {}
        with self.lock:  # a partial file is open as long as one of its runs is here
            for run in self._running:
                partial = run.partial
                path, done = "/".join(partial.place), partial.blocks.present_bytes()
                transfer = Transfer(path, partial.dataset.size, done, partial.began, run.moved)
                found[id(partial)] = transfer
        return list(found.values())

    def _add(self, partial: Partial, first: int, last: int, *, urgent: bool) -> None:
        try:
            copies = self._hosts.order(partial.dataset.copies)
            if not copies:
                raise stands_nowhere(partial.dataset)
        except OnefsError:
            if urgent:
                raise
            return
        run = Run(partial, first, last, urgent=urgent, url=copies[0].url)
        for block in range(first, last):
            partial.demand.in_flight[block] = run
        self._queue.append(run)

    def _dispatch(self) -> None:
        while (run := self._next()) is not None:
            self._queue.remove(run)
            run.running = True
            run.moved = time.monotonic()
            self._running.add(run)
            self._partials.hold(run.partial)
            self._pool.begin(self._work, run)

    def _next(self) -> Run | None:
        if len(self._running) >= WORKERS:
            return None
        busy: dict[int, int] = {}
        for run in self._running:
            busy[id(run.partial)] = busy.get(id(run.partial), 0) + 1
        for urgent in (True, False):
            allowed = [run for run in self._queue if run.urgent == urgent and self._may(run)]
            if allowed:
                return min(allowed, key=lambda run: busy.get(id(run.partial), 0))
        return None

    def _may(self, run: Run) -> bool:
        here = [other for other in self._running if other.partial is run.partial]
        if run.partial.demand.whole_only and here:
            return False
        host = [other for other in self._running if other.host == run.host]
        if run.urgent:
            return len(host) < HOST_CONNECTIONS
        in_flight = sum(
            (other.last - other.first) * other.partial.blocks.about.block_size
            for other in self._running
        )
        return (
            len([other for other in host if not other.urgent]) < HOST_AHEAD
            and len(here) < FILE_AHEAD
            and in_flight < IN_FLIGHT
        )

    def _work(self, run: Run) -> None:
        trouble: OnefsError | None = None
        try:
            self._fetch(run)
        except OnefsError as error:
            trouble = error
        except BaseException as error:
            why = f"{type(error).__name__}: {reason_of(error)}"
            trouble = CacheError(f"fetching {run.partial.dataset.name} failed: {why}")
            raise
        finally:
            with self.lock:
                self._running.discard(run)
                left = self._forget(run)
                if trouble is not None and not run.stop.is_set():
                    self._fail(run.partial, left, trouble, failure_pause(trouble))
                run.partial.demand.changed()
                self._dispatch()
            self._partials.release(run.partial)

    def _forget(self, run: Run) -> list[int]:
        left = list(run.brings())
        for block in left:
            del run.partial.demand.in_flight[block]
        return left

    def _fail(
        self, partial: Partial, blocks: Iterable[int], error: OnefsError, pause: float
    ) -> None:
        """Tell everybody who waits for one of these blocks."""
        waited_for = set(blocks)
        for ticket in partial.demand.tickets:
            if not waited_for.isdisjoint(range(ticket.first, ticket.last)):
                ticket.error = error
                partial.demand.failure = (error, time.monotonic() + pause)
        partial.demand.changed()


def _wanted(run: Run) -> bool:
    left = [block for block in run.brings() if not run.partial.has(block)]
    if not left:  # its last block is here, and it is about to end by itself
        return True
    demand = run.partial.demand
    for ticket in demand.tickets:
        if any(ticket.first <= block < ticket.last for block in left):
            return True
    return any(
        first <= block < last
        for first, last in (window.wanted() for window in demand.windows)
        for block in left
    )


def _stopping() -> Stopping:
    return Stopping("onefs is being stopped")
