"""Interprets the answers of file servers and buckets to HTTP requests for bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onefs.config.urls import safe_url
from onefs.download.sources.interface import ByteRequest, VersionMismatch, WrongSize
from onefs.errors import DataServerCredentials, ServerError, Throttled
from onefs.http import Stream, retry_after_seconds

#: numbers have at most 18 digits, because SQLite and the kernel store 64 bits
_CONTENT_RANGE = re.compile(
    r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The bytes of the file that an answer contains. See :class:`Body` for the attributes."""

    start: int
    end: int | None
    total: int | None
    validator: str
    is_partial: bool


def range_headers(request: ByteRequest) -> dict[str, str]:
    """Return the headers that ask for the range of ``request``."""
    if request.end is None:
        return {}
    headers = {"Range": f"bytes={request.start}-{request.end - 1}"}
    if request.validator:
        headers["If-Range"] = request.validator
    return headers


def check_answer(stream: Stream, request: ByteRequest) -> HttpAnswer:
    """Return what the answer to ``request`` contains.

    Raises WrongSize, VersionMismatch, ServerError, DataServerCredentials or Throttled if the answer
    is not the requested range.
    """
    validator = validator_of(stream.headers)
    if request.end is None:
        check_status(stream, 200)
        total = stream.length
        _check_size(total, request.size)
        return HttpAnswer(0, total, total, validator, is_partial=False)
    if stream.status == 416:
        total = _total_from_content_range(stream)
        _check_size(total, request.size)
        if request.size is None:  # the file is empty, or ends before the range
            return HttpAnswer(request.start, request.start, total, validator, is_partial=True)
    check_status(stream, 200, 206)
    is_whole = stream.status == 200 and not _has_only_range(stream)
    # check the size first, because an error text instead of the file has another validator too
    total = stream.length if is_whole else _total_from_content_range(stream)
    _check_size(total, request.size)
    if request.validator and validator and validator != request.validator:
        raise VersionMismatch(f"{safe_url(stream.url)}: the file on the server has changed")
    if is_whole:
        whole = request.size if total is None else total
        return HttpAnswer(0, whole, whole, validator, is_partial=False)
    return _check_range(stream, request, total, validator)


def check_status(stream: Stream, *statuses: int) -> None:
    """Check that the response has one of ``statuses`` and is not an HTML page.

    An HTML page is accepted if the name of the file ends in .html or .htm. Raises
    DataServerCredentials, Throttled or ServerError.
    """
    content_type = stream.headers.get("Content-Type", "")
    is_page = content_type.startswith(("text/html", "application/xhtml"))
    if stream.status in statuses and not is_page:
        return
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
    if is_page and not stream.url.endswith((".html", ".htm")):
        raise ServerError(f"{url}: the file server sends an HTML page instead of the file", 200)


def validator_of(headers: Mapping[str, str]) -> str:
    """Return the text that identifies the version of a file, for the header If-Range.

    This is the strong ETag, otherwise the Last-Modified date, otherwise ''.
    """
    etag = headers.get("ETag", "").strip()
    # a weak ETag does not guarantee equal bytes, and is not allowed in If-Range (RFC 9110, 13.1.5)
    return etag if etag.startswith('"') else headers.get("Last-Modified", "").strip()


def _has_only_range(stream: Stream) -> bool:
    """Whether an answer with status 200 contains only the range that its Content-Range names."""
    # rclone and other servers send a range with status 200 instead of 206
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    if match is None or match[1] is None or stream.length is None:
        return False
    return stream.length == int(match[2]) + 1 - int(match[1])


def _check_range(
    stream: Stream, request: ByteRequest, total: int | None, validator: str
) -> HttpAnswer:
    """Return what an answer contains that names its range. ``total`` is the size that it names.

    The range includes the requested range. Raises ServerError if the server sends another range, or
    names no range.
    """
    assert request.end is not None
    url = safe_url(stream.url)
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    if match is None or match[1] is None:
        raise ServerError(f"{url}: the file server does not say which bytes it sends", 206)
    first, last = int(match[1]), int(match[2]) + 1
    size = request.size if total is None else total
    # the requested range may end after the file only if the size of the file was not known
    most = last if size is None else size
    end = request.end if request.size is not None else min(request.end, most)
    if not first <= request.start < end <= last <= most:
        raise ServerError(
            f"{url}: onefs asked for the bytes {request.start}-{request.end - 1}, but the file "
            f"server sends the bytes {first}-{last - 1}",
            206,
        )
    surplus = stream.length is not None and stream.length > last - first
    # a body as long as the file is the whole file, even if Content-Range names a smaller range
    if surplus and stream.length == size:
        return HttpAnswer(0, size, size, validator, is_partial=False)
    if surplus and first > 0:
        raise ServerError(
            f"{url}: the file server announces the bytes {first}-{last - 1}, but sends "
            f"{stream.length} bytes",
            206,
        )
    is_partial = (first, last) != (0, size)
    return HttpAnswer(first, last, total, validator, is_partial)


def _total_from_content_range(stream: Stream) -> int | None:
    match = _CONTENT_RANGE.fullmatch(stream.headers.get("Content-Range", ""))
    return int(match[3]) if match is not None and match[3] != "*" else None


def _check_size(total: int | None, size: int | None) -> None:
    if total is not None and size is not None and total != size:
        raise WrongSize(f"the database says {size} bytes, the file has {total}", total)
