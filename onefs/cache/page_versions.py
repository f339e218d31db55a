"""Which bytes were last opened at a path: whether the kernel may show its pages of them again."""

from __future__ import annotations

import os
import threading

from cachetools import LRUCache

from onefs.cache.folder import Place
from onefs.cache.records import CacheEntry
from onefs.model import Dataset

#: paths of which it is known, as many as are remembered
MAX_PATHS = 65536

#: a dataset's id, and its claimed size and md5; and the version of the bytes that it has here
PageIdentity = tuple[str, int | None, str, str]


class PageVersions:
    """The version of each path. Thread-safe.

    A *version* tells a file's bytes from others that were or will be served under the same claims:
    without an md5 the server's file may change, and a file in the cache folder may be edited. It is
    '' while nothing of a dataset is here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_opened: LRUCache[str, PageIdentity] = LRUCache(MAX_PATHS)

    def note_opened(self, at: Place, dataset: Dataset, version: str) -> bool:
        """A path is opened: whether it has the very bytes that it had the last time."""
        path, identity = "/".join(at), _identity(dataset, version)
        with self._lock:
            same = self._last_opened.get(path) == identity
            self._last_opened[path] = identity
        return same

    def set_version(self, at: Place, dataset: Dataset, version: str) -> None:
        """What is open there, and of which nothing was here, is read from now on."""
        with self._lock:
            self._last_opened["/".join(at)] = _identity(dataset, version)

    def forget(self, dataset_id: str) -> None:
        """Nothing that was opened of a dataset may be shown again."""
        with self._lock:
            for path in [path for path, of in self._last_opened.items() if of[0] == dataset_id]:
                self._last_opened.pop(path, None)


def version_of_entry(entry: CacheEntry) -> str:
    """The version of a complete file; one that came in parts has had it since its first block."""
    return entry.source_generation or _version(entry.inode, entry.mtime_ns)


def version_of_file(found: os.stat_result) -> str:
    """The same of a small file that has just come."""
    return _version(found.st_ino, found.st_mtime_ns)


def _version(inode: int, mtime_ns: int) -> str:
    return f"{inode} {mtime_ns}"


def _identity(dataset: Dataset, version: str) -> PageIdentity:
    return dataset.id, dataset.size, dataset.md5, version
