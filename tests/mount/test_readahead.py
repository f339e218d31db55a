"""The kernel's read-ahead of a mount is widened where that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onefs.content.blocks import BLOCK_SIZE
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


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("docs/SEMANTICS.md", "told to read ahead by {} KiB instead of 128, which is less than a"),
        ("docs/ARCHITECTURE.md", "from\n  128 to {} KiB"),
        ("CHANGELOG.md", "reads ahead by {} KiB instead of 128"),
    ],
)
def test_the_documents_name_the_right_window(page: str, words: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text("utf-8")
    assert words.format(readahead.KIBIBYTES) in text
    assert readahead.KIBIBYTES * 1024 < BLOCK_SIZE


def test_what_is_not_mounted_has_none(tmp_path: Path) -> None:
    assert not readahead.widen(str(tmp_path), tmp_path)
