"""What the layers above see of the bytes: open a dataset, and read from a descriptor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onefs.blocks.block_file import PartialState, read_header
from onefs.blocks.cursor import ReadCursor
from onefs.blocks.evict import Evictor
from onefs.blocks.fetcher import Fetcher
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.readahead import MAX_READAHEAD_BYTES
from onefs.blocks.registry import PartialFileRegistry
from onefs.blocks.scheduler import BlockRequest, Scheduler
from onefs.blocks.verifier import Verifier
from onefs.cache.files import disk_errors
from onefs.cache.index import CacheIndex
from onefs.cache.one_tables import OneTables
from onefs.cache.page_versions import PageVersions, version_of_entry
from onefs.cache.records import CacheEntry
from onefs.cache.reservations import CacheLimits, DiskSpace
from onefs.cache.store import Place, Store
from onefs.config.cache_options import SMALL_FILE_BYTES
from onefs.content.admin import CacheAdmin
from onefs.content.adopt_in_place import InPlaceAdopter
from onefs.content.handle import DatasetHandle
from onefs.dates import dataset_identity
from onefs.download.hosts import Hosts
from onefs.download.progress import Transfer
from onefs.download.quota import FetchQuota
from onefs.download.responses import RemoteFileChanged
from onefs.download.whole_file import SmallFileDownloader
from onefs.errors import BadContent, CacheFull, DeadlineExceeded, Stopping, copy_error
from onefs.http import HostAuth, Transport
from onefs.model import Dataset

#: seconds between two reports to who watches a download
PROGRESS_REPORT_SECONDS = 0.2
#: seconds until what other processes have accepted is looked at again
ACCEPTED_TTL_SECONDS = 1.0
#: seconds for which verifying a complete file may take the disk
VERIFY_TIMEOUT_SECONDS = 3600.0
#: how often a whole file is fetched whose blocks are evicted before it is complete
MAX_COMPLETION_ATTEMPTS = 3
#: times and seconds for which a large file that is evicted as soon as it is complete is begun anew
EVICTED_RETRIES, EVICTED_RETRY_SECONDS = 8, 60.0


class Content:
    """The bytes of one laboratory's datasets, in one cache folder. Thread-safe.

    ``database`` names the laboratory that the folder must belong to. ``stall`` and ``deadline``
    are seconds: without progress on data, and for a question to a file server. ``small_file`` is
    in bytes. ``strict``: no byte is served before its whole file is verified. ``preferred`` names
    the repositories whose copies are tried first. ``share_partials`` None: as the file system's
    locks allow. ``on_bad`` is called, on any thread, with a dataset whose bytes turned out to be
    wrong: pages of it that anybody keeps are to be dropped. Reads of handles fetch at most
    ``max_fetch`` bytes in any hour, and then raise FetchLimit. ``trusted``: links
    in the folder may lead out of it.

    Raises UsageError when the folder belongs to another laboratory, CacheError when it cannot be
    used.
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
        small_file: int = SMALL_FILE_BYTES,
        strict: bool = False,
        limits: CacheLimits | None = None,
        preferred: Sequence[str] = (),
        share_partials: bool | None = None,
        on_invalidated: Callable[[Dataset], None] = lambda dataset: None,
        max_fetch: int | None = None,
        trusted: bool = False,
    ) -> None:
        self.cache_dir = cache_dir
        self.database = database
        self.limits = limits or CacheLimits()
        self.strict = strict
        self._small_file = small_file
        self._stall = stall
        self._deadline = deadline
        self._on_invalidated = on_invalidated
        self.page_versions = PageVersions()
        self._accepted: Mapping[str, CacheEntry] = {}
        self._accepted_until = 0.0
        self._stopping = threading.Event()
        self._index = CacheIndex(state_dir / "store.sqlite")
        self.store = Store(cache_dir, self._index, database, share=share_partials, trusted=trusted)
        #: ONE's own tables in the folder
        self.one_tables = OneTables(cache_dir)
        self.quota = FetchQuota(max_fetch)
        self._hosts = Hosts(transport, auth, stall, preferred, self.quota.count)
        lock = threading.Lock()
        self._registry = PartialFileRegistry(self.store, lock, self._is_open)
        self._evictor = Evictor(self.store, self._registry)
        self.admin = CacheAdmin(self.store, self._evictor)
        self._space = DiskSpace(cache_dir, self.store.usage, self.limits, self._evictor.evict)
        self._verifier = Verifier(self.store, self._registry, self._is_open, self.invalidate_pages)
        self._registry.on_last_user = self._verifier.release
        self._fetcher = Fetcher(
            self.store,
            self._hosts,
            self._space,
            stall,
            self._verifier.reject,
            self._verifier.drop,
        )
        self._scheduler = Scheduler(lock, self._registry, self._hosts, self._run_request)
        self._in_place_adopter = InPlaceAdopter(self.store, stall, self.invalidate_pages)
        self._small_files = SmallFileDownloader(
            self.store, self._hosts, self._space, stall, self.invalidate_pages
        )

    def open(self, dataset: Dataset, place: Place, at: Place | None = None) -> DatasetHandle:
        """Open a dataset of known size at its place. Asks no server.

        ``at`` is the path that it is shown at, when that is another: the kernel keeps pages by
        path. Raises BadContent at once for a file that is known to be bad.
        """
        at = place if at is None else at
        entry, doubted = self.store.look_up(dataset)
        if entry is not None and entry.state == "bad":
            raise BadContent(entry.reason)
        size = dataset.size if entry is None else entry.size
        if size is None:
            raise ValueError(f"{dataset.id} is opened before its size is known")
        if entry is not None:
            self.store.note_use(dataset)
            self.store.add_missing_ctime(dataset, entry)
            if entry.state == "accepted" and dataset.id not in self._accepted:
                self._accepted_until = 0.0
        version = self._partial_generation(dataset) if entry is None else version_of_entry(entry)
        if doubted:  # the kernel's pages may be of bytes that nobody has proved
            version = f"{version}@"
        keep = self.page_versions.note_opened(at, dataset, version)
        absent = entry is None and not version
        return DatasetHandle(self, dataset, place, at, size, keep, absent=absent)

    def probe_size(self, dataset: Dataset) -> int:
        """The size of a dataset whose size Alyx lacks, in bytes, from a file server.

        Waits at most ``deadline`` seconds. Raises Unreachable, DeadlineExceeded, ServerError or
        DataServerCredentials; never guesses.
        """
        return self._small_files.size_of(dataset, self._deadline)

    def state(self, dataset: Dataset) -> tuple[str, str]:
        """``user.onefs.state`` of a dataset, and one sentence if something is wrong with it.

        The state is ``remote``, ``partial``, ``cached``, ``unverified``, ``accepted`` or ``bad``.
        """
        entry, _ = self.store.look_up(dataset)
        if entry is not None:
            return entry.state, entry.reason
        failure = self._small_files.recent_failure(dataset) or self.store.mismatches.describe(
            dataset
        )
        state = "partial" if self._partial_generation(dataset) else "remote"
        return state, str(failure or "")

    def check_folder(self) -> str:
        """What became of the cache folder, if it was deleted or its disk was away; '' else.

        One that was deleted is made anew. Raises CacheError while it cannot be used.
        """
        with disk_errors(self.cache_dir):
            self.store.restore_folder()
        return self.store.folder_message

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        return [*self._small_files.transfers(), *self._scheduler.transfers()]

    def total_bytes(self) -> int:
        """Bytes of disk that the files which onefs downloaded take, complete or not."""
        return self.store.total_bytes()

    def disk_space(self) -> tuple[int, int]:
        """``(total, free)`` bytes of the disk that the folder lies on."""
        with disk_errors(self.cache_dir):
            found = os.statvfs(self.cache_dir)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Wake who waits, with Stopping."""
        self._stopping.set()
        self._hosts.close()
        self._in_place_adopter.close()
        self._scheduler.close()
        self._small_files.close()
        self._verifier.close()

    def close_store(self) -> None:
        """Let go of the index and the cache folder, after the last use."""
        self.one_tables.close()
        self.store.close()
        self._index.close()

    def fetch_file(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None = None
    ) -> Path:
        """The verified file of a dataset, downloaded if need be.

        ``watch`` is told now and then how many bytes of a large file are there. Waits for as long
        as bytes come. Raises BadContent, Unreachable, DataServerCredentials, DeadlineExceeded,
        ServerError, Throttled, CacheError or Stopping.
        """
        path = self.store.cached_path(dataset) or self.adopt(dataset, place)
        if path is not None:
            self.store.note_use(dataset)
            if (entry := self.store.valid_entry(dataset)) is not None:
                self.store.add_missing_ctime(dataset, entry)
            return path
        if self.is_small(dataset):
            return self.fetch_small_file(dataset, place)
        changed, tries, end = 0, 0, time.monotonic() + EVICTED_RETRY_SECONDS
        while tries < EVICTED_RETRIES or time.monotonic() < end:
            tries += 1
            try:
                self._complete_once(dataset, place, watch)
            except RemoteFileChanged:  # not a byte of the old file was handed out
                changed += 1
                if changed == MAX_COMPLETION_ATTEMPTS:
                    raise
            path = self.store.cached_path(dataset)
            if path is not None:
                return path
        raise CacheFull(f"{dataset.name} was evicted before it could be read: raise --cache-size")

    def _complete_once(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None
    ) -> None:
        reading = self.open_cursor(dataset, place)
        if reading is None:
            return
        try:
            self.wait_until_complete(reading, watch)
        finally:
            self.close_cursor(reading)

    def fetch_small_file(self, dataset: Dataset, place: Place) -> Path:
        """The same for a small dataset that does not seem to be there."""
        return self._small_files.fetch(dataset, place)

    def size_of(self, dataset: Dataset) -> int | None:
        """Bytes of a dataset: the database's claim, or what the user has accepted instead.

        Cheap; what another process has accepted counts within ACCEPTED_TTL_SECONDS, or once it is
        opened.
        """
        entry = self._accepted_entry(dataset)
        return dataset.size if entry is None else entry.size

    def identity_of(self, dataset: Dataset) -> bytes:
        """Return what tells the bytes that are shown from others, accepted ones included."""
        entry = self._accepted_entry(dataset)
        if entry is None:
            return dataset_identity(dataset)
        # an older onefs has not noted the digest
        return entry.digest.encode() or b"accepted %d" % entry.size + dataset_identity(dataset)

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """The file of somebody else at a dataset's place, if it is what the database describes.

        Waits while it is hashed. Raises DeadlineExceeded, CacheError or Stopping.
        """
        return self._in_place_adopter.adopt(dataset, place)

    def accept(self, dataset: Dataset, place: Place) -> Path:
        """Serve the bytes that were found bad, as they are, from now on.

        They are fetched again when they were not kept. Raises NotFound when the dataset is not
        known to be bad, else as :meth:`path` does.
        """
        entry, kept = self.admin.rejected_content(dataset)
        digest = entry.digest
        if kept is None:
            there = replace(dataset, size=self.probe_size(dataset), md5="")
            kept, digest = self.fetch_file(there, place), ""
        path = self.admin.accept(dataset, place, kept, digest)
        self._accepted_until = 0.0
        self.invalidate_pages(dataset)  # whoever has pages of what was there before
        return path

    def cached_path(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset if it is there, without any waiting."""
        return self.store.cached_path(dataset)

    def has_local_candidate(self, dataset: Dataset, place: Place) -> bool:
        """Whether reading a dataset may need no server: it is there, or a file in its place is."""
        return self.store.look_up(dataset)[0] is not None or self.store.has_candidate(
            dataset, place
        )

    def is_small(self, dataset: Dataset) -> bool:
        """Whether a dataset is fetched whole; one of unknown size is."""
        return dataset.size is None or dataset.size <= self._small_file

    def is_partly_cached(self, dataset: Dataset, place: Place) -> bool:
        """Whether some blocks of a large dataset may be here, and no file to be checked first."""
        begun = not self.is_small(dataset) and bool(self._partial_generation(dataset))
        return begun and not self.store.has_candidate(dataset, place)

    def open_cursor(
        self, dataset: Dataset, place: Place, at: Place | None = None
    ) -> ReadCursor | None:
        """Read the partial file of a large dataset, until :meth:`close_cursor`.

        ``at``: for the file that is open there. None when it is complete. Raises BadContent,
        CacheError or DeadlineExceeded.
        """
        partial = self._registry.acquire(dataset, place, self._stall)
        if partial is None:
            return None
        if at is not None:
            self.page_versions.set_version(at, dataset, partial.block_file.header.generation)
        if (
            partial.is_probably_complete()
        ):  # whoever brought the last block did not live to verify it
            self._verifier.schedule(partial)
        return ReadCursor(
            partial,
            self._scheduler,
            self._hosts,
            self._stall,
            lambda: self._space.max_readahead(MAX_READAHEAD_BYTES),
            # ahead only while all that a reader's window may hold is within the hour's limit
            lambda size: self.quota.is_within_limit(max(size, MAX_READAHEAD_BYTES)),
        )

    def close_cursor(self, reading: ReadCursor) -> None:
        """The end of what :meth:`open_cursor` began."""
        reading.close()
        self._registry.release(reading.partial)

    def wait_until_complete(
        self, reading: ReadCursor, watch: Callable[[int], None] | None = None
    ) -> None:
        """Wait until a partial file is complete and verified.

        Raises as :meth:`path` does, and CacheFull for one that the cache cannot hold as a whole.
        """
        partial = reading.partial
        limit = self.limits.cache_size
        for _ in range(MAX_COMPLETION_ATTEMPTS):
            if limit is not None and partial.block_file.header.size > limit:
                break
            self._fetch_all_blocks(reading, watch)
            partial.verify_error = None
            self._verifier.schedule(partial)
            if self._wait_for_verdict(partial):
                return
        raise CacheFull(f"{partial.dataset.name} is larger than what the cache has room for")

    def _fetch_all_blocks(self, reading: ReadCursor, watch: Callable[[int], None] | None) -> None:
        partial = reading.partial
        size, step = partial.block_file.header.size, partial.block_file.header.block_size
        told = 0.0
        for offset in range(0, size, step):
            length = min(step, size - offset)
            reading.wait_unverified(offset, length)
            if watch is not None and time.monotonic() > told + PROGRESS_REPORT_SECONDS:
                told = time.monotonic()
                watch(partial.block_file.present_bytes())

    def _wait_for_verdict(self, partial: PartialFile) -> bool:
        """Wait for the verdict on a file that is good; False when blocks of it were evicted."""
        end = time.monotonic() + VERIFY_TIMEOUT_SECONDS
        while partial.block_file.state() is PartialState.LIVE:
            if not all(partial.block_file.records(0, partial.block_file.block_count)):
                return partial.block_file.state() is PartialState.DONE
            if self._stopping.is_set():
                raise Stopping("onefs is being stopped")
            if partial.verify_error is not None:
                raise copy_error(partial.verify_error)
            if time.monotonic() > end:
                raise DeadlineExceeded(f"{partial.dataset.name} takes too long to verify")
            self._verifier.start_pending()
            with partial.demand.condition:
                partial.demand.condition.wait(0.1)
        if partial.block_file.state() is PartialState.BAD:
            verdict = self.store.verdict(partial.dataset)
            raise BadContent(verdict.reason if verdict is not None else "the bytes are wrong")
        if partial.verify_error is not None:
            raise copy_error(partial.verify_error)
        if partial.block_file.state() is not PartialState.DONE:
            raise RemoteFileChanged(f"{partial.dataset.name} {partial.drop_reason}: open it again")
        return True

    def _run_request(self, run: BlockRequest) -> None:
        self._fetcher.fetch(run, self._scheduler, self._blocks_arrived)
        # what others have brought meanwhile may have been the last of it
        if not run.partial.demand.in_flight and run.partial.is_probably_complete():
            self._verifier.schedule(run.partial)

    def _blocks_arrived(self, run: BlockRequest, blocks: range) -> None:
        self._scheduler.blocks_arrived(run, blocks)
        self._verifier.blocks_arrived(run.partial, blocks)

    def _is_open(self) -> bool:
        return not self._stopping.is_set()

    def invalidate_pages(self, dataset: Dataset) -> None:
        """Have all pages of a dataset dropped, since its bytes are wrong."""
        self.page_versions.forget(dataset.id)
        self._on_invalidated(dataset)

    def _accepted_entry(self, dataset: Dataset) -> CacheEntry | None:
        """The entry of the bytes that the user has accepted for a dataset, if any."""
        now = time.monotonic()
        if now > self._accepted_until:
            self._accepted_until, self._accepted = (
                now + ACCEPTED_TTL_SECONDS,
                self.store.accepted_entries(),
            )
        entry = self._accepted.get(dataset.id)
        if entry is None or (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return None
        return entry

    def _partial_generation(self, dataset: Dataset) -> str:
        if self.is_small(dataset):  # it has no partial file
            return ""
        about = read_header(self.store.partial_folder, dataset.id)
        return about.generation if about is not None else ""
