"""Single flight: concurrent requests for the same key share one run of the work.

The work runs in a thread of a pool, so that callers can stop waiting at a deadline, or are woken
when the daemon stops, whatever the network does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from onefs.errors import Busy, DeadlineExceeded, Stopping, copy_error

R = TypeVar("R")


class RetryingThreadPool(ThreadPoolExecutor):
    """A thread pool that keeps work queued when no thread can be started."""

    #: work is queued, and there may be no thread to run it
    _needs_thread = False

    def enqueue(self, work: Callable[..., object], *args: object) -> None:
        """Queue work; if no thread can be started, a later call tries that again."""
        self._needs_thread = False
        try:
            self.submit(work, *args)
        except RuntimeError:  # the work is queued nevertheless, unless the pool is shut down
            self._needs_thread = True

    def retry_thread_start(self) -> None:
        """Start a thread if that failed last time."""
        if self._needs_thread:
            self.enqueue(_do_nothing)


def _do_nothing() -> None:
    """Serve as work whose submission starts a thread."""


class SingleFlight(Generic[R]):
    """Runs the work of each key at most once at a time; later callers share that run.

    ``name`` is the prefix of the threads' names. At most ``workers`` keys run at once; the others
    wait in a queue. Thread-safe.
    """

    def __init__(self, name: str, workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._in_flight: dict[Hashable, Future[R]] = {}
        self._is_closed = False

    def start(self, key: Hashable, work: Callable[[], R]) -> Future[R]:
        """Return the run of ``key`` that is in flight, or start one.

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
                except RuntimeError as error:  # without a thread the key would stay in flight
                    del self._in_flight[key]
                    raise Busy("no more threads can be started now; try again later") from error
            return future

    def wait(self, key: Hashable, work: Callable[[], R], deadline: float, description: str) -> R:
        """Return the result of ``key``'s run; wait for it at most ``deadline`` seconds.

        Raises what the work raised, or DeadlineExceeded naming the work by ``description``.
        """
        future = self.start(key, work)
        if not wait([future], timeout=deadline).done:
            raise DeadlineExceeded(f"{description}: no answer within {deadline:g} s")
        return result_of(future)

    def close(self) -> None:
        """Wake all waiting callers with Stopping; runs in flight end by themselves."""
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
    """Return the result of a run that has ended, or raise a copy of its exception."""
    error = future.exception(0)
    if error is not None:
        raise copy_error(error)
    return future.result(0)


def _settle(future: Future[R], result: R | None = None, error: BaseException | None = None) -> None:
    """Set the outcome, unless :meth:`SingleFlight.close` or the run has set one."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]
    except Exception:  # InvalidStateError: an outcome is set
        return
