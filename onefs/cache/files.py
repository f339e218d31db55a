"""Helpers for files in the cache folder.

The helpers raise OSError. If a helper raises another error, or no error, its docstring says so.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from onefs.errors import CacheError, CacheFull, OnefsError, reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.files import make_folder
from onefs.lowlevel.pids import is_abandoned, pid_namespace_id

log = logging.getLogger(__name__)


class disk_errors:
    """Replace an OSError in the ``with`` block by CacheFull (the disk is full) or CacheError.

    The message contains ``name`` and the path ``root``.
    """

    # a class, because a generator takes three times as long, and each download enters several

    def __init__(self, root: Path, name: str = "the cache folder") -> None:
        self._root, self._name = root, name

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OnefsError) or not isinstance(error, OSError):
            return  # some OnefsErrors are OSErrors too
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheFull(f"the disk of {self._name} {self._root} is full") from error
        why = reason_of(error, self._root)
        raise CacheError(f"{self._name} {self._root} cannot be used: {why}") from error


def stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    """Return the inode, size and mtime (ns) of a file.

    At least one of these changes when the file is replaced or written to.
    """
    return status.st_ino, status.st_size, status.st_mtime_ns


#: inode, size, mtime (ns) and ctime (ns) of a file
FileIdentity = tuple[int, int, int, int]


def identity_of(status: os.stat_result) -> FileIdentity:
    """Return the inode, size, mtime (ns) and ctime (ns) of a file.

    The ctime changes at each write, even if the old mtime is set again. The ctime also changes when
    the file is linked or moved.
    """
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder. Return an empty list if the folder does not exist."""
    try:
        with os.scandir(folder) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_folder(folder: Path) -> None:
    """Remove a folder and the files in the folder, as far as this is possible.

    Raises no error if a removal fails.
    """
    for path in folder.iterdir():
        remove_if_possible(path)
    with suppress(OSError):
        folder.rmdir()


def sync_file(path: Path) -> None:
    """Sync the bytes of a file to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_possible(path: Path) -> None:
    """Remove a file if this is possible. Raises no error."""
    with suppress(OSError):
        path.unlink()


def make_process_folder(shared: Path) -> Path:
    """Make a folder in ``shared`` for the partial files of this process. Return the folder's path.

    Abandoned folders of other processes are removed (see :func:`onefs.lowlevel.pids.is_abandoned`).
    """
    # without locks, processes cannot share partial files
    log.warning(
        "%s: this file system has no byte-range locks, so that processes share only files that are "
        "completely downloaded",
        shared,
    )
    for old in shared.glob("*-*"):
        # former versions used the host's name, which several containers may have in common
        space, _, pid = old.name.rpartition("-")
        if parse_whole_number(pid) is not None and old.is_dir() and is_abandoned(old, pid, space):
            remove_folder(old)
    own = shared / f"{pid_namespace_id()}-{os.getpid()}"
    make_folder(own, shared)
    return own
