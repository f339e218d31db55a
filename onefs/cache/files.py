"""What is done to whole files of the cache folder. Raises OSError unless something else is said."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onefs.errors import CacheError, CacheFull, OnefsError, reason_of
from onefs.integers import parse_whole_number
from onefs.lowlevel.files import make_folder
from onefs.lowlevel.pids import is_abandoned, pid_namespace_id

log = logging.getLogger(__name__)


@contextmanager
def disk_errors(root: Path, name: str = "the cache folder") -> Iterator[None]:
    """Turn an OSError into CacheFull or CacheError, with the folder's name in the message."""
    try:
        yield
    except OnefsError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheFull(f"the disk of {name} {root} is full") from error
        raise CacheError(f"{name} {root} cannot be used: {reason_of(error, root)}") from error


def stamp_of(found: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file is replaced or written to: its inode, size and mtime."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def identity_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is replaced, written to with its mtime put back, linked or moved."""
    return *stamp_of(found), found.st_ctime_ns


def remove_folder(folder: Path) -> None:
    """Remove a folder of files, if that is possible."""
    for path in folder.iterdir():
        remove_if_possible(path)
    with suppress(OSError):
        folder.rmdir()


def sync_file(path: Path) -> None:
    """Have the bytes of a file on the disk for good."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def remove_if_possible(path: Path) -> None:
    """Remove a file of ours that may not be there."""
    with suppress(OSError):
        path.unlink()


def make_process_folder(shared: Path) -> Path:
    """A folder for partial files in ``shared``, where a file system has no byte-range locks.

    Those that dead processes of this host have left are removed, and what is long unused.
    """
    log.warning(
        "%s: this file system has no byte-range locks, so that files that are being fetched "
        "are not shared between processes; complete ones are",
        shared,
    )
    for old in shared.glob("*-*"):
        # names began with the host before: another container may have the same
        space, _, pid = old.name.rpartition("-")
        if parse_whole_number(pid) is not None and old.is_dir() and is_abandoned(old, pid, space):
            remove_folder(old)
    own = shared / f"{pid_namespace_id()}-{os.getpid()}"
    make_folder(own, shared)
    return own
