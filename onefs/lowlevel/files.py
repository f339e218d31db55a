"""Small operations on files, through descriptors: open, replace, write, wait.

Python's file objects are too slow for many threads that handle many small files. A file object
makes three to six system calls for each file. At each call the thread releases the interpreter lock
and waits for this lock again. These waits would take most of the time.
"""

from __future__ import annotations

import os
import random
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

#: a function that opens a path with the given flags and returns the descriptor; raises OSError
Opener = Callable[[str | os.PathLike[str], int], int]
#: most bytes in a file that holds one record
RECORD_FILE_BYTES = 1 << 16
#: seconds for which the permissions of a folder count, in which many files are created
_FOLDER_TTL_SECONDS = 1.0
_MAX_REMEMBERED_FOLDERS = 64
_folder_statuses: dict[str, tuple[float, os.stat_result]] = {}


class HasFileno(Protocol):
    """A file, pipe or socket."""

    def fileno(self) -> int:
        """Return the file's descriptor."""


class ReadDescriptor(int):
    """A descriptor from which the requested bytes were read already, because reading may block."""

    data: bytes

    def __new__(cls, descriptor: int, data: bytes) -> ReadDescriptor:
        """Return ``descriptor`` with its ``data``."""
        made = super().__new__(cls, descriptor)
        made.data = data
        return made


def read_small_file(path: str) -> bytes:
    """Return the bytes of a file, at most the first RECORD_FILE_BYTES. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, RECORD_FILE_BYTES)
    finally:
        os.close(descriptor)


def open_or_create(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file and return its descriptor. Create the file if it is missing.

    A new file inherits group and permissions from its folder (see :func:`inherit_permissions`), as
    the folder had them now or at most a second ago. Raises OSError, also if ``path`` is a symbolic
    link.
    """
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        inherit_permissions(descriptor, _folder_status(os.path.dirname(path) or "."), 0o666)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _folder_status(folder: str) -> os.stat_result:
    now = time.monotonic()
    until, status = _folder_statuses.get(folder, (0.0, None))
    if status is None or now > until:
        if len(_folder_statuses) >= _MAX_REMEMBERED_FOLDERS:
            _folder_statuses.clear()
        status = os.stat(folder)
        _folder_statuses[folder] = now + _FOLDER_TTL_SECONDS, status
    return status


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file and return its descriptor. If the file is created, only its owner has access.

    Raises OSError, also if ``path`` is a symbolic link.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def make_folder(path: Path, root: Path) -> None:
    """Create a folder and its missing parents. Raises OSError.

    A new folder below ``root`` inherits group and permissions from its parent (see
    :func:`inherit_permissions`). Any other new folder is accessible only to its owner.
    """
    missing = []
    at = path
    while not at.is_dir():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process has just created it
            folder.mkdir(mode=0o700)
            if root in folder.parents:
                inherit_permissions(folder, folder.parent.stat(), 0o2777)


def inherit_permissions(entry: int | Path, folder: os.stat_result, max_mode: int) -> None:
    """Give a file or folder the group and the permissions of its parent folder.

    - ``entry`` is the path or descriptor of the file or folder.
    - ``folder`` is the ``os.stat`` result of the parent.
    - ``max_mode`` has the permissions that may be given. The umask is not applied.

    Nothing changes if only the owner has access to the parent, or if ``entry`` belongs to another
    user.
    """
    shared = folder.st_mode & 0o2077 & max_mode
    if not shared & 0o77:  # only the owner has access to the folder
        return
    with suppress(PermissionError):
        if not folder.st_mode & stat.S_ISGID:
            os.chown(entry, -1, folder.st_gid)
        os.chmod(entry, 0o700 & max_mode | shared)


@contextmanager
def open_new_file(path: str | os.PathLike[str], opener: Opener = open_or_create) -> Iterator[int]:
    """Create or empty a file, and yield its descriptor. Raises OSError.

    ``opener`` opens the file and sets its permissions.
    """
    descriptor = opener(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def replace_file(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    temporary: str | os.PathLike[str] = "",
    opener: Opener = open_or_create,
    durable: bool = False,
    mtime: float | None = None,
    before_rename: Callable[[], object] = lambda: None,
    after_rename: Callable[[int], object] = lambda _: None,
) -> None:
    """Replace the content of the file ``path`` by ``data``. Readers see the old or the new content.

    The data is written to a temporary file, which is then renamed to ``path``.

    - ``temporary`` is the path of the temporary file. The default is a hidden file beside ``path``.
    - ``opener`` opens the temporary file and sets its permissions.
    - ``durable``: sync the bytes to disk before the rename. To sync the new name too, call
      :func:`fsync_folder`.
    - ``mtime`` is the time of the last change that the file gets; None for now.
    - ``before_rename`` is called when all bytes are written.
    - ``after_rename`` is called with the descriptor of the new file, which is closed afterwards.

    After an error the temporary file is removed. Raises OSError.
    """
    folder, name = os.path.split(path)
    fresh = temporary or os.path.join(folder, f".{name}.{random.getrandbits(32):08x}")
    try:
        with open_new_file(fresh, opener) as descriptor:
            write_all(descriptor, memoryview(data), 0)
            if durable:
                os.fsync(descriptor)
            if mtime is not None:
                os.utime(descriptor, (mtime, mtime))
            before_rename()
            os.replace(fresh, path)
            after_rename(descriptor)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        raise


def wait_readable(file: int | HasFileno, seconds: float) -> bool:
    """Wait until a pipe or socket can be read or has ended. Return False after ``seconds``."""
    # unlike ``select.select``, this works with more than 1,024 open files
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def fsync_folder(path: str | os.PathLike[str]) -> None:
    """Write the names of a folder's files to the disk (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes of ``data`` at ``offset``, in several calls if needed. Raises OSError."""
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
