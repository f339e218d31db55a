"""What is known of a file in the cache folder: an entry, kept in the index and beside the files.

The *record* of a file is its entry as JSON in ``.onefs/files/<dataset id>.json``, published by
rename. It is what processes and hosts that share a folder tell each other; the index is each
host's own copy of it, and can be rebuilt from the records. A record's mtime is when the file was
last used (to the minute), for the order of eviction.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path

from onefs.cache.files import sync_file
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
    """One file; the fields are described in ``index.sql``."""

    dataset_id: str
    path: str
    size: int
    mtime_ns: int
    inode: int
    claimed_size: int | None
    claimed_md5: str
    state: str
    reason: str
    #: 1 or 0
    ours: int
    used_at: float
    boot: str = ""
    generation: str = ""
    digest: str = ""

    @property
    def source_generation(self) -> str:
        """The generation of the partial file that this one grew from; '' for none."""
        return self.generation.partition("@")[0]

    @property
    def ctime_ns(self) -> int | None:
        """The ctime of the file as it was proved; None in an entry of an older onefs."""
        text = self.generation.partition("@")[2]
        is_number = text.isascii() and text.isdigit() and len(text) < 20  # of a foreign file
        return int(text) if is_number else None

    @property
    def expected_digest(self) -> str:
        """What the bytes must have: the database's claim, or what was accepted; '' for unknown."""
        return self.digest if self.state in ("accepted", "unverified") else self.claimed_md5

    def with_ctime(self, ctime_ns: int) -> CacheEntry:
        """The same entry of a file whose ctime is another one."""
        return replace(self, generation=f"{self.source_generation}@{ctime_ns}")


_FIELD_NAMES = tuple(field.name for field in fields(CacheEntry))
#: the values of an entry, in the order of its fields
values_of = attrgetter(*_FIELD_NAMES)


class Records:
    """The records of one cache folder. Thread-safe, and safe beside other processes.

    Both folders are there, or made before anything is written. ``marks`` has an empty file for each
    dataset that is accepted: these few are found without reading every record. Raises OSError.
    """

    def __init__(self, folder: Path, marks: Path) -> None:
        self._folder = folder
        self._marks = marks

    def get(self, dataset_id: str) -> CacheEntry | None:
        """None when there is no record, or one that makes no sense."""
        try:
            entry = _parse(read_small_file(self._path(dataset_id)))
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None
        return entry if entry.dataset_id == dataset_id else None

    def put(self, entry: CacheEntry) -> None:
        replace_file(
            self._path(entry.dataset_id),
            _serialize(entry),
            before_rename=lambda: self._update_accepted_mark(entry),
        )

    def sync(self, dataset_id: str) -> None:
        """Have a record, and whether it is accepted, on the disk for good."""
        sync_file(Path(self._path(dataset_id)))
        for folder in (self._folder, self._marks):
            with suppress(OSError):  # not every file system can
                fsync_folder(folder)

    def mark_synced(self, entry: CacheEntry) -> bool:
        """Strike out an entry's boot where it stands; False when the record is another by now.

        No file is made for it, and whoever reads meanwhile finds a boot that never was at worst:
        then the file is verified once more.
        """
        return bool(entry.boot) and self.replace_if_unchanged(
            entry, replace(entry, boot=" " * len(entry.boot))
        )

    def replace_if_unchanged(self, entry: CacheEntry, fresh: CacheEntry) -> bool:
        """Put an entry in the place of another; False when the record is another by now.

        One of the same length is written where the other stands.
        """
        try:
            descriptor = os.open(self._path(entry.dataset_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError:  # another user's, in a folder that is written by several
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
        with suppress(FileNotFoundError):
            os.unlink(self._path(dataset_id))

    def touch(self, dataset_id: str, now: float) -> None:
        """The file is being read."""
        with suppress(FileNotFoundError):
            os.utime(self._path(dataset_id), (now, now))

    def last_used_times(self) -> list[tuple[float, str]]:
        """When each file was last used, and its dataset's id."""
        found = []
        with os.scandir(self._folder) as items:
            for item in items:
                if item.name.endswith(".json") and not item.name.startswith("."):
                    with suppress(FileNotFoundError):
                        found.append((item.stat().st_mtime, item.name.removesuffix(".json")))
        return found

    def all_entries(self) -> Iterator[CacheEntry]:
        """Every record that makes sense."""
        for _, dataset_id in self.last_used_times():
            entry = self.get(dataset_id)
            if entry is not None:
                yield entry

    def accepted_ids(self) -> frozenset[str]:
        """The datasets that are accepted, it may be under claims that are none any more."""
        return frozenset(os.listdir(self._marks))

    def accepted_entries(self) -> Iterator[CacheEntry]:
        """What the user has accepted although the database claims otherwise."""
        for name in self.accepted_ids():
            entry = self.get(name)
            if entry is not None and entry.state == "accepted":
                yield entry

    def _update_accepted_mark(self, entry: CacheEntry) -> None:
        mark = f"{self._marks}/{entry.dataset_id}"
        if entry.state == "accepted":
            with open_new_file(mark):
                pass
        else:
            with suppress(FileNotFoundError):
                os.unlink(mark)

    def _path(self, dataset_id: str) -> str:
        return f"{self._folder}/{dataset_id}.json"


def _serialize(entry: CacheEntry) -> bytes:
    return json.dumps(dict(zip(_FIELD_NAMES, values_of(entry), strict=True))).encode() + b"\n"


def _parse(text: bytes) -> CacheEntry:
    """Raises ValueError, TypeError or AttributeError."""
    entry = CacheEntry(**json.loads(text))
    return replace(entry, boot="") if not entry.boot.strip() else entry
