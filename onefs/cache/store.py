"""The cache folder: where files stand, whether they are verified, and how they get there.

The folder is a ONE cache folder: a complete file stands at
``<lab>/Subjects/<subject>/<date>/<nnn>/<collection>/<name>``. What is ours alone is in ``.onefs/``:

``database.json``  the laboratory that the folder belongs to
``files/``         a record of each complete file (see ``records``)
``partial/``       what is being fetched (see ``blocks``)
``aside/``         complete files whose ONE path is taken by a file that onefs did not download
``rejected/``      complete files that are not what the database describes, until they are accepted
``doubts/``        which answers contradicted the database, and how often (see ``doubts``)
``accepted/``      an empty file for each dataset whose bytes the user has accepted as they are
``pins/``          an empty file for each dataset that is not to be evicted
``locks``          carries one byte-range lock a dataset
``usage``          how many bytes all this takes (see ``ledger``)
``tables.json``    which ``sessions.pqt`` and ``datasets.pqt`` of the root are ours (``one_tables``)
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onefs.alf import SUBJECTS
from onefs.cache.files import (
    disk_errors,
    identity_of,
    make_process_folder,
    stamp_of,
)
from onefs.cache.index import CacheIndex
from onefs.cache.locks import DatasetLocks, can_lock
from onefs.cache.mismatches import Mismatches
from onefs.cache.permissions import check_cache_folder, is_inside_without_symlinks
from onefs.cache.records import CacheEntry, Records
from onefs.cache.sparse import allocated_size, counted_size, disk_size
from onefs.cache.usage import UsageCounter
from onefs.cache.verify import ContentVerdict, check_file
from onefs.config.cache_owner import PRIVATE_FOLDER, check_owner, claim_cache_folder
from onefs.dates import dataset_mtime
from onefs.errors import CacheError, OnefsError, reason_of
from onefs.lowlevel.files import inherit_permissions, make_folder
from onefs.lowlevel.folder_guard import FolderGuard
from onefs.lowlevel.pids import boot_id
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: seconds between two notes that a file is being used
USE_NOTE_INTERVAL_SECONDS = 30.0
#: our own folders; "" is the one that holds them
_PRIVATE_FOLDERS = ("", "partial", "rejected", "pins", "aside", "files", "accepted", "doubts")

#: a dataset's folders from the lab on, and its name: ("cortexlab", "KS023", ..., "spikes.npy")
Place = tuple[str, ...]


class Store:
    """The files of one laboratory in one cache folder. Thread-safe, and safe beside others.

    ``database`` names the laboratory (its host, or ``demo-<hash>``): a folder that belongs to
    another is refused with UsageError. ``share`` says whether partial files are shared with other
    processes; None tries out whether the file system's locks allow it. Raises CacheError or
    CacheFull when the disk fails.
    """

    def __init__(
        self,
        root: Path,
        index: CacheIndex,
        database: str,
        *,
        share: bool | None = None,
        trusted: bool = False,
    ) -> None:
        self.root = root
        self._trusted = trusted
        self._database = database
        self.private_folder = root / PRIVATE_FOLDER
        self._index = index
        self._boot_id = boot_id()
        #: files of others that are not what they should be, so that none is hashed twice
        self._mismatched_files: dict[Path, tuple[str, int, int, int]] = {}
        self.records = Records(self.private_folder / "files", self.private_folder / "accepted")
        partial = self.private_folder / "partial"
        with disk_errors(root):
            #: another user's, who lets us look at it: what is there is read, and nothing fetched
            self.read_only = self.private_folder.is_dir() and not os.access(
                self.private_folder, os.W_OK | os.X_OK, effective_ids=True
            )
            if self.read_only:
                check_owner(root, database)
                log.warning("%s cannot be written: what it holds is read, nothing is fetched", root)
                self.shared = False
            else:
                self._make_folders()
                claim_cache_folder(root, database)
                self.shared = can_lock(self.private_folder) if share is None else share
            self._ground = FolderGuard(self.private_folder, "the cache folder")
            self._restore_lock = threading.Lock()
            #: called when the folder was made anew, or is back with its disk
            self.on_new_folder: Callable[[], None] = lambda: None
            self.locks = DatasetLocks(
                self.private_folder / "locks", shared=self.shared, before=self.restore_folder
            )
            #: shared between processes, or one for ourselves where the disk has no locks
            self.partial_folder = (
                partial if self.shared or self.read_only else make_process_folder(partial)
            )
            #: answers that contradict the database, and are no verdict yet
            self.mismatches = Mismatches(self.private_folder / "doubts")
            #: ids of datasets of which this process fetches bytes; None where that is not counted
            self.fetched_ids: set[str] | None = None
            self.usage = UsageCounter(
                self.private_folder / "usage", self.measure_usage, shared=self.shared
            )

    def note_fetch(self, dataset: Dataset) -> None:
        """Note that this process fetches bytes of a dataset, where that is counted."""
        if self.fetched_ids is not None:
            self.fetched_ids.add(dataset.id)

    def _make_folders(self) -> None:
        """Make what is ours; where a group shares the folder, that too is open to the group."""
        root_is = None
        for name in _PRIVATE_FOLDERS:
            folder = self.private_folder / name
            make_folder(folder, self.root)
            root_is = root_is or self.root.stat()
            if root_is.st_mode & stat.S_IWGRP and folder.stat().st_uid == os.geteuid():
                inherit_permissions(folder, root_is, 0o2777)

    @property
    def folder_message(self) -> str:
        """What became of the folder, if it was deleted or its disk was away; '' else."""
        return self._ground.status_message

    def restore_folder(self) -> None:
        """Have the folder that was deleted made anew; nothing when it is there.

        Raises CacheError while it is gone because its disk is, and OSError.
        """
        if self.read_only or self._ground.is_same_folder():
            return
        with self._restore_lock:
            if self._ground.is_same_folder():
                return
            self._ground.check_available()
            if not self._trusted:
                check_cache_folder(self.root)
            made = not self.private_folder.is_dir()
            self._make_folders()
            claim_cache_folder(self.root, self._database)
            if self.partial_folder != self.private_folder / "partial":
                make_folder(self.partial_folder, self.root)
            self.usage.reopen()
            self._ground.note_available_again(recreated=made)
            self.on_new_folder()

    def make_parent_folder(self, final: Path) -> None:
        """Make the folder of a file. Raises CacheError for a link out of the cache folder."""
        self._check_is_inside(final.parent)
        make_folder(final.parent, self.root)

    def _check_is_inside(self, folder: Path) -> None:
        if not self._trusted and not is_inside_without_symlinks(self.root, folder):
            raise CacheError(
                f"{folder} is reached through a symbolic link that leads elsewhere: remove the "
                "link, or give --trust-cache-dir if that is meant"
            )

    def _rename_into_place(self, source: Path, final: Path) -> None:
        """Give a file its final name, in a folder that may have to be made first."""
        self._check_is_inside(final.parent)
        try:
            os.replace(source, final)
        except FileNotFoundError:
            source.lstat()  # no folders are made for a file that is gone
            make_folder(final.parent, self.root)
            os.replace(source, final)

    def close(self) -> None:
        """Let other processes know that we are gone."""
        self.usage.close()
        self._ground.close()

    def verdict(self, dataset: Dataset) -> ContentVerdict | None:
        """What is known of a dataset's bytes without reading them; None when nothing is."""
        entry = self.valid_entry(dataset)
        return None if entry is None else ContentVerdict(entry.state, entry.reason)

    def cached_path(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset by the index alone; None when there is none."""
        entry = self.valid_entry(dataset)
        return None if entry is None or entry.state == "bad" else self.root / entry.path

    def valid_entry(self, dataset: Dataset) -> CacheEntry | None:
        """What is known of a dataset, if it still holds: from the index, else from its record.

        A bad verdict always comes from the record: another host may have withdrawn it.
        """
        entry, doubted = self.look_up(dataset)
        return None if doubted else entry

    def look_up(self, dataset: Dataset) -> tuple[CacheEntry | None, bool]:
        """What is known of a dataset, and whether its file must be hashed before it is served.

        That is so when nothing but its ctime has changed (see ``rehash``).
        """
        entry = self._index.get(dataset.id)
        if entry is not None and entry.state != "bad" and self._is_servable(entry, dataset):
            return entry, False
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
        if record is None or not self._is_valid(record, dataset):
            return None, False
        if record != entry:
            self._index.put(record)
        return record, not self._is_servable(record, dataset)

    def recorded_entry(self, dataset: Dataset) -> CacheEntry | None:
        """The same from its record alone, which is what counts."""
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
        return record if record is not None and self._is_servable(record, dataset) else None

    def accepted_entries(self) -> dict[str, CacheEntry]:
        """What was accepted, on this host or another, by dataset, whether it still holds or not."""
        found = {entry.dataset_id: entry for entry in self._index.accepted_entries()}
        with suppress(OSError):  # the sizes that listings show do not depend on this disk
            found |= {entry.dataset_id: entry for entry in self.records.accepted_entries()}
        return found

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """Take the file that stands at the ONE path, if it is what the database describes.

        It is read whole and hashed; without a hash in the database nothing is taken. The caller
        holds the dataset's lock.
        """
        proved = self.verify_in_place(dataset, place)
        return None if proved is None else self.adopt_verified(dataset, place, proved)

    def verify_in_place(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] = lambda done: None
    ) -> os.stat_result | None:
        """Which file at the ONE path was found to be what the database describes; None: none is.

        ``watch`` is told how many bytes were read. Nothing is taken, and no lock is needed.
        """
        with disk_errors(self.root):
            if not self.has_candidate(dataset, place):
                return None
            final = self.final_path(place)
            try:
                found = final.stat()
                if check_file(dataset, final, watch).is_good:
                    return found
            except FileNotFoundError:  # removed, or evicted by another process, meanwhile
                return None
            self._mismatched_files[final] = (dataset.md5, *stamp_of(found))
        return None

    def adopt_verified(self, dataset: Dataset, place: Place, proved: os.stat_result) -> Path | None:
        """Know the file that was examined; None when it is another one now, or was written to.

        The caller holds the dataset's lock.
        """
        final = self.final_path(place)
        with disk_errors(self.root):
            if not final.is_file() or identity_of(final.stat()) != identity_of(proved):
                return None
            ours = self._is_ours(self.records.get(dataset.id), final)
            self.register(dataset, final, ContentVerdict("cached"), ours=ours, found=proved)
        return final

    def has_candidate(self, dataset: Dataset, place: Place) -> bool:
        """Whether a file is at the ONE path that :meth:`verify_in_place` would look into."""
        if not dataset.md5:
            return False
        final = self.final_path(place)
        try:
            found = os.stat(final)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        refused = self._mismatched_files.get(final)
        return stat.S_ISREG(found.st_mode) and refused != (dataset.md5, *stamp_of(found))

    def register(
        self,
        dataset: Dataset,
        path: Path,
        verdict: ContentVerdict,
        *,
        ours: bool,
        found: os.stat_result,
    ) -> CacheEntry:
        """Know a file that stands in the folder already, as it was ``found``. Raises OSError."""
        entry = self._make_entry(dataset, found, path, verdict, ours=ours)
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
    ) -> Path:
        """Give a verified partial file its final name, with an atomic rename.

        What onefs did not download is never overwritten: where such a file has the name, ours
        stands in ``.onefs/aside`` instead. ``durable``: its bytes are known to be on the disk.
        ``digest`` is theirs, which is kept where the database claims none, or another one.
        The record comes before the name: what a crash leaves is a record without a file, which
        says nothing, and never a file that nobody knows.
        """
        with disk_errors(self.root):
            final = self.final_path(place)
            former = self.records.get(dataset.id)
            if not self._is_ours(former, final) and os.path.lexists(final):
                final = self.private_folder / "aside" / dataset.id
            relative = str(final.relative_to(self.root))
            replaced = former if former and former.ours and former.path == relative else None
            before = disk_size(replaced.size) if replaced and partial != final else 0
            self._remove_former(dataset, former, keep=(final, partial))
            with suppress(PermissionError):  # another user, who shares the folder, has begun it
                os.utime(partial, (time.time(), dataset_mtime(place, dataset)))
            entry = self._make_entry(dataset, os.stat(partial), final, verdict, ours=True)
            entry = replace(
                entry,
                boot="" if durable else self._boot_id,
                generation=generation + entry.generation,
                digest=digest if verdict.state in ("accepted", "unverified") else "",
            )
            self.records.put(entry)
            self._rename_into_place(partial, final)
            entry = self._record_ctime(entry, os.stat(final))  # the rename has changed its ctime
            # one without a row takes it from the record when it is first asked for
            self._index.update_existing(entry)
            self.usage.adjust(-before)
        return final

    def reinstate(self, dataset: Dataset, place: Place) -> Path | None:
        """Publish the bytes that were rejected, when they are what the database describes by now.

        So it is when it was put right, or when who rejected them knew an older state of it. The
        caller holds the dataset's lock.
        """
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
            if record is None or record.state != "bad" or not record.digest:
                return None
            if dataset.size not in (None, record.size) or dataset.md5 != record.digest:
                return None
            kept = self.rejected_path(dataset)
            # of another user's, the date could not be set
            if not self._has_same_ctime(record) or kept.stat().st_uid != os.geteuid():
                return None
        return self.publish(dataset, place, kept, ContentVerdict("cached"), durable=True)

    def mark_synced(self, entry: CacheEntry) -> None:
        """The bytes of a file are known to be on the disk now."""
        with disk_errors(self.root):
            if self.records.mark_synced(entry):
                self._index.put(replace(entry, boot=""))

    def reject(
        self, dataset: Dataset, reason: str, kept: Path | None = None, digest: str = ""
    ) -> None:
        """Remember that the server's bytes contradict the database, until the claims change.

        The bytes may be ``kept``, for who wants to accept them.
        """
        entry = CacheEntry(
            dataset.id, "", 0, 0, 0, dataset.size, dataset.md5, "bad", reason, 0, time.time()
        )
        with disk_errors(self.root):
            if kept is not None:
                bad = ContentVerdict("bad", reason)
                found = self._make_entry(dataset, kept.stat(), kept, bad, ours=False)
                entry = replace(found, digest=digest)
            self._remove_former(dataset, self.records.get(dataset.id), keep=(kept,))
            self._save(entry)

    def remove_file(self, path: Path) -> int:
        """Remove a whole file of ours; return the bytes that are no longer counted for it.

        Raises OSError when the file is still there: then its bytes stay counted.
        """
        freed = counted_size(path)
        with suppress(FileNotFoundError):
            path.unlink()
            self.usage.adjust(-freed)
            return freed
        return 0

    def forget(self, dataset_id: str) -> None:
        """Know nothing of a dataset any more; its file is not touched."""
        with disk_errors(self.root):
            self.records.forget(dataset_id)
        self._index.forget(dataset_id)

    def remove_wrong_file(self, entry: CacheEntry) -> None:
        """Remove a file whose bytes are wrong if it is ours, and know nothing of it any more.

        The caller holds the dataset's lock. Raises OSError when it is still there: it is counted
        then, and hashed again before it would be served.
        """
        if entry.ours:
            try:
                self.remove_file(self.root / entry.path)
            except OSError:
                self._record_ctime(entry, None)
                self._index.forget(entry.dataset_id)
                raise
        self.forget(entry.dataset_id)

    def update_ctime(
        self, entry: CacheEntry, found: os.stat_result, fresh: CacheEntry | None = None
    ) -> None:
        """Keep the ctime of a file that was ``found`` good, with what else is ``fresh``.

        The caller holds the dataset's lock. Raises OSError.
        """
        renewed = self._record_ctime(entry, found, fresh)
        self._index.update_existing(renewed)

    def _record_ctime(
        self, entry: CacheEntry, found: os.stat_result | None, fresh: CacheEntry | None = None
    ) -> CacheEntry:
        """The entry as it is recorded with the ctime that was ``found``; None for one that no
        file has."""
        fresh = (fresh or entry).with_ctime(0 if found is None else found.st_ctime_ns)
        if self.read_only:
            return fresh
        if fresh == entry or self.records.replace_if_unchanged(entry, fresh):
            return fresh
        return entry

    def note_use(self, dataset: Dataset) -> None:
        """Note that a file is being read, for the order of eviction."""
        now = time.time()
        self._index.touch(dataset.id, now)
        with suppress(OSError):
            self.records.touch(dataset.id, now)

    def add_missing_ctime(self, dataset: Dataset, entry: CacheEntry) -> None:
        """Believe a record of an older onefs, which has no ctime, this once: keep the ctime."""
        if entry.ctime_ns is not None or entry.state == "bad":
            return
        with suppress(OSError, OnefsError), self.locks.hold(dataset.id, 0.0):
            record = self.records.get(dataset.id)
            if record is not None and record.ctime_ns is None and self.is_unchanged(record):
                self.update_ctime(record, os.stat(self.root / record.path))

    def download_path(self, dataset: Dataset) -> Path:
        """Where a small dataset is fetched to, by whoever holds its lock."""
        return self.partial_folder / f"{dataset.id}.whole"

    def rejected_path(self, dataset: Dataset) -> Path:
        """Where bytes that contradict the database are kept."""
        return self.private_folder / "rejected" / dataset.id

    def final_path(self, place: Place) -> Path:
        """The ONE path of a dataset."""
        lab, *rest = place
        return self.root.joinpath(lab, SUBJECTS, *rest)

    def entries(self) -> list[CacheEntry]:
        """Everything that is known, from the records; the index is brought up to date."""
        with disk_errors(self.root):
            found = list(self.records.all_entries())
        for entry in found:
            if self._index.get(entry.dataset_id) != entry:
                self._index.put(entry)
        return found

    def measure_usage(self) -> int:
        """Bytes of disk that our files take, counted on the disk."""
        with disk_errors(self.root):
            taken = sum(
                allocated_size(self.root / e.path) for e in self.records.all_entries() if e.ours
            )
            for folder in ("partial", "rejected"):
                # files and folders may vanish meanwhile: os.walk goes on without them
                for top, _, names in os.walk(self.private_folder / folder):
                    taken += sum(
                        allocated_size(os.path.join(top, name))
                        for name in names
                        if not name.endswith((".json", ".map"))  # what goes uncounted with them
                    )
        return taken

    def total_bytes(self) -> int:
        """Bytes of disk that our files take: complete, partial and rejected ones."""
        return self.usage.total_bytes()

    def _is_ours(self, entry: CacheEntry | None, path: Path) -> bool:
        """Whether onefs downloaded the file at ``path``, and nobody has replaced it since."""
        if entry is None or not entry.ours or entry.path != str(path.relative_to(self.root)):
            return False
        return self.is_unchanged(entry) or self._is_truncated(entry, path)

    def _is_truncated(self, entry: CacheEntry, path: Path) -> bool:
        """Whether a file was never synced, and may be what a power loss has left of it.

        What somebody wrote to it since has a later date.
        """
        if entry.boot in ("", self._boot_id):
            return False
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        same = found.st_ino == entry.inode
        # ours may be later than its download, since it is made of the session's day
        older = found.st_mtime <= entry.used_at or found.st_mtime_ns == entry.mtime_ns
        return same and found.st_size <= entry.size and older

    def _remove_former(
        self, dataset: Dataset, former: CacheEntry | None, keep: tuple[Path | None, ...]
    ) -> None:
        """Remove what we have of a dataset under a record that is about to be replaced.

        Without its record it would be somebody else's file, which nobody may touch. The caller
        holds the dataset's lock.
        """
        if former is None:
            return
        if former.state == "bad":
            path = self.rejected_path(dataset)
        elif former.ours and self.is_unchanged(former):
            path = self.root / former.path
        else:
            return
        if (
            path not in keep
            and former.state == "accepted"
            and self.private_folder not in path.parents
        ):
            self.usage.adjust(
                -counted_size(path)
            )  # the user wanted these bytes: they are the user's
        elif path not in keep:
            try:
                self.remove_file(path)
            except OSError as error:  # the new file is of more use than this one is a burden
                log.warning(
                    "%s cannot be removed, and stays counted: %s", path, reason_of(error, path)
                )

    def is_unchanged(self, entry: CacheEntry) -> bool:
        """Whether the file is the one that the entry was written for."""
        try:
            found = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        return stamp_of(found) == (entry.inode, entry.size, entry.mtime_ns)

    def _has_same_ctime(self, entry: CacheEntry) -> bool:
        """Whether not even the file's ctime has changed."""
        try:
            found = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        same = stamp_of(found) == (entry.inode, entry.size, entry.mtime_ns)
        return same and entry.ctime_ns in (None, found.st_ctime_ns)

    def _is_valid(self, entry: CacheEntry, dataset: Dataset) -> bool:
        """Whether an entry still says something about a dataset, if its bytes are unchanged."""
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            return True
        return entry.boot in ("", self._boot_id) and self.is_unchanged(entry)

    def _is_servable(self, entry: CacheEntry, dataset: Dataset) -> bool:
        """Whether an entry's file may be served as it is."""
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            return True
        return entry.boot in ("", self._boot_id) and self._has_same_ctime(entry)

    def _make_entry(
        self,
        dataset: Dataset,
        found: os.stat_result,
        final: Path,
        verdict: ContentVerdict,
        *,
        ours: bool,
    ) -> CacheEntry:
        """The entry of a file that was ``found`` so, and stands or will stand at ``final``."""
        return CacheEntry(
            dataset_id=dataset.id,
            path=str(final.relative_to(self.root)),
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            inode=found.st_ino,
            claimed_size=dataset.size,
            claimed_md5=dataset.md5,
            state=verdict.state,
            reason=verdict.reason,
            ours=int(ours),
            used_at=time.time(),
            generation=f"@{found.st_ctime_ns}",
        )

    def _save(self, entry: CacheEntry) -> None:
        if not self.read_only:
            self.records.put(entry)
        self._index.put(entry)
