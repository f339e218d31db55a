"""A folder of ``--demo-data`` that changes while it is not mounted: a new mount shows it as it is.

Each test reads all of the first mount, so that the cache folder and the catalogue have it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import Home, files_below

SESSION = "labone/mouse/2022-01-06/001"
FIRST = f"{SESSION}/alf/a.values.bin"
#: more than is hashed at once, and a hole but for its first bytes
LARGE_SIZE = 400 * 2**20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of two labs; nothing in it was written within the last seconds."""
    folder = tmp_path / "data"
    for path in (FIRST, f"{SESSION}/alf/b.values.bin", "labtwo/rat/2021-02-03/002/c.values.bin"):
        write(original(folder, path), path.encode())
    return folder


def original(data: Path, path: str) -> Path:
    """The file that the mount shows at a path."""
    lab, _, rest = path.partition("/")
    return data / lab / "Subjects" / rest


def write(file: Path, content: bytes, size: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(content)
        if size:
            opened.truncate(size)


def shown(home: Home, data: Path) -> dict[str, str]:
    """What a mount shows: the md5 of each file, read twice so that the kernel has it."""
    mounted = home.mount("--demo", "--demo-data", data)
    found = {}
    for _ in range(2):
        found = {
            path: hashlib.md5((mounted.path / path).read_bytes()).hexdigest()
            for path in files_below(mounted.path)
            if not path.endswith(".pqt")
        }
    mounted.umount()
    return found


def on_disk(data: Path) -> dict[str, str]:
    return {
        path.replace("/Subjects/", "/"): hashlib.md5((data / path).read_bytes()).hexdigest()
        for path in files_below(data)
    }


def put_back(file: Path, content: bytes) -> None:
    """Other bytes of the same size, and the modification time of the old ones."""
    stat = file.stat()
    write(file, content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], None]] = {
    "same size": lambda data: write(original(data, FIRST), FIRST.upper().encode()),
    "mtime put back": lambda data: put_back(original(data, FIRST), FIRST.upper().encode()),
    "another size": lambda data: write(original(data, FIRST), b"longer or shorter"),
    "a new file": lambda data: write(original(data, f"{SESSION}/alf/new.values.bin"), b"new"),
    "a new revision": lambda data: write(
        original(data, f"{SESSION}/alf/#2023-01-01#/a.values.bin"), b"new"
    ),
    "a new session": lambda data: write(
        original(data, "labone/mouse/2019-01-01/003/a.values.bin"), b"new"
    ),
    "a new subject": lambda data: write(
        original(data, "labone/cat/2019-01-01/003/a.values.bin"), b"new"
    ),
    "a new lab": lambda data: write(
        original(data, "labnew/cat/2019-01-01/003/a.values.bin"), b"new"
    ),
    "a file less": lambda data: original(data, FIRST).unlink(),
    "two files swapped": lambda data: swap(
        original(data, FIRST), original(data, f"{SESSION}/alf/b.values.bin")
    ),
}


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_mount_shows_what_is_on_the_disk(home: Home, data: Path, change: str) -> None:
    assert shown(home, data) == on_disk(data)
    CHANGES[change](data)
    assert shown(home, data) == on_disk(data)


def test_a_large_file_that_is_not_hashed_yet_has_its_new_bytes(home: Home, data: Path) -> None:
    path = f"{SESSION}/raw/large.values.bin"
    write(original(data, path), b"old bytes", LARGE_SIZE)
    for content in (b"old bytes", b"new bytes", b"NEW bytes"):
        write(original(data, path), content, LARGE_SIZE)
        mounted = home.mount("--demo", "--demo-data", data)
        for _ in range(2):
            with (mounted.path / path).open("rb") as file:
                assert file.read(9) == content
        mounted.umount()
