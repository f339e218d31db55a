"""Which token is sent: a given one, or the kept one, which a new ``onefs login`` replaces."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from onefs.credentials import CredentialStore, alyx_password, known_token
from onefs.errors import AlyxCredentials
from onefs.http import Transport
from onefs.metadata.auth import check_token, fetch_token, looks_like_token
from onefs.secret import Secret
from onefs.settings import Settings


class GivenToken:
    """One token that stays as it is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def current(self) -> str:
        """The token."""
        return self._token

    def renewed(self, refused: str) -> str | None:
        """None: there is no other one."""
        return None


class KeptToken:
    """The token of ONEFS_TOKEN or of the store; what ``onefs login`` writes is taken up at once.

    Thread-safe. The store is asked again only after it has been written.
    """

    def __init__(
        self,
        settings: Settings,
        store: CredentialStore,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._lock = threading.Lock()
        self._stamp = store.stamp()
        self._token = known_token(settings, store, environ)

    def current(self) -> str:
        """The token to send. Raises AlyxCredentials when there is none."""
        with self._lock:
            self._look()
            if self._token is None:
                raise AlyxCredentials(_nothing_known(self._settings))
            return self._token

    def renewed(self, refused: str) -> str | None:
        """Another token than the refused one, if somebody has logged in meanwhile."""
        with self._lock:
            self._look()
            if self._token == refused:
                # ONEFS_TOKEN was refused; a kept token may be good
                kept = self._store.token(self._settings.url, self._settings.username)
                self._token = kept or self._token
            return self._token if self._token != refused else None

    def _look(self) -> None:
        stamp = self._store.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            kept = self._store.token(self._settings.url, self._settings.username)
            self._token = kept or self._token


def log_in(
    transport: Transport,
    settings: Settings,
    store: CredentialStore,
    environ: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = None,
) -> Secret:
    """The token to work with: the one that is known, else one got for the password, and kept.

    A known token is not checked. Raises AlyxCredentials when none is known and there is neither
    a password nor anybody to ``ask``, and what :func:`fetch_token` raises.
    """
    environ = os.environ if environ is None else environ
    token = known_token(settings, store, environ)
    if token is not None:
        return token
    password = alyx_password(settings, environ, ask) if settings.username else None
    if password is None:
        raise AlyxCredentials(_nothing_known(settings))
    if looks_like_token(password):
        check_token(transport, settings.url, password)
        token = password
    else:
        token = fetch_token(transport, settings.url, settings.username, password)
    store.set_token(settings.url, settings.username, token)
    return token


def _nothing_known(settings: Settings) -> str:
    if not settings.username:
        return (
            f"no user name is known for {settings.url}: give --username, or set ONEFS_USERNAME "
            "or ONEFS_TOKEN"
        )
    return (
        f"nobody is logged in to {settings.url} as {settings.username!r}: run `onefs login`, or "
        "set ONEFS_PASSWORD or ONEFS_TOKEN"
    )
