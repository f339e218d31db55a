"""How many bytes of disk the cache takes: one count for all processes that share the folder.

The file ``usage`` holds 64-bit words. Word 0 counts what is on the disk. Each process has a word of
its own for what it has reserved and not written yet; a lock on that word's byte says that the
process lives, so that the reservations of a dead one end with it. What it had written and not told
is missing in word 0 then: who notices looks on the disk (:meth:`UsageCounter.mend`), and so does
the first process that finds itself alone. For a moment word 0 may be too low, even below nothing:
when bytes are evicted whose writer has not told of them yet.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onefs.errors import CacheError
from onefs.lowlevel.files import open_or_create
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import try_lock, unlock, wait_for_lock

#: processes that may share a folder
MAX_PROCESSES = 1024
_WORD_BYTES = 8
#: bytes whose locks have a meaning of their own
_GUARD_LOCK_BYTE = 1 << 20
_PRESENCE_LOCK_BYTE = _GUARD_LOCK_BYTE + 1
_ALIVE_LOCKS_START = 1 << 21
#: seconds to wait for another process's few reads and writes
_GUARD_WAIT_SECONDS = 10.0


class UsageCounter:
    """The count. Thread-safe. ``measure`` counts on the disk, in bytes.

    Without ``shared`` locks each process keeps its own count, of what it measured at its start and
    has done since. Raises OSError; CacheError when another process blocks the file.
    """

    def __init__(self, path: Path, measure: Callable[[], int], *, shared: bool) -> None:
        self._lock = threading.RLock()
        self._shared = shared
        self._measure = measure
        self._written_bytes = self._own_reserved_bytes = 0
        #: a process died with reservations: what it has written is not counted
        self._needs_recount = False
        self._path = path
        self._fd = -1
        self._open()

    def reopen(self) -> None:
        """Count in the file that is there now: the folder was deleted, or its disk was away."""
        with self._lock:
            if self._fd >= 0:
                close_lock_file(self._fd)
            self._open()
            if self._shared:
                self._write_word(self._slot, self._own_reserved_bytes)

    def _open(self) -> None:
        if not self._shared:
            self._written_bytes = self._measure()
            return
        self._fd = open_lock_file(self._path, open_or_create)
        with self._locked():
            if try_lock(self._fd, _PRESENCE_LOCK_BYTE):  # we are alone
                os.ftruncate(self._fd, 0)
                self._write_word(0, self._measure())
            self._slot = self._take_slot()
            try_lock(self._fd, _PRESENCE_LOCK_BYTE, shared=True)

    def close(self) -> None:
        """Give our reservations back. Nothing is counted afterwards."""
        with self._lock, suppress(OSError, CacheError):
            if self._fd < 0:
                return
            with self._locked():
                self._write_word(self._slot, 0)
            close_lock_file(self._fd)
            self._fd = -1

    def total_bytes(self) -> int:
        """Bytes on the disk, and reserved by anybody."""
        with self._locked():
            return self._total_bytes()

    def reserved_bytes(self) -> int:
        """Bytes that anybody has reserved and not written yet."""
        with self._locked():
            on_disk = self._read_word(0) if self._shared else self._written_bytes
            return self._total_bytes() - on_disk

    def recount_if_needed(self) -> None:
        """Look on the disk if a process has died in the middle; never count less than is there.

        Bytes that were reserved may be there already, so they are no reason to count more.
        """
        if self._needs_recount:
            self._needs_recount = False
            there = self._measure()
            with self._locked():
                self._adjust(max(0, there - self._total_bytes()), 0)

    def adjust(self, written: int, reserved: int = 0) -> None:
        """Count bytes that were written (or removed), and that are reserved (or no longer)."""
        if written or reserved:
            with self._locked():
                self._adjust(written, reserved)

    def reserve(self, size: int, limit: int | None) -> int:
        """Reserve bytes unless that leads beyond the limit: 0, else how many are too many."""
        with self._locked():
            over = 0 if limit is None else max(0, self._total_bytes() + size - limit)
            if not over:
                self._adjust(0, size)
            return over

    def _adjust(self, written: int, reserved: int) -> None:
        if not self._shared:
            self._written_bytes += written
            self._own_reserved_bytes = max(0, self._own_reserved_bytes + reserved)
            return
        if written:
            self._write_word(0, self._read_word(0) + written)
        if reserved:
            self._own_reserved_bytes = max(0, self._own_reserved_bytes + reserved)
            self._write_word(self._slot, self._own_reserved_bytes)

    def _total_bytes(self) -> int:
        if not self._shared:
            return max(0, self._written_bytes + self._own_reserved_bytes)
        words = self._read_words()
        for slot, reserved in enumerate(words):
            if slot and slot != self._slot and reserved and self._is_dead(slot):
                self._write_word(slot, 0)
                words[slot] = 0
                self._needs_recount = True
        return max(0, sum(words))

    def _is_dead(self, slot: int) -> bool:
        if not try_lock(self._fd, _ALIVE_LOCKS_START + slot):
            return False
        unlock(self._fd, _ALIVE_LOCKS_START + slot)
        return True

    def _take_slot(self) -> int:
        for slot in range(1, MAX_PROCESSES):
            if try_lock(self._fd, _ALIVE_LOCKS_START + slot):
                self._needs_recount = self._needs_recount or self._read_word(slot) != 0
                self._write_word(slot, 0)
                return slot
        raise CacheError(f"more than {MAX_PROCESSES} processes use one cache folder")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if not self._shared:
                yield
                return
            if not wait_for_lock(lambda: try_lock(self._fd, _GUARD_LOCK_BYTE), _GUARD_WAIT_SECONDS):
                raise CacheError("another process has kept the cache's usage file for long")
            try:
                yield
            finally:
                unlock(self._fd, _GUARD_LOCK_BYTE)

    def _read_words(self) -> list[int]:
        raw = os.pread(self._fd, MAX_PROCESSES * _WORD_BYTES, 0)
        return list(struct.unpack_from(f"<{len(raw) // _WORD_BYTES}q", raw))

    def _read_word(self, slot: int) -> int:
        raw = os.pread(self._fd, _WORD_BYTES, slot * _WORD_BYTES).ljust(_WORD_BYTES, b"\0")
        return int(struct.unpack("<q", raw)[0])

    def _write_word(self, slot: int, value: int) -> None:
        os.pwrite(self._fd, struct.pack("<q", value), slot * _WORD_BYTES)
