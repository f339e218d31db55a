"""Whether bytes are those that the database describes. Pure decisions, and the hashing for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onefs.model import Dataset

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ContentVerdict:
    """What a comparison with the database came to: ``state`` as in ``index.sql``."""

    state: str
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return self.state != "bad"


def algorithm_of(digest: str) -> str:
    """The hash that a digest is of: Alyx allows md5 (32 digits) and sha1 (40)."""
    return "sha1" if len(digest) == 40 else "md5"


def check_size(dataset: Dataset, size: int) -> ContentVerdict:
    """The verdict on a size alone, before any byte is fetched or hashed."""
    if dataset.size is not None and size != dataset.size:
        return ContentVerdict("bad", f"the database says {dataset.size} bytes, the file has {size}")
    return ContentVerdict("cached")


def check_content(dataset: Dataset, size: int, digest: str) -> ContentVerdict:
    """The verdict on whole bytes, by their size and digest."""
    verdict = check_size(dataset, size)
    if not verdict.is_good:
        return verdict
    if not dataset.md5:
        return ContentVerdict("unverified")
    if digest != dataset.md5:
        name = algorithm_of(dataset.md5)
        return ContentVerdict(
            "bad", f"the database says {name} {dataset.md5}, the bytes have {digest}"
        )
    return ContentVerdict("cached")


def new_hash(dataset: Dataset) -> hashlib._Hash:
    """An empty hash of the kind that the database has for a dataset."""
    return hashlib.new(algorithm_of(dataset.md5), usedforsecurity=False)


def check_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> ContentVerdict:
    """The verdict on a file on disk, read whole only when its size agrees.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    verdict = check_size(dataset, path.stat().st_size)
    if not verdict.is_good:
        return verdict
    return check_content(dataset, path.stat().st_size, hash_file(dataset, path, watch))


def hash_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> str:
    """The digest of a file, of the kind that the database has for a dataset.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    digest, done = new_hash(dataset), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            watch(done)
    return digest.hexdigest()
