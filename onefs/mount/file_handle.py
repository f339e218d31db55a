"""An open file: where its bytes are, never fewer than promised."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from onefs.errors import BadContent, copy_error
from onefs.mount.indexers import ALLOW_ALL, IndexerFilter
from onefs.mount.path_errors import PathErrors
from onefs.mount.request_limits import WaitingReads
from onefs.tree.nodes import Handle, Node

#: seconds that a read has to wait for its failure to be remembered
_SLOW_READ_SECONDS = 1.0
#: seconds for which it is remembered
_FAILURE_TTL_SECONDS = 0.5
#: seconds for which a file that was long enough is taken to be: each look is a turn in the queue
#: for the interpreter, which a busy mount feels
_SIZE_CHECK_TTL_SECONDS = 0.005


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a descriptor."""

    fd: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _ReadFailure:
    error: Exception
    start: int
    end: int
    until: float


class FileHandle:
    """One open file of the mount, shared by all threads that read it."""

    def __init__(
        self,
        path: str,
        node: Node,
        handle: Handle,
        waiting_reads: WaitingReads,
        indexer_filter: IndexerFilter = ALLOW_ALL,
        path_errors: PathErrors | None = None,
    ) -> None:
        self.node = node
        self._path = path
        self.handle = handle
        self._waiting_reads = waiting_reads
        self._indexer_filter = indexer_filter
        self._path_errors = path_errors or PathErrors()
        self._failure: _ReadFailure | None = None
        self._is_short_file_logged = False
        #: the descriptor that was found long enough, and until when that is believed
        self._size_checked_fd = -1
        self._size_checked_until = 0.0

    def extent(self, offset: int, size: int) -> Extent:
        """Where the bytes from ``offset`` on are: ``size`` of them, fewer only at the end.

        Waits until they are there. Raises what the handle raises, :class:`Busy` when too many
        reads wait already, and :class:`BadContent` rather than give fewer: the reader of a short
        read takes it for the end of the file.
        """
        end = min(offset + size, self.handle.size)
        if end <= offset:
            return Extent(-1, offset, 0)
        length = end - offset
        fd = self._descriptor_for(offset, length)
        now = time.monotonic()
        if fd != self._size_checked_fd or now > self._size_checked_until:
            there = os.fstat(fd).st_size
            if there < self.handle.size:
                raise self._short_file_error(there)
            self._size_checked_fd, self._size_checked_until = fd, now + _SIZE_CHECK_TTL_SECONDS
        return Extent(fd, offset, length)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes themselves, as :meth:`extent` promises them."""
        extent = self.extent(offset, size)
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

    def _short_file_error(self, there: int) -> BadContent:
        """What is wrong with the cached file: logged once for each time it is opened."""
        problem = BadContent(
            f"{self._path}: the cached file has {there} bytes, it should have {self.handle.size}."
        )
        if not self._is_short_file_logged:
            self._is_short_file_logged = True
            log.error("%s", problem)
        return problem

    def _descriptor_for(self, offset: int, length: int) -> int:
        there = self.handle.try_fd(offset, length)
        if there is not None:
            self._path_errors.clear(self._path)
            return there
        self._indexer_filter.check_caller(self._path)
        self._raise_recent_failure(offset, length)
        started = time.monotonic()
        try:
            with self._waiting_reads.hold_slot():
                descriptor = self.handle.wait_fd(offset, length)
        except Exception as error:
            self._remember_failure(error, offset, length, started)
            self._path_errors.note_failure(self._path, error)
            raise
        self._path_errors.note_fetched(self._path)
        return descriptor

    def _remember_failure(self, error: Exception, offset: int, length: int, started: float) -> None:
        # When read-ahead fails, the kernel asks again at once for the one page that the reader
        # waits for: without this, a reader would wait for two deadlines instead of one.
        now = time.monotonic()
        if now - started >= _SLOW_READ_SECONDS:
            self._failure = _ReadFailure(error, offset, offset + length, now + _FAILURE_TTL_SECONDS)

    def _raise_recent_failure(self, offset: int, length: int) -> None:
        failure = self._failure
        if failure is None or time.monotonic() > failure.until:
            return
        if failure.start < offset + length and offset < failure.end:
            raise copy_error(failure.error)
