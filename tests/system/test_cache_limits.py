"""What ``onefs mount`` is told of its cache, kept by a real mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import Source
from onefs.demo.servers import Servers
from tests.laboratories import (
    SMALL,
    AlteredLaboratory,
    account,
    downloads,
    small_file,
    small_folder,
)
from tests.running import Home, read_errno, wait_until

#: values in each file: 2.4 MB, three blocks
VALUES = 300_000
MIB = 1 << 20
FILES = [path for path in SMALL if path.endswith(".npy")]


class ServesOneWrongByte(AlteredLaboratory):
    """A source whose file server changes one byte of the file whose path contains ``word``.

    The byte is the last one, so that all blocks but the last are what they should be.
    """

    def __init__(self, source: Source, word: str) -> None:
        super().__init__(source)
        self._word = word

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        found = self._source.file(path)
        if self._word not in path or found is None:
            return found
        whole = found if isinstance(found, bytes) else found.read_bytes()
        return whole[:-1] + bytes([whole[-1] ^ 255])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory.mktemp("data"), VALUES)


@pytest.fixture
def servers(folder: Path) -> Iterator[Servers]:
    with Servers(ServesOneWrongByte(FolderLaboratory(folder), "labtwo")) as running:
        yield running


def test_a_cache_that_is_smaller_than_the_data(home: Home, servers: Servers, folder: Path) -> None:
    mounted = home.mount("--cache-size", "4M", "--small-file", "64K", **account(servers))
    for path in FILES[:5]:
        assert (mounted.path / path).read_bytes() == small_file(folder, path).read_bytes()
    status = home.status_of(mounted.path)
    assert status is not None
    assert status["cache_limit"] == 4 * MIB
    taken = sum(file.stat().st_blocks * 512 for file in home.cache.rglob("*") if file.is_file())
    assert taken < 8 * MIB  # the limit, and what was in flight or open last
    assert " of 4.0 MiB" in home.run("status").stdout


def test_min_free_keeps_space_for_others(home: Home, servers: Servers) -> None:
    mounted = home.mount("--min-free", "900T", **account(servers))
    assert read_errno(mounted.path / FILES[0]) == errno.ENOSPC
    assert (mounted.path / "labone").is_dir()


def test_variables_are_as_good_as_flags(home: Home, servers: Servers) -> None:
    mounted = home.mount(ONEFS_CACHE_SIZE="7M", **account(servers))
    status = home.status_of(mounted.path)
    assert status is not None
    assert status["cache_limit"] == 7 * MIB
    assert "ONEFS_CACHE_SIZE" in home.error_of(2, "mount", "--demo", "x", ONEFS_CACHE_SIZE="huge")
    assert "--min-free" in home.error_of(2, "mount", "--demo", "x", "--min-free", "huge")


@pytest.mark.parametrize("strict", [True, False])
def test_strict_gives_no_byte_of_what_is_not_proved(
    home: Home, servers: Servers, strict: bool
) -> None:
    flags = ["--small-file", "64K", *(["--strict"] if strict else [])]
    mounted = home.mount(*flags, **account(servers))
    rotten = mounted.path / FILES[-1]
    with rotten.open("rb", buffering=0) as file:
        if strict:
            with pytest.raises(OSError, match="Input/output"):
                file.read(100)
        else:
            assert file.read(6) == b"\x93NUMPY"


def test_pages_of_what_turns_out_to_be_bad_are_dropped(home: Home, servers: Servers) -> None:
    """A reader that has the first bytes in the page cache does not get them a second time."""
    mounted = home.mount("--small-file", "64K", **account(servers))
    rotten = mounted.path / FILES[-1]
    with rotten.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 6, 0) == b"\x93NUMPY"
        read_errno(rotten)  # to its end, so that it is judged
        wait_until(lambda: _refused(file.fileno()), 10, "the old pages are given")
        assert mounted.xattr("state", FILES[-1]) == "remote"  # no verdict yet: it may pass
        assert "onefs refresh" in mounted.xattr("error", FILES[-1])

    def is_bad() -> bool:
        read_errno(rotten)  # once the pause is over it comes again, and is judged when it is whole
        return mounted.xattr("state", FILES[-1]) == "bad"

    wait_until(is_bad, 60, "the same bytes came again, and are no verdict")
    assert read_errno(rotten) == errno.EIO
    assert len(downloads(servers, "labtwo")) > 0


def _refused(descriptor: int) -> bool:
    try:
        os.pread(descriptor, 6, 0)
    except OSError as error:
        return error.errno == errno.EIO
    return False
