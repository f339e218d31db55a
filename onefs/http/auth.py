"""Which file server gets the user and password, and when."""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from collections.abc import Iterable

from onefs.credentials import DataCredentials
from onefs.urls import origin

_BASIC = re.compile(r"(?:^|,)\s*basic(?:\s|,|$)", re.IGNORECASE)


class HostAuth:
    """One user and password, and the origins that may have them. Thread-safe.

    They go at once to the origins named beforehand (``known``: the data server of the profile)
    and to those that asked for them before with a Basic challenge; to nobody else, so neither
    to Alyx, nor to a host that a redirect leads to.
    """

    def __init__(self, credentials: DataCredentials | None, known: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._credentials = credentials
        self._origins = {origin(url) for url in known}

    def replace(self, credentials: DataCredentials | None) -> None:
        """Use these from now on: somebody has logged in anew."""
        with self._lock:
            self._credentials = credentials

    def header(self, url: str) -> str | None:
        """The Authorization header for ``url``, or None when its origin is not to have it."""
        with self._lock:
            credentials = self._credentials
            if credentials is None or origin(url) not in self._origins:
                return None
        pair = f"{credentials.username}:{credentials.password}".encode()
        return f"Basic {b64encode(pair).decode('ascii')}"

    def answer(self, url: str, challenge: str, sent: str | None) -> str | None:
        """What to send to ``url`` after a 401 with ``WWW-Authenticate: challenge``.

        ``sent`` is the header that was refused (None: there was none). None: nothing else is
        known, so that asking again is useless.
        """
        if _BASIC.search(challenge):
            with self._lock:
                self._origins.add(origin(url))
        header = self.header(url)
        return None if header == sent else header
