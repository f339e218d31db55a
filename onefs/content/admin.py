"""Looking after a cache: what is in it, checking, accepting, clearing."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.blocks.block_file import (
    BlockFile,
    BlockMapHeader,
    iter_headers,
    open_block_file,
    read_header,
)
from onefs.blocks.evict import Evictor
from onefs.cache.files import disk_errors, sync_file
from onefs.cache.records import CacheEntry
from onefs.cache.sparse import allocated_size
from onefs.cache.store import Place, Store
from onefs.cache.verify import ContentVerdict, hash_file
from onefs.errors import BadContent, DeadlineExceeded, NotFound, reason_of
from onefs.lowlevel.files import fsync_folder, open_new_file
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset
from onefs.printable import plural

#: seconds to wait for another process that works on a dataset which is to be verified
VERIFY_LOCK_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CacheItem:
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
class VerifyResult:
    """What verifying one dataset came to. ``good`` is None when there is nothing to compare."""

    path: str
    good: bool | None
    reason: str = ""


#: told of a path and how many of its bytes were read
PathProgressCallback = Callable[[str, int], None]
#: verifies one dataset whose lock is held
VerifyFunction = Callable[[str, PathProgressCallback], VerifyResult | None]


class CacheAdmin:
    """The chores of one cache folder; other processes may use it meanwhile. Raises CacheError."""

    def __init__(self, store: Store, evictor: Evictor) -> None:
        self._store = store
        self._evictor = evictor

    def list_items(self) -> list[CacheItem]:
        """Everything in the cache, by path; the index is brought up to date on the way."""
        store = self._store
        with disk_errors(store.root):
            pinned = {path.name for path in (store.private_folder / "pins").iterdir()}
            used = {dataset_id: when for when, dataset_id in store.records.last_used_times()}
            found = [
                self._item_of_entry(
                    entry, used.get(entry.dataset_id, 0.0), entry.dataset_id in pinned
                )
                for entry in store.entries()
                # one without its file was removed by a process that did not live to forget it
                if entry.state == "bad" or os.path.lexists(store.root / entry.path)
            ]
            for about in iter_headers(store.partial_folder):
                found.append(self._item_of_partial(about, about.dataset_id in pinned))
        return sorted(found, key=lambda kept: kept.path)

    def pin(self, dataset_id: str) -> None:
        """Never evict this dataset, whether it is here yet or not."""
        with (
            disk_errors(self._store.root),
            open_new_file(self._store.private_folder / "pins" / dataset_id),
        ):
            pass

    def unpin(self, dataset_id: str) -> None:
        """Take back :meth:`pin`."""
        with disk_errors(self._store.root):
            (self._store.private_folder / "pins" / dataset_id).unlink(missing_ok=True)

    def evict(self, dataset_id: str) -> int:
        """Remove what onefs downloaded of a dataset; the bytes of disk that were freed.

        Nothing happens to a pinned dataset, nor to blocks that somebody reads. Raises CacheError
        that names what could not be removed; its bytes stay counted.
        """
        return self._evictor.evict_dataset(dataset_id)

    def clear(self, failed: Callable[[str], None] = lambda reason: None) -> int:
        """Remove all that may be removed, as :meth:`evict` does; the bytes that were freed.

        ``failed`` is called with a sentence for each file that could not be removed.
        """
        outcome = self._evictor.evict(1 << 62)
        for reason in outcome.failures:
            failed(reason)
        return outcome.freed_bytes

    def verify(
        self,
        watch: PathProgressCallback = lambda path, done: None,
        only: Container[str] | None = None,
    ) -> Iterator[VerifyResult]:
        """Read files again and compare them with what the database claimed.

        All of them, or the datasets of these ids ``only``.

        What is wrong is put right: our own file is removed, to be fetched again when it is read;
        of somebody else's nothing is believed any more. Blocks that contradict their checksum
        are struck out. ``watch`` is told of the bytes that were read. What other processes
        remove, replace or fetch meanwhile is left out.
        """
        for entry in self._store.entries():
            if entry.state != "bad" and (only is None or entry.dataset_id in only):
                checked = self._verify_locked(entry.dataset_id, self._verify_file, watch)
                if checked is not None:
                    yield checked
        for about in list(iter_headers(self._store.partial_folder)):
            if only is None or about.dataset_id in only:
                checked = self._verify_locked(about.dataset_id, self._verify_blocks, watch)
                if checked is not None:
                    yield checked

    def _verify_locked(
        self, dataset_id: str, check: VerifyFunction, watch: PathProgressCallback
    ) -> VerifyResult | None:
        """What a check comes to; None for what another process is at, or has removed."""
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset_id, VERIFY_LOCK_WAIT_SECONDS),
            ):
                return check(dataset_id, watch)
        except DeadlineExceeded:
            return None

    def rejected_content(self, dataset: Dataset) -> tuple[CacheEntry, Path | None]:
        """The bad verdict on a dataset, and the bytes that it was on, if they are still here.

        Raises NotFound when there is no such verdict.
        """
        # readers are told of a bad file a moment before its verdict is written down
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            entry = self._store.valid_entry(dataset)
        if entry is None or entry.state != "bad":
            raise NotFound(f"{dataset.name} is not known to be bad: there is nothing to accept")
        kept = self._store.rejected_path(dataset)
        return entry, kept if entry.digest and kept.is_file() else None

    def accept(self, dataset: Dataset, place: Place, kept: Path, digest: str = "") -> Path:
        """Serve these bytes from now on, as the user wishes, although the database claims others.

        ``digest``: what the bytes were found to have; raises BadContent when they have another
        one now. The state is ``accepted`` until the database claims something else.
        """
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            try:
                found = hash_file(dataset, kept)
                sync_file(kept)  # that they are wanted holds on every host, and after a power loss
            except FileNotFoundError as error:
                raise NotFound(
                    f"another process has just removed the bytes of {dataset.name}: accept it again"
                ) from error
            if digest not in ("", found):
                raise BadContent(f"{kept} is not what it was when it was rejected")
            verdict = ContentVerdict("accepted", "the user has accepted these bytes")
            final = self._store.publish(dataset, place, kept, verdict, durable=True, digest=found)
            self._store.records.sync(dataset.id)
            with suppress(OSError):  # not every file system can
                fsync_folder(final.parent)
            return final

    def clear_rejection(self, dataset: Dataset) -> None:
        """Withdraw a bad verdict: the next read fetches the file again."""
        entry = self._store.valid_entry(dataset)
        if entry is not None and entry.state == "bad":
            with disk_errors(self._store.root):
                self._store.remove_file(self._store.rejected_path(dataset))
            self._store.forget(dataset.id)

    def _item_of_entry(self, entry: CacheEntry, used_at: float, pinned: bool) -> CacheItem:
        path = self._store.root / entry.path
        return CacheItem(
            entry.dataset_id,
            entry.path,
            entry.state,
            entry.size,
            allocated_size(path) if entry.path else 0,
            used_at,
            bool(entry.ours),
            pinned,
            entry.reason,
        )

    def _item_of_partial(self, about: BlockMapHeader, pinned: bool) -> CacheItem:
        folder = self._store.partial_folder
        stem = folder / f"{about.dataset_id}.{about.generation}.data"
        used_at = 0.0
        with suppress(FileNotFoundError):
            used_at = (folder / f"{about.dataset_id}.json").stat().st_mtime
        path = str(self._store.final_path(about.place).relative_to(self._store.root))
        return CacheItem(
            about.dataset_id,
            path,
            "partial",
            about.size,
            allocated_size(stem),
            used_at,
            True,
            pinned,
        )

    def _verify_file(self, dataset_id: str, watch: PathProgressCallback) -> VerifyResult | None:
        """None for a file that is not there any more, without a word of what became of it."""
        entry = self._store.records.get(dataset_id)
        if entry is None or entry.state == "bad":
            return None
        path = self._store.root / entry.path
        try:
            found = path.stat()
            if not self._store.is_unchanged(entry):
                self._store.forget(dataset_id)
                return VerifyResult(entry.path, False, "it was changed")
            if not entry.expected_digest:
                return VerifyResult(entry.path, None)
            dataset = Dataset(dataset_id, "", path.name, size=entry.size, md5=entry.expected_digest)
            digest = hash_file(dataset, path, partial(watch, entry.path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if digest == entry.expected_digest:
            self._store.update_ctime(entry, found)
            return VerifyResult(entry.path, True)
        reason = f"its bytes have {digest} instead of {entry.expected_digest}"
        return VerifyResult(entry.path, False, reason + self._remove_wrong_file(entry, path))

    def _remove_wrong_file(self, entry: CacheEntry, path: Path) -> str:
        """Give up a file that is wrong; why it is still there, if it is."""
        try:
            self._store.remove_wrong_file(entry)
        except OSError as error:
            return f", and it cannot be removed: {path}: {reason_of(error, path)}"
        return ""

    def _verify_blocks(self, dataset_id: str, watch: PathProgressCallback) -> VerifyResult | None:
        """None for a file that was completed or dropped since it was listed."""
        about = read_header(self._store.partial_folder, dataset_id)
        if about is None:
            return None
        dataset = Dataset(dataset_id, "", about.place[-1], size=about.size, md5=about.md5)
        path = str(self._store.final_path(about.place).relative_to(self._store.root))
        blocks = open_block_file(self._store.partial_folder, dataset)
        if blocks is None:
            return VerifyResult(path, False, "its block map cannot be used")
        try:
            wrong = [
                block
                for block in range(blocks.block_count)
                if self._clear_if_invalid(blocks, block)
            ]
        finally:
            blocks.close()
        reason = f"checksums contradict {len(wrong)} {plural(len(wrong), 'block')}" if wrong else ""
        return VerifyResult(path, not wrong, reason)

    def _clear_if_invalid(self, blocks: BlockFile, block: int) -> bool:
        """Whether a block's record was a lie; it is cleared, unless somebody is at it."""
        record = blocks.records(block, block + 1)[0]
        if not record or blocks.is_block_valid(block, record):
            return False
        if self._store.shared and not try_lock(blocks.map_fd, block):
            return False
        try:  # another process may have struck it out, and fetched it again, meanwhile
            now = blocks.records(block, block + 1)[0]
            wrong = bool(now) and not blocks.is_block_valid(block, now)
            if wrong:
                blocks.clear_record(block)
            return wrong
        finally:
            if self._store.shared:
                unlock(blocks.map_fd, block)
