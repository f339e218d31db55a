"""Looking after a cache: what is in it, checking, accepting, clearing."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.content.blocks import About, BlockFile, abouts, open_blocks, read_about
from onefs.content.evict import Evictor
from onefs.content.files import disk_errors, sync
from onefs.content.holes import allocated
from onefs.content.lock import try_lock, unlock
from onefs.content.records import Entry
from onefs.content.store import Place, Store
from onefs.content.verify import Verdict, hash_file
from onefs.descriptors import created, sync_folder
from onefs.errors import BadContent, DeadlineExceeded, NotFound, reason_of
from onefs.model import Dataset
from onefs.printable import plural

#: seconds to wait for another process that works on a dataset which is to be verified
LOCKED = 5.0


@dataclass(frozen=True, slots=True)
class Kept:
    """One dataset that the cache holds something of."""

    dataset_id: str
    #: its ONE path below the cache folder, or where it stands instead
    path: str
    #: ``partial``, ``cached``, ``unverified``, ``accepted`` or ``bad``
    state: str
    #: bytes of the whole file, and of disk that it takes
    size: int
    on_disk: int
    #: seconds since the epoch
    used_at: float
    #: onefs downloaded it
    ours: bool
    pinned: bool
    #: what is wrong with it, if anything
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What verifying one dataset came to. ``good`` is None when there is nothing to compare."""

    path: str
    good: bool | None
    reason: str = ""


#: told of a path and how many of its bytes were read
Watch = Callable[[str, int], None]
#: verifies one dataset whose lock is held
Check = Callable[[str, Watch], Checked | None]


class Keeping:
    """The chores of one cache folder; other processes may use it meanwhile. Raises CacheError."""

    def __init__(self, store: Store, evictor: Evictor) -> None:
        self._store = store
        self._evictor = evictor

    def listing(self) -> list[Kept]:
        """Everything in the cache, by path; the index is brought up to date on the way."""
        store = self._store
        with disk_errors(store.root):
            pinned = {path.name for path in (store.private / "pins").iterdir()}
            used = {dataset_id: when for when, dataset_id in store.records.used()}
            found = [
                self._kept(entry, used.get(entry.dataset_id, 0.0), entry.dataset_id in pinned)
                for entry in store.entries()
                # one without its file was removed by a process that did not live to forget it
                if entry.state == "bad" or os.path.lexists(store.root / entry.path)
            ]
            for about in abouts(store.partial_folder):
                found.append(self._partial(about, about.dataset_id in pinned))
        return sorted(found, key=lambda kept: kept.path)

    def pin(self, dataset_id: str) -> None:
        """Never evict this dataset, whether it is here yet or not."""
        with (
            disk_errors(self._store.root),
            created(self._store.private / "pins" / dataset_id),
        ):
            pass

    def unpin(self, dataset_id: str) -> None:
        """Take back :meth:`pin`."""
        with disk_errors(self._store.root):
            (self._store.private / "pins" / dataset_id).unlink(missing_ok=True)

    def evict(self, dataset_id: str) -> int:
        """Remove what onefs downloaded of a dataset; the bytes of disk that were freed.

        Nothing happens to a pinned dataset, nor to blocks that somebody reads. Raises CacheError
        that names what could not be removed; its bytes stay counted.
        """
        return self._evictor.discard(dataset_id)

    def clear(self, failed: Callable[[str], None] = lambda reason: None) -> int:
        """Remove all that may be removed, as :meth:`evict` does; the bytes that were freed.

        ``failed`` is called with a sentence for each file that could not be removed.
        """
        outcome = self._evictor.evict(1 << 62)
        for reason in outcome.failures:
            failed(reason)
        return outcome.freed

    def verify(
        self,
        watch: Watch = lambda path, done: None,
        only: Container[str] | None = None,
    ) -> Iterator[Checked]:
        """Read files again and compare them with what the database claimed.

        All of them, or the datasets of these ids ``only``.

        What is wrong is put right: our own file is removed, to be fetched again when it is read;
        of somebody else's nothing is believed any more. Blocks that contradict their checksum
        are struck out. ``watch`` is told of the bytes that were read. What other processes
        remove, replace or fetch meanwhile is left out.
        """
        for entry in self._store.entries():
            if entry.state != "bad" and (only is None or entry.dataset_id in only):
                checked = self._checked(entry.dataset_id, self._verify_file, watch)
                if checked is not None:
                    yield checked
        for about in list(abouts(self._store.partial_folder)):
            if only is None or about.dataset_id in only:
                checked = self._checked(about.dataset_id, self._verify_blocks, watch)
                if checked is not None:
                    yield checked

    def _checked(self, dataset_id: str, check: Check, watch: Watch) -> Checked | None:
        """What a check comes to; None for what another process is at, or has removed."""
        try:
            with disk_errors(self._store.root), self._store.locks.hold(dataset_id, LOCKED):
                return check(dataset_id, watch)
        except DeadlineExceeded:
            return None

    def rejected(self, dataset: Dataset) -> tuple[Entry, Path | None]:
        """The bad verdict on a dataset, and the bytes that it was on, if they are still here.

        Raises NotFound when there is no such verdict.
        """
        # readers are told of a bad file a moment before its verdict is written down
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            entry = self._store.entry(dataset)
        if entry is None or entry.state != "bad":
            raise NotFound(f"{dataset.name} is not known to be bad: there is nothing to accept")
        kept = self._store.rejected(dataset)
        return entry, kept if entry.digest and kept.is_file() else None

    def accept(self, dataset: Dataset, place: Place, kept: Path, digest: str = "") -> Path:
        """Serve these bytes from now on, as the user wishes, although the database claims others.

        ``digest``: what the bytes were found to have; raises BadContent when they have another
        one now. The state is ``accepted`` until the database claims something else.
        """
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            try:
                found = hash_file(dataset, kept)
                sync(kept)  # that they are wanted holds on every host, and after a power loss
            except FileNotFoundError as error:
                raise NotFound(
                    f"another process has just removed the bytes of {dataset.name}: accept it again"
                ) from error
            if digest not in ("", found):
                raise BadContent(f"{kept} is not what it was when it was rejected")
            verdict = Verdict("accepted", "the user has accepted these bytes")
            final = self._store.publish(dataset, place, kept, verdict, durable=True, digest=found)
            self._store.records.sync(dataset.id)
            with suppress(OSError):  # not every file system can
                sync_folder(final.parent)
            return final

    def forgive(self, dataset: Dataset) -> None:
        """Withdraw a bad verdict: the next read fetches the file again."""
        entry = self._store.entry(dataset)
        if entry is not None and entry.state == "bad":
            with disk_errors(self._store.root):
                self._store.discard(self._store.rejected(dataset))
            self._store.forget(dataset.id)

    def _kept(self, entry: Entry, used_at: float, pinned: bool) -> Kept:
        path = self._store.root / entry.path
        return Kept(
            entry.dataset_id,
            entry.path,
            entry.state,
            entry.size,
            allocated(path) if entry.path else 0,
            used_at,
            bool(entry.ours),
            pinned,
            entry.reason,
        )

    def _partial(self, about: About, pinned: bool) -> Kept:
        folder = self._store.partial_folder
        stem = folder / f"{about.dataset_id}.{about.generation}.data"
        used_at = 0.0
        with suppress(FileNotFoundError):
            used_at = (folder / f"{about.dataset_id}.json").stat().st_mtime
        path = str(self._store.final(about.place).relative_to(self._store.root))
        return Kept(
            about.dataset_id, path, "partial", about.size, allocated(stem), used_at, True, pinned
        )

    def _verify_file(self, dataset_id: str, watch: Watch) -> Checked | None:
        """None for a file that is not there any more, without a word of what became of it."""
        entry = self._store.records.get(dataset_id)
        if entry is None or entry.state == "bad":
            return None
        path = self._store.root / entry.path
        try:
            found = path.stat()
            if not self._store.unchanged(entry):
                self._store.forget(dataset_id)
                return Checked(entry.path, False, "it was changed")
            if not entry.wanted_digest:
                return Checked(entry.path, None)
            dataset = Dataset(dataset_id, "", path.name, size=entry.size, md5=entry.wanted_digest)
            digest = hash_file(dataset, path, partial(watch, entry.path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if digest == entry.wanted_digest:
            self._store.renew(entry, found)
            return Checked(entry.path, True)
        reason = f"its bytes have {digest} instead of {entry.wanted_digest}"
        return Checked(entry.path, False, reason + self._drop(entry, path))

    def _drop(self, entry: Entry, path: Path) -> str:
        """Give up a file that is wrong; why it is still there, if it is."""
        try:
            self._store.give_up(entry)
        except OSError as error:
            return f", and it cannot be removed: {path}: {reason_of(error, path)}"
        return ""

    def _verify_blocks(self, dataset_id: str, watch: Watch) -> Checked | None:
        """None for a file that was completed or dropped since it was listed."""
        about = read_about(self._store.partial_folder, dataset_id)
        if about is None:
            return None
        dataset = Dataset(dataset_id, "", about.place[-1], size=about.size, md5=about.md5)
        path = str(self._store.final(about.place).relative_to(self._store.root))
        blocks = open_blocks(self._store.partial_folder, dataset)
        if blocks is None:
            return Checked(path, False, "its block map cannot be used")
        try:
            wrong = [block for block in range(blocks.count) if self._strike_out(blocks, block)]
        finally:
            blocks.close()
        reason = f"checksums contradict {len(wrong)} {plural(len(wrong), 'block')}" if wrong else ""
        return Checked(path, not wrong, reason)

    def _strike_out(self, blocks: BlockFile, block: int) -> bool:
        """Whether a block's record was a lie; it is cleared, unless somebody is at it."""
        record = blocks.records(block, block + 1)[0]
        if not record or blocks.proves(block, record):
            return False
        if self._store.shared and not try_lock(blocks.map, block):
            return False
        try:  # another process may have struck it out, and fetched it again, meanwhile
            now = blocks.records(block, block + 1)[0]
            wrong = bool(now) and not blocks.proves(block, now)
            if wrong:
                blocks.clear(block)
            return wrong
        finally:
            if self._store.shared:
                unlock(blocks.map, block)
