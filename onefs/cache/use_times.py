"""Times of last use, for eviction of the least recently used files.

The time is the mtime of a complete file's record, or of a partial file's header file. So hosts that
share a cache folder see the same times, and no other file is written.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

#: when a file is used, its time of last use is written only if the recorded time is older than this
#: (seconds), so that opening a file seldom writes to the disk
LAST_USE_PRECISION_SECONDS = 3600.0
#: the time of last use of a file that was fetched ahead and never used. A record gets it before its
#: rename, and no process writes to such a record, so that no use is ever overwritten
NEVER_USED = 0.0


def note_use(path: str | os.PathLike[str], precision: float) -> bool:
    """Set the mtime of a file to now, if it differs by more than ``precision`` seconds.

    Return True if the file was never used before. Do nothing if the file is missing or may not be
    changed.
    """
    with suppress(OSError):
        former = os.stat(path).st_mtime
        if abs(time.time() - former) > precision:
            os.utime(path)  # no time is given, so that the folder's group may do this too
            return former == NEVER_USED
    return False


def last_use(path: str | os.PathLike[str]) -> float:
    """Return when a dataset was last used, in seconds since the epoch; NEVER_USED if never.

    ``path`` is the path of the dataset's record, or of the header file of its partial file. Raises
    OSError.
    """
    return os.stat(path).st_mtime
