"""Files on disks that are sources: find and verify the file of a dataset, and serve it in place.

A small file is hashed before its first byte is served. A larger one is served by its size, and its
state is ``unverified`` until ``onefs cache verify`` has hashed it. All readers of a dataset share
one open file, so that a file that is replaced on the disk is shown as it was until the last reader
has closed it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from onefs.cache.files import identity_of
from onefs.cache.folder import Place
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict, check_content, check_size
from onefs.content.disk_file import DiskFile, hash_opened, is_bad
from onefs.content.disk_notes import DiskNotes
from onefs.content.disk_paths import paths_on_disk
from onefs.download.disk import Disk, DiskAway, FileFails, OpenedFile, check_outside_disk
from onefs.errors import BadContent, DeadlineExceeded, OnefsError, Stopping
from onefs.lowlevel.single_flight import SingleFlight, result_of, wait_until_done
from onefs.model import Dataset

log = logging.getLogger(__name__)

#: files that are hashed at the same time
HASH_THREADS = 4
#: seconds between two checks whether a waiting reader has reached its deadline
_STALL_CHECK_SECONDS = 0.5

#: identifies content: a dataset's id, size and md5
_Key = tuple[str, int | None, str]


class DiskFiles:
    """The files of datasets on the disks of one database, in the order of ``disks``.

    - ``is_small`` tells whether a dataset is verified before its first byte is served
    - ``strict``: so is every dataset that has a hash
    - ``stall``: seconds without progress after which a reader stops waiting
    - ``on_invalidated``: called with a dataset whose bytes in the kernel's pages are not valid

    Raises UsageError if the cache folder is on one of the disks. Thread-safe.
    """

    def __init__(
        self,
        store: Store,
        disks: Sequence[Disk],
        is_small: Callable[[Dataset], bool],
        *,
        strict: bool,
        stall: float,
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        for each in disks:
            check_outside_disk(store.root, each.folder)
        self._records = store.disk_records
        self._disks = disks
        self._is_small, self._strict, self._stall = is_small, strict, stall
        self.on_invalidated = on_invalidated
        self._lock = threading.Lock()
        self._shared: dict[_Key, DiskFile] = {}
        self._reported: set[tuple[str, str]] = set()
        self.notes = DiskNotes(disks)
        self._flight: SingleFlight[os.stat_result | None] = SingleFlight("onefs-hash", HASH_THREADS)
        #: large files that no reader of a small one may wait for
        self._large_flight: SingleFlight[os.stat_result | None] = SingleFlight(
            "onefs-hash-large", 1
        )
        self._last_progress_at = time.monotonic()
        self._stopped = False

    def __bool__(self) -> bool:
        return bool(self._disks)

    def close(self) -> None:
        """Wake the waiting readers, which raise Stopping, and end the hashing."""
        self._stopped = True
        self._flight.close()
        self._large_flight.close()
        for disk in self._disks:
            disk.close()

    def open(self, dataset: Dataset, place: Place) -> DiskFile | None:
        """Open a dataset's file. Return None if no disk has it. :meth:`release` closes it.

        Raises BadContent or DiskAway if a program still has another version open, of which no hash
        is known: the kernel would mix its pages with those of this version.
        """
        key = dataset.id, dataset.size, dataset.md5
        shared = self._join(key)
        if shared is not None:
            return shared
        found = self._find(dataset, place)
        if found is None:
            return None
        with self._lock:
            other = self._shared.get(key)
            if other is None or (other.has_known_bytes and not other.is_same(found.status)):
                self._shared[key] = other = found
            elif other.is_same(found.status):
                other.readers += 1
        if other is not found:
            found.disk.close_file(found.opened)
            if not other.is_same(found.status):
                raise other.changed_error()
        return other

    def _join(self, key: _Key) -> DiskFile | None:
        """Return the open file of a dataset if it is unchanged, and count one more reader of it.

        Raises what :meth:`open` raises.
        """
        with self._lock:
            shared = self._shared.get(key)
            if shared is None:
                return None
            shared.readers += 1
        problem: OnefsError | None = None
        try:
            status = shared.disk.status_of(shared.opened)
            if not (shared.is_same(status) or self.is_proven(shared, status)):
                problem = shared.changed_error()
            elif not self.is_rejected(shared):
                return shared
            else:
                self.on_invalidated(shared.dataset)
        except FileFails:  # another host has replaced it
            problem = shared.changed_error()
        except (DiskAway, DeadlineExceeded) as error:
            problem = error
        self.release(shared)
        with self._lock:
            if self._shared.get(key) is shared:
                if problem is not None and not shared.has_known_bytes:
                    raise problem
                del self._shared[key]
        return None

    def release(self, file: DiskFile) -> None:
        """Count one reader less of an open file. Close it after the last one."""
        key = file.dataset.id, file.dataset.size, file.dataset.md5
        with self._lock:
            file.readers -= 1
            if file.readers:
                return
            if self._shared.get(key) is file:
                del self._shared[key]
        file.disk.close_file(file.opened)

    def find(
        self, dataset: Dataset, place: Place | None, *, verify: bool = True, of_large: bool = True
    ) -> Path | None:
        """Return the path of a dataset's file on a disk, or None if no disk has the right file.

        With ``verify``, a file that must be hashed before it is served is hashed; without
        ``of_large``, a large one counts as missing instead. A disk that is away counts as one
        without the file.
        """
        found = self._find(dataset, place, is_read=verify)
        if found is None:
            return None
        try:
            if verify and found.must_verify and not found.is_verified:
                if not (of_large or self._is_small(found.sized_dataset)):
                    return None
                self.verify(found)
            return Path(found.opened.path)
        except (BadContent, DiskAway, DeadlineExceeded):
            return None
        finally:
            self.release(found)

    def size_of(
        self, dataset: Dataset, ask_server: Callable[[], int], is_wanted: Callable[[], bool]
    ) -> int:
        """Return the size of a dataset whose size the database lacks.

        It is that of a file on a disk only if the hash in the database proves the file, because
        sizes are stored. A large file is only hashed for that if ``ask_server`` fails, and a
        program waits for the size (``is_wanted``). Raises what ``ask_server`` raises, and Stopping.
        """
        size = self._proven_size(dataset, of_large=False)
        if size is not None:
            return size
        try:
            return ask_server()
        except OnefsError:
            size = self._proven_size(dataset, of_large=True) if is_wanted() else None
            if size is None:
                raise
            return size

    def _proven_size(self, dataset: Dataset, *, of_large: bool) -> int | None:
        found = self._find(dataset, None, is_read=False) if dataset.md5 else None
        if found is None:
            return None
        # what is found is recorded for the dataset with its size
        found.dataset = sized = found.sized_dataset
        try:
            entry = self._records.find(sized, found.opened.path, found.status)
            if entry is None or entry.state == "unverified":
                is_large = not self._is_small(sized)
                if is_large and not of_large:
                    return None
                self.verify(found, is_large=is_large)
            elif entry.state == "bad":
                return None
            return found.status.st_size
        except (BadContent, DiskAway, DeadlineExceeded):
            return None
        finally:
            self.release(found)

    def state(self, dataset: Dataset, place: Place | None) -> tuple[str, str]:
        """Return the state of a dataset's file on the disks, and what is wrong with it.

        The state is ``cached`` for verified bytes, ``unverified``, or '' if no disk has the right
        file.
        """
        wrong: list[str] = []
        found = self._find(dataset, place, is_read=False, wrong=wrong)
        if found is not None:
            self.release(found)
            return "cached" if found.is_verified else "unverified", ""
        return "", "; ".join(wrong) or self.notes.away_note(dataset)

    def is_proven(self, file: DiskFile, status: os.stat_result) -> bool:
        """Hash an open large file of which only the ctime has changed. Return whether it is right.

        Raises DiskAway, DeadlineExceeded and Stopping.
        """
        if not file.may_be_same(status):
            return False
        try:
            self.verify(file, is_large=True)
        except BadContent:
            return False
        return True

    def is_rejected(self, file: DiskFile) -> bool:
        """Whether the bytes of an open file were found to contradict the database."""
        entry = self._records.find(file.dataset, file.opened.path, file.status)
        file.is_rejected = is_bad(entry, file.status, file.must_verify)
        return file.is_rejected

    def verify(self, file: DiskFile, *, is_large: bool = False) -> None:
        """Hash an open file, and wait while that makes progress.

        With ``is_large``, no reader of another file waits for that, and the wait is at most the
        seconds after which readers give up. The file is hashed to its end all the same.

        Raises BadContent if the bytes contradict the database, DiskAway, DeadlineExceeded and
        Stopping.
        """
        started_at = time.monotonic()
        key = (file.dataset.id, file.dataset.md5, file.version)
        flight = self._large_flight if is_large else self._flight
        watch = self._check_stopped if is_large else self._note_progress
        future = flight.start(key, lambda: self._hash(file, watch))
        while not wait_until_done(future, min(_STALL_CHECK_SECONDS, self._stall)):
            last_progress_at = started_at if is_large else self._last_progress_at
            if time.monotonic() - max(last_progress_at, started_at) > self._stall:
                raise DeadlineExceeded(
                    f"{file.opened.path}: {'not all' if is_large else 'no'} data has come from the "
                    f"disk in {self._stall:g} s: try again later"
                )
        try:
            status = result_of(future)
        except Stopping:
            if self._stopped:
                raise
            self.verify(
                file, is_large=is_large
            )  # another reader, which has closed its file, was to hash it
            return
        if status is None:
            raise BadContent(f"the file {file.opened.path} contradicts the database")
        file.status, file.is_verified = status, True

    def _hash(self, file: DiskFile, watch: Callable[[int], None]) -> os.stat_result | None:
        """Hash an open file. Return its status if the bytes are right, else None."""
        with self._lock:
            if not file.readers:  # closed before its turn
                raise Stopping("the file was closed")
            file.readers += 1
        try:
            opened, disk = file.opened, file.disk
            before = disk.status_of(opened)
            if file.is_verified and file.is_same(before):  # another reader has just verified it
                return file.status
            size, digest = hash_opened(disk, opened, file.dataset, watch)
            if identity_of(disk.status_of(opened)) != identity_of(before):
                log.info("the file %s was changed while it was verified", opened.path)
                return None
        finally:
            self.release(file)
        verdict = check_content(file.dataset, size, digest)
        if not verdict.is_good:
            self._reject(file.dataset, file.opened.path, before, verdict)
            return None
        self._records.put(file.dataset, file.opened.path, before, verdict)
        file.status, file.is_verified = before, True
        return before

    def _note_progress(self, size: int) -> None:
        self._last_progress_at = time.monotonic()
        self._check_stopped(size)

    def _check_stopped(self, _: int) -> None:
        if self._stopped:
            raise Stopping("onefs is being stopped")

    def _find(
        self,
        dataset: Dataset,
        place: Place | None,
        *,
        is_read: bool = True,
        wrong: list[str] | None = None,
    ) -> DiskFile | None:
        """Open the file of the first disk that has it. ``wrong`` gets why others are not used."""
        is_away = False
        for disk in self._disks:
            try:
                found = self._find_on(disk, dataset, place, [] if wrong is None else wrong)
            except DiskAway as error:
                self.notes.note_failure(dataset, error)
                is_away = True
                continue
            if found is not None:
                self.notes.note_answer(dataset)
                if is_read:
                    self._note_read(found)
                return found
        if not is_away:
            self.notes.note_answer(dataset)
        return None

    def _find_on(
        self, disk: Disk, dataset: Dataset, place: Place | None, wrong: list[str]
    ) -> DiskFile | None:
        for relative, has_uuid in paths_on_disk(dataset, place):
            # without a UUID only the hash tells that this is the dataset
            if not (has_uuid or dataset.md5):
                continue
            opened = disk.open(relative)
            if opened is None:
                continue
            hashed_first = self._is_small(dataset) or self._strict or not has_uuid
            file = self._checked(disk, dataset, opened, hashed_first and bool(dataset.md5), wrong)
            if file is not None:
                return file
        return None

    def _checked(
        self, disk: Disk, dataset: Dataset, opened: OpenedFile, must_verify: bool, wrong: list[str]
    ) -> DiskFile | None:
        """Return an opened file if nothing is wrong with it. Otherwise close it."""
        path, status = opened.path, opened.status
        entry = self._records.find(dataset, path, status)
        if entry is not None and is_bad(entry, status, must_verify):
            reason = entry.reason
        else:
            verdict = check_size(dataset, status.st_size)
            if verdict.is_good:
                is_verified = entry is not None and entry.state == "cached"
                known = entry is not None
                return DiskFile(disk, dataset, opened, must_verify, is_verified, known, status)
            self._reject(dataset, path, status, verdict)
            reason = verdict.reason
        wrong.append(f"the file {path} is not used: {reason}")
        disk.close_file(opened)
        return None

    def _note_read(self, file: DiskFile) -> None:
        self.notes.note_read(file.dataset, file.disk)
        # so that `onefs cache verify` knows the file
        if not (file.has_known_bytes or file.is_recorded):
            verdict = ContentVerdict("unverified")
            self._records.put(file.dataset, file.opened.path, file.status, verdict)

    def _reject(
        self, dataset: Dataset, path: str, status: os.stat_result, verdict: ContentVerdict
    ) -> None:
        """Record that a file contradicts the database. Log it once for each file."""
        if (path, dataset.md5) not in self._reported:
            self._reported.add((path, dataset.md5))
            log.warning("the file %s is not used: %s", path, verdict.reason)
        self._records.put(dataset, path, status, verdict)
