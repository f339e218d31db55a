"""Files by their descriptors.

Python's file objects ask the system three to six things about each file that they open, and with
each a thread gives the interpreter to others and waits for it again: where many threads handle many
small files, that is most of their time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: bytes that a small file has at most
SMALL = 1 << 16


def read_small(path: str) -> bytes:
    """All bytes of a file of at most SMALL of them. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, SMALL)
    finally:
        os.close(descriptor)


@contextmanager
def created(path: str | os.PathLike[str]) -> Iterator[int]:
    """A new, empty file's descriptor. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Have the names in a folder on the disk for good. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write bytes where they belong, all of them: a disk that gets full takes some first."""
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
