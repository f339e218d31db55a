"""Open datasets whose bytes are read from a disk in place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from onefs.content.disk_file import DiskFile
from onefs.content.disk_files import DiskFiles
from onefs.content.handle import DatasetHandle
from onefs.download.disk import DiskAway
from onefs.errors import BadContent
from onefs.lowlevel.files import ReadDescriptor
from onefs.model import Dataset

#: seconds between two looks whether `onefs cache verify` has rejected an open file
_REJECTION_TTL_SECONDS = 1.0


class DiskHandle:
    """An open dataset (see ``onefs.tree.nodes.Handle``) that is read from a disk. Thread-safe.

    ``open_other`` opens the dataset without the disks. It is used from then on if the file on the
    disk is wrong, or if the disk goes away and the hash in the database proves all bytes that were
    read. ``file`` is None if a disk that may have the file is away already.
    """

    def __init__(
        self,
        files: DiskFiles,
        dataset: Dataset,
        file: DiskFile | None,
        open_other: Callable[[], DatasetHandle],
        keep_cache: bool,
    ) -> None:
        self._files, self._dataset = files, dataset
        self._file = file
        self._open_other = open_other
        self._lock = threading.Lock()
        self._rejection_checked_at = time.monotonic()
        self._other: DatasetHandle | None = None
        if file is not None:
            self.size, self.keep_cache, self.in_parts = file.status.st_size, keep_cache, False
        else:
            self._other = other = open_other()
            self.size, self.keep_cache, self.in_parts = other.size, other.keep_cache, other.in_parts

    def try_fd(self, offset: int, length: int) -> int | None:
        """Return a file descriptor if a range of bytes can be read from it without a server.

        Return None if the range must first be verified or fetched, or if the disk is away. Raises
        what :meth:`DatasetHandle.try_fd` raises.
        """
        file = self._file
        if self._other is not None:
            return self._other.try_fd(offset, length)
        if file is None:  # the handle is closed
            return None
        if file.must_verify and not file.is_verified:
            return None
        try:
            data, status = file.disk.read(file.opened, offset, length)
        except OSError:
            return None
        is_right = file.is_same(status) and not (file.is_rejected or self._is_rejected(file))
        return _descriptor(file, data) if is_right else None

    def wait_fd(self, offset: int, length: int) -> int:
        """Wait until a range of bytes can be read, and return a descriptor for the range.

        Raises DiskAway or BadContent if the file cannot be read on, and must be opened again. Also
        raises what :meth:`DatasetHandle.wait_fd` raises.
        """
        file = self._file
        if self._other is None and file is not None:
            try:
                return self._wait(file, offset, length)
            except DiskAway as error:
                if not file.has_known_bytes:
                    raise
                self._files.notes.note_failure(self._dataset, error)
            except BadContent:
                if not file.must_verify:
                    raise
        with self._files.notes.noting_away(self._dataset):
            return self._switched().wait_fd(offset, length)

    def close(self) -> None:
        """Close the file. The caller must not read from this object any more."""
        with self._lock:
            file, self._file = self._file, None
            other, self._other = self._other, None
        if file is not None:
            self._files.release(file)
        if other is not None:
            other.close()

    def _wait(self, file: DiskFile, offset: int, length: int) -> int:
        if file.must_verify and not file.is_verified:
            self._files.verify(file)
        data, status = file.disk.read(file.opened, offset, length)
        if not file.is_same(status):
            # the kernel may have got bytes after the change, in a request before this one
            self._files.on_invalidated(file.dataset)
            if file.must_verify:
                self._files.verify(file)
            elif not self._files.is_proven(file, status):
                raise file.changed_error()
            data, status = file.disk.read(file.opened, offset, length)
            if not file.is_same(status):
                raise file.changed_error()
        if self._files.is_rejected(file):
            self._files.on_invalidated(file.dataset)
            raise BadContent(
                f"the file {file.opened.path} contradicts the database: open the file again"
            )
        return _descriptor(file, data)

    def _is_rejected(self, file: DiskFile) -> bool:
        now = time.monotonic()
        if now - self._rejection_checked_at < _REJECTION_TTL_SECONDS:
            return False
        self._rejection_checked_at = now
        return self._files.is_rejected(file)

    def _switched(self) -> DatasetHandle:
        """Return the handle that is used instead of the disk. Open it if it is not open yet."""
        with self._lock:
            if self._other is None:
                self._other = self._open_other()
            return self._other


def _descriptor(file: DiskFile, data: bytes | None) -> int:
    return file.opened.fd if data is None else ReadDescriptor(file.opened.fd, data)
