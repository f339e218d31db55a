"""Verification of whole files: compare the size and digest of a file with the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from onefs.model import Dataset

#: number of bytes that are read and hashed in one step
CHUNK_BYTES = 1 << 20


class ContentVerdict(NamedTuple):
    """The result of comparing a file, or its size alone, with the database."""

    #: ``cached``, ``unverified``, ``accepted`` or ``bad`` (see ``records.CacheEntry.state``)
    state: str
    #: what is wrong with the bytes; '' if nothing is wrong
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the bytes may be served."""
        return self.state != "bad"


def algorithm_of(digest: str) -> str:
    """Return the algorithm of a digest. Alyx allows md5 (32 hexadecimal digits) and sha1 (40
    digits)."""
    return "sha1" if len(digest) == 40 else "md5"


def check_size(dataset: Dataset, size: int) -> ContentVerdict:
    """Compare a size in bytes with the database. Return the verdict ``cached`` or ``bad``."""
    if dataset.size is not None and size != dataset.size:
        return ContentVerdict("bad", f"the database says {dataset.size} bytes, the file has {size}")
    return ContentVerdict("cached")


def check_content(dataset: Dataset, size: int, digest: str) -> ContentVerdict:
    """Compare the size in bytes and the digest of a whole file with the database.

    Return the verdict ``cached`` or ``bad``. Return ``unverified`` if the size is right and the
    database has no digest.
    """
    verdict = check_size(dataset, size)
    if not verdict.is_good:
        return verdict
    if not dataset.md5:
        return ContentVerdict("unverified")
    if digest != dataset.md5:
        name = algorithm_of(dataset.md5)
        return ContentVerdict(
            "bad", f"the database says {name} {dataset.md5}, the file has {name} {digest}"
        )
    return ContentVerdict("cached")


def new_hash(dataset: Dataset) -> hashlib._Hash:
    """Return a new hash object for the algorithm that the database uses for a dataset."""
    return hashlib.new(algorithm_of(dataset.md5), usedforsecurity=False)


def check_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> ContentVerdict:
    """Compare the size and the digest of a file on disk with the database.

    Return the verdict of :func:`check_content`. ``watch`` is called with the number of bytes read
    so far. Raises OSError.
    """
    verdict = check_size(dataset, path.stat().st_size)
    if not verdict.is_good:
        return verdict
    return check_content(dataset, path.stat().st_size, hash_file(dataset, path, watch))


def hash_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> str:
    """Return the digest of a file, with the algorithm of the dataset's digest in the database.

    ``watch`` is called with the number of bytes read so far. Raises OSError.
    """
    digest, done = new_hash(dataset), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            watch(done)
    return digest.hexdigest()
