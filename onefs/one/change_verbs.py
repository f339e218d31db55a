"""The methods that say what has changed in a database."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from onefs.errors import UsageError
from onefs.one.interrupts import interruptible
from onefs.one.laboratory_client import LaboratoryClient

if TYPE_CHECKING:
    from onefs.search.changes import Changes


class ChangeVerbs(LaboratoryClient):
    """The methods that say what has changed in a database."""

    @interruptible
    def changes(
        self,
        since: str | datetime.date,
        until: str | datetime.date | None = None,
        *,
        source: str | None = None,
        **terms: Any,
    ) -> Changes:
        """Return the sessions and datasets that were added, replaced or removed since a date.

        ``pandas.DataFrame(one.changes("2024-05-01"))`` is a table of them. An error says that the
        changes are unknown; an empty result means that there are none.

        Args:
            since: A date or a datetime, such as ``"2024-05-01"`` or ``"2024-05-01T20:00"``; without
                a zone, UTC.
            until: The end, a date or a datetime. Only syncs know the changes before an end.
            source: ``"syncs"`` compares the cache tables of the syncs. ``"alyx"`` asks Alyx, which
                does not know what was removed. None means syncs if they know all changes since
                ``since``, and otherwise Alyx.
            **terms: The terms of :meth:`search`: only changes in the sessions that match.

        Returns:
            An iterable of named tuples with the fields of :class:`onefs.search.changes.Change`.
            Its attribute ``known_until`` is the time until which all changes are known: use it as
            the next ``since``. ``unknown`` has the kinds of change that are not known.

        Raises:
            UsageError: An argument or a term is invalid, or this object reads another user's mount.
            Unreachable: The changes are unknown: no sync has noted them, and Alyx is unreachable.
        """
        from onefs.access import Access
        from onefs.one.warn import warn
        from onefs.search.changes import ChangeFinder
        from onefs.search.vocabulary import parse_terms

        lab = self._whole
        if not isinstance(lab, Access):
            raise UsageError(
                "another user's mount does not show what has changed in the database: run `onefs "
                "setup` to use the database with a login of your own"
            )
        finder = ChangeFinder(lab.settings.state_dir, lab.alyx, lab.database, lab.queries)
        changes = finder.find(since, until, source, parse_terms(terms) if terms else None)
        if changes.hint:
            warn(changes.hint)
        return changes
