"""Requests to mounts, each in a child process that is abandoned if the mount does not respond.

A system call on a mount whose daemon hangs blocks its process, even against SIGKILL.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable

from onefs.mount.refresher import REFRESH_XATTR, REFRESHED_XATTR

#: shortest wait in seconds for a script, even if the time is up: it may have ended already
_MIN_OUTCOME_SECONDS = 0.1
#: requests what the kernel never caches, and exits with the errno
_PROBE_SCRIPT = (
    "import os, sys\ntry: os.statvfs(sys.argv[1])\nexcept OSError as e: sys.exit(e.errno)"
)
#: begins a refresh, waits for its end, and exits with the errno; see ``onefs.mount.refresher``
_REFRESH_SCRIPT = """
import os, sys, time
root, begin, done = sys.argv[1:]
try:
    number = int(os.getxattr(root, begin))
    while int(os.getxattr(root, done)) < number:
        time.sleep(0.01)
except OSError as error:
    sys.exit(error.errno)
"""
#: writes the value of an extended attribute, or exits with 1
_GETXATTR_SCRIPT = """
import os, sys
try:
    sys.stdout.buffer.write(os.getxattr(*sys.argv[1:]))
except OSError:
    sys.exit(1)
"""
#: writes the number of a path's last names that do not exist, and its real path
_REALPATH_SCRIPT = """
import os, sys
path = real = os.path.realpath(sys.argv[1])
missing = 0
while True:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        path, missing = os.path.dirname(path), missing + 1
    except OSError:
        break
    else:
        break
sys.stdout.buffer.write(b"%d %s" % (missing, os.fsencode(real)))
"""


def probe_mount(mountpoint: str, timeout: float) -> int | None:
    """Return 0 if the mount responds, the errno if it fails (ENOTCONN: its daemon is dead).

    None if it does not respond within ``timeout`` seconds.
    """
    return _wait_for_script(_start_script(_PROBE_SCRIPT, mountpoint), timeout)[0]


def is_stale(mountpoint: str, timeout: float = 5.0) -> bool:
    """Whether the daemon of a mount is dead, or is just ending."""
    return probe_mount(mountpoint, timeout) in (errno.ENOTCONN, errno.ECONNABORTED)


def refresh_mounts(mountpoints: Iterable[str], timeout: float) -> dict[str, int | None]:
    """Have each mount, and the kernel for it, drop what it caches in memory.

    Returns 0 for each mount that has done so, its errno if it failed (ENODATA: its daemon is too
    old for refreshes), and None if it did not respond within ``timeout`` seconds.
    """
    outcomes = _ask_all(
        _REFRESH_SCRIPT, mountpoints, REFRESH_XATTR, REFRESHED_XATTR, timeout=timeout
    )
    return {mountpoint: code for mountpoint, (code, _) in outcomes.items()}


def read_root_xattrs(mountpoints: Iterable[str], name: str, timeout: float) -> dict[str, bytes]:
    """Return the value of an extended attribute of each mount's root.

    Without mounts that lack it, and those that do not respond within ``timeout`` seconds.
    """
    outcomes = _ask_all(_GETXATTR_SCRIPT, mountpoints, name, timeout=timeout)
    return {mountpoint: value for mountpoint, (code, value) in outcomes.items() if code == 0}


def resolve_path(path: str, timeout: float) -> tuple[str, int] | None:
    """Return the real path of an absolute one, and how many of its last names do not exist.

    A name that cannot be checked counts as existing. None if the file systems do not respond
    within ``timeout`` seconds.
    """
    code, output = _wait_for_script(_start_script(_REALPATH_SCRIPT, path), timeout)
    if code != 0:
        return None
    missing, _, real = output.partition(b" ")
    return os.fsdecode(real), int(missing)


def _ask_all(
    script: str, mountpoints: Iterable[str], *arguments: str, timeout: float
) -> dict[str, tuple[int | None, bytes]]:
    """Run a script for all mounts at the same time; see :func:`_wait_for_script`."""
    end = time.monotonic() + timeout
    processes = {each: _start_script(script, each, *arguments) for each in mountpoints}
    return {
        mountpoint: _wait_for_script(process, max(end - time.monotonic(), _MIN_OUTCOME_SECONDS))
        for mountpoint, process in processes.items()
    }


def _start_script(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )


def _wait_for_script(process: subprocess.Popen[bytes], timeout: float) -> tuple[int | None, bytes]:
    """Return the exit code and the output of a script; the code is None if it is late."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()  # not waited for: it may be blocked until the daemon responds
        return None, b""
    return process.returncode, output
