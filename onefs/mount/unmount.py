"""Unmount the mounts of onefs with fusermount or umount, including mounts whose daemon is dead."""

from __future__ import annotations

import os
import subprocess
import time
from shutil import which

from onefs.errors import Busy, MountError, UsageError, reason_of
from onefs.lowlevel.mountinfo import read_mounts
from onefs.mount.kernel_mounts import find_mount
from onefs.mount.mount_probes import PROBE_SECONDS
from onefs.mount.processes import processes_using, wait_until

_POLL_SECONDS = 0.05
#: longest time in seconds that fusermount or umount may take; it only sends a request to the kernel
_HELPER_TIMEOUT_SECONDS = 10.0
#: seconds for which unmounting is retried while the mount is busy and no process is found that uses
#: the mount. Another command's probe of a mount that hangs is such a process.
_BUSY_RETRY_SECONDS = PROBE_SECONDS + 1.0


def unmount(mountpoint: str, *, timeout: float = 30.0) -> None:
    """Unmount ``mountpoint``. Return when the mount no longer exists.

    The mount's daemon may still be running then. Raises one of these errors:

    - :class:`UsageError`: there is no mount of onefs, or another user owns the mount; root may
      unmount every mount
    - :class:`Busy`: processes use the mount; the message contains their names
    - :class:`MountError`: unmounting fails, or the mount still exists after ``timeout`` seconds
    """
    mount = find_mount(mountpoint)
    if mount is None:
        raise UsageError(f"Nothing is mounted at {mountpoint}.")
    if not mount.is_onefs:
        raise UsageError(f"{mountpoint} is a mount of {mount.fstype}, not of onefs.")
    if mount.other_owner and os.getuid() != 0:
        allowed = "root" if mount.uid == 0 else f"{mount.other_owner} or root"
        raise UsageError(
            f"{mountpoint} is {mount.other_owner}'s mount: only {allowed} can unmount it."
        )
    _unmount_with_retries(mountpoint)
    if not _wait_until_unmounted(mountpoint, timeout):
        raise MountError(f"{mountpoint} is still mounted after {timeout:g} s: try again later.")


def remove_stale_mount(mountpoint: str, timeout: float = 10.0) -> None:
    """Unmount a mount whose daemon is dead, even if processes still use the mount.

    Raises :class:`MountError` if the mount still exists after ``timeout`` seconds.
    """
    _run_unmount_helper(mountpoint, lazy=True)
    if not _wait_until_unmounted(mountpoint, timeout):
        raise MountError(
            f"The dead mount at {mountpoint} cannot be removed: try fusermount3 -uz {mountpoint}."
        )


def _unmount_with_retries(mountpoint: str) -> None:
    """Unmount ``mountpoint``. Try again for 6 seconds if the mount is busy for no visible reason.

    Raises :class:`Busy` if the mount stays busy, or :class:`MountError` if unmounting fails in
    another way.
    """
    deadline = time.monotonic() + _BUSY_RETRY_SECONDS
    while True:
        failure = _run_unmount_helper(mountpoint, lazy=False)
        if not failure or find_mount(mountpoint) is None:
            return
        if "busy" not in failure:
            raise MountError(f"{mountpoint} cannot be unmounted: {failure}")
        # Visible reasons are processes and mounts below. Without such a reason, a process may have
        # ended before this search, or the kernel may not have released a file yet.
        users = _find_users(mountpoint)
        if users or time.monotonic() >= deadline:
            names = ", ".join(users) or "a process of another user"
            raise Busy(
                f"{mountpoint} is in use by {names}: close its files and leave its folders, then "
                "try again."
            )
        time.sleep(_POLL_SECONDS)


def _run_unmount_helper(mountpoint: str, *, lazy: bool) -> str:
    """Unmount ``mountpoint`` with fusermount, or with umount if there is no fusermount.

    Return the program's error message, or '' for success. ``lazy`` removes a mount that is in use.
    """
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


def _find_users(mountpoint: str) -> list[str]:
    """Return what keeps a mount busy: processes, and other mounts below ``mountpoint``.

    Each item is a text for an error message.
    """
    inside = mountpoint.rstrip("/") + "/"
    below = [mount.mountpoint for mount in read_mounts() if mount.mountpoint.startswith(inside)]
    return [
        *(str(process) for process in processes_using(mountpoint)),
        *(f"the mount at {each}" for each in below),
    ]


def _wait_until_unmounted(mountpoint: str, timeout: float) -> bool:
    return wait_until(lambda: find_mount(mountpoint) is None, timeout)
