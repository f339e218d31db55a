"""Widen the kernel's read-ahead window of a mount. Only root can do this.

By default, the kernel requests at most 128 KiB at a time from a FUSE daemon. Python code runs for
each request, so reading is up to 1.5 times as fast if each request is three times as large. The
width of the window is set in a file in sysfs. Only root may write this file, so the mounts of other
users keep the default width.
"""

from __future__ import annotations

import logging
from pathlib import Path

from onefs.errors import reason_of
from onefs.mount.kernel_mounts import find_mount

#: width of the read-ahead window in KiB. It is smaller than a block of a partial file, because
#: otherwise reading a slice of an array would fetch one block more than needed.
READAHEAD_KIB = 384

_BDI_FOLDER = Path("/sys/class/bdi")

log = logging.getLogger(__name__)


def widen_readahead(mountpoint: str, devices: Path = _BDI_FOLDER) -> bool:
    """Widen the read-ahead window of a mount to READAHEAD_KIB.

    Return True if the window has at least this width now. Return False if there is no mount, or if
    the width cannot be set. Call this function only when the mount responds.
    """
    # before the mount responds, the kernel and libfuse would replace this width by a smaller one
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
