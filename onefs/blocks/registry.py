"""The partial files that are open in this process.

All readers of a partial file share one object.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from onefs.blocks.block_map import (
    BlockFile,
    PartialState,
    create_block_file,
    open_block_file,
    remove_block_file,
)
from onefs.blocks.partial_file import PartialFile
from onefs.cache.files import disk_errors
from onefs.cache.folder import Place
from onefs.cache.store import Store
from onefs.errors import BadContent
from onefs.model import Dataset


class PartialFileRegistry:
    """Opens, shares and closes partial files. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: the scheduler's lock, which guards each partial file's ``demand``
        self.scheduler_lock = threading.Lock()
        #: set when onefs is being stopped, so that waiting for the locks of other processes ends
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open_files: dict[str, PartialFile] = {}
        store.on_restored.append(self._retire_deleted)
        #: called with a partial file that has one user left. This user may be the verifier
        self.on_last_user: Callable[[PartialFile], None] = lambda partial: None

    def is_open(self) -> bool:
        """Whether partial files may be used. Return False once onefs is being stopped."""
        return not self.stopping.is_set()

    def acquire(self, dataset: Dataset, place: Place, deadline: float) -> PartialFile | None:
        """Open or create the partial file of a dataset. Return None if the dataset is cached.

        The caller calls :meth:`release` once for each partial file returned. Waits at most
        ``deadline`` seconds for other processes, then raises DeadlineExceeded. Raises BadContent if
        the dataset is known to be bad. Raises CacheError if the disk fails, and CacheFull if the
        disk is full.
        """
        partial = self.acquire_open(dataset)
        if partial is not None:
            return partial
        folder = self._store.partial_folder
        with (
            disk_errors(self._store.root),
            self._store.locks.hold(dataset.id, deadline, self.is_open),
        ):
            partial = self.acquire_open(dataset)
            if partial is not None:
                return partial
            entry = self._store.valid_entry(dataset)
            if entry is not None and entry.state == "bad":
                raise BadContent(entry.reason)
            if entry is not None or self._store.reinstate(dataset, place) is not None:
                return None
            blocks = open_block_file(folder, dataset)
            if blocks is None:
                self._store.usage.adjust(-remove_block_file(folder, dataset.id))
                blocks = create_block_file(folder, dataset, place)
            return self._register(dataset, place, blocks)

    def acquire_open(self, dataset: Dataset) -> PartialFile | None:
        """Return the partial file of a dataset, or None if this process does not have it open.

        The caller calls :meth:`release` once for each partial file returned. Return None also if
        the partial file cannot be used any more.
        """
        with self._lock:
            partial = self._open_files.get(dataset.id)
            # removed, rejected or completed
            if partial is None or partial.block_file.state() is not PartialState.LIVE:
                return None
            # the dataset was changed in the database
            if (partial.dataset.size, partial.dataset.md5) != (dataset.size, dataset.md5):
                return None
            partial.user_count += 1
            return partial

    def _retire_deleted(self) -> None:
        """Make the readers of deleted partial files open the files again."""
        with self._lock:
            partials = list(self._open_files.values())
        for partial in partials:
            with suppress(OSError):  # the partial file has just been closed
                if not os.fstat(partial.block_file.data_fd).st_nlink:
                    partial.block_file.set_state(PartialState.GONE)
            with partial.demand.condition:
                partial.demand.notify_waiters()

    def add_user(self, partial: PartialFile) -> None:
        """Count one more user of a partial file, so that the file stays open until
        :meth:`release`."""
        with self._lock:
            partial.user_count += 1

    def release(self, partial: PartialFile) -> None:
        """Remove one user of a partial file. The file is closed when its last user is removed."""
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
        condition = threading.Condition(self.scheduler_lock)
        partial = PartialFile(dataset, place, blocks, condition, shared=self._store.shared)
        partial.user_count = 1
        with self._lock:
            self._open_files[dataset.id] = partial
        return partial
