"""Calls into the kernel that may stand still, such as ``stat`` on an NFS disk without its server.

Such a call cannot be interrupted. So it is made on another thread, and its caller stops to wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from onefs.errors import Busy, Stopping
from onefs.lowlevel.single_flight import wait_until_done

R = TypeVar("R")

#: most threads of one object; each call that stands still keeps one of them
MAX_CALL_THREADS = 16
#: seconds after which a thread without work ends
_IDLE_SECONDS = 10.0
#: seconds between two calls that are tried although earlier calls stand still
_PROBE_SECONDS = 5.0


#: the work, its future, and what gets a result that arrives too late
_QueuedCall = tuple[Callable[[], Any], Future[Any], Callable[[Any], object]]


class StandsStill(Exception):
    """A call has not returned in time, or none is tried because earlier calls stand still."""


class BoundedCalls:
    """Makes calls on daemon threads, and waits at most ``seconds`` for each. Thread-safe.

    While a call stands still, and no other call has returned since, further calls fail at once. One
    of them is tried every few seconds.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_QueuedCall] = SimpleQueue()
        self._is_closed = False
        self._threads = 0
        #: when each queued or running call was started, by the call's future (monotonic seconds)
        self._running: dict[Future[Any], float] = {}
        self._last_return = time.monotonic()
        self._next_probe = 0.0

    def close(self) -> None:
        """Make all callers that wait raise Stopping. The calls themselves are not ended."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._running)
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(Stopping("onefs is being stopped"))

    def call(self, work: Callable[[], R], discard: Callable[[R], object] = lambda _: None) -> R:
        """Return the result of ``work``, or raise its error.

        ``discard`` gets a result that arrives too late. Raises StandsStill, Stopping after
        :meth:`close`, and Busy if no thread can be started.
        """
        future = self.start(work, discard)
        if not wait_until_done(future, self._seconds) and future.cancel():
            with self._lock:  # this call was the one that is tried
                self._next_probe = time.monotonic() + _PROBE_SECONDS
            raise StandsStill
        return future.result(0)

    def start(
        self, work: Callable[[], R], discard: Callable[[R], object] = lambda _: None
    ) -> Future[R]:
        """Start a call, and return its future. Raises the errors of :meth:`call`."""
        future: Future[R] = Future()
        with self._lock:
            if self._is_closed:
                raise Stopping("onefs is being stopped")
            now = time.monotonic()
            if self._stands_still(now):
                if now < self._next_probe or len(self._running) >= MAX_CALL_THREADS:
                    raise StandsStill
                self._next_probe = now + _PROBE_SECONDS
            self._running[future] = now
            # daemons, so that the process can end while a call stands still
            if self._threads < min(len(self._running), MAX_CALL_THREADS):
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    if not self._threads:
                        del self._running[future]
                        raise Busy("no more threads can be started now; try again later") from error
                else:
                    self._threads += 1
            self._queue.put((work, future, discard))
        return future

    def stands_still(self) -> bool:
        """Whether a call has not returned in time, and no other call has returned since."""
        with self._lock:
            return self._stands_still(time.monotonic())

    def _stands_still(self, now: float) -> bool:
        oldest = min(self._running.values(), default=now)
        return now - max(oldest, self._last_return) >= self._seconds

    def _run(self) -> None:
        while True:
            try:
                work, future, discard = self._queue.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if not self._queue.empty():
                        continue
                    self._threads -= 1
                    return
            result, failure = None, None
            try:
                if not future.done():
                    result = work()
            except BaseException as error:
                failure = error
            with self._lock:
                self._running.pop(future, None)
                self._last_return = time.monotonic()
            try:
                if failure is None:
                    future.set_result(result)
                else:
                    future.set_exception(failure)
            except InvalidStateError:  # nobody waits any more
                if result is not None:
                    discard(result)
