"""Times of last use, for eviction of the least recently used files.

The time is the mtime of a complete file's record, or of a partial file's header file. So hosts that
share a cache folder see the same times, and no other file is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: when a file is used, its time of last use is written only if the recorded time is older than this
#: (seconds), so that opening a file seldom writes to the disk
LAST_USE_PRECISION_SECONDS = 3600.0


def note_use(path: str | os.PathLike[str], precision: float) -> None:
    """Set the mtime of a file to now, if it differs by more than ``precision`` seconds.

    Do nothing if the file is missing or may not be changed.
    """
    with suppress(OSError):
        if abs(time.time() - os.stat(path).st_mtime) > precision:
            os.utime(path)  # no time is given, so that the folder's group may do this too


def note_unused(path: str | os.PathLike[str]) -> None:
    """Set the mtime of a file to 0, the time of a file that was never used.

    Do nothing if the file is missing or may not be changed.
    """
    with suppress(OSError):
        os.utime(path, (0, 0))


@contextmanager
def keep_unused(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep the time 0 of a file that was never used, although the ``with`` block writes to it."""
    is_unused = False
    with suppress(OSError):
        is_unused = last_use(path) == 0
    yield
    if is_unused:
        note_unused(path)


def last_use(path: str | os.PathLike[str]) -> float:
    """Return when a dataset was last used, in seconds since the epoch. 0 means never.

    ``path`` is the path of the dataset's record, or of the header file of its partial file. Raises
    OSError.
    """
    return os.stat(path).st_mtime
