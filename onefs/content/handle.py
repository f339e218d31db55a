"""Open handles: where the bytes of a dataset are, whole or in parts."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from onefs.blocks.block_file import BLOCK_SIZE, STATE_CACHE_SECONDS, PartialState
from onefs.blocks.cursor import ReadCursor
from onefs.cache.files import identity_of, stamp_of
from onefs.cache.page_versions import version_of_entry, version_of_file
from onefs.cache.store import Place
from onefs.cache.verify import check_file
from onefs.download.responses import RemoteFileChanged
from onefs.errors import BadContent, CacheError, reason_of
from onefs.model import Dataset

if TYPE_CHECKING:
    from onefs.content.content import Content

#: seconds for which nothing is there yet if nothing was there on opening
_ABSENT_TTL_SECONDS = 0.02
#: how often a read begins anew when the remote file changes before a byte was handed out
MAX_RESTARTS = 3
#: how often a file is fetched that others evict, to make room for theirs, before it can be opened
MAX_OPEN_ATTEMPTS = 8


class DatasetHandle:
    """An open dataset (see ``onefs.tree.nodes.Handle``). Thread-safe."""

    def __init__(
        self,
        content: Content,
        dataset: Dataset,
        place: Place,
        at: Place,
        size: int,
        keep_cache: bool,
        *,
        absent: bool,
    ) -> None:
        """``absent``: nothing of it is in the cache folder just now."""
        self.size = size
        self.keep_cache = keep_cache
        self._content = content
        self._dataset = dataset
        self._place = place
        self._shown_at = at
        self._absent_until = time.monotonic() + _ABSENT_TTL_SECONDS if absent else 0.0
        self._lock = threading.Lock()
        self._fd: int | None = None
        #: the file of ``_fd`` as it was when its bytes were proved, and until when that is believed
        self._verified_stat: os.stat_result | None = None
        self._verified_until = 0.0
        self._verify_lock = threading.Lock()
        #: the open file turned out to have been changed
        self._was_modified = False
        self._cursor: ReadCursor | None = None
        #: readings of files that have changed since, to be ended with the last read
        self._outdated_cursors: list[ReadCursor] = []

    def try_fd(self, offset: int, length: int) -> int | None:
        """The descriptor that holds these bytes; None when a server has to be waited for."""
        if self._fd is not None:
            return self._fd if self._is_unchanged() else None
        reading = self._cursor
        if reading is not None:
            return self._try_cursor_fd(reading, offset, length)
        if self._is_absent():
            return None
        known = self._content.cached_path(self._dataset)
        if known is not None:
            return self._fd if self._open_file(known) else None
        if not self._content.is_partly_cached(self._dataset, self._place):
            return None
        reading = self._open_cursor()
        return None if reading is None else self._try_cursor_fd(reading, offset, length)

    def wait_fd(self, offset: int, length: int) -> int:
        """A descriptor that holds these bytes at this offset; fetches them if need be."""
        if self._fd is not None and not self._is_unchanged():
            self._verify_again(self._fd)
        changes = 0
        for _ in range(MAX_OPEN_ATTEMPTS):
            try:
                if self._fd is not None or self._fetch_within_quota(offset, length):
                    break
            except RemoteFileChanged:
                changes += 1
                self._restart(last=changes == MAX_RESTARTS)
        else:  # another thread's reading may be there, which holds other bytes than ours
            raise self._evicted_error()
        with self._lock:
            descriptor = self._fd
            if descriptor is None and self._cursor is not None:
                descriptor = self._cursor.fd
        if descriptor is None:
            raise self._evicted_error()
        return descriptor

    def close(self) -> None:
        """Let go of the file. Nothing is read from this handle any more."""
        with self._lock:
            descriptor, self._fd = self._fd, None
            readings, self._outdated_cursors = self._outdated_cursors, []
            if self._cursor is not None:
                readings.append(self._cursor)
            self._cursor = None
        if descriptor is not None:
            os.close(descriptor)
        for reading in readings:
            self._content.close_cursor(reading)

    def _try_cursor_fd(self, reading: ReadCursor, offset: int, length: int) -> int | None:
        if self._content.strict:
            here = reading.partial.block_file.state() is PartialState.DONE
        else:
            try:
                here = reading.pin_if_present(offset, length)
            except RemoteFileChanged:  # fd() begins anew, or says why it cannot
                return None
        return reading.fd if here else None

    def _fetch_within_quota(self, offset: int, length: int) -> bool:
        """Wait for the bytes; False when they went again before we had them in hand."""
        if self._cursor is None:  # nothing is fetched of what somebody else has brought
            taken = self._content.adopt(self._dataset, self._place)
            if taken is not None:
                return self._open_file(taken)
        whole = self._content.strict or self._content.is_small(self._dataset)
        blocks = -(-length // BLOCK_SIZE) * BLOCK_SIZE
        needed = self.size if whole else min(blocks, self.size)
        key = self._dataset.id if whole else f"{self._dataset.id} {offset // BLOCK_SIZE}"
        with self._content.quota.reserve(key, needed, self._dataset.name):
            return self._fetch_bytes(offset, length)

    def _fetch_bytes(self, offset: int, length: int) -> bool:
        if self._content.is_small(self._dataset):
            bring = (
                self._content.fetch_small_file if self._is_absent() else self._content.fetch_file
            )
            return self._open_file(bring(self._dataset, self._place))
        reading = self._open_cursor()
        if reading is None:
            known = self._content.cached_path(self._dataset)
            return known is not None and self._open_file(known)
        if self._content.strict or not reading.wait_readable(offset, length):
            self._content.wait_until_complete(reading)
        return True

    def _evicted_error(self) -> CacheError:
        return CacheError(f"{self._dataset.name} cannot be kept long enough to be read")

    def _is_absent(self) -> bool:
        """Whether nothing of it was there a moment ago: looking again would be a waste."""
        return time.monotonic() < self._absent_until

    def _open_cursor(self) -> ReadCursor | None:
        """Our reading of the partial file; None when the file is complete."""
        with self._lock:
            if self._cursor is not None:
                return self._cursor
        fresh = self._content.open_cursor(self._dataset, self._place, self._shown_at)
        if fresh is None:
            return None
        with self._lock:
            if self._cursor is None:
                self._cursor = fresh
            reading = self._cursor
        if reading is not fresh:
            self._content.close_cursor(fresh)
        return reading

    def _restart(self, *, last: bool) -> None:
        """The remote file changed: no matter, if nobody has seen a byte of it yet.

        Several threads may notice, and some of them late: the first has begun anew for all. What
        they read of the old one stays open while they may still look at it.
        """
        with self._lock:
            reading = self._cursor
            if last or (reading is not None and reading.has_served_bytes):
                why = (
                    "has changed on the server" if reading is None else reading.partial.drop_reason
                )
                raise BadContent(f"{self._dataset.name} {why}: open it again")
            if reading is not None and reading.partial.block_file.state() is not PartialState.LIVE:
                self._outdated_cursors.append(reading)
                self._cursor = None

    def _open_file(self, path: Path) -> bool:
        """Take a verified file; False when it was evicted just now."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CacheError(
                f"{path} was verified and cannot be opened: {reason_of(error, path)}"
            ) from error
        found = os.fstat(descriptor)
        with self._lock:
            taken = self._fd is None and found.st_size == self.size
            if taken:
                self._verified_stat = found
                self._fd = descriptor
        if taken:
            self._note_page_version(found)
        else:
            os.close(descriptor)
        if found.st_size != self.size:
            raise BadContent(f"{path} has {found.st_size} bytes, {self.size} were promised")
        return True

    def _is_unchanged(self) -> bool:
        """Whether nothing was done to the open file since its bytes were proved.

        That it lost its last name is an eviction, which leaves its bytes as they are.
        """
        now = time.monotonic()
        if now < self._verified_until or self._fd is None or self._verified_stat is None:
            return True
        found = os.fstat(self._fd)
        evicted = not found.st_nlink and stamp_of(found) == stamp_of(self._verified_stat)
        if not evicted and identity_of(found) != identity_of(self._verified_stat):
            return False
        self._verified_until = now + STATE_CACHE_SECONDS
        return True

    def _verify_again(self, descriptor: int) -> None:
        """Hash the open file once more; raises BadContent when its bytes are not what they were."""
        dataset = self._dataset
        with self._verify_lock:
            if not self._was_modified:
                if self._is_unchanged():  # another thread has proved it
                    return
                found = os.fstat(descriptor)
                self._content.adopt(dataset, self._place)
                entry = self._content.store.valid_entry(dataset)
                known = entry and (entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns)
                if known == identity_of(found) or self._is_content_valid(descriptor):
                    self._verified_stat = found
                    return
                self._was_modified = True
            raise BadContent(f"{dataset.name} was changed in the cache folder: open it again")

    def _is_content_valid(self, descriptor: int) -> bool:
        """Whether the open file, which may have no name any more, is what the database says."""
        good = check_file(self._dataset, Path(f"/proc/self/fd/{descriptor}")).state == "cached"
        if not good:
            self._content.invalidate_pages(self._dataset)
        return good

    def _note_page_version(self, found: os.stat_result) -> None:
        """The kernel may show again what it reads of this file from now on."""
        content, dataset = self._content, self._dataset
        entry = None if content.is_small(dataset) else content.store.valid_entry(dataset)
        if entry is not None and (entry.inode, entry.mtime_ns) == (found.st_ino, found.st_mtime_ns):
            content.page_versions.set_version(self._shown_at, dataset, version_of_entry(entry))
        else:
            content.page_versions.set_version(self._shown_at, dataset, version_of_file(found))
