"""The methods of ONE-api that name sessions and datasets: eids, paths, refs and URLs.

Each of these methods also takes a list of names, and then returns the list of the results.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from onefs import alf
from onefs.errors import UsageError
from onefs.one.interrupts import interruptible
from onefs.one.laboratory_client import LaboratoryClient

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.model import Session
    from onefs.one.name_conversions import NameConversions
    from onefs.one.views import Parts


class SessionVerbs(LaboratoryClient):
    """The methods of ONE-api that name sessions and datasets: eids, paths, refs and URLs."""

    # -- sessions

    @interruptible
    def list_subjects(self) -> list[str]:
        """Return the nicknames of all subjects in the database, sorted.

        Subjects without a session are left out if the database has no Alyx.

        Raises:
            Unreachable: Alyx is unreachable, and the catalogue has no subject.
        """
        from onefs.search.name_tables import names_in_table

        access = None if self._mount is not None else cast("Access", self._whole)
        if access is not None and not access.without_alyx.has_alyx:
            access = cast("Access", self._laboratory)
            return sorted(access.database.distinct_values("sessions", "subject"))
        rows = self._whole.queries.list_table("subjects")
        return names_in_table("subjects", rows)

    @interruptible
    def get_details(self, eid: Any, full: bool = False, query_type: str | None = None) -> Any:
        """Return the details of a session as a dict, or offline as a row of ONE-api's table.

        Args:
            eid: The eid, ref, path or URL of a session.
            full: Whether to return Alyx's whole record. Otherwise the dict has the fields of Alyx's
                list of sessions (``projects`` as one text), and ``date`` and ``local_path``.
            query_type: ``"local"`` to send no request.

        Returns:
            The dict. In the mode ``local`` a pandas Series, or with ``full`` a DataFrame with the
            session's datasets.

        Raises:
            UsageError: An argument is invalid, or there is no session at the path.
            NotFound: There is no such session.
            MissingLibrary: In the mode ``local``, pandas is not installed.
        """
        from onefs.one import session_refs

        client = self._of_query_type(query_type, may_ignore=True)
        names = client._session_names
        if session_refs.is_list(eid):
            eid = list(eid)
        if not full:
            names.fetch_sessions(
                map(names.to_eid, eid if session_refs.is_list(eid) else [eid]), with_times=True
            )

        def details(name: object) -> Any:
            found = names.eid_of(name)
            if client._offline and client._mount is None:
                from onefs.one.session_records import full_record, session_record

                session = names.session(found)
                return full_record(client._resolver, session) if full else session_record(session)
            if not full:
                return names.details(found)
            import json

            record = client._whole.catalogue.record(names.session(found))
            return cast("dict[str, Any]", json.loads(record.value))

        return session_refs.for_each(eid, details)

    @interruptible
    def to_eid(self, id: Any = None, cache_dir: str | os.PathLike[str] | None = None) -> Any:
        """Return the eid of a session as text, or None if a path names no known session.

        An eid is returned without a check that the database has the session.

        Args:
            id: The eid, ref, path, URL or record (a dict) of a session.
            cache_dir: The folder of the path that a record names. None means :attr:`cache_dir`.

        Raises:
            UsageError: ``id`` is not a name of a session.
            NotFound: There is no session with this ref.
        """
        from onefs.one import session_refs

        names, root = self._session_names, None if cache_dir is None else Path(cache_dir)
        return session_refs.for_each(id, lambda name: names.to_eid(name, root))

    @interruptible
    def eid2path(self, eid: Any, query_type: str | None = None) -> Any:
        """Return the path of a session's folder in the cache, or None for an unknown session.

        Args:
            eid: The eid, ref or URL of a session.
            query_type: ``"local"`` to send no request.

        Raises:
            UsageError: An argument is invalid.
        """
        from onefs.one import session_refs

        names = self._of_query_type(query_type, may_ignore=True)._session_names
        if session_refs.is_list(eid):
            eid = list(eid)
            names.fetch_sessions(eid)
        return session_refs.for_each(eid, lambda name: names.eid_to_path(names.eid_of(name)))

    @interruptible
    def path2eid(self, path_obj: Any, query_type: str | None = None) -> Any:
        """Return the eid of the session in a path, or None if the path has no known session.

        Args:
            path_obj: The path of a session, or of a file in it.
            query_type: ``"local"`` to send no request.

        Raises:
            UsageError: An argument is invalid.
            Ambiguous: Several sessions match, because the path has no lab.
        """
        from onefs.one import session_refs

        names = self._of_query_type(query_type, may_ignore=True)._session_names
        return session_refs.for_each(path_obj, names.path_to_eid)

    # -- references

    @interruptible
    def eid2ref(self, eid: Any, as_dict: bool = True, parse: bool = True) -> Any:
        """Return the ref of a session, as a dict with ``subject``, ``date`` and ``sequence``.

        Args:
            eid: The eid, ref, path or URL of a session.
            as_dict: Whether to return a dict. Otherwise a text like ``2018-08-24_1_clns0730``.
            parse: Whether ``date`` is a date and ``sequence`` an int. Otherwise they are texts, and
                ``sequence`` has three digits.

        Raises:
            UsageError: ``eid`` is invalid.
            NotFound: There is no such session.
        """
        from onefs.one import session_refs
        from onefs.one.bunch import Bunch

        def ref_of(session: Session) -> Any:
            if session.number < 0:
                raise UsageError(f"the session {session.eid} has no number, and so no ref")
            ref = Bunch(
                subject=session.subject,
                date=date.fromisoformat(session.date) if parse else session.date,
                sequence=session.number if parse else alf.number_folder(session.number),
            )
            return ref if as_dict else session_refs.dict_to_ref(ref)

        names = self._session_names
        if session_refs.is_list(eid):
            eid = list(eid)
            names.fetch_sessions(eid)
        return session_refs.for_each(eid, lambda name: ref_of(names.session(names.eid_of(name))))

    @interruptible
    def ref2eid(self, ref: Any) -> Any:
        """Return the eid of a ref.

        Args:
            ref: A ref, as a text or a dict (see :meth:`eid2ref`).

        Raises:
            UsageError: ``ref`` is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with this ref.
        """
        from onefs.one import session_refs

        return session_refs.for_each(ref, self._session_names.ref_to_eid)

    @interruptible
    def ref2path(self, ref: Any) -> Any:
        """Return the path of the session with a ref, as :meth:`eid2path` does.

        Args:
            ref: A ref, as a text or a dict (see :meth:`eid2ref`).

        Raises:
            UsageError: ``ref`` is invalid.
            NotFound: There is no such session.
            Ambiguous: Several labs have a session with this ref.
        """
        from onefs.one import session_refs

        names = self._session_names
        return session_refs.for_each(ref, lambda each: names.eid_to_path(names.ref_to_eid(each)))

    @staticmethod
    def path2ref(path_str: Any, as_dict: bool = True, parse: bool = True) -> Any:
        """Return the ref of the session in a path, or None if the path contains no session.

        Args:
            path_str: The path of a session, or of a file in it. It need not exist.
            as_dict: Whether to return a dict (see :meth:`eid2ref`). Otherwise a text.
            parse: Whether ``date`` is a date and ``sequence`` an int in the dict.

        Raises:
            UsageError: The path contains an invalid date.
        """
        from onefs.one import session_refs

        return session_refs.for_each(
            path_str, lambda path: session_refs.path_to_ref(path, as_dict, parse)
        )

    @staticmethod
    def ref2dict(ref: Any, parse: bool = True) -> Any:
        """Return a ref as a dict with ``subject``, ``date`` and ``sequence``.

        Args:
            ref: A ref, as a text or a dict.
            parse: Whether ``date`` is a date and ``sequence`` an int.

        Raises:
            UsageError: ``ref`` is invalid.
        """
        from onefs.one import session_refs

        return session_refs.for_each(ref, lambda each: session_refs.ref_to_dict(each, parse))

    @staticmethod
    def dict2ref(ref_dict: Any) -> Any:
        """Return a ref as text, like ``2018-08-24_1_clns0730``. Return None for an empty dict.

        Args:
            ref_dict: A dict with ``subject``, ``date`` or ``start_time``, and ``sequence`` or
                ``number``.

        Raises:
            UsageError: ``ref_dict`` is invalid.
        """
        from onefs.one import session_refs

        return session_refs.for_each(ref_dict, session_refs.dict_to_ref)

    @staticmethod
    def is_exp_ref(ref: Any) -> Any:
        """Whether a text or dict is a ref of a session.

        Args:
            ref: Any value.
        """
        from onefs.one import session_refs

        return session_refs.for_each(ref, session_refs.is_exp_ref)

    # -- datasets

    @interruptible
    def path2url(self, filepath: Any, query_type: str | None = None) -> Any:
        """Return the URL of a file on the file server.

        Args:
            filepath: The path of a dataset's file in the cache or in a mount.
            query_type: ``"local"`` to send no request, and to return None for an unknown file.

        Raises:
            UsageError: An argument is invalid.
            NotFound: There is no such dataset.
        """
        from onefs.one import session_refs

        names = self._of_query_type(query_type, may_ignore=True)._names
        return session_refs.for_each(filepath, names.path_to_url)

    @interruptible
    def path2record(self, path: Any) -> Any:
        """Return a session's or dataset's row of ONE-api's tables, as a pandas Series.

        Args:
            path: The path of a session or of a dataset's file, in the cache or in a mount.

        Returns:
            The Series. Its name is the eid of a session, and ``(eid, id)`` for a dataset. None if
            the database has no such session or dataset.

        Raises:
            MissingLibrary: pandas is missing.
        """
        from onefs.one import session_refs
        from onefs.one.session_records import dataset_record, session_record

        names = self._names

        def record_of(path: Any) -> Any:
            from onefs.one.alf_grammar import is_session_path

            if not is_session_path(PurePath(path).as_posix()):
                found = names.dataset(path)
                return None if found is None else dataset_record(found[1], as_table=self._offline)
            eid = names.path_to_eid(path)
            return None if eid is None else session_record(names.session(eid))

        return session_refs.for_each(path, record_of)

    @interruptible
    def record2url(self, record: Any) -> Any:
        """Return the URL on the file server of a session's or dataset's record.

        Args:
            record: A row of ONE-api's tables as a Series (see :meth:`path2record`), or a DataFrame.

        Returns:
            The URL. For a DataFrame, the list of the URLs.

        Raises:
            UsageError: ``record`` is not such a row.
            NotFound: There is no such dataset, or no file server with the session's files.
        """
        from onefs.one.session_records import check_record, ids_of, rows_of

        rows = rows_of(record)
        names = self._names

        def url_of(row: Any) -> str:
            check_record(row)
            if "rel_path" in row:
                return names.url_of_dataset(names.dataset_of_record(*ids_of(row)))
            return names.url_of_session(
                row["lab"], row["subject"], str(row["date"]), int(row["number"])
            )

        return url_of(record) if rows is None else [url_of(row) for row in rows]

    @interruptible
    def record2path(self, dataset: Any) -> Any:
        """Return the path in the cache of a dataset's record. The file need not exist.

        Args:
            dataset: A row of ONE-api's table as a Series (see :meth:`path2record`), or a DataFrame.

        Returns:
            The path. For a DataFrame, the list of the paths.

        Raises:
            UsageError: ``dataset`` is not such a row, or its session is unknown.
        """
        from onefs.one.session_records import check_record, ids_of, rows_of

        rows, names = rows_of(dataset), self._names

        def path_of(row: Any) -> Path:
            check_record(row)
            eid, _ = ids_of(row)
            folder = None if eid is None else names.eid_to_path(eid)
            if folder is None:
                raise UsageError(f"the record's name has no eid of a known session, but {eid!a}")
            return folder / str(row["rel_path"])

        return path_of(dataset) if rows is None else [path_of(row) for row in rows]

    @property
    def _names(self) -> NameConversions:
        """The conversions of names of the datasets that are listed and loaded."""
        return self._names_in(self._view.shown)

    @property
    def _session_names(self) -> NameConversions:
        """The conversions of names of all sessions that searches find, in any release."""
        return self._names_in(self._view.searched)

    def _names_in(self, parts: Parts) -> NameConversions:
        from onefs.one.name_conversions import NameConversions

        access = None if self._mount is not None else cast("Access", parts.laboratory)
        return NameConversions(
            parts.laboratory, parts.resolver(), access, offline=self._offline, url=self.url
        )
