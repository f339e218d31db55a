"""A public bucket on S3: its cache tables, and the listing of its keys. No request is signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from onefs.config.public_bucket import TABLES_FOLDER, public_bucket
from onefs.errors import ServerError
from onefs.http import Stream, Transport
from onefs.lowlevel.lazy import Lazy

if TYPE_CHECKING:
    from onefs.download.sources.s3_listing import S3Lister, S3Object


class PublicBucket:
    """A client of the bucket at ``url``. Thread-safe.

    ``tag`` selects the tables of a release; '' means those of the whole database. ``deadline`` is
    the longest time in seconds for a small answer.
    """

    def __init__(
        self, transport: Transport, url: str, tag: str = "", deadline: float = 10.0
    ) -> None:
        self._transport = transport
        self._lister = Lazy(self._open_lister)
        self._bucket = public_bucket(url)
        #: the address of the bucket
        self.bucket_url = url
        self._deadline = deadline
        folder = f"{TABLES_FOLDER}/{quote(tag)}" if tag else TABLES_FOLDER
        #: the address of the folder with the tables
        self.url = f"{url}/{folder}"

    def close(self) -> None:
        """End the lists of keys that are under way."""
        lister = self._lister.close()
        if lister is not None:
            lister.close()

    def cache_info(self) -> dict[str, Any] | None:
        """Return the description of the cache tables. Return None if there are no tables.

        Raises the errors of :meth:`Transport.get_json`, and ServerError for an invalid answer.
        """
        answer = self._transport.get_json(f"{self.url}/cache_info.json", deadline=self._deadline)
        # S3 answers 403 for a key that does not exist, if the keys may not be listed
        if answer.status in (403, 404):
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise ServerError(
                f"{self.url}/cache_info.json cannot be read (HTTP {answer.status})", answer.status
            )
        return answer.body

    def cache_zip(self) -> Stream:
        """Return a stream of the archive of cache tables. The caller must check its HTTP status."""
        return self._transport.stream(f"{self.url}/cache.zip")

    def tags(self) -> list[str]:
        """Return the names of the releases that have cache tables in the bucket, sorted."""
        prefix = f"{TABLES_FOLDER}/"
        _, folders = self._lister().folder(self._bucket, prefix)
        return sorted(folder.removeprefix(prefix).rstrip("/") for folder in folders)

    def objects(self, prefix: str) -> Iterator[S3Object]:
        """Yield the objects whose keys begin with ``prefix``.

        Raises the errors of :meth:`S3Lister.objects`.
        """
        return self._lister().objects(self._bucket, prefix)

    def _open_lister(self) -> S3Lister:
        # slow to import, and most commands list no keys
        from onefs.download.sources.s3_client import S3Client
        from onefs.download.sources.s3_listing import S3Lister

        return S3Lister(S3Client(self._transport), self._deadline)
