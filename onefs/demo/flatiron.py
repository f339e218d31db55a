"""The demo's file server. It answers like nginx on FlatIron, which is IBL's file server.

The server supports Basic auth, requests for one or several ranges, conditional requests, and folder
listings. The user and password are not those of Alyx. Paths below ``/aws/`` need no password. In a
request, ``#`` must be escaped. As on FlatIron, a client that does not escape the ``#`` of a
revision requests the folder above the revision, and gets status 200 and HTML. The responses are
like those of a recorded nginx 1.22 (``tests/data/recorded``).
"""

from __future__ import annotations

import hmac
import os
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Flask, Response, request
from werkzeug.http import http_date, is_resource_modified, parse_if_range_header, parse_range_header
from werkzeug.routing import PathConverter

from onefs.demo import directory_listings
from onefs.demo.digests import md5_of
from onefs.demo.records import Login, Source

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
_REASONS = {
    400: "Bad Request", 401: "Authorization Required", 403: "Forbidden", 404: "Not Found",
    405: "Not Allowed", 412: "Precondition Failed", 416: "Requested Range Not Satisfiable",
    500: "Internal Server Error",
}  # fmt: skip

#: the offset of the first byte, and the offset after the last byte
ByteRange = tuple[int, int]


class _AnyPath(PathConverter):
    """A URL converter that accepts any path, including names with line breaks."""

    regex = r"[\s\S]*?"
    part_isolating = False


@dataclass(frozen=True, slots=True)
class _File:
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


def create_app(
    source: Source, login: Login, *, realm: str = "FlatIron", rate: int | None = None
) -> Flask:
    """Return the file server of ``source`` as a WSGI application.

    ``rate`` is the limit for each connection in bytes per second. None means no limit.
    """
    app = Flask("onefs.demo.flatiron", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters["any"] = _AnyPath

    @app.before_request
    def authorize() -> Response | None:
        # test the path that is served, because Flask may have normalized ``request.path``
        if _decoded_path().startswith("/aws/") or _authorized(login):
            return None
        response = _page(401)
        response.headers["WWW-Authenticate"] = f'Basic realm="{realm}"'
        return response

    @app.route("/", defaults={"_path": ""}, methods=["GET"], provide_automatic_options=False)
    @app.route("/<any:_path>", methods=["GET"], provide_automatic_options=False)
    def serve(_path: str) -> Response:
        return _serve(source, _decoded_path(), rate)

    for status in (404, 405, 500):
        app.register_error_handler(status, lambda _error, status=status: _page(status))
    return app


def _authorized(login: Login) -> bool:
    credentials = request.authorization
    if credentials is None or credentials.type != "basic":
        return False
    user, password = credentials.username or "", credentials.password or ""
    right_user = hmac.compare_digest(user.encode(), login.data_username.encode())
    right_password = hmac.compare_digest(password.encode(), login.data_password.encode())
    return right_user and right_password


def _decoded_path() -> str:
    """Return the path of the request. Bytes that are not UTF-8 are decoded by ``os.fsdecode``."""
    # PATH_INFO no longer has the bytes that are not UTF-8
    return os.fsdecode(unquote_to_bytes(urlsplit(request.environ["REQUEST_URI"]).path))


def _page(status: int) -> Response:
    title = f"{status} {_REASONS[status]}"
    text = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>onefs</center>\r\n</body>\r\n</html>\r\n"
    )
    response = Response(text, status=f"{status} {_REASONS[status]}")
    response.headers["Content-Type"] = "text/html"
    return response


def _serve(source: Source, path: str, rate: int | None) -> Response:
    if path.endswith("/") or "\0" in path:
        return _folder(source, path)
    try:
        file = _open(source.file(path), path)
    except PermissionError:
        return _page(403)
    if file is None:
        return _folder(source, path)
    try:
        response = _respond(file, rate)
    except BaseException:
        file.close()
        raise
    response.call_on_close(file.close)
    return response


def _folder(source: Source, path: str) -> Response:
    names = None if path == "/" else directory_listings.entries_of(source, path)
    if names is None:
        return _page(404)
    if path.startswith("/aws/"):
        return _page(403)
    if not path.endswith("/"):
        response = Response(status="301 Moved Permanently", content_type="text/html")
        response.headers["Location"] = request.host_url + quote(os.fsencode(path[1:])) + "/"
        return response
    return Response(directory_listings.render_page(path, names), content_type="text/html")


def _open(content: Path | bytes | None, path: str) -> _File | None:
    mimetype = _MIME_TYPES.get(posixpath.splitext(path)[1].lower(), _DEFAULT_MIME_TYPE)
    if content is None:
        return None
    if isinstance(content, bytes):
        return _File(content, len(content), _bytes_etag(content), _SYNTHETIC_FILE_DATE, mimetype)
    try:
        descriptor = os.open(content, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    stat = os.fstat(descriptor)
    modified = datetime.fromtimestamp(int(stat.st_mtime), timezone.utc)
    etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    return _File(descriptor, stat.st_size, etag, modified, mimetype)


_bytes_etag = lru_cache(maxsize=16)(md5_of)


def _respond(file: _File, rate: int | None) -> Response:
    if not is_resource_modified(request.environ, etag=file.etag, last_modified=file.modified):
        failed_match = "HTTP_IF_MATCH" in request.environ
        response = _page(412) if failed_match else Response(status=304)
        if not failed_match:
            del response.headers["Content-Type"]
            _set_validators(response, file)
        return response
    spans = _requested_ranges(file)
    if spans == []:
        response = _page(416)
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


def _set_validators(response: Response, file: _File) -> None:
    response.headers["Last-Modified"] = http_date(file.modified)
    response.set_etag(file.etag)


def _content_range(span: ByteRange, file: _File) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{file.size}"


def _requested_ranges(file: _File) -> list[ByteRange] | None:
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


def _same_version(file: _File) -> bool:
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


def _parts(file: _File, spans: list[ByteRange]) -> list[tuple[bytes, ByteRange]]:
    parts = [
        (
            f"\r\n--{_BOUNDARY}\r\nContent-Type: {file.mimetype}\r\n"
            f"Content-Range: {_content_range(span, file)}\r\n\r\n".encode(),
            span,
        )
        for span in spans
    ]
    return [*parts, (f"\r\n--{_BOUNDARY}--\r\n".encode(), (0, 0))]


def _body(file: _File, parts: list[tuple[bytes, ByteRange]], rate: int | None) -> Response:
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


def _chunks(file: _File, parts: list[tuple[bytes, ByteRange]], size: int) -> Iterator[bytes]:
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
