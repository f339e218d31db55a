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
from onefs.content.doubts import Doubts
from onefs.content.files import disk_errors, folder_of_this_process, identity, stamp
from onefs.content.holes import allocated, counted, disk_size
from onefs.content.index import Index
from onefs.content.ledger import Ledger
from onefs.content.lock import DatasetLocks, locks_work
from onefs.content.records import Entry, Records, boot_id
from onefs.content.verify import Verdict, judge_file
from onefs.dates import dataset_time
from onefs.descriptors import make_folder, share_like
from onefs.errors import CacheError, OnefsError, reason_of
from onefs.ground import Ground
from onefs.model import Dataset
from onefs.owner import PRIVATE, check_owner, claim
from onefs.trust import check_cache_folder, is_inside

log = logging.getLogger(__name__)

#: seconds between two notes that a file is being used
USED_EVERY = 30.0
#: our own folders; "" is the one that holds them
_FOLDERS = ("", "partial", "rejected", "pins", "aside", "files", "accepted", "doubts")

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
        index: Index,
        database: str,
        *,
        share: bool | None = None,
        trusted: bool = False,
    ) -> None:
        self.root = root
        self._trusted = trusted
        self._database = database
        self.private = root / PRIVATE
        self._index = index
        self._boot = boot_id()
        #: files of others that are not what they should be, so that none is hashed twice
        self._refused: dict[Path, tuple[str, int, int, int]] = {}
        self.records = Records(self.private / "files", self.private / "accepted")
        partial = self.private / "partial"
        with disk_errors(root):
            #: another user's, who lets us look at it: what is there is read, and nothing fetched
            self.read_only = self.private.is_dir() and not os.access(
                self.private, os.W_OK | os.X_OK, effective_ids=True
            )
            if self.read_only:
                check_owner(root, database)
                log.warning("%s cannot be written: what it holds is read, nothing is fetched", root)
                self.shared = False
            else:
                self._make_folders()
                claim(root, database)
                self.shared = locks_work(self.private) if share is None else share
            self._ground = Ground(self.private, "the cache folder")
            self._regaining = threading.Lock()
            #: called when the folder was made anew, or is back with its disk
            self.on_new_folder: Callable[[], None] = lambda: None
            self.locks = DatasetLocks(
                self.private / "locks", shared=self.shared, before=self.regain
            )
            #: shared between processes, or one for ourselves where the disk has no locks
            self.partial_folder = (
                partial if self.shared or self.read_only else folder_of_this_process(partial)
            )
            #: answers that contradict the database, and are no verdict yet
            self.doubts = Doubts(self.private / "doubts")
            #: ids of datasets of which this process fetches bytes; None where that is not counted
            self.fetched_here: set[str] | None = None
            self.ledger = Ledger(self.private / "usage", self.measure, shared=self.shared)

    def fetches(self, dataset: Dataset) -> None:
        """Note that this process fetches bytes of a dataset, where that is counted."""
        if self.fetched_here is not None:
            self.fetched_here.add(dataset.id)

    def _make_folders(self) -> None:
        """Make what is ours; where a group shares the folder, that too is open to the group."""
        root_is = None
        for name in _FOLDERS:
            folder = self.private / name
            make_folder(folder, self.root)
            root_is = root_is or self.root.stat()
            if root_is.st_mode & stat.S_IWGRP and folder.stat().st_uid == os.geteuid():
                share_like(folder, root_is, 0o2777)

    @property
    def said(self) -> str:
        """What became of the folder, if it was deleted or its disk was away; '' else."""
        return self._ground.said

    def regain(self) -> None:
        """Have the folder that was deleted made anew; nothing when it is there.

        Raises CacheError while it is gone because its disk is, and OSError.
        """
        if self.read_only or self._ground.is_same():
            return
        with self._regaining:
            if self._ground.is_same():
                return
            self._ground.check()
            if not self._trusted:
                check_cache_folder(self.root)
            made = not self.private.is_dir()
            self._make_folders()
            claim(self.root, self._database)
            if self.partial_folder != self.private / "partial":
                make_folder(self.partial_folder, self.root)
            self.ledger.begin_again()
            self._ground.is_back(made=made)
            self.on_new_folder()

    def make_way(self, final: Path) -> None:
        """Make the folder of a file. Raises CacheError for a link out of the cache folder."""
        self._check_way(final.parent)
        make_folder(final.parent, self.root)

    def _check_way(self, folder: Path) -> None:
        if not self._trusted and not is_inside(self.root, folder):
            raise CacheError(
                f"{folder} is reached through a symbolic link that leads elsewhere: remove the "
                "link, or give --trust-cache-dir if that is meant"
            )

    def _move(self, source: Path, final: Path) -> None:
        """Give a file its final name, in a folder that may have to be made first."""
        self._check_way(final.parent)
        try:
            os.replace(source, final)
        except FileNotFoundError:
            source.lstat()  # no folders are made for a file that is gone
            make_folder(final.parent, self.root)
            os.replace(source, final)

    def close(self) -> None:
        """Let other processes know that we are gone."""
        self.ledger.close()
        self._ground.close()

    def verdict(self, dataset: Dataset) -> Verdict | None:
        """What is known of a dataset's bytes without reading them; None when nothing is."""
        entry = self.entry(dataset)
        return None if entry is None else Verdict(entry.state, entry.reason)

    def known(self, dataset: Dataset) -> Path | None:
        """The verified file of a dataset by the index alone; None when there is none."""
        entry = self.entry(dataset)
        return None if entry is None or entry.state == "bad" else self.root / entry.path

    def entry(self, dataset: Dataset) -> Entry | None:
        """What is known of a dataset, if it still holds: from the index, else from its record.

        A bad verdict always comes from the record: another host may have withdrawn it.
        """
        entry, doubted = self.look(dataset)
        return None if doubted else entry

    def look(self, dataset: Dataset) -> tuple[Entry | None, bool]:
        """What is known of a dataset, and whether its file must be hashed before it is served.

        That is so when nothing but its ctime has changed (see ``rehash``).
        """
        entry = self._index.get(dataset.id)
        if entry is not None and entry.state != "bad" and self._holds(entry, dataset):
            return entry, False
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
        if record is None or not self._describes(record, dataset):
            return None, False
        if record != entry:
            self._index.put(record)
        return record, not self._holds(record, dataset)

    def recorded(self, dataset: Dataset) -> Entry | None:
        """The same from its record alone, which is what counts."""
        with disk_errors(self.root):
            record = self.records.get(dataset.id)
        return record if record is not None and self._holds(record, dataset) else None

    def accepted(self) -> dict[str, Entry]:
        """What was accepted, on this host or another, by dataset, whether it still holds or not."""
        found = {entry.dataset_id: entry for entry in self._index.accepted()}
        with suppress(OSError):  # the sizes that listings show do not depend on this disk
            found |= {entry.dataset_id: entry for entry in self.records.accepted()}
        return found

    def adopt(self, dataset: Dataset, place: Place) -> Path | None:
        """Take the file that stands at the ONE path, if it is what the database describes.

        It is read whole and hashed; without a hash in the database nothing is taken. The caller
        holds the dataset's lock.
        """
        proved = self.examine(dataset, place)
        return None if proved is None else self.take_over(dataset, place, proved)

    def examine(
        self, dataset: Dataset, place: Place, watch: Callable[[int], None] = lambda done: None
    ) -> os.stat_result | None:
        """Which file at the ONE path was found to be what the database describes; None: none is.

        ``watch`` is told how many bytes were read. Nothing is taken, and no lock is needed.
        """
        with disk_errors(self.root):
            if not self.stands(dataset, place):
                return None
            final = self.final(place)
            try:
                found = final.stat()
                if judge_file(dataset, final, watch).good:
                    return found
            except FileNotFoundError:  # removed, or evicted by another process, meanwhile
                return None
            self._refused[final] = (dataset.md5, *stamp(found))
        return None

    def take_over(self, dataset: Dataset, place: Place, proved: os.stat_result) -> Path | None:
        """Know the file that was examined; None when it is another one now, or was written to.

        The caller holds the dataset's lock.
        """
        final = self.final(place)
        with disk_errors(self.root):
            if not final.is_file() or identity(final.stat()) != identity(proved):
                return None
            ours = self._is_ours(self.records.get(dataset.id), final)
            self.take(dataset, final, Verdict("cached"), ours=ours, found=proved)
        return final

    def stands(self, dataset: Dataset, place: Place) -> bool:
        """Whether a file is at the ONE path that :meth:`examine` would look into."""
        if not dataset.md5:
            return False
        final = self.final(place)
        try:
            found = os.stat(final)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        refused = self._refused.get(final)
        return stat.S_ISREG(found.st_mode) and refused != (dataset.md5, *stamp(found))

    def take(
        self, dataset: Dataset, path: Path, verdict: Verdict, *, ours: bool, found: os.stat_result
    ) -> Entry:
        """Know a file that stands in the folder already, as it was ``found``. Raises OSError."""
        entry = self._describe(dataset, found, path, verdict, ours=ours)
        self._keep(entry)
        return entry

    def publish(
        self,
        dataset: Dataset,
        place: Place,
        partial: Path,
        verdict: Verdict,
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
            final = self.final(place)
            former = self.records.get(dataset.id)
            if not self._is_ours(former, final) and os.path.lexists(final):
                final = self.private / "aside" / dataset.id
            relative = str(final.relative_to(self.root))
            replaced = former if former and former.ours and former.path == relative else None
            before = disk_size(replaced.size) if replaced and partial != final else 0
            self._discard_former(dataset, former, keep=(final, partial))
            with suppress(PermissionError):  # another user, who shares the folder, has begun it
                os.utime(partial, (time.time(), dataset_time(place, dataset)))
            entry = self._describe(dataset, os.stat(partial), final, verdict, ours=True)
            entry = replace(
                entry,
                boot="" if durable else self._boot,
                generation=generation + entry.generation,
                digest=digest if verdict.state in ("accepted", "unverified") else "",
            )
            self.records.put(entry)
            self._move(partial, final)
            entry = self._restamp(entry, os.stat(final))  # the rename has changed its ctime
            # one without a row takes it from the record when it is first asked for
            self._index.renew(entry)
            self.ledger.change(-before)
        return final

    def vindicate(self, dataset: Dataset, place: Place) -> Path | None:
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
            kept = self.rejected(dataset)
            # of another user's, the date could not be set
            if not self._is_same(record) or kept.stat().st_uid != os.geteuid():
                return None
        return self.publish(dataset, place, kept, Verdict("cached"), durable=True)

    def confirm(self, entry: Entry) -> None:
        """The bytes of a file are known to be on the disk now."""
        with disk_errors(self.root):
            if self.records.settle(entry):
                self._index.put(replace(entry, boot=""))

    def condemn(
        self, dataset: Dataset, reason: str, kept: Path | None = None, digest: str = ""
    ) -> None:
        """Remember that the server's bytes contradict the database, until the claims change.

        The bytes may be ``kept``, for who wants to accept them.
        """
        entry = Entry(
            dataset.id, "", 0, 0, 0, dataset.size, dataset.md5, "bad", reason, 0, time.time()
        )
        with disk_errors(self.root):
            if kept is not None:
                bad = Verdict("bad", reason)
                found = self._describe(dataset, kept.stat(), kept, bad, ours=False)
                entry = replace(found, digest=digest)
            self._discard_former(dataset, self.records.get(dataset.id), keep=(kept,))
            self._keep(entry)

    def discard(self, path: Path) -> int:
        """Remove a whole file of ours; return the bytes that are no longer counted for it.

        Raises OSError when the file is still there: then its bytes stay counted.
        """
        freed = counted(path)
        with suppress(FileNotFoundError):
            path.unlink()
            self.ledger.change(-freed)
            return freed
        return 0

    def forget(self, dataset_id: str) -> None:
        """Know nothing of a dataset any more; its file is not touched."""
        with disk_errors(self.root):
            self.records.forget(dataset_id)
        self._index.forget(dataset_id)

    def give_up(self, entry: Entry) -> None:
        """Remove a file whose bytes are wrong if it is ours, and know nothing of it any more.

        The caller holds the dataset's lock. Raises OSError when it is still there: it is counted
        then, and hashed again before it would be served.
        """
        if entry.ours:
            try:
                self.discard(self.root / entry.path)
            except OSError:
                self._restamp(entry, None)
                self._index.forget(entry.dataset_id)
                raise
        self.forget(entry.dataset_id)

    def renew(self, entry: Entry, found: os.stat_result, fresh: Entry | None = None) -> None:
        """Keep the ctime of a file that was ``found`` good, with what else is ``fresh``.

        The caller holds the dataset's lock. Raises OSError.
        """
        renewed = self._restamp(entry, found, fresh)
        self._index.renew(renewed)

    def _restamp(
        self, entry: Entry, found: os.stat_result | None, fresh: Entry | None = None
    ) -> Entry:
        """The entry as it is recorded with the ctime that was ``found``; None for one that no
        file has."""
        fresh = (fresh or entry).with_ctime(0 if found is None else found.st_ctime_ns)
        if self.read_only:
            return fresh
        if fresh == entry or self.records.amend(entry, fresh):
            return fresh
        return entry

    def used(self, dataset: Dataset) -> None:
        """Note that a file is being read, for the order of eviction."""
        now = time.time()
        self._index.touch(dataset.id, now)
        with suppress(OSError):
            self.records.touch(dataset.id, now)

    def stamp_old(self, dataset: Dataset, entry: Entry) -> None:
        """Believe a record of an older onefs, which has no ctime, this once: keep the ctime."""
        if entry.ctime_ns is not None or entry.state == "bad":
            return
        with suppress(OSError, OnefsError), self.locks.hold(dataset.id, 0.0):
            record = self.records.get(dataset.id)
            if record is not None and record.ctime_ns is None and self.unchanged(record):
                self.renew(record, os.stat(self.root / record.path))

    def partial(self, dataset: Dataset) -> Path:
        """Where a small dataset is fetched to, by whoever holds its lock."""
        return self.partial_folder / f"{dataset.id}.whole"

    def rejected(self, dataset: Dataset) -> Path:
        """Where bytes that contradict the database are kept."""
        return self.private / "rejected" / dataset.id

    def final(self, place: Place) -> Path:
        """The ONE path of a dataset."""
        lab, *rest = place
        return self.root.joinpath(lab, SUBJECTS, *rest)

    def entries(self) -> list[Entry]:
        """Everything that is known, from the records; the index is brought up to date."""
        with disk_errors(self.root):
            found = list(self.records.all())
        for entry in found:
            if self._index.get(entry.dataset_id) != entry:
                self._index.put(entry)
        return found

    def measure(self) -> int:
        """Bytes of disk that our files take, counted on the disk."""
        with disk_errors(self.root):
            taken = sum(allocated(self.root / e.path) for e in self.records.all() if e.ours)
            for folder in ("partial", "rejected"):
                # files and folders may vanish meanwhile: os.walk goes on without them
                for top, _, names in os.walk(self.private / folder):
                    taken += sum(
                        allocated(os.path.join(top, name))
                        for name in names
                        if not name.endswith((".json", ".map"))  # what goes uncounted with them
                    )
        return taken

    def total_bytes(self) -> int:
        """Bytes of disk that our files take: complete, partial and rejected ones."""
        return self.ledger.total()

    def _is_ours(self, entry: Entry | None, path: Path) -> bool:
        """Whether onefs downloaded the file at ``path``, and nobody has replaced it since."""
        if entry is None or not entry.ours or entry.path != str(path.relative_to(self.root)):
            return False
        return self.unchanged(entry) or self._is_cut(entry, path)

    def _is_cut(self, entry: Entry, path: Path) -> bool:
        """Whether a file was never synced, and may be what a power loss has left of it.

        What somebody wrote to it since has a later date.
        """
        if entry.boot in ("", self._boot):
            return False
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        same = found.st_ino == entry.inode
        # ours may be later than its download, since it is made of the session's day
        older = found.st_mtime <= entry.used_at or found.st_mtime_ns == entry.mtime_ns
        return same and found.st_size <= entry.size and older

    def _discard_former(
        self, dataset: Dataset, former: Entry | None, keep: tuple[Path | None, ...]
    ) -> None:
        """Remove what we have of a dataset under a record that is about to be replaced.

        Without its record it would be somebody else's file, which nobody may touch. The caller
        holds the dataset's lock.
        """
        if former is None:
            return
        if former.state == "bad":
            path = self.rejected(dataset)
        elif former.ours and self.unchanged(former):
            path = self.root / former.path
        else:
            return
        if path not in keep and former.state == "accepted" and self.private not in path.parents:
            self.ledger.change(-counted(path))  # the user wanted these bytes: they are the user's
        elif path not in keep:
            try:
                self.discard(path)
            except OSError as error:  # the new file is of more use than this one is a burden
                log.warning(
                    "%s cannot be removed, and stays counted: %s", path, reason_of(error, path)
                )

    def unchanged(self, entry: Entry) -> bool:
        """Whether the file is the one that the entry was written for."""
        try:
            found = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        return stamp(found) == (entry.inode, entry.size, entry.mtime_ns)

    def _is_same(self, entry: Entry) -> bool:
        """Whether not even the file's ctime has changed."""
        try:
            found = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        same = stamp(found) == (entry.inode, entry.size, entry.mtime_ns)
        return same and entry.ctime_ns in (None, found.st_ctime_ns)

    def _describes(self, entry: Entry, dataset: Dataset) -> bool:
        """Whether an entry still says something about a dataset, if its bytes are unchanged."""
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            return True
        return entry.boot in ("", self._boot) and self.unchanged(entry)

    def _holds(self, entry: Entry, dataset: Dataset) -> bool:
        """Whether an entry's file may be served as it is."""
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            return True
        return entry.boot in ("", self._boot) and self._is_same(entry)

    def _describe(
        self, dataset: Dataset, found: os.stat_result, final: Path, verdict: Verdict, *, ours: bool
    ) -> Entry:
        """The entry of a file that was ``found`` so, and stands or will stand at ``final``."""
        return Entry(
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

    def _keep(self, entry: Entry) -> None:
        if not self.read_only:
            self.records.put(entry)
        self._index.put(entry)
