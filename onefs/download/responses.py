"""Interprets the responses of file servers to requests for bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onefs.cache.verify import new_hash
from onefs.config.urls import safe_url
from onefs.errors import DataServerCredentials, OnefsError, ServerError, Throttled
from onefs.http import Stream, retry_after_seconds
from onefs.model import Dataset

#: largest number of bytes that are read from the socket and written to the disk at once while no
#: reader waits for these bytes; chunks are large because each chunk costs several turns of the
#: interpreter lock
BULK_CHUNK_BYTES = 2 * 1024 * 1024
#: numbers have at most 18 digits, because SQLite and the kernel store 64 bits
_CONTENT_RANGE = re.compile(
    r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.IGNORECASE | re.ASCII
)


class WrongSize(OnefsError):
    """The size of the file on the server differs from the size in the database."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class RemoteFileChanged(OnefsError):
    """The file on the server has changed since blocks of the file were cached."""


class VersionMismatch(RemoteFileChanged):
    """The ETag or date of a response differs from the ETag or date of the cached blocks."""


@dataclass(frozen=True, slots=True)
class ResponseRange:
    """The range of bytes of the file that a response contains."""

    #: offset of the first byte
    start: int
    #: offset after the last byte
    end: int
    #: False if the server sends the whole file, even if only a part was requested
    is_partial: bool


def check_status(stream: Stream, *statuses: int) -> None:
    """Check that the response has one of ``statuses`` and is not an HTML page.

    An HTML page is accepted if the name of the file ends in .html or .htm. Raises
    DataServerCredentials, Throttled or ServerError.
    """
    url = safe_url(stream.url)
    if stream.status in (403, 407):
        raise DataServerCredentials(f"{url}: the file server does not allow access")
    if stream.status == 429:
        seconds = retry_after_seconds(stream.headers.get("Retry-After")) or 0.0
        raise Throttled(f"{url}: the file server asks to wait: too many requests", seconds)
    if stream.status not in statuses:
        raise ServerError(
            f"{url}: the file server answers with HTTP {stream.status}", stream.status
        )
    content_type = stream.headers.get("Content-Type", "")
    is_page = content_type.startswith(("text/html", "application/xhtml"))
    if is_page and not stream.url.endswith((".html", ".htm")):
        raise ServerError(f"{url}: the file server sends an HTML page instead of the file", 200)


def parse_range_response(
    stream: Stream, size: int, start: int, end: int, validator: str
) -> ResponseRange:
    """Return the range that a response to ``Range: bytes=start-(end-1)`` contains.

    ``size`` is the size of the file in the database. ``validator`` is the text sent as If-Range, or
    '' if no If-Range was sent. Raises WrongSize, VersionMismatch, ServerError,
    DataServerCredentials or Throttled.
    """
    if stream.status == 416:
        _check_size(_total_from_content_range(stream), size)
    check_status(stream, 200, 206)
    # check the size first, because an error text instead of the file has another validator too
    _check_size(stream.length if stream.status == 200 else _total_from_content_range(stream), size)
    current = validator_of(stream.headers)
    if validator and current and current != validator:
        raise VersionMismatch(f"{safe_url(stream.url)}: the file on the server has changed")
    if stream.status == 200:
        return ResponseRange(0, size, is_partial=False)
    return _parse_206(stream, size, start, end)


def _parse_206(stream: Stream, size: int, start: int, end: int) -> ResponseRange:
    """Return the range that a response with status 206 contains.

    This range includes the requested range. Raises ServerError if the server sends another range,
    or names no range.
    """
    url = safe_url(stream.url)
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    if match is None or match[1] is None:
        raise ServerError(f"{url}: the file server does not say which bytes it sends", 206)
    first, last = int(match[1]), int(match[2]) + 1
    if not first <= start < end <= last <= size:
        raise ServerError(
            f"{url}: onefs asked for the bytes {start}-{end - 1}, but the file server sends the "
            f"bytes {first}-{last - 1}",
            206,
        )
    surplus = stream.length is not None and stream.length > last - first
    # a body as long as the file is the whole file, even if Content-Range names a smaller range
    if surplus and stream.length == size:
        return ResponseRange(0, size, is_partial=False)
    if surplus and first > 0:
        raise ServerError(
            f"{url}: the file server announces the bytes {first}-{last - 1}, but sends "
            f"{stream.length} bytes",
            206,
        )
    return ResponseRange(first, last, is_partial=(first, last) != (0, size))


def total_size(stream: Stream) -> int:
    """Return the size of the whole file in bytes, from the response to a request for one byte.

    Raises ServerError if the response does not contain the size, and the errors of
    :func:`check_status`.
    """
    check_status(stream, 200, 206, 416)  # servers answer 416 if the file is empty
    total = stream.length if stream.status == 200 else _total_from_content_range(stream)
    if total is None:
        raise ServerError(
            f"{safe_url(stream.url)}: the file server does not say how large the file is"
        )
    return total


def check_digest(dataset: Dataset, stream: Stream) -> None:
    """Raise ServerError if the body of ``stream`` does not have the hash in the database."""
    # for a server that sends a whole body, although one byte was requested: the length of an error
    # text must not be stored as the size of the file
    digest = new_hash(dataset)
    for chunk in stream.iter_chunks():
        digest.update(chunk)
    if digest.hexdigest() != dataset.md5:
        raise ServerError(
            f"{safe_url(stream.url)}: the file server sends something else than the file", 200
        )


def validator_of(headers: Mapping[str, str]) -> str:
    """Return the text that identifies the version of a file, for the header If-Range.

    This is the strong ETag, otherwise the Last-Modified date, otherwise ''.
    """
    etag = headers.get("ETag", "").strip()
    # a weak ETag does not guarantee equal bytes, and is not allowed in If-Range (RFC 9110, 13.1.5)
    return etag if etag.startswith('"') else headers.get("Last-Modified", "").strip()


def _total_from_content_range(stream: Stream) -> int | None:
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    return int(match[3]) if match is not None and match[3] != "*" else None


def _check_size(total: int | None, size: int) -> None:
    if total is not None and total != size:
        raise WrongSize(f"the database says {size} bytes, the file has {total}", total)
