"""Clean-up after tests: unmount below a folder, and end processes whose home folder is in it.

Run as ``python -m tests.cleanup FOLDER`` it waits until its standard input ends, which it does
however the tests' own process ends, and sweeps then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from onefs.lowlevel.mountinfo import read_mounts
from onefs.mount import processes

#: seconds for processes to end by themselves once their mount is gone
_END_SECONDS = 5.0


def sweep(folder: Path) -> None:
    """Unmount every mount below ``folder`` and end every process whose home folder is in it."""
    for mounted in reversed(mounts_below(folder)):
        subprocess.run(
            ["fusermount3", "-uz", "--", mounted],
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    end = time.monotonic() + _END_SECONDS
    while (living := processes_below(folder)) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in living:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points below ``folder``, in the order of mounting."""
    below = f"{os.path.realpath(folder)}/"
    return [m.mountpoint for m in read_mounts() if m.mountpoint.startswith(below)]


def processes_below(folder: Path) -> list[int]:
    """Return the processes of this user that run with a HOME below ``folder``."""
    wanted = f"HOME={os.path.realpath(folder)}/".encode()
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit()
        and int(process.name) != os.getpid()
        and _has_home_below(process, wanted)
        and processes.start_ticks_of(int(process.name)) is not None
    ]


def _has_home_below(process: Path, wanted: bytes) -> bool:
    try:
        environment = (process / "environ").read_bytes()
    except OSError:  # it has ended, or belongs to another user
        return False
    return any(entry.startswith(wanted) for entry in environment.split(b"\0"))


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    sweep(Path(sys.argv[1]))
