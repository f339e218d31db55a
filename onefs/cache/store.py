"""The store knows the files in a cache folder, and gives files their final names."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from onefs.cache.disk_records import DiskRecords
from onefs.cache.files import disk_errors
from onefs.cache.folder import CacheFolder, Place
from onefs.cache.mismatches import Mismatches
from onefs.cache.records import CacheEntry, Records
from onefs.cache.sparse import counted_size, disk_size
from onefs.cache.usage import UsageCounter, measure_disk
from onefs.cache.verify import ContentVerdict
from onefs.dates import dataset_mtime
from onefs.errors import DeadlineExceeded, OnefsError, reason_of
from onefs.lowlevel.pids import boot_id
from onefs.model import Dataset, id_in_release

log = logging.getLogger(__name__)


class Store(CacheFolder):
    """The files of one database in one cache folder. Safe for threads and for other processes.

    The parameters are those of :class:`CacheFolder`. Raises UsageError, CacheError or CacheFull.
    """

    def __init__(
        self, root: Path, database: str, *, share: bool | None = None, trusted: bool = False
    ) -> None:
        with disk_errors(root):
            super().__init__(root, database, share=share, trusted=trusted)
            self._boot_id = boot_id()
            self.records = Records(self.private_folder / "files", self.private_folder / "accepted")
            #: entries that cannot be written to disk, because the folder is read-only
            self._unrecorded: dict[str, CacheEntry] = {}
            #: the files of other programs that contradict the database: for each file the md5 in
            #: the database, and the file's inode, size and mtime (ns), so that each file is hashed
            #: only once
            self.mismatched_files: dict[Path, tuple[str, int, int, int]] = {}
            #: responses that contradict the database, and are not confirmed yet
            self.mismatches = Mismatches(self.private_folder / "doubts")
            #: ids of the datasets from which this process has fetched bytes; None if the
            #: ids are not noted
            self.fetched_ids: set[str] | None = None
            #: whether a small file is synced to disk before it is published, and not afterwards in
            #: the background
            self.syncs_at_once = False
            self.usage = UsageCounter(
                self.private_folder / "usage", self.measure_usage, shared=self.shared
            )
            self.on_restored.append(self.usage.reopen)
            #: whether a file whose dataset has other content now is kept for releases
            self.keeps_replaced: Callable[[], bool] = lambda: False

    @cached_property
    def disk_records(self) -> DiskRecords:
        """The records of files on disks that are sources."""
        return DiskRecords(self.private_folder)

    def close(self) -> None:
        """End the space reservations of this process, and close the folder."""
        self.usage.close()
        super().close()

    def note_fetch(self, dataset: Dataset) -> None:
        """Add a dataset's id to ``fetched_ids``, because this process fetches bytes of the dataset.

        Nothing is done if ``fetched_ids`` is None.
        """
        if self.fetched_ids is not None:
            self.fetched_ids.add(dataset.id)

    def record_of(self, dataset: Dataset) -> CacheEntry | None:
        """Return a dataset's record, which may be outdated, or None. Raises CacheError."""
        with disk_errors(self.root):
            return self.records.get(dataset.id)

    def look_up(self, dataset: Dataset) -> tuple[CacheEntry | None, bool]:
        """Return a dataset's record, and whether its file must be hashed before it is served.

        The record agrees with the database and with the file on disk. Return (None, False) if there
        is no such record. Raises CacheError.
        """
        return self.judge(dataset, self.record_of(dataset))

    def judge(self, dataset: Dataset, record: CacheEntry | None) -> tuple[CacheEntry | None, bool]:
        """As :meth:`look_up`, for what :meth:`record_of` has just returned."""
        for entry in (record, self._unrecorded.get(dataset.id)):
            if entry is not None and self._is_valid(entry, dataset, same_ctime=True):
                return entry, False
        if record is not None and self._is_valid(record, dataset, same_ctime=False):
            # the file must be hashed if only its ctime has changed (see rehash.py)
            return record, True
        return None, False

    def valid_entry(self, dataset: Dataset) -> CacheEntry | None:
        """Return a dataset's record if it is valid and its file needs no hashing. Else return None.

        A valid record agrees with the database and with the file on disk. It may also say that the
        file on the server is wrong (state ``bad``). Raises CacheError.
        """
        entry, must_hash = self.look_up(dataset)
        return None if must_hash else entry

    def cached_path(self, dataset: Dataset) -> Path | None:
        """Return the path of a dataset's file, or None if the file may not be served now.

        A file that must be hashed first may not be served. Raises CacheError.
        """
        entry = self.valid_entry(dataset)
        return None if entry is None or entry.state == "bad" else self.root / entry.path

    def entries(self) -> list[CacheEntry]:
        """Return the records of all files, also records that are not valid. Raises CacheError."""
        with disk_errors(self.root):
            return list(self.records.all_entries())

    def register(
        self,
        dataset: Dataset,
        path: Path,
        verdict: ContentVerdict,
        *,
        ours: bool,
        status: os.stat_result,
    ) -> CacheEntry:
        """Record a file that is in the cache folder already. Return the new entry.

        ``status`` is the ``os.stat`` result of the file. ``ours`` is True if onefs may evict the
        file. Raises OSError.
        """
        entry = self._make_entry(dataset, status, path, verdict, ours=ours)
        self._save(entry)
        return entry

    def publish(
        self,
        dataset: Dataset,
        place: Place,
        partial: Path,
        verdict: ContentVerdict,
        *,
        durable: bool = False,
        generation: str = "",
        digest: str = "",
        is_unused: bool = False,
        has_no_record: bool = False,
    ) -> Path:
        """Move a verified partial file to its final path. Return the final path.

        If another program's file is at this path, the final path is in ``.onefs/aside`` instead. So
        it is for content of a release that the whole database has no longer.

        - ``durable`` says that the bytes are synced to disk.
        - ``generation`` is the random text in the name of the partial file.
        - ``digest`` is recorded only if it cannot be read from the database: the database has no
          digest, or the user has accepted other bytes.
        - ``is_unused`` says that no program has asked for the file yet.
        - ``has_no_record`` says that the dataset had no record since the caller took the lock.

        The caller holds the dataset's lock. Raises CacheError or CacheFull.
        """
        with disk_errors(self.root):
            final = self.final_path(place)
            known = None if has_no_record else self.records.get(dataset.id)
            former = self._keep_for_releases(dataset, known)
            is_taken = not self.owns(former, final) and os.path.lexists(final)
            if is_taken or dataset.published_id:  # see onefs.catalogue.storage.release
                final = self.private_folder / "aside" / dataset.id
            is_replaced = former and former.ours and self.root / former.path == final != partial
            freed = disk_size(former.size) if former and is_replaced else 0
            self._remove_former(dataset, former, keep=(final, partial))
            with suppress(PermissionError):  # another user owns the partial file
                os.utime(partial, (time.time(), dataset_mtime(place, dataset)))
            status = os.stat(partial)
            entry = self._make_entry(
                dataset,
                status,
                final,
                verdict,
                ours=True,
                boot="" if durable else self._boot_id,
                generation=generation,
                digest=digest if verdict.state in ("accepted", "unverified") else "",
            )

            def rename(rewrite_record: Callable[[CacheEntry], None]) -> None:
                # this changes the ctime
                renamed = entry.with_ctime(self.move_into_place(partial, final, status).st_ctime_ns)
                if is_unused:  # replaced, because a write would change the time of last use
                    self.records.put(renamed, is_unused=True)
                else:
                    rewrite_record(renamed)

            # written before the rename, so that no crash leaves a file without a record
            self.records.put(entry, then=rename, has_mark=not has_no_record)
            self.usage.adjust(-freed)
        return final

    def reinstate(self, dataset: Dataset, place: Place) -> Path | None:
        """Move bytes to the final path if they contradicted the database, but agree with it now.

        Return the final path, or None if no bytes were moved. The caller holds the dataset's lock.
        Raises CacheError or CacheFull.
        """
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
            if record is None or record.state != "bad" or not record.digest:
                return None
            # they agree if the database was corrected, or if another host had an older listing
            if dataset.size not in (None, record.size) or dataset.md5 != record.digest:
                return None
            rejected = self.rejected_path(dataset)
            # a file of another user is not published, because its mtime cannot be set
            if not self.is_unchanged(record, same_ctime=True) or (
                rejected.stat().st_uid != os.geteuid()
            ):
                return None
        return self.publish(dataset, place, rejected, ContentVerdict("cached"), durable=True)

    def reject(
        self, dataset: Dataset, reason: str, rejected: Path | None = None, digest: str = ""
    ) -> None:
        """Record that the server's bytes contradict the database.

        The record is valid until the database changes. ``rejected`` is the path of the bytes if
        they are kept. The caller holds the dataset's lock. Raises CacheError or CacheFull.
        """
        entry = CacheEntry(
            dataset.id, "", 0, 0, 0, dataset.size, dataset.md5, "bad", reason, 0, time.time()
        )
        with disk_errors(self.root):
            if rejected is not None:
                verdict = ContentVerdict("bad", reason)
                entry = self._make_entry(dataset, rejected.stat(), rejected, verdict, ours=False)
                entry = replace(entry, digest=digest)
            former = self._keep_for_releases(dataset, self.records.get(dataset.id))
            self._remove_former(dataset, former, keep=(rejected,))
            self._save(entry)

    def remove_file(self, path: Path) -> int:
        """Remove a complete file that onefs downloaded. Return the bytes of disk that were freed.

        Return 0 if the file is missing. Raises OSError if the file cannot be removed.
        """
        freed = counted_size(path)
        with suppress(FileNotFoundError):
            # if this fails, the bytes of the file stay counted
            path.unlink()
            self.usage.adjust(-freed)
            return freed
        return 0

    def forget(self, dataset_id: str) -> None:
        """Remove a dataset's record. The dataset's file stays. Raises CacheError."""
        self._unrecorded.pop(dataset_id, None)
        with disk_errors(self.root):
            self.records.forget(dataset_id)

    def remove_wrong_file(self, entry: CacheEntry) -> None:
        """Remove a wrong file and its record. A file of another program is kept.

        The caller holds the dataset's lock. Raises OSError if the file cannot be removed.
        """
        if entry.ours:
            try:
                self.remove_file(self.root / entry.path)
            except OSError:
                # the file stays counted, and is hashed again before it is served
                self.update_ctime(entry, None)
                raise
        self.forget(entry.dataset_id)

    def update_ctime(
        self, entry: CacheEntry, status: os.stat_result | None, fresh: CacheEntry | None = None
    ) -> None:
        """Write the ctime of a verified file into its record ``entry``.

        ``status`` is the ``os.stat`` result of the file. None means that the file must be hashed
        before it is served. ``fresh`` has new values for other fields. The caller holds the
        dataset's lock. Raises OSError.
        """
        fresh = (fresh or entry).with_ctime(0 if status is None else status.st_ctime_ns)
        if self.read_only:
            self._unrecorded[entry.dataset_id] = fresh
        elif fresh != entry:
            self.records.replace_if_unchanged(entry, fresh)

    def add_missing_ctime(self, dataset: Dataset, entry: CacheEntry) -> None:
        """Record the ctime of a file whose record was written by onefs 0.1, and has no ctime."""
        if entry.ctime_ns is not None or entry.state == "bad":
            return
        with suppress(OSError, OnefsError), self.locks.hold(dataset.id, 0.0):
            record = self.records.get(dataset.id)
            if record is not None and record.ctime_ns is None and self.is_unchanged(record):
                self.update_ctime(record, os.stat(self.root / record.path))

    def measure_usage(self) -> int:
        """Return the bytes of disk that the files of onefs take, as measured on the disk.

        Raises CacheError.
        """
        with disk_errors(self.root):
            ours = (self.root / each.path for each in self.records.all_entries() if each.ours)
            return measure_disk(ours, self.private_folder)

    def owns(self, entry: CacheEntry | None, path: Path) -> bool:
        """Return True if onefs downloaded the file at ``path``, and no program has replaced the
        file."""
        if entry is None or not entry.ours or entry.path != self.relative_name(path):
            return False
        return self.is_unchanged(entry) or self._is_truncated(entry, path)

    def _is_truncated(self, entry: CacheEntry, path: Path) -> bool:
        """Whether a power loss may have truncated a file that was never synced.

        Return False if the file's mtime shows that another program wrote to the file.
        """
        if entry.boot in ("", self._boot_id):
            return False
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        # the mtime is the session's date, and so may be later than the download
        is_old = status.st_mtime <= entry.used_at or status.st_mtime_ns == entry.mtime_ns
        return status.st_ino == entry.inode and status.st_size <= entry.size and is_old

    def _keep_for_releases(self, dataset: Dataset, former: CacheEntry | None) -> CacheEntry | None:
        """Give the file of a dataset that has other content now to the releases that list it.

        ``former`` is the record of the file. Return None if the file was kept, else ``former``.
        """
        if former is None or not former.ours or former.state not in ("cached", "unverified"):
            return former
        id_ = id_in_release(dataset.uuid, former.claimed_md5, former.claimed_size)
        has_changed = id_ not in (dataset.id, id_in_release(dataset.id, dataset.md5, dataset.size))
        if not (has_changed and self.is_unchanged(former) and self.keeps_replaced()):
            return former
        target = self.private_folder / "aside" / id_
        entry = replace(former, dataset_id=id_, path=self.relative_name(target))
        # a reader of the release that holds the lock fetches the file itself
        with suppress(DeadlineExceeded), self.locks.hold(id_, 0.0):
            known = self.records.get(id_)
            # a release that was read first has this file as another program's, at its ONE path
            if known is None or known.state == "bad" or known.path == former.path:
                is_verified = self.is_unchanged(former, same_ctime=True)
                self._remove_former(replace(dataset, id=id_), known, (self.root / former.path,))
                self.records.put(entry)  # before the rename, as in publish()
                self.rename_into_place(self.root / former.path, target)
                # with the ctime 0, the file is hashed before it is served
                ctime_ns = os.stat(target).st_ctime_ns if is_verified else 0
                self.records.put(entry.with_ctime(ctime_ns))
                return None
        return former

    def _remove_former(
        self, dataset: Dataset, former: CacheEntry | None, keep: tuple[Path | None, ...]
    ) -> None:
        """Remove the file of the record ``former``, which is about to be replaced.

        Files in ``keep`` are not removed.
        """
        # without a record, the file would count as another program's file, and never be removed
        if former is None:
            return
        if former.state == "bad":
            path = self.rejected_path(dataset)
        elif former.ours and self.is_unchanged(former):
            path = self.root / former.path
        else:
            return
        if path in keep:
            return
        if former.state == "accepted" and self.private_folder not in path.parents:
            # the user wanted these bytes, so that the file belongs to the user from now on
            self.usage.adjust(-counted_size(path))
            return
        try:
            self.remove_file(path)
        except OSError as error:  # the new file is published although the old file stays
            log.warning(
                "the file %s cannot be removed, and still counts towards --cache-size: %s",
                path,
                reason_of(error, path),
            )

    def is_unchanged(self, entry: CacheEntry, *, same_ctime: bool = False) -> bool:
        """Whether the file on disk has the inode, size and mtime in the entry.

        If ``same_ctime`` is True, also compare the ctime, if the entry has one.
        """
        try:
            status = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        return entry.describes(status, same_ctime=same_ctime)

    def _is_valid(self, entry: CacheEntry, dataset: Dataset, *, same_ctime: bool) -> bool:
        """Whether an entry agrees with the database and with the file on disk.

        An entry of unsynced bytes is invalid after a reboot.
        """
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            # the file of a bad dataset is not checked
            return True
        return entry.boot in ("", self._boot_id) and self.is_unchanged(entry, same_ctime=same_ctime)

    def _make_entry(
        self,
        dataset: Dataset,
        status: os.stat_result,
        final: Path,
        verdict: ContentVerdict,
        *,
        ours: bool,
        boot: str = "",
        generation: str = "",
        digest: str = "",
    ) -> CacheEntry:
        """Return the entry of a file with this ``status``, which is or will be stored at
        ``final``. ``generation`` is the random text in the name of the partial file."""
        return CacheEntry(
            dataset_id=dataset.id,
            path=self.relative_name(final),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
            claimed_size=dataset.size,
            claimed_md5=dataset.md5,
            state=verdict.state,
            reason=verdict.reason,
            ours=int(ours),
            used_at=time.time(),
            boot=boot,
            generation=f"{generation}@{status.st_ctime_ns}",
            digest=digest,
        )

    def _save(self, entry: CacheEntry) -> None:
        if self.read_only:
            self._unrecorded[entry.dataset_id] = entry
        else:
            self.records.put(entry)
