"""Asking for the datasets of many sessions, for who needs all of them before going on.

As many sessions as fit in a page with each request, a few requests at once. One that fails is asked
again in halves, so that one session which Alyx cannot tell does not cost the others theirs; after
some failures in a row, or when nothing else can be expected, the rest is not asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from onefs.errors import DeadlineExceeded, NotFound, OnefsError, ServerError, Stopping

#: requests at once
_PARALLEL_REQUESTS = 4
#: failures in a row after which no more is asked: to find one session among those of a page takes 6
_MAX_CONSECUTIVE_FAILURES = 8


class BatchBisection:
    """One such piece of work.

    ``groups`` are the eids of sessions that may be in one request, by the group's name: their lab,
    or '' for any. ``fetch`` asks for sessions of one group, and gives the eids of those that it is
    done with: all, or the first of them. ``room`` tells how many of a group to ask for with one
    request.
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
        self._unfetched = {eid for waiting in self._pending.values() for eid in waiting}
        self._failures = 0
        self._last_error: OnefsError | None = None

    def run(self) -> dict[str, OnefsError]:
        """Ask; the sessions that could not be asked for, with the last trouble. Raises Stopping.

        A session that Alyx has no more was asked for.
        """
        with ThreadPoolExecutor(_PARALLEL_REQUESTS, thread_name_prefix="onefs-bulk") as pool:
            for done in [pool.submit(self._run_worker) for _ in range(_PARALLEL_REQUESTS)]:
                done.result()
        return {} if self._last_error is None else dict.fromkeys(self._unfetched, self._last_error)

    def _run_worker(self) -> None:
        while chosen := self._next_batch():
            self._fetch_or_bisect(*chosen)

    def _next_batch(self) -> tuple[str, list[str]] | None:
        """A group and sessions of it that one request may bring; None when nothing is left."""
        with self._lock:
            if self._failures >= _MAX_CONSECUTIVE_FAILURES:
                return None
            for lab, waiting in self._pending.items():
                if waiting:
                    count = min(self._batch_size(lab), len(waiting))
                    return lab, [waiting.popleft() for _ in range(count)]
        return None

    def _fetch_or_bisect(self, lab: str, eids: list[str]) -> None:
        if self._failures >= _MAX_CONSECUTIVE_FAILURES:
            return
        try:
            done = self._fetch(lab, eids)
        except Stopping:
            raise
        except OnefsError as error:
            if not (isinstance(error, NotFound) and len(eids) == 1):
                self._note_failure(error)
                if len(eids) > 1:
                    half = len(eids) // 2
                    self._fetch_or_bisect(lab, eids[:half])
                    self._fetch_or_bisect(lab, eids[half:])
                return
            done = frozenset(eids)
        with self._lock:
            self._failures = 0
            self._unfetched -= done
            self._pending[lab].extendleft(eid for eid in reversed(eids) if eid not in done)

    def _note_failure(self, error: OnefsError) -> None:
        with self._lock:
            self._last_error = error
            # a smaller question may be answered; one that is refused, or cannot be kept, will not
            smaller = isinstance(error, (DeadlineExceeded, NotFound, ServerError))
            self._failures = self._failures + 1 if smaller else _MAX_CONSECUTIVE_FAILURES
