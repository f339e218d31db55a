"""Detection of folders that are on a network file system."""

from __future__ import annotations

import os
from pathlib import Path

from onefs.lowlevel.mountinfo import MOUNTINFO_FILE, read_mounts

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


def network_filesystem_type(folder: Path, mountinfo: Path = MOUNTINFO_FILE) -> str:
    """Return the type of the network file system that a folder is on, like ``nfs4``.

    Return '' if the folder is not on a network file system, or if this is unknown. The folder may
    be missing. The type is read from the kernel's table of mounts, without a request to a server.
    """
    try:
        mounts = read_mounts(mountinfo)
    except OSError:
        return ""
    place = os.path.realpath(folder) + "/"
    above = [mount for mount in mounts if place.startswith(mount.mountpoint.rstrip("/") + "/")]
    # of several mounts at one mount point, the last one hides the others
    fstype = max(reversed(above), key=lambda mount: len(mount.mountpoint)).fstype if above else ""
    family, _, program = fstype.partition(".")
    is_network = program in _NETWORK_FUSE_TYPES if family == "fuse" else fstype in _NETWORK_TYPES
    return fstype if is_network else ""
