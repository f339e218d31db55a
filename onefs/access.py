"""Access to one database, with one server, one cache folder and one login.

The parts are the catalogue, the content (which reads the bytes of datasets) and the tree (the
folders and files of a mount). Each part is imported and opened on first use, because a search needs
neither the content nor the tree. The import of the content and the tree takes longer than many
searches.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from onefs.alyx.auth import log_in, unsaved_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.rate_limit import RateLimiter
from onefs.alyx.request import TokenSource
from onefs.alyx.tokens import FixedToken, OfflineToken, PasswordToken, StoredToken
from onefs.cache.permissions import check_cache_and_state_folders
from onefs.config.bucket import SCHEMES
from onefs.config.cache_owner import check_owner
from onefs.config.credentials import (
    CredentialStore,
    DataCredentials,
    data_server_urls,
    find_token,
)
from onefs.config.releases import database_dir, release_dir
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.config.urls import is_loopback
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    Throttled,
    Unreachable,
    UsageError,
    WrongScheme,
)
from onefs.http import HostAuth, OfflineTransport, Transport
from onefs.http.stored_auth import StoredHostAuth
from onefs.lowlevel.lazy import Lazy
from onefs.model import Dataset
from onefs.without_alyx import WithoutAlyx

if TYPE_CHECKING:
    from onefs.cache.folder import Place
    from onefs.catalogue.catalogue import Catalogue
    from onefs.catalogue.storage.overlay import OverlayDatabase
    from onefs.content.content import Content
    from onefs.download.sources.interface import Source
    from onefs.qc import QC
    from onefs.search.queries import SessionQueries
    from onefs.tree.laboratory_tree import LaboratoryTree


#: seconds that a new content waits at most until the interrupted content is closed
PREVIOUS_CLOSE_WAIT_SECONDS = 20.0

#: the packages with the modules of all parts
_PACKAGES_OF_PARTS = (
    *("onefs.alyx", "onefs.blocks", "onefs.cache", "onefs.cache_tables", "onefs.catalogue"),
    *("onefs.config", "onefs.content", "onefs.download", "onefs.search", "onefs.tree"),
)


class Closeable(Protocol):
    """A part of :class:`Access` that uses files, threads or connections."""

    def close(self) -> None:
        """Release the files, threads and connections."""


@dataclass(frozen=True)
class Deadlines:
    """The longest times to wait for a server, in seconds."""

    #: for an answer from Alyx, or for a file server's answer about a file, such as its size
    metadata: float = 10.0
    #: for the next byte of a download
    stall: float = 60.0

    @classmethod
    def from_environment(cls) -> Deadlines:
        """Return the times in ``ONEFS_DEADLINE`` (metadata) and ``ONEFS_STALL`` (downloads).

        If a variable is not set, the default of :class:`Deadlines` is used. Raises UsageError for
        an invalid variable.
        """
        return cls(
            _seconds_of_variable("ONEFS_DEADLINE", cls.metadata),
            _seconds_of_variable("ONEFS_STALL", cls.stall),
        )


class GivenLogin(NamedTuple):
    """A login that is used instead of the stored login.

    For an empty field, the value that is stored or in the environment is used.
    """

    #: the password of the Alyx user
    password: str = ""
    #: user and password for the file server
    data: DataCredentials | None = None
    #: the Alyx token
    token: str = ""
    #: whether this is the login of the embedded laboratory. Its file server can have any port of
    #: this machine
    embedded: bool = False


def ensure_token(
    settings: Settings,
    ask: Callable[[str], str] | None,
    *,
    check_saved: bool = True,
    needs_server: bool = False,
) -> Secret:
    """Log in before the first request. Return the token if it could not be saved, otherwise ''.

    - ``ask`` prompts for a password. It is None if there is no user to ask.
    - ``check_saved``: ask the server whether a token that is saved or in the environment is valid.
    - ``needs_server``: the caller cannot work with the catalogue file alone. If false, and if there
      is such a file, the errors Unreachable, DeadlineExceeded and Throttled are ignored.

    Raises AlyxCredentials if there is no login, or if the server refuses it. Also raises the errors
    of requests.
    """
    store = CredentialStore()
    if settings.public:
        return Secret("")
    if not check_saved and find_token(settings, store) is not None:
        return Secret("")
    deadline = Deadlines.from_environment().metadata
    try:
        with Transport() as transport:
            token = log_in(transport, settings, store, ask=ask, deadline=deadline)
    except WrongScheme:
        # an Unreachable that is always raised
        raise
    except (Unreachable, DeadlineExceeded, Throttled):
        if needs_server or not (settings.state_dir / "catalogue.sqlite").exists():
            raise
        return Secret("")
    return unsaved_token(settings, store, token)


class Access:
    """The parts of one database: client, catalogue, content and tree. Thread-safe.

    - ``database`` is the name of the database. The cache folder must belong to it.
    - ``login`` is used instead of the stored login. A stored login is read again after ``onefs
      login``.
    - ``environ`` is the environment. The default is that of this process.
    - ``offline``: ask no server. A request then fails if the answer is not stored.
    - ``as_of`` is a day. The tree shows the revisions that were valid on this day; '' means all
      revisions.
    - ``flat``: the tree shows only the datasets marked as ``default_dataset`` in Alyx, without the
      folders of collections and revisions.
    - ``worst_qc``: the tree shows only datasets with this QC or a better one. None shows all.

    If ``login`` has a password and no token, the constructor asks the server. It raises
    AlyxCredentials if the password is wrong. It raises UsageError if the cache folder belongs to
    another database, or if other users can write to the folders. Each part raises its errors on
    first use, or in :meth:`open_all`.
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
        worst_qc: QC | None = None,
    ) -> None:
        #: the URL of the database
        self.url = settings.url
        #: the ONE cache folder
        self.cache_dir = settings.cache_dir
        if not settings.cache_options.trust_cache_dir:
            check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
        check_owner(settings.cache_dir, database)
        #: the settings of the database: its URL, folders and options
        self.settings = settings
        self._database_name, self._environ = database, environ
        self._login = login or GivenLogin()
        self._deadlines = deadlines or Deadlines()
        self._offline, self._as_of, self._flat = offline, as_of, flat
        self._worst_qc = worst_qc
        # a given login for this machine is the embedded laboratory's, which does not limit requests
        embedded = login is not None and is_loopback(settings.url)
        self._is_rate_limited = not (offline or embedded)
        self._create_parts()
        asks_alyx = not offline and self.without_alyx.has_alyx
        if asks_alyx and self._login.password and not self._login.token:
            self._check_password()

    def _create_parts(self) -> None:
        """Create each part that has locks, threads or connections, as a :class:`Lazy` value."""
        # lazy: a forked child creates parts of its own, and interrupt() can replace the parts
        settings = self.settings
        self._transport: Lazy[Transport] = Lazy(OfflineTransport if self._offline else Transport)
        #: what is used instead of an Alyx, if there is none
        self.without_alyx = WithoutAlyx(settings, self._transport, self._deadlines.metadata)
        self._rate_limiter = Lazy(partial(RateLimiter.of_server, settings.url))
        self._password_token = PasswordToken(
            self._transport, settings.url, settings.username, self._login.password
        )
        self._token = Lazy(self._open_token)
        self._alyx = Lazy(self._open_alyx)
        self._source = Lazy(self._open_source)
        self._database = Lazy(self._open_database)
        self._catalogue = Lazy(self._open_catalogue)
        self._content = Lazy(self._open_content)
        self._tree = Lazy(self._open_tree)
        self._queries = Lazy(self._open_queries)
        #: the thread that closes the parts that interrupt() has replaced
        self._closing_thread: threading.Thread | None = None

    @property
    def alyx(self) -> AlyxClient:
        """Return the Alyx client of the catalogue, for bulk requests."""
        return self._alyx()

    @property
    def queries(self) -> SessionQueries:
        """Return the object that searches for sessions, in Alyx or in the catalogue."""
        return self._queries()

    @property
    def database(self) -> OverlayDatabase:
        """Return the database file of the catalogue, for bulk writes."""
        return self._database()

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue of labs, subjects, sessions and datasets."""
        return self._catalogue()

    @property
    def content(self) -> Content:
        """Return the content: the bytes of datasets, from the cache folder or the file servers."""
        return self._content()

    @property
    def tree(self) -> LaboratoryTree:
        """Return the tree of folders and files."""
        return self._tree()

    def prepare_downloads(self) -> None:
        """Open what downloads need, so that none has to wait for it. Errors come with them."""
        with suppress(OnefsError):
            self._content().prepare_downloads()

    def open_all(self) -> Access:
        """Open all parts that the tree needs. Return self. Raises the errors of these parts.

        All their modules are loaded then, also those that functions import when they need them, so
        that no later call waits for an import.
        """
        # only daemons need this module
        from onefs.lowlevel.modules import import_all

        self._transport().load()
        self._tree()
        self._source()  # the content opens it at the first download, which is too late for errors
        for package in _PACKAGES_OF_PARTS:
            import_all(package)
        return self

    def wake_waiters(self) -> None:
        """Make all calls that wait now, and all later calls that would wait, raise Stopping."""
        # the content is last, because its close waits until its downloads have ended
        _close(
            self._tree.close(),
            self._catalogue.close(),
            self._transport.close(),
            self._content.close(),
        )

    def close(self) -> None:
        """Close all parts and their files."""
        self.wake_waiters()
        _release_files(self._content.close(), self._database.close(), self._rate_limiter.close())

    def interrupt(self) -> None:
        """Make all calls that wait now raise Stopping. Later calls open new parts.

        The old client, catalogue, content and tree are closed in the background.
        """
        tree, catalogue = self._tree.reset(), self._catalogue.reset()
        transport, content = self._transport.reset(), self._content.reset()
        database, rate_limiter = self._database.reset(), self._rate_limiter.reset()
        for part in (self._token, self._alyx, self._source, self._queries):
            part.reset()
        previous = self._closing_thread

        def close_parts() -> None:
            if previous is not None:
                previous.join()
            _close(tree, catalogue, transport, content)
            _release_files(content, database, rate_limiter)

        self._closing_thread = threading.Thread(target=close_parts, name="onefs-interrupt")
        self._closing_thread.start()

    @property
    def transport(self) -> Transport:
        """Return the transport of requests to all servers."""
        return self._transport()

    def has_login(self) -> bool:
        """Whether there is a token for Alyx, which may be requested with the password.

        Raises AlyxCredentials if there is no token, and the errors of the request.
        """
        return bool(self._token().current_token())

    def without_requests(self) -> Access:
        """Return an access to the same folders that sends no request."""
        return Access(
            self.settings,
            self._database_name,
            environ=self._environ,
            deadlines=self._deadlines,
            offline=True,
        )

    def of_release(self, tag: str) -> Access:
        """Return an access to a release of this database, with the same login and folders.

        Raises UsageError for an invalid tag.
        """
        return Access(
            replace(
                self.settings, state_dir=release_dir(database_dir(self.settings.state_dir), tag)
            ),
            self._database_name,
            login=self._login,
            environ=self._environ,
            deadlines=self._deadlines,
            offline=self._offline,
        )

    def _open_alyx(self) -> AlyxClient:
        limiter = self._rate_limiter() if self._is_rate_limited else None
        instead = self.without_alyx
        transport = self._transport() if instead.has_alyx else OfflineTransport(instead.error)
        return AlyxClient(transport, self.url, self._token(), self._deadlines.metadata, limiter)

    def _open_database(self) -> OverlayDatabase:
        from onefs.catalogue.storage.overlay import OverlayDatabase

        state_dir, of_labs = self.settings.state_dir, self.without_alyx.repositories_of_labs()
        path = state_dir / "catalogue.sqlite"
        if self.without_alyx.tag:
            from onefs.catalogue.storage.release import ReleaseDatabase

            release = ReleaseDatabase(path, database_dir(state_dir) / path.name, of_labs)
            self._claim_state_folder(release, release.whole())
            return release
        database = OverlayDatabase(path, of_labs)
        self._claim_state_folder(database, database)
        if not self._offline and self.without_alyx.has_alyx:
            database.note_server_url(self.url)  # before anything is stored in it
        return database

    def _claim_state_folder(self, opened: OverlayDatabase, whole: OverlayDatabase | None) -> None:
        """Claim the folder in the catalogue of the whole database. Close ``opened`` on an error."""
        try:
            if whole is not None:
                self.without_alyx.claim_state_folder(whole)
        except UsageError:
            opened.close()
            raise

    def _open_queries(self) -> SessionQueries:
        from onefs.search.queries import SessionQueries

        return SessionQueries(self.alyx, self._database)

    def _open_catalogue(self) -> Catalogue:
        from onefs.catalogue.catalogue import Catalogue

        deadline = self._deadlines.metadata
        catalogue = Catalogue(
            self.database,
            self.alyx,
            deadline=deadline,
            offline=self._offline,
            no_alyx=None if self.without_alyx.has_alyx else self.without_alyx.error,
            bucket=self.without_alyx.bucket_of_aggregates(),
        )
        catalogue.availability.on_change = self._transport().set_fail_fast
        return catalogue

    def _open_content(self) -> Content:
        from onefs.cache.reservations import CacheLimits
        from onefs.content.content import Content
        from onefs.releases import loaded_releases

        settings, options = self.settings, self.settings.cache_options
        # on a file system without locks, the old and the new content would write the same files
        if self._closing_thread is not None:
            self._closing_thread.join(PREVIOUS_CLOSE_WAIT_SECONDS)
        content = Content(
            settings.cache_dir,
            self._database_name,
            self._source,
            stall=self._deadlines.stall,
            deadline=self._deadlines.metadata,
            small_file=options.small_file,
            strict=options.strict,
            limits=CacheLimits(options.cache_size, options.min_free),
            max_fetch=options.max_fetch,
            trusted=options.trust_cache_dir,
            preferred=options.copies,
            disks=[Path(each) for each in options.disks],
            on_invalidated=lambda dataset: self.tree.open_files.invalidate_content(dataset),
        )
        content.store.keeps_replaced = lambda: bool(loaded_releases(settings))
        return content

    def _open_tree(self) -> LaboratoryTree:
        from onefs.releases import LoadedReleases
        from onefs.tree.laboratory_tree import LaboratoryTree
        from onefs.tree.user_folders import UserFolders
        from onefs.tree.variant import Variant

        return LaboratoryTree(
            self.catalogue,
            self.content,
            self.url,
            self._queries,
            self._deadlines.metadata,
            Variant(self._as_of, self._flat),
            self.settings.state_dir / "rest",
            UserFolders(
                self._database_name, self.settings.cache_options.writable, self.catalogue.created
            ),
            None if self.without_alyx.tag else LoadedReleases(self),
            is_release=bool(self.without_alyx.tag),
            worst_qc=self._worst_qc,
        )

    def _open_source(self) -> Source:
        from onefs.download.sources.by_scheme import SourcesByScheme
        from onefs.download.sources.http import HttpSource
        from onefs.download.sources.s3 import S3Source
        from onefs.download.sources.s3_buckets import Buckets
        from onefs.download.sources.s3_client import S3Client, endpoint_of

        transport = self._transport()
        http = HttpSource(transport, self._open_host_auth())
        environ = os.environ if self._environ is None else self._environ
        # a lambda, because most databases have no S3 repository
        buckets = Buckets(lambda repository: self.alyx.bucket(repository))
        known = filter(None, [self.without_alyx.public_bucket()])
        s3 = S3Source(S3Client(transport, endpoint_of(environ), environ), buckets, known)
        return SourcesByScheme({"http": http, "https": http, **dict.fromkeys(SCHEMES, s3)})

    def _open_host_auth(self) -> HostAuth:
        settings, data = self.settings, self._login.data
        if settings.public:
            return HostAuth(None)
        if data is None:
            return StoredHostAuth(settings, CredentialStore(), self._environ)
        loopback = self._login.embedded
        return HostAuth(data, data_server_urls(settings), settings.data_hosts, loopback=loopback)

    def read_head(self, dataset: Dataset, length: int, place: Place | None = None) -> bytes:
        """Return the first ``length`` bytes of a dataset. A shorter dataset is returned whole.

        The bytes come from the cached file, else from a disk, or else from a file server. ``place``
        is the path in ONE's cache folder, if it is known. Raises what downloading raises.
        """
        cached = self.content.cached_path(dataset, place)
        if cached is None:
            from onefs.download.head import fetch_head

            return fetch_head(dataset, length, self._source())
        with cached.open("rb") as file:
            return file.read(length)

    def read_range(self, dataset: Dataset, place: Place, first: int, count: int) -> Iterator[bytes]:
        """Yield at most ``count`` bytes of a dataset from the byte ``first`` on, in pieces.

        The bytes come from the cache, else from a disk or a file server, and are cached. ``place``
        is the path in ONE's cache folder. Raises what downloading raises.
        """
        from onefs.content.ranges import read_range

        return read_range(self.content, dataset, place, first, count)

    def _open_token(self) -> TokenSource:
        settings, login = self.settings, self._login
        if self._offline:
            return OfflineToken(settings.url)
        if not self.without_alyx.has_alyx:
            return FixedToken(Secret(""))
        if login.token:
            return FixedToken(login.token)
        if not login.password:
            return StoredToken(settings, CredentialStore(), self._environ, self._transport)
        return self._password_token

    def _check_password(self) -> None:
        """Raise AlyxCredentials if the server refuses the password of the given login.

        Raises the errors of the request if there is no catalogue file.
        """
        try:
            self._password_token.current_token()
        except (Unreachable, DeadlineExceeded, Throttled):
            # the catalogue can be used without the server
            if not (self.settings.state_dir / "catalogue.sqlite").exists():
                raise


def _close(*parts: Closeable | None) -> None:
    for part in parts:
        if part is not None:
            part.close()


def _release_files(content: Content | None, *parts: Closeable | None) -> None:
    """Close the files of the content and of the other parts. A part that is None is skipped."""
    if content is not None:
        content.close_store()
    _close(*parts)


def _seconds_of_variable(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise UsageError(
            f"the environment variable {variable} is {text!r}: give a number of seconds"
        )
    return seconds
