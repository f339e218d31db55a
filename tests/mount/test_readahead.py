"""The kernel's read-ahead of a mount is widened where that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onefs.mount import mounts, readahead
from tests.mount.conftest import Mounted
from tests.running import wait_until


def _window(devices: Path, mounted: Mounted) -> Path:
    found = mounts.find_mount(str(mounted.path))
    assert found is not None
    return devices / found.device / "read_ahead_kb"


def test_it_is_widened_where_this_user_may(mounted: Mounted) -> None:
    window = _window(readahead._DEVICES, mounted)
    if not os.access(window, os.W_OK):
        pytest.skip("only root may, where /sys is writable")
    wait_until(lambda: int(window.read_text()) == readahead.KIBIBYTES, what="a wide window")


def test_a_wider_one_stays_and_a_forbidden_one_is_no_error(
    mounted: Mounted, tmp_path: Path
) -> None:
    window = _window(tmp_path, mounted)
    assert not readahead.widen(str(mounted.path), tmp_path)
    window.parent.mkdir()
    for before, after in (("128\n", "384"), ("4096\n", "4096\n")):
        window.write_text(before)
        assert readahead.widen(str(mounted.path), tmp_path)
        assert window.read_text() == after
    window.write_text("rubbish\n")
    assert not readahead.widen(str(mounted.path), tmp_path)


def test_what_is_not_mounted_has_none(tmp_path: Path) -> None:
    assert not readahead.widen(str(tmp_path), tmp_path)
