"""Files of others at their ONE paths: checked on a thread of their own, while readers wait.

A recording of 40 GB takes minutes to hash. Whoever reads it waits for as long as that gets on, as
for a download, and can be woken; no lock is held meanwhile, so that nobody else waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

from onefs.content.files import disk_errors
from onefs.content.records import Entry
from onefs.content.rehash import conclude, rehash
from onefs.content.store import Place, Store
from onefs.errors import DeadlineExceeded, Stopping
from onefs.flights import Flights, outcome
from onefs.model import Dataset

#: files that are hashed at once; the rest queue
WORKERS = 4
#: seconds after which a waiter looks whether its deadline has passed
_LOOK = 0.5


class Taker:
    """Takes files of others for one store. Thread-safe.

    ``stall`` is the number of seconds without any progress after which waiting ends. ``on_bad``
    is told of a dataset whose file was changed: pages of it that anybody keeps are to be dropped.
    """

    def __init__(
        self, store: Store, stall: float, on_bad: Callable[[Dataset], None] = lambda dataset: None
    ) -> None:
        self._store = store
        self._on_bad = on_bad
        self._stall = stall
        self._flights: Flights[Path | None] = Flights("onefs-take", WORKERS)
        #: when any of the files under way last got on: one that queues waits for the others
        self._moved = time.monotonic()
        self._stopped = False

    def close(self) -> None:
        """Wake who waits, with Stopping, and let hashing end."""
        self._stopped = True
        self._flights.close()

    def take(self, dataset: Dataset, place: Place) -> Path | None:
        """The file at the ONE path, once it is known to be what the database describes.

        So is a file that was known, and of which only the ctime is another now. None when there
        is no such file. Raises DeadlineExceeded when the disk does not answer,
        Stopping or CacheError.
        """
        with disk_errors(self._store.root):
            if not (self._store.look(dataset)[1] or self._store.stands(dataset, place)):
                return None
        asked = time.monotonic()
        claims = dataset.id, dataset.size, dataset.md5
        future = self._flights.start(claims, lambda: self._run(dataset, place))
        while not wait([future], timeout=min(_LOOK, self._stall)).done:
            if time.monotonic() - max(self._moved, asked) > self._stall:
                raise DeadlineExceeded(
                    f"{'/'.join(place)}: the disk has given nothing for {self._stall:g} s"
                )
        return outcome(future)

    def _run(self, dataset: Dataset, place: Place) -> Path | None:
        entry, doubted = self._store.look(dataset)
        if entry is not None and doubted:
            path = self._prove_again(dataset, entry)
            if path is not None:
                return path
            self._on_bad(dataset)
        proved = self._store.examine(dataset, place, self._watch)
        if proved is None:
            return None
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, self._stall, lambda: not self._stopped),
        ):
            # another process may have taken it, or fetched the file beside it, meanwhile
            return self._store.known(dataset) or self._store.take_over(dataset, place, proved)

    def _prove_again(self, dataset: Dataset, entry: Entry) -> Path | None:
        with disk_errors(self._store.root):
            hashed = rehash(self._store, entry, self._watch)
            with self._store.locks.hold(dataset.id, self._stall, lambda: not self._stopped):
                return conclude(self._store, dataset, entry, hashed)

    def _watch(self, done: int) -> None:
        self._moved = time.monotonic()
        if self._stopped:
            raise Stopping("onefs is being stopped")
