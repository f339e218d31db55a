"""Records of files on disks that are sources: which file was verified, and what was found.

The files stay where they are. A record is a :class:`CacheEntry` whose ``path`` is the absolute path
on the disk, in ``.onefs/disk/<dataset id>.<hash of the path>.json``. Each of several disks may have
a file of a dataset, and what was found in one of them says nothing about the others. A file is
hashed again only if its inode, size, mtime or ctime has changed. Nothing that evicts, lists or
removes cached files reads these records.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from onefs.cache.records import CacheEntry, Records
from onefs.cache.verify import ContentVerdict
from onefs.model import Dataset

#: a file that was changed less than these seconds ago may change again without another time
_SETTLED_SECONDS = 2.0
#: most records in memory of files that are not bad
_MAX_UNWRITTEN = 4096


class DiskRecords:
    """The records of one cache folder. Thread-safe."""

    def __init__(self, private_folder: Path) -> None:
        folder = private_folder / "disk"
        # nothing on a disk is ever accepted
        self._records = Records(folder, folder / "accepted", _key_of)
        #: records that cannot be written, for example because the cache folder is read-only
        self._unwritten: dict[str, CacheEntry] = {}

    def find(self, dataset: Dataset, path: str, status: os.stat_result) -> CacheEntry | None:
        """Return the record of the file at ``path`` with this ``status``, if the database still
        says the same.

        The verdict that a file is bad stays if only its ctime has changed, as in a backup that
        makes links to all files.
        """
        for entry in self._known(_key(dataset.id, path)):
            is_current = (entry.claimed_size, entry.claimed_md5) == (dataset.size, dataset.md5)
            if is_current and entry.describes(status, same_ctime=entry.state != "bad"):
                return entry
        return None

    def _known(self, key: str) -> Iterator[CacheEntry]:
        # what another process has written may be newer, and may be older
        found = [self._unwritten.get(key)]
        with suppress(OSError):
            found.append(self._records.get(key))
        entries = [entry for entry in found if entry is not None]
        yield from sorted(entries, key=lambda entry: -entry.used_at)

    def put(
        self, dataset: Dataset, path: str, status: os.stat_result, verdict: ContentVerdict
    ) -> bool:
        """Record what is known about a file, unless the file was changed just now.

        It may be changed again without another time. But a verdict that it is bad is never lost.
        Return False if the record cannot be written, and is kept only in memory.
        """
        if verdict.is_good and not is_settled(status):
            return True
        entry = CacheEntry(
            dataset_id=dataset.id,
            path=path,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
            claimed_size=dataset.size,
            claimed_md5=dataset.md5,
            state=verdict.state,
            reason=verdict.reason,
            ours=0,
            used_at=time.time(),
            generation=f"@{status.st_ctime_ns}",
        )
        try:
            self._records.put(entry)
        except OSError:
            if len(self._unwritten) >= _MAX_UNWRITTEN:  # others are found out again
                entries = list(self._unwritten.items())
                self._unwritten = {key: each for key, each in entries if each.state == "bad"}
            self._unwritten[_key_of(entry)] = entry
            return False
        self._unwritten.pop(_key_of(entry), None)
        return True

    def entries(self) -> Iterator[CacheEntry]:
        """Yield every record in the cache folder."""
        with suppress(OSError):
            yield from self._records.all_entries()


def _key(dataset_id: str, path: str) -> str:
    return f"{dataset_id}.{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}"


def _key_of(entry: CacheEntry) -> str:
    return _key(entry.dataset_id, entry.path)


def is_settled(status: os.stat_result) -> bool:
    """Whether a further change of a file would change its mtime or ctime."""
    return time.time() - max(status.st_ctime, status.st_mtime) > _SETTLED_SECONDS
