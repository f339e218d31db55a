"""Reads JSON responses. Bytes and values are counted before a body is parsed.

Therefore the time and memory for a response are limited, whatever a server sends.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import ServerError, TooLarge
from onefs.lowlevel import memory

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

#: largest size of a body in bytes, both as it is sent and unpacked
MAX_JSON_BYTES = 32 * 1024 * 1024
#: largest number of opening brackets, opening braces and commas in a body; these characters
#: are counted because each adds at most one value in memory
MAX_JSON_VALUES = 2_000_000
#: largest number of levels of nested values. Alyx sends at most five. Code that writes or shows
#: values fails at about 1,000
MAX_DEPTH = 600
#: largest number of bytes that are read from the socket, or unpacked, in one step
_READ_BYTES = 1024 * 1024
#: the window size that selects the gzip format in zlib, and the first bytes of a gzip stream
_GZIP_WINDOW_BITS, _GZIP_MAGIC = zlib.MAX_WBITS | 16, b"\x1f\x8b"
#: largest number of gzip streams in one body; real servers send one
_MAX_GZIP_STREAMS = 16
#: size in bytes of the smallest body whose memory is returned to the system after parsing
_LARGE_BODY_BYTES = 1024 * 1024
#: prevents large bodies from being parsed at the same time
_large_parse_lock = threading.Lock()


class JsonAnswer(NamedTuple):
    """A response in JSON. The case of letters in names of ``headers`` does not matter."""

    status: int
    headers: Mapping[str, str]
    #: the parsed body; None if an error response is not JSON (Django sends HTML pages)
    body: Any
    #: size of the unpacked body in bytes
    size: int = 0
    #: number of opening brackets, opening braces and commas in the body, which has at most one
    #: value more
    value_count: int = 0


def read_json(response: BaseHTTPResponse, url: str) -> JsonAnswer:
    """Return the JSON answer in a response to a request for ``url``.

    Raises TooLarge for a body with too many bytes or values. Raises ServerError for a body that is
    truncated, nested too deeply, or not JSON. Also raises what urllib3 raises. An error response
    (status 300 or more) need not be JSON: the ``body`` of the answer is then None.
    """
    raw = bytearray()
    for piece in _decoded_pieces(response, url):
        raw += piece
        if len(raw) > MAX_JSON_BYTES:
            raise _too_large_error(url, response, f"{MAX_JSON_BYTES >> 20} MiB")
    value_count = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    if value_count >= MAX_JSON_VALUES:
        raise _too_large_error(url, response, f"{MAX_JSON_VALUES:,} values")
    is_large = len(raw) >= _LARGE_BODY_BYTES
    if is_large:
        memory.schedule_memory_release()
    with _large_parse_lock if is_large else nullcontext():
        body = _parse(raw, response, url)
    return JsonAnswer(response.status, response.headers, body, len(raw), value_count)


def _decoded_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    """Yield the unpacked body in pieces of at most 1 MiB."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from _raw_pieces(response, url)
    elif encoding in ("gzip", "x-gzip"):
        yield from _gunzipped_pieces(response, url)
    elif response.status < 300:
        raise ServerError(f"{host_of(url)} sent {excerpt(encoding)} instead of gzip", 200)


def _raw_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    received = 0
    while piece := response.read(_READ_BYTES, decode_content=False):
        received += len(piece)
        if received > MAX_JSON_BYTES:
            raise _too_large_error(url, response, f"{MAX_JSON_BYTES >> 20} MiB")
        yield piece


def _gunzipped_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    """Yield the unpacked pieces of a gzip body. Bytes after the last gzip stream are ignored."""
    members = 1
    unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        for piece in _raw_pieces(response, url):
            rest = piece
            while rest:
                yield unpacker.decompress(rest, _READ_BYTES)
                rest = unpacker.unconsumed_tail
                if unpacker.eof:
                    rest = unpacker.unused_data
                    if rest and not rest.startswith(_GZIP_MAGIC):
                        return
                    unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS) if rest else unpacker
                    members += bool(rest)
                if members > _MAX_GZIP_STREAMS:
                    raise _too_large_error(url, response, f"{_MAX_GZIP_STREAMS} gzip streams")
        while more := unpacker.decompress(b"", _READ_BYTES):
            yield more
    except zlib.error:
        raise ServerError(
            f"{host_of(url)} sent an answer that is not valid gzip", response.status
        ) from None
    if not unpacker.eof:
        raise ServerError(f"{host_of(url)} stopped in the middle of its answer")


def _parse(raw: bytearray, response: BaseHTTPResponse, url: str) -> Any:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        if response.status >= 300:
            return None
        raise ServerError(
            f"{safe_url(url)} did not answer in JSON: check that the URL belongs to an Alyx server",
            response.status,
        ) from None
    if _is_too_deep(value):
        raise ServerError(
            f"{safe_url(url)} sent values nested more than {MAX_DEPTH} levels deep",
            response.status,
        )
    return value


def _is_too_deep(value: Any) -> bool:
    """Whether ``value`` is nested in more than MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _too_large_error(url: str, response: BaseHTTPResponse, bound: str) -> TooLarge:
    return TooLarge(f"{safe_url(url)} sent more than {bound}, too much for onefs", response.status)
