"""The token that is sent to Alyx, and its renewal after the server refuses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from onefs.alyx.auth import fetch_token, no_login_message, obtain_token, save_token
from onefs.config.credentials import CredentialStore, find_alyx_password, find_token
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.errors import AlyxCredentials, OnefsError, Unreachable, copy_error
from onefs.http import Transport
from onefs.lowlevel.forking import ForkAware, register_fork_aware
from onefs.lowlevel.negative_cache import NegativeCache

#: seconds after a log-in without another one, which would have the same result
LOGIN_PAUSE_SECONDS = 5.0


class FixedToken:
    """A token that is never renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current_token(self) -> str:
        """The token."""
        return self._token

    def renew(self, refused: str) -> str | None:
        """None: there is no other token."""
        return None


class StoredToken:
    """The token of ONEFS_TOKEN or of the credential store. Thread-safe.

    When there is none, or the server refuses it, the password of ONEFS_PASSWORD or
    ONEFS_PASSWORD_FILE obtains another over ``transport``. The store is read again whenever it
    changes, so that a token of ``onefs login`` is used at once.
    """

    def __init__(
        self,
        settings: Settings,
        store: CredentialStore,
        environ: Mapping[str, str] | None = None,
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._environ = environ
        self._transport = transport
        #: when the password was sent last (``time.monotonic``), and the failures of user names
        self._logged_in_at = float("-inf")
        self._failures: NegativeCache[str] = NegativeCache(1, lambda error: LOGIN_PAUSE_SECONDS)
        self._lock = threading.Lock()
        self._stamp = store.stamp()
        self._token = find_token(settings, store, environ)

    def current_token(self) -> str:
        """The token to send. Raises AlyxCredentials without one, and as :func:`fetch_token`."""
        with self._lock:
            self._reload_if_changed()
            if self._token is None:
                self._token = self._log_in()
            if self._token is None:
                raise AlyxCredentials(no_login_message(self._settings))
            return self._token

    def renew(self, refused: str) -> str | None:
        """A token other than the refused one: of a later login, or for the password.

        None when there is no other. Raises as :func:`fetch_token`.
        """
        with self._lock:
            self._reload_if_changed()
            if self._token == refused:
                # ONEFS_TOKEN was refused; the stored token may be valid
                self._load_stored_token()
            if self._token == refused:
                self._token = self._log_in() or self._token
            return self._token if self._token != refused else None

    def _log_in(self) -> Secret | None:
        """Obtain a token for the password of the environment; None without a password.

        For LOGIN_PAUSE_SECONDS after a log-in, fail as that one did, or return None. Raises as
        :func:`fetch_token`.
        """
        if self._transport is None or not self._settings.username:
            return None
        self._failures.raise_failure(self._settings.username)
        if time.monotonic() - self._logged_in_at < LOGIN_PAUSE_SECONDS:
            return None
        password = find_alyx_password(self._settings, self._environ)
        if password is None:
            return None
        self._logged_in_at = time.monotonic()
        try:
            token = obtain_token(self._transport(), self._settings, password)
        except OnefsError as error:
            self._failures.add(self._settings.username, error)
            raise copy_error(error) from None
        save_token(self._settings, self._store, token)
        self._stamp = self._store.stamp()
        return token

    def _reload_if_changed(self) -> None:
        stamp = self._store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._load_stored_token()

    def _load_stored_token(self) -> None:
        stored = self._store.token(self._settings.url, self._settings.username)
        self._token = stored or self._token


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
