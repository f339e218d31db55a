"""``onefs umount`` of a mount that is in use."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands_table import row
from tests.laboratories import small_folder
from tests.running import ONEFS, TIMEOUT_SECONDS, Home, Mounted, process, run, wait_until, within


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
        run(["umount", bound])
    wait_until(mounted.has_ended)


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
