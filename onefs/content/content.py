"""The content of datasets, for higher layers: open or fetch a dataset, and manage the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onefs.cache.files import disk_errors
from onefs.cache.folder import Place
from onefs.cache.in_place import has_candidate
from onefs.cache.one_tables import OneTables
from onefs.cache.page_cache_invalidation import PageVersions, version_of_entry
from onefs.cache.records import CacheEntry
from onefs.cache.reservations import CacheLimits, DiskSpace
from onefs.cache.store import Store
from onefs.config.cache_options import SMALL_FILE_BYTES
from onefs.content.accepted import AcceptedEntries
from onefs.content.disk_files import DiskFiles
from onefs.dates import dataset_identity
from onefs.download.disk import Disk
from onefs.download.quota import FetchQuota
from onefs.errors import BadContent, Busy, CacheError
from onefs.lowlevel.lazy import Lazy
from onefs.model import Dataset

if TYPE_CHECKING:
    from onefs.blocks.large_file import LargeFileDownloader
    from onefs.content.admin import CacheAdmin
    from onefs.content.adopt_in_place import InPlaceAdopter
    from onefs.content.disk_handle import DiskHandle
    from onefs.content.downloads import Downloads
    from onefs.content.handle import DatasetHandle
    from onefs.download.progress import Transfer
    from onefs.download.sources.interface import Source
    from onefs.download.whole_file import SmallFileDownloader


class Content:
    """The content of one database's datasets, in one cache folder. Thread-safe.

    - ``source``: returns what sends the bytes of replicas; called before the first download
    - ``database``: the name of the database that the folder must belong to
    - ``stall``: seconds without progress after which a transfer of data ends
    - ``deadline``: the longest time in seconds for a metadata request to a file server
    - ``small_file``: files with at most this many bytes are fetched as a whole
    - ``strict``: no byte is served before its whole file is verified
    - ``preferred``: the repositories whose replicas are tried first
    - ``share_partials``: whether other processes use the same partial files
    - ``disks``: the disks whose files are served in place, in this order
    - ``trusted``: whether symbolic links may lead out of the folder (see
      :class:`onefs.cache.folder.CacheFolder`)
    - ``on_invalidated``: called, on any thread, with a dataset when the kernel must drop its pages
    - ``max_fetch``: the most bytes that reads may fetch in any hour; more bytes raise FetchLimit

    Raises UsageError if the folder belongs to another database. Raises CacheError if the folder
    cannot be used.
    """

    def __init__(
        self,
        cache_dir: Path,
        database: str,
        source: Callable[[], Source],
        *,
        stall: float = 60.0,
        deadline: float = 10.0,
        small_file: int = SMALL_FILE_BYTES,
        strict: bool = False,
        limits: CacheLimits | None = None,
        preferred: Sequence[str] = (),
        share_partials: bool | None = None,
        on_invalidated: Callable[[Dataset], None] = lambda dataset: None,
        max_fetch: int | None = None,
        disks: Sequence[Path] = (),
        trusted: bool = False,
    ) -> None:
        self.cache_dir, self.database = cache_dir, database
        self.limits = limits or CacheLimits()
        self.strict, self._on_invalidated = strict, on_invalidated
        self._small_file, self._deadline = small_file, deadline
        self.page_versions = PageVersions()
        self.store = store = Store(cache_dir, database, share=share_partials, trusted=trusted)
        self._accepted = AcceptedEntries(store)
        #: the tables of ONE in the folder
        self.one_tables = OneTables(cache_dir)
        self.quota = FetchQuota(max_fetch)
        self.disk_files = DiskFiles(
            store,
            [Disk(folder, min(stall, deadline)) for folder in disks],
            self.is_small,
            strict=strict,
            stall=stall,
            on_invalidated=self.invalidate_pages,
        )

        def open_downloads() -> Downloads:
            # slow to import: see the module
            from onefs.content.downloads import Downloads

            return Downloads(
                store,
                source(),
                self.quota,
                self.limits,
                stall=stall,
                deadline=deadline,
                preferred=preferred,
                on_invalidated=self.invalidate_pages,
            )

        self._downloads = Lazy(open_downloads)

    def prepare_downloads(self) -> None:
        """Open what downloads need, as the first of them would do. Raises the same errors."""
        self._downloads()

    @property
    def admin(self) -> CacheAdmin:
        """Lists, verifies and removes the files of the cache folder for ``onefs cache``."""
        return self._downloads().admin

    @property
    def space(self) -> DiskSpace:
        """The disk space of the cache folder."""
        return self._downloads().space

    @property
    def adopter(self) -> InPlaceAdopter:
        """Verifies files that onefs did not download."""
        return self._downloads().adopter

    @property
    def small_files(self) -> SmallFileDownloader:
        """Fetches files as a whole."""
        return self._downloads().small_files

    @property
    def large_files(self) -> LargeFileDownloader:
        """Fetches the blocks of large files."""
        return self._downloads().large_files

    def open(
        self, dataset: Dataset, place: Place, at: Place | None = None
    ) -> DatasetHandle | DiskHandle:
        """Open a dataset whose size is known, without any request to a server.

        ``place`` is the path of the file in ONE's cache folder. ``at`` is the path in the tree, for
        which the kernel caches pages, or None if this path is ``place``. Raises BadContent if the
        file is known to be bad. Raises CacheError if the cache folder cannot be used. Raises what
        :meth:`DiskFiles.open` raises.
        """
        at = place if at is None else at
        found = self.store.look_up(dataset)
        if self.disk_files and (found[0] is None or found[0].state == "bad"):
            on_disk = self._open_on_disk(dataset, place, at)
            if on_disk is not None:
                return on_disk
        return self._open_cached(dataset, place, at, found)

    def _open_on_disk(self, dataset: Dataset, place: Place, at: Place) -> DiskHandle | None:
        """Open a dataset's file on a disk. Return None if no disk has it."""
        file = self.disk_files.open(dataset, place)
        if file is None and not self.disk_files.notes.away_note(dataset):
            return None
        keep_cache = file is not None and self.page_versions.note_opened(at, dataset, file.version)
        from onefs.content.disk_handle import DiskHandle  # as in _open_cached

        return DiskHandle(
            self.disk_files,
            dataset,
            file,
            lambda: self._open_cached(dataset, place, at, self.store.look_up(dataset)),
            keep_cache,
        )

    def _open_cached(
        self, dataset: Dataset, place: Place, at: Place, found: tuple[CacheEntry | None, bool]
    ) -> DatasetHandle:
        """Open a dataset without the disks. ``found`` is what :meth:`Store.look_up` returned."""
        entry, must_hash = found
        if entry is not None and entry.state == "bad":
            raise BadContent(entry.reason)
        size = dataset.size if entry is None else entry.size
        if size is None:
            raise ValueError(f"{dataset.id} is opened before its size is known")
        if entry is not None:
            self._note_use(dataset, entry)
            if entry.state == "accepted":
                self._accepted.expire(dataset.id)
        version = self._partial_generation(dataset) if entry is None else version_of_entry(entry)
        if must_hash:  # the kernel's pages may have bytes that were never verified
            version = f"{version}@"
        keep_cache = self.page_versions.note_opened(at, dataset, version)
        # imported here, because a command that reads the records of a file opens no file
        from onefs.content.handle import DatasetHandle

        return DatasetHandle(
            self,
            dataset,
            place,
            at,
            size,
            keep_cache,
            is_small=self.is_small(dataset),
            absent=entry is None and not version,
            verified=None if must_hash else entry,
        )

    def probe_size(
        self,
        dataset: Dataset,
        *,
        before_request: Callable[[], None] = lambda: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> int:
        """Find out the size in bytes of a dataset whose size is not in Alyx.

        A server is asked for at most ``deadline`` seconds, after ``before_request`` which may raise
        an error instead. ``is_wanted`` tells whether a program waits for the size. Raises
        Unreachable, DeadlineExceeded, ServerError or DataServerCredentials.
        """

        def ask_server() -> int:
            before_request()
            return self.small_files.size_of(dataset, self._deadline)

        return self.disk_files.size_of(dataset, ask_server, is_wanted)

    def state(self, dataset: Dataset, place: Place | None = None) -> tuple[str, str]:
        """Return the state of a dataset, and a sentence on its problem ('' if there is no problem).

        The extended attribute ``user.onefs.state`` has the state, which is one of these:

        - ``remote``: no byte is cached
        - ``partial``: some blocks are cached
        - ``cached``: the whole file is cached, and agrees with the database
        - ``unverified``: the whole file is cached, but the database has no hash of it
        - ``accepted``: the file contradicts the database, but the user has accepted the file
        - ``bad``: the file contradicts the database, and is not served

        ``cached`` and ``unverified`` also hold for a file on a disk, which is served in place.
        ``place`` is the path in ONE's cache folder, if it is known.
        """
        entry, _ = self.store.look_up(dataset)
        if entry is not None and entry.state != "bad":
            return entry.state, entry.reason
        on_disk = self.disk_files.state(dataset, place) if self.disk_files else ("", "")
        if on_disk[0]:
            return on_disk
        if entry is not None:
            return entry.state, entry.reason
        failure = self.small_files.recent_failure(dataset) or self.store.mismatches.describe(
            dataset
        )
        state = "partial" if self._partial_generation(dataset) else "remote"
        return state, "; ".join(filter(None, (str(failure or ""), on_disk[1])))

    def check_folder(self) -> str:
        """Create the cache folder again if it was deleted.

        Return a sentence for the user on what happened to the folder, or '' if nothing happened.
        Raises CacheError while the folder cannot be used.
        """
        with disk_errors(self.cache_dir):
            self.store.restore()
        return self.store.status_message

    def transfers(self) -> list[Transfer]:
        """Return the downloads in progress."""
        return [*self.small_files.transfers(), *self.large_files.transfers()]

    def bytes_by_server(self) -> dict[tuple[str, str], int]:
        """Return the bytes that have arrived, by the kind and the name of the server."""
        return self._downloads().hosts.bytes_by_server()

    def total_bytes(self) -> int:
        """Return the bytes of disk that files downloaded by onefs take.

        Partial files, and the space reserved for bytes that are about to be written, are included.
        """
        return self.store.usage.total_bytes()

    def disk_space(self) -> tuple[int, int]:
        """Return the total size and the free space, in bytes, of the disk with the cache folder.

        Raises CacheError if the cache folder cannot be used.
        """
        with disk_errors(self.cache_dir):
            status = os.statvfs(self.cache_dir)
        return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and end all downloads."""
        self.disk_files.close()
        if (downloads := self._downloads.close()) is not None:
            downloads.close()

    def close_store(self) -> None:
        """Release the cache folder. Called after the last use of the folder."""
        self.one_tables.close()
        self.store.close()

    def begin_fetch(self, dataset: Dataset, place: Place) -> bool:
        """Begin the download of a small file that is not cached, for a later :meth:`fetch_file`.

        Return True if that call has to wait for nothing else. Return False for a large file, and
        for one that may be on a disk or was put into the cache folder by another program. Raises
        Stopping.
        """
        if self.disk_files or not self.is_small(dataset):
            return False
        with suppress(Busy, CacheError, OSError):
            if self.store.cached_path(dataset) is not None:
                return True
            if not has_candidate(self.store, dataset, place):
                self.small_files.begin(dataset, place)
                return True
        return False

    def fetch_file(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None = None
    ) -> Path:
        """Return the path of a dataset's file. Download the file if it is neither cached nor on a
        disk.

        The file is verified, except for a large one on a disk, which only has the right size. For a
        large file, ``watch`` is called from time to time with the number of present bytes.
        Waits as long as bytes arrive. Raises BadContent, Unreachable, DataServerCredentials,
        DeadlineExceeded, ServerError, Throttled, CacheError, CacheFull, Stopping or
        RemoteFileChanged.
        """
        if self.disk_files and self.store.cached_path(dataset) is None:
            on_disk = self.disk_files.find(dataset, place)
            if on_disk is not None:
                return on_disk
        with self.disk_files.notes.noting_away(dataset):
            return self._fetch_into_cache(dataset, place, watch)

    def _fetch_into_cache(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None = None
    ) -> Path:
        path = self.store.cached_path(dataset) or self.adopter.adopt(dataset, place)
        if path is not None:
            self._note_use(dataset, self.store.valid_entry(dataset))
            return path
        if self.is_small(dataset):
            return self.small_files.fetch(dataset, place)
        return self._downloads().fetch_large(dataset, place, watch)

    def size_of(self, dataset: Dataset) -> int | None:
        """Return the size of a dataset in bytes, or None if the size is unknown.

        If the user has accepted bytes for the dataset, this is the size of the accepted bytes.
        Otherwise this is the size in the database. Bytes that another process accepts count at most
        a second later.
        """
        # fast: the accepted sizes are read at most once a second
        entry = self._accepted.get(dataset)
        return dataset.size if entry is None else entry.size

    @property
    def accepted_state(self) -> object:
        """An object that stays the same while :meth:`size_of` and :meth:`identity_of` do so."""
        return self._accepted.state

    def identity_of(self, dataset: Dataset) -> bytes:
        """Return a text that identifies the content that readers of the dataset get.

        The text is the first of these that is known:

        - the digest of the bytes that the user has accepted
        - the md5 in the database
        - the size and the UUID
        """
        entry = self._accepted.get(dataset)
        if entry is None:
            return dataset_identity(dataset)
        # records that onefs 0.1 wrote may have no digest
        return entry.digest.encode() or b"accepted %d" % entry.size + dataset_identity(dataset)

    def accept(self, dataset: Dataset, place: Place) -> Path:
        """Serve a dataset's bytes to all readers, although they contradict the database.

        Return the path of the bytes. The bytes are fetched again if the cache does not have them.
        Raises NotFound if the dataset is not known to contradict the database. Also raises the
        errors of :meth:`fetch_file` and :meth:`probe_size`.
        """
        entry, rejected = self.admin.rejected_content(dataset)
        digest = entry.digest
        if rejected is None:
            # never from a disk, since the file is moved
            size = self.small_files.size_of(dataset, self._deadline)
            unverifiable = replace(dataset, size=size, md5="")
            rejected, digest = self._fetch_into_cache(unverifiable, place), ""
        path = self.admin.accept(dataset, place, rejected, digest)
        self._accepted.expire()
        self.invalidate_pages(dataset)
        return path

    def cached_path(self, dataset: Dataset, place: Place | None = None) -> Path | None:
        """Return the path of a dataset's verified file, or None if the dataset is not cached.

        With ``place``, the path in ONE's cache folder, also look on the disks for a file that may
        be served; a small one is hashed for that. Nothing is fetched. Raises CacheError if the
        cache folder cannot be used.
        """
        path = self.store.cached_path(dataset)
        if path is None and place and self.disk_files:
            return self.disk_files.find(dataset, place, of_large=False)
        return path

    def disk_path(self, dataset: Dataset, place: Place) -> Path | None:
        """Return the path of a dataset's file on a disk, or None. Nothing is hashed."""
        return self.disk_files.find(dataset, place, verify=False) if self.disk_files else None

    def has_local_candidate(self, dataset: Dataset, place: Place) -> bool:
        """Whether a dataset can perhaps be read without a server.

        Return True if the cache has a valid entry for the dataset, if another program has put a
        file at the dataset's path, or if a disk has the file. Raises CacheError or OSError if the
        disk of the cache fails.
        """
        known = self.store.look_up(dataset)[0] is not None
        return (
            known
            or has_candidate(self.store, dataset, place)
            or self.disk_path(dataset, place) is not None
        )

    def is_small(self, dataset: Dataset) -> bool:
        """Whether a dataset is fetched as a whole, because it is small or its size is unknown."""
        return dataset.size is None or dataset.size <= self._small_file

    def invalidate_pages(self, dataset: Dataset) -> None:
        """Tell the kernel to drop its pages of a dataset, because their bytes are not valid any
        more."""
        self.page_versions.forget(dataset.id)
        self._on_invalidated(dataset)

    def _note_use(self, dataset: Dataset, entry: CacheEntry | None) -> None:
        if self.store.records.note_use(dataset.id):
            self.small_files.sync_soon(dataset)
        if entry is not None:
            self.store.add_missing_ctime(dataset, entry)

    def _partial_generation(self, dataset: Dataset) -> str:
        return "" if self.is_small(dataset) else self.large_files.generation_of(dataset)
