"""Sparse files: their disk space, and what is counted for it.

The size that is *counted* for a file (:func:`disk_size`) depends on its number of bytes alone, so
that as much is subtracted when it is removed as was added when it was written. The space that the
file system has allocated (:func:`allocated_size`) may be larger, and may change by itself.
"""

from __future__ import annotations

import os

from onefs.lowlevel.fallocate import punch_hole

#: smallest unit of disk space, in bytes
_PAGE_BYTES = 4096


def can_punch_holes(descriptor: int) -> bool:
    """Whether the file system can free a part of a file: NFS before 4.2 cannot.

    This is tried after the end of a file, which needs no space on a full disk. Raises OSError.
    """
    return punch_hole(descriptor, disk_size(os.fstat(descriptor).st_size), _PAGE_BYTES)


def disk_size(size: int) -> int:
    """Bytes of disk that are counted for ``size`` bytes from the beginning of a page on."""
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def counted_size(path: str | os.PathLike[str]) -> int:
    """Bytes of disk that are counted for a file without holes; 0 if there is none."""
    try:
        return disk_size(os.stat(path, follow_symlinks=False).st_size)
    except FileNotFoundError:
        return 0


def allocated_size(path: str | os.PathLike[str]) -> int:
    """Bytes of disk that are allocated for a file; 0 if there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0
