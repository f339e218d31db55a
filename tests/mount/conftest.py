"""Real mounts for the tests. Each mount has its own daemon, and is removed after the test."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onefs.mount import (
    daemon,
    kernel_mounts,
    mountpoints,
    processes,
    unmount,
)
from onefs.mount.daemon_config import DaemonConfig
from tests.mount.folder_tree import CALLS
from tests.running import wait_until

START_TIMEOUT = 90.0


@dataclass(frozen=True)
class Mounted:
    """A mount of the folder ``root`` at ``path``."""

    path: Path
    root: Path
    pid: int
    log: Path

    def calls(self) -> dict[str, int]:
        """Return how often each method of the tree has been called since the mount began."""
        counted: dict[str, int] = json.loads(os.getxattr(self.path, CALLS))
        return counted

    def since(self, before: dict[str, int]) -> dict[str, int]:
        """Return how often each method has been called since ``before``, a result of calls()."""
        now = self.calls()
        return {name: now[name] - before.get(name, 0) for name in now}

    def ended(self) -> bool:
        return processes.start_ticks_of(self.pid) is None


@pytest.fixture(autouse=True)
def _own_register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that is mounted. A test must fill the folder before mounting."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def mount(fuse: None, tmp_path: Path, root: Path) -> Iterator[Callable[..., Mounted]]:
    """A function that mounts ``root``.

    Other keyword arguments are settings for :mod:`tests.mount.folder_daemon`.
    """
    made: list[Mounted] = []
    places_used: list[str] = []

    def start(
        name: str = "mnt",
        timeout: float = START_TIMEOUT,
        allow_other: bool = False,
        umask: int = 0,
        uid: int | None = None,
        gid: int | None = None,
        **settings: Any,
    ) -> Mounted:
        place = mountpoints.prepare_mountpoint(tmp_path / name)
        places_used.append(place.path)
        log = tmp_path / f"{name}.log"
        config = DaemonConfig(
            mountpoint=place.path,
            fsname="onefs:localhost",
            log_file=str(log),
            made=place.made,
            allow_other=allow_other,
            umask=umask,
            uid=uid,
            gid=gid,
            settings={"root": str(root), **settings},
        )
        pid = daemon.start(config, module="tests.mount.folder_daemon", timeout=timeout)
        made.append(Mounted(Path(place.path), root, pid, log))
        return made[-1]

    yield start
    for mounted in made:
        _end(mounted)
    for path in places_used:
        if kernel_mounts.find_mount(path) is not None:
            unmount.remove_stale_mount(path)


@pytest.fixture
def mounted(mount: Callable[..., Mounted], root: Path) -> Mounted:
    """A mount of ``root`` with the content that ``root`` has now."""
    return mount()


def _end(mounted: Mounted) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if mounted.ended():
            return
        with suppress(ProcessLookupError):
            os.kill(mounted.pid, number)
        with suppress(AssertionError):
            wait_until(mounted.ended, 8.0)
