"""A server that is away is not a file that is absent: errors in time, and nothing known is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.laboratories import SMALL, StallingLaboratory, account, small_file
from tests.running import Home, Mounted, read_errno, wait_until, within

#: seconds: of a request to Alyx, and without progress on data; a busy machine answers in these
DEADLINE, STALL = 10.0, 4.0


@pytest.fixture
def source(folder: Path) -> Iterator[StallingLaboratory]:
    stalling = StallingLaboratory(FolderLaboratory(folder), "licks")
    stalling.release()
    yield stalling
    stalling.release()


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    limits = {"ONEFS_DEADLINE": str(DEADLINE), "ONEFS_STALL": str(STALL)}
    return home.mount(**account(servers), **limits)


def test_what_is_cached_is_served_and_the_rest_fails_in_time(
    mounted: Mounted, servers: Servers, folder: Path
) -> None:
    known, remote = (mounted.path / path for path in SMALL[:2])
    content = known.read_bytes()
    assert remote.stat().st_size == small_file(folder, SMALL[1]).stat().st_size
    servers.stop()

    assert known.read_bytes() == content == small_file(folder, SMALL[0]).read_bytes()
    for attempt in (
        lambda: remote.read_bytes(),
        lambda: os.listdir(mounted.path / "labtwo/mouse.1"),
        lambda: os.stat(mounted.path / "labtwo/mouse.1/2021-03-04"),
        lambda: os.readlink(mounted.path / ".by-ref/2021-03-04_7_mouse.1"),
    ):
        with within(), pytest.raises(OSError) as failure:  # noqa: PT011
            attempt()
        assert failure.value.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT)
    # names that the catalogue knows to be absent stay absent
    assert not (mounted.path / "labone/mouse.1/2021-03-04/001/alf/absent.npy").exists()


def test_it_says_so_once_and_works_again_by_itself(
    mounted: Mounted, servers: Servers, folder: Path
) -> None:
    remote = mounted.path / SMALL[1]
    assert remote.stat().st_size == small_file(folder, SMALL[1]).stat().st_size
    servers.stop()
    for _ in range(3):
        assert read_errno(mounted.path / "labtwo/mouse.1") == errno.EHOSTUNREACH
        assert read_errno(remote) == errno.EHOSTUNREACH
    assert len(mounted.log_lines("is unreachable (")) == 1
    assert mounted.xattr("offline") == "1"
    wait_until(lambda: state_of(mounted) == "offline")
    assert mounted.xattr("state", SMALL[1]) == "remote"

    servers.start()
    wait_until(lambda: read_errno(remote) == 0)
    assert remote.read_bytes() == small_file(folder, SMALL[1]).read_bytes()
    wait_until(lambda: os.path.isdir(mounted.path / "labtwo/mouse.1/2021-03-04"))
    assert mounted.xattr("offline") == "0"
    wait_until(lambda: state_of(mounted) == "ready")


def test_a_silent_file_server_gives_an_error_in_time(
    mounted: Mounted, source: StallingLaboratory, servers: Servers, folder: Path
) -> None:
    path = "labone/mouse.2/2021-03-05/010/alf/licks.times.npy"
    silent = mounted.path / path
    assert silent.stat().st_size == small_file(folder, path).stat().st_size
    source.stall()
    with within():  # the server is silent for longer
        assert read_errno(silent) == errno.ETIMEDOUT
    # other files of the server fail fast until it has answered another request
    wait_until(lambda: read_errno(mounted.path / SMALL[0]) == 0)
    source.release()
    wait_until(lambda: read_errno(silent) == 0)


def test_a_mount_starts_without_its_server_when_it_knows_something(
    mounted: Mounted, servers: Servers, folder: Path
) -> None:
    known = mounted.path / SMALL[0]
    content = known.read_bytes()
    mounted.umount()
    servers.stop()
    again = mounted.home.mount(**account(servers))
    assert again.path.joinpath(SMALL[0]).read_bytes() == content
    assert again.xattr("offline") == "1"
    assert read_errno(again.path / SMALL[1]) == errno.EHOSTUNREACH


def state_of(mounted: Mounted) -> str:
    status = mounted.home.status_of(mounted.path)
    assert status is not None
    return str(status["state"])
