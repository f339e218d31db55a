"""A refresh drops the names and attributes of a mount that the kernel has cached."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onefs.mount import mount_probes
from onefs.mount.refresher import REFRESH_XATTR, REFRESHED_XATTR, Refresher
from tests.mount.conftest import Mounted
from tests.running import within

Mount = Callable[..., Mounted]


@pytest.fixture(params=["", "1"], ids=["epochs", "timeouts"])
def mounted(
    root: Path, mount: Mount, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Mounted:
    """A mount. The test runs twice: with this kernel, and with this kernel treated as too old."""
    if request.param:
        monkeypatch.setenv("ONEFS_TEST_OLD_KERNEL", request.param)
    (root / "lab" / "subject").mkdir(parents=True)
    (root / "lab" / "file").write_bytes(b"x" * 10)
    return mount()


def refreshed(mounted: Mounted) -> None:
    assert mount_probes.refresh_mounts([str(mounted.path)], 30.0) == {str(mounted.path): 0}


@pytest.mark.long
def test_new_and_removed_names_are_seen_after_a_refresh(mounted: Mounted) -> None:
    here, there = mounted.path / "lab", mounted.root / "lab"
    for name in map(str, range(5)):
        assert not (here / name).exists()
        assert (here / "subject").exists()
        (there / name).mkdir()
        (there / "subject").rmdir()
        refreshed(mounted)
        assert (here / name).exists()
        assert not (here / "subject").exists()
        (there / "subject").mkdir()
        refreshed(mounted)
        assert (here / "subject").exists()


def test_attributes_are_requested_again_after_a_refresh(mounted: Mounted) -> None:
    file = mounted.path / "lab" / "file"
    for size in (20, 5, 300):
        file.stat()
        (mounted.root / "lab" / "file").write_bytes(b"y" * size)
        refreshed(mounted)
        assert file.stat().st_size == size


def test_a_process_keeps_the_folder_that_it_is_in(mounted: Mounted) -> None:
    """``getcwd`` would fail if a refresh removed the name of the working directory."""
    script = "import os; input(); print(os.getcwd(), os.listdir('.'))"
    with subprocess.Popen(
        ["python3", "-c", script],
        cwd=mounted.path / "lab" / "subject",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        refreshed(mounted)
        said, _ = process.communicate("\n", timeout=60)
    assert said == f"{mounted.path}/lab/subject []\n"


def test_many_refreshes_at_once_while_names_are_looked_up(mounted: Mounted) -> None:
    """Refreshes and look-ups do not wait for each other. A refresh does not wait for itself."""
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            os.listdir(mounted.path / "lab")
            (mounted.path / "lab" / "none").exists()

    with within(60.0), ThreadPoolExecutor(8) as pool:
        looking = [pool.submit(look) for _ in range(4)]
        refreshes = [pool.submit(refreshed, mounted) for _ in range(4)]
        for each in refreshes:
            each.result(60)
        ended.set()
        for each in looking:
            each.result(60)
    assert int(os.getxattr(mounted.path, REFRESHED_XATTR)) == 4


def test_only_the_root_has_the_attributes_and_they_are_not_listed(mounted: Mounted) -> None:
    assert REFRESH_XATTR not in os.listxattr(mounted.path)
    assert int(os.getxattr(mounted.path, REFRESHED_XATTR)) == 0
    with pytest.raises(OSError, match="No data") as caught:
        os.getxattr(mounted.path / "lab", REFRESH_XATTR)
    assert caught.value.errno == errno.ENODATA


def test_a_mount_without_refresh_is_reported(tmp_path: Path) -> None:
    """A mount of an older onefs does not know the attribute, like the folder in this test."""
    answers = mount_probes.refresh_mounts([str(tmp_path), str(tmp_path / "none")], 30.0)
    assert list(answers.values()) == [errno.ENODATA, errno.ENOENT]


def test_a_refresh_that_fails_in_the_daemon_still_drops_names() -> None:
    dropped = threading.Semaphore(0)
    ending = threading.Event()

    def fails() -> None:
        raise OSError(errno.EIO, "the catalogue cannot be read")

    def drop() -> bool:
        dropped.release()
        return not ending.is_set()

    refresher = Refresher(fails)
    thread = threading.Thread(target=refresher.run, args=(drop,), daemon=True)
    thread.start()
    assert refresher.xattr_value("user.onefs.other") is None
    for number in (1, 2):
        assert refresher.xattr_value(REFRESH_XATTR) == str(number)
        assert dropped.acquire(timeout=30)
    ending.set()
    refresher.xattr_value(REFRESH_XATTR)
    thread.join(30)
    assert not thread.is_alive()
