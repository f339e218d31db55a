"""Open datasets: find or fetch the bytes of a dataset, and return a descriptor to read from."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from onefs.blocks.block_map import STATE_CACHE_SECONDS, PartialState
from onefs.blocks.cursor import ReadCursor
from onefs.blocks.large_file import LargeFileDownloader
from onefs.cache.files import identity_of, stamp_of
from onefs.cache.folder import Place
from onefs.cache.in_place import has_candidate
from onefs.cache.page_cache_invalidation import PageVersions, version_of_entry, version_of_file
from onefs.cache.records import CacheEntry
from onefs.cache.store import Store
from onefs.cache.verify import check_file
from onefs.content.adopt_in_place import InPlaceAdopter
from onefs.download.quota import FetchQuota
from onefs.download.sources.interface import RemoteFileChanged
from onefs.download.whole_file import SmallFileDownloader
from onefs.errors import BadContent, CacheError, reason_of
from onefs.model import Dataset

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC
#: seconds for which a dataset still counts as absent, if no byte was cached when it was opened
_ABSENT_TTL_SECONDS = 0.1
#: number of changes of a file on the server, before any byte was served, after which a read fails
MAX_RESTARTS = 3
#: attempts to open a file. An attempt fails if another process evicts the file before it is open
MAX_OPEN_ATTEMPTS = 8


class ByteSource(Protocol):
    """The attributes and methods of :class:`Content` that an open dataset uses to read."""

    #: True if no byte is served before its whole file is verified
    strict: bool
    #: the files in the cache folder
    store: Store
    #: the limit of fetched bytes per hour
    quota: FetchQuota
    #: versions of the bytes that may be in the kernel's cached pages
    page_versions: PageVersions

    @property
    def adopter(self) -> InPlaceAdopter:
        """Verifies files that onefs did not download."""

    @property
    def small_files(self) -> SmallFileDownloader:
        """Fetches files as a whole."""

    @property
    def large_files(self) -> LargeFileDownloader:
        """Fetches the blocks of large files."""

    def invalidate_pages(self, dataset: Dataset) -> None:
        """Tell the kernel to drop its pages of a dataset."""


class DatasetHandle:
    """An open dataset (see ``onefs.tree.nodes.Handle``). Thread-safe.

    - ``place``: the path of the file in ONE's cache folder
    - ``at``: the path at which the tree shows the dataset
    - ``size``: in bytes
    - ``keep_cache``: whether the kernel's pages of the path ``at`` are still valid
    - ``is_small``: whether the file is fetched as a whole
    - ``absent``: whether no byte of the dataset was cached when the dataset was opened
    - ``verified``: the valid record of the file when the dataset was opened; None if there was none
    """

    def __init__(
        self,
        source: ByteSource,
        dataset: Dataset,
        place: Place,
        at: Place,
        size: int,
        keep_cache: bool,
        *,
        is_small: bool,
        absent: bool,
        verified: CacheEntry | None = None,
    ) -> None:
        self.size = size
        self.keep_cache = keep_cache
        self.in_parts = not is_small and verified is None
        self._source = source
        self._dataset = dataset
        self._place = place
        self._shown_at = at
        self._is_small = is_small
        self._absent_until = time.monotonic() + _ABSENT_TTL_SECONDS if absent else 0.0
        self._verified_record = verified
        self._lock = threading.Lock()
        self._fd: int | None = None
        #: the status of the open file when it was verified, and the time until which the status is
        #: not checked again (monotonic seconds)
        self._verified_stat: os.stat_result | None = None
        self._verified_until = 0.0
        self._verify_lock = threading.Lock()
        #: True if a verification has shown that the bytes of the open file were changed
        self._was_modified = False
        self._cursor: ReadCursor | None = None
        #: cursors on partial files that were dropped because the file changed on the server. They
        #: are closed when the handle is closed
        self._outdated_cursors: list[ReadCursor] = []

    def try_fd(self, offset: int, length: int) -> int | None:
        """Return a file descriptor if a range of bytes can be read from it without waiting.

        Return None if the range must first be fetched or verified. Raises BadContent if the dataset
        is known to be bad, and CacheError if the cache folder cannot be used.
        """
        if self._fd is not None:
            return self._fd if self._is_unchanged() else None
        cursor = self._cursor
        if cursor is not None:
            return self._try_cursor_fd(cursor, offset, length)
        if self._is_absent():
            return None
        if self._verified_record is not None and self._open_recorded(self._verified_record):
            return self._fd
        path = self._source.store.cached_path(self._dataset)
        if path is not None:
            return self._fd if self._open_cached(path) else None
        if self._is_small or not self._source.large_files.generation_of(self._dataset):
            return None
        if has_candidate(self._source.store, self._dataset, self._place):
            return None
        cursor = self._open_cursor()
        return None if cursor is None else self._try_cursor_fd(cursor, offset, length)

    def wait_fd(self, offset: int, length: int) -> int:
        """Wait until a range of bytes can be read, and return a descriptor for the range.

        The range has ``length`` bytes from ``offset``. Waits as long as bytes arrive. Raises
        BadContent, FetchLimit, CacheError, Stopping, and the errors of the file servers.
        """
        if self._fd is not None and not self._is_unchanged():
            self._verify_again(self._fd)
        changes = 0
        for _ in range(MAX_OPEN_ATTEMPTS):
            try:
                if self._fd is not None or self._fetch_within_quota(offset, length):
                    with self._lock:
                        if self._fd is not None:
                            return self._fd
                        if self._cursor is not None:
                            return self._cursor.fd
            except RemoteFileChanged:
                changes += 1
                self._restart(last=changes == MAX_RESTARTS)
        raise CacheError(
            f"{self._dataset.name} was evicted before it could be read: raise --cache-size"
        )

    def close(self) -> None:
        """Close the file. The caller must not read from this object any more."""
        with self._lock:
            descriptor, self._fd = self._fd, None
            cursors, self._outdated_cursors = self._outdated_cursors, []
            if self._cursor is not None:
                cursors.append(self._cursor)
            self._cursor = None
        if descriptor is not None:
            os.close(descriptor)
        for cursor in cursors:
            self._source.large_files.close_cursor(cursor)

    def _try_cursor_fd(self, cursor: ReadCursor, offset: int, length: int) -> int | None:
        if self._source.strict:
            is_readable = cursor.partial.block_file.state() is PartialState.DONE
        else:
            try:
                is_readable = cursor.pin_if_present(offset, length)
            except RemoteFileChanged:  # wait_fd reads the new file, or raises an error
                return None
        return cursor.fd if is_readable else None

    def _fetch_within_quota(self, offset: int, length: int) -> bool:
        """Make a range of bytes readable. Return False if the file was evicted meanwhile.

        Raises FetchLimit if fetching would exceed the hourly limit.
        """
        # a small file that was absent just now is looked for once more before it is fetched
        has_limit = self._source.quota.limit is not None
        is_fetched_anyway = self._is_small and not has_limit and self._is_absent()
        if self._cursor is None and not is_fetched_anyway:
            # a file of another program is adopted, not fetched
            path = self._source.adopter.adopt(self._dataset, self._place)
            if path is not None:
                return self._open_cached(path)
        whole = self._source.strict or self._is_small
        key, needed = self._dataset.id, self.size
        if not whole:
            cursor, large_files = self._cursor, self._source.large_files
            header = None if cursor is None else cursor.partial.block_file.header
            block = header.block_size if header else large_files.block_size_of(self._dataset)
            start, end = offset // block * block, -(-(offset + length) // block) * block
            key, needed = f"{key} {start}", min(end, self.size) - start
        with self._source.quota.reserve(key, needed, self._dataset.name) as reserve_again:
            return self._fetch_bytes(offset, length, reserve_again)

    def _fetch_bytes(self, offset: int, length: int, reserve_again: Callable[[], None]) -> bool:
        source, dataset = self._source, self._dataset
        if self._is_small:
            path = None if self._is_absent() else source.store.cached_path(dataset)
            if path is not None:
                return self._open_cached(path)
            return self._open_file(source.small_files.fetch(dataset, self._place, reserve_again))
        cursor = self._open_cursor()
        if cursor is None:
            path = source.store.cached_path(dataset)
            return path is not None and self._open_file(path)
        if source.strict or not cursor.wait_readable(offset, length):
            source.large_files.wait_until_complete(cursor)
        return True

    def _is_absent(self) -> bool:
        """Whether the dataset was opened just now, without any cached byte."""
        # the caller need not search the cache again
        return time.monotonic() < self._absent_until

    def _open_cursor(self) -> ReadCursor | None:
        """Return the read cursor of the partial file. Return None if the file is complete."""
        with self._lock:
            if self._cursor is not None:
                return self._cursor
        fresh = self._source.large_files.open_cursor(self._dataset, self._place)
        if fresh is None:
            return None
        self._source.page_versions.set_version(
            self._shown_at, self._dataset, fresh.partial.block_file.header.generation
        )
        with self._lock:
            if self._cursor is None:
                self._cursor = fresh
            cursor = self._cursor
        if cursor is not fresh:
            self._source.large_files.close_cursor(fresh)
        return cursor

    def _restart(self, *, last: bool) -> None:
        """Start again with the new version of a file that has changed on the server.

        Raises BadContent if bytes of the old version were served, or if ``last`` is true: the file
        has changed too often.
        """
        with self._lock:
            cursor = self._cursor
            outdated = cursor
            if cursor is not None and cursor.partial.block_file.state() is not PartialState.GONE:
                # another thread has noticed the change before, and has opened a new cursor
                outdated = None
            # a reader must not get bytes of two versions, and a file may not change too often
            if last or (outdated is not None and outdated.has_served_bytes):
                why = "has changed on the server" if cursor is None else cursor.partial.drop_reason
                raise BadContent(f"the file {self._dataset.name} {why}: open the file again")
            if outdated is not None:
                # the outdated cursor stays open, because other threads may still use it
                self._outdated_cursors.append(outdated)
                self._cursor = None

    def _open_file(self, path: Path) -> bool:
        """Open a verified file. Return False if the file was evicted before it was open.

        Raises BadContent for an unexpected size, and CacheError if the file cannot be opened.
        """
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CacheError(
                f"the cached file {path} cannot be opened: {reason_of(error, path)}"
            ) from error
        status = os.fstat(descriptor)
        if self._keep_first(descriptor, status, is_valid=status.st_size == self.size):
            self._note_page_version(status)
        if status.st_size != self.size:
            raise BadContent(
                f"the cached file {path} has {status.st_size} bytes instead of {self.size}"
            )
        return True

    def _open_cached(self, path: Path) -> bool:
        """Open a file that was cached after this dataset was opened, perhaps ahead of this read."""
        is_open = self._open_file(path)
        self._source.small_files.note_use(self._dataset)
        return is_open

    def _open_recorded(self, record: CacheEntry) -> bool:
        """Open the file that ``record`` describes. Return False if it is not there any more."""
        self._verified_record = None  # if this fails, the present record is read
        try:
            descriptor = os.open(f"{self._source.store.root}/{record.path}", _OPEN_FLAGS)
        except OSError:
            return False
        status = os.fstat(descriptor)
        is_same = record.describes(status, same_ctime=True)
        self._keep_first(descriptor, status, is_valid=is_same)
        return is_same

    def _keep_first(self, descriptor: int, status: os.stat_result, *, is_valid: bool) -> bool:
        """Read from ``descriptor`` from now on, if it is valid and no other one is open already.

        Otherwise close it, and return False.
        """
        with self._lock:
            is_first = self._fd is None and is_valid
            if is_first:
                self._verified_stat = status
                self._verified_until = time.monotonic() + STATE_CACHE_SECONDS
                self._fd = descriptor
        if not is_first:
            os.close(descriptor)
        return is_first

    def _is_unchanged(self) -> bool:
        """Whether ``fstat`` shows the open file unchanged since it was verified."""
        now = time.monotonic()
        if now < self._verified_until or self._fd is None or self._verified_stat is None:
            return True
        status = os.fstat(self._fd)
        # the name of an evicted file was removed, and its bytes are unchanged
        evicted = not status.st_nlink and stamp_of(status) == stamp_of(self._verified_stat)
        if not evicted and identity_of(status) != identity_of(self._verified_stat):
            return False
        self._verified_until = now + STATE_CACHE_SECONDS
        return True

    def _verify_again(self, descriptor: int) -> None:
        """Verify the open file again. Raises BadContent if the bytes of the file were changed."""
        dataset = self._dataset
        with self._verify_lock:
            if not self._was_modified:
                if self._is_unchanged():  # another thread has verified the file
                    return
                status = os.fstat(descriptor)
                self._source.adopter.adopt(dataset, self._place)
                entry = self._source.store.valid_entry(dataset)
                recorded = entry and (entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns)
                if recorded == identity_of(status) or self._is_content_valid(descriptor):
                    self._verified_stat = status
                    return
                self._was_modified = True
            raise BadContent(
                f"the file {dataset.name} was changed in the cache folder: open the file again"
            )

    def _is_content_valid(self, descriptor: int) -> bool:
        """Whether the bytes of the open file agree with the database."""
        # read by descriptor, because the name may have been removed
        good = check_file(self._dataset, Path(f"/proc/self/fd/{descriptor}")).state == "cached"
        if not good:
            self._source.invalidate_pages(self._dataset)
        return good

    def _note_page_version(self, status: os.stat_result) -> None:
        """Record which version of the bytes the kernel will have in its pages of the file."""
        source, dataset = self._source, self._dataset
        entry = None if self._is_small else source.store.valid_entry(dataset)
        if entry is None or (entry.inode, entry.mtime_ns) != (status.st_ino, status.st_mtime_ns):
            version = version_of_file(status)
        else:
            version = version_of_entry(entry)
        source.page_versions.set_version(self._shown_at, dataset, version)
