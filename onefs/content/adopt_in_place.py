"""Adoption in place: hash files that onefs did not download on separate threads.

A recording of 40 GB takes minutes to hash. Its readers wait as long as that makes progress, as for
a download, and can be interrupted. No lock is held meanwhile, so that other readers do not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

from onefs.cache.files import disk_errors
from onefs.cache.folder import Place
from onefs.cache.in_place import adopt_verified, has_candidate, verify_in_place
from onefs.cache.records import CacheEntry
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.store import Store
from onefs.errors import DeadlineExceeded, Stopping
from onefs.lowlevel.single_flight import SingleFlight, result_of
from onefs.model import Dataset

#: files that are hashed at the same time; the others are queued
ADOPTION_THREADS = 4
#: seconds between two looks at the deadline of a waiting reader
_STALL_CHECK_SECONDS = 0.5


class InPlaceAdopter:
    """Adopts files that onefs did not download, for one store. Thread-safe.

    ``stall`` is the number of seconds without progress after which waiting ends.
    ``on_invalidated`` is called with each dataset whose cached file was changed.
    """

    def __init__(
        self, store: Store, stall: float, on_invalidated: Callable[[Dataset], None]
    ) -> None:
        self._store = store
        self._on_invalidated = on_invalidated
        self._stall = stall
        self._single_flight: SingleFlight[Path | None] = SingleFlight(
            "onefs-take", ADOPTION_THREADS
        )
        #: last progress of any file, in monotonic seconds: a queued file waits for the others
        self._last_progress_at = time.monotonic()
        self._stopped = False

    def close(self) -> None:
        """Wake waiting readers, with Stopping, and end hashing."""
        self._stopped = True
        self._single_flight.close()

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """The file at the ONE path once its hash agrees with the database; None if there is none.

        A cached file of which only the ctime has changed is hashed again too. Raises
        DeadlineExceeded if the disk does not answer, Stopping or CacheError.
        """
        with disk_errors(self._store.root):
            if not (self._store.look_up(dataset)[1] or has_candidate(self._store, dataset, place)):
                return None
        started_at = time.monotonic()
        claims = dataset.id, dataset.size, dataset.md5
        future = self._single_flight.start(claims, lambda: self._run_adoption(dataset, place))
        while not wait([future], timeout=min(_STALL_CHECK_SECONDS, self._stall)).done:
            if time.monotonic() - max(self._last_progress_at, started_at) > self._stall:
                raise DeadlineExceeded(
                    f"{'/'.join(place)}: the disk has given nothing for {self._stall:g} s"
                )
        return result_of(future)

    def _run_adoption(self, dataset: Dataset, place: Place) -> Path | None:
        entry, must_hash = self._store.look_up(dataset)
        if entry is not None and must_hash:
            path = self._rehash(dataset, entry)
            if path is not None:
                return path
            self._on_invalidated(dataset)
        verified = verify_in_place(self._store, dataset, place, self._note_progress)
        if verified is None:
            return None
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, self._stall, lambda: not self._stopped),
        ):
            # another process may have adopted it, or fetched another file, meanwhile
            return self._store.cached_path(dataset) or adopt_verified(
                self._store, dataset, place, verified
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
