"""Adoption in place: a file that onefs did not download becomes a cached file.

Separate threads hash the file, and the file is adopted if its hash agrees with the database.

Hashing a recording with 40 GB takes minutes. The readers of the recording wait while the hashing
makes progress, and the user can interrupt the readers, as with a download. No lock is held during
the hashing, so that readers of other recordings do not wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from onefs.cache.files import disk_errors
from onefs.cache.folder import Place
from onefs.cache.in_place import adopt_verified, has_candidate, verify_in_place
from onefs.cache.records import CacheEntry
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.store import Store
from onefs.errors import DeadlineExceeded, Stopping
from onefs.lowlevel.single_flight import SingleFlight, result_of, wait_until_done
from onefs.model import Dataset

#: number of files that are hashed at the same time. Further files are queued
ADOPTION_THREADS = 4
#: seconds between two checks whether a waiting reader has reached its deadline
_STALL_CHECK_SECONDS = 0.5


class InPlaceAdopter:
    """Adopts files in one cache folder that onefs did not download. Thread-safe.

    A file is adopted only if its hash is right. From then on, the file is a cached file.

    ``stall`` is the number of seconds without progress after which a reader stops waiting.
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
        #: when the hashing of any file last made progress (monotonic seconds). All files share this
        #: time, because a queued file waits for the files before it
        self._last_progress_at = time.monotonic()
        self._stopped = False

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and end the hashing."""
        self._stopped = True
        self._single_flight.close()

    def adopt(self, dataset: Dataset, place: Place, *, has_no_record: bool = False) -> Path | None:
        """Hash the file at a dataset's path in ONE's cache folder.

        ``has_no_record`` says that no record needs to be looked up. Return the path if the hash is
        right. Return None if there is no such file, or if its bytes contradict the database. Raises
        DeadlineExceeded if the disk does not respond. Raises Stopping if onefs is being stopped,
        and CacheError if the cache folder cannot be used.
        """
        with disk_errors(self._store.root):
            # a cached file is also hashed again if only its ctime has changed
            must_hash = not has_no_record and self._store.look_up(dataset)[1]
            if not (must_hash or has_candidate(self._store, dataset, place)):
                return None
        started_at = time.monotonic()
        claims = dataset.id, dataset.size, dataset.md5
        future = self._single_flight.start(claims, lambda: self._run_adoption(dataset, place))
        while not wait_until_done(future, min(_STALL_CHECK_SECONDS, self._stall)):
            if time.monotonic() - max(self._last_progress_at, started_at) > self._stall:
                raise DeadlineExceeded(
                    f"{'/'.join(place)}: the disk of the cache has returned no data for "
                    f"{self._stall:g} s: try again later"
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
            # another process may have adopted the file, or fetched the dataset, during the hashing
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
