"""The kernel's read-ahead window of a mount is widened if this user may widen it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onefs.blocks.block_map import BLOCK_SIZE
from onefs.mount import kernel_mounts, kernel_readahead
from tests.mount.conftest import Mounted
from tests.running import wait_until


def _window(devices: Path, mounted: Mounted) -> Path:
    found = kernel_mounts.find_mount(str(mounted.path))
    assert found is not None
    return devices / found.device / "read_ahead_kb"


def test_the_window_is_widened_where_this_user_may(mounted: Mounted) -> None:
    window = _window(kernel_readahead._BDI_FOLDER, mounted)
    if not os.access(window, os.W_OK):
        pytest.skip("only root may, where /sys is writable")
    wait_until(
        lambda: int(window.read_text()) == kernel_readahead.READAHEAD_KIB, what="a wide window"
    )


def test_a_wider_window_stays_and_a_forbidden_one_is_not_an_error(
    mounted: Mounted, tmp_path: Path
) -> None:
    window = _window(tmp_path, mounted)
    assert not kernel_readahead.widen_readahead(str(mounted.path), tmp_path)
    window.parent.mkdir()
    for before, after in (("128\n", "384"), ("4096\n", "4096\n")):
        window.write_text(before)
        assert kernel_readahead.widen_readahead(str(mounted.path), tmp_path)
        assert window.read_text() == after
    window.write_text("rubbish\n")
    assert not kernel_readahead.widen_readahead(str(mounted.path), tmp_path)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("docs/SEMANTICS.md", "read-ahead is {} KiB instead of 128, which is less than a"),
        ("docs/decisions/0018-cost-of-a-read.md", "from 128 to {} KiB"),
        ("CHANGELOG.md", "reads ahead by {} KiB instead of 128"),
    ],
)
def test_the_documentation_names_the_window(page: str, words: str) -> None:
    text = " ".join((Path(__file__).parents[2] / page).read_text("utf-8").split())
    assert words.format(kernel_readahead.READAHEAD_KIB) in text
    assert kernel_readahead.READAHEAD_KIB * 1024 < BLOCK_SIZE


def test_a_folder_that_is_not_mounted_has_no_window(tmp_path: Path) -> None:
    assert not kernel_readahead.widen_readahead(str(tmp_path), tmp_path)
