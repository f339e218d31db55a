"""Bulk fetch of the datasets of many sessions, for a caller that needs all these datasets.

Each request is for as many sessions as fit in a page, and up to 4 requests run at once. A batch
that fails is split in two halves, which are requested separately. Therefore one session that Alyx
cannot list does not prevent the fetch of other sessions. No more requests are sent after 8 failures
in a row, or after an error that a smaller batch would also cause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from threading import Lock

from onefs.errors import (
    DeadlineExceeded,
    NotFound,
    OnefsError,
    ServerError,
    Stopping,
    strip_tracebacks,
)
from onefs.lowlevel.parallel import run_parallel

#: number of requests that run at once
_PARALLEL_REQUESTS = 4
#: number of failures in a row after which no more requests are sent; 6 failures are enough to
#: find the one session that makes a full page fail
_MAX_CONSECUTIVE_FAILURES = 8


class BatchBisection:
    """One bulk fetch, which splits each batch that fails in two halves.

    - ``groups``: the eids of the sessions to fetch, by group. A group is a lab, or '' for sessions
      of different labs. Sessions of one group may share a request.
    - ``fetch``: requests sessions of one group, and returns the eids that were fetched. It may
      fetch only the first sessions.
    - ``batch_size``: returns how many sessions of a group to put into one request.
    """

    def __init__(
        self,
        groups: Mapping[str, Iterable[str]],
        fetch: Callable[[str, Sequence[str]], Set[str]],
        batch_size: Callable[[str], int],
    ) -> None:
        self._fetch = fetch
        self._batch_size = batch_size
        self._lock = Lock()
        self._pending = {name: deque(eids) for name, eids in groups.items()}
        self._unfetched = {eid for queue in self._pending.values() for eid in queue}
        self._failures = 0
        self._last_error: OnefsError | None = None

    def run(self) -> dict[str, OnefsError]:
        """Send the requests. Return an error, by eid, for each session that could not be fetched.

        This is the error of the last failed request, for all these sessions. A session that Alyx
        does not have counts as fetched. Raises Stopping.
        """
        workers = range(_PARALLEL_REQUESTS)
        for outcome in run_parallel(self._run_worker, workers, len(workers), "onefs-bulk"):
            outcome.result()
        return {} if self._last_error is None else dict.fromkeys(self._unfetched, self._last_error)

    def _run_worker(self, _number: int) -> None:
        while batch := self._next_batch():
            self._fetch_or_bisect(*batch)

    def _next_batch(self) -> tuple[str, list[str]] | None:
        """Return a group and the eids for its next request. Return None if no request is left."""
        with self._lock:
            if self._failures >= _MAX_CONSECUTIVE_FAILURES:
                return None
            for group, queue in self._pending.items():
                if queue:
                    count = min(self._batch_size(group), len(queue))
                    return group, [queue.popleft() for _ in range(count)]
        return None

    def _fetch_or_bisect(self, group: str, eids: list[str]) -> None:
        if self._failures >= _MAX_CONSECUTIVE_FAILURES:
            return
        try:
            done = self._fetch(group, eids)
        except Stopping:
            raise
        except OnefsError as error:
            if not (isinstance(error, NotFound) and len(eids) == 1):
                self._note_failure(error)
                if len(eids) > 1:
                    half = len(eids) // 2
                    self._fetch_or_bisect(group, eids[:half])
                    self._fetch_or_bisect(group, eids[half:])
                return
            done = frozenset(eids)
        with self._lock:
            self._failures = 0
            self._unfetched -= done
            self._pending[group].extendleft(eid for eid in reversed(eids) if eid not in done)

    def _note_failure(self, error: OnefsError) -> None:
        with self._lock:
            self._last_error = strip_tracebacks(error)
            # a smaller batch helps only against these errors, not against a refusal or a full disk
            avoidable = isinstance(error, (DeadlineExceeded, NotFound, ServerError))
            self._failures = self._failures + 1 if avoidable else _MAX_CONSECUTIVE_FAILURES
