"""Open files of the mount: find the bytes to read, and refuse a cached file that is too short."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from onefs.errors import BadContent, copy_error
from onefs.lowlevel.files import ReadDescriptor
from onefs.mount.indexers import ALLOW_ALL, IndexerFilter
from onefs.mount.path_errors import PathErrors
from onefs.mount.request_limits import WaitingReads
from onefs.mount.sibling_prefetcher import NO_SIBLINGS, SiblingPrefetcher
from onefs.tree.nodes import Handle, Node

#: the error of a read is remembered if the read took at least this many seconds
_SLOW_READ_SECONDS = 1.0
#: seconds for which the error of a read is remembered
_FAILURE_TTL_SECONDS = 0.5
#: seconds for which the size of a cached file is not checked again. Each check releases the GIL
#: and then waits for the GIL, and this slows down a busy mount.
_SIZE_CHECK_TTL_SECONDS = 0.005


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extent:
    """A file descriptor, and a range of bytes in the file that the descriptor has open."""

    fd: int
    offset: int
    length: int
    #: the bytes of the range, if they were read already
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class _ReadFailure:
    error: Exception
    start: int
    end: int
    until: float


class FileHandle:
    """One open file of the mount, shared by all threads that read this file."""

    def __init__(
        self,
        path: str,
        node: Node,
        handle: Handle,
        waiting_reads: WaitingReads,
        indexer_filter: IndexerFilter = ALLOW_ALL,
        path_errors: PathErrors | None = None,
        siblings: SiblingPrefetcher = NO_SIBLINGS,
    ) -> None:
        self.node = node
        self._path = path
        self.handle = handle
        self._waiting_reads = waiting_reads
        self._indexer_filter = indexer_filter
        self._path_errors = path_errors or PathErrors()
        self._siblings = siblings
        self._is_unread = True
        self._failure: _ReadFailure | None = None
        self._is_short_file_logged = False
        #: the descriptor whose file size was checked, and the time until which the check is valid
        self._size_checked_fd = -1
        self._size_checked_until = 0.0

    def extent(self, offset: int, size: int) -> Extent:
        """Return the descriptor, offset and length to read ``size`` bytes from ``offset`` on.

        Waits until the bytes are available. The length is less than ``size`` only at the end of the
        file. Raises the errors of :meth:`Handle.wait_fd`, and these errors:

        - :class:`IndexerBlocked`: the calling program may read cached bytes only
        - :class:`Busy`: too many reads are waiting
        - :class:`BadContent`: the cached file is too short
        """
        end = min(offset + size, self.handle.size)
        if end <= offset:
            return Extent(-1, offset, 0)
        length = end - offset
        fd = self._descriptor_for(offset, length)
        if isinstance(fd, ReadDescriptor):
            if len(fd.data) < length:
                raise self._short_file_error(offset + len(fd.data))
            return Extent(fd, offset, length, fd.data)
        now = time.monotonic()
        if fd != self._size_checked_fd or now > self._size_checked_until:
            cached_size = os.fstat(fd).st_size
            # a program would treat a short read as the end of the file
            if cached_size < self.handle.size:
                raise self._short_file_error(cached_size)
            self._size_checked_fd, self._size_checked_until = fd, now + _SIZE_CHECK_TTL_SECONDS
        return Extent(fd, offset, length)

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes in the range that :meth:`extent` returns.

        Raises the errors that :meth:`extent` raises.
        """
        extent = self.extent(offset, size)
        if extent.data is not None:
            return extent.data
        chunks: list[bytes] = []
        missing = extent.length
        end = extent.offset + extent.length
        while missing:
            chunk = os.pread(extent.fd, missing, end - missing)
            if not chunk:
                raise self._short_file_error(end - missing)
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)

    def _short_file_error(self, size: int) -> BadContent:
        """Return the error for a cached file that has only ``size`` bytes.

        The first call after the file was opened also logs the error.
        """
        problem = BadContent(
            f"{self._path}: the cached file has {size} bytes, but must have {self.handle.size}."
        )
        if not self._is_short_file_logged:
            self._is_short_file_logged = True
            log.error("%s", problem)
        return problem

    def _descriptor_for(self, offset: int, length: int) -> int:
        available = self.handle.try_fd(offset, length)
        if available is not None:
            self._path_errors.clear(self._path)
            if self._is_unread:
                self._is_unread = False
                self._siblings.note_open(self._path)  # it may have been fetched after the opening
            return available
        self._indexer_filter.check_caller(self._path)
        self._raise_recent_failure(offset, length)
        self._siblings.note_cold_read(self._path, self.handle.size)
        started = time.monotonic()
        try:
            with self._waiting_reads.hold_slot(self._path):
                descriptor = self.handle.wait_fd(offset, length)
        except Exception as error:
            self._remember_failure(error, offset, length, started)
            self._path_errors.note_failure(self._path, error)
            self._siblings.note_failure(self._path)
            raise
        self._path_errors.note_fetched(self._path)
        return descriptor

    def _remember_failure(self, error: Exception, offset: int, length: int, started: float) -> None:
        # When read-ahead fails, the kernel immediately requests the one page that the program waits
        # for. If the error were not remembered, the program would wait for two timeouts, not one.
        now = time.monotonic()
        if now - started >= _SLOW_READ_SECONDS:
            until = now + _FAILURE_TTL_SECONDS
            # a copy, because the traceback of ``error`` has frames that have this handle
            self._failure = _ReadFailure(copy_error(error), offset, offset + length, until)

    def _raise_recent_failure(self, offset: int, length: int) -> None:
        failure = self._failure
        if failure is None or time.monotonic() > failure.until:
            return
        if failure.start < offset + length and offset < failure.end:
            raise copy_error(failure.error)
