"""Page versions: decide whether the kernel's cached pages of a path are still valid.

The pages are valid if they have the same bytes as the file that is opened now.
"""

from __future__ import annotations

import os
import threading

from cachetools import LRUCache

from onefs.cache.folder import Place
from onefs.cache.records import CacheEntry
from onefs.model import Dataset

#: most paths whose version is remembered
MAX_PATHS = 65536

#: a dataset's id, its size and md5 in the database, and the version of the dataset's cached bytes
PageIdentity = tuple[str, int | None, str, str]


class PageVersions:
    """The version of the bytes that were last opened at each path. Thread-safe.

    A version is a text that changes with the bytes of a dataset. The version is '' while no bytes
    of the dataset are cached.
    """

    def __init__(self) -> None:
        # the bytes may change while size and md5 in the database stay the same: without an md5 the
        # server's file may change, and a program may edit a file in the cache folder
        self._lock = threading.Lock()
        self._last_opened: LRUCache[str, PageIdentity] = LRUCache(MAX_PATHS)

    def note_opened(self, at: Place, dataset: Dataset, version: str) -> bool:
        """Record that a file is opened at the path ``at``.

        Return True if the file has the same bytes as at the last opening of this path.
        """
        path, identity = "/".join(at), _identity(dataset, version)
        with self._lock:
            is_same = self._last_opened.get(path) == identity
            self._last_opened[path] = identity
        return is_same

    def set_version(self, at: Place, dataset: Dataset, version: str) -> None:
        """Set the version of a path that was opened before any byte of its dataset was cached."""
        with self._lock:
            self._last_opened["/".join(at)] = _identity(dataset, version)

    def forget(self, dataset_id: str) -> None:
        """Forget the versions of a dataset at all paths.

        So the pages of the dataset in the kernel's cache are not used again.
        """
        with self._lock:
            for path, identity in list(self._last_opened.items()):
                if identity[0] == dataset_id:
                    del self._last_opened[path]


def version_of_entry(entry: CacheEntry) -> str:
    """Return the version of a complete file's bytes: a text that changes with the bytes.

    A file that was a partial file before keeps the version of the partial file.
    """
    return entry.source_generation or _version(entry.inode, entry.mtime_ns)


def version_of_file(status: os.stat_result) -> str:
    """Return the version of the bytes of a small file that was just downloaded.

    ``status`` is the ``os.stat`` result of the file.
    """
    return _version(status.st_ino, status.st_mtime_ns)


def _version(inode: int, mtime_ns: int) -> str:
    return f"{inode} {mtime_ns}"


def _identity(dataset: Dataset, version: str) -> PageIdentity:
    return dataset.id, dataset.size, dataset.md5, version
