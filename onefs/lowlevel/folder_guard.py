"""Find out why a folder is missing: it was deleted, or the disk of the folder was unmounted.

A deleted folder may be created again. A folder whose disk was unmounted must not be created again,
because its files would fill the disk of the mount point.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from onefs.errors import CacheError

log = logging.getLogger(__name__)


class FolderGuard:
    """Remembers a folder, and checks later whether its path leads to the same folder.

    ``description`` names the folder in messages, like "the cache folder". The constructor raises
    OSError if the folder does not exist.
    """

    def __init__(self, folder: Path, description: str) -> None:
        self._descriptor = -1
        self._folder = folder
        self._description = description
        #: one sentence for ``onefs status`` if the folder was deleted or its disk was unmounted; ''
        #: if neither has happened
        self.status_message = ""
        self._is_disk_missing = False
        self._record_identity()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor of the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def is_same_folder(self) -> bool:
        """Whether the path leads to the folder that this object remembers. Raises OSError."""
        status = _stat_or_none(self._folder)
        same = status is not None and (status.st_dev, status.st_ino) == self._identity
        if same and self._is_disk_missing:
            # the disk was unmounted before: log that the folder is used again
            self.note_available_again(recreated=False)
        return same

    def check_available(self) -> None:
        """Raise CacheError if the disk of the folder is not mounted."""
        at, status = self._folder, _stat_or_none(self._folder)
        # if the folder is missing, its nearest parent must be on the same disk
        while status is None:
            at = at.parent
            status = _stat_or_none(at)
        device, inode = self._identity
        # NFS, btrfs and some other file systems get a new device number at each mount
        if status.st_dev != device and (at != self._folder or status.st_ino != inode):
            self._report(
                f"the disk of {self._description} {self._folder} is not mounted: onefs uses the "
                "folder again as soon as the disk is mounted"
            )
            self._is_disk_missing = True
            raise CacheError(self.status_message)

    def note_available_again(self, *, recreated: bool) -> None:
        """Remember the folder that is at the path now, and log that it is used again.

        ``recreated`` is True if the folder was deleted and created again. Raises OSError.
        """
        self._record_identity()
        self._is_disk_missing = False
        if recreated:
            at = time.strftime("%Y-%m-%d %H:%M:%S")
            status = f"was deleted, and created again at {at}"
        else:
            status = "is available again"
        self._report(f"{self._description} {self._folder} {status}")

    def _record_identity(self) -> None:
        descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.close()
        self._descriptor = descriptor  # while this is open, no other folder gets the inode
        status = os.fstat(descriptor)
        self._identity = status.st_dev, status.st_ino

    def _report(self, sentence: str) -> None:
        if sentence != self.status_message:
            log.warning("%s", sentence)
        self.status_message = sentence


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
