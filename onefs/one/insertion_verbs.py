"""The methods of ONE-api that search and name probe insertions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from onefs.one.interrupts import interruptible
from onefs.one.laboratory_client import LaboratoryClient

if TYPE_CHECKING:
    from onefs.alyx.parsing import Row
    from onefs.one.tutorial import SessionName
    from onefs.search.queries import FoundSessions


class InsertionVerbs(LaboratoryClient):
    """The methods of ONE-api that search and name probe insertions."""

    @interruptible
    def pid2eid(
        self, pid: str | UUID, query_type: str | None = None
    ) -> tuple[str, str] | tuple[None, None]:
        """Return the session and the label of a probe insertion.

        Args:
            pid: The probe insertion id.
            query_type: ``"local"`` uses only what is stored; None or ``"remote"`` may ask Alyx.

        Returns:
            The eid and the label, such as ``probe00``; ``(None, None)`` if there is no such
            insertion.

        Raises:
            UsageError: The argument ``query_type`` is invalid.
            Unreachable: Alyx is unreachable, and the insertion is not stored.
        """
        from onefs.one import insertions

        return insertions.session_of_pid(self._laboratory, pid, _is_stored_only(query_type))

    @interruptible
    def eid2pid(
        self,
        eid: SessionName,
        query_type: str | None = None,
        details: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Return the probe insertions of a session.

        Args:
            eid: The eid, ref, path or URL of a session.
            query_type: As for :meth:`pid2eid`.
            details: Whether to return Alyx's rows of the insertions too.
            **kwargs: Terms of :meth:`search_insertions` that the insertions must match, such as
                ``name="probe00"``.

        Returns:
            A list of pids and a list of labels, sorted by label. With ``details``, a list of Alyx's
            rows comes third. Each is None if the session has no such insertion, or if there is no
            such session.

        Raises:
            UsageError: An argument or term is invalid.
            Unreachable: Alyx is unreachable, and the insertions are not stored.
        """
        from onefs.one import insertions

        found = insertions.rows_of_session(
            self._laboratory, self._resolver, eid, kwargs, _is_stored_only(query_type)
        )
        columns = [row["id"] for row in found], [row["name"] for row in found], found
        return tuple(column or None for column in columns[: 3 if details else 2])

    @interruptible
    def search_insertions(
        self, details: bool = False, query_type: str | None = None, **kwargs: Any
    ) -> list[str] | tuple[list[str], list[Row] | None]:
        """Return the pids of the probe insertions that match all terms, the latest session first.

        If Alyx is unreachable, the last result of the same search is returned, or the catalogue is
        searched, and a line in the log says so.

        Args:
            details: Whether to return Alyx's rows too.
            query_type: ``"local"`` searches only the stored insertions, with parts of names, or
                regular expressions if ``wildcards`` is set, as ONE-api does.
            **kwargs: The terms, which may be shortened. ``name`` is the label. ``session``,
                ``subject``, ``lab``, ``date``, ``number``, ``task_protocol`` (a part), ``project``
                (a part) and ``tag`` are of the session or its datasets. ``dataset`` is a part of a
                file name; ``datasets`` and ``dataset_types`` are names, all of which the insertion
                has; ``dataset_qc_lte`` is the worst QC of these datasets. ``atlas_acronym``,
                ``atlas_name`` and ``atlas_id`` are a brain region. ``model`` and ``serial`` are of
                the probe. ``django`` is a filter in Alyx's own form.

        Returns:
            The pids. With ``details``, a tuple ``(pids, rows)``.

        Raises:
            UsageError: A term or value is invalid.
            Unreachable: Alyx is unreachable, and the catalogue does not have the data for a term.
        """
        from onefs.one import insertions

        if _is_stored_only(query_type):
            rows = insertions.search_stored(self._laboratory, kwargs, regex=self.wildcards)
        else:
            rows = insertions.search(self._laboratory, kwargs)
        pids = [row["id"] for row in rows]
        if not details:
            return pids
        return pids, rows or (None if _is_stored_only(query_type) else [])

    @interruptible
    def insertion_table(self, sessions: FoundSessions, **terms: Any) -> list[Row]:
        """Return the probe insertions of sessions that were found, as rows of a table.

        Args:
            sessions: The result of ``search_sessions``.
            **terms: The terms of that search. If they have ``probe``, ``atlas_acronym``,
                ``atlas_name`` or ``atlas_id``, only insertions of that name and region are
                returned.

        Returns:
            A dict for each insertion, with the columns of ``.insertions.tsv`` except ``path``.

        Raises:
            UsageError: A term or value is invalid.
            Unreachable: Alyx is unreachable, and the catalogue does not have the insertions.
        """
        from onefs.one import insertions

        return insertions.table_of(self._laboratory, sessions, terms)


def _is_stored_only(query_type: str | None) -> bool:
    """Whether only stored rows are to be used. Raises UsageError for an invalid type."""
    from onefs.one.arguments import check_query_type

    check_query_type(query_type)
    return query_type == "local"
