"""Noticing a walk: who lists one session after the other will want the next ones too."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from threading import Lock

from cachetools import LRUCache

from onefs.alyx.client import MAX_IDS_PER_REQUEST
from onefs.alyx.pagination import PAGE_ROWS
from onefs.model import Session

#: seconds after which the next unknown session is no longer part of the same walk
WALK_TIMEOUT_SECONDS = 30.0
#: sessions asked for with the first and the second unknown one; later as many as fit in a page
FIRST_BATCH_SIZES = (1, 5)
#: unknown subjects after which the whole lab's sessions are asked for
LAB_WALK_SUBJECTS = 3
#: seconds for which a server that does not answer batches is asked one by one
BATCH_SUSPENSION_SECONDS = 600.0
#: sessions whose number of datasets is remembered, for each lab
_SAMPLE_SESSIONS = 30
_MAX_LABS = 256


@dataclass(slots=True)
class _LabWalk:
    """What was asked for in one lab, lately."""

    last_miss_at: float = float("-inf")
    sessions: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    missed_subjects: set[str] = field(default_factory=set)
    suspended_until: float = float("-inf")
    dataset_counts: deque[int] = field(default_factory=lambda: deque(maxlen=_SAMPLE_SESSIONS))


@dataclass(frozen=True, slots=True)
class Lookahead:
    """How far ahead to ask."""

    session_count: int
    #: also those of the lab's other subjects
    across_subjects: bool


class WalkDetector:
    """The walks under way. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._walks: LRUCache[str, _LabWalk] = LRUCache(_MAX_LABS)

    def note_session_miss(self, session: Session) -> Lookahead:
        """A session's datasets are asked for and not known: how many to ask for with them."""
        with self._lock:
            walk = self._current_walk(session.lab)
            if session.eid in walk.sessions or self._clock() < walk.suspended_until:
                return Lookahead(1, False)
            walk.sessions.add(session.eid)
            walk.subjects.add(session.subject)
            room = _sessions_per_page(walk.dataset_counts)
            if len(walk.sessions) <= len(FIRST_BATCH_SIZES):
                room = min(room, FIRST_BATCH_SIZES[len(walk.sessions) - 1])
            return Lookahead(room, len(walk.subjects) > 1)

    def note_subject_miss(self, lab: str, subject: str) -> bool:
        """A subject's sessions are asked for and not known: whether to ask for the lab's."""
        with self._lock:
            walk = self._current_walk(lab)
            walk.missed_subjects.add(subject)
            return (
                len(walk.missed_subjects) >= LAB_WALK_SUBJECTS
                and self._clock() >= walk.suspended_until
            )

    def sessions_per_page(self, lab: str) -> int:
        """How many sessions' datasets fit in a page."""
        with self._lock:
            walk = self._walk_of(lab)
            return (
                _sessions_per_page(walk.dataset_counts)
                if self._clock() >= walk.suspended_until
                else 1
            )

    def note_dataset_count(self, lab: str, datasets: int) -> None:
        """A session of ``lab`` has so many datasets."""
        with self._lock:
            self._walk_of(lab).dataset_counts.append(datasets)

    def suspend_batches(self, lab: str) -> None:
        """A batch has failed although the server answers: ask one by one for a while."""
        with self._lock:
            self._walk_of(lab).suspended_until = self._clock() + BATCH_SUSPENSION_SECONDS

    def _current_walk(self, lab: str) -> _LabWalk:
        """The walk in a lab, which goes on now; it begins anew after a pause."""
        walk, now = self._walk_of(lab), self._clock()
        if now - walk.last_miss_at > WALK_TIMEOUT_SECONDS:
            walk.sessions.clear()
            walk.subjects.clear()
            walk.missed_subjects.clear()
        walk.last_miss_at = now
        return walk

    def _walk_of(self, lab: str) -> _LabWalk:
        walk: _LabWalk | None = self._walks.get(lab)
        if walk is None:
            walk = self._walks[lab] = _LabWalk()
        return walk


def _sessions_per_page(sizes: deque[int]) -> int:
    """How many sessions fill one page, by those seen: their mean, and two deviations of the sum.

    Solves ``n * mean + 2 * deviation * sqrt(n) = PAGE`` for n.
    """
    if not sizes:
        return 1
    mean, deviation = max(fmean(sizes), 1.0), pstdev(sizes)
    root = (math.sqrt(deviation**2 + mean * PAGE_ROWS) - deviation) / mean
    return max(1, min(MAX_IDS_PER_REQUEST, math.floor(root**2 + 1e-6)))
