"""Bodies in JSON: unpacked step by step and counted before they are parsed, so that no answer
takes more than a bounded time and memory, whatever the server sends.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from urllib3 import BaseHTTPResponse

from onefs.config.secret import excerpt
from onefs.config.urls import host_of, safe_url
from onefs.errors import ServerError, TooLarge
from onefs.lowlevel import memory

#: bytes of the largest answer, as it comes and unpacked
MAX_JSON_BYTES = 32 * 1024 * 1024
#: brackets, braces and commas of an answer: each stands for at most one value in memory
MAX_JSON_VALUES = 2_000_000
#: levels of an answer's values. Alyx has five; a row with more harms itself only, but code that
#: writes or shows values fails at about a thousand
MAX_DEPTH = 600
#: bytes taken from the socket, or unpacked, in one step
_READ_BYTES = 1024 * 1024
#: zlib's word for gzip, and how each gzip stream begins
_GZIP_WINDOW_BITS, _GZIP_MAGIC = zlib.MAX_WBITS | 16, b"\x1f\x8b"
#: gzip streams one after another in one answer; servers send one
_MAX_GZIP_STREAMS = 16
#: bytes of an answer from which on its memory is given back to the system afterwards
_LARGE_BODY_BYTES = 1024 * 1024
#: keeps answers of 32 MiB from being parsed at the same time
_large_parse_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A parsed body, and what it takes."""

    #: None when an error's body is not JSON (Django's HTML pages)
    value: Any
    size: int
    #: brackets, braces and commas
    value_count: int


def read_json(response: BaseHTTPResponse, url: str) -> JsonBody:
    """Read and parse the body of an answer.

    Raises TooLarge, ServerError for what is not JSON unless the answer is an error anyway, and
    what urllib3 raises.
    """
    raw = bytearray()
    for piece in _decoded_pieces(response, url):
        raw += piece
        if len(raw) > MAX_JSON_BYTES:
            raise _too_large_error(url, response, f"{MAX_JSON_BYTES >> 20} MiB")
    parts = sum(raw.count(mark) for mark in (b"[", b"{", b","))
    if parts >= MAX_JSON_VALUES:
        raise _too_large_error(url, response, f"{MAX_JSON_VALUES:,} values")
    size = len(raw)
    if size < _LARGE_BODY_BYTES:
        return JsonBody(_parse(raw, response, url), size, parts)
    memory.schedule_memory_release()
    with _large_parse_lock:
        return JsonBody(_parse(raw, response, url), size, parts)


def _decoded_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    """The body in pieces of at most 1 MiB, of which none is larger unpacked than that."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from _raw_pieces(response, url)
    elif encoding in ("gzip", "x-gzip"):
        yield from _gunzipped_pieces(response, url)
    elif response.status < 300:
        raise ServerError(f"{host_of(url)} answers in {excerpt(encoding)}, not in gzip", 200)


def _raw_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    received = 0
    while piece := response.read(_READ_BYTES, decode_content=False):
        received += len(piece)
        if received > MAX_JSON_BYTES:
            raise _too_large_error(url, response, f"{MAX_JSON_BYTES >> 20} MiB")
        yield piece


def _gunzipped_pieces(response: BaseHTTPResponse, url: str) -> Iterator[bytes]:
    """Like :func:`_raw_pieces`, unpacked. What follows the last gzip stream is left out."""
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
        raise ServerError(f"{host_of(url)} sends what is no gzip", response.status) from None
    if not unpacker.eof:
        raise ServerError(f"{host_of(url)} broke off in the middle of its answer")


def _parse(raw: bytearray, response: BaseHTTPResponse, url: str) -> Any:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        if response.status >= 300:
            return None
        raise ServerError(
            f"{safe_url(url)} did not answer in JSON: is this an Alyx server?",
            response.status,
        ) from None
    if _is_too_deep(found):
        raise ServerError(
            f"{safe_url(url)} answers with more than {MAX_DEPTH} values inside one another",
            response.status,
        )
    return found


def _is_too_deep(value: Any) -> bool:
    """Whether values are nested so deeply that code which shows or writes them may fail."""
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
    return TooLarge(f"{safe_url(url)} answers with more than {bound}", response.status)
