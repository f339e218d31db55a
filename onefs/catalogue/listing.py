"""Listings (such as all sessions of a subject), and how each is requested, stored and read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from onefs.alyx.client import AlyxClient
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.storage.database import CatalogueDatabase

T = TypeVar("T")

#: number of characters of a text that count as one row
_CHARACTERS_PER_ROW = 500


@dataclass(slots=True, eq=False)
class ListingVersion:
    """The origin and the time of a listing, which stay in memory longer than the listing's rows.

    If two reads return the same object, the content has not changed between the reads.
    """

    #: when Alyx was asked, in seconds since the epoch
    fetched_at: float
    #: whether the listing was read from cache tables
    from_tables: bool = False
    #: whether the listing is only in memory, because SQLite could not store the listing
    unstored: bool = False
    #: see :attr:`ListingRequest.basis`
    basis: object = None
    #: when SQLite was last found to have no newer listing (``time.monotonic``)
    checked_at: float = field(default_factory=time.monotonic)

    def has_basis(self, basis: object) -> bool:
        """Whether the listing was made from ``basis``, or from an equal object."""
        if self.basis is not basis:
            if self.basis != basis:
                return False
            self.basis = basis  # the same object is found faster the next time
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Listing(Generic[T]):
    """The answer to one kind of request, such as all sessions of a subject, at one moment."""

    value: T
    version: ListingVersion

    @property
    def fetched_at(self) -> float:
        """When Alyx was asked, in seconds since the epoch."""
        return self.version.fetched_at

    @property
    def from_tables(self) -> bool:
        """Whether the listing was read from cache tables."""
        return self.version.from_tables

    def row_count(self) -> int:
        """Return the size of the listing in rows, as a measure for the memory that it takes.

        A text counts as one row for each 500 characters.
        """
        if isinstance(self.value, str):
            return 1 + len(self.value) // _CHARACTERS_PER_ROW
        return 1 + len(self.value) if isinstance(self.value, Sized) else 1


class Batch(NamedTuple):
    """Several listings that are fetched together: their keys, and the function that fetches them.

    The function never raises.
    """

    keys: tuple[str, ...]
    # a listing that the function could not fetch is requested by a separate request
    work: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ListingRequest(Generic[T]):
    """The key and TTL of a listing, and the functions that request, store and read the listing."""

    #: the listing's key in the table ``listings`` (see ``storage/schema.sql``)
    key: str
    #: seconds for which the listing is fresh
    ttl_seconds: float
    #: asks the given Alyx, and returns the answer
    fetch: Callable[[AlyxClient], Any]
    #: stores the answer in a database, with the time of the request in seconds since the epoch, not
    #: the time of the answer, because a change between the two may be missing from the answer
    store: Callable[[CatalogueDatabase, Any, float], None]
    #: reads the listing from a database
    load: Callable[[CatalogueDatabase], T]
    #: what ``load`` uses besides the rows: if this changes, the listing is read again
    basis: object = None
    #: the listing's path in the tree; None for a listing without a path. Every invalidation covers
    #: a listing without a path
    scope: TreePath | None = ()
    #: plans a batch that includes the listing, when the listing is not stored; returns None to send
    #: a request for this listing alone
    plan_batch: Callable[[], Batch | None] | None = None
    #: seconds to wait for a batch that is already running. With a number here, the caller does not
    #: wait for a batch that this caller has started. With None, the caller waits for any batch, as
    #: long as the deadline leaves time for a separate request
    batch_wait_seconds: float | None = None
    #: refreshes the listing in the background; None to send a request for this listing alone
    start_refresh: Callable[[], None] | None = None
    #: seconds for which the listing is fresh if it was read from cache tables; None for
    #: ``ttl_seconds``
    tables_ttl_seconds: float | None = None

    def ttl_of(self, version: ListingVersion) -> float:
        """Return the seconds for which a listing with this version is fresh."""
        if version.from_tables and self.tables_ttl_seconds is not None:
            return self.tables_ttl_seconds
        return self.ttl_seconds
