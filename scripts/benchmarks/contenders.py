"""What is compared: onefs and the other programs that show a file server as a folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from onefs.demo.servers import Servers
from scripts.benchmarks.interruption import held
from scripts.benchmarks.laboratory import Served
from scripts.benchmarks.processes import (
    ROOT,
    BenchmarkFailed,
    module_command,
    run,
    running,
    wait_until,
)

ONEFS = Path(sys.executable).with_name("onefs")
#: values of rclone's ``--vfs-cache-mode`` that are measured
RCLONE_MODES = ("off", "full")


def installed(command: str) -> bool:
    """Whether a program is there."""
    return shutil.which(command) is not None


@dataclass(frozen=True)
class Contender:
    """One mounted file system."""

    name: str
    mount: Path
    #: where it keeps what it fetched; None where it keeps nothing
    cache: Path | None
    #: of the process that serves it
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time that it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def path(self, file: Served) -> Path:
        """Where it shows a file."""
        return self.mount / (file.in_mount if self.name == "onefs" else file.on_server)

    def discard(self) -> None:
        """Give back the disk space of what it fetched: nothing of that is read again."""
        if self.cache is not None:
            for path in self.cache.rglob("*.npy"):
                with suppress(OSError):
                    os.truncate(path, 0)


class Onefs:
    """``onefs mount``, in a home folder of its own.

    ``cache`` is the cache folder where it is not its own; ``variables`` are set for it too.
    """

    def __init__(
        self, work: Path, servers: Servers, cache: Path | None = None, **variables: str
    ) -> None:
        self.home = work
        self.mount = work / "mnt"
        self.cache = cache or work / "cache"
        login = servers.login
        self.environment = {
            "HOME": str(work),
            **{f"XDG_{name}_HOME": str(work / name) for name in ("CONFIG", "CACHE", "STATE")},
            "XDG_RUNTIME_DIR": str(work),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "PYTHONPATH": str(ROOT),
            "ONEFS_URL": servers.alyx_url,
            "ONEFS_USERNAME": login.username,
            "ONEFS_PASSWORD": login.password,
            "ONEFS_CACHE_DIR": str(self.cache),
            "ONEFS_STATE_DIR": str(work / "state"),
            **variables,
        }

    def run(self, *arguments: str | Path) -> str:
        """``onefs ARGUMENTS``: what it prints."""
        return run([ONEFS, *arguments], environment=self.environment)

    def pid(self) -> int:
        """The daemon."""
        mounts = json.loads(self.run("status", "--json"))["mounts"]
        return next(int(m["pid"]) for m in mounts if m["mountpoint"] == str(self.mount))

    def complete(self, path: Path) -> bool:
        """Whether a file of the mount is there whole and verified."""
        return os.getxattr(path, "user.onefs.state") == b"cached"


@contextmanager
def onefs(work: Path, servers: Servers) -> Iterator[Contender]:
    """onefs as it comes, checksums and all."""
    work.mkdir(parents=True)
    with mounted(Onefs(work, servers)) as contender:
        yield contender


@contextmanager
def mounted(home: Onefs, *options: str) -> Iterator[Contender]:
    """``onefs mount`` with these options."""
    with ExitStack() as stack:
        with held():  # the daemon would go on if its start was broken off
            home.run("mount", *options, home.mount)
            stack.callback(_undo_mount, home)
        yield Contender("onefs", home.mount, home.cache, home.pid())


def _undo_mount(home: Onefs) -> None:
    try:
        home.run("umount", home.mount)
    except BenchmarkFailed:  # another program has a file open
        run(["fusermount3", "-uz", home.mount])
        raise


def http_options(url: str) -> list[str]:
    """How rclone is told of a file server."""
    return [":http:", "--http-url", url + "/"]


@contextmanager
def rclone(work: Path, server: Sequence[str], mode: str) -> Iterator[Contender]:
    """``rclone mount`` of a server, which its options name; ``mode``: its ``--vfs-cache-mode``."""
    cache = work / "cache"
    command: list[str | Path] = [
        "rclone", "mount", *server, work / "mnt", "--read-only",
        "--vfs-cache-mode", mode, "--cache-dir", cache, "--config", work / "none.conf",
    ]  # fmt: skip
    with _mounted(work, command) as pid:
        yield Contender(f"rclone {mode}", work / "mnt", cache, pid)


@contextmanager
def httpdirfs(work: Path, url: str) -> Iterator[Contender]:
    """``httpdirfs --cache`` of the file server."""
    cache = work / "cache"
    cache.mkdir(parents=True)
    command: list[str | Path] = [
        # nginx names its ranges in whole answers only; httpdirfs looks into one that is partial
        "httpdirfs", "-f", "--no-range-check", "--cache", "--cache-location", cache,
        url + "/", work / "mnt",
    ]  # fmt: skip
    with _mounted(work, command) as pid:
        yield Contender("httpdirfs", work / "mnt", cache, pid)


@contextmanager
def bindfs(work: Path, source: Path, *options: str) -> Iterator[Contender]:
    """``bindfs`` of a folder: the same way through FUSE, in C, with nothing to fetch."""
    name = " ".join(["bindfs", *(each.lstrip("-") for each in options)])
    with _mounted(work, ["bindfs", "-f", "-r", *options, source, work / "mnt"]) as pid:
        yield Contender(name, work / "mnt", None, pid)


@contextmanager
def bare(work: Path, kind: str, source: Path, name: str) -> Iterator[Contender]:
    """One of the mounts of ``bare_mounts.py``."""
    command = module_command("bare_mounts", kind, source, work / "mnt")
    with _mounted(work, command) as pid:
        yield Contender(name, work / "mnt", None, pid)


@contextmanager
def _mounted(work: Path, command: list[str | Path]) -> Iterator[int]:
    mount = work / "mnt"
    mount.mkdir(parents=True)
    with running(command, work / "log") as process:
        try:
            wait_until(lambda: process.poll() is not None or _is_mounted(mount), 20, f"{mount}")
            if process.poll() is not None:
                raise BenchmarkFailed(f"{command[0]} ended: {(work / 'log').read_text()[-500:]}")
            yield process.pid
        finally:
            try:
                run(["fusermount3", "-u", mount])
            except BenchmarkFailed:  # in use, or gone
                with suppress(BenchmarkFailed):
                    run(["fusermount3", "-uz", mount])
            wait_until(lambda: process.poll() is not None, 20, f"{command[0]} ends")


def _is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == str(path) for line in lines)


def versions(commands: Mapping[str, list[str]]) -> dict[str, str]:
    """The first line of what each program says of its version; '' for one that is not there."""
    found = {}
    for name, command in commands.items():
        with suppress(BenchmarkFailed, OSError):
            found[name] = run(["sh", "-c", 'exec "$@" 2>&1', "sh", *command]).splitlines()[0]
    return found
