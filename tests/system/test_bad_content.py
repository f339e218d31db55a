"""Right bytes or an error: a file whose md5 is not the one that the database has."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from onefs.demo.servers import Servers
from tests.laboratories import account, downloads
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.running import Home, Mounted, read_errno

#: its md5 in the database is not that of the file (the recordings' trap ``wrong_hash``)
BAD = "cortexlab/KS023/2019-12-09/001/alf/_ibl_trials.contrastRight.npy"
GOOD = "cortexlab/KS023/2019-12-09/001/alf/_ibl_trials.choice.npy"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers(RecordedSource(), LOGIN) as running:
        yield running


@pytest.fixture(scope="module")
def mounted(shared_home: Home, servers: Servers) -> Mounted:
    mounted = shared_home.mount(at="wrong-md5", **account(servers))
    assert mounted.xattr("state", BAD) == "remote"
    assert read_errno(mounted.path / BAD) == errno.EIO
    return mounted


def test_no_byte_of_rejected_content_is_served(mounted: Mounted) -> None:
    assert (mounted.path / GOOD).read_bytes().startswith(b"\x93NUMPY")
    for _ in range(3):
        assert read_errno(mounted.path / BAD) == errno.EIO


def test_the_reason_is_an_attribute_of_the_file(mounted: Mounted) -> None:
    assert mounted.xattr("state", BAD) == "bad"
    reason = mounted.xattr("error", BAD)
    assert "md5" in reason
    assert mounted.xattr("md5", BAD) in reason
    # it is still listed, with its size in the database
    assert os.path.basename(BAD) in os.listdir((mounted.path / BAD).parent)


def test_it_is_downloaded_twice_and_logged_once(mounted: Mounted, servers: Servers) -> None:
    for _ in range(5):
        assert read_errno(mounted.path / BAD) == errno.EIO
    assert len(downloads(servers, "contrastRight")) == 2
    assert len(mounted.log_lines("contrastRight")) == 1


def test_it_stays_bad_after_a_remount(mounted: Mounted, servers: Servers) -> None:
    mounted.umount()
    again = mounted.home.mount(at="wrong-md5", **account(servers))
    assert again.xattr("state", BAD) == "bad"
    assert read_errno(again.path / BAD) == errno.EIO
    assert len(downloads(servers, "contrastRight")) == 2


def test_nothing_of_it_is_in_the_cache(mounted: Mounted) -> None:
    assert list(mounted.home.cache.glob("**/*contrastRight*")) == []
