"""Page versions: whether the kernel's cached pages of a path are of the bytes opened now."""

from __future__ import annotations

import os
import threading

from cachetools import LRUCache

from onefs.cache.folder import Place
from onefs.cache.records import CacheEntry
from onefs.model import Dataset

#: paths whose version is remembered
MAX_PATHS = 65536

#: a dataset's id, its size and md5 in the database, and the version of its cached bytes
PageIdentity = tuple[str, int | None, str, str]


class PageVersions:
    """The version of the bytes last opened at each path. Thread-safe.

    A *version* distinguishes bytes that are served for the same size and md5: without an md5 the
    server's file may change, and a file in the cache folder may be edited. It is '' while nothing
    of a dataset is cached.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_opened: LRUCache[str, PageIdentity] = LRUCache(MAX_PATHS)

    def note_opened(self, at: Place, dataset: Dataset, version: str) -> bool:
        """Note that a path is opened; whether it has the same bytes as the last time."""
        path, identity = "/".join(at), _identity(dataset, version)
        with self._lock:
            is_same = self._last_opened.get(path) == identity
            self._last_opened[path] = identity
        return is_same

    def set_version(self, at: Place, dataset: Dataset, version: str) -> None:
        """Set the version of a path that was opened before anything of it was cached."""
        with self._lock:
            self._last_opened["/".join(at)] = _identity(dataset, version)

    def forget(self, dataset_id: str) -> None:
        """Forget all versions of a dataset: its pages are not used again."""
        with self._lock:
            for path, identity in list(self._last_opened.items()):
                if identity[0] == dataset_id:
                    del self._last_opened[path]


def version_of_entry(entry: CacheEntry) -> str:
    """The version of a complete file: the same as that of the partial file which it was."""
    return entry.source_generation or _version(entry.inode, entry.mtime_ns)


def version_of_file(status: os.stat_result) -> str:
    """The version of a small file that has just been downloaded."""
    return _version(status.st_ino, status.st_mtime_ns)


def _version(inode: int, mtime_ns: int) -> str:
    return f"{inode} {mtime_ns}"


def _identity(dataset: Dataset, version: str) -> PageIdentity:
    return dataset.id, dataset.size, dataset.md5, version
