"""Invalidations of listings: written by ``onefs refresh``, read by running mounts."""

from __future__ import annotations

import time
from threading import Lock

from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.errors import CacheError

#: folders from the lab on, where a listing appears in the tree; () for the list of labs
TreePath = tuple[str, ...]

#: seconds between two reads of the invalidations of other processes
RELOAD_INTERVAL_SECONDS = 0.5
#: depth of a subject, whose one listing contains the folders of dates and numbers
_SUBJECT_DEPTH = 2


class Invalidations:
    """The time of the last invalidation of each part of the tree. Thread-safe; reads are cheap."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database
        self._lock = Lock()
        self._loaded_at = float("-inf")
        self._version = -1
        self._times: dict[TreePath, float] = {}

    def time_of(self, scope: TreePath | None) -> float:
        """When the listing at ``scope`` was last invalidated, in seconds since the epoch; or 0.

        None is the scope of a listing without a path in the tree, which each invalidation covers.
        """
        if time.monotonic() - self._loaded_at > RELOAD_INTERVAL_SECONDS:
            self.reload()
        times = self._times.items()
        return max((at for path, at in times if _covers(path, scope)), default=0.0)

    def invalidate(self, path: TreePath, now: float) -> None:
        """Invalidate the listings at and below ``path``, () for all; ``now`` in epoch seconds."""
        self._database.invalidate(path, now)
        with self._lock:
            self._times = self._database.invalidations()

    def reload(self) -> None:
        """Read the invalidations that other processes have written."""
        with self._lock:
            self._loaded_at = time.monotonic()
            try:
                version = self._database.data_version()
                if version != self._version:
                    self._times = self._database.invalidations()
                    self._version = version
            except CacheError:  # locked, or damaged: the known invalidations stay
                return


def _covers(path: TreePath, scope: TreePath | None) -> bool:
    """Whether an invalidation of ``path`` covers the listing at ``scope``.

    It covers all listings below, and the one that contains the path itself: the labs, a lab's
    subjects, or, for the folders of dates and numbers, a subject's sessions.
    """
    if scope is None or scope[: len(path)] == path:
        return True
    return path[: min(len(path) - 1, _SUBJECT_DEPTH)] == scope
