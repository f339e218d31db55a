"""Host names to addresses, on a bounded number of threads.

``getaddrinfo`` cannot be interrupted, and takes half a minute if the name server is dead. It runs
on a few threads for the whole process, and all requests for one host share one look-up. A queued
look-up that no request waits for any more is not started.
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

#: look-ups at the same time in this process; the rest queue
MAX_LOOKUP_THREADS = 8


class NameLookup:
    """One look-up, shared by all requests that need it. Guarded by the resolver's lock."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        #: events that are set when there is an answer
        self.waiters: list[threading.Event] = []
        self.answer: AddressInfos | OSError | None = None


class Resolver:
    """Looks up host names. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all look-ups: a forked child has none of the threads."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], NameLookup] = {}
        self._queue: deque[NameLookup] = deque()
        self._thread_count = 0

    def start_lookup(self, host: str, port: int, wake: threading.Event) -> NameLookup:
        """Start a look-up, or join the one under way; ``wake`` is set when there is an answer.

        Each call needs one of :meth:`leave_lookup`. Raises OSError when no thread can be started.
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
        """Stop waiting for an answer, whether there is one or not."""
        with self._lock:
            if wake in lookup.waiters:
                lookup.waiters.remove(wake)
            if not lookup.waiters and lookup in self._queue:
                self._queue.remove(lookup)
                del self._pending[lookup.host, lookup.port]

    def _start_thread(self) -> None:
        if self._thread_count >= MAX_LOOKUP_THREADS:
            return
        # a daemon: a process that exits does not wait for a dead name server
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
        """The next look-up; None when there is none, and the thread must end."""
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
    except Exception:  # UnicodeError, for one
        return socket.gaierror(socket.EAI_NONAME, "no valid host name")


RESOLVER = Resolver()
os.register_at_fork(after_in_child=RESOLVER.reset)
