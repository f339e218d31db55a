"""An open file of a disk, and whether it is still the same."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field

from onefs.cache.disk_records import is_settled
from onefs.cache.files import identity_of, stamp_of
from onefs.cache.records import CacheEntry
from onefs.download.disk import Disk, OpenedFile
from onefs.errors import BadContent
from onefs.model import Dataset


@dataclass(slots=True)
class DiskFile:
    """One open file of a disk, which all readers of its dataset share."""

    disk: Disk
    dataset: Dataset
    opened: OpenedFile
    #: whether the file is hashed before its first byte is served
    must_verify: bool
    #: whether the bytes agree with the hash in the database
    is_verified: bool
    #: whether a record of this version of the file exists
    is_recorded: bool
    #: the status that the served bytes have
    status: os.stat_result
    readers: int = 1
    #: differs for two versions of the bytes
    version: str = field(init=False)

    def __post_init__(self) -> None:
        unique = "" if is_settled(self.status) else uuid.uuid4().hex
        self.version = f"{self.status.st_dev} {identity_of(self.status)} {unique}"

    @property
    def has_known_bytes(self) -> bool:
        """Whether no byte is served that the hash in the database does not prove."""
        return self.must_verify or self.is_verified

    def is_same(self, status: os.stat_result) -> bool:
        """Whether ``fstat`` shows that the file was not changed."""
        if identity_of(status) == identity_of(self.status):
            return True
        # the file was replaced by another one, or removed: the bytes of this one are the same
        return not status.st_nlink and stamp_of(status) == stamp_of(self.status)

    def changed_error(self) -> BadContent:
        """Return the error for a file that was changed while programs have it open."""
        return BadContent(
            f"the file {self.opened.path} was changed while it is open: close it in all programs, "
            "and open it again"
        )


def is_bad(entry: CacheEntry | None, status: os.stat_result, must_verify: bool) -> bool:
    """Whether a file's record forbids to serve it. Then it need not be hashed again."""
    if entry is None or entry.state != "bad":
        return False
    return not must_verify or entry.ctime_ns == status.st_ctime_ns
