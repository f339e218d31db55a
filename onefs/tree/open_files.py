"""The datasets that are open: a path shows the same dataset until no program has it open.

An open dataset is called pinned here, and an open file is called a handle. (This is not the pin
that protects files from eviction.)

The kernel has only one size and one set of cached pages for each path. If Alyx replaces an open
dataset, all programs still see the old dataset at the path. When the last handle is closed, the
path shows the new dataset, and the kernel's cached pages and attributes for the path are
invalidated.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock

from onefs.cache.folder import Place
from onefs.model import Dataset
from onefs.tree.layout import Folders, SessionLayout
from onefs.tree.nodes import Handle

#: longest time in seconds for which the kernel answers ``stat`` from its cache, plus a margin
KERNEL_CACHE_SECONDS = 65.0


@dataclass(slots=True)
class _PinnedDataset:
    """An open dataset, and the number of open files (handles) at its path."""

    dataset: Dataset
    handles: int = 0
    #: whether the listing now has another dataset at the same path
    replaced: bool = False


class OpenFiles:
    """The open datasets of one tree, by their path from the root of the tree. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pinned: dict[Place, _PinnedDataset] = {}
        self._invalidated_at: dict[Place, float] = {}
        #: paths at which the dataset or its content has changed; read by the thread that
        #: invalidates the kernel's caches
        self.invalidations: SimpleQueue[str] = SimpleQueue()

    def effective_dataset(self, dataset: Dataset, place: Place) -> Dataset:
        """Return the dataset that programs have open at the path ``place``.

        If no program has a dataset open there, return ``dataset``, the dataset of the listing.
        """
        pinned = self._pinned.get(place) if self._pinned else None
        if pinned is None or is_same_content(pinned.dataset, dataset):
            return dataset
        pinned.replaced = True
        return pinned.dataset

    def has_pinned(self) -> bool:
        """Whether any dataset is open, so that its path may differ from the listing."""
        return bool(self._pinned)

    def has_open_in(self, folder: Place) -> bool:
        """Whether any dataset is open in ``folder``, a path from the root of the tree."""
        return bool(self._pinned) and any(place[:-1] == folder for place in list(self._pinned))

    def is_replaced(self, place: Place) -> bool:
        """Whether the listing now has another dataset than the one that is open at a path."""
        pinned = self._pinned.get(place)
        return pinned is not None and pinned.replaced

    def pin(self, dataset: Dataset, place: Place) -> Dataset:
        """Count one more open file at a path, and return the dataset that the path must show.

        ``dataset`` is the dataset of the listing. Raises OSError (ESTALE) if the kernel may still
        have the size of a replaced dataset.
        """
        with self._lock:
            invalidated_at = self._invalidated_at.pop(place, float("-inf"))
            if time.monotonic() - invalidated_at < KERNEL_CACHE_SECONDS:
                # the kernel then looks up the path again, and repeats the opening, which succeeds
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            pinned = self._pinned.get(place)
            if pinned is None:
                pinned = self._pinned[place] = _PinnedDataset(dataset)
            pinned.handles += 1
            pinned.replaced = pinned.replaced or not is_same_content(pinned.dataset, dataset)
            return pinned.dataset

    def unpin(self, place: Place) -> None:
        """Record that an open file at a path was closed.

        After the last open file was closed, the path shows the dataset of the listing.
        """
        with self._lock:
            pinned = self._pinned[place]
            pinned.handles -= 1
            if pinned.handles:
                return
            del self._pinned[place]
            if pinned.replaced:
                self._queue_invalidation(place)

    def listing_changed(self, place: Place, before: SessionLayout, after: SessionLayout) -> None:
        """Record that the layout of the folder ``place`` has changed from ``before`` to ``after``.

        The kernel's caches are invalidated for each file whose bytes have changed.
        """
        self.note_replaced(place, _replaced_files(before, after))

    def note_replaced(self, place: Place, files: Iterable[tuple[Folders, Dataset]]) -> None:
        """Record that the listing has other datasets than before, at paths below ``place``.

        ``files`` are these paths and datasets. The kernel's caches are invalidated for each path.
        If programs have the file open, the caches are invalidated when no program has it open any
        more.
        """
        with self._lock:
            for inner, dataset in files:
                path = (*place, *inner)
                pinned = self._pinned.get(path)
                if pinned is None:
                    self._queue_invalidation(path)
                elif not is_same_content(pinned.dataset, dataset):
                    pinned.replaced = True

    def invalidate_content(self, dataset: Dataset) -> None:
        """Invalidate the kernel's caches for an open dataset whose bytes turned out to be invalid.

        Does nothing if the dataset is not open.
        """
        with self._lock:
            for place, pinned in self._pinned.items():
                if pinned.dataset.id == dataset.id:
                    self.invalidations.put("/" + "/".join(place))

    def note_invalidated(self, path: str) -> None:
        """Record that the kernel's caches for a path have been invalidated."""
        with self._lock:
            self._invalidated_at.pop(tuple(path.strip("/").split("/")), None)

    def _queue_invalidation(self, place: Place) -> None:
        now = time.monotonic()
        self._invalidated_at = {
            path: at
            for path, at in self._invalidated_at.items()
            if now - at <= KERNEL_CACHE_SECONDS
        }
        self._invalidated_at[place] = now
        self.invalidations.put("/" + "/".join(place))


class PinnedHandle:
    """An open file. Its path shows the same dataset until the file is closed."""

    __slots__ = (
        "_handle",
        "_open_files",
        "_place",
        "in_parts",
        "keep_cache",
        "size",
        "try_fd",
        "wait_fd",
    )

    def __init__(self, handle: Handle, open_files: OpenFiles, place: Place) -> None:
        self._handle = handle
        self._open_files = open_files
        self._place = place
        self.size = handle.size
        self.keep_cache = handle.keep_cache
        self.in_parts = handle.in_parts
        # methods of the handle itself, so that a read needs no extra Python call
        self.try_fd = handle.try_fd
        self.wait_fd = handle.wait_fd

    def close(self) -> None:
        """Close the file, and count one open file less at its path."""
        self._handle.close()
        self._open_files.unpin(self._place)


def is_same_content(one: Dataset, other: Dataset) -> bool:
    """Whether two records describe the same bytes: their UUIDs, sizes and hashes agree.

    An unknown size agrees with every size. A hash that cache tables lack agrees with every hash.
    """
    if one is other:
        return True
    sizes_agree = one.size == other.size or one.size is None or other.size is None
    # the cache tables may lack the hash: a missing hash is equal to every hash
    md5_unknown = any(each.from_tables and not each.md5 for each in (one, other))
    return sizes_agree and one.id == other.id and (md5_unknown or one.md5 == other.md5)


def _replaced_files(
    before: SessionLayout, after: SessionLayout
) -> Iterator[tuple[Folders, Dataset]]:
    """Yield path and new dataset where both layouts have a file, but with different bytes."""
    for folder, children in before.folders.items():
        now = after.folders.get(folder, {})
        for name, dataset in children.items():
            other = now.get(name)
            if dataset is not None and other is not None and not is_same_content(dataset, other):
                yield (*folder, name), other
