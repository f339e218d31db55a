"""``onefs cache verify`` of files on disks: hash the recorded files again. They are only read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onefs.cache.disk_records import DiskRecords
from onefs.cache.files import identity_of
from onefs.cache.records import CacheEntry
from onefs.cache.verify import check_content
from onefs.content.disk_file import hash_opened
from onefs.content.disk_paths import one_path, split_at_lab
from onefs.download.disk import Disk, DiskAway
from onefs.model import Dataset


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Whether the bytes of one dataset are right, and what is wrong with the file."""

    #: the path relative to the cache folder
    path: str
    #: True if the bytes are right; None if there is no digest to compare them with
    good: bool | None
    #: what is wrong with the file; '' if nothing is wrong
    reason: str = ""


#: called with the path of a file and the number of bytes that were read from the file so far
PathProgressCallback = Callable[[str, int], None]


class DiskVerifier:
    """Verifies files on disks, and records the results.

    ``seconds`` is the longest wait for a disk that may stand still. No dataset is locked meanwhile.
    """

    def __init__(self, records: DiskRecords, seconds: float) -> None:
        self._records, self._seconds = records, seconds
        self._disks: dict[str, Disk] = {}

    def verify(self, entry: CacheEntry, watch: PathProgressCallback) -> VerifyResult | None:
        """Hash the file of a record, unless it is another one now.

        Return None for a bad file, unless it may have been corrected without another mtime.
        """
        path, name = entry.path, one_path(entry.path, entry.dataset_id)
        claims = Dataset(entry.dataset_id, "", name, size=entry.claimed_size, md5=entry.claimed_md5)
        is_bad, opened = entry.state == "bad", None
        if not claims.md5:
            return None if is_bad else VerifyResult(name, None)
        folder, relative = split_at_lab(path)
        disk = self._disks.setdefault(folder, Disk(Path(folder), self._seconds))
        try:
            opened = disk.open(relative)
            if is_bad and not (opened and _may_be_corrected(entry, opened.status)):
                return None
            if opened is None:
                return VerifyResult(name, None, f"the file {path} cannot be read, or is missing")
            if not entry.describes(opened.status, same_ctime=False):
                return VerifyResult(name, None, f"the file {path} was changed since it was read")
            size, digest = hash_opened(disk, opened, claims, partial(watch, name))
            if identity_of(disk.status_of(opened)) != identity_of(opened.status):
                return VerifyResult(name, None, f"the file {path} is being changed")
        except DiskAway as error:
            return None if is_bad else VerifyResult(name, None, str(error))
        finally:
            if opened is not None:
                disk.close_file(opened)
        verdict = check_content(claims, size, digest)
        is_kept = self._records.put(claims, path, opened.status, verdict) or verdict.is_good
        lost = "" if is_kept else ". The cache folder cannot be written: mounts still read it"
        return VerifyResult(name, verdict.is_good, verdict.reason + lost)


def _may_be_corrected(entry: CacheEntry, status: os.stat_result) -> bool:
    """Whether only the ctime of a bad file has changed."""
    return entry.describes(status, same_ctime=False) and entry.ctime_ns != status.st_ctime_ns
