"""Listings that ``onefs refresh`` has marked as invalid, so that mounts request them again."""

from __future__ import annotations

import time
from threading import Lock

from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.errors import CacheError

#: the folders from the lab down to where a listing appears in the tree; () for the list of labs
TreePath = tuple[str, ...]

#: seconds between two reads of the invalidations of other processes
RELOAD_INTERVAL_SECONDS = 0.5
#: depth of a subject in the tree: the subject's one listing contains the folders of dates and
#: numbers
_SUBJECT_DEPTH = 2


class Invalidations:
    """When each path in the tree was last invalidated (is to be requested again). Thread-safe.

    Invalidations by other processes are seen within 0.5 seconds.
    """

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database
        self._lock = Lock()
        self._loaded_at = float("-inf")
        self._version = -1
        self._times: dict[TreePath, float] = {}
        #: grows each time that paths were invalidated, by this process or by another one
        self.changes = 0

    @property
    def checked_until(self) -> float:
        """When the invalidations of other processes are read again (``time.monotonic``)."""
        return self._loaded_at + RELOAD_INTERVAL_SECONDS

    def time_of(self, scope: TreePath | None) -> float:
        """Return when the listing at ``scope`` was last invalidated, in seconds since the epoch.

        ``scope`` is the listing's path in the tree. None means a listing without a path; each
        invalidation applies to it. Return 0 if the listing was never invalidated.
        """
        if time.monotonic() - self._loaded_at > RELOAD_INTERVAL_SECONDS:
            self.reload()
        times = self._times.items()
        return max((at for path, at in times if _covers(path, scope)), default=0.0)

    def invalidate(self, path: TreePath, now: float) -> None:
        """Invalidate the listings at and below ``path``, or all listings if ``path`` is ().

        ``now`` is the time in seconds since the epoch.
        """
        self._database.invalidate(path, now)
        with self._lock:
            self._times = self._database.invalidations()
            self.changes += 1

    def reload(self) -> None:
        """Read the invalidations that other processes have written."""
        with self._lock:
            self._loaded_at = time.monotonic()
            try:
                version = self._database.data_version()
                if version != self._version:
                    self._times = self._database.invalidations()
                    self._version = version
                    self.changes += 1
            except CacheError:  # the file is locked or damaged: the known invalidations stay
                return


def _covers(path: TreePath, scope: TreePath | None) -> bool:
    """Whether an invalidation of ``path`` applies to the listing at ``scope``."""
    # a listing without a path, or at or below ``path``
    if scope is None or scope[: len(path)] == path:
        return True
    # the listing in which ``path`` itself appears: a lab in the list of labs, a subject in the list
    # of its lab's subjects, a date or number in the list of its subject's sessions
    return path[: min(len(path) - 1, _SUBJECT_DEPTH)] == scope
