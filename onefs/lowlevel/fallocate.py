"""Freeing of disk space inside files, with Linux's ``fallocate`` (man 2 fallocate)."""

from __future__ import annotations

import ctypes
import errno
import os

# linux/falloc.h
_KEEP_SIZE = 1
_PUNCH_HOLE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def punch_hole(descriptor: int, offset: int, length: int) -> bool:
    """Free the disk space of ``length`` bytes at ``offset``. The bytes then read as zeros.

    The size of the file does not change. Returns False if the file system or the operating system
    cannot do this. Raises OSError for any other failure.
    """
    if not hasattr(_libc, "fallocate"):  # not Linux
        return False
    place = ctypes.c_int64(offset), ctypes.c_int64(length)
    if _libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, *place) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))
