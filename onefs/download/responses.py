"""What an answer of a file server means for who asked for a range of bytes. Pure decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onefs.config.urls import safe_url
from onefs.errors import DataServerCredentials, OnefsError, ServerError, Throttled
from onefs.http import Stream, retry_after_seconds

#: bytes taken from the socket and written to the disk at once, where no reader waits for them: each
#: chunk costs its thread several turns in the queue for the interpreter
BULK_CHUNK_BYTES = 2 * 1024 * 1024
#: no longer numbers: SQLite and the kernel keep 64 bits, and ``int`` takes 4,300 digits
_CONTENT_RANGE = re.compile(
    r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.IGNORECASE | re.ASCII
)


class WrongSize(OnefsError):
    """The server's file has another size than the one asked for."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class RemoteFileChanged(OnefsError):
    """The server's file is no longer the one that the blocks on disk came from."""


class VersionMismatch(RemoteFileChanged):
    """An answer has another ETag or date than the blocks on disk came with."""


@dataclass(frozen=True, slots=True)
class ResponseRange:
    """The bytes that an answer carries: from ``start`` to ``end``, this one not included.

    ``ranged`` is False when the server sends the whole file, whatever was asked for.
    """

    start: int
    end: int
    is_partial: bool


def check_status(stream: Stream, *statuses: int) -> None:
    """Raise unless the answer is a file: of these statuses, and no page for people."""
    host = safe_url(stream.url)
    if stream.status in (403, 407):
        raise DataServerCredentials(f"{host}: the file server does not allow it to us")
    if stream.status == 429:
        seconds = retry_after_seconds(stream.headers.get("Retry-After")) or 0.0
        raise Throttled(f"{host}: the file server asks to wait: too many requests", seconds)
    if stream.status not in statuses:
        raise ServerError(f"{host}: the file server answers {stream.status}", stream.status)
    kind = stream.headers.get("Content-Type", "")
    page = kind.startswith(("text/html", "application/xhtml"))
    if page and not stream.url.endswith((".html", ".htm")):
        raise ServerError(f"{host}: the file server sends a page instead of a file", 200)


def parse_range_response(
    stream: Stream, size: int, start: int, end: int, validator: str
) -> ResponseRange:
    """What the body of an answer to ``Range: bytes=start-(end-1)`` holds.

    ``size`` is the file's as the database has it, ``validator`` the one that was sent as If-Range
    ('' for none). Raises WrongSize, Changed, ServerError, DataServerCredentials or Throttled.
    """
    if stream.status == 416:
        _check_size(_total_from_content_range(stream), size, stream.url)
    check_status(stream, 200, 206)
    # the size first: a sentence in the place of the file has a validator of its own
    _check_size(
        stream.length if stream.status == 200 else _total_from_content_range(stream),
        size,
        stream.url,
    )
    found = validator_of(stream.headers)
    if validator and found and found != validator:
        raise VersionMismatch(f"{safe_url(stream.url)}: the file on the server has changed")
    if stream.status == 200:
        return ResponseRange(0, size, is_partial=False)
    return _parse_206(stream, size, start, end)


def _parse_206(stream: Stream, size: int, start: int, end: int) -> ResponseRange:
    """What a 206 holds: the range asked for, one around it, or the whole file under any name."""
    url = safe_url(stream.url)
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    if match is None or match[1] is None:
        raise ServerError(f"{url}: the file server does not say which bytes it sends", 206)
    first, last = int(match[1]), int(match[2]) + 1
    if not first <= start < end <= last <= size:
        raise ServerError(
            f"{url}: asked for bytes {start}-{end - 1}, the file server sends {first}-{last - 1}",
            206,
        )
    surplus = stream.length is not None and stream.length > last - first
    if surplus and stream.length == size:
        return ResponseRange(0, size, is_partial=False)
    if surplus and first > 0:
        raise ServerError(
            f"{url}: the file server calls {stream.length} bytes the range {first}-{last - 1}", 206
        )
    return ResponseRange(first, last, is_partial=(first, last) != (0, size))


def total_size(stream: Stream) -> int:
    """The size of the whole file, from an answer to a request for its first byte."""
    check_status(stream, 200, 206, 416)  # 416: an empty file has no first byte
    total = stream.length if stream.status == 200 else _total_from_content_range(stream)
    if total is None:
        raise ServerError(f"{safe_url(stream.url)}: the file server does not say how large it is")
    return total


def validator_of(headers: Mapping[str, str]) -> str:
    """What names this very version of a file in If-Range: a strong ETag, else the date; or ''.

    A weak ETag promises no equal bytes and is not allowed there (RFC 9110, 13.1.5).
    """
    etag = headers.get("ETag", "").strip()
    return etag if etag.startswith('"') else headers.get("Last-Modified", "").strip()


def _total_from_content_range(stream: Stream) -> int | None:
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    return int(match[3]) if match is not None and match[3] != "*" else None


def _check_size(found: int | None, size: int, url: str) -> None:
    if found is not None and found != size:
        raise WrongSize(f"the database says {size} bytes, the file has {found}", found)
