"""Bulk fetch of the datasets of many sessions, for a caller that needs all of them.

Each request is for as many sessions as fit in a page, and a few requests run at once. A batch
that fails is bisected, so that the datasets of other sessions are fetched even if Alyx cannot list
one session. No more requests are sent after several failures in a row, or after a failure that
smaller batches cannot avoid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from threading import Lock

from onefs.errors import DeadlineExceeded, NotFound, OnefsError, ServerError, Stopping
from onefs.lowlevel.parallel import run_parallel

#: number of requests that run at once
_PARALLEL_REQUESTS = 4
#: number of failures in a row after which no more requests are sent; to find one session that
#: fails in a full page takes 6
_MAX_CONSECUTIVE_FAILURES = 8


class BatchBisection:
    """One bulk fetch, which bisects the batches that fail.

    ``groups`` contains, by the name of the group, the eids of sessions that may share a request.
    The name is the sessions' lab, or '' if the sessions are of any labs. ``fetch`` requests
    sessions of one group. It returns the eids of the sessions that it has handled: all of the
    sessions, or the first ones. ``batch_size`` returns how many sessions of a group to put into
    one request.
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
        """Send the requests. Return the eids that could not be fetched, with the last error.

        Each eid has the same error. A session that Alyx does not have counts as fetched. Raises
        Stopping.
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
            self._last_error = error
            # a smaller batch helps only against these errors, not against a refusal or a full disk
            avoidable = isinstance(error, (DeadlineExceeded, NotFound, ServerError))
            self._failures = self._failures + 1 if avoidable else _MAX_CONSECUTIVE_FAILURES
