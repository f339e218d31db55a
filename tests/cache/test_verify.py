"""Verification: the verdicts on the content of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from onefs.cache.verify import (
    ContentVerdict,
    algorithm_of,
    check_content,
    check_file,
    check_size,
    hash_file,
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
    for algorithm, claimed in (("md5", MD5), ("sha1", SHA1)):
        found = "0" * len(claimed)
        reason = check_content(dataset(md5=claimed), len(BYTES), found).reason
        assert f"the database says {algorithm} {claimed}" in reason
        assert found in reason


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


def test_a_file_is_hashed_in_steps_of_a_mebibyte(tmp_path: Path) -> None:
    """``watch`` learns of each step, and a file of several steps gets the digest of all bytes."""
    data = bytes(range(256)) * 4 * 2500
    path = tmp_path / "f"
    path.write_bytes(data)
    steps = [1 << 20, 2 << 20, len(data)]
    for digest in (hashlib.md5(data).hexdigest(), hashlib.sha1(data).hexdigest()):
        seen: list[int] = []
        assert hash_file(dataset(md5=digest), path, seen.append) == digest
        assert seen == steps
        seen.clear()
        assert check_file(dataset(len(data), digest), path, seen.append).state == "cached"
        assert seen == steps


def test_a_file_without_bytes_has_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    empty = hashlib.md5(b"").hexdigest()
    assert check_file(dataset(0, empty), path).state == "cached"
    assert check_file(dataset(0, MD5), path).state == "bad"
    assert check_file(dataset(0, ""), path).state == "unverified"


def test_a_file_of_a_wrong_size_is_not_hashed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(BYTES + b"x")
    seen: list[int] = []
    assert check_file(dataset(), path, seen.append).state == "bad"
    assert seen == []


def test_a_verdict_cannot_be_changed() -> None:
    verdict = check_size(dataset(), 5)
    with pytest.raises(AttributeError):
        verdict.state = "cached"  # type: ignore[misc]
    assert verdict == check_size(dataset(), 5)
    assert len({verdict, check_size(dataset(), 5)}) == 1


@pytest.mark.parametrize("state", ["cached", "unverified", "accepted", "bad"])
def test_only_bad_bytes_are_not_served(state: str) -> None:
    from_file = json.loads(json.dumps(state))
    assert ContentVerdict(from_file).is_good is (state != "bad")
