"""Aggregates: the datasets of no session, such as all trials of a subject, or a release's clusters.

Alyx lists those that it knows, with their hash. Others are in the public bucket alone, which lists
keys, sizes and ETags; an ETag is no hash of the bytes, so that these datasets have none.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from onefs import alf
from onefs.alyx.parsing import escape_url, usable_replicas
from onefs.cache_tables.reader import split_path
from onefs.catalogue.availability import ServerAvailability
from onefs.catalogue.invalidation import TreePath
from onefs.catalogue.listing import Listing, ListingRequest, ListingVersion
from onefs.catalogue.listing_cache import ListingCache
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.catalogue.ttl import LABS_TTL_SECONDS
from onefs.config.public_bucket import public_bucket
from onefs.errors import ServerError
from onefs.model import Dataset, Replica, Repository

if TYPE_CHECKING:
    from onefs.cache_tables.bucket import PublicBucket
    from onefs.download.sources.s3_listing import S3Object

#: the folder of aggregates, in the bucket, on file servers, in the cache folder and in the tree
FOLDER = f"{alf.AGGREGATES}/"
#: the path in the tree of the listings of aggregates
AGGREGATES_SCOPE: TreePath = (alf.AGGREGATES,)
#: the name of the repository of aggregates that are in the bucket alone
BUCKET_REPOSITORY = "aws_aggregates"
#: stands for an eid in the key of the bucket's listing among the stored records
_STORED_AS = "bucket of aggregates"
#: the UUID namespace of the ids of datasets that only the bucket lists
_NAMESPACE = UUID("1a3f0d52-5c1d-5d0a-9a86-6f3b0a0c7b11")

#: the versions of the listings of Alyx and of the bucket
_Versions = tuple[ListingVersion, ListingVersion]


class Aggregates:
    """The aggregates of one database. Thread-safe. Raises the same errors as the catalogue.

    ``listings`` are those of Alyx. ``bucket_listings`` has the listing of the bucket; None if there
    is no such bucket.
    """

    def __init__(
        self,
        listings: ListingCache,
        availability: ServerAvailability,
        bucket_listings: BucketListings | None,
        clock: Callable[[], float],
    ) -> None:
        self._listings = listings
        self._availability = availability
        self._in_bucket = bucket_listings
        self._lock = threading.Lock()
        #: the versions of the listings that the last result was made of, and this result
        self._last: tuple[_Versions, Listing[list[Dataset]]] | None = None
        #: stands for the listing of what does not exist
        self._nothing: Listing[list[Dataset]] = Listing([], ListingVersion(clock()))

    def exist(self) -> bool:
        """Whether anything lists aggregates: Alyx or a bucket."""
        return self._availability.has_server or self._in_bucket is not None

    def get(self, repositories: Mapping[str, Repository]) -> Listing[list[Dataset]]:
        """Return all aggregates. A dataset that Alyx knows is left out of the bucket's.

        ``repositories`` are those of the database.
        """
        # the rows are read only if they have changed, because there may be many
        request = _alyx_request(repositories)
        has_alyx, bucket = self._availability.has_server, self._in_bucket
        versions = (
            self._listings.get_version(request) if has_alyx else self._nothing.version,
            bucket.get_version() if bucket is not None else self._nothing.version,
        )
        with self._lock:
            if self._last is not None and self._last[0] == versions:
                return self._last[1]
        known = self._listings.get(request) if has_alyx else self._nothing
        more = bucket.get() if bucket is not None else self._nothing
        paths = {_path_of(dataset) for dataset in known.value}
        others = [each for each in more.value if _path_of(each) not in paths]
        version = ListingVersion(min(known.fetched_at, more.fetched_at))
        merged = Listing([*known.value, *others], version)
        with self._lock:
            self._last = (known.version, more.version), merged
        return merged


class BucketListings:
    """The listing of a bucket's aggregates, which is cached as listings of Alyx are. Thread-safe.

    ``make_cache`` makes the cache for a server with this availability.
    """

    def __init__(
        self,
        bucket: PublicBucket,
        make_cache: Callable[[ServerAvailability], ListingCache],
        clock: Callable[[], float],
        *,
        offline: bool,
    ) -> None:
        self._bucket = bucket
        self._availability = ServerAvailability(
            bucket.bucket_url, self._probe, clock, always_offline=offline
        )
        self.cache = make_cache(self._availability)

    def get(self) -> Listing[list[Dataset]]:
        """Return the listing, as :meth:`ListingCache.get` does."""
        return self.cache.get(self._request())

    def get_version(self) -> ListingVersion:
        """Return the version of the listing, as :meth:`ListingCache.get_version` does."""
        return self.cache.get_version(self._request())

    def close(self) -> None:
        """Send no more requests. Raise Stopping in each waiting caller."""
        self._availability.close()
        self.cache.close()
        self._bucket.close()

    def _probe(self) -> None:
        with suppress(ServerError):  # this is an answer, too
            self._bucket.cache_info()

    def _request(self) -> ListingRequest[list[Dataset]]:
        return ListingRequest(
            f"record/{_STORED_AS}",
            LABS_TTL_SECONDS,
            fetch=lambda alyx: self._fetch(),
            store=lambda database, body, asked: database.store_record(_STORED_AS, body, asked),
            load=lambda database: _parse_stored(database.record(_STORED_AS) or ""),
            scope=AGGREGATES_SCOPE,
        )

    def _fetch(self) -> str:
        objects = (each for each in self._bucket.objects(FOLDER) if not each.key.endswith("/"))
        rows = [(each.key, each.size, each.etag) for each in objects]
        return json.dumps([self._bucket.bucket_url, rows])


def _parse_stored(body: str) -> list[Dataset]:
    """Return the datasets in a stored listing of a bucket. Raises ValueError if it is damaged."""
    # slow to import, and most commands need no aggregates
    from onefs.download.sources.s3_listing import S3Object

    url, rows = json.loads(body)
    objects = (S3Object(str(key), int(size), str(etag)) for key, size, etag in rows)
    return datasets_of(objects, str(url))


def datasets_of(objects: Iterable[S3Object], bucket_url: str) -> list[Dataset]:
    """Return the datasets for objects of the bucket at ``bucket_url``.

    An id is computed from the object, and is another one for another content. So it is not the UUID
    in a key, which stays the same for another content.
    """
    return [_dataset_of(each, bucket_url) for each in objects]


def _dataset_of(item: S3Object, bucket_url: str) -> Dataset:
    folder, slash, name = alf.valid_text(item.key.removeprefix(FOLDER)).rpartition("/")
    id_ = str(uuid5(_NAMESPACE, f"{bucket_url}/{item.key} {item.size} {item.etag}"))
    for _, plain in alf.names_with_uuid(name):
        name = plain
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
        scope=AGGREGATES_SCOPE,
    )


def _is_aggregate(replica: Replica) -> bool:
    return f"/{FOLDER}" in replica.url


def _path_of(dataset: Dataset) -> Sequence[str]:
    return dataset.collection, dataset.revision, dataset.name
