"""The queue of block requests: decides which request runs next, and on how many connections.

Requests for blocks that a reader waits for run first. Requests for read-ahead run after them. Among
requests of the same kind, a request for the file with the fewest running requests runs first. If no
reader needs the blocks of a request any more, a queued request is removed, and a running request is
cancelled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from onefs.blocks.partial_file import PartialFile, contiguous_ranges
from onefs.blocks.readahead import ReadaheadWindow
from onefs.blocks.registry import PartialFileRegistry
from onefs.blocks.requests import BlockRequest
from onefs.cache.folder import Place
from onefs.download.hosts import Hosts, failure_ttl, no_replica_error
from onefs.download.progress import Transfer
from onefs.errors import (
    CacheError,
    OnefsError,
    Stopping,
    copy_error,
    reason_of,
    strip_tracebacks,
)
from onefs.lowlevel.single_flight import RetryingThreadPool

#: most connections to one file server at once, and most of these connections for read-ahead
MAX_CONNECTIONS_PER_SERVER = 12
MAX_READAHEAD_PER_SERVER = 8
#: a request for read-ahead starts only while fewer requests than this run for its file
MAX_READAHEAD_PER_FILE = 6
#: most running requests, for all files and servers together
MAX_REQUESTS = 32
#: no request for read-ahead starts while all running requests together are for this many bytes or
#: more
MAX_IN_FLIGHT_BYTES = 256 << 20
#: seconds between two checks of a block that another process is fetching
FETCHED_ELSEWHERE_RECHECK_SECONDS = 0.03


class Scheduler:
    """Queues block requests, and runs them on its own threads. Thread-safe.

    ``fetch`` is a function that carries out a request. This function calls :meth:`blocks_arrived`,
    and raises the error that ended the request early. Some methods must be called with ``lock``
    held, as their docstrings say.
    """

    def __init__(
        self, registry: PartialFileRegistry, hosts: Hosts, fetch: Callable[[BlockRequest], None]
    ) -> None:
        self.lock = registry.scheduler_lock
        self._registry = registry
        self._hosts = hosts
        self._fetch = fetch
        self._pool = RetryingThreadPool(MAX_REQUESTS, thread_name_prefix="onefs-blocks")
        self._queue: list[BlockRequest] = []
        self._running: set[BlockRequest] = set()
        self._closed = False

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and cancel all requests."""
        with self.lock:
            self._closed = True
            requests = [*self._queue, *self._running]
            self._queue.clear()
            for request in requests:
                request.cancel()
                self._fail_waiters(
                    request.partial,
                    range(request.first, request.last),
                    _stopping_error(),
                    pause=0.0,
                )
        # no time limit is needed, because cancelled requests wait only for the disk
        self._pool.shutdown(wait=True, cancel_futures=True)

    def request(self, partial: PartialFile, missing: list[int]) -> None:
        """Request the ``missing`` blocks that a reader waits for. Called with the lock held.

        Raises one of these errors:

        - the error of a failed request, during a pause after the failure
        - DeadlineExceeded, while the file server does not answer
        - Throttled, while the file server has asked onefs to wait
        - Unreachable or ServerError, if the dataset has no replica
        - Stopping, if onefs is being stopped
        """
        if self._closed:
            raise _stopping_error()
        demand = partial.demand
        now = time.monotonic()
        if demand.last_failure is not None and now < demand.last_failure[1]:
            raise copy_error(demand.last_failure[0])
        fresh = []
        for block in missing:
            request = demand.in_flight.get(block)
            if request is not None:
                request.urgent = True
            elif demand.fetched_elsewhere.get(block, 0.0) <= now:
                fresh.append(block)
        self._pool.retry_thread_start()
        for first, last in contiguous_ranges(fresh):
            self._enqueue(partial, first, last, urgent=True)
        self._dispatch()

    def fetch_ahead(self, partial: PartialFile, window: ReadaheadWindow) -> None:
        """Request the absent blocks that ``window`` plans to read ahead. Called with the lock
        held."""
        if self._closed or partial.demand.last_failure is not None:
            return
        with window.readahead.lock:
            planned = window.plan_requests()
        for first, last in planned:
            absent = [
                block
                for block, record in enumerate(partial.block_file.records(first, last), first)
                if not record and block not in partial.demand.in_flight
            ]
            for start, end in contiguous_ranges(absent):
                self._enqueue(partial, start, end, urgent=False)
        self._dispatch()

    def cancel_unwanted(self, partial: PartialFile) -> None:
        """Cancel each request for ``partial`` whose blocks no reader needs any more.

        Called with the lock held.
        """
        wanted = partial.demand.wanted_ranges()
        for request in [*self._queue, *self._running]:
            if request.partial is not partial or request.cancel_event.is_set():
                continue
            if not _is_wanted(request, wanted):
                request.cancel()
                if not request.running:
                    self._queue.remove(request)
                    self._clear_in_flight(request)
        self._dispatch()

    def blocks_arrived(self, request: BlockRequest, blocks: range) -> None:
        """Note that ``blocks`` of a request are present now, and wake the waiting readers."""
        with self.lock:
            demand = request.partial.demand
            for block in blocks:
                demand.in_flight.pop(block, None)
            demand.last_failure = None
            request.last_progress_at = time.monotonic()
            demand.notify_waiters()

    def widen(self, request: BlockRequest, blocks: list[int]) -> None:
        """Extend a request to ``blocks``, because the server sends the whole file."""
        with self.lock:
            request.partial.demand.without_ranges = True
            request.first, request.last = 0, request.partial.block_file.block_count
            for block in blocks:
                request.partial.demand.in_flight.setdefault(block, request)

    def narrow(self, request: BlockRequest, first: int, last: int) -> None:
        """Reduce a request to the blocks from ``first`` to ``last``, ``last`` excluded.

        The other blocks of the request are present, or another process fetches them.
        """
        with self.lock:
            demand = request.partial.demand
            look_again_at = time.monotonic() + FETCHED_ELSEWHERE_RECHECK_SECONDS
            for block in request.pending_blocks():
                if not first <= block < last:
                    del demand.in_flight[block]
                    demand.fetched_elsewhere[block] = look_again_at
            request.first, request.last = first, last
            demand.notify_waiters()

    def last_progress(self, partial: PartialFile, missing: list[int]) -> float:
        """Return when a request for one of the ``missing`` blocks last made progress.

        The time is in seconds of ``time.monotonic``, or 0.0 if none of the blocks is requested.
        Called with the lock held.
        """
        # a queued request makes progress whenever its file server sends data for any request
        in_flight = partial.demand.in_flight
        requests = {in_flight[block] for block in missing if block in in_flight}
        times = (
            each.last_progress_at if each.running else self._hosts.last_progress_at(each.url)
            for each in requests
        )
        return max(times, default=0.0)

    def transfers(self) -> list[Transfer]:
        """Return the downloads in progress, one for each file whose blocks are being fetched."""
        transfers: dict[PartialFile, Transfer] = {}
        with ExitStack() as users:
            with self.lock:
                for request in self._running:
                    partial = request.partial
                    path, size = "/".join(partial.place), partial.dataset.size
                    if partial not in transfers:  # it stays open until its bytes are counted
                        self._registry.add_user(partial)
                        users.callback(self._registry.release, partial)
                    transfers[partial] = Transfer(
                        path, size, 0, partial.started_at, request.last_progress_at
                    )
            # without the lock, because this reads whole block maps
            for partial, transfer in transfers.items():
                transfer.done_bytes = partial.block_file.present_bytes()
        return list(transfers.values())

    def fetched_places(self) -> set[Place]:
        """Return the places of the files whose blocks are being fetched."""
        with self.lock:
            return {request.partial.place for request in self._running}

    def _enqueue(self, partial: PartialFile, first: int, last: int, *, urgent: bool) -> None:
        try:
            replicas = self._hosts.order_replicas(partial.dataset.replicas)
            if not replicas:
                raise no_replica_error(partial.dataset)
        except OnefsError:
            if urgent:
                raise
            return
        request = BlockRequest(partial, first, last, replicas[0].url, urgent)
        for block in range(first, last):
            partial.demand.in_flight[block] = request
        self._queue.append(request)

    def _dispatch(self) -> None:
        while (request := self._next_request()) is not None:
            self._queue.remove(request)
            request.running = True
            request.last_progress_at = time.monotonic()
            self._running.add(request)
            self._registry.add_user(request.partial)
            self._pool.enqueue(self._run_request, request)

    def _next_request(self) -> BlockRequest | None:
        """Return the queued request to start next. Return None if no queued request may start
        now."""
        if len(self._running) >= MAX_REQUESTS:
            return None
        running = Counter(id(request.partial) for request in self._running)
        return min(
            filter(self._can_start, self._queue),
            key=lambda request: (not request.urgent, running[id(request.partial)]),
            default=None,
        )

    def _can_start(self, request: BlockRequest) -> bool:
        same_file = [other for other in self._running if other.partial is request.partial]
        if request.partial.demand.without_ranges and same_file:
            return False
        same_server = [other for other in self._running if other.server == request.server]
        if len(same_server) >= MAX_CONNECTIONS_PER_SERVER:
            return False
        if request.urgent:
            return True
        in_flight = sum(
            (other.last - other.first) * other.partial.block_file.header.block_size
            for other in self._running
        )
        return (
            len([other for other in same_server if not other.urgent]) < MAX_READAHEAD_PER_SERVER
            and len(same_file) < MAX_READAHEAD_PER_FILE
            and in_flight < MAX_IN_FLIGHT_BYTES
        )

    def _run_request(self, request: BlockRequest) -> None:
        failure: OnefsError | None = None
        try:
            self._fetch(request)
        except OnefsError as error:
            failure = strip_tracebacks(error)
        except BaseException as error:
            why = f"{type(error).__name__}: {reason_of(error)}"
            failure = CacheError(f"fetching {request.partial.dataset.name} failed: {why}")
            raise
        finally:
            with self.lock:
                self._running.discard(request)
                left = self._clear_in_flight(request)
                if failure is not None and not request.cancel_event.is_set():
                    self._fail_waiters(request.partial, left, failure, failure_ttl(failure))
                request.partial.demand.notify_waiters()
                self._dispatch()
            self._registry.release(request.partial)

    def _clear_in_flight(self, request: BlockRequest) -> list[int]:
        left = request.pending_blocks()
        for block in left:
            del request.partial.demand.in_flight[block]
        return left

    def _fail_waiters(
        self, partial: PartialFile, blocks: Iterable[int], error: OnefsError, pause: float
    ) -> None:
        """Give an error to all readers that wait for one of ``blocks``.

        New readers of the file get the same error for the next ``pause`` seconds.
        """
        failed = set(blocks)
        for ticket in partial.demand.tickets:
            if not failed.isdisjoint(range(ticket.first, ticket.last)):
                ticket.error = error
                partial.demand.last_failure = (error, time.monotonic() + pause)
        partial.demand.notify_waiters()


def _is_wanted(request: BlockRequest, ranges: list[tuple[int, int]]) -> bool:
    """Whether a block of the request is in one of the ``ranges`` of blocks that readers need."""
    if any(first <= request.first and request.last <= last for first, last in ranges):
        return True
    # a request may have very many blocks, and the lock of all files is held: so each test ends at
    # the first block that is left
    for first, last in ranges:
        if _has_block_left(request, max(first, request.first), min(last, request.last)):
            return True
    # if all blocks are present, the request is about to end by itself
    return not _has_block_left(request, request.first, request.last)


def _has_block_left(request: BlockRequest, first: int, last: int) -> bool:
    """Whether one of the blocks from ``first`` to ``last`` (excluded) is still to arrive for a
    request."""
    in_flight, has_block = request.partial.demand.in_flight, request.partial.has_block
    blocks = range(first, last)
    return any(in_flight.get(block) is request and not has_block(block) for block in blocks)


def _stopping_error() -> Stopping:
    return Stopping("onefs is being stopped")
