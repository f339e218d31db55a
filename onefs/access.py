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

from onefs.credentials import (
    CredentialStore,
    DataCredentials,
    data_servers,
    find_data_credentials,
)
from onefs.errors import (
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.http import HostAuth, NoTransport, Transport
from onefs.metadata.alyx import Alyx
from onefs.metadata.asking import Token
from onefs.metadata.auth import GivenToken, KeptToken
from onefs.metadata.budget import Budget
from onefs.metadata.queries import Queries
from onefs.metadata.tokens import NoToken, PromisedToken
from onefs.model import Dataset
from onefs.once import Once
from onefs.owner import check_owner
from onefs.settings import Settings, resolve
from onefs.trust import check_folders
from onefs.urls import is_loopback, safe_url

if TYPE_CHECKING:
    from onefs.content.reader import Content
    from onefs.metadata.catalogue import Catalogue
    from onefs.metadata.tabled import TabledDatabase
    from onefs.tree.laboratory import Laboratory


#: seconds that a new cache folder's owner waits for the one that was interrupted
ENDING_SECONDS = 20.0


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
    """A login that is not to be looked up: the embedded laboratory's, or one for one use.

    '' and None for what is to be looked up all the same.
    """

    password: str = ""
    data: DataCredentials | None = None
    token: str = ""
    #: it is the embedded laboratory's, whose file server may have any port of this machine
    embedded: bool = False


class KeptAuth(HostAuth):
    """The file server's credentials as they are kept, also after a new login."""

    def __init__(
        self, settings: Settings, store: CredentialStore, environ: Mapping[str, str] | None
    ) -> None:
        found = find_data_credentials(settings, store, environ)
        super().__init__(found, data_servers(settings), settings.data_hosts)
        self._settings = settings
        self._store = store
        self._environ = environ
        self._look = threading.Lock()
        self._stamp = store.stamp()

    def header(self, url: str) -> str | None:
        with self._look:
            stamp = self._store.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._look_again()
        return super().header(url)

    def _look_again(self) -> None:
        """Take up what ``onefs login`` or ``setup`` has saved."""
        self.replace(find_data_credentials(self._settings, self._store, self._environ))
        flags = {"url": self._settings.url, "profile": self._settings.profile or None}
        with suppress(OnefsError):  # no such profile any more: what was confirmed stays
            settings = resolve(flags, self._environ)
            self.trust(data_servers(settings), settings.data_hosts)


class Access:
    """Everything over one laboratory, until :meth:`close`.

    ``database`` names the laboratory: the cache folder must be its own. Without ``login`` the
    token and credentials of ``environ`` (None: this process's) or the kept ones are used, and
    taken up anew when ``onefs login`` writes others. With ``offline`` no server is ever asked,
    and what is not known or not cached fails at once. ``as_of``: the day whose revisions the tree
    shows; '' for all. ``flat``: the tree shows default datasets without their folders. It asks no
    server, but with the password of ``login``. Raises AlyxCredentials when that is wrong, and
    UsageError when the cache folder belongs to another, or when others may have planted something
    in the folders (``onefs.trust``). What its parts raise, CacheError when the folders cannot be
    used, they raise when they are first asked for, or in :meth:`complete`.
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
        if not settings.storing.trust_cache_dir:
            check_folders(settings.cache_dir, settings.state_dir)
        check_owner(settings.cache_dir, database)
        self._settings, self._laboratory, self._environ = settings, database, environ
        self._login = login or GivenLogin()
        self._limits = deadlines or Deadlines()
        self._offline, self._as_of, self._flat = offline, as_of, flat
        # Each part in a Once, and nothing else that has locks, threads or connections: these must
        # not outlive a fork, nor interrupt().
        self._transport: Once[Transport] = Once(NoTransport if offline else Transport)
        # the embedded laboratory, whose login is given, counts nobody's requests
        embedded = login is not None and is_loopback(settings.url)
        self._counted = not (offline or embedded)
        self._budget = Once(partial(Budget.of, settings.url))
        self._promised = PromisedToken(
            self._transport, settings.url, settings.username, self._login.password
        )
        self._token = Once(self._open_token)
        self._alyx = Once(self._open_alyx)
        self._auth = Once(self._file_server_auth)
        self._database = Once(self._open_database)
        self._catalogue = Once(self._open_catalogue)
        self._content = Once(self._open_content)
        self._tree = Once(self._open_tree)
        self._queries = Once(lambda: Queries(self.alyx, self._database))
        #: ends what interrupt() has dropped
        self._ending: threading.Thread | None = None
        if not offline and self._login.password and not self._login.token:
            self._check_password()

    @property
    def alyx(self) -> Alyx:
        """The client that the catalogue works with, for who fills it in bulk."""
        return self._alyx()

    @property
    def queries(self) -> Queries:
        """The answers to searches."""
        return self._queries()

    @property
    def database(self) -> TabledDatabase:
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
    def tree(self) -> Laboratory:
        """The names of all."""
        return self._tree()

    def complete(self) -> Access:
        """Have every part opened now, so that what stands in the way is told."""
        self._tree()
        return self

    def wake(self) -> None:
        """Wake all that waits, with Stopping; nothing waits afterwards."""
        _wake(self._tree.end(), self._catalogue.end(), self._transport.end(), self._content.end())

    def close(self) -> None:
        """Let go of everything."""
        self.wake()
        _release(self._content.end(), self._database.end(), self._budget.end())

    def interrupt(self) -> None:
        """End what is under way, with Stopping where it is waited for; return at once.

        What is asked for afterwards begins anew.
        """
        tree, catalogue = self._tree.renew(), self._catalogue.renew()
        transport, content = self._transport.renew(), self._content.renew()
        database, budget = self._database.renew(), self._budget.renew()
        for part in (self._token, self._alyx, self._auth, self._queries):
            part.renew()
        before = self._ending

        def end() -> None:
            if before is not None:
                before.join()
            _wake(tree, catalogue, transport, content)
            _release(content, database, budget)

        self._ending = threading.Thread(target=end, name="onefs-interrupt")
        self._ending.start()

    def _open_alyx(self) -> Alyx:
        budget = self._budget() if self._counted else None
        return Alyx(self._transport(), self.url, self._token(), self._limits.metadata, budget)

    def _open_database(self) -> TabledDatabase:
        from onefs.metadata.tabled import TabledDatabase

        made = TabledDatabase(self._settings.state_dir / "catalogue.sqlite")
        if not self._offline:
            made.stand_at(self.url)  # before anybody fills it
        return made

    def _open_catalogue(self) -> Catalogue:
        from onefs.metadata.catalogue import Catalogue

        deadline = self._limits.metadata
        made = Catalogue(self.database, self.alyx, deadline=deadline, offline=self._offline)
        made.presence.changed = self._transport().hurry
        return made

    def _open_content(self) -> Content:
        from onefs.content.reader import Content
        from onefs.content.room import Limits

        settings, kept = self._settings, self._settings.storing
        if self._ending is not None:  # on a disk without locks both would write the same files
            self._ending.join(ENDING_SECONDS)
        return Content(
            settings.cache_dir,
            settings.state_dir,
            self._laboratory,
            self._transport(),
            self._auth(),
            stall=self._limits.stall,
            deadline=self._limits.metadata,
            small_file=kept.small_file,
            strict=kept.strict,
            limits=Limits(kept.cache_size, kept.min_free),
            max_fetch=kept.max_fetch,
            trusted=kept.trust_cache_dir,
            preferred=kept.copies,
            on_bad=lambda dataset: self.tree.opened.forget_bytes(dataset),
        )

    def _open_tree(self) -> Laboratory:
        from onefs.tree.laboratory import Laboratory
        from onefs.tree.own_folders import OwnFolders
        from onefs.tree.variant import Variant

        return Laboratory(
            self.catalogue,
            self.content,
            self.url,
            self.queries,
            self._limits.metadata,
            Variant(self._as_of, self._flat),
            self._settings.state_dir / "rest",
            OwnFolders(self._laboratory, self._settings.storing.writable, self.catalogue.created),
        )

    def _file_server_auth(self) -> HostAuth:
        settings, data = self._settings, self._login.data
        if data is None:
            return KeptAuth(settings, CredentialStore(), self._environ)
        loopback = self._login.embedded
        return HostAuth(data, data_servers(settings), settings.data_hosts, loopback=loopback)

    def peek(self, dataset: Dataset, length: int) -> bytes:
        """The first bytes of a dataset, at most ``length``: of the cached file, else asked for.

        Raises what downloading raises.
        """
        from onefs.content.hosts import stands_nowhere

        known = self.content.known_path(dataset)
        if known is not None:
            with known.open("rb") as file:
                return file.read(length)
        trouble = stands_nowhere(dataset)
        for copy in dataset.copies:
            try:
                return self._head(copy.url, length)
            except OnefsError as error:
                trouble = error
        raise trouble

    def _head(self, url: str, length: int) -> bytes:
        headers = {"Range": f"bytes=0-{length - 1}"}
        found = b""
        with self._transport().stream(url, headers=headers, auth=self._auth()) as stream:
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

    def _open_token(self) -> Token:
        settings, login = self._settings, self._login
        if self._offline:
            return NoToken(settings.url)
        if login.token:
            return GivenToken(login.token)
        if not login.password:
            return KeptToken(settings, CredentialStore(), self._environ, self._transport)
        return self._promised

    def _check_password(self) -> None:
        """Raise what stands in the way of the given login, unless the catalogue can answer."""
        try:
            self._promised.current()
        except (Unreachable, DeadlineExceeded, Throttled):
            if not (self._settings.state_dir / "catalogue.sqlite").exists():
                raise


def _wake(
    tree: Laboratory | None,
    catalogue: Catalogue | None,
    transport: Transport | None,
    content: Content | None,
) -> None:
    """Wake all that waits for these, with Stopping."""
    for part in (tree, catalogue, transport, content):
        if part is not None:  # the content last: it waits for its downloads to end
            part.close()


def _release(
    content: Content | None, database: TabledDatabase | None, budget: Budget | None
) -> None:
    """Let go of the files of these."""
    if content is not None:
        content.release()
    for part in (database, budget):
        if part is not None:
            part.close()


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
