"""The kernel's table of mounts, ``/proc/self/mountinfo`` (man 5 proc_pid_mountinfo)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from onefs.integers import parse_whole_number

MOUNTINFO_FILE = Path("/proc/self/mountinfo")
#: the subtype of onefs's mounts, so that their type is ``fuse.onefs``
FUSE_SUBTYPE = "onefs"

_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


class KernelMount(NamedTuple):
    """One mount: a line of the kernel's table of mounts."""

    #: absolute path of the folder at which the file system is mounted
    mountpoint: str
    #: like ``ext4`` or ``fuse.onefs``
    fstype: str
    #: what is mounted: a device, or ``onefs:<host>`` for a mount of onefs
    source: str
    #: the id of the user that mounted it; None if the kernel does not record the user
    uid: int | None
    #: ``major:minor``, the kernel's name for the mounted file system
    device: str = ""
    #: the kernel's number for this mount; a later mount may get the number of one that has ended
    mount_id: str = ""

    @property
    def is_onefs(self) -> bool:
        """Whether this is a mount of onefs, made by any user."""
        return self.fstype == f"fuse.{FUSE_SUBTYPE}"

    @property
    def other_owner(self) -> str:
        """Return the name of the other user that made this mount.

        Returns '' if this user made the mount, or the kernel does not record the user.
        """
        import pwd  # on Unix only

        if self.uid is None or self.uid == os.getuid():
            return ""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"


def read_mounts(mountinfo: Path = MOUNTINFO_FILE) -> list[KernelMount]:
    """Return all mounts of this mount namespace, in the order in which they were mounted.

    Invalid lines are skipped. Raises OSError.
    """
    # not splitlines(): a carriage return may be part of a name
    lines = mountinfo.read_bytes().split(b"\n")
    mounts = (_parse_line(os.fsdecode(line)) for line in lines)
    return [mount for mount in mounts if mount is not None]


def _parse_line(line: str) -> KernelMount | None:
    # fixed fields, optional fields, a dash, then type, source and options
    fields = line.split(" ")
    try:
        dash = fields.index("-", 6)
        fstype, source, options = fields[dash + 1 : dash + 4]
    except ValueError:
        return None
    uid = next((o[8:] for o in options.split(",") if o.startswith("user_id=")), "")
    return KernelMount(
        mountpoint=_unescape(fields[4]),
        fstype=_unescape(fstype),
        source=_unescape(source),
        uid=parse_whole_number(uid),
        device=fields[2],
        mount_id=fields[0],
    )


def _unescape(text: str) -> str:
    """Replace each ``\\ooo`` (three octal digits) by the character that has this code.

    The kernel writes space, tab, newline and backslash in this way.
    """
    if "\\" not in text:
        return text
    return _OCTAL_ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
