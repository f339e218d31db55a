"""The partial files that are open in this process, each once, however many read it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from onefs.blocks.block_file import (
    BlockFile,
    PartialState,
    create_block_file,
    open_block_file,
    remove_block_file,
)
from onefs.blocks.partial_file import PartialFile
from onefs.cache.files import disk_errors
from onefs.cache.store import Place, Store
from onefs.errors import BadContent
from onefs.model import Dataset


class PartialFileRegistry:
    """The partial files that are open in this process, each once. Thread-safe."""

    def __init__(self, store: Store, lock: threading.Lock, wanted: Callable[[], bool]) -> None:
        self._store = store
        #: the scheduler's lock, which guards every ``Demand``
        self._scheduler_lock = lock
        self._is_wanted = wanted
        self._lock = threading.Lock()
        self._open_files: dict[str, PartialFile] = {}
        store.on_new_folder = self.retire_deleted
        #: told of a partial file that has one user left: who hashes it may be that
        self.on_last_user: Callable[[PartialFile], None] = lambda partial: None

    def acquire(self, dataset: Dataset, place: Place, deadline: float) -> PartialFile | None:
        """The partial file of a dataset, made if need be; None when the file is complete.

        Each call is answered by one :meth:`release`. Waits at most ``deadline`` seconds for
        other processes. Raises BadContent, DeadlineExceeded, CacheError or CacheFull.
        """
        found = self.acquire_open(dataset)
        if found is not None:
            return found
        folder = self._store.partial_folder
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, deadline, self._is_wanted),
        ):
            found = self.acquire_open(dataset)
            if found is not None:
                return found
            verdict = self._store.verdict(dataset)
            if verdict is not None and not verdict.is_good:
                raise BadContent(verdict.reason)
            if verdict is not None or self._store.reinstate(dataset, place) is not None:
                return None
            blocks = open_block_file(folder, dataset)
            if blocks is None:
                self._store.usage.adjust(-remove_block_file(folder, dataset.id))
                blocks = create_block_file(folder, dataset, place)
            return self._register(dataset, place, blocks)

    def acquire_open(self, dataset: Dataset) -> PartialFile | None:
        """The partial file of a dataset if it is open in this process; answered by release."""
        with self._lock:
            found = self._open_files.get(dataset.id)
            if found is None or found.block_file.state() is not PartialState.LIVE:
                return None
            if (found.dataset.size, found.dataset.md5) != (dataset.size, dataset.md5):
                return None
            found.user_count += 1
            return found

    def retire_deleted(self) -> None:
        """Tell readers of each partial file that was deleted that it is GONE."""
        with self._lock:
            found = list(self._open_files.values())
        for partial in found:
            with suppress(OSError):  # it has just been closed
                if not os.fstat(partial.block_file.data_fd).st_nlink:
                    partial.block_file.set_state(PartialState.GONE)
            with partial.demand.condition:
                partial.demand.notify_waiters()

    def add_user(self, partial: PartialFile) -> None:
        """Keep a partial file open for one more user."""
        with self._lock:
            partial.user_count += 1

    def release(self, partial: PartialFile) -> None:
        """One user fewer; the last one closes it."""
        with self._lock:
            partial.user_count -= 1
            left = partial.user_count
            if not left and self._open_files.get(partial.dataset.id) is partial:
                del self._open_files[partial.dataset.id]
        if left == 1:
            self.on_last_user(partial)
        elif not left:
            partial.block_file.close()

    def _register(self, dataset: Dataset, place: Place, blocks: BlockFile) -> PartialFile:
        condition = threading.Condition(self._scheduler_lock)
        partial = PartialFile(dataset, place, blocks, condition, shared=self._store.shared)
        partial.user_count = 1
        with self._lock:
            self._open_files[dataset.id] = partial
        return partial
