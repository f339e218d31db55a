"""Open handles: where the bytes of a dataset are, whole or in parts."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from onefs.content.answers import Changed
from onefs.content.blocks import BLOCK_SIZE, LOOK, State
from onefs.content.files import identity, stamp
from onefs.content.reading import Reading
from onefs.content.store import Place
from onefs.content.verify import judge_file
from onefs.content.versions import of_entry, of_file
from onefs.errors import BadContent, CacheError, reason_of
from onefs.model import Dataset

if TYPE_CHECKING:
    from onefs.content.reader import Content

#: seconds for which nothing is there yet if nothing was there on opening
_STILL_ABSENT = 0.02
#: how often a read begins anew when the remote file changes before a byte was handed out
FRESH_STARTS = 3
#: how often a file is fetched that others evict, to make room for theirs, before it can be opened
TRIES = 8


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
        self._at = at
        self._absent_until = time.monotonic() + _STILL_ABSENT if absent else 0.0
        self._lock = threading.Lock()
        self._fd: int | None = None
        #: the file of ``_fd`` as it was when its bytes were proved, and until when that is believed
        self._proved: os.stat_result | None = None
        self._believed_until = 0.0
        self._proving = threading.Lock()
        #: the open file turned out to have been changed
        self._spoiled = False
        self._reading: Reading | None = None
        #: readings of files that have changed since, to be ended with the last read
        self._outdated: list[Reading] = []

    def ready(self, offset: int, length: int) -> int | None:
        """The descriptor that holds these bytes; None when a server has to be waited for."""
        if self._fd is not None:
            return self._fd if self._is_unchanged() else None
        reading = self._reading
        if reading is not None:
            return self._is_ready(reading, offset, length)
        if self._is_absent():
            return None
        known = self._content.known_path(self._dataset)
        if known is not None:
            return self._fd if self._open(known) else None
        if not self._content.is_begun(self._dataset, self._place):
            return None
        reading = self._begin()
        return None if reading is None else self._is_ready(reading, offset, length)

    def fd(self, offset: int, length: int) -> int:
        """A descriptor that holds these bytes at this offset; fetches them if need be."""
        if self._fd is not None and not self._is_unchanged():
            self._prove_again(self._fd)
        changes = 0
        for _ in range(TRIES):
            try:
                if self._fd is not None or self._fetch(offset, length):
                    break
            except Changed:
                changes += 1
                self._start_anew(last=changes == FRESH_STARTS)
        else:  # another thread's reading may be there, which holds other bytes than ours
            raise self._gone()
        with self._lock:
            descriptor = self._fd
            if descriptor is None and self._reading is not None:
                descriptor = self._reading.fd
        if descriptor is None:
            raise self._gone()
        return descriptor

    def close(self) -> None:
        """Let go of the file. Nothing is read from this handle any more."""
        with self._lock:
            descriptor, self._fd = self._fd, None
            readings, self._outdated = self._outdated, []
            if self._reading is not None:
                readings.append(self._reading)
            self._reading = None
        if descriptor is not None:
            os.close(descriptor)
        for reading in readings:
            self._content.end_reading(reading)

    def _is_ready(self, reading: Reading, offset: int, length: int) -> int | None:
        if self._content.strict:
            here = reading.partial.blocks.state() is State.DONE
        else:
            try:
                here = reading.ready(offset, length)
            except Changed:  # fd() begins anew, or says why it cannot
                return None
        return reading.fd if here else None

    def _fetch(self, offset: int, length: int) -> bool:
        """Wait for the bytes; False when they went again before we had them in hand."""
        if self._reading is None:  # nothing is fetched of what somebody else has brought
            taken = self._content.adopt(self._dataset, self._place)
            if taken is not None:
                return self._open(taken)
        whole = self._content.strict or self._content.is_small(self._dataset)
        blocks = -(-length // BLOCK_SIZE) * BLOCK_SIZE
        needed = self.size if whole else min(blocks, self.size)
        key = self._dataset.id if whole else f"{self._dataset.id} {offset // BLOCK_SIZE}"
        with self._content.meter.expecting(key, needed, self._dataset.name):
            return self._bring(offset, length)

    def _bring(self, offset: int, length: int) -> bool:
        if self._content.is_small(self._dataset):
            bring = self._content.fetch_whole if self._is_absent() else self._content.path
            return self._open(bring(self._dataset, self._place))
        reading = self._begin()
        if reading is None:
            known = self._content.known_path(self._dataset)
            return known is not None and self._open(known)
        if self._content.strict or not reading.wait(offset, length):
            self._content.complete(reading)
        return True

    def _gone(self) -> CacheError:
        return CacheError(f"{self._dataset.name} cannot be kept long enough to be read")

    def _is_absent(self) -> bool:
        """Whether nothing of it was there a moment ago: looking again would be a waste."""
        return time.monotonic() < self._absent_until

    def _begin(self) -> Reading | None:
        """Our reading of the partial file; None when the file is complete."""
        with self._lock:
            if self._reading is not None:
                return self._reading
        fresh = self._content.begin_reading(self._dataset, self._place, self._at)
        if fresh is None:
            return None
        with self._lock:
            if self._reading is None:
                self._reading = fresh
            reading = self._reading
        if reading is not fresh:
            self._content.end_reading(fresh)
        return reading

    def _start_anew(self, *, last: bool) -> None:
        """The remote file changed: no matter, if nobody has seen a byte of it yet.

        Several threads may notice, and some of them late: the first has begun anew for all. What
        they read of the old one stays open while they may still look at it.
        """
        with self._lock:
            reading = self._reading
            if last or (reading is not None and reading.bound):
                why = "has changed on the server" if reading is None else reading.partial.gone
                raise BadContent(f"{self._dataset.name} {why}: open it again")
            if reading is not None and reading.partial.blocks.state() is not State.LIVE:
                self._outdated.append(reading)
                self._reading = None

    def _open(self, path: Path) -> bool:
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
                self._proved = found
                self._fd = descriptor
        if taken:
            self._note_version(found)
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
        if now < self._believed_until or self._fd is None or self._proved is None:
            return True
        found = os.fstat(self._fd)
        evicted = not found.st_nlink and stamp(found) == stamp(self._proved)
        if not evicted and identity(found) != identity(self._proved):
            return False
        self._believed_until = now + LOOK
        return True

    def _prove_again(self, descriptor: int) -> None:
        """Hash the open file once more; raises BadContent when its bytes are not what they were."""
        dataset = self._dataset
        with self._proving:
            if not self._spoiled:
                if self._is_unchanged():  # another thread has proved it
                    return
                found = os.fstat(descriptor)
                self._content.adopt(dataset, self._place)
                entry = self._content.store.entry(dataset)
                known = entry and (entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns)
                if known == identity(found) or self._is_described(descriptor):
                    self._proved = found
                    return
                self._spoiled = True
            raise BadContent(f"{dataset.name} was changed in the cache folder: open it again")

    def _is_described(self, descriptor: int) -> bool:
        """Whether the open file, which may have no name any more, is what the database says."""
        good = judge_file(self._dataset, Path(f"/proc/self/fd/{descriptor}")).state == "cached"
        if not good:
            self._content.went_bad(self._dataset)
        return good

    def _note_version(self, found: os.stat_result) -> None:
        """The kernel may show again what it reads of this file from now on."""
        content, dataset = self._content, self._dataset
        entry = None if content.is_small(dataset) else content.store.entry(dataset)
        if entry is not None and (entry.inode, entry.mtime_ns) == (found.st_ino, found.st_mtime_ns):
            content.versions.begin(self._at, dataset, of_entry(entry))
        else:
            content.versions.begin(self._at, dataset, of_file(found))
