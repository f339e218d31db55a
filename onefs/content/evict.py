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

from onefs.content.blocks import About, abouts, open_blocks, remove_blocks
from onefs.content.files import disk_errors
from onefs.content.holes import can_punch, disk_size
from onefs.content.partial import Partial
from onefs.content.partials import Partials
from onefs.content.store import Store
from onefs.errors import CacheError, DeadlineExceeded, OnefsError, reason_of
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


@dataclass(slots=True)
class Evicted:
    """What an eviction came to."""

    #: bytes of disk that were given back
    freed: int = 0
    #: one sentence for each file that could not be removed; its bytes stay counted
    failures: list[str] = field(default_factory=list)


class Evictor:
    """Evicts. Thread-safe; one thread of a process does it at a time."""

    def __init__(self, store: Store, partials: Partials) -> None:
        self._store = store
        self._partials = partials
        self._lock = threading.Lock()
        #: None: nobody has tried it yet
        self._can_punch: bool | None = None
        #: failures that the log has told of already
        self._told: set[str] = set()

    def evict(self, need: int) -> Evicted:
        """Remove files and blocks of at least ``need`` bytes, as far as that is possible.

        What cannot be removed is left out, and the log names it once.
        """
        outcome = Evicted()
        store = self._store
        before = store.ledger.total()
        with self._lock, disk_errors(store.root):
            need -= before - store.ledger.total()  # somebody else has just made room
            accepted = store.records.marked()
            for candidate in self._candidates():
                if need <= outcome.freed:
                    break
                if candidate.about is not None or candidate.dataset_id not in accepted:
                    self._try(candidate, need - outcome.freed, outcome)
        self._tell(outcome.failures)
        return outcome

    def discard(self, dataset_id: str) -> int:
        """Remove what there is of one dataset, if nobody reads it; the bytes that were freed.

        Raises CacheError that names what could not be removed.
        """
        outcome = Evicted()
        with disk_errors(self._store.root):
            for candidate in self._candidates():
                if candidate.dataset_id == dataset_id:
                    self._try(candidate, 1 << 62, outcome)
        if outcome.failures:
            raise CacheError("; ".join(outcome.failures))
        return outcome.freed

    def _try(self, candidate: Candidate, need: int, outcome: Evicted) -> None:
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

    def _path(self, candidate: Candidate) -> str:
        if candidate.about is not None:
            return str(self._store.final(candidate.about.place))
        entry = self._store.records.get(candidate.dataset_id)
        return str(self._store.root / (entry.path if entry else candidate.dataset_id))

    def _tell(self, failures: list[str]) -> None:
        fresh = [failure for failure in failures if failure not in self._told]
        self._told.update(fresh)
        if fresh:
            more = f", nor can {len(fresh) - 1} other files" if len(fresh) > 1 else ""
            log.warning("%s%s: their bytes stay counted", fresh[0], more)

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

    def _remove(self, candidate: Candidate, need: int, outcome: Evicted) -> None:
        """Raises OSError when bytes are still there that were to be removed."""
        try:
            with self._store.locks.hold(candidate.dataset_id, 0.0):
                if candidate.about is None:
                    outcome.freed += self._remove_file(candidate.dataset_id)
                else:
                    self._remove_blocks(candidate.about, need, outcome)
        except DeadlineExceeded:  # somebody is working on it
            return

    def _remove_file(self, dataset_id: str) -> int:
        entry = self._store.records.get(dataset_id)
        if entry is None:
            return 0
        path = self._store.root / entry.path
        if entry.state == "bad":  # the verdict stays, the bytes go
            path = self._store.private / "rejected" / dataset_id
        elif not entry.ours:
            return 0
        elif not self._store.unchanged(entry):
            if os.path.lexists(path):
                raise OSError(errno.EEXIST, "it is not what onefs downloaded any more", str(path))
            return 0
        freed = self._store.discard(path)
        if entry.state != "bad":
            self._store.forget(dataset_id)
        return freed

    def _remove_blocks(self, about: About, need: int, outcome: Evicted) -> None:
        size = about.size
        dataset = Dataset(about.dataset_id, "", about.place[-1], size=size, md5=about.md5)
        partial = self._partials.find(dataset)
        ours = partial is not None
        if partial is None:
            blocks = open_blocks(self._store.partial_folder, dataset)
            if blocks is None:
                outcome.freed += self._remove_partial(about.dataset_id)
                return
            partial = Partial(
                dataset, about.place, blocks, threading.Condition(), shared=self._store.shared
            )
        try:
            before = outcome.freed
            if self._punches(partial):
                self._punch(partial, need, outcome)
            if not ours and partial.alone():
                outcome.freed += self._remove_empty(partial, outcome.freed - before)
        finally:
            if ours:
                self._partials.release(partial)
            else:
                partial.blocks.close()

    def _punch(self, partial: Partial, need: int, outcome: Evicted) -> None:
        freed = 0
        kept = partial.wanted_blocks()
        try:
            for block in range(partial.blocks.count):
                if freed >= need:
                    break
                if block not in kept and partial.evict(block):
                    start, end = partial.blocks.span(block)
                    freed += disk_size(end - start)
        finally:  # some may be gone when the disk refuses the next
            self._store.ledger.change(-freed)
            outcome.freed += freed

    def _remove_empty(self, partial: Partial, freed: int) -> int:
        """Remove a partial file that nobody has open, once no block is left or none can go."""
        if freed and partial.blocks.present_bytes():
            return 0
        return self._remove_partial(partial.dataset.id)

    def _remove_partial(self, dataset_id: str) -> int:
        freed = remove_blocks(self._store.partial_folder, dataset_id)
        self._store.ledger.change(-freed)
        return freed

    def _punches(self, partial: Partial) -> bool:
        """Whether a part of a file can be given back here: else blocks would go for nothing."""
        if self._can_punch is None:
            self._can_punch = can_punch(partial.blocks.data)
        return self._can_punch
