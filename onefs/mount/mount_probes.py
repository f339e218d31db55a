"""Send requests to mounts. Each request runs in a child process.

If a mount's daemon hangs, a system call on the mount blocks the calling process, and not even
SIGKILL ends a blocked process. So the parent process waits for a child process only until a time
limit.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable

from onefs.mount.refresher import REFRESH_XATTR, REFRESHED_XATTR

#: time in seconds after which a mount that has not answered a probe counts as hanging
PROBE_SECONDS = 5.0
#: shortest time in seconds to wait for a script. A script may have ended already when the time for
#: all scripts is over.
_MIN_OUTCOME_SECONDS = 0.1
#: a script that requests statvfs, which the kernel never caches, and exits with the errno
_PROBE_SCRIPT = (
    "import os, sys\ntry: os.statvfs(sys.argv[1])\nexcept OSError as e: sys.exit(e.errno)"
)
#: a script that begins a refresh, waits for the refresh to end, and exits with the errno; see
#: ``onefs.mount.refresher``
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
#: a script that writes the value of an extended attribute to its output, or exits with code 1
_GETXATTR_SCRIPT = """
import os, sys
try:
    sys.stdout.buffer.write(os.getxattr(*sys.argv[1:]))
except OSError:
    sys.exit(1)
"""
#: a script that writes two values to its output: how many of the last names of a path do not exist,
#: and the real path
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
    """Return 0 if a mount answers the system call statvfs, or the errno if statvfs fails.

    The errno is ENOTCONN if the mount's daemon is dead. Return None if the mount does not respond
    within ``timeout`` seconds.
    """
    return _wait_for_script(_start_script(_PROBE_SCRIPT, mountpoint), timeout)[0]


def is_stale(mountpoint: str, timeout: float = PROBE_SECONDS) -> bool:
    """Whether the daemon of a mount is dead or is ending.

    Return False if the mount does not respond within ``timeout`` seconds.
    """
    return are_stale([mountpoint], timeout)[mountpoint]


def are_stale(mountpoints: Iterable[str], timeout: float = PROBE_SECONDS) -> dict[str, bool]:
    """Return for each mount whether its daemon is dead or is ending. See :func:`is_stale`."""
    outcomes = _ask_all(_PROBE_SCRIPT, mountpoints, timeout=timeout)
    dead = (errno.ENOTCONN, errno.ECONNABORTED)
    return {mountpoint: code in dead for mountpoint, (code, _) in outcomes.items()}


def refresh_mounts(mountpoints: Iterable[str], timeout: float) -> dict[str, int | None]:
    """Make each mount's daemon, and the kernel, drop the caches in memory.

    Return a code for each mount:

    - 0: the caches were dropped
    - ENODATA: the daemon runs an older version of onefs, which cannot refresh
    - another errno: the request failed
    - None: the mount did not respond within ``timeout`` seconds
    """
    outcomes = _ask_all(
        _REFRESH_SCRIPT, mountpoints, REFRESH_XATTR, REFRESHED_XATTR, timeout=timeout
    )
    return {mountpoint: code for mountpoint, (code, _) in outcomes.items()}


def read_root_xattrs(mountpoints: Iterable[str], name: str, timeout: float) -> dict[str, bytes]:
    """Return the value of the extended attribute ``name`` of each mount's root, by mount point.

    Mounts without this attribute are left out, as are mounts that do not respond within ``timeout``
    seconds.
    """
    outcomes = _ask_all(_GETXATTR_SCRIPT, mountpoints, name, timeout=timeout)
    return {mountpoint: value for mountpoint, (code, value) in outcomes.items() if code == 0}


def resolve_path(path: str, timeout: float) -> tuple[str, int] | None:
    """Return the real path of an absolute path, and how many names at its end do not exist.

    For example, the number is 2 for ``/home/a/b`` if only ``/home`` exists. A name that cannot be
    checked counts as existing. Return None if a file system does not respond within ``timeout``
    seconds.
    """
    code, output = _wait_for_script(_start_script(_REALPATH_SCRIPT, path), timeout)
    if code != 0:
        return None
    missing, _, real = output.partition(b" ")
    return os.fsdecode(real), int(missing)


def _ask_all(
    script: str, mountpoints: Iterable[str], *arguments: str, timeout: float
) -> dict[str, tuple[int | None, bytes]]:
    """Run a script for all mounts at the same time, in one child process for each mount.

    Return the exit codes and the outputs by mount point. See :func:`_wait_for_script`.
    """
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
    """Wait for a script, and return the script's exit code and output.

    If the script has not ended within ``timeout`` seconds, return None and an empty output.
    """
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()  # the process may be blocked until the daemon responds, so do not wait
        return None, b""
    return process.returncode, output
