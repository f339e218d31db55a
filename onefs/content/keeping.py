"""Looking after a cache: what is in it, checking, accepting, clearing."""

from __future__ import annotations

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
from onefs.descriptors import sync_folder
from onefs.errors import BadContent, NotFound
from onefs.model import Dataset


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
            ]
            for about in abouts(store.partial_folder):
                found.append(self._partial(about, about.dataset_id in pinned))
        return sorted(found, key=lambda kept: kept.path)

    def pin(self, dataset_id: str) -> None:
        """Never evict this dataset, whether it is here yet or not."""
        with disk_errors(self._store.root):
            (self._store.private / "pins" / dataset_id).touch()

    def unpin(self, dataset_id: str) -> None:
        """Take back :meth:`pin`."""
        with disk_errors(self._store.root):
            (self._store.private / "pins" / dataset_id).unlink(missing_ok=True)

    def evict(self, dataset_id: str) -> int:
        """Remove what onefs downloaded of a dataset; the bytes of disk that were freed.

        Nothing happens to a pinned dataset, nor to blocks that somebody reads.
        """
        return self._evictor.discard(dataset_id)

    def clear(self) -> int:
        """Remove all that may be removed, as :meth:`evict` does; the bytes that were freed."""
        before = self._store.total_bytes()
        self._evictor.evict(1 << 62)
        return max(0, before - self._store.total_bytes())

    def verify(
        self,
        watch: Callable[[str, int], None] = lambda path, done: None,
        only: Container[str] | None = None,
    ) -> Iterator[Checked]:
        """Read files again and compare them with what the database claimed.

        All of them, or the datasets of these ids ``only``.

        What is wrong is put right: our own file is removed, to be fetched again when it is read;
        of somebody else's nothing is believed any more. Blocks that contradict their checksum
        are struck out. ``watch`` is told of the bytes that were read.
        """
        for entry in self._store.entries():
            if entry.state != "bad" and (only is None or entry.dataset_id in only):
                with disk_errors(self._store.root), self._store.locks.hold(entry.dataset_id, 60.0):
                    checked = self._verify_file(entry, partial(watch, entry.path))
                yield checked
        for about in list(abouts(self._store.partial_folder)):
            if only is not None and about.dataset_id not in only:
                continue
            with disk_errors(self._store.root):
                found = self._verify_blocks(about)
            if found is not None:
                yield found

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
            if digest and hash_file(dataset, kept) != digest:
                raise BadContent(f"{kept} is not what it was when it was rejected")
            verdict = Verdict("accepted", "the user has accepted these bytes")
            sync(kept)  # that they are wanted holds on every host, and after a power loss
            final = self._store.publish(dataset, place, kept, verdict, durable=True)
            self._store.records.sync(dataset.id)
            with suppress(OSError):  # not every file system can
                sync_folder(final.parent)
            return final

    def forgive(self, dataset: Dataset) -> None:
        """Withdraw a bad verdict: the next read fetches the file again."""
        entry = self._store.entry(dataset)
        if entry is not None and entry.state == "bad":
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

    def _verify_file(self, entry: Entry, watch: Callable[[int], None]) -> Checked:
        path = self._store.root / entry.path
        if not self._store.unchanged(entry):
            self._store.forget(entry.dataset_id)
            return Checked(entry.path, False, "it was changed or removed")
        wanted = entry.digest if entry.state == "accepted" else entry.claimed_md5
        if not wanted:
            return Checked(entry.path, None)
        dataset = Dataset(entry.dataset_id, "", path.name, size=entry.size, md5=wanted)
        found = hash_file(dataset, path, watch)
        if found == wanted:
            return Checked(entry.path, True)
        if entry.ours:
            self._store.discard(path)
        self._store.forget(entry.dataset_id)
        return Checked(entry.path, False, f"its bytes have {found} instead of {wanted}")

    def _verify_blocks(self, about: About) -> Checked | None:
        """None for a file that was completed or dropped since it was listed."""
        dataset = Dataset(about.dataset_id, "", about.place[-1], size=about.size, md5=about.md5)
        path = str(self._store.final(about.place).relative_to(self._store.root))
        with self._store.locks.hold(about.dataset_id, 60.0):  # nobody completes it just now
            blocks = open_blocks(self._store.partial_folder, dataset)
            if blocks is None and read_about(self._store.partial_folder, about.dataset_id) is None:
                return None
        if blocks is None:
            return Checked(path, False, "its block map cannot be used")
        try:
            wrong = [block for block in range(blocks.count) if self._strike_out(blocks, block)]
        finally:
            blocks.close()
        reason = f"{len(wrong)} blocks contradict their checksum" if wrong else ""
        return Checked(path, not wrong, reason)

    def _strike_out(self, blocks: BlockFile, block: int) -> bool:
        """Whether a block's record was a lie; it is cleared, unless somebody is at it."""
        record = blocks.records(block, block + 1)[0]
        if not record or blocks.proves(block, record):
            return False
        if self._store.shared and not try_lock(blocks.map, block):
            return False
        blocks.clear(block)
        if self._store.shared:
            unlock(blocks.map, block)
        return True
