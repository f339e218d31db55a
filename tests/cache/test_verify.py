"""Verification: the verdicts on the content of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from onefs.cache.verify import (
    algorithm_of,
    check_content,
    check_file,
    check_size,
    new_hash,
)
from onefs.model import Dataset

BYTES = b"spikes" * 1000
MD5 = hashlib.md5(BYTES).hexdigest()
SHA1 = hashlib.sha1(BYTES).hexdigest()


def dataset(size: int | None = len(BYTES), md5: str = MD5) -> Dataset:
    key = "5aa874bb-694f-481d-8420-b3d554d25694"
    return Dataset(id=key, eid=key, name="a.b.npy", size=size, md5=md5)


@pytest.mark.parametrize(
    ("claimed", "size", "digest", "state"),
    [
        (dataset(), len(BYTES), MD5, "cached"),
        (dataset(md5=SHA1), len(BYTES), SHA1, "cached"),
        (dataset(md5=""), len(BYTES), MD5, "unverified"),
        (dataset(size=None), 5, MD5, "cached"),
        (dataset(size=None, md5=""), 5, MD5, "unverified"),
        (dataset(), len(BYTES), "0" * 32, "bad"),
        (dataset(), len(BYTES) - 1, MD5, "bad"),
        (dataset(md5=""), 0, MD5, "bad"),
    ],
)
def test_judge(claimed: Dataset, size: int, digest: str, state: str) -> None:
    verdict = check_content(claimed, size, digest)
    assert verdict.state == state
    assert bool(verdict.reason) is (state == "bad")
    assert verdict.is_good is (state != "bad")


def test_the_reason_names_both_sides() -> None:
    assert check_size(dataset(), 5).reason == "the database says 6000 bytes, the file has 5"
    reason = check_content(dataset(), len(BYTES), "0" * 32).reason
    assert MD5 in reason
    assert "0" * 32 in reason


def test_the_kind_of_hash_is_its_length() -> None:
    assert algorithm_of(MD5) == "md5"
    assert algorithm_of(SHA1) == "sha1"
    assert new_hash(dataset(md5=SHA1)).name == "sha1"


def test_judge_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(BYTES)
    assert check_file(dataset(), path).state == "cached"
    assert check_file(dataset(md5=SHA1), path).state == "cached"
    path.write_bytes(BYTES[:-1] + b"x")
    assert check_file(dataset(), path).state == "bad"
    path.write_bytes(BYTES[:-1])
    assert check_file(dataset(), path).state == "bad"
