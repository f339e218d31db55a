"""Find the mounts of onefs, and the user that owns each mount, in the kernel's table of mounts.

The mounts are not accessed. A mount whose daemon hangs would block this process, and not even
SIGKILL ends a blocked process. To check that a mount responds, use ``onefs.mount.mount_probes``.
"""

from __future__ import annotations

import os
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


def mounts_of_file_system(mount: KernelMount) -> dict[tuple[str, str], str]:
    """Return the paths at which the file system of ``mount`` is mounted, for messages.

    The keys are the id and the mount point of each mount. The mounts are ``mount`` and its bind
    mounts, in this process's mount namespace and in all others that this user may inspect. A path
    in another namespace is followed by the id of a process in this namespace.
    """
    # Two processes with the same link are in the same namespace. Its table is read once.
    namespaces = {_namespace(Path("/proc/self"))}
    paths = {_key(each): each.mountpoint for each in _mounts_of_device(mount, MOUNTINFO_FILE)}
    for process in sorted(Path("/proc").iterdir()):
        pid = parse_whole_number(process.name)
        namespace = "" if pid is None else _namespace(process)
        if namespace and namespace not in namespaces:
            namespaces.add(namespace)
            for each in _mounts_of_device(mount, process / "mountinfo"):
                paths[_key(each)] = f"{each.mountpoint} (mount namespace of {pid})"
    return paths


def _key(mount: KernelMount) -> tuple[str, str]:
    return mount.mount_id, mount.mountpoint


def _namespace(process: Path) -> str:
    """Return the name of the mount namespace of a process, or '' if this user may not read it."""
    try:
        return os.readlink(process / "ns" / "mnt")
    except OSError:  # the process has ended, or belongs to another user
        return ""


def _mounts_of_device(mount: KernelMount, mountinfo: Path) -> list[KernelMount]:
    """Return the mounts in the file ``mountinfo`` that show the file system of ``mount``.

    Return [] if ``mountinfo`` cannot be read.
    """
    try:
        mounts = read_mounts(mountinfo)
    except OSError:  # the process has ended, or belongs to another user
        return []
    return [each for each in mounts if each.is_onefs and each.device == mount.device]
