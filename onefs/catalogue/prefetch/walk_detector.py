"""Walk detector: finds out that a program lists one session after another.

Such a program will probably list the next sessions too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from onefs.alyx.client import MAX_IDS_PER_REQUEST
from onefs.alyx.pagination import PAGE_ROWS
from onefs.model import Session

#: seconds without a miss after which the next miss begins a new walk; a miss is the use of a
#: listing that is not stored
WALK_TIMEOUT_SECONDS = 30.0
#: number of sessions requested at the first and at the second miss; at later misses, as many
#: sessions are requested as fit in a page
FIRST_BATCH_SIZES = (1, 5)
#: number of subjects with a miss after which the sessions of the whole lab are requested
LAB_WALK_SUBJECTS = 3
#: seconds without batches after the server has failed to answer a batch
BATCH_SUSPENSION_SECONDS = 600.0
#: number of sessions per lab whose number of datasets is remembered
_SAMPLE_SESSIONS = 30
_MAX_LABS = 256


@dataclass(slots=True)
class _LabWalk:
    """The recent misses in one lab, and how many datasets the lab's sessions have.

    A miss is the use of a listing that is not stored.
    """

    last_miss_at: float = float("-inf")
    sessions: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    missed_subjects: set[str] = field(default_factory=set)
    suspended_until: float = float("-inf")
    dataset_counts: deque[int] = field(default_factory=lambda: deque(maxlen=_SAMPLE_SESSIONS))


class Lookahead(NamedTuple):
    """Which sessions to request when the datasets of one session are not stored."""

    #: number of sessions to request, including the session that was not stored
    session_count: int
    #: whether to include sessions of the lab's other subjects
    across_subjects: bool


class WalkDetector:
    """Finds programs that are listing one session of a lab after another. Thread-safe.

    At most one such program (a walk) is known for each lab.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._walks: LRUCache[str, _LabWalk] = LRUCache(_MAX_LABS)

    def note_session_miss(self, session: Session) -> Lookahead:
        """Record that a session's datasets are not stored. Return which sessions to request."""
        with self._lock:
            walk = self._current_walk(session.lab)
            if session.eid in walk.sessions or self._clock() < walk.suspended_until:
                return Lookahead(1, False)
            walk.sessions.add(session.eid)
            walk.subjects.add(session.subject)
            count = _sessions_per_page(walk.dataset_counts)
            if len(walk.sessions) <= len(FIRST_BATCH_SIZES):
                count = min(count, FIRST_BATCH_SIZES[len(walk.sessions) - 1])
            return Lookahead(count, len(walk.subjects) > 1)

    def note_subject_miss(self, lab: str, subject: str) -> bool:
        """Record that a subject's sessions are not stored.

        Return True if the sessions of the whole lab are to be requested.
        """
        with self._lock:
            walk = self._current_walk(lab)
            walk.missed_subjects.add(subject)
            return (
                len(walk.missed_subjects) >= LAB_WALK_SUBJECTS
                and self._clock() >= walk.suspended_until
            )

    def note_progress(self, lab: str) -> None:
        """Record that a program still lists the sessions of the lab, although there is no miss."""
        with self._lock:
            self._current_walk(lab)

    def sessions_per_page(self, lab: str) -> int:
        """Return how many sessions of a lab to put into one request: as many as fit in a page.

        Return 1 while batches are suspended.
        """
        with self._lock:
            walk = self._walk_of(lab)
            if self._clock() < walk.suspended_until:
                return 1
            return _sessions_per_page(walk.dataset_counts)

    def note_dataset_count(self, lab: str, datasets: int) -> None:
        """Record the number of datasets of one session of ``lab``."""
        with self._lock:
            self._walk_of(lab).dataset_counts.append(datasets)

    def suspend_batches(self, lab: str) -> None:
        """Request the sessions of a lab one by one for :data:`BATCH_SUSPENSION_SECONDS`."""
        with self._lock:
            self._walk_of(lab).suspended_until = self._clock() + BATCH_SUSPENSION_SECONDS

    def _current_walk(self, lab: str) -> _LabWalk:
        """Return the record of what was listed in the lab, and set its last use to now.

        A record that was not used for 30 seconds is emptied first.
        """
        walk, now = self._walk_of(lab), self._clock()
        if now - walk.last_miss_at > WALK_TIMEOUT_SECONDS:
            walk.sessions.clear()
            walk.subjects.clear()
            walk.missed_subjects.clear()
        walk.last_miss_at = now
        return walk

    def _walk_of(self, lab: str) -> _LabWalk:
        walk: _LabWalk = self._walks.setdefault(lab, _LabWalk())
        return walk


def _sessions_per_page(sizes: deque[int]) -> int:
    """Return how many sessions fill one page. ``sizes`` are numbers of datasets per session."""
    if not sizes:
        return 1
    # the largest n for which the expected sum of n sizes plus two standard deviations fits in a
    # page; it solves n * mean + 2 * deviation * sqrt(n) = PAGE_ROWS
    # not with the library statistics, which takes as long to load as a small command
    mean = sum(sizes) / len(sizes)
    deviation = math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
    mean = max(mean, 1.0)
    root = (math.sqrt(deviation**2 + mean * PAGE_ROWS) - deviation) / mean
    return max(1, min(MAX_IDS_PER_REQUEST, math.floor(root**2 + 1e-6)))
