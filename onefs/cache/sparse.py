"""Sparse files: the disk space of files, and the size that is counted for each file.

The size that is *counted* for a file (:func:`disk_size`) depends only on the file's number of
bytes. So the same size is added when a file is written and subtracted when the file is removed. The
space that the file system has allocated (:func:`allocated_size`) may be larger, and the file system
may change this space.
"""

from __future__ import annotations

import os

from onefs.lowlevel.fallocate import punch_hole

#: smallest unit of disk space, in bytes
_PAGE_BYTES = 4096


def can_punch_holes(descriptor: int) -> bool:
    """Whether the file system can free a part of a file. NFS before version 4.2 cannot.

    Raises OSError.
    """
    # a hole after the end of the file needs no space on a full disk
    return punch_hole(descriptor, disk_size(os.fstat(descriptor).st_size), _PAGE_BYTES)


def disk_size(size: int) -> int:
    """Return the bytes of disk that are counted for ``size`` bytes.

    This is ``size``, rounded up to whole pages of 4096 bytes.
    """
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def counted_size(path: str | os.PathLike[str]) -> int:
    """Return the bytes of disk that are counted for a file without holes.

    Return 0 if the file does not exist.
    """
    try:
        return disk_size(os.stat(path, follow_symlinks=False).st_size)
    except FileNotFoundError:
        return 0


def allocated_size(path: str | os.PathLike[str]) -> int:
    """Return the bytes of disk that are allocated for a file.

    Return 0 if the file does not exist.
    """
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0
