"""Which blocks are asked for next, by how many connections at once.

What somebody waits for comes first, then what readers will want soon; between files, the one with
the fewest requests under way. What nobody wants any more is dropped from the queue, and given up
when it is under way already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from onefs.blocks.partial_file import PartialFile, Ticket, contiguous_ranges
from onefs.blocks.readahead import ReadaheadWindow
from onefs.blocks.registry import PartialFileRegistry
from onefs.config.urls import host_of
from onefs.download.hosts import Hosts, failure_ttl, no_replica_error
from onefs.download.progress import Transfer
from onefs.errors import CacheError, OnefsError, Stopping, copy_error, reason_of
from onefs.http import Stream
from onefs.lowlevel.single_flight import RetryingThreadPool

#: connections to one file server at once, and how many of them may fetch ahead
MAX_CONNECTIONS_PER_HOST = 12
MAX_READAHEAD_PER_HOST = 8
#: connections that fetch ahead in one file
MAX_READAHEAD_PER_FILE = 6
#: requests under way in all
MAX_REQUESTS = 32
#: bytes asked for and not there yet, in all, beyond which nothing is fetched ahead
MAX_IN_FLIGHT_BYTES = 256 << 20
#: seconds until a block that another process is fetching is looked at again
FETCHED_ELSEWHERE_RECHECK_SECONDS = 0.03


class BlockRequest:
    """Neighbouring blocks of one file, asked for together. Guarded by the scheduler's lock."""

    def __init__(
        self, partial: PartialFile, first: int, last: int, *, urgent: bool, url: str
    ) -> None:
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
        self.last_progress_at = time.monotonic()
        #: nobody wants it any more, or onefs is being stopped
        self.cancel_event = threading.Event()
        self.stream: Stream | None = None
        #: what went wrong last, while it is being tried again
        self.last_error: OnefsError | None = None

    def attach_stream(self, stream: Stream) -> None:
        """Name the stream that :meth:`give_up` is to end."""
        self.stream = stream
        if self.cancel_event.is_set():
            raise Stopping(f"{self.partial.dataset.name} is not wanted any more")

    def cancel(self) -> None:
        """End it wherever it is."""
        self.cancel_event.set()
        if self.stream is not None:
            self.stream.abort()

    def pending_blocks(self) -> Iterable[int]:
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
        partials: PartialFileRegistry,
        hosts: Hosts,
        fetch: Callable[[BlockRequest], None],
    ) -> None:
        self.lock = lock
        self._registry = partials
        self._hosts = hosts
        self._fetch = fetch
        self._pool = RetryingThreadPool(MAX_REQUESTS, thread_name_prefix="onefs-blocks")
        self._queue: list[BlockRequest] = []
        self._running: set[BlockRequest] = set()
        self._closed = False

    def close(self) -> None:
        """Wake who waits, with Stopping, and end every run."""
        with self.lock:
            self._closed = True
            runs = [*self._queue, *self._running]
            self._queue.clear()
            for run in runs:
                run.cancel()
                self._fail_waiters(
                    run.partial, range(run.first, run.last), _stopping_error(), pause=0.0
                )
        # no limit: every run was told to stop, and waits for nothing but the disk
        self._pool.shutdown(wait=True, cancel_futures=True)

    def request(self, partial: PartialFile, ticket: Ticket, missing: list[int]) -> None:
        """Somebody waits for these blocks. The lock is held.

        Raises the error of the last run, for a while, DeadlineExceeded when the file server is
        known not to answer, Throttled when it has asked to wait, Unreachable or ServerError when
        there is no copy, and Stopping.
        """
        if self._closed:
            raise _stopping_error()
        demand = partial.demand
        now = time.monotonic()
        if demand.last_failure is not None and now < demand.last_failure[1]:
            raise copy_error(demand.last_failure[0])
        fresh = []
        for block in missing:
            run = demand.in_flight.get(block)
            if run is not None:
                run.urgent = True
            elif demand.fetched_elsewhere.get(block, 0.0) <= now:
                fresh.append(block)
        self._pool.retry_thread_start()
        for first, last in contiguous_ranges(fresh):
            self._enqueue(partial, first, last, urgent=True)
        self._dispatch()

    def fetch_ahead(self, partial: PartialFile, window: ReadaheadWindow) -> None:
        """Fetch what a reader will want soon. The lock is held."""
        if self._closed or partial.demand.last_failure is not None:
            return
        for first, last in window.plan_requests():
            absent = [
                block
                for block, record in enumerate(partial.block_file.records(first, last), first)
                if not record and block not in partial.demand.in_flight
            ]
            for start, end in contiguous_ranges(absent):
                self._enqueue(partial, start, end, urgent=False)
        self._dispatch()

    def cancel_unwanted(self, partial: PartialFile) -> None:
        """Drop what nobody wants any more. The lock is held."""
        for run in {*partial.demand.in_flight.values()}:
            if not _is_wanted(run):
                run.cancel()
                if not run.running:
                    self._queue.remove(run)
                    self._clear_in_flight(run)
        self._dispatch()

    def blocks_arrived(self, run: BlockRequest, blocks: range) -> None:
        """Blocks of a run are there."""
        with self.lock:
            demand = run.partial.demand
            for block in blocks:
                demand.in_flight.pop(block, None)
            demand.last_failure = None
            run.last_progress_at = time.monotonic()
            demand.notify_waiters()

    def widen(self, run: BlockRequest, blocks: list[int]) -> None:
        """A run turns out to bring other blocks too: the server sends the whole file."""
        with self.lock:
            run.partial.demand.without_ranges = True
            run.first, run.last = 0, run.partial.block_file.block_count
            for block in blocks:
                run.partial.demand.in_flight.setdefault(block, run)

    def narrow(self, run: BlockRequest, first: int, last: int) -> None:
        """A run brings fewer blocks: others are there, or another process fetches them."""
        with self.lock:
            demand = run.partial.demand
            again = time.monotonic() + FETCHED_ELSEWHERE_RECHECK_SECONDS
            for block in run.pending_blocks():
                if not first <= block < last:
                    del demand.in_flight[block]
                    demand.fetched_elsewhere[block] = again
            run.first, run.last = first, last
            demand.notify_waiters()

    def last_progress(self, partial: PartialFile, missing: list[int]) -> float:
        """When what these blocks wait for last got on. The lock is held."""
        moved = 0.0
        for block in missing:
            run = partial.demand.in_flight.get(block)
            if run is not None:
                stamp = (
                    run.last_progress_at if run.running else self._hosts.last_progress_at(run.url)
                )
                moved = max(moved, stamp)
        return moved

    def transfers(self) -> list[Transfer]:
        """The files of which blocks are being fetched."""
        found: dict[int, Transfer] = {}
        with self.lock:  # a partial file is open as long as one of its runs is here
            for run in self._running:
                partial = run.partial
                path, done = "/".join(partial.place), partial.block_file.present_bytes()
                transfer = Transfer(
                    path, partial.dataset.size, done, partial.started_at, run.last_progress_at
                )
                found[id(partial)] = transfer
        return list(found.values())

    def _enqueue(self, partial: PartialFile, first: int, last: int, *, urgent: bool) -> None:
        try:
            copies = self._hosts.order_replicas(partial.dataset.replicas)
            if not copies:
                raise no_replica_error(partial.dataset)
        except OnefsError:
            if urgent:
                raise
            return
        run = BlockRequest(partial, first, last, urgent=urgent, url=copies[0].url)
        for block in range(first, last):
            partial.demand.in_flight[block] = run
        self._queue.append(run)

    def _dispatch(self) -> None:
        while (run := self._next_request()) is not None:
            self._queue.remove(run)
            run.running = True
            run.last_progress_at = time.monotonic()
            self._running.add(run)
            self._registry.add_user(run.partial)
            self._pool.enqueue(self._run_request, run)

    def _next_request(self) -> BlockRequest | None:
        if len(self._running) >= MAX_REQUESTS:
            return None
        busy: dict[int, int] = {}
        for run in self._running:
            busy[id(run.partial)] = busy.get(id(run.partial), 0) + 1
        for urgent in (True, False):
            allowed = [run for run in self._queue if run.urgent == urgent and self._can_start(run)]
            if allowed:
                return min(allowed, key=lambda run: busy.get(id(run.partial), 0))
        return None

    def _can_start(self, run: BlockRequest) -> bool:
        here = [other for other in self._running if other.partial is run.partial]
        if run.partial.demand.without_ranges and here:
            return False
        host = [other for other in self._running if other.host == run.host]
        if run.urgent:
            return len(host) < MAX_CONNECTIONS_PER_HOST
        in_flight = sum(
            (other.last - other.first) * other.partial.block_file.header.block_size
            for other in self._running
        )
        return (
            len([other for other in host if not other.urgent]) < MAX_READAHEAD_PER_HOST
            and len(here) < MAX_READAHEAD_PER_FILE
            and in_flight < MAX_IN_FLIGHT_BYTES
        )

    def _run_request(self, run: BlockRequest) -> None:
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
                left = self._clear_in_flight(run)
                if trouble is not None and not run.cancel_event.is_set():
                    self._fail_waiters(run.partial, left, trouble, failure_ttl(trouble))
                run.partial.demand.notify_waiters()
                self._dispatch()
            self._registry.release(run.partial)

    def _clear_in_flight(self, run: BlockRequest) -> list[int]:
        left = list(run.pending_blocks())
        for block in left:
            del run.partial.demand.in_flight[block]
        return left

    def _fail_waiters(
        self, partial: PartialFile, blocks: Iterable[int], error: OnefsError, pause: float
    ) -> None:
        """Tell everybody who waits for one of these blocks."""
        waited_for = set(blocks)
        for ticket in partial.demand.tickets:
            if not waited_for.isdisjoint(range(ticket.first, ticket.last)):
                ticket.error = error
                partial.demand.last_failure = (error, time.monotonic() + pause)
        partial.demand.notify_waiters()


def _is_wanted(run: BlockRequest) -> bool:
    left = [block for block in run.pending_blocks() if not run.partial.has_block(block)]
    if not left:  # its last block is here, and it is about to end by itself
        return True
    demand = run.partial.demand
    for ticket in demand.tickets:
        if any(ticket.first <= block < ticket.last for block in left):
            return True
    return any(
        first <= block < last
        for first, last in (window.wanted_range() for window in demand.windows)
        for block in left
    )


def _stopping_error() -> Stopping:
    return Stopping("onefs is being stopped")
