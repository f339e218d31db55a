"""The folders of the cache into which files are moved: checked for symbolic links, and kept open.

Many files go into one folder, one after the other. Each check of a folder takes a system call for
each of its parents, so the folder is checked and opened once a second. Files are moved into the
open folder, so that no symbolic link that is put there later is followed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

#: seconds for which an open folder is used, and the most open folders
_TTL_SECONDS = 1.0
_MAX_FOLDERS = 16


class _OpenFolder:
    """An open folder. It is closed when nobody refers to it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.used_until = time.monotonic() + _TTL_SECONDS

    def __del__(self) -> None:
        if "descriptor" in self.__dict__:
            os.close(self.descriptor)


class TargetFolders:
    """Moves files into the folders of the cache folder ``root``. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = Lock()
        self._folders: dict[str, _OpenFolder] = {}

    def move(self, source: Path, final: Path, before: os.stat_result) -> os.stat_result | None:
        """Move a file into the folder of ``final`` if the folder is open. Return its new status.

        ``before`` is the status of the file. Return None if the folder is not open, or is not at
        its path any more. The file is then where it was. Raises OSError.
        """
        path, name = os.path.split(final)
        folder = self._folders.get(path)
        if folder is None or folder.used_until < time.monotonic():
            return None
        try:
            os.replace(source, name, dst_dir_fd=folder.descriptor)
        except OSError:  # the folder was removed, or another disk is mounted at its path
            self._folders.pop(path, None)
            return None
        try:
            status = os.lstat(final)
            if (status.st_dev, status.st_ino) == (before.st_dev, before.st_ino):
                return status
        except OSError:
            pass
        self._folders.pop(path, None)
        os.replace(name, source, src_dir_fd=folder.descriptor)
        return None

    def keep_open(self, folder: Path) -> None:
        """Keep a folder open, unless a symbolic link leads to it."""
        name = os.fspath(folder)
        known = self._folders.get(name)
        if known is not None and known.used_until > time.monotonic():
            return
        with suppress(OSError):
            fresh = _OpenFolder(name)
            # where the open folder is now, whatever has happened to its path since it was checked
            real = os.readlink(f"/proc/self/fd/{fresh.descriptor}")
            if real != os.path.realpath(self._root) + name.removeprefix(os.fspath(self._root)):
                return
            with self._lock:
                if len(self._folders) >= _MAX_FOLDERS:
                    self._folders.clear()
                self._folders[name] = fresh
