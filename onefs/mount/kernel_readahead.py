"""The kernel's read-ahead window of a mount, which root can make wider than its default.

By default, the kernel requests 128 KiB at a time from a FUSE daemon. Each request takes a turn of
the Python interpreter, so that reading in requests three times as large is up to one and a half
times as fast. The window is a file in sysfs, which only root may write: mounts of other users keep
the default.
"""

from __future__ import annotations

import logging
from pathlib import Path

from onefs.errors import reason_of
from onefs.mount.kernel_mounts import find_mount

#: smaller than a block of a partial file: otherwise, reading a slice of an array would fetch one
#: more block than needed
READAHEAD_KIB = 384

_BDI_FOLDER = Path("/sys/class/bdi")

log = logging.getLogger(__name__)


def widen_readahead(mountpoint: str, devices: Path = _BDI_FOLDER) -> bool:
    """Widen the read-ahead window of a mount, and return whether that is wide now.

    To be called when the mount responds: before, the kernel and libfuse are still negotiating a
    window, and would set the narrower one.
    """
    mount = find_mount(mountpoint)
    if mount is None:
        return False
    window = devices / mount.device / "read_ahead_kb"
    try:
        if int(window.read_text()) < READAHEAD_KIB:
            window.write_text(str(READAHEAD_KIB))
    except (OSError, ValueError) as error:
        log.debug("the kernel's read-ahead window cannot be set: %s", reason_of(error))
        return False
    return True
