"""Usage counter: the bytes of disk that the cache takes, for all processes that share the folder.

The file ``usage`` has 64-bit words. Word 0 is the number of bytes on the disk. Each process has its
own word for the bytes that the process has reserved and not written yet. The process holds a lock
on a byte that belongs to this word, so that its reservations end when the process dies.

Bytes that a dead process had written, but not counted, are missing in word 0. Another process
notices this, and counts the bytes on the disk again (:meth:`UsageCounter.recount_if_needed`). A
process that starts while no other process uses the folder also counts the bytes on the disk. Word 0
may be too low, even negative, for a short time, if bytes are evicted before they are counted.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onefs.cache.sparse import allocated_size
from onefs.errors import CacheError
from onefs.lowlevel.files import open_or_create
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import try_lock, unlock, wait_for_lock

#: number of words in the file; one word less is the number of processes that can share a folder
MAX_PROCESSES = 1024
_WORD_BYTES = 8
#: most bytes that were written and that other processes still count as reserved
MAX_UNREPORTED_BYTES = 16 << 20
#: a lock on the first byte guards the words; shared locks on the second byte mark that processes
#: use the folder
_GUARD_LOCK_BYTE = 1 << 20
_PRESENCE_LOCK_BYTE = _GUARD_LOCK_BYTE + 1
_ALIVE_LOCKS_START = 1 << 21
#: longest wait in seconds for another process that reads and writes a few words
_GUARD_WAIT_SECONDS = 10.0


class UsageCounter:
    """Counts the bytes of disk that the cache takes. Thread-safe.

    - ``path`` is the file with the count.
    - ``measure`` returns the number of bytes on the disk.
    - ``shared`` says whether the count is shared with other processes.

    Raises CacheError if the file is locked for more than 10 seconds, or if more than MAX_PROCESSES
    processes use it. Also raises OSError.
    """

    def __init__(self, path: Path, measure: Callable[[], int], *, shared: bool) -> None:
        self._lock = threading.RLock()
        # false if the cache folder is read-only or its file system has no locks: each process then
        # counts in memory, from the bytes measured at its start
        self._shared = shared
        self._measure = measure
        self._own_reserved_bytes = 0
        #: what this process's word has, which is at least ``_own_reserved_bytes`` and
        #: ``_unreported_bytes`` together
        self._own_word = 0
        #: bytes that were written and are not in word 0 yet (see :meth:`adjust_later`)
        self._unreported_bytes = 0
        #: a process died while it had reservations, and may have written bytes that are not counted
        self._needs_recount = False
        self._path = path
        self._fd = -1
        self._open()

    def reopen(self) -> None:
        """Open the counter's file again after the cache folder was deleted or unmounted."""
        with self._lock:
            if self._fd >= 0:
                close_lock_file(self._fd)
            self._open()
            # they are gone with the folder, or measured by the process that opens the folder first
            self._unreported_bytes = 0
            self._write_own_word(self._own_reserved_bytes)

    def _open(self) -> None:
        self._fd = open_lock_file(self._path, open_or_create if self._shared else _open_in_memory)
        with self._locked():
            if try_lock(self._fd, _PRESENCE_LOCK_BYTE):  # no other process uses the folder
                os.ftruncate(self._fd, 0)
                self._write_word(0, self._measure())
            self._slot = self._take_slot()
            try_lock(self._fd, _PRESENCE_LOCK_BYTE, shared=True)

    def close(self) -> None:
        """End this process's reservations of disk space. The counter cannot be used afterwards."""
        with self._lock, suppress(OSError, CacheError):
            if self._fd < 0:
                return
            with self._locked():
                self._report()
                self._write_own_word(0)
            close_lock_file(self._fd)
            self._fd = -1

    def total_bytes(self) -> int:
        """Return the bytes on the disk plus the bytes reserved by all processes."""
        with self._locked():
            self._report()
            return self._total_bytes()

    def reserved_bytes(self) -> int:
        """Return the bytes that all processes have reserved and not written yet."""
        with self._locked():
            self._report()
            return self._total_bytes() - self._read_word(0)

    def recount_if_needed(self) -> None:
        """Measure the bytes on the disk again if a process has died with reservations.

        The total becomes the measured number if that is larger.
        """
        if self._needs_recount:
            self._needs_recount = False
            measured = self._measure()
            with self._locked():
                self._report()
                # the total includes reserved bytes: a part of them may be on the disk already
                self._adjust(max(0, measured - self._total_bytes()), 0)

    def adjust(self, written: int, reserved: int = 0) -> None:
        """Add ``written`` to the bytes on disk, and ``reserved`` to the bytes that are reserved.

        Negative numbers mean bytes that were removed or are no longer reserved.
        """
        if written or reserved:
            with self._locked():
                self._adjust(written, reserved)

    def adjust_later(self, written: int, reserved: int) -> None:
        """As :meth:`adjust`, but other processes may see it later, at the latest when no bytes are
        reserved. Until then, they count what is not needed any more as reserved.
        """
        with self._lock:
            unreported = self._unreported_bytes + written
            reserved = max(0, self._own_reserved_bytes + reserved)
            is_covered = reserved + unreported <= self._own_word
            if reserved and is_covered and 0 <= unreported <= MAX_UNREPORTED_BYTES:
                self._unreported_bytes, self._own_reserved_bytes = unreported, reserved
            else:
                self.adjust(written, reserved - self._own_reserved_bytes)

    def reserve_freely(self, size: int) -> None:
        """Reserve ``size`` bytes without any limit."""
        with self._lock:
            needed = self._own_reserved_bytes + size + self._unreported_bytes
            if needed > self._own_word:
                self._write_own_word(needed)  # no lock: only this process writes its word
            self._own_reserved_bytes += size

    def reserve(self, size: int, limit: int | None) -> int:
        """Reserve ``size`` bytes, and return 0.

        If the total would exceed ``limit``, reserve nothing, and return the number of bytes above
        ``limit``. None means no limit.
        """
        with self._locked():
            self._report()
            over = 0 if limit is None else max(0, self._total_bytes() + size - limit)
            if not over:
                self._adjust(0, size)
            return over

    def _adjust(self, written: int, reserved: int) -> None:
        written += self._unreported_bytes
        self._unreported_bytes = 0
        if written:
            self._write_word(0, self._read_word(0) + written)
        self._own_reserved_bytes = max(0, self._own_reserved_bytes + reserved)
        if self._own_word != self._own_reserved_bytes:
            self._write_own_word(self._own_reserved_bytes)

    def _report(self) -> None:
        """Write what :meth:`adjust_later` has left. The caller holds the lock of the file."""
        if self._own_word != self._own_reserved_bytes:
            self._adjust(0, 0)

    def _write_own_word(self, value: int) -> None:
        self._write_word(self._slot, value)
        self._own_word = value

    def _total_bytes(self) -> int:
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
        raise CacheError(
            f"more than {MAX_PROCESSES} processes use this cache folder: end some of them"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if not wait_for_lock(lambda: try_lock(self._fd, _GUARD_LOCK_BYTE), _GUARD_WAIT_SECONDS):
                raise CacheError(
                    "another process has kept the usage counter of the cache folder locked for "
                    f"{_GUARD_WAIT_SECONDS:g} s: try again"
                )
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


def measure_disk(complete: Iterable[Path], private_folder: Path) -> int:
    """Return the bytes of disk that complete, partial and rejected files take."""
    total = sum(allocated_size(path) for path in complete)
    for folder in ("partial", "rejected"):
        # os.walk continues if files and folders are removed at the same time
        for top, _, names in os.walk(private_folder / folder):
            total += sum(
                allocated_size(os.path.join(top, name))
                for name in names
                if not name.endswith((".json", ".map"))  # not counted
            )
    return total


def _open_in_memory(path: str | os.PathLike[str], flags: int) -> int:
    """Create a file in memory, and return its descriptor.

    Locks work on this file as on a file on disk. ``flags`` is ignored.
    """
    return os.memfd_create(os.path.basename(path))
