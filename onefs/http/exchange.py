"""What can end a request from outside: a deadline, or somebody who no longer wants the answer.

A socket's own timeout bounds one ``recv``; a server that sends a byte now and then never meets
it. So each request is an :class:`Exchange` that holds the :class:`ShutdownHandle` of its
connection, and the :class:`Watchdog` shuts that down when the exchange is overdue: whoever waits,
in connect, in the TLS handshake, for headers or for the body, is woken at once.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from typing import Any

from onefs.errors import Unreachable, copy_error
from onefs.http.resolver import RESOLVER, AddressInfos
from onefs.lowlevel.forking import ForkAware, register_fork_aware

Clock = Callable[[], float]
#: seconds after which the watchdog looks at what it watches, at the latest
MAX_CHECK_INTERVAL_SECONDS = 1.0


class EndReason(Enum):
    """Why an exchange was ended from outside."""

    OVERDUE = "overdue"
    STOPPED = "stopped"


class ShutdownHandle(ForkAware):
    """A duplicate of a connection's descriptor, by which any thread may shut the connection down.

    It belongs to the connection and to the exchanges that it carries, and is closed when none of
    them needs it any more: so no number can be closed and given to another file meanwhile.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._lock = threading.Lock()
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._holder_count = 1
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        """Have no part in a connection of the parent."""
        close_inherited_socket(self._socket)

    def acquire(self) -> None:
        """One more needs it."""
        with self._lock:
            self._holder_count += 1

    def release(self) -> None:
        """One of those who need it does so no longer."""
        with self._lock:
            self._holder_count -= 1
            if not self._holder_count:
                self._socket.close()

    def shut_down(self) -> None:
        """Shut the connection down. By a holder only."""
        with suppress(OSError):  # not connected, or gone already
            self._socket.shutdown(socket.SHUT_RDWR)


def close_inherited_socket(connection: socket.socket | None) -> None:
    """Close this process's descriptor of a connection that goes on in another process."""
    if connection is not None and connection.fileno() >= 0:
        os.close(connection.detach())


class Exchange:
    """One request and its answer, redirects included. Its methods may be called by any thread."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._shutdown_handle: ShutdownHandle | None = None
        self._wake_event = threading.Event()
        #: when the watchdog ends it, on the watchdog's clock; None while nobody waits for bytes
        self.due: float | None = None
        #: the watchdog has it on its list
        self.is_watched = False
        #: why it was ended from outside, or None
        self.end_reason: EndReason | None = None
        #: whether its connection had served another request before
        self.connection_reused = False

    def set_due(self, due: float | None) -> None:
        """Something must have come by then; None: nobody is waiting."""
        self._watchdog.set_due(self, due)

    def attach(self, line: ShutdownHandle, *, reused: bool) -> None:
        """Name the line of the connection that carries the exchange from now on.

        Raises ConnectionAbortedError when the exchange was ended before.
        """
        line.acquire()
        with self._lock:
            old, self._shutdown_handle = self._shutdown_handle, line
            self.connection_reused = reused
            ended = self.end_reason is not None
        if old is not None:
            old.release()
        if ended:
            raise ConnectionAbortedError("ended before it was connected")

    def stop(self, verdict: EndReason) -> None:
        """End it: whoever waits for it is woken. The first verdict stands; a no-op at the end."""
        with self._lock:
            if self.end_reason is None:
                self.end_reason = verdict
            if self._shutdown_handle is not None:
                self._shutdown_handle.shut_down()
        self._wake_event.set()

    def finish(self) -> None:
        """The end of it. Whoever takes the connection over from here on is not disturbed."""
        self._watchdog.unwatch(self)
        self.detach()

    def detach(self) -> None:
        """The connection serves another exchange from now on."""
        with self._lock:
            line, self._shutdown_handle = self._shutdown_handle, None
        if line is not None:
            line.release()

    def dial(
        self, host: str, port: int, timeout: float, options: Iterable[tuple[Any, ...]]
    ) -> tuple[socket.socket, ShutdownHandle]:
        """A connected socket and its line, which belong to the caller.

        ``timeout`` seconds in all: each address gets its share.

        Raises socket.gaierror, TimeoutError or another OSError.
        """
        end = time.monotonic() + timeout
        addresses = self._resolve(host, port, timeout)
        failure: OSError = OSError(f"{host} has no address")
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            share = max((end - time.monotonic()) / (len(addresses) - index), 0.01)
            connection = socket.socket(family, kind, protocol)
            try:
                line = ShutdownHandle(connection)
            except OSError:  # too many files are open
                connection.close()
                raise
            try:
                for option in options:
                    connection.setsockopt(*option)
                connection.settimeout(share)
                self.attach(line, reused=False)
                connection.connect(address)
            except OSError as error:
                connection.close()
                line.release()
                failure = error
            else:
                connection.settimeout(timeout)
                return connection, line
        raise failure

    def _resolve(self, host: str, port: int, timeout: float) -> AddressInfos:
        """``getaddrinfo`` that can be given up: a dead name server holds it for half a minute."""
        with suppress(socket.gaierror):  # raised when it is a name
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        lookup = RESOLVER.start_lookup(host, port, self._wake_event)
        self._wake_event.wait(timeout)
        RESOLVER.leave_lookup(lookup, self._wake_event)
        if self.end_reason is not None:
            raise ConnectionAbortedError("ended while the name was looked up")
        if lookup.answer is None:
            raise TimeoutError("the name server does not answer")
        self._wake_event.clear()
        if isinstance(lookup.answer, OSError):
            raise copy_error(lookup.answer)
        return lookup.answer


class Watchdog:
    """One thread that ends the exchanges that are overdue. It starts with the first of them."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._condition = threading.Condition()
        self._watched: set[Exchange] = set()
        self._next_check_at = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def set_due(self, exchange: Exchange, due: float | None) -> None:
        """Watch ``exchange``, to be ended at ``due``."""
        exchange.due = due
        # Without the lock, which every transfer would want for each piece that comes: the thread
        # looks before ``due`` by itself, or, if it is just about to sleep, within LOOK.
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
                except RuntimeError as error:  # nothing would end a request
                    raise Unreachable("no thread can be started to watch requests") from error
                self._thread = thread
            elif due is not None and due < self._next_check_at:
                self._condition.notify()

    def unwatch(self, exchange: Exchange) -> None:
        """Do not watch it any more."""
        with self._condition:
            exchange.is_watched = False
            self._watched.discard(exchange)

    def close(self) -> None:
        """End every exchange, now and later, and the thread."""
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
                look = now + MAX_CHECK_INTERVAL_SECONDS if self._watched else float("inf")
                self._next_check_at = min([*dues, look])
                self._condition.wait(min(self._next_check_at - now, threading.TIMEOUT_MAX))
