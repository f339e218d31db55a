"""``onefs mount --demo --demo-data`` of a folder that is large, or whose disk is slow."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.demo.laboratory_folder import slow_disk
from tests.laboratories import SMALL, small_file, small_folder
from tests.running import Home, within

#: seconds for which a folder's listing takes: more than half a minute
SLOW = 40.0
#: the same where a mount must not wait for it, and the time that it may take on a busy machine
VERY_SLOW, SOON = 110.0, 80.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_folder(tmp_path / "data", 300)


def test_it_is_there_before_each_of_its_files_was_looked_at(home: Home, folder: Path) -> None:
    session = small_file(folder, SMALL[0]).parents[2]
    slow = slow_disk(home.root / "site", session, VERY_SLOW)
    with within(SOON):
        mounted = home.mount("--demo", "--demo-data", folder, **slow)
        assert (mounted.path / SMALL[7]).read_bytes() == small_file(folder, SMALL[7]).read_bytes()
    mounted.umount()


@pytest.mark.long
def test_its_folders_may_take_longer_to_list_than_half_a_minute(home: Home, folder: Path) -> None:
    slow = slow_disk(home.root / "site", small_file(folder, SMALL[7]).parents[3], SLOW)
    began = time.monotonic()
    mounted = home.mount("--demo", "--demo-data", folder, **slow)
    assert time.monotonic() - began > SLOW
    assert sorted(os.listdir(mounted.path))[-2:] == ["labone", "labtwo"]
    mounted.umount()
