"""The mounts of this machine as the kernel sees them: which are ours, dead, or in use.

Nothing here touches what is mounted from this process: a daemon that hangs would hang us too, and
beyond the reach of SIGKILL. Probes run in a process of their own that is left behind when it is
late.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from shutil import which

from onefs.errors import Busy, MountError, UsageError, reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.mountinfo import MOUNTINFO_FILE, KernelMount, read_mounts
from onefs.mount.processes import processes_using, wait_until
from onefs.mount.refresher import REFRESH_XATTR, REFRESHED_XATTR

_POLL_SECONDS = 0.05
#: seconds for the helper that unmounts, which only asks the kernel
_HELPER_TIMEOUT_SECONDS = 10.0
#: seconds in which whoever keeps a mount busy, and is not found, may be on its way out
_BUSY_RETRY_SECONDS = 2.0
#: seconds in which a script that has ended is seen to have
_MIN_OUTCOME_SECONDS = 0.1
#: asks for what is never cached, and exits with the errno
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
#: writes the value of an extended attribute
_GETXATTR_SCRIPT = "import os, sys; sys.stdout.buffer.write(os.getxattr(*sys.argv[1:]))"
#: writes how many of a path's last names are not there, and its real path
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


def find_mount(mountpoint: str, mountinfo: Path = MOUNTINFO_FILE) -> KernelMount | None:
    """What is mounted at this very path (absolute, resolved), the topmost if several are."""
    found = [mount for mount in read_mounts(mountinfo) if mount.mountpoint == mountpoint]
    return found[-1] if found else None


def other_owner_of(mountpoint: str) -> str:
    """The name of the other user who mounted there; '' for this user."""
    mounted = find_mount(mountpoint)
    return mounted.other_owner if mounted is not None else ""


def probe_mount(mountpoint: str, timeout: float) -> int | None:
    """Ask what is mounted there for a sign of life.

    Returns 0 when it answers, the errno when it fails (ENOTCONN: its daemon is dead), and None
    when nothing came within ``timeout`` seconds.
    """
    return _wait_for_script(_start_script(_PROBE_SCRIPT, mountpoint), timeout)[0]


def refresh_mounts(mountpoints: Iterable[str], timeout: float) -> dict[str, int | None]:
    """Have each mount, and the kernel for it, drop what it keeps in memory.

    Returns 0 for each that has, the errno that it answered (ENODATA: its daemon is too old to
    know of this), and None where nothing came within ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    asked = {
        each: _start_script(_REFRESH_SCRIPT, each, REFRESH_XATTR, REFRESHED_XATTR)
        for each in mountpoints
    }
    return {
        mountpoint: _wait_for_script(process, max(end - time.monotonic(), _MIN_OUTCOME_SECONDS))[0]
        for mountpoint, process in asked.items()
    }


def read_root_xattrs(mountpoints: Iterable[str], name: str, timeout: float) -> dict[str, bytes]:
    """The value that the root of each mount has for an extended attribute.

    Left out are those that have none, and those that have not answered within ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    asked = {each: _start_script(_GETXATTR_SCRIPT, each, name, quiet=True) for each in mountpoints}
    answers = {
        mountpoint: _wait_for_script(process, max(end - time.monotonic(), _MIN_OUTCOME_SECONDS))
        for mountpoint, process in asked.items()
    }
    return {mountpoint: value for mountpoint, (code, value) in answers.items() if code == 0}


def resolve_path(path: str, timeout: float) -> tuple[str, int] | None:
    """The real path of an absolute one, and how many of its last names are not there.

    None when nothing came within ``timeout`` seconds. What cannot be told counts as there.
    """
    code, answer = _wait_for_script(_start_script(_REALPATH_SCRIPT, path), timeout)
    if code != 0:
        return None
    missing, _, real = answer.partition(b" ")
    return os.fsdecode(real), int(missing)


def is_stale(mountpoint: str, timeout: float = 5.0) -> bool:
    """Whether the daemon behind a mount is dead, or dying."""
    return probe_mount(mountpoint, timeout) in (errno.ENOTCONN, errno.ECONNABORTED)


def remove_stale_mount(mountpoint: str, timeout: float = 10.0) -> None:
    """Take away a mount whose daemon is dead, whoever still uses it."""
    _run_unmount_helper(mountpoint, lazy=True)
    if not _wait_until_unmounted(mountpoint, timeout):
        raise MountError(
            f"The dead mount at {mountpoint} cannot be removed: try fusermount3 -uz {mountpoint}."
        )


def unmount(mountpoint: str, *, timeout: float = 30.0) -> None:
    """Unmount and return when the mount is gone; its daemon may still be ending.

    Raises :class:`UsageError` when no mount of ours is there, :class:`Busy` naming the processes
    that use it, :class:`MountError` when it is not gone after ``timeout`` seconds.
    """
    mounted = find_mount(mountpoint)
    if mounted is None:
        raise UsageError(f"Nothing is mounted at {mountpoint}.")
    if not mounted.is_onefs:
        raise UsageError(f"{mountpoint} is a mount of {mounted.fstype}, not of onefs.")
    if mounted.other_owner and os.getuid() != 0:
        may = "root" if mounted.uid == 0 else f"{mounted.other_owner} or root"
        raise UsageError(
            f"{mountpoint} is {mounted.other_owner}'s mount: only {may} can unmount it."
        )
    _unmount_with_retries(mountpoint)
    if not _wait_until_unmounted(mountpoint, timeout):
        raise MountError(f"{mountpoint} is not gone after {timeout:g} s.")


def _start_script(script: str, *arguments: str, quiet: bool = False) -> subprocess.Popen[bytes]:
    """Run a script that touches a mount; ``quiet``: its traceback tells nothing."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        cwd="/",
        start_new_session=True,
    )


def _wait_for_script(process: subprocess.Popen[bytes], timeout: float) -> tuple[int | None, bytes]:
    """The exit code of a script and what it wrote; None when it is late, and is left behind."""
    try:
        written, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()  # not waited for: it may be stuck until the daemon answers
        return None, b""
    return process.returncode, written


def remaining_mountpoints(mount: KernelMount) -> list[str]:
    """Where else a mount that was undone is still mounted: bind mounts, and other namespaces.

    Only those of processes that this user may look into.
    """
    here = _mountpoints_of_device(mount, MOUNTINFO_FILE)
    if here:
        return here
    found: dict[str, str] = {}
    for process in sorted(Path("/proc").iterdir()):
        pid = parse_whole_number(process.name)
        for place in (
            _mountpoints_of_device(mount, process / "mountinfo") if pid is not None else ()
        ):
            found.setdefault(place, f"{place} (mount namespace of {pid})")
    return list(found.values())


def _mountpoints_of_device(mount: KernelMount, mountinfo: Path) -> list[str]:
    """The mount points of the same file system, as a process sees them."""
    try:
        mounts = read_mounts(mountinfo)
    except OSError:  # it has ended, or belongs to another user
        return []
    return [each.mountpoint for each in mounts if each.is_onefs and each.device == mount.device]


def _run_unmount_helper(mountpoint: str, *, lazy: bool) -> str:
    """Run the program that unmounts. Returns '' or what it complained of."""
    helper = which("fusermount3") or which("fusermount")
    if helper is not None:
        command = [helper, "-uz" if lazy else "-u", "--", mountpoint]
    else:
        command = ["umount", *(["-l"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_HELPER_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason_of(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"code {done.returncode}")


def _unmount_with_retries(mountpoint: str) -> None:
    """Have it unmounted, with more tries while it is busy and nobody is seen to use it.

    Who used it may be gone when it is looked for: a process that ends, a file that the kernel has
    not let go of yet.
    """
    deadline = time.monotonic() + _BUSY_RETRY_SECONDS
    while True:
        refusal = _run_unmount_helper(mountpoint, lazy=False)
        if not refusal or find_mount(mountpoint) is None:
            return
        if "busy" not in refusal:
            raise MountError(f"{mountpoint} cannot be unmounted: {refusal}")
        users = _find_users(mountpoint)
        if users or time.monotonic() >= deadline:
            names = ", ".join(users) or "a process of another user"
            raise Busy(f"{mountpoint} is in use by {names}: end or leave it, then try again.")
        time.sleep(_POLL_SECONDS)


def _find_users(mountpoint: str) -> list[str]:
    """What keeps a mount from going: processes, and what is mounted below it."""
    inside = mountpoint.rstrip("/") + "/"
    below = [mount.mountpoint for mount in read_mounts() if mount.mountpoint.startswith(inside)]
    return [str(holder) for holder in processes_using(mountpoint)] + [
        f"the mount at {m}" for m in below
    ]


def _wait_until_unmounted(mountpoint: str, timeout: float) -> bool:
    return wait_until(lambda: find_mount(mountpoint) is None, timeout)
