"""Credentials for file servers, read again from the credential store after a new login."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress

from onefs.config.credentials import CredentialStore, data_server_urls, find_data_credentials
from onefs.config.settings import Settings, resolve_settings
from onefs.errors import OnefsError
from onefs.http.auth import HostAuth


class StoredHostAuth(HostAuth):
    """Credentials that are read again whenever ``onefs login`` or ``onefs setup`` changes them."""

    def __init__(
        self, settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None
    ) -> None:
        credentials = find_data_credentials(settings, store, environ)
        super().__init__(credentials, data_server_urls(settings), settings.data_hosts)
        self._settings = settings
        self._store = store
        self._environ = environ
        self._stamp_lock = threading.Lock()
        self._stamp = store.stamp()

    def authorization_header(self, url: str) -> str | None:
        with self._stamp_lock:
            stamp = self._store.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
        return super().authorization_header(url)

    def _reload(self) -> None:
        self.replace_credentials(find_data_credentials(self._settings, self._store, self._environ))
        flags = {"url": self._settings.url, "profile": self._settings.profile or None}
        with suppress(OnefsError):  # the profile was removed; the trusted hosts stay
            settings = resolve_settings(flags, self._environ)
            self.set_trusted_origins(data_server_urls(settings), settings.data_hosts)
