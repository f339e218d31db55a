"""Sessions that are newer than the cache tables: registered or changed since these were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from onefs import alf
from onefs.metadata.alyx import Alyx
from onefs.metadata.database import Database
from onefs.metadata.freshness import NEWS_DAYS, RECENT_AGE
from onefs.metadata.listings import Listings, Store, Wanted
from onefs.metadata.presence import Presence

#: an age that no listing has
_NEVER_FRESH = float("-inf")


class News:
    """The newer sessions of each lab: one request for a lab in 5 minutes. Thread-safe."""

    def __init__(
        self,
        database: Database,
        listings: Listings,
        presence: Presence,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._listings = listings
        self._presence = presence
        self._clock = clock
        self._labs_asked_at = float("-inf")
        #: when the news that the listings in memory hold were asked for, by lab
        self._taken: dict[str, float] = {}

    def look(self, lab: str) -> None:
        """Ask for a lab's newer sessions in the background, if that was not done lately."""
        self._take(lab, self._listings.get(self._wanted(lab)).fetched_at)

    def ask(self, lab: str) -> bool:
        """Have a lab's newer sessions in its listings; False where only Alyx can have listed them.

        Waits for Alyx, unless it was asked lately. While it cannot be asked, its last answer
        stands; raises what is in the way where it was never asked since the tables were made.
        """
        if self._presence.never or not self._database.has_tables_of(lab):
            return False
        # however new the tables are: they were made before
        wanted = replace(self._wanted(lab), tables_age=_NEVER_FRESH)
        self._take(lab, self._listings.current(wanted).fetched_at)
        return True

    def ask_labs(self, labs: Wanted[list[str]]) -> bool:
        """Have labs that are newer than the tables in ``labs``; False where there are no tables."""
        if self._presence.never or self._database.tables_version() is None:
            return False
        now = self._clock()
        lately = 0 <= now - self._labs_asked_at < RECENT_AGE
        self._listings.current(labs if lately else replace(labs, max_age=_NEVER_FRESH))
        if not lately:
            self._labs_asked_at = now
        return True

    def _wanted(self, lab: str) -> Wanted[None]:
        def fetch(alyx: Alyx) -> Store:
            made = datetime.fromtimestamp(self._database.tables_created(), UTC).replace(tzinfo=None)
            found = alyx.sessions_since(lab, made - timedelta(days=NEWS_DAYS))
            return lambda database, asked: database.add_news(lab, found, asked)

        scope = (alf.lab_folder(lab),)
        wanted: Wanted[None] = Wanted(f"news/{lab}", RECENT_AGE, fetch, lambda _: None, scope=scope)
        # one request, also when it is waited for as well
        return replace(wanted, later=lambda: self._listings.begin(wanted))

    def _take(self, lab: str, asked_at: float) -> None:
        """Drop the listings in memory that are older than the news, whatever process asked."""
        if self._taken.get(lab) != asked_at:
            self._taken[lab] = asked_at
            self._listings.drop_all(f"sessions/{lab}/")
            self._listings.drop(f"subjects/{lab}")
