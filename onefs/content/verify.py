"""Whether bytes are those that the database describes. Pure decisions, and the hashing for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onefs.model import Dataset

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison with the database came to: ``state`` as in ``index.sql``."""

    state: str
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.state != "bad"


def algorithm(digest: str) -> str:
    """The hash that a digest is of: Alyx allows md5 (32 digits) and sha1 (40)."""
    return "sha1" if len(digest) == 40 else "md5"


def judge_size(dataset: Dataset, size: int) -> Verdict:
    """The verdict on a size alone, before any byte is fetched or hashed."""
    if dataset.size is not None and size != dataset.size:
        return Verdict("bad", f"the database says {dataset.size} bytes, the file has {size}")
    return Verdict("cached")


def judge(dataset: Dataset, size: int, digest: str) -> Verdict:
    """The verdict on whole bytes, by their size and digest."""
    verdict = judge_size(dataset, size)
    if not verdict.good:
        return verdict
    if not dataset.md5:
        return Verdict("unverified")
    if digest != dataset.md5:
        name = algorithm(dataset.md5)
        return Verdict("bad", f"the database says {name} {dataset.md5}, the bytes have {digest}")
    return Verdict("cached")


def new_hash(dataset: Dataset) -> hashlib._Hash:
    """An empty hash of the kind that the database has for a dataset."""
    return hashlib.new(algorithm(dataset.md5), usedforsecurity=False)


def judge_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> Verdict:
    """The verdict on a file on disk, read whole only when its size agrees.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    verdict = judge_size(dataset, path.stat().st_size)
    if not verdict.good:
        return verdict
    return judge(dataset, path.stat().st_size, hash_file(dataset, path, watch))


def hash_file(
    dataset: Dataset, path: Path, watch: Callable[[int], None] = lambda done: None
) -> str:
    """The digest of a file, of the kind that the database has for a dataset.

    ``watch`` is told how many bytes were read. Raises OSError.
    """
    digest, done = new_hash(dataset), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            watch(done)
    return digest.hexdigest()
