"""Find the mounts of onefs, and the user that owns each mount, in the kernel's table of mounts.

The mounts are not accessed. A mount whose daemon hangs would block this process, and not even
SIGKILL ends a blocked process. To check that a mount responds, use ``onefs.mount.mount_probes``.
"""

from __future__ import annotations

from pathlib import Path

from onefs.integers import parse_whole_number
from onefs.lowlevel.mountinfo import MOUNTINFO_FILE, KernelMount, read_mounts


def find_mount(mountpoint: str, mountinfo: Path = MOUNTINFO_FILE) -> KernelMount | None:
    """Return the topmost mount at ``mountpoint``, or None if there is no mount.

    ``mountpoint`` is an absolute path without symbolic links. ``mountinfo`` is the file with the
    kernel's table of mounts.
    """
    mounts = [mount for mount in read_mounts(mountinfo) if mount.mountpoint == mountpoint]
    return mounts[-1] if mounts else None


def other_owner_of(mountpoint: str) -> str:
    """Return the name of the user that owns the mount at ``mountpoint``.

    Return '' if this user owns the mount, or if there is no mount.
    """
    mount = find_mount(mountpoint)
    return mount.other_owner if mount is not None else ""


def remaining_mountpoints(mount: KernelMount) -> list[str]:
    """Return the other paths at which a file system is still mounted after its unmount.

    These are bind mounts in this process's mount namespace. If there are none, return those
    in all other mount namespaces that this user may inspect.
    """
    in_this_namespace = _mountpoints_of_device(mount, MOUNTINFO_FILE)
    if in_this_namespace:
        return in_this_namespace
    labels: dict[str, str] = {}
    for process in sorted(Path("/proc").iterdir()):
        pid = parse_whole_number(process.name)
        if pid is not None:
            for mountpoint in _mountpoints_of_device(mount, process / "mountinfo"):
                labels.setdefault(mountpoint, f"{mountpoint} (mount namespace of {pid})")
    return list(labels.values())


def _mountpoints_of_device(mount: KernelMount, mountinfo: Path) -> list[str]:
    """Return the mount points in the file ``mountinfo`` that show the file system of ``mount``.

    Return [] if ``mountinfo`` cannot be read.
    """
    try:
        mounts = read_mounts(mountinfo)
    except OSError:  # the process has ended, or belongs to another user
        return []
    return [each.mountpoint for each in mounts if each.is_onefs and each.device == mount.device]
