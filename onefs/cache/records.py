"""Records: what onefs knows about each file in the cache folder.

The record of a dataset is a :class:`CacheEntry` as JSON in ``.onefs/files/<dataset id>.json``,
published by rename. All processes and hosts that share the folder read the record. Only the record
says whether a file is verified. The name of the file does not show this. A file without a record is
hashed again.

The mtime of the record is the time at which the file was last used. This time may be up to one hour
too early. This time decides the order of eviction.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path

from onefs.cache.files import FileIdentity, identity_of, stamp_of, sync_file
from onefs.cache.use_times import LAST_USE_PRECISION_SECONDS, NEVER_USED, last_use, note_use
from onefs.lowlevel.files import (
    RECORD_FILE_BYTES,
    fsync_folder,
    open_new_file,
    read_small_file,
    replace_file,
    write_all,
)
from onefs.lowlevel.filesystems import network_filesystem_type

#: most records that are remembered by the process
_MAX_REMEMBERED = 4096
#: the least precise times of a file that a local file system stores (vfat), in seconds
_TIMESTAMP_PRECISION_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The record of one file in the cache folder.

    The record is valid if two things are true:

    - ``size``, ``mtime_ns`` and ``inode`` are those of the file on disk.
    - ``claimed_size`` and ``claimed_md5`` are those in the database now.
    """

    dataset_id: str
    #: relative to the cache folder; '' for a bad dataset whose bytes were not kept
    path: str
    size: int
    mtime_ns: int
    inode: int
    claimed_size: int | None
    claimed_md5: str
    #: ``cached``      size and md5 agree with the database
    #: ``unverified``  the database has no md5; if the database has a size, the size agrees
    #: ``accepted``    the bytes contradict the database, and the user has accepted the bytes
    #: ``bad``         the server's bytes contradict the database (see ``reason``): they are not
    #:                 fetched again until the database changes
    state: str
    reason: str
    #: 1 if onefs downloaded the file, 0 if another program did. A file of another program is never
    #: moved, overwritten or removed
    ours: int
    #: when the entry was made, in seconds since the epoch
    used_at: float
    #: '' after the bytes were synced to disk. Before that, the boot id of the machine that wrote
    #: the bytes, so that the bytes are verified again after a power loss
    boot: str = ""
    #: first, the generation of the partial file that became this file ('' if there was no partial
    #: file). Then an @, and the ctime in ns that the file had when it was verified. If the file has
    #: another ctime now, the file is hashed before it is served. Entries of onefs 0.1 have no @ and
    #: no ctime
    generation: str = ""
    #: the computed digest of the bytes, if the database has no digest or another digest. '' if the
    #: database has the same digest, or if no digest was computed
    digest: str = ""

    @property
    def source_generation(self) -> str:
        """Return the random text in the name of the partial file that became this file.

        Return '' if the file was never a partial file.
        """
        return self.generation.partition("@")[0]

    @property
    def ctime_ns(self) -> int | None:
        """Return the ctime that the file had when it was verified. Return None in an entry of onefs
        0.1."""
        return _ctime_in(self.generation)

    @property
    def expected_digest(self) -> str:
        """Return the digest that the bytes must have, or '' if it is unknown.

        This is the digest in the database. If the database has none, or the user has accepted bytes
        that contradict the database, this is the digest that the bytes had when they were recorded.
        """
        return self.digest if self.state in ("accepted", "unverified") else self.claimed_md5

    def describes(self, status: os.stat_result, *, same_ctime: bool) -> bool:
        """Whether ``status`` is that of the recorded file: the same inode, size and mtime.

        If ``same_ctime`` is True, also compare the ctime, if the record has one.
        """
        if stamp_of(status) != (self.inode, self.size, self.mtime_ns):
            return False
        return not same_ctime or self.ctime_ns in (None, status.st_ctime_ns)

    def with_ctime(self, ctime_ns: int) -> CacheEntry:
        """Return a copy of the entry with the ctime ``ctime_ns``."""
        return replace(self, generation=f"{self.source_generation}@{ctime_ns}")


_FIELD_NAMES = tuple(each.name for each in fields(CacheEntry))
_field_values = attrgetter(*_FIELD_NAMES)


class Records:
    """The records of one cache folder. Safe for threads and for other processes.

    ``folder`` has the records. ``accepted`` has an empty file for each dataset whose wrong bytes
    the user has accepted. The caller makes both folders. Records have the names that ``key_of``
    returns: the dataset ids, or others, which then stand for the dataset ids of the methods below.
    Methods raise OSError.
    """

    def __init__(
        self,
        folder: Path,
        accepted: Path,
        key_of: Callable[[CacheEntry], str] = attrgetter("dataset_id"),
    ) -> None:
        self._folder, self._key_of = folder, key_of
        # finds the accepted datasets without reading every record
        self._accepted_folder = accepted
        # a network file system may report the identity that a file had some seconds ago
        self._may_remember = not network_filesystem_type(folder)
        #: by dataset id: the identity of a record's file, and its content
        self._remembered: dict[str, tuple[FileIdentity, CacheEntry]] = {}

    def get(self, dataset_id: str) -> CacheEntry | None:
        """Return the record of a dataset, or None if the record is missing or invalid.

        The file is read only if it is not the file that was read last.
        """
        now = time.time()
        try:
            status = os.stat(self._path(dataset_id))
        except FileNotFoundError:
            return None
        identity = identity_of(status)
        remembered = self._remembered.get(dataset_id)
        if remembered is not None and remembered[0] == identity:
            return remembered[1]
        self._remembered.pop(dataset_id, None)
        entry = self._read(dataset_id)
        # a file that was just written to may be written to again without another identity
        is_old = status.st_ctime < now - _TIMESTAMP_PRECISION_SECONDS
        if entry is not None and is_old and self._may_remember:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[dataset_id] = identity, entry
        return entry

    def put(
        self,
        entry: CacheEntry,
        then: Callable[[Callable[[CacheEntry], None]], object] = lambda _: None,
        *,
        is_unused: bool = False,
        has_mark: bool = True,
    ) -> None:
        """Write a record, in place of the dataset's former record. Then call ``then``.

        ``then`` gets a function that replaces this record again, and that must not be called later.
        It writes to the file of this record, which other processes may have removed or replaced
        meanwhile. ``is_unused`` says that the dataset's file was never used, so that it is evicted
        before other files. ``has_mark`` is False if the dataset had no record before, so that it
        cannot be marked as accepted.
        """
        text = _serialize(entry)

        def rewrite(descriptor: int, fresh: CacheEntry) -> None:
            after = _serialize(fresh)
            # records of the same length are overwritten in place
            if len(after) == len(text):
                write_all(descriptor, memoryview(after), 0)
            else:
                self.replace_if_unchanged(entry, fresh)

        replace_file(
            self._path(self._key_of(entry)),
            text,
            mtime=NEVER_USED if is_unused else None,
            before_rename=lambda: self._update_accepted_mark(entry, has_mark=has_mark),
            after_rename=lambda descriptor: then(partial(rewrite, descriptor)),
        )

    def sync(self, dataset_id: str) -> None:
        """Sync a dataset's record to disk.

        The folder of the records, and the folder that marks accepted files, are synced too.
        """
        sync_file(Path(self._path(dataset_id)))
        for folder in (self._folder, self._accepted_folder):
            with suppress(OSError):  # some file systems cannot sync a folder
                fsync_folder(folder)

    def mark_synced(self, entry: CacheEntry) -> bool:
        """Record that a file is synced to the disk. Return False if this was recorded already.

        Also return False if the record has changed since ``entry`` was read.
        """
        # the record is overwritten in place: a reader that finds half a boot id only verifies the
        # file again
        return bool(entry.boot) and self.replace_if_unchanged(
            entry, replace(entry, boot=" " * len(entry.boot))
        )

    def replace_if_unchanged(self, entry: CacheEntry, fresh: CacheEntry) -> bool:
        """Replace the record ``entry`` by ``fresh``.

        Return False if the record has changed since ``entry`` was read.
        """
        try:
            descriptor = os.open(self._path(self._key_of(entry)), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError:  # the record belongs to another user of a shared folder
            descriptor = -1
        if descriptor >= 0:
            try:
                before, after = os.pread(descriptor, RECORD_FILE_BYTES, 0), _serialize(fresh)
                # records of the same length are overwritten in place
                if before == _serialize(entry) and len(before) == len(after):
                    write_all(descriptor, memoryview(after), 0)
                    return True
            finally:
                os.close(descriptor)
        if self.get(self._key_of(entry)) != entry:
            return False
        self.put(replace(fresh, boot=fresh.boot.strip()))
        return True

    def forget(self, dataset_id: str) -> None:
        """Remove the record of a dataset, and its mark as accepted."""
        for path in (self._path(dataset_id), f"{self._accepted_folder}/{dataset_id}"):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def note_use(self, dataset_id: str) -> bool:
        """Set the time of last use of a dataset's file to now. Call :meth:`get` before.

        The time is set only if the recorded time is more than one hour old. Return True if the file
        was never used before.
        """
        remembered = self._remembered.get(dataset_id)
        if remembered is not None:
            (_, _, mtime_ns, _), _ = remembered  # other processes make it only later
            if abs(time.time() - mtime_ns / 1e9) <= LAST_USE_PRECISION_SECONDS:
                return False
        return self.note_first_use(dataset_id)

    def note_first_use(self, dataset_id: str) -> bool:
        """As :meth:`note_use`, for a file that was not cached when this process asked for it."""
        return note_use(self._path(dataset_id), LAST_USE_PRECISION_SECONDS)

    def is_unused(self, dataset_id: str) -> bool:
        """Whether a dataset's file was never used. Raises OSError."""
        return last_use(self._path(dataset_id)) == NEVER_USED

    def last_used_times(self) -> dict[str, float]:
        """Return when each file was last used, in seconds since the epoch, by dataset id."""
        times = {}
        for dataset_id in self._dataset_ids():
            with suppress(FileNotFoundError):
                times[dataset_id] = last_use(self._path(dataset_id))
        return times

    def all_entries(self) -> Iterator[CacheEntry]:
        """Yield every record that can be read."""
        for dataset_id in self._dataset_ids():
            entry = self._read(dataset_id)
            if entry is not None:
                yield entry

    def accepted_ids(self) -> frozenset[str]:
        """Return the ids of datasets whose wrong bytes the user has accepted.

        Datasets that were changed in the database after that are included.
        """
        return frozenset(os.listdir(self._accepted_folder))

    def accepted_entries(self) -> Iterator[CacheEntry]:
        """Yield the records of datasets whose wrong bytes the user has accepted.

        Datasets that were changed in the database after that are included.
        """
        for name in self.accepted_ids():
            entry = self.get(name)
            if entry is not None and entry.state == "accepted":
                yield entry

    def _read(self, dataset_id: str) -> CacheEntry | None:
        try:
            entry = _parse(read_small_file(self._path(dataset_id)))
            return entry if self._key_of(entry) == dataset_id else None
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    def _dataset_ids(self) -> list[str]:
        return [
            name.removesuffix(".json")
            for name in os.listdir(self._folder)
            if name.endswith(".json") and not name.startswith(".")
        ]

    def _update_accepted_mark(self, entry: CacheEntry, *, has_mark: bool) -> None:
        mark = f"{self._accepted_folder}/{entry.dataset_id}"
        if entry.state == "accepted":
            with open_new_file(mark):
                pass
        elif has_mark:
            with suppress(FileNotFoundError):
                os.unlink(mark)

    def _path(self, dataset_id: str) -> str:
        return f"{self._folder}/{dataset_id}.json"


@lru_cache(maxsize=_MAX_REMEMBERED)  # needed at each opening
def _ctime_in(generation: str) -> int | None:
    text = generation.partition("@")[2]
    is_number = text.isascii() and text.isdigit() and len(text) < 20  # not our format
    return int(text) if is_number else None


def _serialize(entry: CacheEntry) -> bytes:
    # dataclasses.asdict copies each value, and takes ten times as long
    values = dict(zip(_FIELD_NAMES, _field_values(entry), strict=True))
    return json.dumps(values).encode() + b"\n"


def _parse(text: bytes) -> CacheEntry:
    """Return the entry in the text of a record.

    Raises ValueError, TypeError or AttributeError if the text is invalid.
    """
    fields = json.loads(text)
    fields["boot"] = fields.get("boot", "").strip()  # spaces: see ``mark_synced``
    return CacheEntry(**fields)
