"""Run ``onefs`` as its users do: in real processes, with a home folder of their own.

Everything here is bounded in time, and a :class:`Home` leaves neither mounts nor processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
#: seconds that a busy machine may take for a fast operation; one that hangs takes longer
BUSY_SECONDS = 30.0
#: variables that tests must not inherit from the shell that runs them
_PRIVATE = ("ONEFS_", "XDG_", "ONE_", "ALYX_", "FUSE_")


def wait_until(condition: Callable[[], object], timeout: float = 60.0, what: str = "") -> None:
    """Return when ``condition`` holds, fail when it does not within ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:g} s: {what or condition}"
        time.sleep(0.02)


@contextmanager
def within(seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Fail if the block takes longer than ``seconds``, which shows that it waits for something."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s instead of less than {seconds:g} s"


def drop_pages(path: Path) -> None:
    """Make the kernel drop its pages of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def read_errno(path: Path) -> int:
    """Return the errno of reading a file, or listing a folder; 0 if it succeeds."""
    try:
        os.listdir(path) if path.is_dir() else path.read_bytes()
    except OSError as error:
        return error.errno or -1
    return 0


def files_below(folder: Path) -> set[str]:
    """Return the regular files below ``folder`` that ``find`` lists, relative to it."""
    done = run(["find", ".", "-type", "f"], cwd=folder)
    return {line.removeprefix("./") for line in done.stdout.splitlines()}


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
    code: int | None = 0,
    given: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; fail unless it exits with ``code`` (None: with any code)."""
    # The program env enters the folder, not Popen: Python 3.10 stands still until Popen's child has
    # done that, and a folder of a mount may need a server that runs in this process.
    done = subprocess.run(
        command if cwd is None else ["env", "-C", cwd, *command],
        timeout=timeout,
        env=environment,
        input=given,
        stdin=None if given is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert code in (None, done.returncode), (
        f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


def umount(folder: Path) -> None:
    """Unmount a folder, also when a program that looked at all mounts still has it open."""
    wait_until(lambda: run(["umount", folder], code=None).returncode == 0)


@dataclass(frozen=True)
class Mounted:
    """A mount that ``onefs mount`` has made."""

    home: Home
    path: Path
    #: the daemon
    pid: int

    def xattr(self, name: str, path: str = "") -> str:
        """Return the extended attribute ``user.onefs.<name>``; '' if it is absent."""
        place = self.path / path
        if f"user.onefs.{name}" not in os.listxattr(place):
            return ""
        return os.getxattr(place, f"user.onefs.{name}").decode()

    def log_lines(self, *words: str) -> list[str]:
        """Return the lines of the log that contain all ``words``."""
        lines = self.home.log().splitlines()
        return [line for line in lines if all(word in line for word in words)]

    def umount(self) -> None:
        """Run ``onefs umount``; fail unless it succeeds."""
        self.home.run("umount", self.path)

    def has_ended(self) -> bool:
        """Whether the daemon has ended."""
        return processes.start_ticks_of(self.pid) is None


class Home:
    """A user's home folder, and the commands that run in it.

    ``variables`` are set for every command. As a context manager it ends all remaining processes.
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
        """The folder of the logs and databases."""
        return self.folder / "state" / "onefs"

    @property
    def cache(self) -> Path:
        """The folder of the cache folders, one for each laboratory."""
        return self.folder / "cache" / "onefs"

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        given: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        variables: Mapping[str, str] | None = None,
        **more: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``onefs ARGUMENTS``; fail unless it exits with ``code``.

        ``variables`` and ``more`` are set in its environment.
        """
        return run(
            [ONEFS, *arguments],
            environment={**self.environment, **(variables or {}), **more},
            code=code,
            given=given,
            timeout=timeout,
            cwd=self.root,
        )

    def error_of(self, code: int, *arguments: str | Path, **variables: str) -> str:
        """Return the one sentence with which ``onefs ARGUMENTS`` fails, without ``onefs: ``."""
        done = self.run(*arguments, code=code, variables=variables)
        lines = done.stderr.splitlines()
        assert done.stdout == ""
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("onefs: ")
        return lines[0].removeprefix("onefs: ")

    def mount(self, *arguments: str | Path, at: str = "mnt", **variables: str) -> Mounted:
        """Run ``onefs mount ARGUMENTS``, and return the mount when it answers."""
        path = self.root / at
        self.run("mount", path, *arguments, variables=variables)
        # read as `onefs status` does, without starting a program
        record = mount_registry.find_record(os.path.realpath(path), self.state / "mounts")
        assert record is not None
        assert record.pid is not None
        return Mounted(self, path, record.pid)

    def status(self) -> dict[str, Any]:
        """Return the output of ``onefs status --json``."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def status_of(self, path: Path) -> dict[str, Any] | None:
        """Return what ``onefs status --json`` reports of one mount; None if it is not listed."""
        mounts = self.status()["mounts"]
        return next((each for each in mounts if each["mountpoint"] == str(path)), None)

    def log(self) -> str:
        """Return the logs of all daemons, joined."""
        return "".join(path.read_text() for path in sorted(self.state.glob("*/onefs.log")))


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a new account in which only ``variables`` are set."""
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
    """Yield a writable folder on a file system of type ``fuse.sshfs``; skip without bindfs."""
    if which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    place = root / "network"
    for folder in (place, root / "disk"):
        folder.mkdir()
    run(["bindfs", "-o", "subtype=sshfs", root / "disk", place], timeout=20)
    try:
        yield place
    finally:
        # the clean-up of a home in the same folder may have unmounted it already
        command: list[str | Path] = ["fusermount3", "-u", "-z", place]
        subprocess.run(command, timeout=20, capture_output=True, check=False)


@contextmanager
def process(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program, and end it, by its id, at the end of the block."""
    started = subprocess.Popen(command, **options)
    try:
        yield started
    finally:
        started.kill()
        for pipe in (started.stdin, started.stdout, started.stderr):
            if pipe is not None:
                pipe.close()
        started.wait(20)
