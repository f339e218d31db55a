"""Tokens of the Python client: obtained for a password on first use, or never (offline)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from onefs.alyx.auth import LOGIN_PAUSE_SECONDS, fetch_token
from onefs.config.secret import Secret
from onefs.errors import Unreachable
from onefs.http import Transport
from onefs.lowlevel.forking import ForkAware, register_fork_aware


class PasswordToken(ForkAware):
    """The token for a user's password: obtained on first use, and again when Alyx refuses it.

    Thread-safe. A child process keeps it after a fork.
    """

    def __init__(
        self, transport: Callable[[], Transport], url: str, username: str, password: str
    ) -> None:
        self._transport = transport
        self._login = (url, username, password)
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._fetched_at = 0.0
        register_fork_aware(self)

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def current_token(self) -> str:
        """The token to send. Raises as :func:`fetch_token`."""
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
            return self._token

    def renew(self, refused: str) -> str | None:
        """A token other than the refused one; None while the password obtains the same.

        Raises as :func:`fetch_token`.
        """
        with self._lock:
            paused = time.monotonic() - self._fetched_at < LOGIN_PAUSE_SECONDS
            if self._token in (refused, None) and not paused:
                self._token = self._fetch()
            return self._token if self._token != refused else None

    def _fetch(self) -> Secret:
        self._fetched_at = time.monotonic()
        return fetch_token(self._transport(), *self._login)


class OfflineToken:
    """Takes the place of a token where no server must be asked."""

    def __init__(self, url: str) -> None:
        self._url = url

    def current_token(self) -> str:
        """Raise Unreachable."""
        raise Unreachable(f"{self._url} is not asked, because of offline mode")

    def renew(self, refused: str) -> str | None:
        """None: there is no token."""
        return None
