"""The methods of ONE's tutorial. They use the same stored rows and files as a mount."""

from __future__ import annotations

import datetime
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

if TYPE_CHECKING:
    from onefs.alyx.parsing import Row
    from onefs.search.queries import FoundSessions

#: a name of a session: its eid, its ref, its path, or its URL in Alyx
SessionName = str | UUID | PurePath
SessionNames = SessionName | Sequence[SessionName]


class TutorialVerbs(LaboratoryClient):
    """The methods of ONE's tutorial, and those that name sessions and their folders."""

    # -- search

    @staticmethod
    def search_terms(
        query_type: str | bool | None = None, endpoint: str | None = None, *, all: bool = False
    ) -> list[str]:
        """Return the names of the ten search terms in ONE's tutorial.

        Args:
            query_type: ``"remote"`` returns all terms of :meth:`search`, ``"local"`` those of
                ONE-api.
            endpoint: ``"sessions"``, or ``"insertions"`` for the terms of
                :meth:`search_insertions`.
            all: Whether to return the names of all terms of :meth:`search`.

        Raises:
            UsageError: An argument is invalid.
        """
        # here and below: slow to import, and only needed to search
        from onefs.search import vocabulary

        if isinstance(query_type, bool):  # the first argument of older versions of onefs
            all, query_type = query_type, None
        if query_type is None and endpoint is None and not all:
            return list(vocabulary.TUTORIAL_TERMS)
        from onefs.one.insertions import is_local, terms_of_search

        local = is_local(query_type)
        if endpoint in (None, "sessions"):
            return list(vocabulary.ONE_API_TERMS if local else vocabulary.VOCABULARY)
        if endpoint == "insertions":
            return terms_of_search(local=local)
        raise UsageError(
            f"{endpoint!a} is not an endpoint of a search: give 'sessions' or 'insertions', or use "
            "one.alyx.rest_schemes.field_names(endpoint)"
        )

    @overload
    def search(
        self,
        details: Literal[False] = False,
        query_type: str | None = None,
        *,
        limit: int | None = None,
        **terms: Any,
    ) -> list[str]: ...
    @overload
    def search(
        self,
        details: Literal[True],
        query_type: str | None = None,
        *,
        limit: int | None = None,
        **terms: Any,
    ) -> tuple[list[str], list[dict[str, Any]]]: ...

    @interruptible
    def search(
        self,
        details: bool = False,
        query_type: str | None = None,
        *,
        limit: int | None = None,
        **terms: Any,
    ) -> list[str] | tuple[list[str], list[dict[str, Any]]]:
        """Return the eids of the sessions that match all terms, the latest session first.

        If Alyx is unreachable, the catalogue is searched, and a line in the log says so.

        Args:
            details: Whether to return Alyx's rows too.
            query_type: ``"local"`` to send no request, and to search the catalogue.
            limit: The largest number of sessions to return. None means no limit.
            **terms: The terms and their values, for example ``subject="clns0730"``.
                :meth:`search_terms` lists the terms. The first letters of a term of ONE-api are
                enough, for example ``subj``. For a list of ``users``, ``dataset_types`` or
                ``dataset_names``, a session must have all of them. For any other list, a session
                must have one of them. ``date_range`` is one day, or a list of the first and the
                last day. None as the first or last day means no limit. A day is a text like
                ``"2018-08-24"``, a date or a datetime. ``performance_gte`` and ``performance_lte``
                are percentages from 0 to 100.

        Returns:
            The eids. With ``details``, a tuple ``(eids, rows)``. ``rows`` has Alyx's row of each
            session, as a dict. The added key ``local_path`` is the path of the session's folder as
            text, or None for a session without a folder, and ``date`` is the day as a date.

        Raises:
            UsageError: A term or value is invalid, or there is neither a term nor a limit. The
                message names the term. Also for the details of more than 40 sessions in another
                user's mount.
            Unreachable: Alyx is unreachable, and the catalogue does not have the data for a term.
                The message names these terms.
        """
        if not isinstance(details, bool):
            raise UsageError(
                f"the argument details is {type(details).__name__}: give True or False"
            )
        client = self._of_query_type(query_type)
        if client is not self:
            found: list[str] | tuple[list[str], list[dict[str, Any]]]
            found = client.search(details, limit=limit, **terms)  # type: ignore[call-overload]
            return found
        if details:
            self._view.searched.resolver.start()  # import what finds the paths during the request
        sessions = self.search_sessions(limit=limit, **terms)
        if not details:
            return sessions.eids
        folders = self.folders(sessions)
        rows = [
            {
                **row,
                "date": _day_of(row),
                "local_path": str(folders[eid]) if eid in folders else None,
            }
            for eid, row in zip(sessions.eids, self.records(sessions), strict=True)
        ]
        return sessions.eids, rows

    @interruptible
    def records(self, sessions: FoundSessions) -> Sequence[Row]:
        """Return Alyx's rows for the sessions that :meth:`search_sessions` has found.

        A row has only the fields that Alyx's search sends. From another user's mount, a row has all
        fields of the session.

        Args:
            sessions: The result of :meth:`search_sessions`.

        Raises:
            UsageError: There are more than 40 sessions, and this object reads another user's mount.
        """
        return (
            sessions.rows if self._mount is None else self._mount.catalogue.records(sessions.eids)
        )

    @interruptible
    def search_sessions(self, *, limit: int | str | None = None, **terms: Any) -> FoundSessions:
        """Return the sessions that match all terms, with their rows from Alyx.

        If no session matches, a warning says which names the database does not know.

        Args:
            limit: The largest number of sessions to return. None means no limit.
            **terms: The terms of :meth:`search`.

        Raises:
            UsageError: The errors are those of :meth:`search`.
            Unreachable: The errors are those of :meth:`search`.
        """
        from onefs.search import vocabulary

        query = vocabulary.parse_terms(terms, complete_names=True)
        queries = self._view.searched.laboratory.queries
        sessions = queries.search(query, vocabulary.parse_limit(limit))
        if not sessions.eids:
            sessions.hint = queries.suggest_names(query)
        if sessions.hint:
            warn(f"the search found nothing: {sessions.hint}")
        return sessions

    @interruptible
    def save_search(self, name: str, **terms: Any) -> None:
        """Save a search under a name. Mounts of the database show it as ``.search/NAME``.

        A saved search with this name is replaced.

        Args:
            name: The name. It cannot begin with a dot, or contain ``/`` or ``=``.
            **terms: The terms of :meth:`search`.

        Raises:
            UsageError: The name, a term or a value is invalid, or no term is given. Also if this
                object reads another user's mount.
        """
        from onefs.search import vocabulary

        if not isinstance(name, str):
            raise UsageError(f"the name of a search is {type(name).__name__}: give a text")
        if not terms:
            raise UsageError("a search without any term cannot be saved: give a search term")
        query = vocabulary.parse_terms(terms, complete_names=True)
        self._whole.queries.save_search(name, query)

    def forget_search(self, name: str) -> None:
        """Delete a saved search.

        Args:
            name: The name that was given to :meth:`save_search`.

        Raises:
            NotFound: There is no saved search of that name.
            UsageError: This object reads another user's mount.
        """
        self._whole.queries.delete_saved_search(name)

    # -- list

    @interruptible
    def list(
        self, eid: SessionNames | None = None, keyword: str = "dataset-type", details: bool = False
    ) -> Any:
        """Return the dataset types of a session, or all names of one kind in the database.

        ===============================  =========================  =========================
        call                             result                     with ``details=True``
        ===============================  =========================  =========================
        ``list(eid)``                    dataset types, sorted      :class:`.SessionDataInfo`
        ``list(eid, "all")``             ``[record]``               ``[record]``
        ``list(eid, FIELD)``             one field of the record    ``(value, record)``
        ``list(None, "dataset-types")``  all dataset types          ``(names, rows)``
        ``list(None, "users")``          all users                  ``(names, rows)``
        ``list(None, "subjects")``       all subjects               ``(names, rows)``
        ``list(None, "labs")``           all labs                   ``(names, rows)``
        ===============================  =========================  =========================

        ``record`` is Alyx's whole record of the session, as a dict. ``rows`` are Alyx's rows for
        the names, as dicts. For a session without a folder, ``list(eid)`` returns an empty list and
        warns. Its record can still be listed.

        Args:
            eid: The eid, ref, path or URL of a session. A list of several sessions gives a list of
                their results, in the same order.
            keyword: What to list, as in the table.
            details: Whether to return metadata too.

        Raises:
            UsageError: The keyword or another argument is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with the given ref.
        """
        from onefs.one import lists

        if not isinstance(keyword, str) or not isinstance(details, bool):
            raise UsageError(
                "list(eid, keyword, details): keyword must be a text, details must be True or False"
            )
        keyword = keyword.strip().lower()
        if eid is None:
            return lists.list_names(self._whole, keyword, details)
        names, single = parse_names(eid)
        if lists.is_type_keyword(keyword):
            self._prefetch_sessions(names)
        answers = []
        for name in names:
            session = self._resolver.any_session(name)
            if lists.is_type_keyword(keyword):
                answers.append(lists.list_types(self._loader, session, details))
            else:
                answers.append(lists.list_field(self._whole, session, keyword, details))
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

        Shapes and units are those of the file. Downloaded files are compared with the size and hash
        in the database.

        =================================  =======================================
        file                               content
        =================================  =======================================
        ``.npy``                           numpy array
        ``.npz``                           dict of numpy arrays
        ``.json``                          the value in the file
        ``.jsonable``                      list with one item for each line
        ``.csv``, ``.tsv``, ``.htsv``      pandas DataFrame
        ``.ssv``, ``.pqt``, ``.parquet``   pandas DataFrame
        any other, or an unreadable file   Path of the file in the cache
        =================================  =======================================

        Args:
            eid: The eid, ref, path or URL of a session, or a list of sessions.
            dataset_types: A dataset type, for example ``"spikes.times"``, or a list of types.
                None loads all datasets. A column of a table, such as ``"trials.choice"``, is loaded
                as a numpy array, with a warning.
            dclass_output: Whether to return a :class:`.SessionDataInfo`.
            collection: The only collection to load from, for example ``"alf/probe00"``. None means
                any collection.
            revision: Load the last revision that is not after this revision. None means the default
                revision of each file. Without ``dataset_types``, None means all revisions.
            download_only: Whether to return Paths of the files instead of data.
            mmap: Whether to map ``.npy`` files into memory instead of reading them.
            **old: Arguments of older versions of ONE. Only false values are accepted.

        Returns:
            A list with one element for each type, in the same order. A missing dataset gives an
            empty list, and a warning. Several sessions give a list of such lists.
            With ``dclass_output``, or without ``dataset_types``, one SessionDataInfo with the
            datasets of all the sessions. Missing datasets are left out of it.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with the given ref.
            SeveralDatasets: A type has several datasets. The message lists the datasets. Then give
                ``collection``, ``revision`` or ``dclass_output``.
            BadContent: The bytes of a file contradict the database.
            DataServerCredentials: The file server refuses the login.
            MissingLibrary: One of ``dataset_types`` is in a table, and pandas or pyarrow is
                missing.
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
        cached listing is kept, and a line in the log says so.

        Args:
            eid: The eid, ref, path or URL of a session.

        Raises:
            UsageError: ``eid`` is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with the given ref.
        """
        session = self._resolver.any_session(_single_name(eid))
        if session.has_folder:
            self._laboratory.catalogue.refresh_datasets(session)

    def describe(self, path: str | PurePath) -> dict[str, Any]:
        """Return the metadata of the dataset at a path, from the database and the file's header.

        If the file is not cached, only its first bytes are requested.

        Args:
            path: The path of a file in the cache or in a mount. The file need not be cached.

        Returns:
            A dict with these keys.

            - From the database: ``path``, ``dataset_type``, ``eid``, ``ref``, ``dataset_id``,
              ``collection``, ``revision``, ``size`` in bytes, ``md5``, ``qc``, ``state`` and
              ``url``.
            - Of an ``.npy`` file also ``shape`` (a list), ``dtype``, ``rows``, and ``order`` if it
              is Fortran order.
            - Of a ``.csv``, ``.tsv``, ``.htsv`` or ``.ssv`` file also ``columns`` if the file names
              them, and ``rows`` if the file is cached.
            - ``error`` or ``note`` if something is wrong with the file.

            If this object is offline and the file is not cached, nothing is read from the file.

        Raises:
            UsageError: ``path`` is not the path of a dataset.
            NotFound: There is no dataset at the path.
            DataServerCredentials: The file server refuses the login.
        """
        from onefs.one.description import describe

        return describe(self._laboratory, self._resolver, path, offline=self._offline)

    # -- names

    @interruptible
    def eid(self, name: SessionName) -> str:
        """Return the eid of a session.

        Args:
            name: The session's eid, ref (for example ``2018-08-24_1_clns0730``), path, or URL in
                Alyx. The path may be in the cache or in a mount. The path may also be the path of a
                file in the session.

        Raises:
            UsageError: ``name`` is invalid.
            NotFound: There is no such session, or the session has no folder.
            Ambiguous: Several labs have a session with the given ref.
        """
        is_eid = isinstance(name, (str, UUID)) and alf.is_uuid(str(name).lower())
        return self._resolver.session(name).eid if is_eid else self._resolver.eid(name)

    @interruptible
    def ref(self, eid: SessionName) -> str:
        """Return the ref of a session, for example ``2018-08-24_1_clns0730``.

        Args:
            eid: The eid, ref, path or URL of a session.

        Raises:
            UsageError: ``eid`` is invalid.
            NotFound: There is no such session, or the session has no folder.
            Ambiguous: Several labs have a session with the given ref.
        """
        return self._resolver.session(_single_name(eid)).ref

    @interruptible
    def session(self, eid: SessionName) -> Session:
        """Return a session, with its lab, subject, date, number, task protocol and projects.

        Args:
            eid: The eid, ref, path or URL of a session.

        Raises:
            UsageError: ``eid`` is invalid.
            NotFound: There is no such session, or the session has no folder.
            Ambiguous: Several labs have a session with the given ref.
        """
        return self._resolver.session(_single_name(eid))

    @interruptible
    def folders(
        self, sessions: FoundSessions, mount: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """Return a dict from the eid of each session in ``sessions`` to the session's folder.

        Sessions without a folder are left out. The folders are those of :meth:`path`.

        Args:
            sessions: The result of :meth:`search_sessions`.
            mount: A mount point. None means :attr:`cache_dir`.
        """
        places = self._view.searched.resolver().paths.places(sessions)
        return {eid: self._folder(place, mount) for eid, place in places.items()}

    @interruptible
    def path(self, eid: SessionName, mount: str | os.PathLike[str] | None = None) -> Path:
        """Return the folder of a session in the cache, or below the mount point ``mount``.

        In the cache, the folder has only the files that were loaded. In a mount, the folder has all
        files.

        Args:
            eid: The eid, ref, path or URL of a session.
            mount: A mount point. None means :attr:`cache_dir`.

        Raises:
            UsageError: ``eid`` is invalid.
            NotFound: There is no such session, or the session has no folder.
            Ambiguous: Several labs have a session with the given ref.
        """
        session = self._resolver.session(_single_name(eid))
        return self._folder(self._resolver.paths.place(session), mount)

    def _folder(self, place: Sequence[str], mount: str | os.PathLike[str] | None) -> Path:
        from onefs.one.alf_paths import ALFPath

        mount = self.mountpoint if mount is None else mount
        return ALFPath(cache_path(self.cache_dir, place) if mount is None else Path(mount, *place))


def _single_name(eid: Any) -> Any:
    names, single = parse_names(eid)
    if not single:
        raise UsageError(f"{len(names)} sessions are given instead of one: give one eid")
    return names[0]


def _day_of(row: Row) -> datetime.date | None:
    """Return the day of Alyx's row of a session, as ONE-api's ``search`` has it."""
    try:
        return datetime.date.fromisoformat(str(row.get("start_time"))[:10])
    except ValueError:
        return None
