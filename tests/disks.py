"""Disks for tests: folders with a file server's files, and file systems that go away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from onefs.demo.alyx_rows import with_uuid
from onefs.demo.records import Source
from tests.laboratories import small_file
from tests.running import process, run, wait_until

#: seconds by which files are older than the test, so that they count as settled
AGE_SECONDS = 1000.0


def put(path: Path, data: bytes) -> Path:
    """Write a file of some time ago, in place of a former one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    at = time.time() - AGE_SECONDS
    os.utime(fresh, (at, at))
    fresh.replace(path)
    return path


def fill_disk(source: Source, originals: Path, at: Path) -> dict[str, Path]:
    """Copy a laboratory's files to a disk, with UUIDs in their names as on the file server.

    Return the file of each path in the mount.
    """
    files = {}
    for session in source.sessions():
        for dataset in source.datasets(session.eid):
            inside = dataset.file_records[0].relative_path
            path = at / session.lab / "Subjects" / with_uuid(inside, dataset.id)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(small_file(originals, f"{session.lab}/{inside}"), path)
            files[f"{session.lab}/{inside}"] = path
    return files


class SecondDisk:
    """A second file system at a folder, which can be unmounted and mounted again."""

    def __init__(self, at: Path, aside: Path) -> None:
        self.at, self._aside = at, aside
        for path in (at, aside):
            path.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "none", aside])
        self.put_back()

    def put_back(self) -> None:
        run(["mount", "--bind", self._aside, self.at])

    def take_away(self) -> None:
        run(["umount", "-l", self.at])

    def close(self) -> None:
        for path in (self.at, self._aside):
            subprocess.run(["umount", "-l", path], capture_output=True, timeout=20, check=False)


@contextmanager
def second_disk(root: Path) -> Iterator[SecondDisk]:
    """Yield a file system of its own below ``root``; skip the test unless root runs it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    made = SecondDisk(root / "disk", root / "aside")
    try:
        yield made
    finally:
        made.close()


class RemoteDisk:
    """A folder on a file system that a program serves, which can stand still or be killed."""

    def __init__(self, at: Path, program: subprocess.Popen[bytes]) -> None:
        self.at = at
        self._program = program

    def stand_still(self) -> None:
        self._program.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._program.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._program.kill()
        self._program.wait(20)


@contextmanager
def remote_disk(folder: Path, at: Path) -> Iterator[RemoteDisk]:
    """Yield a folder of another one at ``at``; skip the test without bindfs."""
    if which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    at.mkdir()
    # nothing is kept by the kernel, as on NFS after the times of its attributes
    options = "subtype=sshfs,attr_timeout=0,entry_timeout=0"
    command: list[str | Path] = ["bindfs", "-f", "-o", options, folder, at]
    with process(command) as program:
        try:
            wait_until(lambda: os.path.ismount(at))
            yield RemoteDisk(at, program)
        finally:
            program.send_signal(signal.SIGCONT)
            end: list[str | Path] = ["fusermount3", "-u", "-z", at]
            subprocess.run(end, timeout=20, capture_output=True, check=False)
