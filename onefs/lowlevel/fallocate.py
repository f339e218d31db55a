"""Holes in files, made by Linux's ``fallocate`` (man 2 fallocate)."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import lru_cache

# linux/falloc.h
_KEEP_SIZE = 1
_PUNCH_HOLE = 2


def punch_hole(descriptor: int, offset: int, length: int) -> bool:
    """Free the disk space of these bytes, which then read as zeros; the file's size stays.

    Returns False where the file system or the system cannot do that. Raises OSError for any other
    failure.
    """
    fallocate = _fallocate()
    if fallocate is None:
        return False
    if fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))


@lru_cache(maxsize=1)
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function
