"""A mount's daemon is started, fails, is killed, is replaced, and is stopped."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from onefs import errors
from onefs.lowlevel.mountinfo import read_mounts
from onefs.mount import (
    daemon,
    kernel_mounts,
    mount_registry,
    mountpoints,
    unmount,
)
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.processes import processes_using, start_ticks_of
from tests.mount.conftest import Mounted
from tests.running import umount, wait_until

SECRET = "TapetesBloc18"


def listed(mountpoint: Path, probe: bool = True) -> list[mount_registry.MountInfo]:
    """Return the entries of the registry for one mount. This user may have other mounts."""
    mounts = mount_registry.list_mounts(probe=probe)
    return [each for each in mounts if each.mountpoint == str(mountpoint)]


@pytest.fixture(autouse=True)
def _filled(root: Path) -> None:
    (root / "file").write_bytes(b"bytes")


def test_the_mount_responds_when_start_returns(mounted: Mounted) -> None:
    assert (mounted.path / "file").read_bytes() == b"bytes"
    found = kernel_mounts.find_mount(str(mounted.path))
    assert found is not None
    assert (found.fstype, found.source, found.uid) == ("fuse.onefs", "onefs:localhost", os.getuid())
    [known] = listed(mounted.path)
    assert known.pid == mounted.pid
    assert known.to_json()["state"] == "ready"


def test_mount_options(mount: Callable[..., Mounted]) -> None:
    root_user = os.geteuid() == 0
    mounted = mount(allow_other=root_user)
    [line] = [
        each for each in Path("/proc/mounts").read_text().splitlines() if str(mounted.path) in each
    ]
    options = line.split()[3].split(",")
    assert {"ro", "nosuid", "nodev", "default_permissions"} <= set(options)
    assert ("allow_other" in options) == root_user


def test_allow_other_needs_permission(mount: Callable[..., Mounted]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may always")
    if "\nuser_allow_other" in Path("/etc/fuse.conf").read_text():
        pytest.skip("this machine allows it")
    with pytest.raises(errors.MountError, match="user_allow_other"):
        mount(allow_other=True)


def test_the_daemon_leaves_the_terminal(mounted: Mounted) -> None:
    process = Path(f"/proc/{mounted.pid}")
    assert os.getsid(mounted.pid) == mounted.pid
    assert os.readlink(process / "cwd") == "/"
    assert os.readlink(process / "fd" / "0") == "/dev/null"
    assert os.readlink(process / "fd" / "2") == str(mounted.log)
    assert mounted.log.stat().st_mode & 0o777 == 0o600


def test_secrets_are_neither_in_arguments_nor_in_the_environment(
    mount: Callable[..., Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEFS_PASSWORD", SECRET)
    mounted = mount(password=SECRET)
    process = Path(f"/proc/{mounted.pid}")
    assert SECRET not in (process / "cmdline").read_text()
    assert SECRET not in (process / "environ").read_text()
    assert SECRET not in mounted.log.read_text()
    assert SECRET not in "".join(
        path.read_text() for path in mount_registry.default_registry_folder().iterdir()
    )


@pytest.mark.parametrize("kind", ["Unreachable", "AlyxCredentials", "CacheError"])
def test_a_failure_before_the_mount_is_raised_by_start(
    mount: Callable[..., Mounted], tmp_path: Path, kind: str
) -> None:
    with pytest.raises(getattr(errors, kind), match="as this test asks"):
        mount(fails=kind)
    assert kernel_mounts.find_mount(str(tmp_path / "mnt")) is None
    assert listed(tmp_path / "mnt") == []


def test_a_daemon_that_dies_at_once_is_reported(mount: Callable[..., Mounted]) -> None:
    with pytest.raises(errors.MountError, match=r"died \(code 7\).*mnt\.log"):
        mount(dies=7)


def test_a_daemon_that_takes_too_long_is_ended(
    mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    with pytest.raises(errors.MountError, match="not ready in time"):
        mount(timeout=0.5, slow=2.0)
    assert kernel_mounts.find_mount(str(tmp_path / "mnt")) is None
    assert "Traceback" not in (tmp_path / "mnt.log").read_text()


def test_a_second_mount_at_one_place_is_refused(mounted: Mounted) -> None:
    with pytest.raises(errors.UsageError, match="already mounted"):
        mountpoints.prepare_mountpoint(mounted.path)


def test_stop_waits_and_removes_the_folder_that_was_made(mounted: Mounted) -> None:
    daemon.stop(mounted.path)
    assert mounted.ended()
    assert not mounted.path.exists()
    assert listed(mounted.path) == []
    with pytest.raises(errors.UsageError, match="Nothing is mounted"):
        daemon.stop(mounted.path)


def test_stop_keeps_a_folder_that_existed_before(
    mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    mounted = mount()
    daemon.stop(mounted.path)
    assert mounted.path.is_dir()


def test_stop_names_the_processes_that_use_the_mount(mounted: Mounted) -> None:
    command = [sys.executable, "-S", "-c", "import sys; f = open(sys.argv[1]); sys.stdin.read()"]
    reader = subprocess.Popen([*command, mounted.path / "file"], stdin=subprocess.PIPE)
    try:
        wait_until(
            lambda: [each.pid for each in processes_using(str(mounted.path))] == [reader.pid]
        )
        with pytest.raises(errors.Busy, match=rf"in use by python.* \({reader.pid}\)"):
            daemon.stop(mounted.path)
        assert (mounted.path / "file").read_bytes() == b"bytes"
    finally:
        reader.communicate(timeout=60)
    daemon.stop(mounted.path)
    assert not mounted.path.exists()


@pytest.mark.long
def test_stop_reports_a_daemon_that_still_runs_after_the_mount(
    mount: Callable[..., Mounted],
) -> None:
    mounted = mount(closing=20.0)
    with pytest.raises(errors.MountError, match=rf"is unmounted.*\({mounted.pid}\).*still"):
        daemon.stop(mounted.path, timeout=8.0)
    assert not mounted.ended()
    assert kernel_mounts.find_mount(str(mounted.path)) is None
    assert not mounted.path.exists()
    assert mount_registry.find_record(str(mounted.path)) is None
    wait_until(mounted.ended)


def _post_open_file(path: Path) -> socket.socket:
    """Send an open file to a socket, and return the socket.

    The file keeps the mount busy, but no process has the file open until the socket is read.
    """
    here, there = socket.socketpair()
    with here, path.open() as file:
        socket.send_fds(here, [b"x"], [file.fileno()])
    return there


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a file that is created when fusermount fails."""
    real = which("fusermount3") or which("fusermount")
    assert real is not None
    note, helper = tmp_path / "refused", tmp_path / "bin" / "fusermount3"
    helper.parent.mkdir()
    helper.write_text(
        f'#!/bin/sh\n{shlex.quote(real)} "$@" && exit\n: > {shlex.quote(str(note))}\nexit 1\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}{os.pathsep}{os.environ['PATH']}")
    return note


def test_stop_waits_for_processes_that_are_ending(
    mounted: Mounted, refused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unmount, "_BUSY_RETRY_SECONDS", 60.0)  # starting a program may be slow
    held = _post_open_file(mounted.path / "file")
    assert processes_using(str(mounted.path)) == []

    def leave() -> None:
        try:
            wait_until(refused.exists, 50)
        finally:
            held.close()

    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(leave)
        daemon.stop(mounted.path)
        leaving.result(60)
    assert mounted.ended()


def test_stop_gives_up_on_an_invisible_user_that_stays(mounted: Mounted) -> None:
    with (
        _post_open_file(mounted.path / "file"),
        pytest.raises(errors.Busy, match="in use by a process of another user"),
    ):
        daemon.stop(mounted.path)
    daemon.stop(mounted.path)
    assert mounted.ended()


def test_mounts_are_listed_from_their_records_without_a_request_to_a_mount(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that hangs delays only the commands that show whether it answers."""
    started: list[Any] = []

    class Recorded(subprocess.Popen[Any]):
        def __init__(self, command: Any, **options: Any) -> None:
            started.append(command)
            super().__init__(command, **options)

    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(lambda: start_ticks_of(mounted.pid) is None)
    monkeypatch.setattr(subprocess, "Popen", Recorded)
    (without,) = listed(mounted.path, probe=False)
    assert (without.status.state, without.pid, started) == (mount_registry.STALE, None, [])
    (probed,) = listed(mounted.path)
    assert (probed, bool(started)) == (without, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount what is not FUSE")
def test_stop_names_the_mounts_inside(mounted: Mounted, root: Path) -> None:
    (root / "folder").mkdir()
    inside = mounted.path / "folder"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inside], check=True, timeout=60)
    try:
        with pytest.raises(errors.Busy, match=f"in use by the mount at {re.escape(str(inside))}:"):
            daemon.stop(mounted.path)
    finally:
        umount(inside)
    daemon.stop(mounted.path)


def test_a_working_folder_and_a_map_keep_it_busy(mounted: Mounted) -> None:
    code = (
        "import mmap, os, sys\nf = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1)\n"
        "f.close(); os.close(3) if os.path.exists('/proc/self/fd/3') else None\n"
        "sys.stdin.read()"
    )
    mapping = subprocess.Popen(
        [sys.executable, "-S", "-c", code, mounted.path / "file"], stdin=subprocess.PIPE
    )
    standing = subprocess.Popen(["cat"], cwd=mounted.path, stdin=subprocess.PIPE)
    try:
        both = {mapping.pid, standing.pid}
        wait_until(lambda: {each.pid for each in processes_using(str(mounted.path))} == both)
    finally:
        for process in (mapping, standing):
            process.communicate(timeout=60)
    assert processes_using(str(mounted.path)) == []


def test_a_mount_unmounted_by_hand_leaves_no_daemon_and_no_record(mounted: Mounted) -> None:
    subprocess.run(["fusermount3", "-u", mounted.path], check=True, timeout=60)
    wait_until(mounted.ended)
    assert listed(mounted.path) == []
    assert list(mount_registry.default_registry_folder().glob("*.json")) == []
    assert mounted.path.is_dir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(mounted: Mounted, number: signal.Signals) -> None:
    os.kill(mounted.pid, number)
    wait_until(mounted.ended)
    assert os.waitpid(mounted.pid, 0) == (mounted.pid, 0)
    assert kernel_mounts.find_mount(str(mounted.path)) is None
    assert "Traceback" not in mounted.log.read_text()


def test_after_a_kill_it_can_be_mounted_again(
    mounted: Mounted, mount: Callable[..., Mounted]
) -> None:
    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(mounted.ended)
    with pytest.raises(OSError, match="not connected") as caught:
        os.listdir(mounted.path)
    assert caught.value.errno == errno.ENOTCONN
    [dead] = listed(mounted.path)
    assert (dead.pid, dead.status.state, dead.made) == (None, "stale", True)
    again = mount()
    assert (again.path / "file").read_bytes() == b"bytes"
    assert [each.mountpoint for each in read_mounts()].count(str(again.path)) == 1
    daemon.stop(again.path)
    assert not again.path.exists()  # removed, because it was made for the mount that was killed


def test_after_a_kill_it_can_be_stopped(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(mounted.ended)
    daemon.stop(mounted.path)
    assert not mounted.path.exists()
    assert listed(mounted.path) == []


def test_a_reused_pid_is_not_taken_for_the_daemon(mounted: Mounted) -> None:
    os.kill(mounted.pid, signal.SIGKILL)
    wait_until(mounted.ended)
    [record] = mount_registry.default_registry_folder().glob("*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "pid": os.getpid()}))
    daemon.stop(mounted.path, timeout=30.0)
    assert not mounted.path.exists()
    assert listed(mounted.path) == []


def test_a_status_that_cannot_be_written_does_not_end_the_mount(
    mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    trouble = tmp_path / "trouble"
    trouble.touch()
    mounted = mount(trouble=str(trouble))
    wait_until(lambda: "status cannot be determined" in mounted.log.read_text())
    looks = trouble.stat().st_size
    wait_until(lambda: trouble.stat().st_size >= looks + 2)
    assert (mounted.path / "file").read_bytes() == b"bytes"
    assert mounted.log.read_text().count("status cannot be determined") == 1
    trouble.unlink()
    wait_until(lambda: listed(mounted.path)[0].status.cache_bytes == 1)
    trouble.touch()
    wait_until(lambda: mounted.log.read_text().count("status cannot be determined") == 2)
    assert listed(mounted.path)[0].status.cache_bytes == 1
    assert not mounted.ended()


def test_a_mount_in_the_foreground_ends_with_a_signal(
    fuse: None, root: Path, tmp_path: Path
) -> None:
    place = mountpoints.prepare_mountpoint(tmp_path / "mnt")
    config = DaemonConfig(place.path, "onefs:localhost", settings={"root": str(root)})
    code = (
        "import sys; from onefs.mount.daemon_config import DaemonConfig; from "
        "onefs.mount.serve import "
        "serve; from tests.mount.folder_daemon import build;"
        "serve(DaemonConfig.from_json(sys.argv[1]), build, lambda: print('ready', flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, config.to_json()], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert (tmp_path / "mnt" / "file").read_bytes() == b"bytes"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert kernel_mounts.find_mount(place.path) is None
    finally:
        process.kill()
        process.communicate(timeout=60)
        if kernel_mounts.find_mount(place.path) is not None:
            unmount.remove_stale_mount(place.path)


def test_libfuse_2_works_too(root: Path, mount: Callable[..., Mounted], tmp_path: Path) -> None:
    libfuse2 = "import ctypes; ctypes.CDLL('libfuse.so.2')"
    if subprocess.run([sys.executable, "-c", libfuse2], capture_output=True).returncode:
        pytest.skip("libfuse 2 is not installed")
    (root / "big").write_bytes(os.urandom(1_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSE_LIBRARY_PATH", "libfuse.so.2")
        mounted = mount()
    assert "libfuse.so.2" in Path(f"/proc/{mounted.pid}/maps").read_text()
    assert (mounted.path / "big").read_bytes() == (root / "big").read_bytes()
    assert sorted(os.listdir(mounted.path)) == ["big", "file"]
    assert (mounted.path / "file").stat().st_blocks == 1
    daemon.stop(mounted.path)
    assert mounted.ended()


def test_a_config_survives_json() -> None:
    config = DaemonConfig("/mnt", "onefs:host", settings={"url": "http://host", "password": SECRET})
    assert DaemonConfig.from_json(config.to_json()) == config
    assert SECRET not in repr(config)


@pytest.mark.parametrize("value", ["", [], {}, {"mountpoint": "/", "fsname": "", "x": 1}])
def test_a_config_from_other_texts_is_refused(value: object) -> None:
    with pytest.raises(errors.UsageError):
        DaemonConfig.from_json(json.dumps(value))
    with pytest.raises(errors.UsageError):
        DaemonConfig.from_json("")
