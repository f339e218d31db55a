"""Noticing a walk: who lists one session after the other will want the next ones too."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from threading import Lock

from cachetools import LRUCache

from onefs.metadata.alyx import MOST_IDS
from onefs.metadata.pages import PAGE
from onefs.model import Session

#: seconds after which the next unknown session is no longer part of the same walk
PAUSE = 30.0
#: sessions asked for with the first and the second unknown one; later as many as fit in a page
FIRST_STEPS = (1, 5)
#: unknown subjects after which the whole lab's sessions are asked for
SUBJECTS = 3
#: seconds for which a server that does not answer batches is asked one by one
REST = 600.0
#: sessions whose number of datasets is remembered, for each lab
_SAMPLES = 30
_LABS = 256


@dataclass(slots=True)
class _Walk:
    """What was asked for in one lab, lately."""

    last: float = float("-inf")
    sessions: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    not_before: float = float("-inf")
    sizes: deque[int] = field(default_factory=lambda: deque(maxlen=_SAMPLES))


@dataclass(frozen=True, slots=True)
class Step:
    """How far ahead to ask."""

    sessions: int
    #: also those of the lab's other subjects
    across_subjects: bool


class Walks:
    """The walks under way. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._walks: LRUCache[str, _Walk] = LRUCache(_LABS)

    def unknown_session(self, session: Session) -> Step:
        """A session's datasets are asked for and not known: how many to ask for with them."""
        with self._lock:
            walk = self._continued(session.lab)
            if session.eid in walk.sessions or self._clock() < walk.not_before:
                return Step(1, False)
            walk.sessions.add(session.eid)
            walk.subjects.add(session.subject)
            room = _room(walk.sizes)
            if len(walk.sessions) <= len(FIRST_STEPS):
                room = min(room, FIRST_STEPS[len(walk.sessions) - 1])
            return Step(room, len(walk.subjects) > 1)

    def unknown_subject(self, lab: str, subject: str) -> bool:
        """A subject's sessions are asked for and not known: whether to ask for the lab's."""
        with self._lock:
            walk = self._continued(lab)
            walk.unlisted.add(subject)
            return len(walk.unlisted) >= SUBJECTS and self._clock() >= walk.not_before

    def room(self, lab: str) -> int:
        """How many sessions' datasets fit in a page."""
        with self._lock:
            walk = self._walk(lab)
            return _room(walk.sizes) if self._clock() >= walk.not_before else 1

    def learn(self, lab: str, datasets: int) -> None:
        """A session of ``lab`` has so many datasets."""
        with self._lock:
            self._walk(lab).sizes.append(datasets)

    def refused(self, lab: str) -> None:
        """A batch has failed although the server answers: ask one by one for a while."""
        with self._lock:
            self._walk(lab).not_before = self._clock() + REST

    def _continued(self, lab: str) -> _Walk:
        """The walk in a lab, which goes on now; it begins anew after a pause."""
        walk, now = self._walk(lab), self._clock()
        if now - walk.last > PAUSE:
            walk.sessions.clear()
            walk.subjects.clear()
            walk.unlisted.clear()
        walk.last = now
        return walk

    def _walk(self, lab: str) -> _Walk:
        walk: _Walk | None = self._walks.get(lab)
        if walk is None:
            walk = self._walks[lab] = _Walk()
        return walk


def _room(sizes: deque[int]) -> int:
    """How many sessions fill one page, by those seen: their mean, and two deviations of the sum.

    Solves ``n * mean + 2 * deviation * sqrt(n) = PAGE`` for n.
    """
    if not sizes:
        return 1
    mean, deviation = max(fmean(sizes), 1.0), pstdev(sizes)
    root = (math.sqrt(deviation**2 + mean * PAGE) - deviation) / mean
    return max(1, min(MOST_IDS, math.floor(root**2 + 1e-6)))
