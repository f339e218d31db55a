"""The kernel's read-ahead of a mount, which is wide for complete files. Only root can set it.

By default, the kernel requests at most 128 KiB at a time from a FUSE daemon. Python code runs for
each request, so a complete file is read with less processor time if each request is three times as
large. For a file that is fetched in parts, this would fetch up to 512 KiB more after each jump.

The width is set in a file in sysfs, for the whole mount. Only root may write this file, so the
mounts of other users keep the default width. The kernel copies the width when a file has been
opened, and keeps it until the file is closed: the daemon sets the width before it answers.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from onefs.errors import reason_of
from onefs.mount.kernel_mounts import find_mount

#: width of the read-ahead of complete files, in KiB
WIDE_KIB = 384

_BDI_FOLDER = Path("/sys/class/bdi")

log = logging.getLogger(__name__)


class KernelReadahead:
    """The width of the kernel's read-ahead of one mount. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: the file that has the width; None if the width cannot or need not be set
        self._setting: Path | None = None
        self._default_kib = self._kib = WIDE_KIB

    def attach(self, mountpoint: str, devices: Path = _BDI_FOLDER) -> bool:
        """Find the setting of a mount, so that :meth:`set_width` can change it.

        Return False if there is no mount, or if the width cannot be read. Call this method only
        when the mount responds.
        """
        # before the mount responds, the kernel and libfuse would replace the width
        mount = find_mount(mountpoint)
        if mount is None:
            return False
        setting = devices / mount.device / "read_ahead_kb"
        try:
            self._default_kib = self._kib = int(setting.read_text())
        except (OSError, ValueError) as error:
            log.debug("the kernel's read-ahead is unknown: %s", reason_of(error))
            return False
        if self._default_kib < WIDE_KIB:
            self._setting = setting
        return True

    def set_width(self, *, in_parts: bool) -> None:
        """Set the width for a file that is being opened.

        ``in_parts`` is True if the file is fetched in parts. If two files are opened at the same
        moment, one of them may get the width of the other.
        """
        kib = self._default_kib if in_parts else WIDE_KIB
        if self._setting is None or kib == self._kib:  # most files, without the lock
            return
        with self._lock:
            if self._setting is None or kib == self._kib:
                return
            try:
                self._setting.write_text(str(kib))
                self._kib = kib
            except OSError as error:
                log.debug("the kernel's read-ahead cannot be set: %s", reason_of(error))
                self._setting = None
