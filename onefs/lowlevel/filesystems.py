"""The kinds of file systems: network file systems, and disks of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from onefs.lowlevel.mountinfo import MOUNTINFO_FILE, KernelMount, read_mounts

#: file systems that several hosts may have mounted at the same time
_NETWORK_TYPES = {
    *("9p", "afs", "acfs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs"),
    *("gpfs", "juicefs", "kafs", "lustre", "moosefs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs"),
    *("pvfs2", "quobyte", "smb3", "smbfs", "virtiofs", "weka", "wekafs"),
}
#: network file systems that FUSE programs serve: their types without the prefix ``fuse.``
_NETWORK_FUSE_TYPES = {
    *_NETWORK_TYPES,
    *("ceph-fuse", "gcsfuse", "goofys", "mfs", "rclone", "s3fs", "sshfs"),
}
#: file systems on a disk or in the memory of this machine
_LOCAL_TYPES = {
    *("bcachefs", "btrfs", "cramfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus"),
    *("iso9660", "jfs", "msdos", "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs"),
    *("tmpfs", "udf", "vfat", "xfs", "zfs"),
}


def mount_of(folder: str, mounts: Sequence[KernelMount]) -> KernelMount | None:
    """Return the mount that a folder is on, or None if it is not in ``mounts``.

    ``folder`` is an absolute path without symbolic links. The folder may be missing.
    """
    place = folder.rstrip("/") + "/"
    above = [mount for mount in mounts if place.startswith(mount.mountpoint.rstrip("/") + "/")]
    # of several mounts at one mount point, the last one hides the others
    return max(reversed(above), key=lambda mount: len(mount.mountpoint), default=None)


def is_all_local(folder: str, mounts: Sequence[KernelMount]) -> bool:
    """Whether a folder and everything below it are on disks of this machine.

    Return False also for unknown types. ``folder`` is as for :func:`mount_of`.
    """
    place = folder.rstrip("/") + "/"
    below = [mount for mount in mounts if mount.mountpoint.startswith(place)]
    at = mount_of(folder, mounts)
    return at is not None and all(mount.fstype in _LOCAL_TYPES for mount in (at, *below))


def network_filesystem_type(folder: Path, mountinfo: Path = MOUNTINFO_FILE) -> str:
    """Return the type of the network file system that a folder is on, like ``nfs4``.

    Return '' if the folder is not on a network file system, or if this is unknown. The folder may
    be missing. The type is read from the kernel's table of mounts, without a request to a server.
    """
    try:
        mounts = read_mounts(mountinfo)
    except OSError:
        return ""
    at = mount_of(os.path.realpath(folder), mounts)
    fstype = "" if at is None else at.fstype
    family, _, program = fstype.partition(".")
    is_network = program in _NETWORK_FUSE_TYPES if family == "fuse" else fstype in _NETWORK_TYPES
    return fstype if is_network else ""
