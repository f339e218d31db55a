"""Eviction: frees disk space, beginning with the least recently used file.

A complete file is removed as a whole. A process that has the file open can still read the file
until the process closes it. From a partial file, single blocks are removed, beginning with the
first block, because a sequential reader has already passed the first blocks. Blocks that are being
read stay. These files are never evicted: files that onefs did not download, and files of datasets
that the user has pinned. If the user has accepted a file that contradicts the database, the file is
evicted only if the user names its dataset, because the user must then accept the file again.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from onefs.blocks.block_map import (
    BlockMapHeader,
    iter_headers,
    open_block_file,
    remove_block_file,
)
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.registry import PartialFileRegistry
from onefs.cache.files import disk_errors
from onefs.cache.sparse import can_punch_holes
from onefs.cache.store import Store
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: most adjacent blocks of a partial file that are evicted together
EVICTED_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """A file that may be evicted.

    This is a complete file, a partial file, or a file that is not served because it contradicts the
    database.
    """

    #: time of last use, in seconds since the epoch
    used_at: float
    dataset_id: str
    #: the header of a partial file; None for a complete or rejected file
    header: BlockMapHeader | None = None


@dataclass(slots=True)
class EvictionResult:
    """The number of bytes that an eviction has freed, and the files that could not be removed."""

    #: bytes of disk that were freed
    freed_bytes: int = 0
    #: one sentence for each file that could not be removed. The usage counter still counts the
    #: bytes of these files
    failures: list[str] = field(default_factory=list)


class Evictor:
    """Evicts files and blocks from one cache folder. Thread-safe.

    Only one thread of a process runs :meth:`evict` at a time.
    """

    def __init__(self, store: Store, registry: PartialFileRegistry) -> None:
        self._store = store
        self._registry = registry
        self._lock = threading.Lock()
        #: True if the file system can free a part of a file; None until this was tried
        self._punch_supported: bool | None = None
        #: failures that were logged already
        self._logged: set[str] = set()

    def evict(self, need: int) -> EvictionResult:
        """Evict files until ``need`` bytes of disk are freed, or until no file is left to evict.

        A file that cannot be removed is skipped, and is logged once. Raises CacheError if the cache
        folder cannot be used.
        """
        outcome = EvictionResult()
        store = self._store
        before = store.usage.total_bytes()
        with self._lock, disk_errors(store.root):
            need -= before - store.usage.total_bytes()  # another thread has freed some bytes
            accepted = {entry.dataset_id for entry in store.records.accepted_entries()}
            for candidate in self._candidates():
                if need <= outcome.freed_bytes:
                    break
                if candidate.header is not None or candidate.dataset_id not in accepted:
                    self._try_remove(candidate, need - outcome.freed_bytes, outcome)
        self._log_failures(outcome.failures)
        return outcome

    def evict_dataset(self, dataset_id: str) -> int:
        """Evict the file or the partial file of one dataset. Return the bytes of disk freed.

        Nothing is removed if the user has pinned the dataset, or if its lock is held. Blocks that
        are being read stay. Raises CacheError, which names the files that could not be removed.
        """
        outcome = EvictionResult()
        with disk_errors(self._store.root):
            for candidate in self._candidates():
                if candidate.dataset_id == dataset_id:
                    self._try_remove(candidate, 1 << 62, outcome)
        if outcome.failures:
            raise CacheError("; ".join(outcome.failures))
        return outcome.freed_bytes

    def _try_remove(self, candidate: EvictionCandidate, need: int, outcome: EvictionResult) -> None:
        """Remove a complete file, or free blocks of a partial file.

        The freed bytes and the failures are added to ``outcome``. Nothing is removed while another
        thread or process holds the dataset's lock.
        """
        try:
            with self._store.locks.hold(candidate.dataset_id, 0.0):
                if candidate.header is None:
                    outcome.freed_bytes += self._remove_file(candidate.dataset_id)
                else:
                    self._remove_blocks(candidate.header, need, outcome)
        except DeadlineExceeded:  # another thread or process holds the lock
            return
        except OnefsError:  # some OnefsErrors are OSErrors too
            raise
        except OSError as error:
            path = os.fsdecode(error.filename or self._path(candidate))
            outcome.failures.append(f"the file {path} cannot be removed: {reason_of(error, path)}")

    def _path(self, candidate: EvictionCandidate) -> str:
        if candidate.header is not None:
            return str(self._store.final_path(candidate.header.place))
        entry = self._store.records.get(candidate.dataset_id)
        return str(self._store.root / (entry.path if entry else candidate.dataset_id))

    def _log_failures(self, failures: list[str]) -> None:
        unlogged = [failure for failure in failures if failure not in self._logged]
        self._logged.update(unlogged)
        if unlogged:
            others = len(unlogged) - 1
            more = f" (other files that cannot be removed: {others})" if others else ""
            log.warning(
                "%s%s; files that are not removed still count towards --cache-size",
                unlogged[0],
                more,
            )

    def _candidates(self) -> list[EvictionCandidate]:
        """Return the files that may be evicted, with the least recently used file first.

        Raises OSError if the cache folder cannot be read.
        """
        store = self._store
        pinned = store.pinned_ids()
        candidates = [
            EvictionCandidate(used_at, dataset_id)
            for dataset_id, used_at in store.records.last_used_times().items()
            if dataset_id not in pinned
        ]
        candidates += [
            EvictionCandidate(used_at, header.dataset_id, header)
            for header, used_at in iter_headers(store.partial_folder)
            if header.dataset_id not in pinned
        ]
        return sorted(candidates, key=lambda candidate: candidate.used_at)

    def _remove_file(self, dataset_id: str) -> int:
        """Remove a complete file, or a file that is not served because it contradicts the database.

        Return the bytes of disk freed. Raises OSError if the file cannot be removed.
        """
        entry = self._store.records.get(dataset_id)
        if entry is None:
            return 0
        path = self._store.root / entry.path
        if entry.state == "bad":  # the bytes are removed, and the record of the rejection stays
            path = self._store.private_folder / "rejected" / dataset_id
        # a file that onefs did not download stays
        elif not entry.ours:
            return 0
        elif not self._store.is_unchanged(entry):
            # another program has changed the file
            if os.path.lexists(path):
                raise OSError(
                    errno.EEXIST, "the file was changed after onefs had downloaded it", str(path)
                )
            return 0
        freed = self._store.remove_file(path)
        if entry.state != "bad":
            self._store.forget(dataset_id)
        return freed

    def _remove_blocks(self, header: BlockMapHeader, need: int, outcome: EvictionResult) -> None:
        """Free blocks of a partial file until ``need`` bytes are freed or no block can be freed.

        The freed bytes are added to ``outcome``. Raises OSError if the disk fails.
        """
        # blocks that are being read or fetched stay
        size = header.size
        dataset = Dataset(header.dataset_id, "", header.place[-1], size=size, md5=header.md5)
        partial = self._registry.acquire_open(dataset)
        was_open = partial is not None
        if partial is None:
            blocks = open_block_file(self._store.partial_folder, dataset)
            if blocks is None:
                outcome.freed_bytes += self._remove_partial(header.dataset_id)
                return
            partial = PartialFile(
                dataset, header.place, blocks, threading.Condition(), shared=self._store.shared
            )
        try:
            before = outcome.freed_bytes
            if self._supports_punching(partial):
                self._punch_blocks(partial, need, outcome)
            if not was_open and partial.is_sole_user():
                outcome.freed_bytes += self._remove_empty(partial, outcome.freed_bytes - before)
        finally:
            if was_open:
                self._registry.release(partial)
            else:
                partial.block_file.close()

    def _punch_blocks(self, partial: PartialFile, need: int, outcome: EvictionResult) -> None:
        freed = 0
        wanted = partial.wanted_blocks()
        try:
            unwanted = (block for block in partial.present_blocks() if block not in wanted)
            longest = min(EVICTED_TOGETHER, -(-need // partial.block_file.header.block_size))
            for first, last in _runs(unwanted, longest):
                if freed >= need:
                    break
                run_bytes = partial.evict_blocks(first, last)
                freed += run_bytes
                if not run_bytes and last - first > 1:  # one of the blocks is being read
                    for block in range(first, last):
                        freed += partial.evict_blocks(block, block + 1)
        finally:  # some blocks were freed, even if the disk fails on the next block
            self._store.usage.adjust(-freed)
            outcome.freed_bytes += freed

    def _remove_empty(self, partial: PartialFile, freed: int) -> int:
        """Remove a partial file that no process has open. Return the bytes of disk freed.

        ``freed`` is the number of bytes just freed from blocks of the file. If this is not 0 and
        some blocks are still present, the file stays.
        """
        # if blocks were just freed and some blocks are still present, the file stays
        if freed and partial.block_file.present_bytes():
            return 0
        return self._remove_partial(partial.dataset.id)

    def _remove_partial(self, dataset_id: str) -> int:
        freed = remove_block_file(self._store.partial_folder, dataset_id)
        self._store.usage.adjust(-freed)
        return freed

    def _supports_punching(self, partial: PartialFile) -> bool:
        """Whether the file system can free a part of a file. Without this support, no block is
        evicted."""
        if self._punch_supported is None:
            self._punch_supported = can_punch_holes(partial.block_file.data_fd)
        return self._punch_supported


def _runs(blocks: Iterable[int], longest: int) -> Iterator[tuple[int, int]]:
    """Yield sorted blocks as ranges of at most ``longest`` adjacent blocks.

    Each range is its first block and the block after its last block.
    """
    first = last = -1
    for block in blocks:
        if block != last or last - first >= longest:
            if first < last:
                yield first, last
            first = block
        last = block + 1
    if first < last:
        yield first, last
