"""``ONE``: the tutorial's verbs, over the same catalogue and cache as the mount."""

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

#: a name of a session: its eid, ref, path, or Alyx's URL
SessionName = str | UUID | PurePath
SessionNames = SessionName | Sequence[SessionName]


class ONE(LaboratoryClient):
    """One database: ``ONE()`` for the one that is set up, or with arguments for one use.

    If no database is set up or named, and exactly one laboratory is mounted (in ``cache_dir``, if
    that is named), it is that one; but not with a password or token, which need ``base_url``.
    The mount may be another user's (``--allow-other``), which can also be named as ``cache_dir``:
    it answers without a login.

    No argument is saved. ``username`` and ``password`` are Alyx's (or ``token`` in their place),
    ``base_url`` is its address; ``profile`` is one that ``onefs setup`` has saved; ``cache_dir`` is
    a ONE cache folder; ``data_username`` and ``data_password`` are those of the file server,
    ``data_hosts`` the servers that may receive them (``https://host``, separated by commas).
    With ``offline`` no request is sent; with ``silent`` nothing is asked on the terminal.

    Raises NotConfigured if no database is known and none can be asked for on a terminal, UsageError
    for invalid arguments, AlyxCredentials, and Unreachable if Alyx is unreachable and nothing of
    the database is cached. Methods raise the errors that they name, and Unreachable,
    DeadlineExceeded, AlyxCredentials, Throttled, ServerError or CacheError (``onefs.errors``).
    """

    # -- search

    @staticmethod
    def search_terms(all: bool = False) -> list[str]:
        """Return the tutorial's ten search terms; with ``all`` every term of :meth:`search`."""
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
        """Return the eids of the sessions that match every term, the latest first.

        ``users=[a, b]`` and ``dataset_types=[a, b]`` match sessions that have all of these;
        ``subject=[a, b]``, ``lab=[a, b]`` and other lists match sessions with either.
        ``date_range`` is one day, or the first and the last day, None for an open end. ``limit`` is
        the most sessions to return. With ``details`` also returns a list of Alyx's rows, each with
        the ``local_path`` of its session.

        Raises UsageError for an invalid term or value, naming it. If Alyx is unreachable the
        catalogue answers, with a line in the log; Unreachable names the terms unknown to it.
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
        """Return Alyx's rows of the sessions that :meth:`search_sessions` has found.

        Over another user's mount these are the records of the sessions. Raises UsageError there
        for more than 40 sessions.
        """
        return (
            sessions.rows if self._mount is None else self._mount.catalogue.records(sessions.eids)
        )

    @interruptible
    def search_sessions(self, *, limit: int | str | None = None, **terms: Any) -> FoundSessions:
        """Search as :meth:`search`, and return the sessions and their rows."""
        query = vocabulary.parse_terms(terms)
        sessions = self._laboratory.queries.search(query, vocabulary.parse_limit(limit))
        if not sessions.eids:
            sessions.hint = self._laboratory.queries.suggest_names(query)
        if sessions.hint:
            warn(f"the search found nothing: {sessions.hint}")
        return sessions

    @interruptible
    def save_search(self, name: str, **terms: Any) -> None:
        """Save a search, which mounts of the database show as ``.search/NAME``."""
        if not isinstance(name, str):
            raise UsageError(f"{type(name).__name__} is not a name for a search")
        if not terms:
            raise UsageError("a search without any term cannot be saved")
        self._laboratory.queries.save_search(name, vocabulary.parse_terms(terms))

    def forget_search(self, name: str) -> None:
        """Delete a saved search. Raises NotFound."""
        self._laboratory.queries.delete_saved_search(name)

    # -- list

    @interruptible
    def list(
        self, eid: SessionNames | None = None, keyword: str = "dataset-type", details: bool = False
    ) -> Any:
        """Return what the database or a session has, by a keyword.

        ``list(eid)``: the dataset types of a session, each once, sorted; with ``details`` a
        :class:`SessionDataInfo` of its datasets. ``list(eid, 'all')``: ``[record]``, Alyx's whole
        record of the session; any field of it by its name. ``list(None, 'dataset-types')``,
        ``'users'``, ``'subjects'`` or ``'labs'``: all names of the database; with ``details``
        ``(names, rows)``. Several eids give a list of such results, in order.

        A session without a folder (for example without a number) has no types, and a warning says
        so; its record is returned. Raises UsageError for an unknown keyword, NotFound for an
        unknown session.
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
        """Fetch the sessions of several eids, and their datasets, with few requests."""
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
        """Return the content of a session's datasets, downloaded if necessary (docs/tutorial.md).

        With ``dataset_types`` a list with one element for each type, in that order; an empty list,
        with a warning, for a missing dataset. A type in several collections needs ``collection``
        (SeveralDatasets lists them). The default revision is used, or with ``revision`` the last
        one that is not after it, as in ONE. With ``dclass_output`` a :class:`SessionDataInfo` of
        all of them, without the missing ones. Without types one of all datasets.

        ``download_only`` returns Paths instead of data, ``mmap`` maps arrays into memory. A file
        that no reader can read is returned as its Path. Several eids give a list of lists, or one
        SessionDataInfo.

        Raises NotFound, UsageError, SeveralDatasets, BadContent, DataServerCredentials, and
        MissingLibrary for a table without pandas.
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
        """Wait for a new listing of a session's datasets if the cached one is past its TTL.

        (:meth:`list` returns the cached one at once.) If Alyx is unreachable the cached one stays,
        and a line in the log says so. Raises NotFound for an unknown session.
        """
        session = self._resolver.any_session(_single_name(eid))
        if session.has_folder:
            self._laboratory.catalogue.refresh_datasets(session)

    def describe(self, path: str | PurePath) -> dict[str, Any]:
        """Return the metadata of the dataset at a path, from its header and the database: name,
        type, shape, dtype, rows, size in bytes, md5, state and URL.

        ``path`` is in the cache or in a mount. The file is not downloaded: if it is not cached, its
        first bytes are requested. Raises UsageError, NotFound, and the errors of file servers.
        """
        return self._loader.describe(path)

    # -- names

    @interruptible
    def eid(self, name: SessionName) -> str:
        """Return the eid of a session by its path (in the cache, in a mount, of a file in it), its
        ref, or Alyx's URL. Raises UsageError, NotFound, or Ambiguous for a ref in two labs."""
        is_eid = isinstance(name, (str, UUID)) and alf.is_uuid(str(name).lower())
        return self._resolver.session(name).eid if is_eid else self._resolver.eid(name)

    @interruptible
    def ref(self, eid: SessionName) -> str:
        """Return the ref of a session: ``2018-08-24_1_clns0730``."""
        return self._resolver.session(_single_name(eid)).ref

    @interruptible
    def session(self, eid: SessionName) -> Session:
        """Return a session: lab, subject, date, number, task protocol, projects."""
        return self._resolver.session(_single_name(eid))

    @interruptible
    def folders(
        self, sessions: FoundSessions, mount: str | os.PathLike[str] | None = None
    ) -> dict[str, Path]:
        """Return the folder (:meth:`path`) of each session of :meth:`search_sessions`, by eid."""
        places = self._resolver.paths.places(sessions)
        return {eid: self._folder(place, mount) for eid, place in places.items()}

    @interruptible
    def path(self, eid: SessionName, mount: str | os.PathLike[str] | None = None) -> Path:
        """Return the folder of a session in the cache, or below the mount point ``mount``.

        In the cache it has the files that were loaded, in a mount all of them.
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
