"""A laboratory opened: its catalogue, store and tree over one server, one cache and one login.

Each of its parts is loaded and opened when it is first asked for: a search needs neither the store
nor the tree, and to load them takes longer than many a search.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from onefs.alyx.auth import FixedToken, StoredToken
from onefs.alyx.client import AlyxClient
from onefs.alyx.rate_limit import RateLimiter
from onefs.alyx.request import TokenSource
from onefs.alyx.tokens import OfflineToken, PasswordToken
from onefs.cache.permissions import check_cache_and_state_folders
from onefs.config.cache_owner import check_owner
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    data_server_urls,
    find_data_credentials,
)
from onefs.config.settings import Settings, resolve_settings
from onefs.config.urls import is_loopback, safe_url
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.http import HostAuth, OfflineTransport, Transport
from onefs.lowlevel.lazy import Lazy
from onefs.model import Dataset
from onefs.search.queries import SessionQueries

if TYPE_CHECKING:
    from onefs.catalogue.catalogue import Catalogue
    from onefs.catalogue.storage.overlay import OverlayDatabase
    from onefs.content.content import Content
    from onefs.tree.laboratory_tree import LaboratoryTree


#: seconds that a new cache folder's owner waits for the one that was interrupted
PREVIOUS_CLOSE_WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Deadlines:
    """How long anything waits, in seconds."""

    #: an answer of Alyx, or of a file server that is only asked about a file
    metadata: float = 10.0
    #: no byte of a download
    stall: float = 60.0

    @classmethod
    def from_environment(cls) -> Deadlines:
        """``ONEFS_DEADLINE`` and ``ONEFS_STALL``, else the defaults. Raises UsageError."""
        return cls(
            _seconds_of_variable("ONEFS_DEADLINE", cls.metadata),
            _seconds_of_variable("ONEFS_STALL", cls.stall),
        )


@dataclass(frozen=True, slots=True)
class GivenLogin:
    """A login that is not to be looked up: the embedded laboratory's, or one for one use.

    '' and None for what is to be looked up all the same.
    """

    password: str = ""
    data: DataCredentials | None = None
    token: str = ""
    #: it is the embedded laboratory's, whose file server may have any port of this machine
    embedded: bool = False


class StoredHostAuth(HostAuth):
    """The file server's credentials as they are kept, also after a new login."""

    def __init__(
        self, settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None
    ) -> None:
        found = find_data_credentials(settings, store, environ)
        super().__init__(found, data_server_urls(settings), settings.data_hosts)
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
        """Take up what ``onefs login`` or ``setup`` has saved."""
        self.replace_credentials(find_data_credentials(self._settings, self._store, self._environ))
        flags = {"url": self._settings.url, "profile": self._settings.profile or None}
        with suppress(OnefsError):  # no such profile any more: what was confirmed stays
            settings = resolve_settings(flags, self._environ)
            self.set_trusted_origins(data_server_urls(settings), settings.data_hosts)


class Access:
    """Everything over one laboratory, until :meth:`close`.

    ``database`` names the laboratory: the cache folder must be its own. Without ``login`` the
    token and credentials of ``environ`` (None: this process's) or the kept ones are used, and
    taken up anew when ``onefs login`` writes others. With ``offline`` no server is ever asked,
    and what is not known or not cached fails at once. ``as_of``: the day whose revisions the tree
    shows; '' for all. ``flat``: the tree shows default datasets without their folders. It asks no
    server, but with the password of ``login``. Raises AlyxCredentials when that is wrong, and
    UsageError when the cache folder belongs to another, or when others may have planted something
    in the folders (``onefs.cache.permissions``). What its parts raise, CacheError when the folders
    cannot be used, they raise when they are first asked for, or in :meth:`complete`.
    """

    def __init__(
        self,
        settings: Settings,
        database: str,
        *,
        login: GivenLogin | None = None,
        environ: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
        offline: bool = False,
        as_of: str = "",
        flat: bool = False,
    ) -> None:
        #: the database's address
        self.url = settings.url
        #: the ONE cache folder that files are kept in
        self.cache_dir = settings.cache_dir
        if not settings.cache_options.trust_cache_dir:
            check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
        check_owner(settings.cache_dir, database)
        self._settings, self._database_name, self._environ = settings, database, environ
        self._login = login or GivenLogin()
        self._deadlines = deadlines or Deadlines()
        self._offline, self._as_of, self._flat = offline, as_of, flat
        # Each part in a Once, and nothing else that has locks, threads or connections: these must
        # not outlive a fork, nor interrupt().
        self._transport: Lazy[Transport] = Lazy(OfflineTransport if offline else Transport)
        # the embedded laboratory, whose login is given, counts nobody's requests
        embedded = login is not None and is_loopback(settings.url)
        self._is_rate_limited = not (offline or embedded)
        self._rate_limiter = Lazy(partial(RateLimiter.of_server, settings.url))
        self._password_token = PasswordToken(
            self._transport, settings.url, settings.username, self._login.password
        )
        self._token = Lazy(self._open_token)
        self._alyx = Lazy(self._open_alyx)
        self._host_auth = Lazy(self._open_host_auth)
        self._database = Lazy(self._open_database)
        self._catalogue = Lazy(self._open_catalogue)
        self._content = Lazy(self._open_content)
        self._tree = Lazy(self._open_tree)
        self._queries = Lazy(lambda: SessionQueries(self.alyx, self._database))
        #: ends what interrupt() has dropped
        self._ending_thread: threading.Thread | None = None
        if not offline and self._login.password and not self._login.token:
            self._check_password()

    @property
    def alyx(self) -> AlyxClient:
        """The client that the catalogue works with, for who fills it in bulk."""
        return self._alyx()

    @property
    def queries(self) -> SessionQueries:
        """The answers to searches."""
        return self._queries()

    @property
    def database(self) -> OverlayDatabase:
        """The file that the catalogue works with, for who fills it in bulk."""
        return self._database()

    @property
    def catalogue(self) -> Catalogue:
        """What there is."""
        return self._catalogue()

    @property
    def content(self) -> Content:
        """The cache folder, and what fills it."""
        return self._content()

    @property
    def tree(self) -> LaboratoryTree:
        """The names of all."""
        return self._tree()

    def open_all(self) -> Access:
        """Have every part opened now, so that what stands in the way is told."""
        self._tree()
        return self

    def wake_waiters(self) -> None:
        """Wake all that waits, with Stopping; nothing waits afterwards."""
        _close_parts(
            self._tree.close(),
            self._catalogue.close(),
            self._transport.close(),
            self._content.close(),
        )

    def close(self) -> None:
        """Let go of everything."""
        self.wake_waiters()
        _release_files(self._content.close(), self._database.close(), self._rate_limiter.close())

    def interrupt(self) -> None:
        """End what is under way, with Stopping where it is waited for; return at once.

        What is asked for afterwards begins anew.
        """
        tree, catalogue = self._tree.reset(), self._catalogue.reset()
        transport, content = self._transport.reset(), self._content.reset()
        database, budget = self._database.reset(), self._rate_limiter.reset()
        for part in (self._token, self._alyx, self._host_auth, self._queries):
            part.reset()
        before = self._ending_thread

        def end() -> None:
            if before is not None:
                before.join()
            _close_parts(tree, catalogue, transport, content)
            _release_files(content, database, budget)

        self._ending_thread = threading.Thread(target=end, name="onefs-interrupt")
        self._ending_thread.start()

    def _open_alyx(self) -> AlyxClient:
        budget = self._rate_limiter() if self._is_rate_limited else None
        return AlyxClient(
            self._transport(), self.url, self._token(), self._deadlines.metadata, budget
        )

    def _open_database(self) -> OverlayDatabase:
        from onefs.catalogue.storage.overlay import OverlayDatabase

        made = OverlayDatabase(self._settings.state_dir / "catalogue.sqlite")
        if not self._offline:
            made.note_server_url(self.url)  # before anybody fills it
        return made

    def _open_catalogue(self) -> Catalogue:
        from onefs.catalogue.catalogue import Catalogue

        deadline = self._deadlines.metadata
        made = Catalogue(self.database, self.alyx, deadline=deadline, offline=self._offline)
        made.availability.on_change = self._transport().set_fail_fast
        return made

    def _open_content(self) -> Content:
        from onefs.cache.reservations import CacheLimits
        from onefs.content.content import Content

        settings, kept = self._settings, self._settings.cache_options
        if (
            self._ending_thread is not None
        ):  # on a disk without locks both would write the same files
            self._ending_thread.join(PREVIOUS_CLOSE_WAIT_SECONDS)
        return Content(
            settings.cache_dir,
            settings.state_dir,
            self._database_name,
            self._transport(),
            self._host_auth(),
            stall=self._deadlines.stall,
            deadline=self._deadlines.metadata,
            small_file=kept.small_file,
            strict=kept.strict,
            limits=CacheLimits(kept.cache_size, kept.min_free),
            max_fetch=kept.max_fetch,
            trusted=kept.trust_cache_dir,
            preferred=kept.copies,
            on_invalidated=lambda dataset: self.tree.open_files.invalidate_content(dataset),
        )

    def _open_tree(self) -> LaboratoryTree:
        from onefs.tree.laboratory_tree import LaboratoryTree
        from onefs.tree.user_folders import UserFolders
        from onefs.tree.variant import Variant

        return LaboratoryTree(
            self.catalogue,
            self.content,
            self.url,
            self.queries,
            self._deadlines.metadata,
            Variant(self._as_of, self._flat),
            self._settings.state_dir / "rest",
            UserFolders(
                self._database_name, self._settings.cache_options.writable, self.catalogue.created
            ),
        )

    def _open_host_auth(self) -> HostAuth:
        settings, data = self._settings, self._login.data
        if data is None:
            return StoredHostAuth(settings, CredentialStore(), self._environ)
        loopback = self._login.embedded
        return HostAuth(data, data_server_urls(settings), settings.data_hosts, loopback=loopback)

    def read_head(self, dataset: Dataset, length: int) -> bytes:
        """The first bytes of a dataset, at most ``length``: of the cached file, else asked for.

        Raises what downloading raises.
        """
        from onefs.download.hosts import no_replica_error

        known = self.content.cached_path(dataset)
        if known is not None:
            with known.open("rb") as file:
                return file.read(length)
        trouble = no_replica_error(dataset)
        for copy in dataset.replicas:
            try:
                return self._fetch_head(copy.url, length)
            except OnefsError as error:
                trouble = error
        raise trouble

    def _fetch_head(self, url: str, length: int) -> bytes:
        headers = {"Range": f"bytes=0-{length - 1}"}
        found = b""
        with self._transport().stream(url, headers=headers, auth=self._host_auth()) as stream:
            if stream.status == 416:  # an empty file has no first byte
                return b""
            page = stream.headers.get("Content-Type", "").startswith("text/html")
            if stream.status not in (200, 206) or (page and not url.endswith((".html", ".htm"))):
                raise ServerError(
                    f"{safe_url(url)}: the file server answers {stream.status}, and not with "
                    "the file",
                    stream.status,
                )
            for chunk in stream.iter_chunks(lambda: length):
                found += chunk
                if len(found) >= length:
                    break
        return found[:length]

    def _open_token(self) -> TokenSource:
        settings, login = self._settings, self._login
        if self._offline:
            return OfflineToken(settings.url)
        if login.token:
            return FixedToken(login.token)
        if not login.password:
            return StoredToken(settings, CredentialStore(), self._environ, self._transport)
        return self._password_token

    def _check_password(self) -> None:
        """Raise what stands in the way of the given login, unless the catalogue can answer."""
        try:
            self._password_token.current_token()
        except (Unreachable, DeadlineExceeded, Throttled):
            if not (self._settings.state_dir / "catalogue.sqlite").exists():
                raise


def _close_parts(
    tree: LaboratoryTree | None,
    catalogue: Catalogue | None,
    transport: Transport | None,
    content: Content | None,
) -> None:
    """Wake all that waits for these, with Stopping."""
    for part in (tree, catalogue, transport, content):
        if part is not None:  # the content last: it waits for its downloads to end
            part.close()


def _release_files(
    content: Content | None, database: OverlayDatabase | None, budget: RateLimiter | None
) -> None:
    """Let go of the files of these."""
    if content is not None:
        content.close_store()
    for part in (database, budget):
        if part is not None:
            part.close()


def _seconds_of_variable(variable: str, default: float) -> float:
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
