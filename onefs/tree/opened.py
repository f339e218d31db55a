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

from onefs.content.store import Place
from onefs.model import Dataset
from onefs.tree.nodes import Handle
from onefs.tree.shape import SessionShape

#: seconds for which the kernel may answer ``stat`` by itself, and a little
KERNEL_AGE = 65.0


@dataclass(slots=True)
class _Held:
    """A dataset that is open."""

    dataset: Dataset
    handles: int = 0
    #: Alyx has another one for its path
    replaced: bool = False


class Opened:
    """The open datasets of one tree, by their place in it, from its root on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[Place, _Held] = {}
        self._switched: dict[Place, float] = {}
        #: paths whose dataset is another one now, for whoever can tell the kernel
        self.switches: SimpleQueue[str] = SimpleQueue()

    def shown(self, dataset: Dataset, place: Place) -> Dataset:
        """What stands at a place for now: the open dataset, else the one of the listing."""
        held = self._held.get(place) if self._held else None
        if held is None or same(held.dataset, dataset):
            return dataset
        held.replaced = True
        return held.dataset

    def any(self) -> bool:
        """Whether :meth:`shown` may be anything but the dataset that it is given."""
        return bool(self._held)

    def is_replaced(self, place: Place) -> bool:
        """Whether the listing has another dataset than the one that is shown."""
        held = self._held.get(place)
        return held is not None and held.replaced

    def hold(self, dataset: Dataset, place: Place) -> Dataset:
        """Count a handle, and say which dataset it is for: :meth:`shown`.

        Raises ESTALE, once, where the kernel may still have the size of a dataset that was
        replaced: it then looks the path up again and comes back.
        """
        with self._lock:
            switched = self._switched.pop(place, None)
            if switched is not None and time.monotonic() - switched < KERNEL_AGE:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            held = self._held.setdefault(place, _Held(dataset))
            held.handles += 1
            held.replaced = held.replaced or not same(held.dataset, dataset)
            return held.dataset

    def let_go(self, place: Place) -> None:
        """A handle is closed."""
        with self._lock:
            held = self._held[place]
            held.handles -= 1
            if held.handles:
                return
            del self._held[place]
            if held.replaced:
                self._switch(place)

    def listed_anew(self, place: Place, before: SessionShape, after: SessionShape) -> None:
        """A session's listing has changed from ``before`` to ``after``; ``place`` is its folder."""
        with self._lock:
            for inner in _replaced(before, after):
                here = (*place, *inner)
                held = self._held.get(here)
                if held is None:
                    self._switch(here)
                else:
                    held.replaced = True

    def forget_bytes(self, dataset: Dataset) -> None:
        """What was read of an open dataset is worth nothing: the kernel is to forget its pages."""
        with self._lock:
            for place, held in self._held.items():
                if held.dataset.id == dataset.id:
                    self.switches.put("/" + "/".join(place))

    def invalidated(self, path: str) -> None:
        """The kernel has forgotten what it had of a path."""
        with self._lock:
            self._switched.pop(tuple(path.strip("/").split("/")), None)

    def _switch(self, place: Place) -> None:
        now = time.monotonic()
        for old in [key for key, at in self._switched.items() if now - at > KERNEL_AGE]:
            del self._switched[old]
        self._switched[place] = now
        self.switches.put("/" + "/".join(place))


class HeldHandle:
    """A handle that is counted (see ``onefs.tree.nodes.Handle``)."""

    __slots__ = ("_handle", "_opened", "_place", "fd", "keep_cache", "ready", "size")

    def __init__(self, handle: Handle, opened: Opened, place: Place) -> None:
        self._handle = handle
        self._opened = opened
        self._place = place
        self.size = handle.size
        self.keep_cache = handle.keep_cache
        # reads go straight to the handle
        self.ready = handle.ready
        self.fd = handle.fd

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()
        self._opened.let_go(self._place)


def same(one: Dataset, other: Dataset) -> bool:
    """Whether both are the same bytes by all that the database says."""
    sizes_agree = one.size == other.size or one.size is None or other.size is None
    # a hash that cache tables do not say contradicts none
    unsaid = any(each.from_tables and not each.md5 for each in (one, other))
    return sizes_agree and one.id == other.id and (unsaid or one.md5 == other.md5)


def _replaced(before: SessionShape, after: SessionShape) -> Iterator[tuple[str, ...]]:
    """The paths that are files in both, of different bytes."""
    for folder, children in before.folders.items():
        now = after.folders.get(folder, {})
        for name, dataset in children.items():
            other = now.get(name)
            if dataset is not None and other is not None and not same(dataset, other):
                yield (*folder, name)
