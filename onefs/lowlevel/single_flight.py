"""Single flight: concurrent requests for the same key share one run of the work.

The work runs in a thread of a pool. Therefore a caller can stop waiting at a deadline or when the
daemon stops, even if the network blocks the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from typing import Generic, TypeVar

from onefs.errors import Busy, DeadlineExceeded, OnefsError, Stopping, copy_error, strip_tracebacks

R = TypeVar("R")


class RetryingThreadPool(ThreadPoolExecutor):
    """A thread pool that keeps work queued when no thread can be started."""

    #: True if work is queued, and there may be no thread to run it
    _needs_thread = False

    def enqueue(self, work: Callable[..., object], *args: object) -> None:
        """Queue work. If no thread can be started now, the work stays queued.

        The next call of :meth:`enqueue` or :meth:`retry_thread_start` tries again to start a
        thread.
        """
        self._needs_thread = False
        try:
            self.submit(work, *args)
        except RuntimeError:  # the work is queued, except if the pool is shut down
            self._needs_thread = True

    def retry_thread_start(self) -> None:
        """Start a thread if :meth:`enqueue` could not start a thread for its work."""
        if self._needs_thread:
            self.enqueue(_do_nothing)


def _do_nothing() -> None:
    """Do nothing. This function is submitted only to start a thread."""


class SingleFlight(Generic[R]):
    """Runs the work for each key at most once at a time. Thread-safe.

    Callers with the same key share the run. ``name`` is the prefix of the threads' names. At most
    ``workers`` runs are in progress. Further runs wait in a queue.
    """

    def __init__(self, name: str, workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, Future[R]] = {}
        self._is_closed = False

    def start(self, key: Hashable, work: Callable[[], R]) -> Future[R]:
        """Return the run for ``key``. Start a run with ``work`` if none is in progress.

        Raises Stopping after :meth:`close`, and Busy if no thread can be started.
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
                except RuntimeError as error:  # no thread would remove the key
                    del self._in_flight[key]
                    raise Busy("no more threads can be started now; try again later") from error
            return future

    def wait(self, key: Hashable, work: Callable[[], R], deadline: float, description: str) -> R:
        """Return the result of the run for ``key``. Start a run with ``work`` if there is none.

        Raises what ``work`` and :meth:`start` raise. Raises DeadlineExceeded after ``deadline``
        seconds. Its message contains ``description``.
        """
        future = self.start(key, work)
        if not wait_until_done(future, deadline):
            raise DeadlineExceeded(f"{description}: no answer within {deadline:g} s")
        return result_of(future)

    def run_if_idle(self, key: Hashable, work: Callable[[], R]) -> R | None:
        """Run ``work`` in the calling thread. Return None if a run for ``key`` is in progress.

        Callers of :meth:`start` share the run. Raises what ``work`` raises, and Stopping after
        :meth:`close`.
        """
        future: Future[R] = Future()
        with self._lock:
            if self._is_closed:
                raise Stopping("onefs is being stopped")
            if key in self._in_flight:
                return None
            self._in_flight[key] = future
        self._run(key, work, future)
        return result_of(future)

    def close(self) -> None:
        """Make all waiting callers raise Stopping. Work that has begun is not stopped."""
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
            if isinstance(error, OnefsError):  # the log shows where other errors were raised
                strip_tracebacks(error)
            _settle(future, error=error)
        else:
            self._remove(key, future)
            _settle(future, result=result)

    def _remove(self, key: Hashable, future: Future[R]) -> None:
        with self._lock:
            if self._in_flight.get(key) is future:
                del self._in_flight[key]


def wait_until_done(future: Future[R], seconds: float) -> bool:
    """Wait until a run has ended. Return False after ``seconds``."""
    # several times as fast as concurrent.futures.wait
    with suppress(TimeoutError):
        future.exception(seconds)
    return future.done()


def result_of(future: Future[R], seconds: float | None = 0) -> R:
    """Return the result of a run that has ended, or raise a copy of its exception.

    With ``seconds`` None, wait for the end of the run, which must have a deadline of its own.
    """
    error = future.exception(seconds)
    if error is not None:
        raise copy_error(error)
    return future.result(0)


def _settle(future: Future[R], result: R | None = None, error: BaseException | None = None) -> None:
    """Set the outcome of a run: ``error``, or ``result`` if ``error`` is None.

    Does nothing if an outcome is already set, for example by :meth:`SingleFlight.close`.
    """
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]
    except Exception:  # InvalidStateError: an outcome is set already
        return
