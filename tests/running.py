"""``onefs`` as its users run it: real processes, in a home folder of their own.

Everything here is bounded in time, and a :class:`Home` leaves neither mounts nor processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from onefs.mount import mount_registry, processes
from tests.cleanup import sweep

ONEFS = Path(sys.executable).with_name("onefs")
#: seconds for one command
TIMEOUT_SECONDS = 90.0
#: seconds that a command waits for Alyx, which answers more slowly on a busy machine
ALYX_DEADLINE_SECONDS = "60"
#: seconds that a busy machine may take for what is done at once: what hangs takes longer
BUSY_SECONDS = 30.0
#: what tests must not inherit from whoever runs them
_PRIVATE = ("ONEFS_", "XDG_", "ONE_", "ALYX_", "FUSE_")


def wait_until(condition: Callable[[], object], timeout: float = 60.0, what: str = "") -> None:
    """Return when ``condition`` holds, fail when it does not within ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:g} s: {what or condition}"
        time.sleep(0.02)


@contextmanager
def within(seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Fail when the block takes longer, as it does when it waits for what it must not wait for."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s instead of less than {seconds:g} s"


def drop_pages(path: Path) -> None:
    """Make the kernel forget what it has of a file's contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read_errno(path: Path) -> int:
    """The errno that reading a file, or listing a folder, ends with; 0 when it works."""
    try:
        os.listdir(path) if path.is_dir() else path.read_bytes()
    except OSError as error:
        return error.errno or -1
    return 0


def files_below(folder: Path) -> set[str]:
    """The regular files below ``folder``, as ``find`` lists them: relative to it."""
    done = run(["find", ".", "-type", "f"], cwd=folder)
    return {line.removeprefix("./") for line in done.stdout.splitlines()}


def run(
    command: list[str | Path],
    *,
    cwd: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
    given: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; fail unless it exits with ``code``."""
    done = subprocess.run(
        command,
        cwd=cwd,
        timeout=timeout,
        env=environment,
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (
        f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


@dataclass(frozen=True)
class Mounted:
    """A mount that ``onefs mount`` made."""

    home: Home
    path: Path
    #: the daemon
    pid: int

    def xattr(self, name: str, path: str = "") -> str:
        """One of our extended attributes, '' when it is absent."""
        place = self.path / path
        if f"user.onefs.{name}" not in os.listxattr(place):
            return ""
        return os.getxattr(place, f"user.onefs.{name}").decode()

    def log_lines(self, *words: str) -> list[str]:
        """The log's lines that hold all these words."""
        lines = self.home.log().splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def umount(self) -> None:
        """``onefs umount``: fails unless it works."""
        self.home.run("umount", self.path)

    def has_ended(self) -> bool:
        """Whether the daemon is gone."""
        return processes.start_ticks_of(self.pid) is None


class Home:
    """A user's home folder, and the commands that run in it.

    ``variables`` are set for every command. As a context manager it ends whatever still runs.
    """

    def __init__(self, root: Path, **variables: str) -> None:
        self.root = root
        self.folder = root / "home"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = clean_environment(self.folder, **variables)

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        sweep(self.root)

    @property
    def state(self) -> Path:
        """Where the logs and databases are."""
        return self.folder / "state" / "onefs"

    @property
    def cache(self) -> Path:
        """Where the cache folders are, one for each laboratory."""
        return self.folder / "cache" / "onefs"

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        given: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """``onefs ARGUMENTS``: fails unless it exits with ``code``."""
        return run(
            [ONEFS, *arguments],
            environment=self.environment | variables,
            code=code,
            given=given,
            timeout=timeout,
            cwd=self.root,
        )

    def error_of(self, code: int, *arguments: str | Path, **variables: str) -> str:
        """The one sentence with which ``onefs ARGUMENTS`` fails, without ``onefs: ``."""
        done = self.run(*arguments, code=code, **variables)
        lines = done.stderr.splitlines()
        assert done.stdout == ""
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("onefs: ")
        return lines[0].removeprefix("onefs: ")

    def mount(self, *arguments: str | Path, at: str = "mnt", **variables: str) -> Mounted:
        """``onefs mount ARGUMENTS``: returns when the mount answers."""
        path = self.root / at
        self.run("mount", path, *arguments, **variables)
        # what `onefs status` reads, without the start of another program
        record = mount_registry.find_record(os.path.realpath(path), self.state / "mounts")
        assert record is not None
        assert record.pid is not None
        return Mounted(self, path, record.pid)

    def status(self) -> dict[str, Any]:
        """``onefs status --json``."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def status_of(self, path: Path) -> dict[str, Any] | None:
        """What ``onefs status --json`` says of one mount; other users' tests may have theirs."""
        mounts = self.status()["mounts"]
        return next((each for each in mounts if each["mountpoint"] == str(path)), None)

    def log(self) -> str:
        """The daemons' logs, all of them."""
        return "".join(path.read_text() for path in sorted(self.state.glob("*/onefs.log")))


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of somebody who has just got this account and set ``variables``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_RUNTIME_DIR": str(home),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "LC_ALL": "C.UTF-8",
        "ONEFS_DEADLINE": ALYX_DEADLINE_SECONDS,
        **variables,
    }


@contextmanager
def network_disk(root: Path) -> Iterator[Path]:
    """A folder that can be written, on what the kernel knows as ``fuse.sshfs``; skips without
    bindfs."""
    if which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    place = root / "network"
    for folder in (place, root / "disk"):
        folder.mkdir()
    run(["bindfs", "-o", "subtype=sshfs", root / "disk", place], timeout=20)
    try:
        yield place
    finally:
        # a home in the same folder may have swept it away already
        command = ["fusermount3", "-u", "-z", place]
        subprocess.run(command, timeout=20, capture_output=True, check=False)


@contextmanager
def process(command: list[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that is ended, by its id, when the block is left."""
    started = subprocess.Popen(command, **options)
    try:
        yield started
    finally:
        started.kill()
        for pipe in (started.stdin, started.stdout, started.stderr):
            if pipe is not None:
                pipe.close()
        started.wait(20)
