"""Files of others at their ONE paths: checked on a thread of their own, while readers wait.

A recording of 40 GB takes minutes to hash. Whoever reads it waits for as long as that gets on, as
for a download, and can be woken; no lock is held meanwhile, so that nobody else waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

from onefs.cache.files import disk_errors
from onefs.cache.records import CacheEntry
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.store import Place, Store
from onefs.errors import DeadlineExceeded, Stopping
from onefs.lowlevel.single_flight import SingleFlight, result_of
from onefs.model import Dataset

#: files that are hashed at once; the rest queue
ADOPTION_THREADS = 4
#: seconds after which a waiter looks whether its deadline has passed
_STALL_CHECK_SECONDS = 0.5


class InPlaceAdopter:
    """Takes files of others for one store. Thread-safe.

    ``stall`` is the number of seconds without any progress after which waiting ends. ``on_bad``
    is told of a dataset whose file was changed: pages of it that anybody keeps are to be dropped.
    """

    def __init__(
        self,
        store: Store,
        stall: float,
        on_invalidated: Callable[[Dataset], None] = lambda dataset: None,
    ) -> None:
        self._store = store
        self._on_invalidated = on_invalidated
        self._stall = stall
        self._single_flight: SingleFlight[Path | None] = SingleFlight(
            "onefs-take", ADOPTION_THREADS
        )
        #: when any of the files under way last got on: one that queues waits for the others
        self._last_progress_at = time.monotonic()
        self._stopped = False

    def close(self) -> None:
        """Wake who waits, with Stopping, and let hashing end."""
        self._stopped = True
        self._single_flight.close()

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """The file at the ONE path, once it is known to be what the database describes.

        So is a file that was known, and of which only the ctime is another now. None when there
        is no such file. Raises DeadlineExceeded when the disk does not answer,
        Stopping or CacheError.
        """
        with disk_errors(self._store.root):
            if not (self._store.look_up(dataset)[1] or self._store.has_candidate(dataset, place)):
                return None
        asked = time.monotonic()
        claims = dataset.id, dataset.size, dataset.md5
        future = self._single_flight.start(claims, lambda: self._run_adoption(dataset, place))
        while not wait([future], timeout=min(_STALL_CHECK_SECONDS, self._stall)).done:
            if time.monotonic() - max(self._last_progress_at, asked) > self._stall:
                raise DeadlineExceeded(
                    f"{'/'.join(place)}: the disk has given nothing for {self._stall:g} s"
                )
        return result_of(future)

    def _run_adoption(self, dataset: Dataset, place: Place) -> Path | None:
        entry, doubted = self._store.look_up(dataset)
        if entry is not None and doubted:
            path = self._rehash(dataset, entry)
            if path is not None:
                return path
            self._on_invalidated(dataset)
        proved = self._store.verify_in_place(dataset, place, self._note_progress)
        if proved is None:
            return None
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, self._stall, lambda: not self._stopped),
        ):
            # another process may have taken it, or fetched the file beside it, meanwhile
            return self._store.cached_path(dataset) or self._store.adopt_verified(
                dataset, place, proved
            )

    def _rehash(self, dataset: Dataset, entry: CacheEntry) -> Path | None:
        with disk_errors(self._store.root):
            hashed = hash_entry(self._store, entry, self._note_progress)
            with self._store.locks.hold(dataset.id, self._stall, lambda: not self._stopped):
                return reinstate_or_remove(self._store, dataset, entry, hashed)

    def _note_progress(self, done: int) -> None:
        self._last_progress_at = time.monotonic()
        if self._stopped:
            raise Stopping("onefs is being stopped")
