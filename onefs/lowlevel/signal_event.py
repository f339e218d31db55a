"""An event that a signal handler may set."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class SignalEvent:
    """Like ``threading.Event``, but a signal handler may set it too.

    Python runs a signal handler in the main thread, between any two steps. If the main thread is
    inside the ``wait`` of a ``threading.Event`` then, it may hold the lock that ``set`` needs, and
    stands still for ever.
    """

    def __init__(self) -> None:
        # put() of this queue may be called while get() runs in the same thread
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End all waits, now and later."""
        self._queue.put(None)

    def is_set(self) -> bool:
        """Return True after :meth:`set` was called."""
        return not self._queue.empty()

    def wait(self, timeout: float) -> bool:
        """Wait until the event is set. Return False if it is not set after ``timeout`` seconds."""
        try:
            self._queue.get(timeout=timeout)
        except Empty:
            return False
        self._queue.put(None)
        return True
