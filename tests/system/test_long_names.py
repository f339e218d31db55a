"""Names and paths that are too long for Linux, in every kind of folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running import Home, Mounted

SESSION = "mainenlab/clns0730/2018-08-24/001"
FOLDERS = (
    "",
    "mainenlab",
    "mainenlab/clns0730",
    "mainenlab/clns0730/2018-08-24",
    SESSION,
    ".flat",
    ".by-eid",
    ".by-ref",
    ".search",
    ".as-of",
    ".as-of/2021-07-05",
)
LOOKS: tuple[Callable[[Path], object], ...] = (
    os.lstat,
    os.listdir,
    os.readlink,
    lambda path: os.open(path, os.O_RDONLY),
    lambda path: os.getxattr(path, "user.onefs.eid"),
)


@pytest.fixture(scope="module")
def mounted(shared_home: Home) -> Iterator[Mounted]:
    found = shared_home.mount("--demo")
    yield found
    found.umount()


def number_of(look: Callable[[Path], object], path: Path) -> int | None:
    """The errno that looking at ``path`` ends with."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is the point
        look(path)
    return caught.value.errno


@pytest.mark.parametrize("name", ["n" * 256, "é" * 128, "日" * 86, "\udce9" * 256, "n" * 1024])
def test_a_name_that_is_too_long(mounted: Mounted, name: str) -> None:
    for folder in FOLDERS:
        found = {number_of(look, mounted.path / folder / name) for look in LOOKS}
        assert found == {errno.ENAMETOOLONG}, folder
        assert number_of(os.lstat, mounted.path / folder / name / "below") == errno.ENAMETOOLONG


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "日" * 85, "\udce9" * 255])
def test_the_longest_name_is_only_not_there(mounted: Mounted, name: str) -> None:
    for folder in FOLDERS:
        assert number_of(os.lstat, mounted.path / folder / name) == errno.ENOENT, folder


def test_a_path_that_is_too_long(mounted: Mounted) -> None:
    path = f"{mounted.path}/{'mainenlab/../' * 400}mainenlab"
    assert number_of(os.lstat, Path(path)) == errno.ENAMETOOLONG
