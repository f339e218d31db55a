"""Answer times: how long the file servers take until the first byte of a small file."""

from __future__ import annotations

import threading
from collections import deque

from onefs.download.server_names import server_of

#: seconds from request to first byte from which a server is slow: in this time, a processor can
#: receive and verify a small file (about 4 ms), so while answers take longer, it has time for more
SLOW_ANSWER_SECONDS = 0.005
#: number of answers that are judged. The quickest of them counts, because a thread that waits for
#: the interpreter lock sees its answer late
_JUDGED_ANSWERS = 16
_MIN_ANSWERS = 3


class AnswerTimes:
    """The times of the last answers of each file server. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: by server: the last times in seconds
        self._times: dict[str, deque[float]] = {}
        self._slow: frozenset[str] = frozenset()

    def note(self, url: str, seconds: float) -> None:
        """Record that the first byte of ``url`` arrived so many seconds after the request."""
        server = server_of(url)
        with self._lock:
            times = self._times.setdefault(server, deque(maxlen=_JUDGED_ANSWERS))
            times.append(seconds)
            is_slow = len(times) >= _MIN_ANSWERS and min(times) >= SLOW_ANSWER_SECONDS
            if is_slow != (server in self._slow):
                self._slow ^= {server}

    def is_slow(self, url: str) -> bool:
        """Whether the server of ``url`` takes long to answer."""
        return server_of(url) in self._slow

    def is_any_slow(self) -> bool:
        """Whether one of the servers takes long to answer."""
        return bool(self._slow)
