"""Responses with the bytes of a file: whole, one or several ranges, and conditional requests.

The demo's file server and its public bucket both use these responses.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

from flask import Response, request
from werkzeug.http import http_date, is_resource_modified, parse_if_range_header, parse_range_header

from onefs.demo.digests import md5_of

#: the extensions that nginx knows. Files with any other extension are application/octet-stream
_MIME_TYPES = {
    ".avi": "video/x-msvideo", ".csv": "text/csv", ".gif": "image/gif", ".htm": "text/html",
    ".html": "text/html", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".json": "application/json",
    ".mp4": "video/mp4", ".pdf": "application/pdf", ".png": "image/png", ".txt": "text/plain",
    ".xml": "text/xml", ".zip": "application/zip",
}  # fmt: skip
_DEFAULT_MIME_TYPE = "application/octet-stream"
#: the largest number of bytes that are passed to the network at once
_CHUNK_BYTES = 256 * 1024
#: chunks per second if the rate is limited, so that the bytes of a slow transfer arrive evenly
_CHUNKS_PER_SECOND = 20
#: the modification date of synthetic files, which exist in memory only
_SYNTHETIC_FILE_DATE = datetime(2021, 7, 5, tzinfo=timezone.utc)
_BOUNDARY = "00000000000000000002"
#: the offset of the first byte, and the offset after the last byte
ByteRange = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ServedFile:
    """An opened file, with the values of its headers.

    ``content`` is the bytes of the file, or the descriptor of a file on disk.
    """

    content: bytes | int
    size: int
    etag: str
    modified: datetime
    mimetype: str

    def read(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset``, or b'' if ``offset`` is past the end."""
        if isinstance(self.content, bytes):
            return self.content[offset : offset + length]
        return os.pread(self.content, length, offset)

    def close(self) -> None:
        """Close the descriptor, if the file has one."""
        if isinstance(self.content, int):
            os.close(self.content)


def open_file(content: Path | bytes | None, path: str) -> ServedFile | None:
    """Return the opened file, or None if there is no file.

    ``content`` is the file's path on disk, its bytes, or None. The extension of ``path`` decides
    the media type.
    """
    mimetype = _MIME_TYPES.get(posixpath.splitext(path)[1].lower(), _DEFAULT_MIME_TYPE)
    if content is None:
        return None
    if isinstance(content, bytes):
        return ServedFile(
            content, len(content), _bytes_etag(content), _SYNTHETIC_FILE_DATE, mimetype
        )
    try:
        descriptor = os.open(content, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    stat = os.fstat(descriptor)
    modified = datetime.fromtimestamp(int(stat.st_mtime), timezone.utc)
    etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    return ServedFile(descriptor, stat.st_size, etag, modified, mimetype)


_bytes_etag = lru_cache(maxsize=16)(md5_of)


def respond(file: ServedFile, rate: int | None, error_page: Callable[[int], Response]) -> Response:
    """Return the response to the current request for ``file``.

    ``rate`` is the limit in bytes per second; None means no limit. ``error_page`` makes the
    response with status 412 or 416.
    """
    if not is_resource_modified(request.environ, etag=file.etag, last_modified=file.modified):
        failed_match = "HTTP_IF_MATCH" in request.environ
        response = error_page(412) if failed_match else Response(status=304)
        if not failed_match:
            del response.headers["Content-Type"]
            _set_validators(response, file)
        return response
    spans = _requested_ranges(file)
    if spans == []:
        response = error_page(416)
        response.headers["Content-Range"] = f"bytes */{file.size}"
        return response
    if spans is None:
        response = _body(file, [(b"", (0, file.size))], rate)
        response.headers["Accept-Ranges"] = "bytes"
    elif len(spans) == 1:
        response = _body(file, [(b"", spans[0])], rate)
        response.status = "206 Partial Content"
        response.headers["Content-Range"] = _content_range(spans[0], file)
    else:
        response = _body(file, _parts(file, spans), rate)
        response.status = "206 Partial Content"
        response.headers["Content-Type"] = f"multipart/byteranges; boundary={_BOUNDARY}"
    _set_validators(response, file)
    return response


def _set_validators(response: Response, file: ServedFile) -> None:
    response.headers["Last-Modified"] = http_date(file.modified)
    response.set_etag(file.etag)


def _content_range(span: ByteRange, file: ServedFile) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{file.size}"


def _requested_ranges(file: ServedFile) -> list[ByteRange] | None:
    """Return the byte ranges to send. None means the whole file. [] means status 416."""
    header = request.headers.get("Range", "")
    if not header.lower().startswith("bytes=") or file.size == 0 or not _same_version(file):
        return None
    parsed = parse_range_header(header)
    if parsed is None:
        # a malformed header
        return []
    spans = []
    for start, end in parsed.ranges:
        first = start if start >= 0 else max(0, file.size + start)
        if first < file.size:
            spans.append((first, file.size if end is None else min(end, file.size)))
    # [] if no range starts inside the file
    return spans


def _same_version(file: ServedFile) -> bool:
    """Whether the client's ranges are for the current version of the file.

    The header If-Range names the client's version. Without this header, return True.
    """
    value = request.headers.get("If-Range")
    if value is None:
        return True
    condition = parse_if_range_header(value)
    if condition.date is not None:
        return condition.date == file.modified
    return condition.etag == file.etag


def _parts(file: ServedFile, spans: list[ByteRange]) -> list[tuple[bytes, ByteRange]]:
    parts = [
        (
            f"\r\n--{_BOUNDARY}\r\nContent-Type: {file.mimetype}\r\n"
            f"Content-Range: {_content_range(span, file)}\r\n\r\n".encode(),
            span,
        )
        for span in spans
    ]
    return [*parts, (f"\r\n--{_BOUNDARY}--\r\n".encode(), (0, 0))]


def _body(file: ServedFile, parts: list[tuple[bytes, ByteRange]], rate: int | None) -> Response:
    length = sum(len(head) + end - start for head, (start, end) in parts)
    chunks = _chunks(
        file,
        parts,
        _CHUNK_BYTES if rate is None else max(1, min(_CHUNK_BYTES, rate // _CHUNKS_PER_SECOND)),
    )
    response = Response(chunks if rate is None else _limit_rate(chunks, rate))
    response.headers["Content-Type"] = file.mimetype
    response.headers["Content-Length"] = str(length)
    return response


def _chunks(file: ServedFile, parts: list[tuple[bytes, ByteRange]], size: int) -> Iterator[bytes]:
    for head, (start, end) in parts:
        if head:
            yield head
        while start < end:
            chunk = file.read(start, min(size, end - start))
            if not chunk:
                # the file is shorter now. The response is incomplete, so that the server closes
                # the connection
                return
            yield chunk
            start += len(chunk)


def _limit_rate(chunks: Iterator[bytes], rate: int) -> Iterator[bytes]:
    """Yield ``chunks`` no faster than ``rate`` bytes per second."""
    due = time.monotonic()
    for chunk in chunks:
        due += len(chunk) / rate
        # wait before each chunk, so that many small responses on one connection are also limited
        time.sleep(max(0.0, due - time.monotonic()))
        yield chunk
