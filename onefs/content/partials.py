"""The partial files that are open in this process, each once, however many read it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from onefs.content.blocks import BlockFile, State, create_blocks, open_blocks, remove_blocks
from onefs.content.files import disk_errors
from onefs.content.partial import Partial
from onefs.content.store import Place, Store
from onefs.errors import BadContent
from onefs.model import Dataset


class Partials:
    """The partial files that are open in this process, each once. Thread-safe."""

    def __init__(self, store: Store, lock: threading.Lock, wanted: Callable[[], bool]) -> None:
        self._store = store
        #: the scheduler's lock, which guards every ``Demand``
        self._scheduling = lock
        self._wanted = wanted
        self._lock = threading.Lock()
        self._open: dict[str, Partial] = {}
        store.on_new_folder = self.drop_deleted
        #: told of a partial file that has one user left: who hashes it may be that
        self.on_last: Callable[[Partial], None] = lambda partial: None

    def acquire(self, dataset: Dataset, place: Place, deadline: float) -> Partial | None:
        """The partial file of a dataset, made if need be; None when the file is complete.

        Each call is answered by one :meth:`release`. Waits at most ``deadline`` seconds for
        other processes. Raises BadContent, DeadlineExceeded, CacheError or CacheFull.
        """
        found = self.find(dataset)
        if found is not None:
            return found
        folder = self._store.partial_folder
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, deadline, self._wanted),
        ):
            found = self.find(dataset)
            if found is not None:
                return found
            verdict = self._store.verdict(dataset)
            if verdict is not None and not verdict.good:
                raise BadContent(verdict.reason)
            if verdict is not None or self._store.vindicate(dataset, place) is not None:
                return None
            blocks = open_blocks(folder, dataset)
            if blocks is None:
                self._store.ledger.change(-remove_blocks(folder, dataset.id))
                blocks = create_blocks(folder, dataset, place)
            return self._add(dataset, place, blocks)

    def find(self, dataset: Dataset) -> Partial | None:
        """The partial file of a dataset if it is open in this process; answered by release."""
        with self._lock:
            found = self._open.get(dataset.id)
            if found is None or found.blocks.state() is not State.LIVE:
                return None
            if (found.dataset.size, found.dataset.md5) != (dataset.size, dataset.md5):
                return None
            found.users += 1
            return found

    def drop_deleted(self) -> None:
        """Tell readers of each partial file that was deleted that it is GONE."""
        with self._lock:
            found = list(self._open.values())
        for partial in found:
            with suppress(OSError):  # it has just been closed
                if not os.fstat(partial.blocks.data).st_nlink:
                    partial.blocks.set_state(State.GONE)
            with partial.demand.condition:
                partial.demand.changed()

    def hold(self, partial: Partial) -> None:
        """Keep a partial file open for one more user."""
        with self._lock:
            partial.users += 1

    def release(self, partial: Partial) -> None:
        """One user fewer; the last one closes it."""
        with self._lock:
            partial.users -= 1
            left = partial.users
            if not left and self._open.get(partial.dataset.id) is partial:
                del self._open[partial.dataset.id]
        if left == 1:
            self.on_last(partial)
        elif not left:
            partial.blocks.close()

    def _add(self, dataset: Dataset, place: Place, blocks: BlockFile) -> Partial:
        condition = threading.Condition(self._scheduling)
        partial = Partial(dataset, place, blocks, condition, shared=self._store.shared)
        partial.users = 1
        with self._lock:
            self._open[dataset.id] = partial
        return partial
