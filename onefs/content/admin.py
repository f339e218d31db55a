"""Cache administration: list, verify, accept, pin, evict and clear cached files."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.blocks.block_map import (
    BlockFile,
    BlockMapHeader,
    iter_headers,
    open_block_file,
    read_header,
)
from onefs.blocks.evict import Evictor
from onefs.cache.files import disk_errors, sync_file
from onefs.cache.folder import Place
from onefs.cache.records import CacheEntry
from onefs.cache.sparse import allocated_size
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, hash_file
from onefs.content.disk_paths import one_path
from onefs.content.disk_verify import DiskVerifier, PathProgressCallback, VerifyResult
from onefs.errors import BadContent, DeadlineExceeded, NotFound, reason_of
from onefs.lowlevel.files import fsync_folder, open_new_file
from onefs.lowlevel.locks import try_lock, unlock
from onefs.model import Dataset
from onefs.printable import plural

#: longest wait in seconds for the lock of a dataset before its verification is skipped
VERIFY_LOCK_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CacheItem:
    """One dataset whose file is cached, is partly cached, or contradicts the database."""

    dataset_id: str
    #: the path relative to the cache folder; usually the ONE path
    path: str
    #: ``partial``, ``cached``, ``unverified``, ``accepted`` or ``bad``
    state: str
    #: bytes of the whole file
    size: int
    #: bytes of disk that the file takes
    on_disk: int
    #: time of last use, at most an hour too early, in seconds since the epoch; 0.0 if unknown
    used_at: float
    #: True if onefs downloaded the file, False if another program wrote the file
    ours: bool
    pinned: bool
    #: why the file is bad or was accepted; '' in the other states
    reason: str = ""


#: verifies one dataset. The caller holds the dataset's lock
VerifyFunction = Callable[[str, PathProgressCallback], VerifyResult | None]


class CacheAdmin:
    """Administration of one cache folder, which other processes may use at the same time.

    ``disk_seconds`` is the longest wait for a disk that may stand still. Methods raise CacheError
    if the cache folder cannot be used.
    """

    def __init__(self, store: Store, evictor: Evictor, disk_seconds: float) -> None:
        self._store = store
        self._evictor = evictor
        self._disk_seconds = disk_seconds

    def list_items(self) -> list[CacheItem]:
        """Return all cached files, sorted by path.

        Partial files, and files that contradict the database, are included.
        """
        store = self._store
        with disk_errors(store.root):
            pinned = store.pinned_ids()
            used = store.records.last_used_times()
            items = [
                self._item_of_entry(
                    entry, used.get(entry.dataset_id, 0.0), entry.dataset_id in pinned
                )
                for entry in store.entries()
                # an entry has no file if the process that evicted the file was killed
                if entry.state == "bad" or os.path.lexists(store.root / entry.path)
            ]
            for header, used_at in iter_headers(store.partial_folder):
                items.append(self._item_of_partial(header, used_at, header.dataset_id in pinned))
        return sorted(items, key=lambda item: item.path)

    def list_disk_items(self) -> list[CacheItem]:
        """Return the files on disks that were read in place, as far as they are recorded."""
        return [
            CacheItem(
                entry.dataset_id,
                one_path(entry.path, entry.dataset_id),
                entry.state,
                entry.size,
                on_disk=0,
                used_at=0.0,
                ours=False,
                pinned=False,
                reason=entry.reason,
            )
            for entry in self._store.disk_records.entries()
        ]

    def pin(self, dataset_id: str) -> None:
        """Pin a dataset, so that it is never evicted. The dataset need not be cached yet."""
        with (
            disk_errors(self._store.root),
            open_new_file(self._store.private_folder / "pins" / dataset_id),
        ):
            pass

    def unpin(self, dataset_id: str) -> None:
        """Allow the eviction of a dataset again."""
        with disk_errors(self._store.root):
            (self._store.private_folder / "pins" / dataset_id).unlink(missing_ok=True)

    def evict(self, dataset_id: str) -> int:
        """Remove the files that onefs downloaded for a dataset. Return the bytes of disk freed.

        A pinned dataset and blocks that are being read stay. Raises CacheError, which names the
        files that could not be removed. The bytes of these files still count as used.
        """
        return self._evictor.evict_dataset(dataset_id)

    def clear(self, failed: Callable[[str], None] = lambda reason: None) -> int:
        """Remove all files that may be evicted. Return the bytes of disk freed.

        These files stay: files of pinned datasets, files of other programs, and files that the user
        has accepted although they contradict the database. ``failed`` is called with a sentence for
        each file that could not be removed.
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
        """Hash cached files again, compare the hashes with the database, and yield the results.

        If ``only`` is given, only the datasets with these ids are verified. If bytes are wrong:

        - a file that onefs downloaded is removed
        - a file of another program stays, but no longer counts as cached
        - a block of a partial file becomes absent
        - a file on a disk stays, and is no longer used

        A file that another process changes at the same time is skipped. No file of a disk is
        verified that is not the recorded one: the database may say something else of it.
        """
        for dataset_id, verify in self._checks():
            if only is None or dataset_id in only:
                result = self._verify_locked(dataset_id, verify, watch)
                if result is not None:
                    yield result
        disks = DiskVerifier(self._store.disk_records, self._disk_seconds)
        for entry in self._store.disk_records.entries():
            if only is None or entry.dataset_id in only:
                result = disks.verify(entry, watch)
                if result is not None:
                    yield result

    def _checks(self) -> Iterator[tuple[str, VerifyFunction]]:
        """Yield the id of each dataset that can be verified, and the function that verifies the
        dataset."""
        for entry in self._store.entries():
            if entry.state != "bad":
                yield entry.dataset_id, self._verify_file
        for header, _ in list(iter_headers(self._store.partial_folder)):
            yield header.dataset_id, self._verify_blocks

    def _verify_locked(
        self, dataset_id: str, check: VerifyFunction, watch: PathProgressCallback
    ) -> VerifyResult | None:
        """Verify a dataset while holding its lock.

        Return None if another process holds the lock too long, or if the file is not in the cache
        any more.
        """
        # None: another process holds the lock for more than VERIFY_LOCK_WAIT_SECONDS, or the file
        # is not in the cache any more
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset_id, VERIFY_LOCK_WAIT_SECONDS),
            ):
                return check(dataset_id, watch)
        except DeadlineExceeded:
            return None

    def rejected_content(self, dataset: Dataset) -> tuple[CacheEntry, Path | None]:
        """Return the cache entry of a rejected dataset, and the path of its rejected bytes.

        A dataset is rejected if its bytes contradict the database. The path is None if the bytes
        were not kept. Raises NotFound if the dataset is not rejected.
        """
        # readers get the error for a bad file shortly before its record is written
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            entry = self._store.valid_entry(dataset)
        if entry is None or entry.state != "bad":
            raise NotFound(f"the file {dataset.name} was not rejected: there is nothing to accept")
        rejected = self._store.rejected_path(dataset)
        return entry, rejected if entry.digest and rejected.is_file() else None

    def accept(self, dataset: Dataset, place: Place, rejected: Path, digest: str = "") -> Path:
        """Accept the bytes at ``rejected``, which contradict the database. Return their new path.

        Readers get the accepted bytes until the dataset is changed in the database. ``digest``, if
        given, is the digest that the bytes must have. Raises BadContent for another digest, and
        NotFound if the bytes were removed.
        """
        with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 60.0):
            try:
                actual = hash_file(dataset, rejected)
                sync_file(rejected)  # accepted bytes must survive a power loss
            except FileNotFoundError as error:
                raise NotFound(
                    f"another process has just removed the bytes of {dataset.name}: try to accept "
                    "it again"
                ) from error
            if digest not in ("", actual):
                raise BadContent(f"the file {rejected} has changed since it was rejected")
            verdict = ContentVerdict("accepted", "the user has accepted these bytes")
            final = self._store.publish(
                dataset, place, rejected, verdict, durable=True, digest=actual
            )
            self._store.records.sync(dataset.id)
            with suppress(OSError):  # some file systems cannot sync a folder
                fsync_folder(final.parent)
            return final

    def clear_rejection(self, dataset: Dataset) -> None:
        """Forget that the bytes of a dataset contradict the database, and remove these bytes.

        The next read fetches the file again.
        """
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

    def _item_of_partial(self, header: BlockMapHeader, used_at: float, pinned: bool) -> CacheItem:
        data = self._store.partial_folder / f"{header.dataset_id}.{header.generation}.data"
        path = str(self._store.final_path(header.place).relative_to(self._store.root))
        return CacheItem(
            header.dataset_id,
            path,
            "partial",
            header.size,
            allocated_size(data),
            used_at,
            True,
            pinned,
        )

    def _verify_file(self, dataset_id: str, watch: PathProgressCallback) -> VerifyResult | None:
        """Hash the file of a dataset. Return None if the file is not in the cache any more."""
        entry = self._store.records.get(dataset_id)
        if entry is None or entry.state == "bad":
            return None
        path = self._store.root / entry.path
        try:
            status = path.stat()
            if not self._store.is_unchanged(entry):
                self._store.forget(dataset_id)
                return VerifyResult(entry.path, False, "the file was changed in the cache folder")
            if not entry.expected_digest:
                return VerifyResult(entry.path, None)
            dataset = Dataset(dataset_id, "", path.name, size=entry.size, md5=entry.expected_digest)
            digest = hash_file(dataset, path, partial(watch, entry.path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if digest == entry.expected_digest:
            self._store.update_ctime(entry, status)
            return VerifyResult(entry.path, True)
        reason = f"the hash of the file is {digest} instead of {entry.expected_digest}"
        return VerifyResult(entry.path, False, reason + self._remove_wrong_file(entry, path))

    def _remove_wrong_file(self, entry: CacheEntry, path: Path) -> str:
        """Remove a wrong file. Return why the file could not be removed, or '' if the file was
        removed."""
        try:
            self._store.remove_wrong_file(entry)
        except OSError as error:
            return f", and the file {path} cannot be removed: {reason_of(error, path)}"
        return ""

    def _verify_blocks(self, dataset_id: str, watch: PathProgressCallback) -> VerifyResult | None:
        """Verify each block of a partial file. Return None if there is no partial file any more."""
        header = read_header(self._store.partial_folder, dataset_id)
        if header is None:
            return None
        dataset = Dataset(dataset_id, "", header.place[-1], size=header.size, md5=header.md5)
        path = str(self._store.final_path(header.place).relative_to(self._store.root))
        blocks = open_block_file(self._store.partial_folder, dataset)
        if blocks is None:
            return VerifyResult(path, False, "the record of its cached blocks cannot be used")
        try:
            wrong = [
                block
                for block in range(blocks.block_count)
                if self._clear_if_invalid(blocks, block)
            ]
        finally:
            blocks.close()
        reason = f"wrong checksum of {len(wrong)} {plural(len(wrong), 'block')}" if wrong else ""
        return VerifyResult(path, not wrong, reason)

    def _clear_if_invalid(self, blocks: BlockFile, block: int) -> bool:
        """Mark a block as absent if its bytes are wrong. Return True if it was marked."""
        record = blocks.records(block, block + 1)[0]
        if not record or blocks.is_block_valid(block, record):
            return False
        # the block is being fetched or evicted
        if self._store.shared and not try_lock(blocks.map_fd, block):
            return False
        try:  # another process may have cleared the record before, or fetched the block again
            now = blocks.records(block, block + 1)[0]
            wrong = bool(now) and not blocks.is_block_valid(block, now)
            if wrong:
                blocks.clear_records(block, block + 1)
            return wrong
        finally:
            if self._store.shared:
                unlock(blocks.map_fd, block)
