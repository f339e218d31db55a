"""``ONE``: the tutorial's verbs over the catalogue and the store that the mount uses too."""

from __future__ import annotations

import importlib
import json
import os
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, overload
from uuid import UUID

from onefs import alf
from onefs.access import Access
from onefs.config.settings import Settings
from onefs.errors import UsageError
from onefs.lowlevel.lazy import Lazy
from onefs.model import Session
from onefs.one.arguments import cache_path, parse_names
from onefs.one.connect import ConnectionArguments, mount_of_another, open_access
from onefs.one.info import SessionDataInfo
from onefs.one.interrupts import Interruptible, interruptible
from onefs.one.warn import warn
from onefs.search import vocabulary as vocabulary
from onefs.search.name_tables import NAME_TABLES, names_in_table
from onefs.search.queries import FoundSessions

if TYPE_CHECKING:
    from onefs.alyx.parsing import Row
    from onefs.mount.mount_registry import MountInfo
    from onefs.one.loader import Loader
    from onefs.one.mount_access import MountAccess
    from onefs.one.resolver import SessionResolver

#: what a session can be called: its eid, ref, path, or Alyx's URL
SessionName = str | UUID | PurePath
SessionNames = SessionName | Sequence[SessionName]

#: keywords of ``list`` and the fields of a session that they stand for
_KEYWORD_FIELDS = {"subjects": "subject", "labs": "lab", "user": "users", "project": "projects"}
_TYPE_KEYWORDS = (
    "dataset-types",
    "dataset-type",
    "dataset_types",
    "dataset_type",
    "datasets",
    "dataset",
)


class ONE(Interruptible):
    """One database: ``ONE()`` for the one that is set up, or with arguments for one use.

    Where nothing is set up or named, and one laboratory is mounted (in the cache folder, if that
    is named), it is that one; but not with a password or token, which need ``base_url`` then.
    So does a mount of another user that this one may read (``--allow-other``), which may be named
    as ``cache_dir``: it answers, without a login.
    Nothing of the arguments is saved. ``username`` and ``password`` are Alyx's (or ``token`` in
    their place), ``base_url`` its address; ``profile`` is one that ``onefs setup`` has saved;
    ``cache_dir`` a ONE cache folder; ``data_username`` and ``data_password`` are the file server's
    own, ``data_hosts`` the servers that may get them (``https://host``, separated by commas).
    With ``offline`` no server is asked; with ``silent`` nobody is asked on the terminal.

    Raises NotConfigured when no database is known and nobody can be asked, UsageError for
    arguments that make no sense, AlyxCredentials, and Unreachable when Alyx is away and nothing
    of it is known yet. Methods raise what they name; and Unreachable, DeadlineExceeded,
    AlyxCredentials, Throttled, ServerError or CacheError (all in ``onefs.errors``).
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        base_url: str | None = None,
        silent: bool = False,
        *,
        token: str | None = None,
        profile: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        data_username: str | None = None,
        data_password: str | None = None,
        data_hosts: str | None = None,
        offline: bool = False,
    ) -> None:
        asked = ConnectionArguments(
            username=username,
            password=password,
            base_url=base_url,
            token=token,
            profile=profile,
            cache_dir=cache_dir,
            data_username=data_username,
            data_password=data_password,
            data_hosts=data_hosts,
            offline=offline,
            silent=silent,
        )
        mounted = mount_of_another(asked)
        if mounted is not None:
            self._begin_in(mounted, offline=offline)
        else:
            self._attach(*open_access(asked, self.setup), offline=offline)

    @classmethod
    def over(cls, access: Access, settings: Settings, *, offline: bool = False) -> ONE:
        """The verbs over a laboratory that is open already, and ends with this object."""
        made = cls.__new__(cls)
        made._attach(access, settings, offline=offline)
        return made

    @classmethod
    def in_mount(cls, mounted: MountInfo, *, offline: bool = False) -> ONE:
        """The verbs over another user's mount: no login is needed, and nothing is kept."""
        made = cls.__new__(cls)
        made._begin_in(mounted, offline=offline)
        return made

    def _attach(self, access: Access, settings: Settings, *, offline: bool) -> None:
        self._access, self._settings = access, settings
        self._mount: MountAccess | None = None
        self._finalizer = weakref.finalize(self, access.close)
        # what they need is dear to load, and a search needs none of it
        self._lazy_resolver = Lazy(partial(_make_resolver, access))
        self._lazy_loader = Lazy(partial(_make_loader, access, self._lazy_resolver, offline))

    def _begin_in(self, mounted: MountInfo, *, offline: bool) -> None:
        from onefs.one.mount_access import MountAccess, MountAddresses  # few need it

        mount = MountAccess(mounted)
        self._attach(mount.as_access(), mount.settings(), offline=offline)
        self._mount = mount
        self._lazy_resolver = Lazy(partial(MountAddresses, mount))
        self._lazy_loader = Lazy(partial(_make_loader, self._access, self._lazy_resolver, offline))

    def __enter__(self) -> ONE:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._mount is not None:
            return f"<ONE {self._settings.url} in {self._mount.cache_dir}>"
        return f"<ONE {self._settings.url} as {self._settings.username or 'nobody'}>"

    def close(self) -> None:
        """Let go of connections and files. It also happens when the object is forgotten."""
        self._finalizer()

    @property
    def url(self) -> str:
        """Alyx's address."""
        return self._settings.url

    @property
    def cache_dir(self) -> Path:
        """The ONE cache folder that files are kept in; another user's mount stands for one."""
        return self._access.cache_dir

    @property
    def mountpoint(self) -> Path | None:
        """The mount of another user that answers; None where this object asks by itself."""
        return self._mount.cache_dir if self._mount is not None else None

    @property
    def _resolver(self) -> SessionResolver:
        return self._lazy_resolver()

    @property
    def _loader(self) -> Loader:
        return self._lazy_loader()

    @staticmethod
    def setup() -> None:
        """Ask for a database's URL, user and passwords, test them, and save them as a profile.

        It is ``onefs setup``: the profile is onefs's own, and ``~/.one_params`` stays untouched.
        Raises NotConfigured where there is no terminal to ask on.
        """
        print("This writes onefs's own profile; ~/.one_params stays untouched.")
        # the questions belong to the command line, which stands above this package
        command = importlib.import_module("onefs.cli.setup").setup
        command.main([], standalone_mode=False)

    def _interrupt(self) -> None:
        """End what is under way; what is asked for afterwards begins anew."""
        self._access.interrupt()
        self._lazy_resolver.reset()
        self._lazy_loader.reset()

    # -- search

    @staticmethod
    def search_terms(all: bool = False) -> list[str]:
        """The tutorial's ten terms; with ``all`` every one that :meth:`search` knows."""
        return list(vocabulary.VOCABULARY if all else vocabulary.TUTORIAL_TERMS)

    @overload
    def search(
        self, *, details: Literal[False] = False, limit: int | None = None, **terms: Any
    ) -> list[str]: ...
    @overload
    def search(
        self, *, details: Literal[True], limit: int | None = None, **terms: Any
    ) -> tuple[list[str], list[dict[str, Any]]]: ...

    @interruptible
    def search(
        self, *, details: bool = False, limit: int | None = None, **terms: Any
    ) -> list[str] | tuple[list[str], list[dict[str, Any]]]:
        """The eids of the sessions that fulfil every term, the latest first.

        ``users=[a, b]`` and ``dataset_types=[a, b]``: sessions that have all of them.
        ``subject=[a, b]``, ``lab=[a, b]`` and other lists: those of either. ``date_range`` is one
        day, or the first and the last day, None for an open end. With ``details`` also a list of
        Alyx's rows, each with the ``local_path`` of its session. ``limit``: at most so many.

        Raises UsageError for a term or value that makes no sense, naming it. When Alyx is away the
        catalogue answers, with a line in the log, or Unreachable names the terms that it cannot.
        """
        if not isinstance(details, bool):
            raise UsageError(f"details is {type(details).__name__}: give True or False")
        found = self.search_sessions(limit=limit, **terms)
        if not details:
            return found.eids
        folders = self.folders(found)
        rows = [
            {**row, "local_path": str(folders[eid]) if eid in folders else None}
            for eid, row in zip(found.eids, self.records(found), strict=True)
        ]
        return found.eids, rows

    @interruptible
    def records(self, found: FoundSessions) -> Sequence[Row]:
        """Alyx's rows of what :meth:`search_sessions` has found. Over another user's mount these
        are the records of the sessions: UsageError where there are many."""
        return found.rows if self._mount is None else self._mount.catalogue.records(found.eids)

    @interruptible
    def search_sessions(self, *, limit: int | str | None = None, **terms: Any) -> FoundSessions:
        """As :meth:`search`: what was found, as rows and as sessions."""
        query = vocabulary.parse_terms(terms)
        found = self._access.queries.search(query, vocabulary.parse_limit(limit))
        if not found.eids:
            found.hint = self._access.queries.suggest_names(query)
        if found.hint:
            warn(f"the search found nothing: {found.hint}")
        return found

    @interruptible
    def save_search(self, name: str, **terms: Any) -> None:
        """Save a search: mounts of the database show it as ``.search/NAME``."""
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is no name for a search")
        if not terms:
            raise UsageError("a search without any term cannot be saved")
        self._access.queries.save_search(name, vocabulary.parse_terms(terms))

    def forget_search(self, name: str) -> None:
        """Forget a saved search. Raises NotFound."""
        self._access.queries.delete_saved_search(name)

    # -- list

    @interruptible
    def list(
        self, eid: SessionNames | None = None, keyword: str = "dataset-type", details: bool = False
    ) -> Any:
        """What there is.

        ``list(eid)``: the dataset types of a session, each once, sorted; with ``details`` a
        :class:`SessionDataInfo` of its datasets. ``list(eid, 'all')``: ``[record]``, Alyx's whole
        record of the session; any field of it by its name. ``list(None, 'dataset-types')``,
        ``'users'``, ``'subjects'`` or ``'labs'``: all names of the database; with ``details``
        ``(names, rows)``. Several eids give a list of such answers, in order.

        A session without a folder (it has no number, for example) has no types, and a warning says
        so; its record is given. Raises UsageError for a keyword that there is not, NotFound for a
        session.
        """
        if not isinstance(keyword, str) or not isinstance(details, bool):
            raise UsageError(
                "list(eid, keyword, details): keyword is a text, details True or False"
            )
        what = keyword.strip().lower()
        if eid is None:
            return self._list_table(what, keyword, details)
        names, one = parse_names(eid)
        if what in _TYPE_KEYWORDS:
            self._prefetch_sessions(names)
        found = [self._list_session(self._resolver.any_session(n), what, details) for n in names]
        return found[0] if one else found

    def _prefetch_sessions(self, names: Sequence[object]) -> None:
        """Have what several sessions hold asked for with as few requests as will do."""
        eids = [name.strip().lower() for name in names if isinstance(name, str)]
        eids += [str(name) for name in names if isinstance(name, UUID)]
        self._access.catalogue.prefetch(list(filter(alf.is_uuid, dict.fromkeys(eids))))

    def _list_table(self, what: str, keyword: str, details: bool) -> Any:
        table = _table_name(what)
        if table is None:
            raise UsageError(
                f"list(None, {keyword!r}): there are {', '.join(map(repr, NAME_TABLES))}"
                f"{vocabulary.nearest_name_hint(what, NAME_TABLES)}"
            )
        rows = self._access.queries.list_table(table)
        return (names_in_table(table, rows), rows) if details else names_in_table(table, rows)

    def _list_session(self, session: Session, what: str, details: bool) -> Any:
        if what in _TYPE_KEYWORDS:
            if not self._loader.has_datasets(session):
                return SessionDataInfo() if details else []
            if details:
                return self._loader.info(session)
            return sorted({d.dataset_type for _, d in self._resolver.datasets(session)})
        record = json.loads(self._access.catalogue.record(session).value)
        if what == "all":
            return [record]
        field = _KEYWORD_FIELDS.get(what, what)
        if field not in record:
            raise UsageError(
                f"a session has no field {what!r}{vocabulary.nearest_name_hint(what, record)}: "
                "list(eid) "
                "gives its dataset types, list(eid, 'all') every field"
            )
        return (record[field], record) if details else record[field]

    # -- load

    @interruptible
    def load(
        self,
        eid: SessionNames,
        dataset_types: str | Sequence[str] | None = None,
        dclass_output: bool = False,
        *,
        collection: str | None = None,
        revision: str | None = None,
        download_only: bool = False,
        mmap: bool = False,
        **old: Any,
    ) -> Any:
        """What a session's datasets hold, downloaded as need be (docs/tutorial.md).

        With ``dataset_types`` a list with one element for each type asked for, in that order; an
        empty list, and a warning, for what is missing. A type that stands in several collections
        needs ``collection`` (SeveralDatasets lists them); of revisions the default is taken, or
        with ``revision`` the last one that is not after it, as ONE does. With ``dclass_output`` a
        :class:`SessionDataInfo` of all of them instead, in which what is missing is absent.
        Without types a :class:`SessionDataInfo` of everything.

        ``download_only`` gives Paths in place of data, ``mmap`` maps arrays into memory. What no
        reader is for is its Path. Several eids give a list of lists, or one SessionDataInfo.

        Raises NotFound, UsageError, SeveralDatasets, BadContent, DataServerCredentials, and
        MissingLibrary for a table without pandas.
        """
        self._loader.reject_removed_arguments(old)
        names, one = parse_names(eid)
        order = self._loader.make_request(dataset_types, collection, revision, download_only, mmap)
        self._prefetch_sessions(names)
        sessions = [self._resolver.any_session(name) for name in names]
        if order.types is not None and not dclass_output:
            found = [self._loader.load_by_type(session, order) for session in sessions]
            return found[0] if one else found
        info = SessionDataInfo()
        for session in sessions:
            info.append(self._loader.load_info(session, order))
        return info

    @interruptible
    def renew(self, eid: SessionName) -> None:
        """Wait for a new list of a session's datasets where the known one has aged.

        :meth:`list` gives what is known at once. While Alyx is away that stays, and a line in the
        log says so. Raises NotFound for a session.
        """
        session = self._resolver.any_session(_single_name(eid))
        if session.has_folder:
            self._access.catalogue.refresh_datasets(session)

    def describe(self, path: str | PurePath) -> dict[str, Any]:
        """What the dataset at a path is, from its header and the database: name, type, shape,
        dtype, rows, size in bytes, md5, state, and where it comes from.

        ``path`` is one in the cache or in a mount. The file is not downloaded: its first bytes
        are asked for where it is not in the cache. Raises UsageError, NotFound, and what asking a
        file server raises.
        """
        return self._loader.describe(path)

    # -- names

    @interruptible
    def eid(self, name: SessionName) -> str:
        """The eid of a session: by its path (in the cache, in a mount, of a file in it), its ref,
        or Alyx's URL. Raises UsageError, NotFound, or Ambiguous for a ref in two labs."""
        return (
            self._resolver.eid(name) if _is_path_or_ref(name) else self._resolver.session(name).eid
        )

    @interruptible
    def ref(self, eid: SessionName) -> str:
        """A session's ref: ``2018-08-24_1_clns0730``."""
        return self._resolver.session(_single_name(eid)).ref

    @interruptible
    def session(self, eid: SessionName) -> Session:
        """A session as it is known: lab, subject, date, number, task protocol, projects."""
        return self._resolver.session(_single_name(eid))

    @interruptible
    def folders(
        self, found: FoundSessions, mount: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """As :meth:`path`, for the sessions that :meth:`search_sessions` has found, by eid."""
        places = self._resolver.places(found)
        return {eid: self._folder(place, mount) for eid, place in places.items()}

    @interruptible
    def path(self, eid: SessionName, mount: str | os.PathLike[str] | None = None) -> Path:
        """A session's folder in the cache, or below the mount point ``mount``.

        Files stand there once they were loaded; in a mount always.
        """
        return self._folder(self._resolver.place(self._resolver.session(_single_name(eid))), mount)

    def _folder(self, place: Sequence[str], mount: str | os.PathLike[str] | None) -> Path:
        mount = self.mountpoint if mount is None else mount
        return cache_path(self.cache_dir, place) if mount is None else Path(mount, *place)


def _make_resolver(access: Access) -> SessionResolver:
    from onefs.one.resolver import SessionResolver

    return SessionResolver(access)


def _make_loader(access: Access, names: Callable[[], SessionResolver], offline: bool) -> Loader:
    from onefs.one.loader import Loader

    return Loader(access, names(), offline=offline)


def _table_name(what: str) -> str | None:
    if what in _TYPE_KEYWORDS:
        return "dataset-types"
    return next((name for name in NAME_TABLES if what in (name, name.removesuffix("s"))), None)


def _single_name(eid: Any) -> Any:
    names, one = parse_names(eid)
    if not one:
        raise UsageError(f"{len(names)} sessions are given, one is wanted")
    return names[0]


def _is_path_or_ref(name: object) -> bool:
    return isinstance(name, PurePath) or (isinstance(name, str) and not alf.is_uuid(name.lower()))
