"""``onefs umount`` of a mount that is in use."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from onefs.lowlevel.mountinfo import read_mounts
from onefs.mount.kernel_mounts import find_mount
from tests.cli.commands_table import row
from tests.laboratories import small_folder
from tests.running import (
    ONEFS,
    TIMEOUT_SECONDS,
    Home,
    Mounted,
    process,
    run,
    umount,
    wait_until,
    within,
)


@pytest.fixture
def mounted(fuse: None, tmp_path: Path) -> Iterator[Mounted]:
    # a folder that the command created is removed with the mount, in all namespaces
    (tmp_path / "mnt").mkdir()
    with Home(tmp_path) as home:
        yield home.mount("--demo", "--demo-data", small_folder(tmp_path / "data"))


def umount_inside(mounted: Mounted, *shell: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, str(ONEFS), "umount", str(mounted.path)],
        cwd=mounted.path,
        env=mounted.home.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@row("onefs umount from inside the mount")
def test_it_names_the_shell_that_is_inside_and_not_itself(mounted: Mounted) -> None:
    done = umount_inside(mounted, "bash", "-c", '"$@"; exit $?', "bash")
    assert done.returncode == 1
    found = re.search(
        r"is in use by bash \(\d+\): close its files and leave its folders, then", done.stderr
    )
    assert found is not None, done.stderr
    mounted.umount()


@row("onefs umount from inside the mount")
def test_it_does_not_keep_the_mount_busy_itself(mounted: Mounted) -> None:
    done = umount_inside(mounted)
    assert (done.returncode, done.stderr) == (0, "")
    assert mounted.has_ended()


@row("onefs umount MNT while a bind mount")
def test_it_names_the_bind_mount_that_holds_it(mounted: Mounted, tmp_path: Path) -> None:
    bound = tmp_path / "bound"
    bound.mkdir()
    run(["mount", "--bind", mounted.path, bound])
    try:
        with within():
            sentence = mounted.home.error_of(1, "umount", mounted.path)
        assert sentence.startswith(
            f"the mount point {mounted.path} is unmounted here, but its daemon ("
        )
        assert f"still serves {bound}: unmount these mounts, too" in sentence
    finally:
        umount(bound)
    wait_until(mounted.has_ended)


@contextmanager
def mount_without_daemon(folder: Path) -> Iterator[None]:
    """Mount a file system of the type of onefs at ``folder``, within milliseconds."""
    folder.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    command = ["mount", "-i", "-t", "fuse.onefs", "-o", options, "onefs:none", str(folder)]
    try:
        subprocess.run(command, pass_fds=[device], check=True, timeout=TIMEOUT_SECONDS)
        yield
    finally:
        os.close(device)
        umount(folder)


def continue_process(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_new_mount_with_the_same_device_number_does_not_hold_it(
    mounted: Mounted, tmp_path: Path
) -> None:
    """The kernel gives the number of an unmounted file system to one that is mounted later."""
    mount = find_mount(str(mounted.path))
    assert mount is not None
    with ExitStack() as stack:
        os.kill(mounted.pid, signal.SIGSTOP)  # as if the daemon still wrote to a slow disk
        stack.callback(continue_process, mounted.pid)
        # The commands of other tests probe all mounts, and a mount is busy while it is probed. So
        # umount is run until it has unmounted this mount, and waits for the daemon.
        script = 'until "$0" umount "$1" 2>"$2" || ! grep -q "in use by" "$2"; do :; done; cat "$2"'
        umount = stack.enter_context(
            process(
                ["sh", "-c", script, ONEFS, mounted.path, tmp_path / "errors"],
                env=mounted.home.environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        wait_until(lambda: find_mount(str(mounted.path)) is None)
        for number in range(20):
            if any(each.device == mount.device for each in read_mounts()):
                break
            stack.enter_context(mount_without_daemon(tmp_path / f"other{number}"))
        if all(each.device != mount.device for each in read_mounts()):
            pytest.skip("a process in another mount namespace still has the mount's number")
        time.sleep(2)  # umount looks for other mounts after a second
        continue_process(mounted.pid)
        errors, _ = umount.communicate(timeout=TIMEOUT_SECONDS)
        assert (umount.returncode, errors) == (0, "")


@row("onefs umount MNT while a bind mount")
def test_it_names_the_namespace_that_holds_it(mounted: Mounted) -> None:
    command = ["unshare", "--mount", "--propagation", "private", "cat"]
    with process(command, stdin=subprocess.PIPE) as other:
        wait_until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "cat\n")
        with within():
            sentence = mounted.home.error_of(1, "umount", mounted.path)
        assert f"still serves {mounted.path} (mount namespace of " in sentence
        other.communicate(timeout=TIMEOUT_SECONDS)
    wait_until(mounted.has_ended)
