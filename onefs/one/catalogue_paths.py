"""Folders of sessions, and their datasets, from the catalogue (the local copy of Alyx's rows)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from onefs import alf
from onefs.access import Access
from onefs.cache.folder import Place
from onefs.errors import DeadlineExceeded, NotFound, Throttled, Unreachable
from onefs.model import Dataset, Session
from onefs.one.arguments import cache_path
from onefs.tree.layout import SessionLayout, datasets_by_path
from onefs.tree.layout_cache import LayoutCache
from onefs.tree.session_paths import (
    load_session_layout,
    session_path_among,
    session_path_or_cached,
    session_paths_or_cached,
)
from onefs.tree.unserved import refuse_unserved
from onefs.tree.variant import Variant

if TYPE_CHECKING:
    from onefs.search.queries import FoundSessions


class CataloguePaths:
    """The paths of a laboratory's sessions (see :class:`onefs.one.laboratory.SessionPaths`).

    If Alyx is unreachable, the rows that are stored on this machine are used.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._layout_cache = LayoutCache()

    def sessions_by_ref(self, ref: alf.Ref) -> list[Session]:
        try:
            return self._access.catalogue.sessions_by_ref(ref)
        except (Unreachable, DeadlineExceeded, Throttled):
            sessions = self._access.database.sessions_by_ref(ref)
            if not sessions:
                raise
            return sessions

    def session_at(self, place: Place) -> Session:
        try:
            return self._access.tree.session_at("/" + "/".join(place))
        except (Unreachable, DeadlineExceeded, Throttled):
            session = self._cached_session_at(place)
            if session is None:
                raise
            return session

    def place(self, session: Session) -> Place:
        return session_path_or_cached(self._access.catalogue, self._layout_cache, session)

    def places(self, found: FoundSessions) -> dict[str, Place]:
        return session_paths_or_cached(
            self._access.catalogue,
            self._layout_cache,
            found.sessions(),
            has_complete_numbers=found.has_complete_numbers,
        )

    def file_path(self, place: Place) -> Path:
        return cache_path(self._access.cache_dir, place)

    def layout(self, session: Session, variant: Variant) -> SessionLayout:
        """Return the folders and datasets that a session has in the tree ``variant``.

        ``variant`` is the full tree, the tree as of a day, or the flat tree. If the catalogue has
        the datasets only from ONE's cache tables, Alyx is asked for the session's datasets. If Alyx
        cannot list them, those from the tables are returned.
        """
        # cache tables lack types, replicas and some of the datasets, but with them cached files can
        # be loaded if Alyx is unreachable or has deleted the session
        catalogue = self._access.catalogue
        if any(dataset.from_tables for dataset in catalogue.datasets(session).value):
            with suppress(NotFound):
                catalogue.try_fetch_full_listing(session)
        return load_session_layout(catalogue, self._layout_cache, session, variant)

    def datasets(self, layout: SessionLayout) -> list[tuple[Place, Dataset]]:
        placed = datasets_by_path(layout)
        typed = self._access.catalogue.with_types([dataset for _, dataset in placed])
        return [(place, dataset) for (place, _), dataset in zip(placed, typed, strict=True)]

    def registered_types(self, session: Session) -> set[str]:
        return {row.dataset.dataset_type for row in self._access.database.datasets(session.eid)}

    def unserved_datasets(self, session: Session) -> list[Dataset]:
        return [dataset for dataset, _ in self._access.catalogue.unserved_datasets(session)]

    def refuse_unserved(self, session: Session, below: Place, variant: Variant) -> None:
        refuse_unserved(self._access.catalogue, session, lambda at, _: at == below, variant)

    def _cached_session_at(self, place: Place) -> Session | None:
        """Return the stored session whose folder has the path ``place``.

        Return None if no stored session, or more than one, has this path.
        """
        _, subject, day, number = place
        ref = alf.Ref(day, alf.parse_number_folder(number) or 0, subject)
        sessions = self._access.database.sessions_by_ref(ref)
        at_place = [
            session
            for session in sessions
            if session_path_among(session, [s for s in sessions if s.lab == session.lab]) == place
        ]
        return at_place[0] if len(at_place) == 1 else None
