"""Files of a folder as a source, ``file:///FOLDER/NAME``: the interface without a server."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from urllib.parse import unquote

from onefs.config.urls import safe_url
from onefs.download.sources.interface import (
    BULK_CHUNK_BYTES,
    Body,
    ByteRequest,
    RemoteFileChanged,
    VersionMismatch,
    WrongSize,
)
from onefs.errors import (
    DataServerCredentials,
    OnefsError,
    ServerError,
    Stopping,
    Unreachable,
    reason_of,
)

#: errors of a path that does not exist
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM)


class FolderSource:
    """Files of a disk. Implements :class:`Source`."""

    def open(self, request: ByteRequest) -> Body:
        """Return the bytes of a file."""
        return _FileBody(request)

    def probe(self, url: str, seconds: float) -> None:
        """Find out whether the disk answers. Raises Unreachable for an error of the disk."""
        try:
            os.stat(_path_of(url))
        except OSError as error:
            failure = _disk_error(error, safe_url(url))
            if isinstance(failure, Unreachable):
                raise failure from error


class _FileBody:
    """A :class:`Body` over an open file."""

    def __init__(self, request: ByteRequest) -> None:
        self._request = request
        self._aborted = threading.Event()
        self.label = safe_url(request.url)

    def __enter__(self) -> _FileBody:
        request = self._request
        try:
            self._fd = os.open(_path_of(request.url), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _disk_error(error, self.label) from error
        try:
            self._set_range(request)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def abort(self) -> None:
        """End the reading, from any thread."""
        self._aborted.set()

    def iter_chunks(self, size: int = BULK_CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the bytes. Raises RemoteFileChanged if the file is changed meanwhile."""
        at = self.start
        while at < self._end:
            if self._aborted.is_set():
                raise Stopping(f"the reading of {self.label} was stopped")
            try:
                chunk = os.pread(self._fd, min(size, self._end - at), at)
                status = os.fstat(self._fd)
            except OSError as error:
                raise _disk_error(error, self.label) from error
            # not the ctime, which a link or a chmod changes too
            if (status.st_size, status.st_mtime_ns) != self._content:
                raise RemoteFileChanged(f"{self.label}: the file on the server has changed")
            if not chunk:
                raise ServerError(f"{self.label}: the answer ended {self._end - at} bytes early")
            at += len(chunk)
            yield chunk

    def _set_range(self, request: ByteRequest) -> None:
        status = os.fstat(self._fd)
        if not _is_regular(status):
            raise ServerError(f"{self.label}: the disk does not have this file", 404)
        size = status.st_size
        if request.size is not None and size != request.size:
            raise WrongSize(f"the database says {request.size} bytes, the file has {size}", size)
        self.total: int | None = size
        self.validator = _version_of(status)
        self._content = (size, status.st_mtime_ns)
        if request.validator and request.validator != self.validator:
            raise VersionMismatch(f"{self.label}: the file on the server has changed")
        self.start = min(request.start, size)
        self._end = max(self.start, size if request.end is None else min(request.end, size))
        self.end: int | None = self._end
        self.length: int | None = self._end - self.start
        self.is_partial = (self.start, self._end) != (0, size)


def _path_of(url: str) -> str:
    """Return the path in a ``file://`` URL."""
    return os.fsdecode(unquote(url.partition("://")[2], errors="surrogateescape"))


def _is_regular(status: os.stat_result) -> bool:
    return status.st_mode & 0o170000 == 0o100000


def _version_of(status: os.stat_result) -> str:
    return f'"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"'


def _disk_error(error: OSError | ValueError, label: str) -> OnefsError:
    """Return the error for an ``error`` of the disk."""
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in _ABSENT:
        return ServerError(f"{label}: the disk does not have this file", 404)
    if number in _REFUSED:
        return DataServerCredentials(f"{label}: this user may not read the file")
    return Unreachable(f"{label}: the disk cannot be read: {reason_of(error)}")
