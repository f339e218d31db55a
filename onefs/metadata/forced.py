"""What the user wants to be asked anew: written by ``onefs refresh``, read by running mounts."""

from __future__ import annotations

import time
from threading import Lock

from onefs.errors import CacheError
from onefs.metadata.database import Database

#: folders from the lab on: where a listing stands in the tree, () for the labs themselves
Scope = tuple[str, ...]

#: seconds between two looks at what other processes have written
LOOK = 0.5
#: depth of a subject, whose one listing makes the folders of dates and numbers
_SUBJECT = 2


class Forced:
    """When each part of the tree was last wanted anew. Thread-safe, and cheap to ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._looked = float("-inf")
        self._version = -1
        self._marks: dict[Scope, float] = {}

    def at(self, scope: Scope | None) -> float:
        """When the listing at ``scope`` was last wanted anew, in seconds since the epoch; or 0.

        None stands for a listing without a place in the tree, which every wish is for.
        """
        if time.monotonic() - self._looked > LOOK:
            self.look()
        marks = self._marks
        if not marks:
            return 0.0
        return max((at for path, at in marks.items() if _concerns(path, scope)), default=0.0)

    def mark(self, path: Scope, now: float) -> None:
        """Want everything at and below ``path`` anew, () for all."""
        self._database.force(path, now)
        with self._lock:
            self._marks = self._database.forced()

    def look(self) -> None:
        """Read what other processes have written until now."""
        with self._lock:
            self._looked = time.monotonic()
            try:
                version = self._database.version()
                if version != self._version:
                    self._marks = self._database.forced()
                    self._version = version
            except CacheError:  # locked, or damaged: what was wanted before still is
                return


def _concerns(path: Scope, scope: Scope | None) -> bool:
    """Whether wanting ``path`` anew is wanting the listing at ``scope`` anew.

    It is for all below, and for the listing that the path itself is in: the labs, a lab's
    subjects, or, for the folders of dates and numbers, a subject's sessions.
    """
    if scope is None or scope[: len(path)] == path:
        return True
    return path[: min(len(path) - 1, _SUBJECT)] == scope
