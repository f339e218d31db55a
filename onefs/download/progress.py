"""The progress of downloads, for displays and for threads that wait for the downloads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from onefs.cache.folder import Place
from onefs.errors import OnefsError
from onefs.model import Dataset

#: identifies content: a dataset's id, size and md5; the id is not enough, because the size and md5
#: in the database can change at any time
ContentKey = tuple[str, int | None, str]


def content_key(dataset: Dataset) -> ContentKey:
    """Return the key of a dataset's content."""
    return dataset.id, dataset.size, dataset.md5


@dataclass(slots=True)
class Transfer:
    """The progress of one download. Times are from ``time.monotonic``."""

    #: path of the file in the tree
    path: str
    #: size of the file in bytes; None if unknown
    size: int | None
    done_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: when enough bytes for a progress report last arrived
    last_progress_at: float = field(default_factory=time.monotonic)
    #: URL of the replica that is being tried, and error of the replica that failed last
    url: str = ""
    last_error: OnefsError | None = None
    #: whether no reader waits for the file
    is_ahead: bool = False

    def bytes_per_second(self) -> float:
        """Return the average number of bytes per second since the download began."""
        return self.done_bytes / max(time.monotonic() - self.started_at, 1e-3)


class Transfers:
    """The running downloads of small files, and the readers that wait for them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[ContentKey, Transfer] = {}
        #: number of readers that wait for each file
        self._readers: Counter[ContentKey] = Counter()

    def running(self) -> list[Transfer]:
        """Return the progress of each running download."""
        with self._lock:
            return list(self._running.values())

    def of(self, dataset: Dataset) -> Transfer | None:
        """Return the progress of a dataset's download, or None if it is not running."""
        with self._lock:
            return self._running.get(content_key(dataset))

    def begin(
        self, dataset: Dataset, place: Place, waiting_since: float | None, *, is_ahead: bool
    ) -> Transfer:
        """Return the progress of a download that begins. Call :meth:`end` after the download.

        ``waiting_since`` is since when readers wait, if that was before now. ``is_ahead`` is True
        for a download that no reader has asked for.
        """
        key = content_key(dataset)
        transfer = Transfer("/".join(place), dataset.size)
        if waiting_since is not None:
            transfer.last_progress_at = waiting_since
        with self._lock:
            transfer.is_ahead = is_ahead and key not in self._readers
            self._running[key] = transfer
        return transfer

    def end(self, dataset: Dataset) -> None:
        """Forget a download, which has ended."""
        with self._lock:
            del self._running[content_key(dataset)]

    @contextmanager
    def count_reader(self, dataset: Dataset) -> Iterator[None]:
        """Count one more reader that waits for a file inside the ``with`` block.

        From now on, a download of the file that began ahead is as one for a reader.
        """
        key = content_key(dataset)
        with self._lock:
            self._readers[key] += 1
            transfer = self._running.get(key)
            if transfer is not None:
                transfer.is_ahead = False
        try:
            yield
        finally:
            with self._lock:
                self._readers[key] -= 1
                if not self._readers[key]:
                    del self._readers[key]
