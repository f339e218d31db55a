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
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from onefs.alf import SUBJECTS
from onefs.content.doubts import Doubts
from onefs.content.files import (
    disk_errors,
    folder_of_this_process,
    remove,
    rename,
    stamp,
)
from onefs.content.holes import allocated, counted, disk_size
from onefs.content.index import Index
from onefs.content.ledger import Ledger
from onefs.content.lock import DatasetLocks, locks_work
from onefs.content.records import Entry, Records, boot_id
from onefs.content.verify import Verdict, judge_file
from onefs.model import Dataset
from onefs.owner import PRIVATE, claim

#: seconds between two notes that a file is being used
USED_EVERY = 30.0

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
        self, root: Path, index: Index, database: str, *, share: bool | None = None
    ) -> None:
        self.root = root
        self.private = root / PRIVATE
        self._index = index
        self._boot = boot_id()
        #: files of others that are not what they should be, so that none is hashed twice
        self._refused: dict[Path, tuple[str, int, int, int]] = {}
        with disk_errors(root):
            for name in ("partial", "rejected", "pins", "aside"):
                (self.private / name).mkdir(parents=True, exist_ok=True)
            claim(root, database)
            self.records = Records(self.private / "files", self.private / "accepted")
            self.shared = locks_work(self.private) if share is None else share
            self.locks = DatasetLocks(self.private / "locks", shared=self.shared)
            partial = self.private / "partial"
            #: shared between processes, or one for ourselves where the disk has no locks
            self.partial_folder = partial if self.shared else folder_of_this_process(partial)
            #: answers that contradict the database, and are no verdict yet
            self.doubts = Doubts(self.private / "doubts")
            self.ledger = Ledger(self.private / "usage", self.measure, shared=self.shared)

    def close(self) -> None:
        """Let other processes know that we are gone."""
        self.ledger.close()

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
        entry = self._index.get(dataset.id)
        if entry is not None and entry.state != "bad" and self._holds(entry, dataset):
            return entry
        record = self.recorded(dataset)
        if record is not None and record != entry:
            self._index.put(record)
        return record

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
            if not final.is_file() or stamp(final.stat()) != stamp(proved):
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
    ) -> Path:
        """Give a verified partial file its final name, with an atomic rename.

        What onefs did not download is never overwritten: where such a file has the name, ours
        stands in ``.onefs/aside`` instead. ``durable``: its bytes are known to be on the disk.
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
            os.utime(partial, (time.time(), dataset.mtime))
            entry = self._describe(dataset, os.stat(partial), final, verdict, ours=True)
            entry = replace(entry, boot="" if durable else self._boot, generation=generation)
            self.records.put(entry)
            rename(partial, final)
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
            if not self.unchanged(record) or kept.stat().st_uid != os.geteuid():
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
        """Remove a whole file of ours; the bytes that are no longer counted for it."""
        freed = counted(path)
        remove(path)
        self.ledger.change(-freed)
        return freed

    def forget(self, dataset_id: str) -> None:
        """Know nothing of a dataset any more; its file is not touched."""
        with disk_errors(self.root):
            self.records.forget(dataset_id)
        self._index.forget(dataset_id)

    def used(self, dataset: Dataset) -> None:
        """Note that a file is being read, for the order of eviction."""
        now = time.time()
        self._index.touch(dataset.id, now)
        with suppress(OSError):
            self.records.touch(dataset.id, now)

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
                for path in (self.private / folder).rglob("*"):
                    if path.is_file():
                        taken += allocated(path)
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
        return same and found.st_size <= entry.size and found.st_mtime <= entry.used_at

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
            self.discard(path)

    def unchanged(self, entry: Entry) -> bool:
        """Whether the file is the one that the entry was written for."""
        try:
            found = os.stat(f"{self.root}/{entry.path}")
        except OSError:
            return False
        return stamp(found) == (entry.inode, entry.size, entry.mtime_ns)

    def _holds(self, entry: Entry, dataset: Dataset) -> bool:
        """Whether an entry still says something about a dataset."""
        if (entry.claimed_size, entry.claimed_md5) != (dataset.size, dataset.md5):
            return False
        if entry.state == "bad":
            return True
        return entry.boot in ("", self._boot) and self.unchanged(entry)

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
        )

    def _keep(self, entry: Entry) -> None:
        self.records.put(entry)
        self._index.put(entry)
