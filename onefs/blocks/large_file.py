"""Large files: fetched in blocks, and served before all blocks are present.

Large files are verified in the background.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from onefs.blocks.block_map import BLOCK_SIZE, PartialState, read_header
from onefs.blocks.cursor import PIN_GROUP_BYTES, ReadCursor
from onefs.blocks.fetcher import Fetcher
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.readahead import MAX_READAHEAD_BYTES
from onefs.blocks.registry import PartialFileRegistry
from onefs.blocks.requests import BlockRequest
from onefs.blocks.scheduler import Scheduler
from onefs.blocks.verifier import Verifier
from onefs.cache.files import disk_errors
from onefs.cache.folder import Place
from onefs.cache.reservations import DiskSpace
from onefs.cache.store import Store
from onefs.download.hosts import Hosts
from onefs.download.progress import Transfer
from onefs.download.quota import FetchQuota
from onefs.download.sources.interface import RemoteFileChanged
from onefs.errors import BadContent, CacheError, CacheFull, DeadlineExceeded, Stopping, copy_error
from onefs.model import Dataset

#: seconds between two progress reports of a download
PROGRESS_REPORT_SECONDS = 0.2
#: longest time in seconds that the verification of a complete file may take
VERIFY_TIMEOUT_SECONDS = 3600.0
#: seconds between two checks that no block was evicted from a file that is being verified
COMPLETE_CHECK_SECONDS = 1.0
#: attempts to complete a file. An attempt fails if blocks of the file are evicted, or if the file
#: changes on the server, before the file is complete
MAX_COMPLETION_ATTEMPTS = 3


class LargeFileDownloader:
    """Downloads large files into one cache folder. Thread-safe.

    ``stall`` is the number of seconds without progress after which a read fails. ``on_invalidated``
    is called with a dataset when the kernel must drop its pages of the dataset.
    """

    def __init__(
        self,
        store: Store,
        registry: PartialFileRegistry,
        hosts: Hosts,
        space: DiskSpace,
        quota: FetchQuota,
        stall: float,
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._hosts = hosts
        self._space = space
        self._quota = quota
        self._stall = stall
        self._verifier = Verifier(store, registry, on_invalidated)
        registry.on_last_user = self._verifier.release
        self._fetcher = Fetcher(
            store, hosts, space, stall, self._verifier.reject, self._verifier.drop
        )
        self._scheduler = Scheduler(registry, hosts, self._run_request)

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and end all threads."""
        self._registry.stopping.set()
        self._scheduler.close()
        self._verifier.close()

    def transfers(self) -> list[Transfer]:
        """Return the downloads in progress."""
        return self._scheduler.transfers()

    def fetched_places(self) -> set[Place]:
        """Return the places of the files whose blocks are being fetched. This counts no blocks."""
        return self._scheduler.fetched_places()

    def generation_of(self, dataset: Dataset) -> str:
        """Return the generation of a dataset's partial file, or '' if there is no partial file.

        The generation is a random text. Each newly created partial file gets another text. Raises
        OSError if the disk fails.
        """
        header = read_header(self._store.partial_folder, dataset.id)
        return header.generation if header is not None else ""

    def block_size_of(self, dataset: Dataset) -> int:
        """Return how many bytes a block of a dataset has. Older partial files have larger blocks.

        Raises CacheError if the disk fails.
        """
        with disk_errors(self._store.root):
            header = read_header(self._store.partial_folder, dataset.id)
        return header.block_size if header is not None else BLOCK_SIZE

    def open_cursor(self, dataset: Dataset, place: Place) -> ReadCursor | None:
        """Open the partial file of a dataset. Return None if the file is complete.

        The caller closes the cursor with :meth:`close_cursor`. Raises BadContent, CacheError,
        CacheFull or DeadlineExceeded.
        """
        partial = self._registry.acquire(dataset, place, self._stall)
        if partial is None:
            return None
        try:
            # the file may be complete because another process has fetched and not yet verified it
            with disk_errors(self._store.root):
                if partial.is_probably_complete():
                    self._verifier.schedule(partial)
            return ReadCursor(
                partial,
                self._scheduler,
                self._hosts,
                self._stall,
                self._max_readahead,
                # read ahead only while the hourly limit allows as many bytes as the longest window
                lambda size: self._quota.is_within_limit(max(size, MAX_READAHEAD_BYTES)),
            )
        except BaseException:
            self._registry.release(partial)
            raise

    def close_cursor(self, cursor: ReadCursor) -> None:
        """Close a cursor that :meth:`open_cursor` returned."""
        cursor.close()
        self._registry.release(cursor.partial)

    def complete(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] | None = None
    ) -> None:
        """Wait until a dataset is complete and verified.

        ``watch`` is called from time to time with the number of present bytes. Afterwards the file
        may be evicted at any time. Raises the errors of :meth:`open_cursor` and
        :meth:`wait_until_complete`.
        """
        cursor = self.open_cursor(dataset, place)
        if cursor is None:
            return
        try:
            self.wait_until_complete(cursor, watch)
        finally:
            self.close_cursor(cursor)

    def wait_until_complete(
        self, cursor: ReadCursor, watch: Callable[[int], None] | None = None
    ) -> None:
        """Wait until a partial file is complete and verified.

        Raises RemoteFileChanged, BadContent, Unreachable, DataServerCredentials, DeadlineExceeded,
        ServerError, Throttled, CacheError and Stopping. Raises CacheFull in two cases: the file is
        larger than the cache may be, or its blocks were evicted in each of MAX_COMPLETION_ATTEMPTS
        attempts.
        """
        partial = cursor.partial
        limit = self._space.limits.cache_size
        for _ in range(MAX_COMPLETION_ATTEMPTS):
            if limit is not None and partial.block_file.header.size > limit:
                break
            self._fetch_all_blocks(cursor, watch)
            partial.verify_error = None
            self._verifier.schedule(partial)
            if self._wait_for_verdict(partial):
                return
        raise CacheFull(
            f"the file {partial.dataset.name} does not fit into the cache: raise --cache-size, or "
            "free space on the disk of the cache"
        )

    def _max_readahead(self) -> int:
        try:
            return self._space.max_readahead(MAX_READAHEAD_BYTES)
        except (OSError, CacheError):  # the read that needs the disk reports its failure
            return 0

    def _fetch_all_blocks(self, cursor: ReadCursor, watch: Callable[[int], None] | None) -> None:
        blocks = cursor.partial.block_file
        reported_at, size = 0.0, blocks.header.size
        cursor.expect_whole_file()
        for start in range(0, size, PIN_GROUP_BYTES):
            cursor.wait_unverified(start, min(PIN_GROUP_BYTES, size - start))
            if watch is not None and time.monotonic() > reported_at + PROGRESS_REPORT_SECONDS:
                reported_at = time.monotonic()
                watch(blocks.present_bytes())

    def _wait_for_verdict(self, partial: PartialFile) -> bool:
        """Wait until a complete file is verified. Return False if a block is evicted meanwhile.

        Raises BadContent, RemoteFileChanged, Stopping, the error of a failed verification, or
        DeadlineExceeded after VERIFY_TIMEOUT_SECONDS.
        """
        blocks, name = partial.block_file, partial.dataset.name
        end = time.monotonic() + VERIFY_TIMEOUT_SECONDS
        check_at = 0.0
        while blocks.state() is PartialState.LIVE:
            if time.monotonic() >= check_at:
                if blocks.present_bytes() < blocks.header.size:
                    return blocks.state() is PartialState.DONE
                check_at = time.monotonic() + COMPLETE_CHECK_SECONDS
            if not self._registry.is_open():
                raise Stopping("onefs is being stopped")
            if partial.verify_error is not None:
                raise copy_error(partial.verify_error)
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"the file {name} could not be verified within {VERIFY_TIMEOUT_SECONDS:g} s: "
                    "try again"
                )
            self._verifier.start_pending()
            with partial.demand.condition:
                is_notified = partial.demand.condition.wait(0.1)
            if not is_notified:
                # Hashing ends early if a block is absent for a moment. If another process fetches
                # that block again, nothing else in this process begins the hashing.
                self._verifier.schedule(partial)
        if blocks.state() is PartialState.BAD:
            entry = self._store.valid_entry(partial.dataset)
            raise BadContent(partial.rejection_reason if entry is None else entry.reason)
        if partial.verify_error is not None:
            raise copy_error(partial.verify_error)
        if blocks.state() is not PartialState.DONE:
            raise RemoteFileChanged(f"the file {name} {partial.drop_reason}: open the file again")
        return True

    def _run_request(self, request: BlockRequest) -> None:
        self._fetcher.fetch(request, self._scheduler, self._blocks_arrived)
        # the file may be complete now, because other processes have fetched the other blocks
        partial = request.partial
        if not partial.demand.in_flight and partial.is_probably_complete():
            self._verifier.schedule(partial)

    def _blocks_arrived(self, request: BlockRequest, blocks: range) -> None:
        self._scheduler.blocks_arrived(request, blocks)
        self._verifier.blocks_arrived(request.partial, blocks)
