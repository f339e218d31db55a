"""Where a folder of ours lies, and whether it may be made anew when it is gone.

A folder that was deleted is made again. Where its disk was unmounted it is not: its files would
fill the disk that its mount point lies on.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from onefs.errors import CacheError

log = logging.getLogger(__name__)


class FolderGuard:
    """One folder, as it was when it was first used. ``what`` names it: "the cache folder".

    Raises OSError when the folder is not there yet.
    """

    def __init__(self, folder: Path, description: str) -> None:
        self._descriptor = -1
        self._folder = folder
        self._description = description
        #: one sentence on what became of it, for ``onefs status``; '' while all is as it was
        self.status_message = ""
        self._is_disk_missing = False
        self._record_identity()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def is_same_folder(self) -> bool:
        """Whether it is the very folder of before. Raises OSError."""
        found = _stat_or_none(self._folder)
        same = found is not None and (found.st_dev, found.st_ino) == self._identity
        if same and self._is_disk_missing:
            self.note_available_again(recreated=False)
        return same

    def check_available(self) -> None:
        """Raise CacheError unless it lies on the disk of before, or may be made anew there."""
        at, found = self._folder, _stat_or_none(self._folder)
        while found is None:
            at = at.parent
            found = _stat_or_none(at)
        device, inode = self._identity
        # some file systems get another number whenever they are mounted, as NFS and btrfs do
        if found.st_dev != device and (at != self._folder or found.st_ino != inode):
            self._report(
                f"{self._description} {self._folder} is gone with its disk: it is used again as "
                "soon as "
                "the disk is mounted"
            )
            self._is_disk_missing = True
            raise CacheError(self.status_message)

    def note_available_again(self, *, recreated: bool) -> None:
        """Note that it is in use again: ``made`` anew, or as it was."""
        self._record_identity()
        self._is_disk_missing = False
        if recreated:
            at = time.strftime("%Y-%m-%d %H:%M:%S")
            self._report(f"{self._description} {self._folder} was deleted, and made anew at {at}")
        else:
            self._report(f"{self._description} {self._folder} is back")

    def _record_identity(self) -> None:
        held = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.close()
        self._descriptor = held  # or a new folder might get its inode
        found = os.fstat(held)
        self._identity = found.st_dev, found.st_ino

    def _report(self, sentence: str) -> None:
        if sentence != self.status_message:
            log.warning("%s", sentence)
        self.status_message = sentence


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
