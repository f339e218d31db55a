"""Bounded parallel work: one function is called for many items, for several at the same time.

The threads are daemon threads that are never joined. A caller that stops early (Ctrl-C, an error, a
closed generator) continues at once. Items whose work has not begun are dropped, and the outcomes of
items under way are discarded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from onefs.errors import Busy

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

#: items per thread that are taken in advance, so that threads stay busy while the caller uses an
#: outcome
_QUEUED_ITEMS_PER_THREAD = 4
#: downloads begin with this many threads. On a fast line, more threads only take turns with the
#: interpreter lock
DOWNLOADS_AT_FIRST = 2
#: further threads are started if the process used less than BUSY_PROCESSORS in this number of
#: seconds, because its threads wait for servers
_IDLE_CHECK_SECONDS = 0.05
_BUSY_PROCESSORS = 0.75
#: longest time in seconds until a wait for an outcome ends after Ctrl-C
_SIGNAL_CHECK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outcome(Generic[I, R]):
    """The outcome of the work on one item: a value or an error."""

    item: I
    value: R | None = None
    error: BaseException | None = None

    def result(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)


def run_parallel(
    work: Callable[[I], R],
    items: Iterable[I],
    max_threads: int,
    name: str,
    first_threads: int | None = None,
) -> Iterator[Outcome[I, R]]:
    """Call ``work`` for each item, in threads. Yield the outcome of each call when it ends.

    At most ``max_threads`` calls run at once. With ``first_threads``, at most so many calls run at
    first, and twice as many each time that the processors were idle. Items are taken from ``items``
    when needed, in the caller's thread. ``name`` is the prefix of the threads' names. Raises Busy
    if no thread can be started.
    """
    workers = _Workers(work, max_threads, name, first_threads or max_threads)
    try:
        for item in items:
            workers.submit(item)
            while workers.is_full() or workers.has_outcome():
                yield workers.next_outcome()
        while workers.pending_count:
            yield workers.next_outcome()
    finally:
        workers.stop()


class _Workers(Generic[I, R]):
    """The threads of one call of :func:`run_parallel`.

    Only the caller's thread may call the methods, except ``_run``.
    """

    def __init__(
        self, work: Callable[[I], R], max_threads: int, name: str, first_threads: int
    ) -> None:
        self._work = work
        self._max_threads = max_threads
        #: number of threads that may run now
        self._allowed_threads = min(first_threads, max_threads)
        self._name = name
        self._thread_count = 0
        #: when the processors were last found busy or idle, and the seconds of processor time that
        #: the process had used by then
        self._checked_at = time.monotonic(), time.process_time()
        #: each item in a tuple of one element; None ends one thread
        self._items: SimpleQueue[tuple[I] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome[I, R]] = SimpleQueue()
        self._is_stopped = False
        #: number of submitted items whose outcome has not been taken yet
        self.pending_count = 0

    def submit(self, item: I) -> None:
        """Queue an item. Start a thread if fewer threads run than are allowed now."""
        self._allow_threads_if_idle()
        if self._thread_count < self._allowed_threads:
            self._start_thread()
        self._items.put((item,))
        self.pending_count += 1

    def is_full(self) -> bool:
        """Whether enough items are queued to keep all threads busy."""
        return self.pending_count >= self._max_threads * _QUEUED_ITEMS_PER_THREAD

    def has_outcome(self) -> bool:
        """Whether :meth:`next_outcome` returns at once."""
        return not self._outcomes.empty()

    def next_outcome(self) -> Outcome[I, R]:
        """Wait for the next outcome without a time limit, and return the outcome.

        No time limit is needed, because each call of ``work`` has its own deadline.
        """
        while True:
            is_growing = self._allowed_threads < self._max_threads
            try:
                # Python handles a signal that arrives just before a wait only after the wait
                outcome = self._outcomes.get(
                    timeout=_IDLE_CHECK_SECONDS if is_growing else _SIGNAL_CHECK_SECONDS
                )
            except Empty:
                self._allow_threads_if_idle()
                while self._thread_count < min(self._allowed_threads, self.pending_count):
                    self._start_thread()
                continue
            self.pending_count -= 1
            return outcome

    def stop(self) -> None:
        """End each thread after the item that it works on."""
        self._is_stopped = True
        for _ in range(self._thread_count):
            self._items.put(None)

    def _allow_threads_if_idle(self) -> None:
        """Allow twice as many threads if the process has used the processors little."""
        if self._allowed_threads == self._max_threads:
            return
        (before, used_before), now = self._checked_at, time.monotonic()
        if now - before < _IDLE_CHECK_SECONDS:
            return
        used = time.process_time()
        self._checked_at = now, used
        if used - used_before < _BUSY_PROCESSORS * (now - before):
            self._allowed_threads = min(2 * self._allowed_threads, self._max_threads)

    def _start_thread(self) -> None:
        number = self._thread_count
        thread = threading.Thread(target=self._run, name=f"{self._name}_{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not number:
                raise Busy("no more threads can be started now; try again later") from error
            # fewer threads do the same work
            self._max_threads = self._allowed_threads = number
        else:
            self._thread_count += 1

    def _run(self) -> None:
        while (queued := self._items.get()) is not None and not self._is_stopped:
            (item,) = queued
            try:
                self._outcomes.put(Outcome(item, value=self._work(item)))
            except BaseException as error:
                # in no variable, because the error's traceback has this frame
                self._outcomes.put(Outcome(item, error=error))
