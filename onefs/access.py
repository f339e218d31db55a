"""A laboratory opened: its catalogue, store and tree over one server, one cache and one login."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from onefs.content.reader import Content
from onefs.credentials import CredentialStore, DataCredentials, find_data_credentials
from onefs.errors import UsageError
from onefs.http import HostAuth, Transport
from onefs.metadata.alyx import Alyx, Token
from onefs.metadata.auth import fetch_token
from onefs.metadata.catalogue import Catalogue
from onefs.metadata.login import GivenToken, KeptToken
from onefs.metadata.tabled import TabledDatabase
from onefs.settings import Settings
from onefs.tree.laboratory import Laboratory


@dataclass(frozen=True)
class Deadlines:
    """How long anything waits, in seconds."""

    #: an answer of Alyx, or of a file server that is only asked about a file
    metadata: float = 10.0
    #: no byte of a download
    stall: float = 60.0

    @classmethod
    def of_environment(cls) -> Deadlines:
        """``ONEFS_DEADLINE`` and ``ONEFS_STALL``, else the defaults. Raises UsageError."""
        return cls(_seconds("ONEFS_DEADLINE", cls.metadata), _seconds("ONEFS_STALL", cls.stall))


@dataclass(frozen=True, slots=True)
class GivenLogin:
    """A login that is not to be looked up: the embedded laboratory's, or one for one use."""

    password: str
    data: DataCredentials


class KeptAuth(HostAuth):
    """The file server's credentials as they are kept, also after a new login."""

    def __init__(self, settings: Settings, store: CredentialStore) -> None:
        known = [settings.data_url] if settings.data_url else []
        super().__init__(find_data_credentials(settings, store), known)
        self._settings = settings
        self._store = store
        self._look = threading.Lock()
        self._stamp = store.stamp()

    def header(self, url: str) -> str | None:
        with self._look:
            stamp = self._store.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self.replace(find_data_credentials(self._settings, self._store))
        return super().header(url)


class Access:
    """Everything over one laboratory, until :meth:`close`.

    ``database`` names the laboratory: the cache folder must be its own. Without ``login`` the
    kept token and credentials are used, and taken up anew when ``onefs login`` writes others.
    Raises UsageError or CacheError when the folders cannot be used; without ``login`` it asks no
    server.
    """

    def __init__(
        self,
        settings: Settings,
        database: str,
        *,
        login: GivenLogin | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        limits = deadlines or Deadlines()
        self._transport = Transport()
        token, auth = self._credentials(settings, login)
        self.alyx = Alyx(self._transport, settings.url, token, limits.metadata)
        self.database = TabledDatabase(settings.state_dir / "catalogue.sqlite")
        self.catalogue = Catalogue(self.database, self.alyx, deadline=limits.metadata)
        self.content = Content(
            settings.cache_dir,
            settings.state_dir,
            database,
            self._transport,
            auth,
            stall=limits.stall,
            deadline=limits.metadata,
        )
        self.tree = Laboratory(self.catalogue, self.content, settings.url)

    def wake(self) -> None:
        """Wake all that waits, with Stopping; nothing waits afterwards."""
        self.catalogue.close()
        self.content.close()
        self._transport.close()

    def close(self) -> None:
        """Let go of everything."""
        self.wake()
        self.content.release()
        self.database.close()

    def _credentials(self, settings: Settings, login: GivenLogin | None) -> tuple[Token, HostAuth]:
        if login is None:
            store = CredentialStore()
            return KeptToken(settings, store), KeptAuth(settings, store)
        token = fetch_token(self._transport, settings.url, settings.username, login.password)
        return GivenToken(token), HostAuth(login.data, [settings.data_url])


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise UsageError(f"{variable} is {text!r}: it must be a number of seconds")
    return seconds
