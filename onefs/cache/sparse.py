"""The disk space of files: giving a part back, and what is counted for them.

What is *counted* for bytes (:func:`disk_size`) depends on their number alone, so that as much is
taken from the count when they go as was added when they came. What a file is seen to take
(:func:`allocated_size`) may be more, and may change by itself.
"""

from __future__ import annotations

import os

from onefs.lowlevel.fallocate import punch_hole

#: bytes that file systems give out at least
_PAGE_BYTES = 4096


def can_punch_holes(descriptor: int) -> bool:
    """Whether the file system gives back a part of a file: NFS before 4.2 does not.

    Tried out behind the end of a file, where nothing is: that needs no space on a full disk.
    """
    return punch_hole(descriptor, disk_size(os.fstat(descriptor).st_size), _PAGE_BYTES)


def disk_size(size: int) -> int:
    """Bytes of disk that are counted for so many bytes at the beginning of a page."""
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def counted_size(path: str | os.PathLike[str]) -> int:
    """Bytes of disk that are counted for a file without holes, 0 when there is none."""
    try:
        return disk_size(os.stat(path, follow_symlinks=False).st_size)
    except FileNotFoundError:
        return 0


def allocated_size(path: str | os.PathLike[str]) -> int:
    """Bytes of disk that a file takes, 0 when there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0
