"""The kernel's read-ahead of a mount: wider than it comes, where this user may say so.

The kernel asks a FUSE daemon for 128 KiB at a time. Each request costs a turn of the interpreter,
so that three times as much at once is read up to one and a half times as fast. The window stands in
sysfs, which root alone may write: other users' mounts keep what the kernel gives.
"""

from __future__ import annotations

import logging
from pathlib import Path

from onefs.errors import reason_of
from onefs.mount.kernel_mounts import find_mount

#: less than a block of a partial file: with as much, a slice of an array costs the network a block
#: that nobody asked for
READAHEAD_KIB = 384

_BDI_FOLDER = Path("/sys/class/bdi")

log = logging.getLogger(__name__)


def widen_readahead(mountpoint: str, devices: Path = _BDI_FOLDER) -> bool:
    """Widen it, and say whether it is wide now.

    To be called once the mount answers: until then kernel and libfuse still agree on a window,
    the narrower one.
    """
    mount = find_mount(mountpoint)
    if mount is None:
        return False
    window = devices / mount.device / "read_ahead_kb"
    try:
        if int(window.read_text()) < READAHEAD_KIB:
            window.write_text(str(READAHEAD_KIB))
    except (OSError, ValueError) as error:
        log.debug("the kernel's read-ahead stays as it is: %s", reason_of(error))
        return False
    return True
