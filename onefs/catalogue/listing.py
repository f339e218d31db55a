"""Listings, and the requests for them: what to ask Alyx, and how long the answer is valid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from onefs.alyx.client import AlyxClient
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.storage.database import CatalogueDatabase

T = TypeVar("T")

#: characters of a text that count as one row
_CHARACTERS_PER_ROW = 500


@dataclass(slots=True, eq=False)
class Listing(Generic[T]):
    """A listing at one moment. Two reads that return the same object have the same content."""

    value: T
    #: when Alyx was asked, in seconds since the epoch
    fetched_at: float
    #: whether it was read from cache tables
    from_tables: bool = False
    #: whether it is missing in SQLite, because storing it failed
    unstored: bool = False
    #: when SQLite was last found to have nothing newer (``time.monotonic``)
    checked_at: float = field(default_factory=time.monotonic)

    def row_count(self) -> int:
        """How much memory it takes, in rows."""
        if isinstance(self.value, str):
            return 1 + len(self.value) // _CHARACTERS_PER_ROW
        return 1 + len(self.value) if isinstance(self.value, Sized) else 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Work that fetches several listings. It never raises: what is missing afterwards is requested
    by itself."""

    keys: tuple[str, ...]
    work: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ListingRequest(Generic[T]):
    """A listing, and the ways to obtain it."""

    #: its key in the table ``listings`` (see ``storage/schema.sql``)
    key: str
    #: seconds for which it is fresh
    ttl_seconds: float
    #: asks this Alyx, and returns the answer
    fetch: Callable[[AlyxClient], Any]
    #: stores the answer in a database, with the time of the request in seconds since the epoch: a
    #: change between request and answer may be missing from the answer
    store: Callable[[CatalogueDatabase, Any, float], None]
    #: reads it from a database
    load: Callable[[CatalogueDatabase], T]
    #: its path in the tree; None if it has none, so that every invalidation covers it
    scope: TreePath | None = ()
    #: plans a batch that includes it, when it is not known; returns None for no batch
    plan_batch: Callable[[], Batch | None] | None = None
    #: seconds to wait for a batch that is under way, while a new batch is not waited for; None to
    #: wait for both as long as the deadline leaves time for a single request
    batch_wait_seconds: float | None = None
    #: refreshes it in the background, in place of a request for it alone
    start_refresh: Callable[[], None] | None = None
    #: seconds for which it is fresh when it was read from cache tables; None for ``ttl_seconds``
    tables_ttl_seconds: float | None = None

    def ttl_of(self, listing: Listing[T]) -> float:
        """Seconds for which this listing is fresh."""
        if listing.from_tables and self.tables_ttl_seconds is not None:
            return self.tables_ttl_seconds
        return self.ttl_seconds
