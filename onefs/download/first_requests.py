"""One request finds out whether a server has a file, before others for the same file are sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: seconds between two looks whether a request that waits is cancelled
_POLL_SECONDS = 0.1


class FirstRequests:
    """The first requests for replicas that have not answered yet. Thread-safe.

    Parts of a large file are requested at the same time. So that a server that refuses the file
    gets one request, the others wait for the first answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, threading.Event] = {}

    def begin(
        self, url: str, seconds: float, raise_if_cancelled: Callable[[], None]
    ) -> threading.Event | None:
        """Return an event for :meth:`end` if no other request is the first one for ``url``.

        Otherwise wait at most ``seconds`` for the end of the other one, and return None. Raises
        what ``raise_if_cancelled`` raises.
        """
        with self._lock:
            answer = self._answers.get(url)
            if answer is None:
                return self._answers.setdefault(url, threading.Event())
        due = time.monotonic() + seconds
        while not answer.wait(_POLL_SECONDS) and time.monotonic() < due:
            raise_if_cancelled()
        return None

    def end(self, url: str, answer: threading.Event) -> None:
        """Let the other requests go on, after an answer or a failure was recorded."""
        with self._lock:
            if self._answers.get(url) is answer:
                del self._answers[url]
        answer.set()
