"""Small operations on files, by descriptors: open, replace, write, wait.

Python's file objects make three to six system calls for each file that they open, and at each call
the thread releases the interpreter and waits for it again. Where many threads handle many small
files, these waits take most of the time.
"""

from __future__ import annotations

import os
import secrets
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

#: opens a file with the given flags, and raises OSError
Opener = Callable[[str | os.PathLike[str], int], int]
#: largest size of a file that holds one record
RECORD_FILE_BYTES = 1 << 16


class HasFileno(Protocol):
    """A file, pipe or socket."""

    def fileno(self) -> int:
        """Return its descriptor number."""


def read_small_file(path: str) -> bytes:
    """Return the bytes of a file of at most RECORD_FILE_BYTES. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, RECORD_FILE_BYTES)
    finally:
        os.close(descriptor)


def open_or_create(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, which is created if it is missing, and return its descriptor.

    A new file has the group of its folder, and the permissions of group and others on that folder,
    whatever the umask is. A symbolic link is not followed. Raises OSError.
    """
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        inherit_permissions(descriptor, os.stat(os.path.dirname(path) or "."), 0o666)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that only its owner has access to if it is created; no symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def make_folder(path: Path, root: Path) -> None:
    """Create a folder and its missing parents. Raises OSError.

    Those below ``root`` get their parent's group, and its permissions for group and others; all
    others get no permissions but their owner's. The umask is not applied.
    """
    missing = []
    at = path
    while not at.is_dir():
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process creates it, too
            folder.mkdir(mode=0o700)
            if root in folder.parents:
                inherit_permissions(folder, folder.parent.stat(), 0o2777)


def inherit_permissions(entry: int | Path, folder: os.stat_result, max_mode: int) -> None:
    """Give a file or folder its parent's group, and its permissions within ``max_mode``.

    ``entry`` is a path or descriptor. What belongs to another user stays as it is.
    """
    shared = folder.st_mode & 0o2077 & max_mode
    if not shared & 0o77:  # the folder is its owner's only
        return
    with suppress(PermissionError):
        if not folder.st_mode & stat.S_ISGID:
            os.chown(entry, -1, folder.st_gid)
        os.chmod(entry, 0o700 & max_mode | shared)


@contextmanager
def open_new_file(path: str | os.PathLike[str], opener: Opener = open_or_create) -> Iterator[int]:
    """Yield the descriptor of an empty file, whose permissions ``opener`` sets. Raises OSError."""
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
    before_rename: Callable[[], object] = lambda: None,
) -> None:
    """Write a file and rename it to ``path``: readers see the old content or the new, never a part.

    Until then its name is ``temporary``, or a random one that starts with a dot. ``opener`` decides
    on its permissions. If ``durable``, the bytes are on the disk before the file gets its name; for
    the name itself see :func:`fsync_folder`. ``before_rename`` is called when all is written. On
    errors the temporary file is removed. Raises OSError.
    """
    folder, name = os.path.split(path)
    fresh = temporary or os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    try:
        with open_new_file(fresh, opener) as descriptor:
            write_all(descriptor, memoryview(data), 0)
            if durable:
                os.fsync(descriptor)
        before_rename()
        os.replace(fresh, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        raise


def wait_readable(file: int | HasFileno, seconds: float) -> bool:
    """Wait until a pipe or socket can be read or has ended; return False after ``seconds``.

    Unlike ``select.select`` this works in a process that has more than 1,024 files open.
    """
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def fsync_folder(path: str | os.PathLike[str]) -> None:
    """Write the names in a folder to the disk (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all bytes at an offset; one call may write only a part. Raises OSError."""
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
