"""What the layers above see of the bytes: open a dataset, and read from a descriptor."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cachetools import LRUCache

from onefs.content.fetch import Fetcher, Transfer
from onefs.content.index import Index
from onefs.content.store import PRIVATE, Place, Store
from onefs.errors import BadContent, CacheError
from onefs.http import HostAuth, Transport
from onefs.model import Dataset

#: files whose identity at their last opening is remembered
REMEMBERED = 65536


class Content:
    """The bytes of one laboratory's datasets, in one cache folder. Thread-safe.

    ``database`` names the laboratory that the folder must belong to; ``stall`` and ``deadline``
    are seconds: without progress on data, and for a question to a file server. Raises
    UsageError when the folder belongs to another laboratory, CacheError when it cannot be used.
    """

    def __init__(
        self,
        cache_dir: Path,
        state_dir: Path,
        database: str,
        transport: Transport,
        auth: HostAuth,
        *,
        stall: float = 60.0,
        deadline: float = 10.0,
    ) -> None:
        self.cache_dir = cache_dir
        self._index = Index(state_dir / "store.sqlite")
        self._store = Store(cache_dir, self._index, database)
        lock = cache_dir / PRIVATE / "locks"
        self._fetcher = Fetcher(self._store, transport, auth, lock, stall)
        self._deadline = deadline
        self._guard = threading.Lock()
        self._opened: LRUCache[str, tuple[int | None, str]] = LRUCache(REMEMBERED)

    def open(self, dataset: Dataset, place: Place) -> DatasetHandle:
        """Open a dataset of known size at its place. Asks no server.

        Raises BadContent at once for a file that is known to be bad.
        """
        verdict = self._store.verdict(dataset)
        if verdict is not None and not verdict.good:
            raise BadContent(verdict.reason)
        return DatasetHandle(self, dataset, place, self._same_as_last_time(dataset))

    def probe(self, dataset: Dataset) -> int:
        """The size of a dataset whose size Alyx lacks, in bytes, from a file server.

        Waits at most ``deadline`` seconds. Raises Unreachable, DeadlineExceeded, ServerError or
        DataServerCredentials; never guesses.
        """
        return self._fetcher.size_of(dataset, self._deadline)

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """``user.onefs.state`` of a dataset, and one sentence if something is wrong with it.

        The state is ``remote``, ``cached``, ``unverified`` or ``bad``.
        """
        verdict = self._store.verdict(dataset)
        if verdict is not None:
            return verdict.state, verdict.reason
        failure = self._fetcher.failure(dataset)
        return "remote", str(failure) if failure else ""

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        return self._fetcher.transfers()

    def total_bytes(self) -> int:
        """Bytes of the files that onefs downloaded into the folder."""
        return self._store.total_bytes()

    def space(self) -> tuple[int, int]:
        """``(total, free)`` bytes of the disk that the folder lies on."""
        return self._store.space()

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._fetcher.close()

    def release(self) -> None:
        """Let go of the index, after the last use."""
        self._index.close()

    def path(self, dataset: Dataset, place: Place) -> Path:
        """The verified file of a dataset, downloaded if need be. Errors as ``Fetcher.wait``."""
        path = self._fetcher.wait(dataset, place)
        self._store.used(dataset)
        return path

    def known_path(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset if it is there, without any waiting."""
        return self._store.known(dataset)

    def may_have(self, dataset: Dataset, place: Place) -> bool:
        """Whether reading a dataset may need no server: it is there, or a file in its place is."""
        return self._store.known(dataset) is not None or self._store.stands(dataset, place)

    def _same_as_last_time(self, dataset: Dataset) -> bool:
        """Whether the kernel's pages of this file, if it has any, are of these very bytes."""
        identity = (dataset.size, dataset.md5)
        with self._guard:
            same = self._opened.get(dataset.id) == identity
            self._opened[dataset.id] = identity
        return same


class DatasetHandle:
    """An open dataset (see ``onefs.tree.nodes.Handle``). Thread-safe."""

    def __init__(self, content: Content, dataset: Dataset, place: Place, keep_cache: bool) -> None:
        if dataset.size is None:
            raise ValueError(f"{dataset.id} is opened before its size is known")
        self.size = dataset.size
        self.keep_cache = keep_cache
        self._content = content
        self._dataset = dataset
        self._place = place
        self._lock = threading.Lock()
        self._fd: int | None = None

    def ready(self, offset: int, length: int) -> bool:
        """Whether :meth:`fd` answers without waiting for a server."""
        if self._fd is None:
            known = self._content.known_path(self._dataset)
            if known is not None:
                self._open(known)
        return self._fd is not None

    def fd(self, offset: int, length: int) -> int:
        """A descriptor that holds these bytes at this offset; downloads them if need be."""
        if not self.ready(offset, length):
            self._open(self._content.path(self._dataset, self._place))
        assert self._fd is not None
        return self._fd

    def close(self) -> None:
        """Let go of the file. Nothing is read from this handle any more."""
        with self._lock:
            descriptor, self._fd = self._fd, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CacheError(f"{path} was verified and cannot be opened: {error}") from error
        found = os.fstat(descriptor).st_size
        with self._lock:
            if self._fd is None and found == self.size:
                self._fd, descriptor = descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if found != self.size:
            raise BadContent(f"{path} has {found} bytes, {self.size} were promised")
