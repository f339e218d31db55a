"""``mount --inode32``: 32-bit programs see all files, and the numbers stay what they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.required_programs import compile_for_32_bits
from tests.running import Home, Mounted, run, within
from tests.tree.test_inode32 import locked

SESSION = "mainenlab/clns0730/2018-08-24/001"
FILE = f"{SESSION}/spikes.times.npy"
_SOURCE = Path(__file__).parents[1] / "data" / "small_inodes.c"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 32-bit program."""
    return compile_for_32_bits(_SOURCE, tmp_path_factory.mktemp("program") / "small_inodes")


def inodes(mounted: Mounted, below: str = "") -> dict[str, int]:
    """The inode numbers of everything, by ``stat``; those of listings must be the same."""
    top = mounted.path / below
    found = {".": top.stat().st_ino}
    for folder, _, _ in os.walk(top):
        for entry in os.scandir(folder):
            found[os.path.relpath(entry.path, top)] = number = os.lstat(entry.path).st_ino
            assert entry.inode() == number
    return found


@pytest.mark.parametrize("narrow", [True, False], ids=["inode32", "as ever"])
def test_a_program_of_32_bits(home: Home, small: Path, narrow: bool) -> None:
    mounted = home.mount("--demo", *(["--inode32"] if narrow else []))
    for folder in ("", "mainenlab", SESSION):
        said = run([small, mounted.path / FILE, mounted.path / folder]).stdout.splitlines()
        if narrow:
            assert said[0] == f"stat {(mounted.path / FILE).stat().st_ino}"
            listed = {line.partition(" ")[2] for line in said[1:]}
            assert listed == {".", "..", *os.listdir(mounted.path / folder)}
        else:
            assert said[0] == f"stat failed {errno.EOVERFLOW}"
            assert said[-1] == f"readdir failed {errno.EOVERFLOW}"


@pytest.mark.long
def test_numbers_are_small_unique_and_the_same_after_a_remount(home: Home) -> None:
    mounted = home.mount("--demo", "--inode32")
    before = inodes(mounted)
    assert len(before) > 100
    assert before["."] == 1
    assert len(set(before.values())) == len(before)
    assert max(before.values()) < 2**32
    as_of = inodes(mounted, f".as-of/2030-01-01/{SESSION}")
    assert not set(as_of.values()) & set(before.values())
    beside = home.mount("--demo", at="beside", ONEFS_INODE32="1")
    assert inodes(beside, SESSION) == inodes(mounted, SESSION)
    mounted.umount()
    again = home.mount("--demo", "--inode32")
    assert inodes(again) == before


def test_numbers_are_the_same_after_a_kill(home: Home) -> None:
    mounted = home.mount("--demo", "--inode32")
    before = inodes(mounted, SESSION)
    os.kill(mounted.pid, 9)
    assert inodes(home.mount("--demo", "--inode32"), SESSION) == before


@pytest.mark.long
def test_a_locked_file_of_numbers_does_not_stall_a_listing(home: Home) -> None:
    mounted = home.mount("--demo", "--inode32")
    [path] = home.state.glob("*/inodes.sqlite")
    with locked(path), within():
        found = inodes(mounted)
    assert max(found.values()) < 2**32
    assert len(set(found.values())) == len(found)
    mounted.umount()
    assert inodes(home.mount("--demo", "--inode32")) == found


def test_without_the_flag_nothing_is_kept(home: Home) -> None:
    mounted = home.mount("--demo")
    assert max(inodes(mounted, SESSION).values()) > 2**32
    assert list(home.state.glob("*/inodes.sqlite")) == []
