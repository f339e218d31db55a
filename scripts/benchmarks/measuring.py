"""What listing and walking is measured with: commands with a deadline, caches, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from scripts.benchmarks.processes import started

#: bytes that libfuse keeps for an inode which the kernel holds
INODE_BYTES = 300


def seconds_of(
    command: list[str | Path], patience: float = 600.0, file_system: int | None = None
) -> float | None:
    """Seconds that ``command`` takes; None when it does not end within ``patience``.

    A program that hangs in a file system cannot be killed: then ``file_system``, the process that
    serves it, is, which makes the kernel fail what waits for it. Raises CalledProcessError for a
    command that fails in time.
    """
    given_up = threading.Event()
    began = time.perf_counter()
    with started(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:

        def give_up() -> None:
            given_up.set()
            process.kill()
            if file_system is not None:
                with suppress(ProcessLookupError):
                    os.kill(file_system, signal.SIGKILL)

        timer = threading.Timer(patience, give_up)
        timer.start()
        code = process.wait()  # without a timeout: with one, Python looks every 50 ms
        seconds = time.perf_counter() - began
        timer.cancel()
    if given_up.is_set():
        return None
    if code:
        raise subprocess.CalledProcessError(code, command)
    return seconds


def drop_caches() -> bool:
    """Make the kernel forget names and attributes; False where that is not allowed."""
    try:
        Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError:
        return False
    return True


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def kernel_inodes() -> int:
    """Inodes of FUSE that the kernel holds, 0 where it does not say."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("fuse_inode")), 0)


def own_memory(pid: int) -> float:
    """MiB of a daemon's memory less what libfuse keeps for the kernel's inodes."""
    return resident(pid) - kernel_inodes() * INODE_BYTES / 2**20


def curve_of(
    command: list[str | Path], pid: int, patience: float, every: float = 2.0
) -> tuple[float, bool, list[int]]:
    """Seconds that a command takes, whether it ended by itself within ``patience``, and the
    daemon's own memory in MiB on the way."""
    curve = []
    began = time.perf_counter()
    with started(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and time.perf_counter() - began < patience:
            with suppress(subprocess.TimeoutExpired):
                process.wait(every)
            curve.append(round(own_memory(pid)))
        ended = process.poll() is not None
        process.kill()
    return time.perf_counter() - began, ended, curve


def stat_rate(folder: Path, look: Callable[[Path], object] = os.stat) -> float:
    """Calls of ``stat`` a second on the files of a folder, as the kernel answers them itself."""
    names = [path for path in folder.iterdir() if path.is_file()]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 1:
        for path in names:
            look(path)
        count += len(names)
    return count / (time.perf_counter() - began)


def first_stat_rate(folders: list[Path]) -> float:
    """Calls of ``stat`` a second on files of which the kernel knows the names at most."""
    paths = [folder / name for folder in folders for name in os.listdir(folder)]
    drop_caches()
    began = time.perf_counter()
    for path in paths:
        os.stat(path)
    return len(paths) / (time.perf_counter() - began)


def copy_shape(source: Path, target: Path) -> int:
    """The same folders and files, of the same sizes and without contents: how many files."""
    count = 0
    for folder, _, names in os.walk(source):
        here = target / os.path.relpath(folder, source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            with (here / name).open("wb") as file:
                file.truncate(os.stat(os.path.join(folder, name)).st_size)
            count += 1
    return count
