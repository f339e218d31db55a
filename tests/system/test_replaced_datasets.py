"""A dataset that Alyx replaces: old and new bytes never mix, and open readers keep the old ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.changing_laboratory import ChangingLaboratory
from tests.laboratories import SMALL, account, alyx_requests, small_file
from tests.running import Home, Mounted, read_errno, run, wait_until

PATH = SMALL[0]


@pytest.fixture
def mounted(home: Home, servers: Servers) -> Mounted:
    return home.mount(**account(servers))


def replaced(mounted: Mounted, source: ChangingLaboratory, content: bytes) -> None:
    """Replace the bytes of the dataset at PATH, and refresh its listing."""
    source.replace(mounted.xattr("dataset_id", PATH), content)
    mounted.home.run("refresh", mounted.path / PATH)


def test_while_it_is_open_the_path_stays_what_it_was(
    mounted: Mounted, source: ChangingLaboratory, folder: Path
) -> None:
    path, old = mounted.path / PATH, small_file(folder, PATH).read_bytes()
    new = old + b"and more"
    with path.open("rb") as reader:
        assert reader.read(1000) == old[:1000]
        replaced(mounted, source, new)
        wait_until(lambda: list(path.parent.iterdir()) and state(mounted) == "replaced-pending")
        assert path.stat().st_size == len(old)
        assert path.read_bytes() == old
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert reader.read() == old[1000:]
    wait_until(lambda: path.stat().st_size == len(new))
    assert path.read_bytes() == new
    assert state(mounted) == "cached"


@pytest.mark.parametrize(
    "change", [b"longer" * 9000, b"short", None], ids=("longer", "short", "same")
)
def test_once_it_is_closed_the_kernel_forgets_the_old(
    mounted: Mounted, source: ChangingLaboratory, folder: Path, change: bytes | None
) -> None:
    """The kernel's own copy of size and pages is younger than its 60 s, and yet not used."""
    path, old = mounted.path / PATH, small_file(folder, PATH).read_bytes()
    new = change[:60000] if change is not None else bytes(len(old))
    assert path.read_bytes() == old
    replaced(mounted, source, new)
    wait_until(lambda: path.read_bytes() in (old, new) and path.read_bytes() == new, 5)
    assert path.stat().st_size == len(new)


def test_what_is_read_is_old_or_new_and_never_both(
    mounted: Mounted, source: ChangingLaboratory, folder: Path
) -> None:
    path, old = mounted.path / PATH, small_file(folder, PATH).read_bytes()
    versions = [old, *(bytes([number]) * (20000 + 7000 * number) for number in range(1, 6))]
    assert path.read_bytes() == old
    for version in versions[1:]:
        replaced(mounted, source, version)
        wait_until(lambda: whole(path, versions) == version)  # noqa: B023


def test_refresh_asks_again_for_one_folder_only(
    mounted: Mounted, servers: Servers, source: ChangingLaboratory
) -> None:
    run(["find", "."], cwd=mounted.path)
    servers.clear_requests()
    mounted.home.run("refresh", (mounted.path / PATH).parent)
    wait_until(lambda: bool(run(["find", "."], cwd=mounted.path)) and bool(alyx_requests(servers)))
    run(["find", "."], cwd=mounted.path)
    asked = [each.path.partition("?")[0] for each in alyx_requests(servers)]
    assert sorted(asked) == ["/datasets", "/sessions"]
    servers.clear_requests()
    mounted.home.run("refresh")
    wait_until(lambda: bool(run(["find", "."], cwd=mounted.path)) and bool(alyx_requests(servers)))
    run(["find", "."], cwd=mounted.path)
    assert {"/datasets", "/sessions", "/subjects"} <= {
        each.path.partition("?")[0] for each in alyx_requests(servers)
    }


def test_refresh_changes_nothing_while_the_server_is_away(
    mounted: Mounted, servers: Servers, folder: Path
) -> None:
    before = run(["find", ".", "-ls"], cwd=mounted.path).stdout
    assert read_errno(mounted.path / PATH) == 0
    servers.stop()
    mounted.home.run("refresh")
    assert run(["find", ".", "-ls"], cwd=mounted.path).stdout == before
    assert (mounted.path / PATH).read_bytes() == small_file(folder, PATH).read_bytes()
    servers.start()


def test_refresh_of_what_is_no_mount_is_refused(home: Home, tmp_path: Path) -> None:
    done = home.run("refresh", tmp_path, code=2)
    assert "is not in a mount" in done.stderr


def whole(path: Path, versions: list[bytes]) -> bytes:
    """What is read now; it must be one of the versions, whole."""
    found = path.read_bytes()
    assert found in versions
    return found


def state(mounted: Mounted) -> str:
    return mounted.xattr("state", PATH)
