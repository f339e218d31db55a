"""Looks up the addresses of host names, on a limited number of threads.

``getaddrinfo`` cannot be interrupted, and takes half a minute if the name server is unreachable.
Therefore ``getaddrinfo`` runs on a few threads that the whole process shares. All requests for one
host and port share one look-up. A queued look-up is not started if no request waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

#: the tuples of ``socket.getaddrinfo``
AddressInfos = Sequence[tuple[int, int, int, str, Any]]

#: largest number of look-ups at the same time in this process; further look-ups are queued
MAX_LOOKUP_THREADS = 8


class NameLookup:
    """One look-up, shared by all requests for its host and port. Guarded by the resolver's lock."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        #: events of waiting requests, which are set when the answer arrives
        self.waiters: list[threading.Event] = []
        self.answer: AddressInfos | OSError | None = None


class Resolver:
    """Looks up host names. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all look-ups, because a child process has no look-up threads after a fork."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], NameLookup] = {}
        self._queue: deque[NameLookup] = deque()
        self._thread_count = 0

    def start_lookup(self, host: str, port: int, wake: threading.Event) -> NameLookup:
        """Start a look-up, or join a running or queued look-up for the same host and port.

        ``wake`` is set when the answer arrives. After each call the caller must call
        :meth:`leave_lookup`. Raises OSError if no look-up thread can be started.
        """
        with self._lock:
            lookup = self._pending.get((host, port))
            if lookup is None:
                lookup = NameLookup(host, port)
                self._queue.append(lookup)
                self._pending[host, port] = lookup
                self._start_thread()
            lookup.waiters.append(wake)
            return lookup

    def leave_lookup(self, lookup: NameLookup, wake: threading.Event) -> None:
        """Stop waiting for the answer of ``lookup``.

        If no other request waits for a queued look-up, drop the look-up.
        """
        with self._lock:
            if wake in lookup.waiters:
                lookup.waiters.remove(wake)
            if not lookup.waiters and lookup in self._queue:
                self._queue.remove(lookup)
                del self._pending[lookup.host, lookup.port]

    def _start_thread(self) -> None:
        if self._thread_count >= MAX_LOOKUP_THREADS:
            return
        # a daemon, so that a process can exit without waiting for an unreachable name server
        thread = threading.Thread(target=self._run_lookups, name="onefs-dns", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._thread_count:
                lookup = self._queue.pop()
                del self._pending[lookup.host, lookup.port]
                raise OSError("no thread can be started to look up a name") from error
        else:
            self._thread_count += 1

    def _run_lookups(self) -> None:
        while (lookup := self._next_lookup()) is not None:
            answer = _getaddrinfo(lookup)
            with self._lock:
                lookup.answer = answer
                self._pending.pop((lookup.host, lookup.port), None)
                for wake in lookup.waiters:
                    wake.set()

    def _next_lookup(self) -> NameLookup | None:
        """Return the next look-up. Return None if the queue is empty, so that the thread ends."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._thread_count -= 1
            return None


def _getaddrinfo(lookup: NameLookup) -> AddressInfos | OSError:
    try:
        return socket.getaddrinfo(lookup.host, lookup.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except Exception:  # for example UnicodeError
        return socket.gaierror(socket.EAI_NONAME, "no valid host name")


RESOLVER = Resolver()
os.register_at_fork(after_in_child=RESOLVER.reset)
