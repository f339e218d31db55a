"""The mounts of this machine, by the kernel's table: which are of onefs, and of which user.

Mounts themselves are not accessed: a daemon that hangs would block this process, too, even against
SIGKILL. For a mount's response see ``onefs.mount.mount_probes``.
"""

from __future__ import annotations

from pathlib import Path

from onefs.integers import parse_whole_number
from onefs.lowlevel.mountinfo import MOUNTINFO_FILE, KernelMount, read_mounts


def find_mount(mountpoint: str, mountinfo: Path = MOUNTINFO_FILE) -> KernelMount | None:
    """Return the mount at a path (absolute, without links); the topmost one if several are."""
    mounts = [mount for mount in read_mounts(mountinfo) if mount.mountpoint == mountpoint]
    return mounts[-1] if mounts else None


def other_owner_of(mountpoint: str) -> str:
    """Return the name of the user who mounted there if that is not this user; else ''."""
    mount = find_mount(mountpoint)
    return mount.other_owner if mount is not None else ""


def remaining_mountpoints(mount: KernelMount) -> list[str]:
    """Return where else an unmounted file system is still mounted: bind mounts, other namespaces.

    Only the namespaces of processes that this user may inspect are searched.
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
    """Return the mount points of the same file system in a process's namespace."""
    try:
        mounts = read_mounts(mountinfo)
    except OSError:  # the process has ended, or belongs to another user
        return []
    return [each.mountpoint for each in mounts if each.is_onefs and each.device == mount.device]
