"""New sessions: registered or changed since the cache tables were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.listing import ListingRequest
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.storage.database import CatalogueDatabase, NumberedSession
from onefs.catalogue.ttl import RECENT_TTL_SECONDS, TABLES_OVERLAP_DAYS

#: a TTL that makes every listing stale
_NEVER_FRESH = float("-inf")


class NewSessions:
    """The sessions of each lab that are newer than the cache tables. Thread-safe.

    For each lab, at most one request is sent in 5 minutes.
    """

    def __init__(
        self,
        database: CatalogueDatabase,
        listings: ListingCache,
        availability: ServerAvailability,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._listings = listings
        self._availability = availability
        self._clock = clock
        self._labs_asked_at = float("-inf")
        #: by lab, the time of the request whose newer sessions the listings in memory include
        self._applied_at: dict[str, float] = {}

    def start_refresh(self, lab: str) -> None:
        """Request a lab's newer sessions in the background, at most once in 5 minutes."""
        self._drop_older_listings(lab, self._listings.get(self._request(lab)).fetched_at)

    def refresh(self, lab: str) -> bool:
        """Wait until a lab's listings include the sessions that are newer than the cache tables.

        Return False if these listings cannot change: in offline mode, or for a lab that is not in
        the cache tables. Otherwise return True. If the request fails, an answer of Alyx that is
        newer than the tables is used. If there is none, the error is raised.
        """
        if self._availability.always_offline or not self._database.has_lab_in_tables(lab):
            return False
        # what the tables contain is never new enough here, whatever the age of the tables
        request = replace(self._request(lab), tables_ttl_seconds=_NEVER_FRESH)
        self._drop_older_listings(lab, self._listings.get_fresh(request).fetched_at)
        return True

    def refresh_labs(self, labs: ListingRequest[list[str]]) -> bool:
        """Wait until the list of labs includes the labs that are newer than the cache tables.

        Return False in offline mode, or without cache tables. Otherwise return True. If the request
        fails, an answer of Alyx that is newer than the tables is used. If there is none, the error
        is raised.
        """
        if self._availability.always_offline or self._database.tables_version() is None:
            return False
        now = self._clock()
        is_recent = 0 <= now - self._labs_asked_at < RECENT_TTL_SECONDS
        self._listings.get_fresh(labs if is_recent else replace(labs, ttl_seconds=_NEVER_FRESH))
        if not is_recent:
            self._labs_asked_at = now
        return True

    def _request(self, lab: str) -> ListingRequest[None]:
        def fetch(alyx: AlyxClient) -> list[NumberedSession]:
            tables_date = datetime.fromtimestamp(self._database.tables_created_at(), timezone.utc)
            since = tables_date.replace(tzinfo=None) - timedelta(days=TABLES_OVERLAP_DAYS)
            return alyx.sessions_since(lab, since)

        request: ListingRequest[None] = ListingRequest(
            f"news/{lab}",
            RECENT_TTL_SECONDS,
            fetch,
            lambda database, sessions, asked: database.add_new_sessions(lab, sessions, asked),
            load=lambda _: None,
            scope=(alf.lab_folder(lab),),
        )
        # a refresh in the background and a caller that waits for the listing share one request
        return replace(request, start_refresh=lambda: self._listings.start_fetch(request))

    def _drop_older_listings(self, lab: str, asked_at: float) -> None:
        """Remove a lab's listings from memory if they are from before ``asked_at``."""
        # the request, of this or another process, has stored new sessions in SQLite, from where the
        # listings are read at their next use
        if self._applied_at.get(lab) != asked_at:
            self._applied_at[lab] = asked_at
            self._listings.memory.drop_prefix(f"sessions/{lab}/")
            self._listings.memory.drop(f"subjects/{lab}")
