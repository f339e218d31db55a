"""Downloads files into the cache folder, and removes files from it.

:class:`~onefs.content.content.Content` creates it on first use, because a file that is cached needs
none of it: to import these modules takes longer than many commands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from onefs.blocks.evict import Evictor
from onefs.blocks.large_file import MAX_COMPLETION_ATTEMPTS, LargeFileDownloader
from onefs.blocks.registry import PartialFileRegistry
from onefs.cache.folder import Place
from onefs.cache.reservations import CacheLimits, DiskSpace
from onefs.cache.store import Store
from onefs.content.admin import CacheAdmin
from onefs.content.adopt_in_place import InPlaceAdopter
from onefs.download.hosts import Hosts
from onefs.download.quota import FetchQuota
from onefs.download.sources.interface import RemoteFileChanged, Source
from onefs.download.whole_file import SmallFileDownloader
from onefs.errors import CacheFull
from onefs.model import Dataset

#: a large file may be evicted as soon as it is complete. Then the file is fetched again. Fetching
#: ends after at least EVICTED_RETRIES attempts and EVICTED_RETRY_SECONDS seconds
EVICTED_RETRIES, EVICTED_RETRY_SECONDS = 8, 60.0


class Downloads:
    """The downloads into one cache folder. Thread-safe.

    The arguments are those of :class:`~onefs.content.content.Content`.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        quota: FetchQuota,
        limits: CacheLimits,
        *,
        stall: float,
        deadline: float,
        preferred: Sequence[str],
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self.hosts = hosts = Hosts(source, stall, preferred, quota.count)
        registry = PartialFileRegistry(store)
        evictor = Evictor(store, registry)
        self.admin = CacheAdmin(store, evictor, min(stall, deadline))
        self.space = space = DiskSpace(store.root, store.usage, limits, evictor.evict)
        self.adopter = InPlaceAdopter(store, stall, on_invalidated)
        self.small_files = SmallFileDownloader(store, hosts, space, stall, on_invalidated)
        self.large_files = LargeFileDownloader(
            store, registry, hosts, space, quota, stall, on_invalidated
        )

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and end all downloads."""
        self.hosts.close()
        self.adopter.close()
        self.large_files.close()
        self.small_files.close()

    def fetch_large(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None
    ) -> Path:
        """Return the path of a large dataset's file, which is downloaded and verified.

        Raises what :meth:`Content.fetch_file` raises.
        """
        changes, attempts, end = 0, 0, time.monotonic() + EVICTED_RETRY_SECONDS
        while attempts < EVICTED_RETRIES or time.monotonic() < end:
            attempts += 1
            try:
                self.large_files.complete(dataset, place, watch)
            except RemoteFileChanged:  # no byte of the old file was served
                changes += 1
                if changes == MAX_COMPLETION_ATTEMPTS:
                    raise
            path = self._store.cached_path(dataset)
            if path is not None:
                return path
        raise CacheFull(f"{dataset.name} was evicted before it could be read: raise --cache-size")
