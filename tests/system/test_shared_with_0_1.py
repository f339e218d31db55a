"""The first onefs and this one on one cache folder: locks, records and offsets are compatible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarks.contenders import Onefs
from scripts.benchmarks.shared import OWN_FILES, share
from tests.required_programs import skip_or_fail

#: the first published version
FIRST = "7d1490b"
_CHECKOUT = Path(__file__).parents[2]
#: seconds of reads and evictions; a shorter time is for work on this test
SECONDS = float(os.environ.get("ONEFS_TEST_SHARED_SECONDS", "120"))


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A checkout of the first onefs, from the history of this one."""
    archive, folder = tmp_path / "first.tar", tmp_path / "first"
    command = ["git", "-C", str(_CHECKOUT), "archive", "--output", str(archive), FIRST]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        reason = done.stderr if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        skip_or_fail(f"commit {FIRST} cannot be had from git: {reason.strip()}")
    with tarfile.open(archive) as packed:
        packed.extractall(folder)  # our own history
    found = subprocess.run(
        [sys.executable, "-c", "import onefs; print(onefs.__file__)"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(folder)
    return folder


def _rows(home: Onefs) -> dict[str, tuple[str, int, bool]]:
    rows: list[dict[str, Any]] = json.loads(home.run("cache", "list", "--json"))["files"]
    return {row["path"]: (row["state"], row["size"], row["ours"]) for row in rows}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_mount_of_the_first_onefs_and_one_of_this_share_a_small_cache(
    tmp_path: Path, first: Path
) -> None:
    """Each with a Python process of its own code beside it, which reads and evicts too."""
    lists: list[dict[str, tuple[str, int, bool]]] = []
    verified: list[list[dict[str, Any]]] = []

    def look(homes: Sequence[Onefs]) -> None:
        for home in homes:
            lists.append(_rows(home))
            verified.append(json.loads(home.run("cache", "verify", "--json"))["files"])

    (tmp_path / "work").mkdir()
    outcome = share(tmp_path / "work", SECONDS, 11, first, look)
    print(outcome)
    assert outcome.wrong == []
    assert outcome.errors == []
    # each version finds records and blocks of the other, and they are valid. How many files the
    # small cache holds at the end depends on what was read last
    assert lists[0]
    assert lists[0] == lists[1]
    for checks in verified:
        assert {each["path"] for each in checks} == set(lists[0])
        assert [each for each in checks if each["good"] is not True] == []
    # both still count the bytes on disk correctly
    assert outcome.highest <= outcome.allowed
    assert abs(outcome.there - outcome.counted) <= OWN_FILES
    assert min(outcome.end_to_end) >= 1
    assert outcome.bytes_fetched > outcome.limit
