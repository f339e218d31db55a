"""What each file operation does, in terms of a tree. Knows neither libfuse nor ctypes.

Whatever is raised here becomes an errno in one place, :func:`errno_of`. Writing operations are
absent: the mount is read-only (``ro``), and the kernel answers them with EROFS by itself.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from onefs.errors import OnefsError, ReadOnly
from onefs.mount.file_handle import Extent, FileHandle
from onefs.mount.indexers import IndexerFilter
from onefs.mount.mount_registry import STATUS_XATTR
from onefs.mount.path_errors import PathErrors
from onefs.mount.refresher import Refresher
from onefs.mount.request_limits import WaitingReads, waiting_read_limit
from onefs.tree.handles import TextHandle
from onefs.tree.nodes import XATTR_PREFIX, Node, Tree

_STATFS_BLOCK_BYTES = 4096
_MAX_NAME_BYTES = 255
#: characters of a name that is surely not longer than that in UTF-8
_SHORT_NAME_CHARACTERS = _MAX_NAME_BYTES // 4

DirectoryEntries = list[tuple[bytes, Node]]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _OpenFolder:
    """An open folder."""

    path: str
    #: what it held when it was first read, or rewound
    entries: DirectoryEntries = field(default_factory=list)


class Operations:
    """The operations of one mount. All of them may run at once, in any thread.

    Methods bear libfuse's names; :class:`onefs.mount.fuse.Fuse` calls them. ``flush``,
    ``fsync``, ``access``, ``lock``, ``flock`` and ``lseek`` are absent on purpose: the kernel
    then stops asking, and does locks, permissions and SEEK_HOLE by itself.
    """

    #: for mfusepy: times are integers, and calls on open files need no path
    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(
        self, tree: Tree, blocked_programs: Iterable[str] = (), refresher: Refresher | None = None
    ) -> None:
        """``refused``: names of programs that get EACCES for what would have to be fetched."""
        self._tree = tree
        self._refresher = refresher
        #: the thread that the running operation is for; who runs operations sets it
        self.caller_thread: Callable[[], int] = lambda: 0
        #: the id of that thread's user
        self.caller_user: Callable[[], int | None] = lambda: None
        #: what the attribute :data:`STATUS_XATTR` of the root says; '' for nothing
        self.status: Callable[[], str] = lambda: ""
        self._indexer_filter = IndexerFilter(blocked_programs, lambda: self.caller_thread())
        #: why operations on paths have failed
        self.path_errors = PathErrors()
        self._waiting_reads = WaitingReads(waiting_read_limit())
        self._handle_numbers = itertools.count(1)
        self._file_handles: dict[int, FileHandle] = {}
        self._open_folders: dict[int, _OpenFolder] = {}

    def destroy(self) -> None:
        """Close what is still open: after a lazy unmount, the kernel does not."""
        for number in list(self._file_handles):
            self.release(None, number)

    def getattr(self, path: str) -> Node:
        _check_name_length(path)
        try:
            node = self._tree.node(path)
        except Exception as error:  # most likely, its folder could not be listed
            self.path_errors.note_failure(os.path.dirname(path), error)
            raise
        if self.path_errors.has_any():
            self.path_errors.clear(os.path.dirname(path))
        return node

    def fgetattr(self, number: int) -> Node:
        """What an open file is, whatever stands at its path by now."""
        return self._file_handle(number).node

    def readlink(self, path: str) -> str:
        return self._tree.target(path, self.caller_thread(), self.caller_user())

    def opendir(self, path: str) -> int:
        number = next(self._handle_numbers)
        self._open_folders[number] = _OpenFolder(path)
        return number

    def readdir(self, number: int, *, first: bool) -> DirectoryEntries:
        """The whole listing, ``.`` and ``..`` first.

        It is read when the ``first`` page is asked for and kept for the others, so that a folder
        that changes meanwhile is seen as it was.
        """
        listing = self._open_folders[number]
        if first:
            listing.entries = self._list_folder(listing.path)
        return listing.entries

    def releasedir(self, _path: str | None, number: int) -> None:
        self._open_folders.pop(number, None)

    def open(self, path: str, flags: int) -> tuple[int, bool, bool]:
        """The open file's number, whether the kernel may keep the pages that it has of it, and
        whether it must read without pages: it cuts what it reads by the size that it was told
        last, and a text that has grown since would lose its end."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly(f"{path} cannot be written: onefs is read-only.")
        node = self._tree.node(path)
        with self.path_errors.record_outcome(path):
            handle = self._tree.open(path)
        number = next(self._handle_numbers)
        self._file_handles[number] = FileHandle(
            path, node, handle, self._waiting_reads, self._indexer_filter, self.path_errors
        )
        return number, handle.keep_cache, isinstance(handle, TextHandle)

    def read_buf(self, number: int, offset: int, size: int) -> Extent:
        """Where the bytes of an open file are; see :meth:`FileHandle.extent`."""
        return self._file_handle(number).extent(offset, size)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """The bytes of an open file, for libfuse 2; see :meth:`FileHandle.read`."""
        return self._file_handle(number).read(offset, size)

    def release(self, _path: str | None, number: int) -> None:
        opened = self._file_handles.pop(number, None)
        if opened is not None:
            opened.handle.close()

    def getxattr(self, path: str, name: str) -> bytes:
        if name.startswith(XATTR_PREFIX):
            asked = self._mount_xattr(name) if path == "/" else None
            value = asked or self._xattrs(path).get(name)
            if value is not None:
                return os.fsencode(value)
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def listxattr(self, path: str) -> list[str]:
        return list(self._xattrs(path))

    def statfs(self, _path: str) -> dict[str, int]:
        total, free = (space // _STATFS_BLOCK_BYTES for space in self._tree.space())
        return {
            "f_bsize": _STATFS_BLOCK_BYTES,
            "f_frsize": _STATFS_BLOCK_BYTES,
            "f_blocks": total,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": _MAX_NAME_BYTES,
        }

    def _mount_xattr(self, name: str) -> str | None:
        """An attribute of the root that is not listed: it is made when it is asked for."""
        if name == STATUS_XATTR:
            return self.status()
        return self._refresher.xattr_value(name) if self._refresher else None

    def _xattrs(self, path: str) -> dict[str, str]:
        """The tree's attributes, and why the last operation on ``path`` has failed."""
        found = self._tree.xattrs(path)
        error = self.path_errors.error_of(path)
        return {XATTR_PREFIX + "error": error, **found} if error else found

    def _list_folder(self, path: str) -> DirectoryEntries:
        here = self._tree.node(path)
        above = here if path == "/" else self._tree.node(os.path.dirname(path))
        with self.path_errors.record_outcome(path):
            children = self._tree.children(path)
        listed = [(os.fsencode(name), node) for name, node in children]
        return [(b".", here), (b"..", above), *listed]

    def _file_handle(self, number: int) -> FileHandle:
        try:
            return self._file_handles[number]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None


def _check_name_length(path: str) -> None:
    """Raise ENAMETOOLONG if the path's last name is longer than ``statfs`` says that names are.

    The kernel looks up each name of a path by itself, and passes on names of 1,024 bytes and more.
    """
    name = path[path.rfind("/") + 1 :]
    if len(name) > _SHORT_NAME_CHARACTERS and len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


class ErrorNumbers:
    """Turns exceptions into errnos. What nobody foresaw is EIO, logged once for each place."""

    def __init__(self) -> None:
        self._logged: set[tuple[type[BaseException], str]] = set()

    def errno_of(self, error: BaseException, operation: str) -> int:
        """The positive errno for ``error``, which ``operation`` raised."""
        if isinstance(error, (OnefsError, OSError)):
            number = error.errno
            if isinstance(number, int) and number > 0:
                return number
        self._log_once(error, operation)
        return errno.EIO

    def _log_once(self, error: BaseException, operation: str) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else operation
        if (type(error), place) in self._logged:
            return
        self._logged.add((type(error), place))
        log.error("%s failed in a way that nobody foresaw (EIO)", operation, exc_info=error)
