"""The file operations of a mount. This module uses a tree, but neither libfuse nor ctypes.

:class:`ErrorNumbers` is the only place where exceptions become errnos. There are no operations that
write. The mount is read-only (``ro``), so the kernel itself refuses writes with the error EROFS.
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
from onefs.mount.kernel_readahead import KernelReadahead
from onefs.mount.mount_registry import STATUS_XATTR
from onefs.mount.path_errors import PathErrors
from onefs.mount.refresher import Refresher
from onefs.mount.request_limits import WaitingReads, waiting_read_limit
from onefs.mount.sibling_prefetcher import SiblingPrefetcher, SiblingSource
from onefs.tree.handles import TextHandle
from onefs.tree.nodes import XATTR_PREFIX, ListedEntry, Node, Tree

_STATFS_BLOCK_BYTES = 4096
_MAX_NAME_BYTES = 255
#: a name with at most this number of characters never has more than _MAX_NAME_BYTES bytes in UTF-8
_SHORT_NAME_CHARACTERS = _MAX_NAME_BYTES // 4


log = logging.getLogger(__name__)


@dataclass(slots=True)
class _OpenFolder:
    """An open folder, and the listing that the folder had when it was read from the tree."""

    path: str
    #: the listing. It is read for the first page, and read again when the program rewinds the
    #: folder to its beginning.
    entries: list[ListedEntry] = field(default_factory=list)


class Operations:
    """The operations of one mount, called by :class:`onefs.mount.fuse.Fuse`. Thread-safe.

    The methods have the names of libfuse's operations.
    """

    #: settings for mfusepy: times are integers, and operations on open files need no path
    # ``flush``, ``fsync``, ``access``, ``lock``, ``flock`` and ``lseek`` are not defined, so that
    # the kernel stops requesting them, and handles locks, permissions and SEEK_HOLE by itself
    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(
        self,
        tree: Tree,
        blocked_programs: Iterable[str] = (),
        refresher: Refresher | None = None,
        siblings: SiblingSource | None = None,
    ) -> None:
        """Create the operations for ``tree``.

        ``blocked_programs`` are the names of programs that get the error EACCES when they read
        bytes that are not cached. ``siblings`` fetches files ahead; None if none are to be fetched.
        """
        self._tree = tree
        self._refresher = refresher
        #: returns the id of the thread that requested the running operation; set by ``Fuse``
        self.caller_thread: Callable[[], int] = lambda: 0
        #: returns the id of the user that requested the running operation; set by ``Fuse``
        self.caller_user: Callable[[], int | None] = lambda: None
        #: returns the value of the root's attribute :data:`STATUS_XATTR`; '' if there is no value
        self.status: Callable[[], str] = lambda: ""
        self.kernel_readahead = KernelReadahead()
        self._indexer_filter = IndexerFilter(blocked_programs, lambda: self.caller_thread())
        self._waiting_reads = WaitingReads(waiting_read_limit())
        #: fetches files that a program probably reads next
        self.siblings = SiblingPrefetcher(
            siblings, tree.children, lambda: self.caller_thread(), self._waiting_reads.has_others
        )
        #: the last error of each path
        self.path_errors = PathErrors()
        self._handle_numbers = itertools.count(1)
        self._file_handles: dict[int, FileHandle] = {}
        self._open_folders: dict[int, _OpenFolder] = {}

    def destroy(self) -> None:
        """Close all open files, because the kernel does not close them after a lazy unmount."""
        for number in list(self._file_handles):
            self.release(None, number)

    def getattr(self, path: str) -> Node:
        _check_name_length(path)
        try:
            node = self._tree.node(path)
        except Exception as error:  # the likely reason is that the path's folder cannot be listed
            self.path_errors.note_failure(os.path.dirname(path), error)
            raise
        if self.path_errors.has_any():
            self.path_errors.clear(os.path.dirname(path))
        return node

    def fgetattr(self, number: int) -> Node:
        """Return the node (the values of ``stat``) that an open file had when it was opened.

        The tree may have another node at the same path now.
        """
        return self._file_handle(number).node

    def readlink(self, path: str) -> str:
        return self._tree.target(path, self.caller_thread(), self.caller_user())

    def opendir(self, path: str) -> int:
        number = next(self._handle_numbers)
        self._open_folders[number] = _OpenFolder(path)
        return number

    def readdir(self, number: int, *, first: bool) -> list[ListedEntry]:
        """Return the whole listing of an open folder. The listing begins with ``.`` and ``..``.

        ``number`` is the number of the open folder. ``first`` is True if the kernel requests the
        first page of the listing.
        """
        listing = self._open_folders[number]
        # the other pages reuse this listing, so a change of the folder between two pages has no
        # effect
        if first:
            listing.entries = self._list_folder(listing.path)
        return listing.entries

    def releasedir(self, _path: str | None, number: int) -> None:
        self._open_folders.pop(number, None)

    def open(self, path: str, flags: int) -> tuple[int, bool, bool]:
        """Open a file. Return the number of the open file, ``keep_cache`` and ``direct_io``.

        ``keep_cache`` is True if the kernel may keep the file's cached pages. ``direct_io`` is True
        for a generated text, whose length may change.
        """
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly(f"{path} cannot be written: onefs is read-only.")
        with self.path_errors.record_outcome(path):
            node, handle = self._tree.open(path)
        self.siblings.note_open(path)
        self.kernel_readahead.set_width(in_parts=handle.in_parts)
        number = next(self._handle_numbers)
        self._file_handles[number] = FileHandle(
            path,
            node,
            handle,
            self._waiting_reads,
            self._indexer_filter,
            self.path_errors,
            self.siblings,
        )
        # without ``direct_io``, the kernel reads only as many bytes as a text had before
        return number, handle.keep_cache, isinstance(handle, TextHandle)

    def read_buf(self, number: int, offset: int, size: int) -> Extent:
        """Return the range of bytes to read from an open file; see :meth:`FileHandle.extent`."""
        return self._file_handle(number).extent(offset, size)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of an open file (see :meth:`FileHandle.read`). Only libfuse 2 needs this."""
        return self._file_handle(number).read(offset, size)

    def release(self, _path: str | None, number: int) -> None:
        file = self._file_handles.pop(number, None)
        if file is not None:
            file.handle.close()

    def getxattr(self, path: str, name: str) -> bytes:
        if name.startswith(XATTR_PREFIX):
            unlisted = self._unlisted_xattr(name) if path == "/" else None
            value = unlisted or self._xattrs(path).get(name)
            if value is not None:
                return os.fsencode(value)
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def listxattr(self, path: str) -> list[str]:
        return list(self._xattrs(path))

    def statfs(self, _path: str) -> dict[str, int]:
        total, free = (size // _STATFS_BLOCK_BYTES for size in self._tree.space())
        return {
            "f_bsize": _STATFS_BLOCK_BYTES,
            "f_frsize": _STATFS_BLOCK_BYTES,
            "f_blocks": total,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": _MAX_NAME_BYTES,
        }

    def _unlisted_xattr(self, name: str) -> str | None:
        """Return the value of an attribute of the root that :meth:`listxattr` does not list.

        Return None if there is no such attribute.
        """
        if name == STATUS_XATTR:
            return self.status()
        return self._refresher.xattr_value(name) if self._refresher else None

    def _xattrs(self, path: str) -> dict[str, str]:
        """Return the extended attributes of ``path``: the tree's attributes, and ``error``.

        ``error`` is the message of the last operation on ``path`` if this operation has failed.
        """
        values = self._tree.xattrs(path)
        error = self.path_errors.error_of(path)
        # the tree's own attribute ``error`` takes precedence
        return {XATTR_PREFIX + "error": error, **values} if error else values

    def _list_folder(self, path: str) -> list[ListedEntry]:
        with self.path_errors.record_outcome(path):
            return self._tree.entries(path)

    def _file_handle(self, number: int) -> FileHandle:
        try:
            return self._file_handles[number]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None


def _check_name_length(path: str) -> None:
    """Raise OSError (ENAMETOOLONG) if the path's last name is longer than _MAX_NAME_BYTES."""
    # The kernel looks up each name of a path separately, and also requests names of 1,024 bytes and
    # more.
    name = path[path.rfind("/") + 1 :]
    if len(name) > _SHORT_NAME_CHARACTERS and len(os.fsencode(name)) > _MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


class ErrorNumbers:
    """Turn exceptions into errnos.

    An exception without an errno becomes EIO. It is logged once for each line of code that raises
    it.
    """

    def __init__(self) -> None:
        self._logged: set[tuple[type[BaseException], str]] = set()

    def errno_of(self, error: BaseException, operation: str) -> int:
        """Return the positive errno for ``error``, which ``operation`` raised."""
        if isinstance(error, (OnefsError, OSError)):
            number = error.errno
            if number == errno.EAGAIN:
                # Python's files take it for "no bytes now": read() returns None, without an error
                return errno.EBUSY
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
        log.error(
            "the file operation %s failed with an unexpected error (EIO)", operation, exc_info=error
        )
