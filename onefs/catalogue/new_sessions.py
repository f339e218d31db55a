"""Sessions that are newer than the cache tables: registered or changed since these were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from onefs import alf
from onefs.alyx.client import AlyxClient
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.listing_cache import ListingCache, ListingRequest, StoreAnswer
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import RECENT_TTL_SECONDS, TABLES_OVERLAP_DAYS

#: an age that no listing has
_NEVER_FRESH = float("-inf")


class NewSessions:
    """The newer sessions of each lab: one request for a lab in 5 minutes. Thread-safe."""

    def __init__(
        self,
        database: CatalogueDatabase,
        listings: ListingCache,
        presence: ServerAvailability,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._listings = listings
        self._presence = presence
        self._clock = clock
        self._labs_asked_at = float("-inf")
        #: when the news that the listings in memory hold were asked for, by lab
        self._applied_at: dict[str, float] = {}

    def start_refresh(self, lab: str) -> None:
        """Ask for a lab's newer sessions in the background, if that was not done lately."""
        self._drop_older_listings(lab, self._listings.get(self._request(lab)).fetched_at)

    def refresh(self, lab: str) -> bool:
        """Have a lab's newer sessions in its listings; False where only Alyx can have listed them.

        Waits for Alyx, unless it was asked lately. While it cannot be asked, its last answer
        stands; raises what is in the way where it was never asked since the tables were made.
        """
        if self._presence.always_offline or not self._database.has_lab_in_tables(lab):
            return False
        # however new the tables are: they were made before
        wanted = replace(self._request(lab), tables_ttl_seconds=_NEVER_FRESH)
        self._drop_older_listings(lab, self._listings.get_fresh(wanted).fetched_at)
        return True

    def refresh_labs(self, labs: ListingRequest[list[str]]) -> bool:
        """Have labs that are newer than the tables in ``labs``; False where there are no tables."""
        if self._presence.always_offline or self._database.tables_version() is None:
            return False
        now = self._clock()
        lately = 0 <= now - self._labs_asked_at < RECENT_TTL_SECONDS
        self._listings.get_fresh(labs if lately else replace(labs, ttl_seconds=_NEVER_FRESH))
        if not lately:
            self._labs_asked_at = now
        return True

    def _request(self, lab: str) -> ListingRequest[None]:
        def fetch(alyx: AlyxClient) -> StoreAnswer:
            made = datetime.fromtimestamp(self._database.tables_created_at(), UTC).replace(
                tzinfo=None
            )
            found = alyx.sessions_since(lab, made - timedelta(days=TABLES_OVERLAP_DAYS))
            return lambda database, asked: database.add_new_sessions(lab, found, asked)

        scope = (alf.lab_folder(lab),)
        wanted: ListingRequest[None] = ListingRequest(
            f"news/{lab}", RECENT_TTL_SECONDS, fetch, lambda _: None, scope=scope
        )
        # one request, also when it is waited for as well
        return replace(wanted, start_refresh=lambda: self._listings.start_fetch(wanted))

    def _drop_older_listings(self, lab: str, asked_at: float) -> None:
        """Drop the listings in memory that are older than the news, whatever process asked."""
        if self._applied_at.get(lab) != asked_at:
            self._applied_at[lab] = asked_at
            self._listings.drop_prefix_from_memory(f"sessions/{lab}/")
            self._listings.drop_from_memory(f"subjects/{lab}")
