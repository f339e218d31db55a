"""Provides the token that is sent to Alyx, and another token if the server refuses the token."""

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

#: seconds between two log-ins. A log-in sooner than that would have the same result
LOGIN_PAUSE_SECONDS = 5.0


class FixedToken:
    """A token that is never renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current_token(self) -> str:
        """Return the token."""
        return self._token

    def renew(self, refused: str) -> str | None:
        """Return None, because there is no other token."""
        return None


class StoredToken:
    """Provides the token from ONEFS_TOKEN or from the credential store. Thread-safe.

    If there is no token, or the server refuses the token, another token is obtained over
    ``transport``. The password for this is in ONEFS_PASSWORD, or in the file that
    ONEFS_PASSWORD_FILE names. A new token from ``onefs login`` is used at once.
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
        #: when the password was last sent (``time.monotonic``), and the last failure by user name
        self._logged_in_at = float("-inf")
        self._failures: NegativeCache[str] = NegativeCache(1, lambda error: LOGIN_PAUSE_SECONDS)
        self._lock = threading.Lock()
        # the store is read again whenever this stamp changes
        self._stamp = store.stamp()
        self._token = find_token(settings, store, environ)

    def current_token(self) -> str:
        """Return the token to send. Log in if there is no token yet.

        Raises AlyxCredentials if no token can be obtained, and what :func:`obtain_token` raises.
        """
        with self._lock:
            self._reload_if_changed()
            if self._token is None:
                self._token = self._log_in()
            if self._token is None:
                raise AlyxCredentials(no_login_message(self._settings))
            return self._token

    def renew(self, refused: str) -> str | None:
        """Return a token other than the ``refused`` token, or None if there is no other token.

        The other token is the stored token, or a new token that is obtained with the password.
        Raises what :func:`obtain_token` raises.
        """
        with self._lock:
            self._reload_if_changed()
            if self._token == refused:
                # if the refused token is from ONEFS_TOKEN, the stored token may be valid
                self._load_stored_token()
            if self._token == refused:
                self._token = self._log_in() or self._token
            return self._token if self._token != refused else None

    def _log_in(self) -> Secret | None:
        """Obtain a token with the password from the environment, and store the token.

        Return None if no log-in is possible now. Raises what :func:`obtain_token` raises.
        """
        if self._transport is None or not self._settings.username:
            return None
        # for LOGIN_PAUSE_SECONDS after a log-in no other log-in is tried: the error of a failed
        # log-in is raised again
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
    """Provides a token that is obtained with a user's password. Thread-safe.

    The token is obtained when it is first needed, and again when Alyx refuses the token.
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
        self._lock = threading.Lock()  # the child process keeps the token

    def current_token(self) -> str:
        """Return the token to send. Raises what :func:`fetch_token` raises."""
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
            return self._token

    def renew(self, refused: str) -> str | None:
        """Return a token other than the ``refused`` token, or None if Alyx gives no other token.

        At most one token is requested in LOGIN_PAUSE_SECONDS. Raises what :func:`fetch_token`
        raises.
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
    """Replaces a token in offline mode, in which no request may be sent."""

    def __init__(self, url: str) -> None:
        self._url = url

    def current_token(self) -> str:
        """Raise Unreachable, because no request may be sent in offline mode."""
        raise Unreachable(f"no request is sent to {self._url}, because onefs is in offline mode")

    def renew(self, refused: str) -> str | None:
        """Return None, because there is no token."""
        return None
