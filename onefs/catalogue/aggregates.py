"""Aggregates: the datasets of no session, such as all trials of a subject, or a release's clusters.

Alyx lists those that it knows, with their hash. Others are in the public bucket alone, which lists
keys, sizes and ETags; an ETag is no hash of the bytes, so that these datasets have none.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from onefs import alf
from onefs.alyx.parsing import escape_url, usable_replicas
from onefs.cache_tables.reader import split_path
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.listing import Listing, ListingRequest, ListingVersion
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import LABS_TTL_SECONDS
from onefs.config.public_bucket import public_bucket
from onefs.errors import CacheError, OnefsError, Stopping
from onefs.model import Dataset, Replica, Repository

if TYPE_CHECKING:
    from onefs.cache_tables.bucket import PublicBucket
    from onefs.download.sources.s3_listing import S3Object

log = logging.getLogger(__name__)

#: the folder of aggregates, in the bucket, on file servers, in the cache folder and in the tree
FOLDER = f"{alf.AGGREGATES}/"
#: the name of the repository of aggregates that are in the bucket alone
BUCKET_REPOSITORY = "aws_aggregates"
#: the key of the bucket's listing among the stored answers
_STORED_KEY = "table/bucket aggregates"
#: the UUID namespace of the ids of datasets that only the bucket lists
_NAMESPACE = UUID("1a3f0d52-5c1d-5d0a-9a86-6f3b0a0c7b11")


class Aggregates:
    """The aggregates of one database. Thread-safe. Raises the same errors as the catalogue.

    ``open_bucket`` returns the bucket that lists more of them; None if there is no such bucket.
    """

    def __init__(
        self,
        database: CatalogueDatabase,
        listings: ListingCache,
        availability: ServerAvailability,
        open_bucket: Callable[[], PublicBucket] | None,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._listings = listings
        self._availability = availability
        self._open_bucket = open_bucket
        self._clock = clock
        self._lock = threading.Lock()
        self._in_bucket: Listing[list[Dataset]] | None = None
        #: the listings that the last result was made of, and this result
        self._last: tuple[object, object, Listing[list[Dataset]]] | None = None

    def exist(self) -> bool:
        """Whether anything lists aggregates: Alyx or a bucket."""
        return self._availability.has_server or self._open_bucket is not None

    def get(self, repositories: Mapping[str, Repository]) -> Listing[list[Dataset]]:
        """Return all aggregates. A dataset that Alyx knows is left out of the bucket's.

        ``repositories`` are those of the database.
        """
        known: Listing[list[Dataset]] = Listing([], ListingVersion(self._clock()))
        if self._availability.has_server:
            known = self._listings.get(_alyx_request(repositories))
        more = self._bucket_listing()
        with self._lock:
            last = self._last
            if last is not None and last[0] is known.version and last[1] is more:
                return last[2]
            if not self._availability.has_server and last is not None and last[1] is more:
                return last[2]
            paths = {_path_of(dataset) for dataset in known.value}
            others = [each for each in more.value if _path_of(each) not in paths]
            version = ListingVersion(min(known.fetched_at, more.fetched_at))
            merged = Listing([*known.value, *others], version)
            self._last = known.version, more, merged
            return merged

    def _bucket_listing(self) -> Listing[list[Dataset]]:
        with self._lock:
            listing = self._in_bucket
        if self._open_bucket is None:
            return listing or self._remember(Listing([], ListingVersion(self._clock())))
        if listing is None:
            listing = self._stored()
        is_old = listing is None or not 0 <= self._clock() - listing.fetched_at < LABS_TTL_SECONDS
        if is_old or self._is_invalidated(listing):
            try:
                return self._remember(self._fetch(self._open_bucket()))
            except Stopping:
                raise
            except OnefsError as error:
                if listing is None:
                    raise
                log.info("the aggregates in the bucket are those listed before: %s", error)
        assert listing is not None
        return self._remember(listing)

    def _is_invalidated(self, listing: Listing[list[Dataset]] | None) -> bool:
        return listing is None or self._listings.invalidations.time_of(()) > listing.fetched_at

    def _remember(self, listing: Listing[list[Dataset]]) -> Listing[list[Dataset]]:
        with self._lock:
            self._in_bucket = listing
        return listing

    def _stored(self) -> Listing[list[Dataset]] | None:
        """Return the listing that was stored last, or None."""
        # slow to import, and most commands need no aggregates
        from onefs.download.sources.s3_listing import S3Object

        try:
            body, asked = self._database.stored_answer(_STORED_KEY) or ("null", 0.0)
            url, rows = json.loads(body) or ("", None)
            if rows is None:
                return None
            objects = [S3Object(str(key), int(size), str(etag)) for key, size, etag in rows]
        except (CacheError, ValueError, TypeError):
            return None
        return Listing(datasets_of(objects, str(url)), ListingVersion(asked))

    def _fetch(self, bucket: PublicBucket) -> Listing[list[Dataset]]:
        asked = self._clock()
        objects = [each for each in bucket.objects(FOLDER) if not each.key.endswith("/")]
        try:
            rows = [(each.key, each.size, each.etag) for each in objects]
            body = json.dumps([bucket.bucket_url, rows])
            self._database.store_answer(_STORED_KEY, body, asked)
        except CacheError as error:
            log.warning("the list of aggregates cannot be stored: %s", error)
        return Listing(datasets_of(objects, bucket.bucket_url), ListingVersion(asked))


def datasets_of(objects: Iterable[S3Object], bucket_url: str) -> list[Dataset]:
    """Return the datasets for objects of the bucket at ``bucket_url``.

    A UUID in a key is the dataset's; any other id is computed from the object, and is another one
    for another content.
    """
    return [_dataset_of(each, bucket_url) for each in objects]


def _dataset_of(item: S3Object, bucket_url: str) -> Dataset:
    folder, slash, name = alf.valid_text(item.key.removeprefix(FOLDER)).rpartition("/")
    id_ = str(uuid5(_NAMESPACE, f"{bucket_url}/{item.key} {item.size} {item.etag}"))
    for uuid, plain in alf.names_with_uuid(name):
        id_, name = uuid, plain
    parts = split_path(f"{folder}{slash}{name}")
    url = escape_url(public_bucket(bucket_url).url_of(item.key))
    return Dataset(
        id=id_,
        eid="",
        name=parts.name,
        collection=parts.collection,
        revision=parts.revision,
        dataset_type=alf.dataset_type(parts.name),
        size=item.size,
        replicas=(Replica(BUCKET_REPOSITORY, url),),
    )


def _alyx_request(repositories: Mapping[str, Repository]) -> ListingRequest[list[Dataset]]:
    """Return the request for the aggregates that Alyx knows."""

    def load(database: CatalogueDatabase) -> list[Dataset]:
        datasets = (
            replace(row.dataset, replicas=usable_replicas(row.claimed_replicas, repositories))
            for row in database.datasets("")
        )
        return [each for each in datasets if any(_is_aggregate(r) for r in each.replicas)]

    return ListingRequest(
        "datasets/",
        LABS_TTL_SECONDS,
        fetch=lambda alyx: alyx.aggregates(),
        store=lambda database, rows, asked: database.store_datasets("", rows, asked),
        load=load,
        basis=repositories,
        scope=(),
    )


def _is_aggregate(replica: Replica) -> bool:
    return f"/{FOLDER}" in replica.url


def _path_of(dataset: Dataset) -> Sequence[str]:
    return dataset.collection, dataset.revision, dataset.name
