"""Connecting to a host, so that any thread can shut the connection down.

Loaded with the first request, because commands that send none need no sockets.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from onefs.errors import copy_error, strip_tracebacks
from onefs.http.exchange import Exchange
from onefs.http.resolver import RESOLVER, AddressInfos
from onefs.lowlevel.forking import ForkAware, register_fork_aware


class ShutdownHandle(ForkAware):
    """A duplicate of a connection's descriptor, by which any thread can shut the connection down.

    The connection, and each request that uses the connection, is a holder of this handle. The last
    holder that releases the handle closes the descriptor.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._lock = threading.Lock()
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        # the descriptor number is not reused for another file while there are holders
        self._holder_count = 1
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        """Close the copy of the parent's descriptor that the child process has."""
        close_inherited_socket(self._socket)

    def acquire(self) -> None:
        """Count one more holder of this shutdown handle: a connection or a request."""
        with self._lock:
            self._holder_count += 1

    def release(self) -> None:
        """Remove a holder of this shutdown handle. If no holder is left, close the descriptor."""
        with self._lock:
            self._holder_count -= 1
            if not self._holder_count:
                self._socket.close()

    def shut_down(self) -> None:
        """Shut the connection down. Only a holder of this shutdown handle may call this."""
        with suppress(OSError):  # the connection is not open yet, or closed already
            self._socket.shutdown(socket.SHUT_RDWR)


def close_inherited_socket(connection: socket.socket | None) -> None:
    """Close this process's descriptor of a connection that another process still uses."""
    if connection is not None and connection.fileno() >= 0:
        os.close(connection.detach())


def dial(
    exchange: Exchange, host: str, port: int, timeout: float, options: Iterable[tuple[Any, ...]]
) -> tuple[socket.socket, ShutdownHandle]:
    """Connect to a host. Return the socket and the shutdown handle of the connection.

    The caller must close the socket and release the handle. ``timeout`` is in seconds, for all
    addresses of the host together. ``options`` are argument tuples for ``setsockopt``. Raises
    socket.gaierror, TimeoutError or another OSError.
    """
    end = time.monotonic() + timeout
    addresses = _resolve(exchange, host, port, timeout)
    failure: OSError = OSError(f"{host} has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        share = max((end - time.monotonic()) / (len(addresses) - index), 0.01)
        connection = socket.socket(family, kind, protocol)
        try:
            handle = ShutdownHandle(connection)
        except OSError:  # too many files are open
            connection.close()
            raise
        try:
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(share)
            exchange.attach(handle, reused=False)
            connection.connect(address)
        except OSError as error:
            connection.close()
            handle.release()
            failure = strip_tracebacks(error)
        else:
            connection.settimeout(timeout)
            return connection, handle
    raise copy_error(failure)


def _resolve(exchange: Exchange, host: str, port: int, timeout: float) -> AddressInfos:
    """Return the addresses of a host.

    Raises TimeoutError after ``timeout`` seconds, ConnectionAbortedError if the request is
    ended, and OSError if the look-up fails.
    """
    with suppress(socket.gaierror):  # ``host`` is a name; an IP address needs no look-up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    # getaddrinfo has no timeout, and waits 30 seconds for an unreachable name server
    lookup = RESOLVER.start_lookup(host, port, exchange.wake_event)
    exchange.wake_event.wait(timeout)
    RESOLVER.leave_lookup(lookup, exchange.wake_event)
    if exchange.end_reason is not None:
        raise ConnectionAbortedError("ended while the name was looked up")
    if lookup.answer is None:
        raise TimeoutError("the name server does not answer")
    exchange.wake_event.clear()
    if isinstance(lookup.answer, OSError):
        raise copy_error(lookup.answer)
    return lookup.answer
