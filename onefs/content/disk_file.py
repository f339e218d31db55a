"""An open file of a disk, and whether it is still the same."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from onefs.cache.disk_records import is_settled
from onefs.cache.files import identity_of, stamp_of
from onefs.cache.records import CacheEntry
from onefs.cache.verify import CHUNK_BYTES, new_hash
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
    #: whether the bytes were found to contradict the database while the file was open
    is_rejected: bool = False
    #: differs for two versions of the bytes
    version: str = field(init=False)
    #: the path that the open file has now, without symbolic links
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = _name_of(self.opened.fd)
        unique = "" if is_settled(self.status) else uuid.uuid4().hex
        self.version = f"{self.status.st_dev} {identity_of(self.status)} {unique}"

    @property
    def sized_dataset(self) -> Dataset:
        """The dataset, with the file's size."""
        return replace(self.dataset, size=self.status.st_size)

    @property
    def has_known_bytes(self) -> bool:
        """Whether no byte is served that the hash in the database does not prove."""
        return self.must_verify or self.is_verified

    def is_same(self, status: os.stat_result) -> bool:
        """Whether ``fstat`` shows that the bytes were not changed. Note a ``status`` that is new.

        A small file is hashed again if its ctime has changed. For others, a change of the ctime
        alone may be a change of the bytes, unless the mode, the owner, the number of links (as in a
        backup) or the name has changed too.
        """
        if identity_of(status) == identity_of(self.status):
            return True
        if stamp_of(status) != stamp_of(self.status) or status.st_dev != self.status.st_dev:
            return False
        if not status.st_nlink:  # replaced or removed
            return True
        name = _name_of(self.opened.fd)
        if self.must_verify or (_attributes(status), name) == (_attributes(self.status), self.name):
            return False
        self.status, self.name = status, name
        return True

    def may_be_same(self, status: os.stat_result) -> bool:
        """Whether a hash can show that the bytes of a large file are the same.

        Not for bytes that were served unverified: right ones may be others.
        """
        same_place = (stamp_of(status), status.st_dev) == (
            stamp_of(self.status),
            self.status.st_dev,
        )
        return same_place and not self.must_verify and self.is_verified

    def changed_error(self) -> BadContent:
        """Return the error for a file that was changed while programs have it open."""
        return BadContent(
            f"the file {self.opened.path} was changed while it is open: close it in all programs, "
            "and open it again"
        )


def hash_opened(
    disk: Disk, opened: OpenedFile, dataset: Dataset, watch: Callable[[int], object]
) -> tuple[int, str]:
    """Return the size and the digest of an open file. Raises DiskAway.

    ``watch`` gets the number of bytes read so far.
    """
    digest, at = new_hash(dataset), 0
    while chunk := disk.run(partial(os.pread, opened.fd, CHUNK_BYTES, at), opened.path):
        digest.update(chunk)
        at += len(chunk)
        watch(at)
    return at, digest.hexdigest()


def is_bad(entry: CacheEntry | None, status: os.stat_result, must_verify: bool) -> bool:
    """Whether a file's record forbids to serve it. Then it need not be hashed again."""
    if entry is None or entry.state != "bad":
        return False
    return not must_verify or entry.ctime_ns == status.st_ctime_ns


def _attributes(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_nlink


def _name_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # asks no disk
