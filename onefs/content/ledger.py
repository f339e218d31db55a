"""How many bytes of disk the cache takes: one count for all processes that share the folder.

The file ``usage`` holds 64-bit words. Word 0 counts what is on the disk. Each process has a word of
its own for what it has reserved and not written yet; a lock on that word's byte says that the
process lives, so that the reservations of a dead one end with it. What it had written and not told
is missing in word 0 then: who notices looks on the disk (:meth:`Ledger.mend`), and so does the
first process that finds itself alone. For a moment word 0 may be too low, even below nothing: when
bytes are evicted whose writer has not told of them yet.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onefs.content.lock import try_lock, unlock
from onefs.descriptors import create
from onefs.errors import CacheError
from onefs.forking import close_lock_file, open_lock_file

#: processes that may share a folder
SLOTS = 1024
_WORD = 8
#: bytes whose locks have a meaning of their own
_GUARD = 1 << 20
_PRESENT = _GUARD + 1
_ALIVE = 1 << 21
#: seconds to wait for another process's few reads and writes
_PATIENCE = 10.0


class Ledger:
    """The count. Thread-safe. ``measure`` counts on the disk, in bytes.

    Without ``shared`` locks each process keeps its own count, of what it measured at its start and
    has done since. Raises OSError; CacheError when another process blocks the file.
    """

    def __init__(self, path: Path, measure: Callable[[], int], *, shared: bool) -> None:
        self._lock = threading.RLock()
        self._shared = shared
        self._measure = measure
        self._count = self._own = 0
        #: a process died with reservations: what it has written is not counted
        self._doubtful = False
        self._path = path
        self._file = -1
        self._begin()

    def begin_again(self) -> None:
        """Count in the file that is there now: the folder was deleted, or its disk was away."""
        with self._lock:
            if self._file >= 0:
                close_lock_file(self._file)
            self._begin()
            if self._shared:
                self._write(self._slot, self._own)

    def _begin(self) -> None:
        if not self._shared:
            self._count = self._measure()
            return
        self._file = open_lock_file(self._path, os.O_RDWR, create)
        with self._guard():
            if try_lock(self._file, _PRESENT):  # we are alone
                os.ftruncate(self._file, 0)
                self._write(0, self._measure())
            self._slot = self._take_slot()
            try_lock(self._file, _PRESENT, shared=True)

    def close(self) -> None:
        """Give our reservations back. Nothing is counted afterwards."""
        with self._lock, suppress(OSError, CacheError):
            if self._file < 0:
                return
            with self._guard():
                self._write(self._slot, 0)
            close_lock_file(self._file)
            self._file = -1

    def total(self) -> int:
        """Bytes on the disk, and reserved by anybody."""
        with self._guard():
            return self._total()

    def reserved(self) -> int:
        """Bytes that anybody has reserved and not written yet."""
        with self._guard():
            on_disk = self._read(0) if self._shared else self._count
            return self._total() - on_disk

    def mend(self) -> None:
        """Look on the disk if a process has died in the middle; never count less than is there.

        Bytes that were reserved may be there already, so they are no reason to count more.
        """
        if self._doubtful:
            self._doubtful = False
            there = self._measure()
            with self._guard():
                self._change(max(0, there - self._total()), 0)

    def change(self, written: int, reserved: int = 0) -> None:
        """Count bytes that were written (or removed), and that are reserved (or no longer)."""
        if written or reserved:
            with self._guard():
                self._change(written, reserved)

    def reserve(self, size: int, limit: int | None) -> int:
        """Reserve bytes unless that leads beyond the limit: 0, else how many are too many."""
        with self._guard():
            over = 0 if limit is None else max(0, self._total() + size - limit)
            if not over:
                self._change(0, size)
            return over

    def _change(self, written: int, reserved: int) -> None:
        if not self._shared:
            self._count += written
            self._own = max(0, self._own + reserved)
            return
        if written:
            self._write(0, self._read(0) + written)
        if reserved:
            self._own = max(0, self._own + reserved)
            self._write(self._slot, self._own)

    def _total(self) -> int:
        if not self._shared:
            return max(0, self._count + self._own)
        words = self._words()
        for slot, reserved in enumerate(words):
            if slot and slot != self._slot and reserved and self._is_dead(slot):
                self._write(slot, 0)
                words[slot] = 0
                self._doubtful = True
        return max(0, sum(words))

    def _is_dead(self, slot: int) -> bool:
        if not try_lock(self._file, _ALIVE + slot):
            return False
        unlock(self._file, _ALIVE + slot)
        return True

    def _take_slot(self) -> int:
        for slot in range(1, SLOTS):
            if try_lock(self._file, _ALIVE + slot):
                self._doubtful = self._doubtful or self._read(slot) != 0
                self._write(slot, 0)
                return slot
        raise CacheError(f"more than {SLOTS} processes use one cache folder")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock:
            if not self._shared:
                yield
                return
            end = time.monotonic() + _PATIENCE
            while not try_lock(self._file, _GUARD):
                if time.monotonic() > end:
                    raise CacheError("another process has kept the cache's usage file for long")
                time.sleep(0.0005)
            try:
                yield
            finally:
                unlock(self._file, _GUARD)

    def _words(self) -> list[int]:
        raw = os.pread(self._file, SLOTS * _WORD, 0)
        return list(struct.unpack_from(f"<{len(raw) // _WORD}q", raw))

    def _read(self, slot: int) -> int:
        raw = os.pread(self._file, _WORD, slot * _WORD).ljust(_WORD, b"\0")
        return int(struct.unpack("<q", raw)[0])

    def _write(self, slot: int, value: int) -> None:
        os.pwrite(self._file, struct.pack("<q", value), slot * _WORD)
