"""One piece of work for everybody who asks for it at the same time.

The work runs on a thread of its own, so that who waits for it can stop waiting at a deadline, or
be woken when the daemon goes down, whatever the network does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from onefs.errors import Busy, DeadlineExceeded, Stopping, copy_error

R = TypeVar("R")


class RetryingThreadPool(ThreadPoolExecutor):
    """Threads for work that is not to get lost where no thread can be started just now."""

    #: work is queued, and there may be no thread for it
    _needs_thread = False

    def enqueue(self, work: Callable[..., object], *args: object) -> None:
        """Queue work; the next call of this or of :meth:`nudge` starts a thread if this cannot."""
        self._needs_thread = False
        try:
            self.submit(work, *args)
        except RuntimeError:  # queued all the same, but after the end
            self._needs_thread = True

    def retry_thread_start(self) -> None:
        """Try again to start a thread, if that failed the last time."""
        if self._needs_thread:
            self.enqueue(_do_nothing)


def _do_nothing() -> None:
    """Work that needs a thread and nothing else."""


class SingleFlight(Generic[R]):
    """At most one run of each key at a time; later callers share the run under way.

    ``workers`` bounds how many keys run at once; the rest queue.
    """

    def __init__(self, name: str, workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, Future[R]] = {}
        self._is_closed = False

    def start(self, key: Hashable, work: Callable[[], R]) -> Future[R]:
        """The run of ``key`` that is under way, or a new one.

        Raises Stopping after close, and Busy when no thread can be started for it.
        """
        with self._lock:
            if self._is_closed:
                raise Stopping("onefs is being stopped")
            future = self._in_flight.get(key)
            if future is None:
                future = Future()
                self._in_flight[key] = future
                try:
                    self._pool.submit(self._run, key, work, future)
                except RuntimeError as error:  # else the key would be under way for good
                    del self._in_flight[key]
                    raise Busy("no more threads can be started now; try again later") from error
            return future

    def wait(self, key: Hashable, work: Callable[[], R], deadline: float, what: str) -> R:
        """The result of ``key``'s run, waiting at most ``deadline`` seconds.

        Raises what the work raised, or DeadlineExceeded naming ``what``.
        """
        future = self.start(key, work)
        if not wait([future], timeout=deadline).done:
            raise DeadlineExceeded(f"{what}: no answer within {deadline:g} s")
        return result_of(future)

    def close(self) -> None:
        """Wake everybody with Stopping; runs under way end by themselves."""
        with self._lock:
            self._is_closed = True
            waiting = list(self._in_flight.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for future in waiting:
            _settle(future, error=Stopping("onefs is being stopped"))

    def _run(self, key: Hashable, work: Callable[[], R], future: Future[R]) -> None:
        try:
            result = work()
        except BaseException as error:
            self._remove(key, future)
            _settle(future, error=error)
        else:
            self._remove(key, future)
            _settle(future, result=result)

    def _remove(self, key: Hashable, future: Future[R]) -> None:
        with self._lock:
            if self._in_flight.get(key) is future:
                del self._in_flight[key]


def result_of(future: Future[R]) -> R:
    """Return the result of a run that has ended, or raise a copy of its failure."""
    error = future.exception(0)
    if error is not None:
        raise copy_error(error)
    return future.result(0)


def _settle(future: Future[R], result: R | None = None, error: BaseException | None = None) -> None:
    """Set the outcome unless close() or the run has set it already."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]
    except Exception:  # InvalidStateError: settled by the other side
        return
