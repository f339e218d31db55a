"""Giving back the disk space of a part of a file: ``fallocate(2)`` with FALLOC_FL_PUNCH_HOLE."""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE = 1
_PUNCH_HOLE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch(descriptor: int, offset: int, length: int) -> bool:
    """Make these bytes a hole that reads as zeros; False where the file system cannot.

    Raises OSError for anything else that goes wrong.
    """
    if _libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))


def allocated(path: str | os.PathLike[str]) -> int:
    """Bytes of disk that a file takes, 0 when there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0
