"""A remote file that is served in ranges, by correct and by faulty servers."""

from __future__ import annotations

import hashlib
import os
import random
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from onefs.blocks.block_map import BLOCK_SIZE
from onefs.content.content import Content
from onefs.model import Dataset, Replica
from tests.content.conftest import place_of
from tests.scripted_server import (
    Request,
    Script,
    ScriptedConnection,
    ScriptedServer,
)

BLOCK = BLOCK_SIZE


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def requested_span(request: Request, size: int) -> tuple[int, int] | None:
    """Return the first requested byte and the byte after the last. Return None for the whole
    file."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if match is None:
        return None
    return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)


def served(
    data: bytes,
    etag: str = '"one"',
    *,
    ranges: bool = True,
    cut: int | None = None,
    then: Callable[[ScriptedConnection], None] | None = None,
    rate: float | None = None,
    **headers: object,
) -> Script:
    """Return a script that serves a file like nginx, with ranges, If-Range and an ETag.

    With ``cut``, only this number of bytes of the body is sent. Then ``then`` is called, or the
    connection is closed. ``rate`` is in bytes per second.
    """

    def script(talk: ScriptedConnection) -> None:
        span = requested_span(talk.request, len(data)) if ranges else None
        if span is not None and talk.request.headers.get("if-range", etag) != etag:
            span = None
        about: dict[str, object] = {"ETag": etag} if etag else {}
        start, end = span or (0, len(data))
        if span is not None:
            about["Content_Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        about["Content_Length"] = end - start
        talk.head(206 if span else 200, **{**about, **headers})
        stop = end if cut is None else min(end, start + cut)
        for at in range(start, stop, 65536):
            part = data[at : min(stop, at + 65536)]
            talk.send(part)
            if rate is not None:
                talk.pause(len(part) / rate)
        if stop < end or then is not None:
            (then or ScriptedConnection.hang_up)(talk)

    return script


def dataset_of(server: ScriptedServer, data: bytes, *paths: str, **claims: Any) -> Dataset:
    """Return a dataset whose replicas are at ``paths`` of a server."""
    names = paths or ("/a.b.npy",)
    copies = tuple(Replica(f"repo{i}", server.url + path) for i, path in enumerate(names))
    key = str(uuid.uuid5(uuid.NAMESPACE_URL, "".join(names)))
    true: dict[str, Any] = {
        "size": len(data),
        "md5": hashlib.md5(data).hexdigest(),
        "mtime": 1_500_000_000.0,
        "replicas": copies,
    }
    return Dataset(id=key, eid=key, name=names[0].strip("/"), **{**true, **claims})


class HandleReader:
    """A handle on a dataset, which is read in the same way as the mount reads it."""

    def __init__(self, content: Content, dataset: Dataset) -> None:
        self.content = content
        self.handle = content.open(dataset, place_of(dataset))
        self.size = self.handle.size

    def __enter__(self) -> HandleReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        descriptor = self.handle.wait_fd(offset, length)
        return os.pread(descriptor, length, offset)

    def read_to_end(self, step: int = 128 * 1024) -> bytes:
        return b"".join(self.read(at, step) for at in range(0, self.size, step))


def read_all(content: Content, dataset: Dataset) -> bytes:
    with HandleReader(content, dataset) as reader:
        return reader.read_to_end()


def read_first_bytes(content: Content, dataset: Dataset, length: int) -> None:
    """Read the first bytes of a dataset, and close the content, like a process that has ended."""
    with HandleReader(content, dataset) as reader:
        reader.read(0, length)
    content.close()


def blocks_sent(requests: Iterable[Request], size: int) -> list[int]:
    """Return how often each block was requested. Block i has index i in the list."""
    counts = [0] * -(-size // BLOCK)
    for request in list(requests):
        start, end = requested_span(request, size) or (0, size)
        for block in range(start // BLOCK, -(-end // BLOCK)):
            counts[block] += 1
    return counts


def open_files() -> list[str]:
    """Return the paths of the files that this process has open."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor of the listing
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found
