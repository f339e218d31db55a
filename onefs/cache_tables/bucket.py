"""A public bucket on S3: its cache tables, and the listing of its keys. No request is signed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from onefs.config.public_bucket import TABLES_FOLDER, object_url
from onefs.errors import ServerError
from onefs.http import Stream, Transport
from onefs.integers import parse_whole_number

#: the largest size in bytes of one page of a listing. A page has at most 1,000 keys
_MAX_PAGE_BYTES = 8 << 20
#: the most pages of one listing
_MAX_PAGES = 1000


class BucketObject(NamedTuple):
    """A key of a listing. The size is -1 for a folder, whose key ends with a slash."""

    key: str
    size: int
    etag: str


class PublicBucket:
    """A client of the bucket at ``url``. Thread-safe.

    ``tag`` selects the tables of a release; '' means those of the whole database. ``deadline`` is
    the longest time in seconds for a small answer.
    """

    def __init__(
        self, transport: Transport, url: str, tag: str = "", deadline: float = 10.0
    ) -> None:
        self._transport = transport
        #: the address of the bucket
        self.bucket_url = url
        self._deadline = deadline
        folder = f"{TABLES_FOLDER}/{quote(tag)}" if tag else TABLES_FOLDER
        #: the address of the folder with the tables
        self.url = object_url(url, folder)

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
        folders = (each.key for each in self.list_keys(prefix, delimiter="/") if each.size < 0)
        return sorted(folder.removeprefix(prefix).rstrip("/") for folder in folders)

    def list_keys(self, prefix: str, *, delimiter: str = "") -> Iterator[BucketObject]:
        """Yield the objects whose keys begin with ``prefix`` (ListObjectsV2), page by page.

        With ``delimiter``, keys that contain it after the prefix are yielded as one folder. Raises
        ServerError for an invalid answer, and the errors of requests.
        """
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        for _ in range(_MAX_PAGES):
            page = self._page(query)
            for item in page.iter("Contents"):
                etag = _text(item, "ETag").strip('"')
                yield BucketObject(unquote(_text(item, "Key")), _size(item, self.bucket_url), etag)
            for item in page.iter("CommonPrefixes"):
                yield BucketObject(unquote(_text(item, "Prefix")), -1, "")
            token = _text(page, "NextContinuationToken")
            if _text(page, "IsTruncated") != "true" or not token:
                return
            query["continuation-token"] = token
        raise ServerError(f"{self.bucket_url} lists more than {_MAX_PAGES} pages of {prefix}")

    def _page(self, query: dict[str, str]) -> ET.Element:
        url = f"{self.bucket_url}/?{urlencode(query)}"
        body = bytearray()
        with self._transport.stream(url, stall_timeout=self._deadline) as stream:
            if stream.status != 200:
                raise ServerError(
                    f"{self.bucket_url} cannot be listed (HTTP {stream.status})", stream.status
                )
            for chunk in stream.iter_chunks():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    raise ServerError(f"{self.bucket_url} sent a page that is too large")
        if b"<!DOCTYPE" in body:  # entities could make the text much larger
            raise ServerError(f"{self.bucket_url} sent a page that is no listing")
        try:
            page = ET.fromstring(bytes(body))
        except ET.ParseError as error:
            raise ServerError(f"{self.bucket_url} sent a page that is no XML: {error}") from error
        for element in page.iter():
            element.tag = element.tag.rpartition("}")[2]
        if page.tag != "ListBucketResult":
            raise ServerError(f"{self.bucket_url} sent a page that is no listing")
        return page


def _text(item: ET.Element, name: str) -> str:
    return item.findtext(name) or ""


def _size(item: ET.Element, url: str) -> int:
    size = parse_whole_number(_text(item, "Size"))
    if size is None:
        raise ServerError(f"{url} sent a listing with an invalid size")
    return size
