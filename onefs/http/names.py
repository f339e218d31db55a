"""Host names to addresses, on a bounded number of threads.

``getaddrinfo`` cannot be interrupted: with a dead name server it takes half a minute. So it runs on
threads of its own, a few for the whole process, and all requests for one host share one look-up.
A request that waits no longer leaves it, and a look-up that is still queued then is not begun.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

#: the tuples of ``socket.getaddrinfo``
Addresses = Sequence[tuple[int, int, int, str, Any]]

#: names that are looked up at the same time in this process; the rest queue
LOOKUP_THREADS = 8


class Lookup:
    """One look-up, shared by all requests that need it. Guarded by the resolver's lock."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        #: set when there is an answer
        self.waiting: list[threading.Event] = []
        self.answer: Addresses | OSError | None = None


class Resolver:
    """Looks names up. Thread-safe."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew without any look-up: in a forked child, which has none of the threads."""
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Lookup] = {}
        self._queue: deque[Lookup] = deque()
        self._threads = 0

    def begin(self, host: str, port: int, wake: threading.Event) -> Lookup:
        """Begin a look-up, or join the one under way; ``wake`` is set when there is an answer.

        Each call is answered by one :meth:`leave`. Raises OSError when no thread can be started.
        """
        with self._lock:
            lookup = self._under_way.get((host, port))
            if lookup is None:
                lookup = Lookup(host, port)
                self._queue.append(lookup)
                self._under_way[host, port] = lookup
                self._see_to_threads()
            lookup.waiting.append(wake)
            return lookup

    def leave(self, lookup: Lookup, wake: threading.Event) -> None:
        """Wait no longer, with or without an answer."""
        with self._lock:
            if wake in lookup.waiting:
                lookup.waiting.remove(wake)
            if not lookup.waiting and lookup in self._queue:
                self._queue.remove(lookup)
                del self._under_way[lookup.host, lookup.port]

    def _see_to_threads(self) -> None:
        if self._threads >= LOOKUP_THREADS:
            return
        # daemons: a process that ends does not wait for a dead name server
        thread = threading.Thread(target=self._work, name="onefs-dns", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                lookup = self._queue.pop()
                del self._under_way[lookup.host, lookup.port]
                raise OSError("no thread can be started to look up a name") from error
        else:
            self._threads += 1

    def _work(self) -> None:
        while (lookup := self._next()) is not None:
            answer = _ask(lookup)
            with self._lock:
                lookup.answer = answer
                self._under_way.pop((lookup.host, lookup.port), None)
                for wake in lookup.waiting:
                    wake.set()

    def _next(self) -> Lookup | None:
        """The look-up to do next; None when there is none, and the thread is to end."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            self._threads -= 1
            return None


def _ask(lookup: Lookup) -> Addresses | OSError:
    try:
        return socket.getaddrinfo(lookup.host, lookup.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except Exception:  # UnicodeError, for one
        return socket.gaierror(socket.EAI_NONAME, "no valid host name")


RESOLVER = Resolver()
os.register_at_fork(after_in_child=RESOLVER.forget)
