"""Open files keep what they are: a dataset that Alyx replaces is switched when nobody reads it.

One path is one kernel inode with one size and one set of pages. So while any handle on the old
bytes is open, the path is the old dataset for everybody; at the last release it becomes the new
one, and the kernel is told to forget what it has of it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock

from onefs.cache.store import Place
from onefs.model import Dataset
from onefs.tree.layout import SessionLayout
from onefs.tree.nodes import Handle

#: seconds for which the kernel may answer ``stat`` by itself, and a little
KERNEL_CACHE_SECONDS = 65.0


@dataclass(slots=True)
class _PinnedDataset:
    """A dataset that is open."""

    dataset: Dataset
    handles: int = 0
    #: Alyx has another one for its path
    replaced: bool = False


class OpenFiles:
    """The open datasets of one tree, by their place in it, from its root on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pinned: dict[Place, _PinnedDataset] = {}
        self._invalidated_at: dict[Place, float] = {}
        #: paths whose dataset is another one now, for whoever can tell the kernel
        self.invalidations: SimpleQueue[str] = SimpleQueue()

    def effective_dataset(self, dataset: Dataset, place: Place) -> Dataset:
        """What stands at a place for now: the open dataset, else the one of the listing."""
        held = self._pinned.get(place) if self._pinned else None
        if held is None or is_same_content(held.dataset, dataset):
            return dataset
        held.replaced = True
        return held.dataset

    def has_pinned(self) -> bool:
        """Whether :meth:`shown` may be anything but the dataset that it is given."""
        return bool(self._pinned)

    def is_replaced(self, place: Place) -> bool:
        """Whether the listing has another dataset than the one that is shown."""
        held = self._pinned.get(place)
        return held is not None and held.replaced

    def pin(self, dataset: Dataset, place: Place) -> Dataset:
        """Count a handle, and say which dataset it is for: :meth:`shown`.

        Raises ESTALE, once, where the kernel may still have the size of a dataset that was
        replaced: it then looks the path up again and comes back.
        """
        with self._lock:
            switched = self._invalidated_at.pop(place, None)
            if switched is not None and time.monotonic() - switched < KERNEL_CACHE_SECONDS:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            held = self._pinned.setdefault(place, _PinnedDataset(dataset))
            held.handles += 1
            held.replaced = held.replaced or not is_same_content(held.dataset, dataset)
            return held.dataset

    def unpin(self, place: Place) -> None:
        """A handle is closed."""
        with self._lock:
            held = self._pinned[place]
            held.handles -= 1
            if held.handles:
                return
            del self._pinned[place]
            if held.replaced:
                self._queue_invalidation(place)

    def listing_changed(self, place: Place, before: SessionLayout, after: SessionLayout) -> None:
        """A session's listing has changed from ``before`` to ``after``; ``place`` is its folder."""
        with self._lock:
            for inner in _replaced_paths(before, after):
                here = (*place, *inner)
                held = self._pinned.get(here)
                if held is None:
                    self._queue_invalidation(here)
                else:
                    held.replaced = True

    def invalidate_content(self, dataset: Dataset) -> None:
        """What was read of an open dataset is worth nothing: the kernel is to forget its pages."""
        with self._lock:
            for place, held in self._pinned.items():
                if held.dataset.id == dataset.id:
                    self.invalidations.put("/" + "/".join(place))

    def note_invalidated(self, path: str) -> None:
        """The kernel has forgotten what it had of a path."""
        with self._lock:
            self._invalidated_at.pop(tuple(path.strip("/").split("/")), None)

    def _queue_invalidation(self, place: Place) -> None:
        now = time.monotonic()
        for old in [
            key for key, at in self._invalidated_at.items() if now - at > KERNEL_CACHE_SECONDS
        ]:
            del self._invalidated_at[old]
        self._invalidated_at[place] = now
        self.invalidations.put("/" + "/".join(place))


class PinnedHandle:
    """A handle that is counted (see ``onefs.tree.nodes.Handle``)."""

    __slots__ = ("_handle", "_open_files", "_place", "keep_cache", "size", "try_fd", "wait_fd")

    def __init__(self, handle: Handle, open_files: OpenFiles, place: Place) -> None:
        self._handle = handle
        self._open_files = open_files
        self._place = place
        self.size = handle.size
        self.keep_cache = handle.keep_cache
        # reads go straight to the handle
        self.try_fd = handle.try_fd
        self.wait_fd = handle.wait_fd

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()
        self._open_files.unpin(self._place)


def is_same_content(one: Dataset, other: Dataset) -> bool:
    """Whether both are the same bytes by all that the database says."""
    sizes_agree = one.size == other.size or one.size is None or other.size is None
    # a hash that cache tables do not say contradicts none
    unsaid = any(each.from_tables and not each.md5 for each in (one, other))
    return sizes_agree and one.id == other.id and (unsaid or one.md5 == other.md5)


def _replaced_paths(before: SessionLayout, after: SessionLayout) -> Iterator[tuple[str, ...]]:
    """The paths that are files in both, of different bytes."""
    for folder, children in before.folders.items():
        now = after.folders.get(folder, {})
        for name, dataset in children.items():
            other = now.get(name)
            if dataset is not None and other is not None and not is_same_content(dataset, other):
                yield (*folder, name)
