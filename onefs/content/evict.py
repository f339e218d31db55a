"""Making room: what was not used for longest goes first.

Complete files go whole: who has one open keeps it until it is closed. Partial files go block by
block, from the beginning (what a reader in order has behind it), leaving out what somebody reads.
Pinned datasets, and files that onefs did not download, are never touched. What the user has
accepted goes only when it is named: with the file would go the word that it is wanted.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from onefs.content.blocks import About, abouts, open_blocks, remove_blocks
from onefs.content.files import disk_errors
from onefs.content.holes import can_punch, disk_size
from onefs.content.partial import Partial
from onefs.content.partials import Partials
from onefs.content.store import Store
from onefs.errors import DeadlineExceeded
from onefs.model import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may be evicted."""

    #: seconds since the epoch
    used_at: float
    dataset_id: str
    #: a partial file; None for a complete or rejected one
    about: About | None = None


class Evictor:
    """Evicts. Thread-safe; one thread of a process does it at a time."""

    def __init__(self, store: Store, partials: Partials) -> None:
        self._store = store
        self._partials = partials
        self._lock = threading.Lock()
        #: None: nobody has tried it yet
        self._can_punch: bool | None = None

    def evict(self, need: int) -> None:
        """Remove files and blocks of at least ``need`` bytes, as far as that is possible."""
        store = self._store
        before = store.ledger.total()
        with self._lock, disk_errors(store.root):
            need -= before - store.ledger.total()  # somebody else has just made room
            accepted = store.records.marked()
            for candidate in self._candidates():
                if need <= 0:
                    return
                if candidate.about is not None or candidate.dataset_id not in accepted:
                    need -= self._remove(candidate, need)

    def discard(self, dataset_id: str) -> int:
        """Remove what there is of one dataset, if nobody reads it; the bytes that were freed."""
        with disk_errors(self._store.root):
            return sum(
                self._remove(candidate, 1 << 62)
                for candidate in self._candidates()
                if candidate.dataset_id == dataset_id
            )

    def _candidates(self) -> list[Candidate]:
        store = self._store
        found = [Candidate(used, dataset_id) for used, dataset_id in store.records.used()]
        for about in abouts(store.partial_folder):
            found.append(Candidate(self._used(about), about.dataset_id, about))
        pinned = {path.name for path in (store.private / "pins").iterdir()}
        found = [candidate for candidate in found if candidate.dataset_id not in pinned]
        return sorted(found, key=lambda candidate: candidate.used_at)

    def _used(self, about: About) -> float:
        try:
            return (self._store.partial_folder / f"{about.dataset_id}.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _remove(self, candidate: Candidate, need: int) -> int:
        try:
            with self._store.locks.hold(candidate.dataset_id, 0.0):
                if candidate.about is None:
                    return self._remove_file(candidate.dataset_id)
                return self._remove_blocks(candidate.about, need)
        except DeadlineExceeded:  # somebody is working on it
            return 0

    def _remove_file(self, dataset_id: str) -> int:
        entry = self._store.records.get(dataset_id)
        if entry is None:
            return 0
        path = self._store.root / entry.path
        if entry.state == "bad":  # the verdict stays, the bytes go
            path = self._store.private / "rejected" / dataset_id
        elif not entry.ours or not self._store.unchanged(entry):
            return 0
        freed = self._store.discard(path)
        if entry.state != "bad":
            self._store.forget(dataset_id)
        return freed

    def _remove_blocks(self, about: About, need: int) -> int:
        size = about.size
        dataset = Dataset(about.dataset_id, "", about.place[-1], size=size, md5=about.md5)
        partial = self._partials.find(dataset)
        ours = partial is not None
        if partial is None:
            blocks = open_blocks(self._store.partial_folder, dataset)
            if blocks is None:
                freed = remove_blocks(self._store.partial_folder, about.dataset_id)
                self._store.ledger.change(-freed)
                return freed
            partial = Partial(
                dataset, about.place, blocks, threading.Condition(), shared=self._store.shared
            )
        try:
            freed = self._punch(partial, need) if self._punches(partial) else 0
            if not ours and partial.alone():
                freed += self._remove_empty(partial, freed)
            return freed
        finally:
            if ours:
                self._partials.release(partial)
            else:
                partial.blocks.close()

    def _punch(self, partial: Partial, need: int) -> int:
        freed = 0
        kept = partial.wanted_blocks()
        for block in range(partial.blocks.count):
            if freed >= need:
                break
            if block not in kept and partial.evict(block):
                start, end = partial.blocks.span(block)
                freed += disk_size(end - start)
        self._store.ledger.change(-freed)
        return freed

    def _remove_empty(self, partial: Partial, freed: int) -> int:
        """Remove a partial file that nobody has open, once no block is left or none can go."""
        if freed and partial.blocks.present_bytes():
            return 0
        left = remove_blocks(self._store.partial_folder, partial.dataset.id)
        self._store.ledger.change(-left)
        return left

    def _punches(self, partial: Partial) -> bool:
        """Whether a part of a file can be given back here: else blocks would go for nothing."""
        if self._can_punch is None:
            self._can_punch = can_punch(partial.blocks.data)
        return self._can_punch
