"""Making room: what was not used for longest goes first.

Complete files go whole: who has one open keeps it until it is closed. Partial files go block by
block, from the beginning (what a reader in order has behind it), leaving out what somebody reads.
Pinned datasets, and files that onefs did not download, are never touched. What the user has
accepted goes only when it is named: with the file would go the word that it is wanted.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from dataclasses import dataclass, field

from onefs.blocks.block_file import (
    BlockMapHeader,
    iter_headers,
    open_block_file,
    remove_block_file,
)
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.registry import PartialFileRegistry
from onefs.cache.files import disk_errors
from onefs.cache.sparse import can_punch_holes, disk_size
from onefs.cache.store import Store
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of
from onefs.model import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """Something that may be evicted."""

    #: seconds since the epoch
    used_at: float
    dataset_id: str
    #: a partial file; None for a complete or rejected one
    header: BlockMapHeader | None = None


@dataclass(slots=True)
class EvictionResult:
    """What an eviction came to."""

    #: bytes of disk that were given back
    freed_bytes: int = 0
    #: one sentence for each file that could not be removed; its bytes stay counted
    failures: list[str] = field(default_factory=list)


class Evictor:
    """Evicts. Thread-safe; one thread of a process does it at a time."""

    def __init__(self, store: Store, partials: PartialFileRegistry) -> None:
        self._store = store
        self._registry = partials
        self._lock = threading.Lock()
        #: None: nobody has tried it yet
        self._punch_supported: bool | None = None
        #: failures that the log has told of already
        self._logged: set[str] = set()

    def evict(self, need: int) -> EvictionResult:
        """Remove files and blocks of at least ``need`` bytes, as far as that is possible.

        What cannot be removed is left out, and the log names it once.
        """
        outcome = EvictionResult()
        store = self._store
        before = store.usage.total_bytes()
        with self._lock, disk_errors(store.root):
            need -= before - store.usage.total_bytes()  # somebody else has just made room
            accepted = store.records.accepted_ids()
            for candidate in self._candidates():
                if need <= outcome.freed_bytes:
                    break
                if candidate.header is not None or candidate.dataset_id not in accepted:
                    self._try_remove(candidate, need - outcome.freed_bytes, outcome)
        self._log_failures(outcome.failures)
        return outcome

    def evict_dataset(self, dataset_id: str) -> int:
        """Remove what there is of one dataset, if nobody reads it; the bytes that were freed.

        Raises CacheError that names what could not be removed.
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
        """Remove a candidate; when that fails, say why and leave it counted."""
        try:
            self._remove(candidate, need, outcome)
        except OnefsError:  # some of ours are OSErrors too
            raise
        except OSError as error:
            path = error.filename or self._path(candidate)
            outcome.failures.append(
                f"{os.fsdecode(path)} cannot be removed: {reason_of(error, os.fsdecode(path))}"
            )

    def _path(self, candidate: EvictionCandidate) -> str:
        if candidate.header is not None:
            return str(self._store.final_path(candidate.header.place))
        entry = self._store.records.get(candidate.dataset_id)
        return str(self._store.root / (entry.path if entry else candidate.dataset_id))

    def _log_failures(self, failures: list[str]) -> None:
        fresh = [failure for failure in failures if failure not in self._logged]
        self._logged.update(fresh)
        if fresh:
            more = f", nor can {len(fresh) - 1} other files" if len(fresh) > 1 else ""
            log.warning("%s%s: their bytes stay counted", fresh[0], more)

    def _candidates(self) -> list[EvictionCandidate]:
        store = self._store
        found = [
            EvictionCandidate(used, dataset_id)
            for used, dataset_id in store.records.last_used_times()
        ]
        for about in iter_headers(store.partial_folder):
            found.append(EvictionCandidate(self._last_used(about), about.dataset_id, about))
        pinned = {path.name for path in (store.private_folder / "pins").iterdir()}
        found = [candidate for candidate in found if candidate.dataset_id not in pinned]
        return sorted(found, key=lambda candidate: candidate.used_at)

    def _last_used(self, about: BlockMapHeader) -> float:
        try:
            return (self._store.partial_folder / f"{about.dataset_id}.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _remove(self, candidate: EvictionCandidate, need: int, outcome: EvictionResult) -> None:
        """Raises OSError when bytes are still there that were to be removed."""
        try:
            with self._store.locks.hold(candidate.dataset_id, 0.0):
                if candidate.header is None:
                    outcome.freed_bytes += self._remove_file(candidate.dataset_id)
                else:
                    self._remove_blocks(candidate.header, need, outcome)
        except DeadlineExceeded:  # somebody is working on it
            return

    def _remove_file(self, dataset_id: str) -> int:
        entry = self._store.records.get(dataset_id)
        if entry is None:
            return 0
        path = self._store.root / entry.path
        if entry.state == "bad":  # the verdict stays, the bytes go
            path = self._store.private_folder / "rejected" / dataset_id
        elif not entry.ours:
            return 0
        elif not self._store.is_unchanged(entry):
            if os.path.lexists(path):
                raise OSError(errno.EEXIST, "it is not what onefs downloaded any more", str(path))
            return 0
        freed = self._store.remove_file(path)
        if entry.state != "bad":
            self._store.forget(dataset_id)
        return freed

    def _remove_blocks(self, about: BlockMapHeader, need: int, outcome: EvictionResult) -> None:
        size = about.size
        dataset = Dataset(about.dataset_id, "", about.place[-1], size=size, md5=about.md5)
        partial = self._registry.acquire_open(dataset)
        ours = partial is not None
        if partial is None:
            blocks = open_block_file(self._store.partial_folder, dataset)
            if blocks is None:
                outcome.freed_bytes += self._remove_partial(about.dataset_id)
                return
            partial = PartialFile(
                dataset, about.place, blocks, threading.Condition(), shared=self._store.shared
            )
        try:
            before = outcome.freed_bytes
            if self._supports_punching(partial):
                self._punch_blocks(partial, need, outcome)
            if not ours and partial.is_sole_user():
                outcome.freed_bytes += self._remove_empty(partial, outcome.freed_bytes - before)
        finally:
            if ours:
                self._registry.release(partial)
            else:
                partial.block_file.close()

    def _punch_blocks(self, partial: PartialFile, need: int, outcome: EvictionResult) -> None:
        freed = 0
        kept = partial.wanted_blocks()
        try:
            for block in range(partial.block_file.block_count):
                if freed >= need:
                    break
                if block not in kept and partial.evict_block(block):
                    start, end = partial.block_file.span(block)
                    freed += disk_size(end - start)
        finally:  # some may be gone when the disk refuses the next
            self._store.usage.adjust(-freed)
            outcome.freed_bytes += freed

    def _remove_empty(self, partial: PartialFile, freed: int) -> int:
        """Remove a partial file that nobody has open, once no block is left or none can go."""
        if freed and partial.block_file.present_bytes():
            return 0
        return self._remove_partial(partial.dataset.id)

    def _remove_partial(self, dataset_id: str) -> int:
        freed = remove_block_file(self._store.partial_folder, dataset_id)
        self._store.usage.adjust(-freed)
        return freed

    def _supports_punching(self, partial: PartialFile) -> bool:
        """Whether a part of a file can be given back here: else blocks would go for nothing."""
        if self._punch_supported is None:
            self._punch_supported = can_punch_holes(partial.block_file.data_fd)
        return self._punch_supported
