"""What the user wants to be asked anew: written by ``onefs refresh``, read by running mounts."""

from __future__ import annotations

import time
from threading import Lock

from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.errors import CacheError

#: folders from the lab on: where a listing stands in the tree, () for the labs themselves
TreePath = tuple[str, ...]

#: seconds between two looks at what other processes have written
RELOAD_INTERVAL_SECONDS = 0.5
#: depth of a subject, whose one listing makes the folders of dates and numbers
_SUBJECT_DEPTH = 2


class Invalidations:
    """When each part of the tree was last wanted anew. Thread-safe, and cheap to ask."""

    def __init__(self, database: CatalogueDatabase) -> None:
        self._database = database
        self._lock = Lock()
        self._loaded_at = float("-inf")
        self._version = -1
        self._times: dict[TreePath, float] = {}

    def time_of(self, scope: TreePath | None) -> float:
        """When the listing at ``scope`` was last wanted anew, in seconds since the epoch; or 0.

        None stands for a listing without a place in the tree, which every wish is for.
        """
        if time.monotonic() - self._loaded_at > RELOAD_INTERVAL_SECONDS:
            self.reload()
        marks = self._times
        if not marks:
            return 0.0
        return max((at for path, at in marks.items() if _covers(path, scope)), default=0.0)

    def invalidate(self, path: TreePath, now: float) -> None:
        """Want everything at and below ``path`` anew, () for all."""
        self._database.invalidate(path, now)
        with self._lock:
            self._times = self._database.invalidations()

    def reload(self) -> None:
        """Read what other processes have written until now."""
        with self._lock:
            self._loaded_at = time.monotonic()
            try:
                version = self._database.data_version()
                if version != self._version:
                    self._times = self._database.invalidations()
                    self._version = version
            except CacheError:  # locked, or damaged: what was wanted before still is
                return


def _covers(path: TreePath, scope: TreePath | None) -> bool:
    """Whether wanting ``path`` anew is wanting the listing at ``scope`` anew.

    It is for all below, and for the listing that the path itself is in: the labs, a lab's
    subjects, or, for the folders of dates and numbers, a subject's sessions.
    """
    if scope is None or scope[: len(path)] == path:
        return True
    return path[: min(len(path) - 1, _SUBJECT_DEPTH)] == scope
