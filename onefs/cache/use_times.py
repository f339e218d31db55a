"""Times of last use, for eviction in LRU order: the mtime of a dataset's record or block map.

Hosts that share a cache folder see the same times, and no other file is written for them.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

#: how old the noted time of last use may be when a file is used: opening a file seldom writes
LAST_USE_PRECISION_SECONDS = 3600.0


def note_use(path: str | os.PathLike[str], precision: float) -> None:
    """Set the mtime of a file to now, unless it is at most ``precision`` seconds away from now.

    Nothing is noted where that is impossible: the file is missing, or belongs to another user.
    """
    with suppress(OSError):
        if abs(time.time() - os.stat(path).st_mtime) > precision:
            os.utime(path)  # without a time, other members of the folder's group may do it too


def last_used_times(folder: str | os.PathLike[str]) -> dict[str, float]:
    """When each file was last used, in seconds since the epoch, by dataset id."""
    times = {}
    with os.scandir(folder) as items:
        for item in items:
            if item.name.endswith(".json") and not item.name.startswith("."):
                with suppress(FileNotFoundError):
                    times[item.name.removesuffix(".json")] = item.stat().st_mtime
    return times
