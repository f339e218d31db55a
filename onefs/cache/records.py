"""Records: what is known of each file in the cache folder, stored beside the files.

The record of a dataset is a :class:`CacheEntry` as JSON in ``.onefs/files/<dataset id>.json``,
published by rename. Processes and hosts that share the folder all read it. The record, not a
file's name, says that a file is verified; without its record a file is hashed again.

The mtime of the record is the time at which the file was last used, to the hour. It decides the
order of eviction.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from onefs.cache.files import sync_file
from onefs.cache.use_times import LAST_USE_PRECISION_SECONDS, last_used_times, note_use
from onefs.lowlevel.files import (
    RECORD_FILE_BYTES,
    fsync_folder,
    open_new_file,
    read_small_file,
    replace_file,
    write_all,
)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file of the cache folder.

    ``size``, ``mtime_ns`` and ``inode`` must be those of the file on disk, and ``claimed_size``
    and ``claimed_md5`` those that the database has now; otherwise the entry is invalid.
    """

    dataset_id: str
    #: relative to the cache folder; '' for a bad verdict whose bytes were not kept
    path: str
    size: int
    mtime_ns: int
    inode: int
    claimed_size: int | None
    claimed_md5: str
    #: ``cached``      size and md5 agree with the database
    #: ``unverified``  the database has no md5; the size agrees where the database has one
    #: ``accepted``    they contradict the database, and the user has accepted the bytes
    #: ``bad``         the server's bytes contradict the database (see ``reason``): they are not
    #:                 fetched again until the database changes
    state: str
    reason: str
    #: 1 if onefs downloaded the file; 0 if another program did: then it is never moved,
    #: overwritten or removed
    ours: int
    #: when the entry was made, in seconds since the epoch
    used_at: float
    #: '' once the bytes are synced to disk; before, the boot id of the machine that wrote them:
    #: after a power loss they are verified again
    boot: str = ""
    #: the generation of the partial file that this file was, '' for none; then an @ and the ctime
    #: in ns of the file as it was verified: with another ctime it is hashed before it is served.
    #: Entries of onefs 0.1 have no @
    generation: str = ""
    #: digest of the bytes where it was computed and the database has none or another one, else ''
    digest: str = ""

    @property
    def source_generation(self) -> str:
        """The generation of the partial file that this file was; '' for none."""
        return self.generation.partition("@")[0]

    @property
    def ctime_ns(self) -> int | None:
        """The ctime of the file as it was verified; None in an entry of onefs 0.1."""
        text = self.generation.partition("@")[2]
        is_number = text.isascii() and text.isdigit() and len(text) < 20  # of a foreign file
        return int(text) if is_number else None

    @property
    def expected_digest(self) -> str:
        """The digest that the bytes must have: the database's, or the accepted one; '' if
        unknown."""
        return self.digest if self.state in ("accepted", "unverified") else self.claimed_md5

    def with_ctime(self, ctime_ns: int) -> CacheEntry:
        """The same entry with another ctime."""
        return replace(self, generation=f"{self.source_generation}@{ctime_ns}")


class Records:
    """The records of one cache folder. Safe for threads and for other processes.

    ``accepted`` has an empty file for each accepted dataset: these few are found without reading
    every record. Both folders exist before anything is written. Raises OSError.
    """

    def __init__(self, folder: Path, accepted: Path) -> None:
        self._folder = folder
        self._accepted_folder = accepted

    def get(self, dataset_id: str) -> CacheEntry | None:
        """The record of a dataset; None if there is none, or an unreadable one."""
        try:
            entry = _parse(read_small_file(self._path(dataset_id)))
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None
        return entry if entry.dataset_id == dataset_id else None

    def put(self, entry: CacheEntry) -> None:
        """Write a record, in place of the former one."""
        replace_file(
            self._path(entry.dataset_id),
            _serialize(entry),
            before_rename=lambda: self._update_accepted_mark(entry),
        )

    def sync(self, dataset_id: str) -> None:
        """Sync a record, and whether it is accepted, to disk."""
        sync_file(Path(self._path(dataset_id)))
        for folder in (self._folder, self._accepted_folder):
            with suppress(OSError):  # some file systems cannot
                fsync_folder(folder)

    def mark_synced(self, entry: CacheEntry) -> bool:
        """Clear an entry's ``boot``; False if the record has changed since.

        The record is overwritten in place. A process that reads it at the same moment may find a
        boot id that never existed: then it verifies the file once more.
        """
        return bool(entry.boot) and self.replace_if_unchanged(
            entry, replace(entry, boot=" " * len(entry.boot))
        )

    def replace_if_unchanged(self, entry: CacheEntry, fresh: CacheEntry) -> bool:
        """Replace an entry by another one; False if the record has changed since.

        One of the same length is written in place.
        """
        try:
            descriptor = os.open(self._path(entry.dataset_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError:  # it belongs to another user of a shared folder
            descriptor = -1
        if descriptor >= 0:
            try:
                before, after = os.pread(descriptor, RECORD_FILE_BYTES, 0), _serialize(fresh)
                if before == _serialize(entry) and len(before) == len(after):
                    write_all(descriptor, memoryview(after), 0)
                    return True
            finally:
                os.close(descriptor)
        if self.get(entry.dataset_id) != entry:
            return False
        self.put(replace(fresh, boot=fresh.boot.strip()))
        return True

    def forget(self, dataset_id: str) -> None:
        """Remove a record."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(dataset_id))

    def note_use(self, dataset_id: str) -> None:
        """Note that a dataset's file is used, if the last note is older than an hour."""
        note_use(self._path(dataset_id), LAST_USE_PRECISION_SECONDS)

    def last_used_times(self) -> dict[str, float]:
        """When each file was last used, in seconds since the epoch, by dataset id."""
        return last_used_times(self._folder)

    def all_entries(self) -> Iterator[CacheEntry]:
        """Every readable record."""
        for dataset_id in self.last_used_times():
            entry = self.get(dataset_id)
            if entry is not None:
                yield entry

    def accepted_ids(self) -> frozenset[str]:
        """The ids of accepted datasets, whether the database has changed since or not."""
        return frozenset(os.listdir(self._accepted_folder))

    def accepted_entries(self) -> Iterator[CacheEntry]:
        """The entries of accepted datasets, whether the database has changed since or not."""
        for name in self.accepted_ids():
            entry = self.get(name)
            if entry is not None and entry.state == "accepted":
                yield entry

    def _update_accepted_mark(self, entry: CacheEntry) -> None:
        mark = f"{self._accepted_folder}/{entry.dataset_id}"
        if entry.state == "accepted":
            with open_new_file(mark):
                pass
        else:
            with suppress(FileNotFoundError):
                os.unlink(mark)

    def _path(self, dataset_id: str) -> str:
        return f"{self._folder}/{dataset_id}.json"


def _serialize(entry: CacheEntry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"


def _parse(text: bytes) -> CacheEntry:
    """Raises ValueError, TypeError or AttributeError."""
    entry = CacheEntry(**json.loads(text))
    return replace(entry, boot="") if not entry.boot.strip() else entry
