"""What a folder lies on, as the kernel's table of mounts says: a disk of this machine, or not."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL_ESCAPE = re.compile(rb"\\([0-7]{3})")
#: file systems that several hosts may have at once
_NETWORK_TYPES = {
    *("9p", "afs", "acfs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs"),
    *("gpfs", "juicefs", "kafs", "lustre", "moosefs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs"),
    *("pvfs2", "quobyte", "smb3", "smbfs", "virtiofs", "weka", "wekafs"),
}
#: those of them, and more, that run in user space: ``fuse.sshfs``
_NETWORK_TYPES_BY_FUSE = _NETWORK_TYPES | {
    "ceph-fuse",
    "gcsfuse",
    "goofys",
    "mfs",
    "rclone",
    "s3fs",
    "sshfs",
}


def network_filesystem_type(folder: Path, mountinfo: Path = _MOUNTINFO) -> str:
    """The type of the network file system that a folder lies on, like ``nfs4``; '' for any other.

    The folder need not be there yet. Asks the kernel only: a server that is away holds nobody up.
    """
    try:
        lines = mountinfo.read_bytes().split(b"\n")  # a carriage return is part of a name
    except OSError:
        return ""
    place = os.fsencode(os.path.realpath(folder)) + b"/"
    found, longest = "", -1
    for line in lines:
        mountpoint, kind = _parse_mountinfo_line(line)
        if place.startswith(mountpoint) and len(mountpoint) >= longest:  # the topmost of two
            found, longest = kind, len(mountpoint)
    family, _, program = found.partition(".")
    shared = program in _NETWORK_TYPES_BY_FUSE if family == "fuse" else found in _NETWORK_TYPES
    return found if shared else ""


def _parse_mountinfo_line(line: bytes) -> tuple[bytes, str]:
    """Where something is mounted, with a slash at the end, and its type; b'' of no such line."""
    before, _, after = line.partition(b" - ")
    fields = before.split(b" ")
    if len(fields) < 6:
        return b"", ""
    place = _OCTAL_ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), fields[4])
    return place.rstrip(b"/") + b"/", os.fsdecode(after.split(b" ")[0])
