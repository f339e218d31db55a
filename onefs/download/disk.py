"""A disk as a source: a folder whose files are opened in place, and never written.

The files are those of a file server, at the same paths below the folder. No folder is listed, and a
file is only opened by its path. The disk may be unmounted, or stand still, at any time: it is then
*away*, which is not the same as "the file is not there".
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from onefs.errors import OnefsError, Unreachable, UsageError, reason_of
from onefs.lowlevel.bounded_calls import BoundedCalls, StandsStill
from onefs.lowlevel.filesystems import is_all_local, mount_of
from onefs.lowlevel.mountinfo import read_mounts

log = logging.getLogger(__name__)

R = TypeVar("R")

#: errors that mean that a path does not lead to a file
_ABSENT = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ),
}
#: errors that concern this process or one file, and not the disk
_NO_PERMISSION = {errno.EACCES, errno.EPERM}
_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
#: parts of a path that are no names
_NO_NAMES = {"", ".", ".."}
#: seconds between two checks for ``onefs status`` whether the disk is there
_CHECK_SECONDS = 2.0
#: most files that the log says are not used
_MAX_REFUSED = 1000
#: bytes that are read in one call from a disk that may stand still
_READ_BYTES = 1 << 20
_NO_FOLDER, _NOT_MOUNTED = "there is no such folder", "it is not mounted"


class DiskAway(Unreachable):
    """A disk is not mounted, does not answer or fails. The requested file may exist on it."""


class FileFails(DiskAway):
    """A file cannot be read, although its disk is there."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that was opened on a disk."""

    fd: int
    status: os.stat_result
    #: the absolute path, below the source's folder as the user has written it
    path: str


@dataclass(frozen=True, slots=True)
class _Root:
    """The folder of a source, as it was found."""

    #: the path without symbolic links
    real: str
    device: int
    inode: int
    #: the folder at which its file system is mounted; '' if unknown
    mountpoint: str
    #: whether all is on disks of this machine, whose calls return
    is_local: bool


class Disk:
    """Opens files below one folder. Thread-safe.

    ``seconds`` is the longest wait for a disk that may stand still: a network file system, or any
    other that is not a disk of this machine.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self._seconds = seconds
        self._calls = BoundedCalls("onefs-disk", seconds)
        # close(2) may return without an answer of a server, so that it says nothing of the disk
        self._closes = BoundedCalls("onefs-disk-close", seconds)
        self._lock = threading.Lock()
        self._root: _Root | None = None
        #: why the disk is away; '' while it is there
        self.away = ""
        self._checked_at = float("-inf")
        self._refused: set[str] = set()
        #: the file systems on which files were found since the folder was examined
        self._devices: set[int] = set()

    def close(self) -> None:
        """Make all callers that wait for the disk raise Stopping."""
        self._calls.close()

    def open(self, relative: str) -> OpenedFile | None:
        """Open the file at a path below the folder. Return None if there is no such file.

        A file that cannot be read, or that a symbolic link leads to outside the folder, counts as
        missing, with a line in the log. Raises DiskAway.
        """
        if "\0" in relative or not _NO_NAMES.isdisjoint(relative.split("/")):
            return None
        path = f"{self.folder}/{relative}"
        opened = self.run(lambda: self._open(path), path, _close_late)
        if self.away:
            self._note_present()
        return opened

    def close_file(self, file: OpenedFile) -> None:
        """Close a file. On a disk that may stand still, do so on another thread."""
        close = partial(os.close, file.fd)
        if self.is_local:
            close()
            return
        try:
            self._closes.start(close)
        except (StandsStill, OnefsError):
            with suppress(RuntimeError):  # no thread can be started
                threading.Thread(target=close, name="onefs-disk-close", daemon=True).start()

    def run(
        self, work: Callable[[], R], path: str, discard: Callable[[R], object] = lambda _: None
    ) -> R:
        """Return the result of ``work``, which uses the file at ``path``.

        On a disk that may stand still, ``work`` runs on another thread, and ``discard`` gets a
        result that arrives too late. An OSError becomes FileFails if the disk is there, and
        DiskAway otherwise, except for errors such as "too many open files".
        """
        root = self._root
        try:
            if root is not None and root.is_local:
                return self._run(work, path)
            return self._calls.call(lambda: self._run(work, path), discard)
        except StandsStill:
            raise self._note_away(f"it has not answered for {self._seconds:g} s") from None
        except OSError as error:
            if isinstance(error, DiskAway) or error.errno in _OWN_LIMITS:
                raise
            raise self._note_away(reason_of(error, self.folder)) from error

    def _run(self, work: Callable[[], R], path: str) -> R:
        try:
            return work()
        except OSError as error:
            if isinstance(error, DiskAway) or error.errno in _OWN_LIMITS:
                raise
            self._check_present()
            reason = reason_of(error, path)
            self._note_refused(path, reason)
            raise FileFails(f"the file {path} cannot be read: {reason}") from error

    @property
    def is_local(self) -> bool:
        """Whether the disk is one of this machine, so that reads from it need no thread."""
        return self._root is not None and self._root.is_local

    def status_of(self, file: OpenedFile) -> os.stat_result:
        """Return the status that an open file has now. Raises DiskAway."""
        return self.run(lambda: os.fstat(file.fd), file.path)

    def read(
        self, file: OpenedFile, offset: int, length: int
    ) -> tuple[bytes | None, os.stat_result]:
        """Return a range of an open file, and the file's status after that. Raises DiskAway.

        On a disk of this machine, only return the status, and None: the kernel reads the range.
        """
        if self.is_local:
            return None, self.status_of(file)

        def read() -> tuple[bytes, os.stat_result]:
            chunks = [
                os.pread(file.fd, min(_READ_BYTES, offset + length - at), at)
                for at in range(offset, offset + length, _READ_BYTES)
            ]
            return b"".join(chunks), os.fstat(file.fd)

        return self.run(read, file.path)

    def away_reason(self) -> str:
        """Return a sentence if the disk is away, else ''. Does not wait for the disk."""
        now = time.monotonic()
        with self._lock:
            due = now - self._checked_at >= _CHECK_SECONDS
            if due:
                self._checked_at = now
        if due:
            try:
                self._calls.start(self._check)
            except StandsStill:
                self._note_away(f"it has not answered for {self._seconds:g} s")
            except OnefsError:  # onefs is being stopped, or has no thread
                return self.away
        if not self.away and self._calls.stands_still():
            self._note_away(f"it has not answered for {self._seconds:g} s")
        return self.away

    def _check(self) -> None:
        try:
            self._check_present()
        except DiskAway:
            return
        except OSError as error:
            self._note_away(reason_of(error, self.folder))
        else:
            self._note_present()

    def _open(self, path: str) -> OpenedFile | None:
        if self._root is None:
            self._examine()
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            self._check_missing(path, error)
            return None
        # the file itself is opened when it is known to be one of the disk
        try:
            status = os.fstat(place)
            if status.st_dev not in self._devices:  # something was mounted meanwhile
                self._examine()
                self._devices.add(status.st_dev)
            if not stat.S_ISREG(status.st_mode):
                self._note_refused(path, "it is not a regular file")
                return None
            if not self._is_inside(place):
                self._note_refused(path, "a symbolic link leads out of the folder")
                return None
            fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._check_missing(path, error)
            return None
        finally:
            os.close(place)
        try:
            return OpenedFile(fd, os.fstat(fd), path)
        except BaseException:
            os.close(fd)
            raise

    def _check_missing(self, path: str, error: OSError) -> None:
        """Return if the disk is there, but not the file. Raises DiskAway or OSError."""
        if error.errno in _NO_PERMISSION:
            self._note_refused(path, reason_of(error, path))
        elif error.errno not in _ABSENT:
            raise error
        self._check_present()

    def _note_refused(self, path: str, reason: str) -> None:
        if path not in self._refused and len(self._refused) < _MAX_REFUSED:
            self._refused.add(path)
            log.warning("the file %s is not used: %s", path, reason)

    def _is_inside(self, place: int) -> bool:
        """Whether an open path is below the folder, after all symbolic links were followed."""
        found = os.readlink(f"/proc/self/fd/{place}")
        for _ in range(2):
            root = self._root
            if root is not None and found.startswith(root.real.rstrip("/") + "/"):
                return True
            self._examine()  # the folder may be reached through a link that was changed
        return False

    def _examine(self) -> None:
        """Find out where the folder is. Raises OSError, and DiskAway if the folder is missing."""
        try:
            real = os.path.realpath(self.folder)
            status = os.stat(real)
        except FileNotFoundError:
            raise self._note_away(_NO_FOLDER) from None
        if not stat.S_ISDIR(status.st_mode):
            raise self._note_away("it is not a folder")
        mounts = read_mounts()
        self._devices = {status.st_dev}
        at = mount_of(real, mounts)
        self._root = _Root(
            real,
            status.st_dev,
            status.st_ino,
            "" if at is None else at.mountpoint,
            is_all_local(real, mounts),
        )

    def _check_present(self) -> None:
        """Raise DiskAway if the folder is missing, or if its disk is not mounted."""
        root = self._root
        if root is not None:
            try:
                status = os.stat(self.folder)
            except FileNotFoundError:
                raise self._note_away(
                    _NOT_MOUNTED if self._is_unmounted(root) else _NO_FOLDER
                ) from None
            if (status.st_dev, status.st_ino) == (root.device, root.inode):
                return
            if self._is_unmounted(root):
                raise self._note_away(_NOT_MOUNTED)
        self._examine()

    def _is_unmounted(self, root: _Root) -> bool:
        """Whether nothing is mounted any more where the disk was."""
        if not root.mountpoint:
            return False
        inside = os.path.realpath(self.folder).startswith(root.mountpoint)
        return inside and all(each.mountpoint != root.mountpoint for each in read_mounts())

    def _note_away(self, reason: str) -> DiskAway:
        sentence = f"the disk {self.folder} is away: {reason}"
        with self._lock:
            is_new, self.away = sentence != self.away, sentence
        if is_new:
            log.warning("%s", sentence)
        return DiskAway(sentence)

    def _note_present(self) -> None:
        with self._lock:
            was_away, self.away = self.away, ""
        if was_away:
            log.warning("the disk %s is there again", self.folder)


def _close_late(opened: OpenedFile | None) -> None:
    if opened is not None:
        os.close(opened.fd)


def check_outside_disk(place: Path, disk: Path) -> None:
    """Raise UsageError if a folder that onefs writes to is on a disk, which is only read.

    The disk is not asked: links that lead to it are not followed.
    """
    if Path(os.path.realpath(place)).is_relative_to(os.path.abspath(disk)):
        raise UsageError(
            f"{place} is inside {disk}, which --source names, and which onefs never writes to: "
            "choose another folder"
        )
