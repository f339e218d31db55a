"""Lists the keys of a bucket below a prefix (ListObjectsV2)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.parsers import expat

from onefs.config.bucket import Bucket
from onefs.download.sources.s3_client import S3Client
from onefs.errors import OnefsError, ServerError, Stopping, TooLarge
from onefs.http import retry_delay
from onefs.integers import parse_whole_number

#: keys in one page, which is the most that S3 sends
PAGE_KEYS = 1000
#: most pages of one list, and most keys and folders
MAX_PAGES = 1000
MAX_KEYS = MAX_PAGES * PAGE_KEYS
#: size in bytes of the largest page: keys have 1,024 bytes, which can be escaped as three times as
#: many
MAX_PAGE_BYTES = 8 * 1024 * 1024
#: seconds without an answer after which a page is given up
STALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class S3Object:
    """A key of a bucket, as a list describes it."""

    key: str
    size: int
    #: the ETag, with its quotes. It is no proof of the bytes
    etag: str = ""


@dataclass(frozen=True, slots=True)
class _Page:
    objects: list[S3Object]
    prefixes: list[str]
    #: text that asks for the next page; '' for the last page
    token: str


class S3Lister:
    """Lists keys. Thread-safe. :meth:`close` ends the lists that are under way.

    ``stall``: seconds without an answer after which a page is given up.
    """

    def __init__(self, client: S3Client, stall: float = STALL_SECONDS) -> None:
        self._client = client
        self._stall = stall
        self._stopped = threading.Event()

    def close(self) -> None:
        """End all lists. Stopping is raised in their threads."""
        self._stopped.set()

    def objects(self, bucket: Bucket, prefix: str) -> Iterator[S3Object]:
        """Yield all objects whose keys begin with ``prefix``, in the order of their keys.

        One request is sent for each thousand keys. Raises TooLarge for more than a million keys,
        and the errors of :meth:`S3Client.get`.
        """
        for page in self._pages(bucket, prefix, ""):
            yield from page.objects

    def folder(self, bucket: Bucket, prefix: str) -> tuple[list[S3Object], list[str]]:
        """Return the objects and the folders directly below ``prefix``, as with ``ls``.

        ``prefix`` is '' or ends with a slash, and so does each folder. Raises the errors of
        :meth:`objects`.
        """
        objects: list[S3Object] = []
        folders: list[str] = []
        for page in self._pages(bucket, prefix, "/"):
            objects += [each for each in page.objects if each.key != prefix]
            folders += page.prefixes
        return objects, folders

    def _pages(self, bucket: Bucket, prefix: str, delimiter: str) -> Iterator[_Page]:
        token, seen, count = "", {""}, 0
        for _ in range(MAX_PAGES):
            page = self._fetch_page(bucket, prefix, delimiter, token)
            count += len(page.objects) + len(page.prefixes)
            if count > MAX_KEYS:  # a server may send more keys in a page than it was asked for
                break
            yield page
            token = page.token
            if not token:
                return
            if token in seen:
                raise ServerError(f"the list of the bucket {bucket.name} has no end", 200)
            seen.add(token)
        raise TooLarge(f"the bucket {bucket.name} has more than {MAX_KEYS} keys below {prefix!r}")

    def _fetch_page(self, bucket: Bucket, prefix: str, delimiter: str, token: str) -> _Page:
        """Return one page. A request that fails is sent again if that can help."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(PAGE_KEYS)}
        query |= {"prefix": prefix} if prefix else {}
        query |= {"delimiter": delimiter} if delimiter else {}
        query |= {"continuation-token": token} if token else {}
        attempt = 0
        while True:
            attempt += 1
            try:
                return _parse_page(self._read(bucket, query), bucket.name)
            except OnefsError as error:
                delay = retry_delay(error, attempt)
                if delay is None or delay > self._stall:
                    raise
                if self._stopped.wait(delay):
                    raise Stopping("onefs is being stopped") from error

    def _read(self, bucket: Bucket, query: dict[str, str]) -> bytes:
        stream = self._client.get(bucket, "", self._stall, query=query)
        try:
            body = bytearray()
            for chunk in stream.iter_chunks():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise TooLarge(f"a list of the bucket {bucket.name} is too large")
                if self._stopped.is_set():
                    raise Stopping("onefs is being stopped")
            return bytes(body)
        finally:
            stream.__exit__()


def _parse_page(body: bytes, bucket: str) -> _Page:
    """Return the page in an XML answer. Raises ServerError if the answer is no list of keys."""
    error = ServerError(f"the list of the bucket {bucket} is invalid", 200)
    try:
        root = _parse_xml(body)
    except (expat.ExpatError, ValueError, LookupError) as cause:  # the last: unknown encoding
        raise error from cause
    if _tag(root) != "ListBucketResult":
        raise error
    is_encoded = _text(root, "EncodingType") == "url"

    def decode(text: str) -> str:
        return unquote_plus(text, errors="surrogateescape") if is_encoded else text

    objects, prefixes = [], []
    for child in root:
        if _tag(child) == "Contents":
            fields = {_tag(each): each.text or "" for each in child}
            size = parse_whole_number(fields.get("Size", ""))
            key = decode(fields.get("Key", ""))
            if size is None or not key:
                raise error
            objects.append(S3Object(key, size, fields.get("ETag", "")))
        elif _tag(child) == "CommonPrefixes":
            prefixes.append(decode(_text(child, "Prefix")))
    token = _text(root, "NextContinuationToken")
    is_truncated = _text(root, "IsTruncated").lower() == "true"
    if is_truncated and not token:  # the rest of the list cannot be requested
        raise error
    return _Page(objects, prefixes, token if is_truncated else "")


def _parse_xml(body: bytes) -> ElementTree.Element:
    """Return the root of an XML text. Raises ExpatError or ValueError if it is invalid.

    A text that defines entities is invalid, because a small one can be very large when it is read.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _reject_definitions
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(body, True)
    return builder.close()


def _reject_definitions(*_: object) -> None:
    raise ValueError


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(parent: ElementTree.Element, tag: str) -> str:
    return next((each.text or "" for each in parent if _tag(each) == tag), "")
