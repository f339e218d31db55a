"""New sessions: registered or changed since the cache tables were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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

    At most one request per lab is sent in 5 minutes.
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
        """Request a lab's newer sessions in the background, unless they were requested recently."""
        self._drop_older_listings(lab, self._listings.get(self._request(lab)).fetched_at)

    def refresh(self, lab: str) -> bool:
        """Wait until a lab's listings include its newer sessions, and return True.

        Return False if Alyx is never asked. Also return False if the lab is not in the cache
        tables, since the lab's listings are then from Alyx anyway. No request is sent if the last
        request is recent. If the request fails, Alyx's last answer stays. Raises the error of the
        request if Alyx has given no answer since the tables were made.
        """
        if self._availability.always_offline or not self._database.has_lab_in_tables(lab):
            return False
        # what the tables contain is never new enough here, whatever the age of the tables
        request = replace(self._request(lab), tables_ttl_seconds=_NEVER_FRESH)
        self._drop_older_listings(lab, self._listings.get_fresh(request).fetched_at)
        return True

    def refresh_labs(self, labs: ListingRequest[list[str]]) -> bool:
        """Wait until ``labs`` includes the labs newer than the cache tables, and return True.

        Return False if Alyx is never asked, or if there are no cache tables.
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
            tables_date = datetime.fromtimestamp(self._database.tables_created_at(), UTC)
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
        """Drop a lab's listings from memory if they lack the sessions requested at ``asked_at``.

        This process or another process may have sent that request.
        """
        if self._applied_at.get(lab) != asked_at:
            self._applied_at[lab] = asked_at
            self._listings.memory.drop_prefix(f"sessions/{lab}/")
            self._listings.memory.drop(f"subjects/{lab}")
