"""Requests that a deadline or another thread can end.

The timeout of a socket limits only one ``recv`` call. A server that sends one byte at a time never
exceeds this timeout. Therefore each request is an :class:`Exchange` that holds the
:class:`ShutdownHandle` of its connection. When the exchange is overdue, the :class:`Watchdog` shuts
the connection down. The shutdown wakes the waiting thread at once, whether the thread waits for the
connection, the TLS handshake, the headers or the body.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from onefs.config.urls import host_of, safe_url
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    Stopping,
    Unreachable,
)

if TYPE_CHECKING:
    from onefs.http.dialing import ShutdownHandle

Clock = Callable[[], float]
#: longest time in seconds between two checks of the watchdog
MAX_CHECK_INTERVAL_SECONDS = 1.0


class EndReason(Enum):
    """The reason for which the watchdog or another thread ended a request."""

    OVERDUE = "overdue"
    STOPPED = "stopped"


class Exchange:
    """One request and its response, redirects included. Thread-safe."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._shutdown_handle: ShutdownHandle | None = None
        #: set when the exchange is ended, or the host's addresses are found
        self.wake_event = threading.Event()
        #: when the watchdog ends the exchange, by its clock; None while no thread waits for bytes
        self.due: float | None = None
        #: whether the watchdog watches the exchange
        self.is_watched = False
        #: why the watchdog or another thread ended the exchange; None before the exchange is ended
        self.end_reason: EndReason | None = None
        #: whether the connection was used for another request before
        self.connection_reused = False

    def set_due(self, due: float | None) -> None:
        """Let the watchdog end this request at ``due``, in seconds of the watchdog's clock.

        With None, the watchdog does not end the request.
        """
        # None while no thread waits for bytes
        self._watchdog.set_due(self, due)

    def attach(self, handle: ShutdownHandle, *, reused: bool) -> None:
        """Store the shutdown handle of the connection that this request uses from now on.

        ``reused`` tells whether an earlier request has used the connection. Raises
        ConnectionAbortedError if this request has already been ended.
        """
        handle.acquire()
        with self._lock:
            old, self._shutdown_handle = self._shutdown_handle, handle
            self.connection_reused = reused
            ended = self.end_reason is not None
        if old is not None:
            old.release()
        if ended:
            raise ConnectionAbortedError("ended before it was connected")

    def stop(self, reason: EndReason) -> None:
        """End this request and wake its waiting thread. The reason of the first call is kept."""
        with self._lock:
            if self.end_reason is None:
                self.end_reason = reason
            if self._shutdown_handle is not None:
                self._shutdown_handle.shut_down()
        self.wake_event.set()

    def finish(self) -> None:
        """Finish this request, so that its connection can be used for other requests."""
        self._watchdog.unwatch(self)
        self.detach()

    def detach(self) -> None:
        """Release the shutdown handle, so that this request cannot shut the connection down."""
        with self._lock:
            handle, self._shutdown_handle = self._shutdown_handle, None
        if handle is not None:
            handle.release()


def end_error(exchange: Exchange, url: str, seconds: float) -> OnefsError | None:
    """Return the error for a request that the watchdog or another thread ended.

    Return None if the request was not ended. ``seconds`` is the timeout to state in the error
    message.
    """
    if exchange.end_reason is EndReason.OVERDUE:
        return DeadlineExceeded(f"{safe_url(url)}: no answer within {seconds:g} s")
    if exchange.end_reason is EndReason.STOPPED:
        return Stopping(f"the request to {host_of(url)} was stopped")
    return None


class Watchdog:
    """Ends overdue requests, on a thread that starts with the first request."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._condition = threading.Condition()
        self._watched: set[Exchange] = set()
        self._next_check_at = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def set_due(self, exchange: Exchange, due: float | None) -> None:
        """Watch the request ``exchange`` and end it at ``due``, in seconds of ``clock``.

        If ``due`` is None, do not end the request.
        """
        exchange.due = due
        # This check takes no lock, because every transfer would need the lock for each chunk. The
        # thread checks before ``due`` anyway. If the thread is just about to sleep, it checks
        # within MAX_CHECK_INTERVAL_SECONDS.
        if exchange.is_watched and (due is None or due >= self._next_check_at):
            return
        with self._condition:
            exchange.is_watched = True
            self._watched.add(exchange)
            if self._closed:
                exchange.stop(EndReason.STOPPED)
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name="onefs-http", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # deadlines need the thread
                    raise Unreachable("no thread can be started to watch requests") from error
                self._thread = thread
            elif due is not None and due < self._next_check_at:
                self._condition.notify()

    def unwatch(self, exchange: Exchange) -> None:
        """Stop watching the request ``exchange``, because it has finished."""
        with self._condition:
            exchange.is_watched = False
            self._watched.discard(exchange)

    def close(self) -> None:
        """End the thread and all watched requests. Requests that start later are ended at once."""
        with self._condition:
            self._closed = True
            for exchange in self._watched:
                exchange.stop(EndReason.STOPPED)
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._closed:
                now = self.clock()
                dues = []
                for exchange in self._watched:
                    due = exchange.due
                    if due is not None and due <= now:
                        exchange.stop(EndReason.OVERDUE)
                        exchange.due = None
                    elif due is not None:
                        dues.append(due)
                latest = now + MAX_CHECK_INTERVAL_SECONDS if self._watched else float("inf")
                self._next_check_at = min([*dues, latest])
                self._condition.wait(min(self._next_check_at - now, threading.TIMEOUT_MAX))
