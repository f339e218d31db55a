"""``ONE``: the methods of the ONE tutorial. They use the same catalogue and cache as the mount."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, overload
from uuid import UUID

from onefs import alf
from onefs.errors import UsageError
from onefs.model import Session
from onefs.one.arguments import cache_path, parse_names
from onefs.one.info import SessionDataInfo
from onefs.one.interrupts import interruptible
from onefs.one.laboratory_client import LaboratoryClient
from onefs.one.warn import warn
from onefs.search import vocabulary
from onefs.search.queries import FoundSessions

if TYPE_CHECKING:
    from onefs.alyx.parsing import Row

#: a name of a session: its eid, its ref, its path, or its URL in Alyx
SessionName = str | UUID | PurePath
SessionNames = SessionName | Sequence[SessionName]


class ONE(LaboratoryClient):
    """A client for one database. ``ONE()`` opens the database that is set up.

    Arguments can select another database, for this object only. No argument is saved. If no
    database is set up and no argument names a database, the mounted laboratory (database) is
    opened. For this, exactly one laboratory must be mounted. If ``cache_dir`` is given, it must be
    the cache folder of this laboratory. With a password or token, no mounted laboratory is opened.
    Then ``base_url`` must be given if no database is set up. The mount may belong to another user
    (``--allow-other``). Then no login is needed, and ``cache_dir`` may be the mount point.

    ``base_url`` is Alyx's address. ``username`` and ``password`` are the login for Alyx. ``token``
    replaces this user name and password. ``profile`` is the name of a profile that ``onefs setup``
    has saved. ``cache_dir`` is a ONE cache folder. ``data_username`` and ``data_password`` are the
    login for the file server. ``data_hosts`` are the servers that may receive this login
    (``https://host``, separated by commas). With ``offline`` no request is sent. With ``silent``
    nothing is asked on the terminal.

    Raises NotConfigured if no database is set up, named or mounted, and the user cannot be asked on
    a terminal. Raises UsageError for invalid arguments. Raises AlyxCredentials if Alyx refuses the
    login. Raises Unreachable if Alyx is unreachable and nothing from the database is cached. The
    docstring of each method names the errors of the method. In addition, every method may raise
    Unreachable, DeadlineExceeded, AlyxCredentials, Throttled, ServerError or CacheError
    (``onefs.errors``).
    """

    # -- search

    @staticmethod
    def search_terms(all: bool = False) -> list[str]:
        """Return the ten search terms of the tutorial.

        With ``all``, return all terms of :meth:`search`.
        """
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
        """Return the eids of the sessions that match all terms, the latest session first.

        With the lists ``users=[a, b]``, ``dataset_types=[a, b]`` or ``dataset_names=[a, b]``, a
        session must have both a and b. With any other list, for example ``subject=[a, b]``, a
        session must have a or b. ``date_range`` is one day, or a list of the first and the last
        day. None as the first or last day means no limit. ``limit`` is the largest number of
        sessions to return. With ``details``, return ``(eids, rows)``. ``rows`` has Alyx's row of
        each session, to which ``local_path`` is added, the path of the session's folder.
        ``local_path`` is None for a session without a folder.

        Raises UsageError for an invalid term or value. The message names the term. If Alyx is
        unreachable, the catalogue is searched, and a line in the log says so. Raises Unreachable if
        the catalogue does not have the data for a term. The message names these terms.
        """
        if not isinstance(details, bool):
            raise UsageError(f"details is {type(details).__name__}: give True or False")
        sessions = self.search_sessions(limit=limit, **terms)
        if not details:
            return sessions.eids
        folders = self.folders(sessions)
        rows = [
            {**row, "local_path": str(folders[eid]) if eid in folders else None}
            for eid, row in zip(sessions.eids, self.records(sessions), strict=True)
        ]
        return sessions.eids, rows

    @interruptible
    def records(self, sessions: FoundSessions) -> Sequence[Row]:
        """Return Alyx's rows for the sessions that :meth:`search_sessions` has found.

        Alyx's search sends only some fields of a session. If this object reads another user's
        mount, the rows have all fields. Then more than 40 sessions raise UsageError.
        """
        return (
            sessions.rows if self._mount is None else self._mount.catalogue.records(sessions.eids)
        )

    @interruptible
    def search_sessions(self, *, limit: int | str | None = None, **terms: Any) -> FoundSessions:
        """Return the sessions that match all terms, with their rows from Alyx.

        The terms and errors are those of :meth:`search`. If no session matches, and a name in the
        search is unknown to the database, a warning says so.
        """
        query = vocabulary.parse_terms(terms)
        sessions = self._laboratory.queries.search(query, vocabulary.parse_limit(limit))
        if not sessions.eids:
            sessions.hint = self._laboratory.queries.suggest_names(query)
        if sessions.hint:
            warn(f"the search found nothing: {sessions.hint}")
        return sessions

    @interruptible
    def save_search(self, name: str, **terms: Any) -> None:
        """Save a search under a name. Mounts of the database show it as ``.search/NAME``.

        Raises UsageError for an invalid name, or if no term is given.
        """
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is not a name for a search")
        if not terms:
            raise UsageError("a search without any term cannot be saved")
        self._laboratory.queries.save_search(name, vocabulary.parse_terms(terms))

    def forget_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound if there is no search of that name."""
        self._laboratory.queries.delete_saved_search(name)

    # -- list

    @interruptible
    def list(
        self, eid: SessionNames | None = None, keyword: str = "dataset-type", details: bool = False
    ) -> Any:
        """Return the dataset types of a session, or all names of one kind in the database.

        ``list(eid)`` returns the dataset types of a session, sorted, each once. With ``details`` it
        returns a :class:`SessionDataInfo` with the session's datasets.

        ``list(eid, 'all')`` returns ``[record]``, a list with Alyx's whole record of the session.
        ``list(eid, FIELD)`` returns the value of one field of this record. With ``details`` it
        returns ``(value, record)``.

        ``list(None, 'dataset-types')`` returns all dataset types in the database. The keywords
        ``'users'``, ``'subjects'`` and ``'labs'`` return all users, subjects and labs. With
        ``details`` these calls return ``(names, rows)``. ``rows`` are Alyx's rows for the names.

        If several eids are given, a list with one result for each eid is returned, in the order of
        the eids. A session may have no folder, for example if it has no number. Then ``list(eid)``
        returns an empty list and warns, but the record of the session can still be listed. Raises
        UsageError for an unknown keyword, and NotFound for an unknown session.
        """
        from onefs.one import lists

        if not isinstance(keyword, str) or not isinstance(details, bool):
            raise UsageError(
                "list(eid, keyword, details): keyword is a text, details True or False"
            )
        keyword = keyword.strip().lower()
        if eid is None:
            return lists.list_names(self._laboratory, keyword, details)
        names, single = parse_names(eid)
        if lists.is_type_keyword(keyword):
            self._prefetch_sessions(names)
        answers = []
        for name in names:
            session = self._resolver.any_session(name)
            if lists.is_type_keyword(keyword):
                answers.append(lists.list_types(self._loader, session, details))
            else:
                answers.append(lists.list_field(self._laboratory, session, keyword, details))
        return answers[0] if single else answers

    def _prefetch_sessions(self, names: Sequence[object]) -> None:
        """Fetch several sessions and the listings of their datasets, with few requests."""
        eids = [str(name).strip().lower() for name in names if isinstance(name, (str, UUID))]
        self._laboratory.catalogue.prefetch(list(filter(alf.is_uuid, dict.fromkeys(eids))))

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
        """Return the content of a session's datasets. Downloads missing files (docs/tutorial.md).

        With ``dataset_types``, return a list with one element for each type, in the same order. The
        element for a missing dataset is an empty list, and a warning says so. If a type has several
        datasets, SeveralDatasets is raised, and the message lists the datasets. Then ``collection``
        or ``revision`` selects one dataset. The default revision of each file is loaded. With
        ``revision``, the last revision that is not after ``revision`` is loaded, as in ONE.

        With ``dataset_types`` and ``dclass_output``, return a :class:`SessionDataInfo` with all
        datasets of the types. Missing datasets are left out. Without ``dataset_types``, return a
        SessionDataInfo with all datasets. A SessionDataInfo for several eids contains the datasets
        of all these sessions. Lists for several eids are returned in a list, one for each eid.

        With ``download_only``, Paths are returned instead of data. With ``mmap``, arrays are mapped
        into memory. For a file that cannot be read, the Path is returned.

        Raises UsageError for an invalid argument, NotFound for an unknown session, BadContent if
        the bytes of a file contradict the database, and DataServerCredentials if the file server
        refuses the login. Raises MissingLibrary for a table if pandas is not installed.
        """
        from onefs.one.loader import LoadRequest, reject_removed_arguments

        reject_removed_arguments(old)
        names, single = parse_names(eid)
        request = LoadRequest.parse(dataset_types, collection, revision, download_only, mmap)
        self._prefetch_sessions(names)
        sessions = [self._resolver.any_session(name) for name in names]
        if request.types is not None and not dclass_output:
            contents = [self._loader.load_by_type(session, request) for session in sessions]
            return contents[0] if single else contents
        info = SessionDataInfo()
        for session in sessions:
            info.append(self._loader.load_info(session, request))
        return info

    @interruptible
    def renew(self, eid: SessionName) -> None:
        """Wait for a new listing of a session's datasets if the cached listing is past its TTL.

        Without this call, :meth:`list` uses the cached listing at once. If Alyx is unreachable, the
        cached listing is kept, and a line in the log says so. Raises NotFound for an unknown
        session.
        """
        session = self._resolver.any_session(_single_name(eid))
        if session.has_folder:
            self._laboratory.catalogue.refresh_datasets(session)

    def describe(self, path: str | PurePath) -> dict[str, Any]:
        """Return the metadata of the dataset at a path, from the database and the file's header.

        The metadata are path, type, shape, dtype, rows, size in bytes, md5, state, URL and others.
        ``path`` is in the cache or in a mount. If the file is not cached, only its first bytes are
        requested. Raises UsageError if ``path`` is not the path of a dataset, NotFound if there is
        no dataset at the path, and the errors of requests to file servers.
        """
        return self._loader.describe(path)

    # -- names

    @interruptible
    def eid(self, name: SessionName) -> str:
        """Return the eid of a session. ``name`` is the session's eid, ref, path, or URL in Alyx.

        A ref is, for example, ``2018-08-24_1_clns0730``. The path may be in the cache or in a
        mount. The path may also be the path of a file in the session. Raises UsageError for an
        invalid name, NotFound if there is no such session, and Ambiguous for a ref that several
        labs have.
        """
        is_eid = isinstance(name, (str, UUID)) and alf.is_uuid(str(name).lower())
        return self._resolver.session(name).eid if is_eid else self._resolver.eid(name)

    @interruptible
    def ref(self, eid: SessionName) -> str:
        """Return the ref of a session, for example ``2018-08-24_1_clns0730``."""
        return self._resolver.session(_single_name(eid)).ref

    @interruptible
    def session(self, eid: SessionName) -> Session:
        """Return a session, with its lab, subject, date, number, task protocol and projects."""
        return self._resolver.session(_single_name(eid))

    @interruptible
    def folders(
        self, sessions: FoundSessions, mount: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """Return a dict from the eid of each session in ``sessions`` to the session's folder.

        ``sessions`` are from :meth:`search_sessions`. Sessions without a folder are left out. The
        folders are those of :meth:`path`.
        """
        places = self._resolver.paths.places(sessions)
        return {eid: self._folder(place, mount) for eid, place in places.items()}

    @interruptible
    def path(self, eid: SessionName, mount: str | os.PathLike[str] | None = None) -> Path:
        """Return the folder of a session in the cache, or below the mount point ``mount``.

        In the cache, the folder has only the files that were loaded. In a mount, the folder has all
        files.
        """
        session = self._resolver.session(_single_name(eid))
        return self._folder(self._resolver.paths.place(session), mount)

    def _folder(self, place: Sequence[str], mount: str | os.PathLike[str] | None) -> Path:
        mount = self.mountpoint if mount is None else mount
        return cache_path(self.cache_dir, place) if mount is None else Path(mount, *place)


def _single_name(eid: Any) -> Any:
    names, single = parse_names(eid)
    if not single:
        raise UsageError(f"{len(names)} sessions are given instead of one")
    return names[0]
