"""An open file: where its bytes are, never fewer than promised."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from onefs.errors import BadContent, again
from onefs.mount.limits import WaitingReads
from onefs.mount.readers import EVERYBODY, Readers
from onefs.mount.troubles import Troubles
from onefs.tree.nodes import Handle, Node

#: seconds that a read has to wait for its failure to be remembered
_LONG_WAIT = 1.0
#: seconds for which it is remembered
_REMEMBERED = 0.5
#: seconds for which a file that was long enough is taken to be: each look is a turn in the queue
#: for the interpreter, which a busy mount feels
_LOOK = 0.005


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a descriptor."""

    fd: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    start: int
    end: int
    until: float


class OpenFile:
    """One open file of the mount, shared by all threads that read it."""

    def __init__(
        self,
        path: str,
        node: Node,
        handle: Handle,
        waiting: WaitingReads,
        readers: Readers = EVERYBODY,
        troubles: Troubles | None = None,
    ) -> None:
        self.node = node
        self._path = path
        self.handle = handle
        self._waiting = waiting
        self._readers = readers
        self._troubles = troubles or Troubles()
        self._failure: _Failure | None = None
        self._told = False
        #: the descriptor that was found long enough, and until when that is believed
        self._looked_at = -1
        self._looked_until = 0.0

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
        fd = self._descriptor(offset, length)
        now = time.monotonic()
        if fd != self._looked_at or now > self._looked_until:
            there = os.fstat(fd).st_size
            if there < self.handle.size:
                raise self._too_short(there)
            self._looked_at, self._looked_until = fd, now + _LOOK
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
                raise self._too_short(end - missing)
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)

    def _too_short(self, there: int) -> BadContent:
        """What is wrong with the cached file: logged once for each time it is opened."""
        problem = BadContent(
            f"{self._path}: the cached file has {there} bytes, it should have {self.handle.size}."
        )
        if not self._told:
            self._told = True
            log.error("%s", problem)
        return problem

    def _descriptor(self, offset: int, length: int) -> int:
        there = self.handle.ready(offset, length)
        if there is not None:
            self._troubles.clear(self._path)
            return there
        self._readers.check(self._path)
        self._raise_remembered(offset, length)
        started = time.monotonic()
        try:
            with self._waiting.one():
                descriptor = self.handle.fd(offset, length)
        except Exception as error:
            self._remember(error, offset, length, started)
            self._troubles.note(self._path, error)
            raise
        self._troubles.fetched(self._path)
        return descriptor

    def _remember(self, error: Exception, offset: int, length: int, started: float) -> None:
        # When read-ahead fails, the kernel asks again at once for the one page that the reader
        # waits for: without this, a reader would wait for two deadlines instead of one.
        now = time.monotonic()
        if now - started >= _LONG_WAIT:
            self._failure = _Failure(error, offset, offset + length, now + _REMEMBERED)

    def _raise_remembered(self, offset: int, length: int) -> None:
        failure = self._failure
        if failure is None or time.monotonic() > failure.until:
            return
        if failure.start < offset + length and offset < failure.end:
            raise again(failure.error)
