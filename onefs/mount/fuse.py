"""libfuse's callbacks by mfusepy: the only module that uses libfuse's C types.

Most of mfusepy's methods are used as they are. Those are replaced that are slow, or lack a feature
of libfuse 3: readdirplus, ``read_buf`` with a descriptor, ``getattr`` without a dict, ``open`` with
``keep_cache``, and the translation of errors.

Importing this module loads libfuse, and raises :class:`onefs.errors.MountError` without one.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from onefs.config.file_attributes import FileAttributes
from onefs.lowlevel.mountinfo import FUSE_SUBTYPE
from onefs.mount import request_limits
from onefs.mount.file_handle import Extent
from onefs.mount.libfuse import PinnedThreadStates, load_mfusepy
from onefs.mount.operations import ErrorNumbers, Operations
from onefs.tree.nodes import XATTR_PREFIX, Node, NodeKind

mfusepy: Any = load_mfusepy()

#: (major, minor) of libfuse
LIBFUSE_VERSION: tuple[int, int] = (mfusepy.fuse_version_major, mfusepy.fuse_version_minor)

#: the owner may write, so that copies of files are writable: the mount itself is read-only
_FOLDER_MODE, _FILE_MODE, _LINK_MODE = 0o755, 0o644, 0o777
#: bytes of one read of a program with buffers (``st_blksize``): the kernel's read-ahead window
_STAT_BLOCK_BYTES = 128 * 1024
#: the kernel's TTL in seconds for names and attributes, and for names that do not exist
_KERNEL_CACHE_SECONDS = 60
_KERNEL_NEGATIVE_CACHE_SECONDS = 2
#: both TTLs if the kernel cannot be made to drop names: a refresh waits for their end
_FALLBACK_CACHE_SECONDS = 1
#: FUSE_NOTIFY_INC_EPOCH, a ``struct fuse_out_header``: its length, the code, no request. It makes
#: all names of the mount expire in the kernel, from protocol 7.44 (Linux 6.16) on
_INC_EPOCH_MESSAGE = struct.pack("=IiQ", 16, 8, 0)
#: if this variable is set, the kernel is treated as an older one; for tests
_OLD_KERNEL_VARIABLE = "ONEFS_TEST_OLD_KERNEL"
_NANOSECONDS_PER_SECOND = 1_000_000_000
_XATTR_PREFIX = XATTR_PREFIX.encode()
#: FUSE_FILL_DIR_PLUS: the entry contains all attributes
_FILL_DIR_PLUS = 2
#: FUSE_CAP_SPLICE_WRITE: replies go from the descriptor to the kernel without a copy
_CAP_SPLICE_WRITE = 1 << 7
#: FUSE_CAP_READDIRPLUS_AUTO: the kernel guesses whether a listing should contain attributes, and
#: often requests those of each file separately; here, each listing should contain them
_CAP_READDIRPLUS_AUTO = 1 << 14
#: FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY: a descriptor, at ``pos``, all of it
_FD_BUFFER_FLAGS = 2 | 4 | 8


class _FuseBufvec(ctypes.Structure):
    """``struct fuse_bufvec`` with its one ``struct fuse_buf``.

    In C, the buffer is part of the structure; mfusepy 3.1 declares a pointer instead. ``spare`` is
    the member that libfuse 3.17 added.
    """

    _fields_ = (
        ("count", ctypes.c_size_t),
        ("idx", ctypes.c_size_t),
        ("off", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("mem", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("pos", ctypes.c_int64),
        ("spare", ctypes.c_size_t),
    )


#: libfuse's first version with fuse_invalidate_path
_INVALIDATE_MIN_VERSION = (3, 2)

_calloc = ctypes.CDLL(None).calloc
_calloc.restype = ctypes.c_void_p
_calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
_PointerPointer = ctypes.POINTER(ctypes.c_void_p)


# libfuse 2 uses the plain ``read``.
Operations.read_buf.libfuse_ignore = LIBFUSE_VERSION[0] < 3  # type: ignore[attr-defined]


_SESSION_FUNCTIONS = (
    "fuse_exit",
    "fuse_get_session",
    "fuse_session_exited",
    *(("fuse_session_fd",) if LIBFUSE_VERSION[0] >= 3 else ()),
)


class FuseSession:
    """libfuse's loop while it runs."""

    def __init__(self, fuse_pointer: int) -> None:
        self._library: Any = mfusepy._libfuse
        for function in _SESSION_FUNCTIONS:
            getattr(self._library, function).argtypes = (ctypes.c_void_p,)
        self._library.fuse_get_session.restype = ctypes.c_void_p
        self._fuse = fuse_pointer
        self._session: int = self._library.fuse_get_session(fuse_pointer)
        #: the kernel's TTL in seconds for names if it cannot be made to drop them; else 0
        self.name_cache_seconds = 0 if self.expire_names() else _FALLBACK_CACHE_SECONDS
        #: whether libfuse can invalidate the kernel's caches of a path
        self.can_invalidate = LIBFUSE_VERSION >= _INVALIDATE_MIN_VERSION
        if self.can_invalidate:
            self._library.fuse_invalidate_path.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

    def exit(self) -> None:
        """Request the loop's end; it checks for this when a signal interrupts it."""
        self._library.fuse_exit(self._fuse)

    def invalidate_path(self, path: str) -> None:
        """Invalidate the kernel's caches of a path. Must not be called by an operation on it.

        libfuse's result is ignored: it fails for paths that the kernel has not cached.
        """
        self._library.fuse_invalidate_path(self._fuse, os.fsencode(path))

    def expire_names(self) -> bool:
        """Make the kernel look up all names again, even those of files that do not exist.

        Returns False if the kernel or libfuse is too old for this.
        """
        if LIBFUSE_VERSION[0] < 3 or os.environ.get(_OLD_KERNEL_VARIABLE):
            return False
        with suppress(OSError):
            os.write(self._library.fuse_session_fd(self._session), _INC_EPOCH_MESSAGE)
            return True
        return False

    def has_exited(self) -> bool:
        """Whether the loop's end was requested, or the kernel has ended the mount."""
        return bool(self._library.fuse_session_exited(self._session))


class Fuse(mfusepy.FUSE):  # type: ignore[misc]
    """One mount. The constructor runs it, and returns when it is unmounted."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: str,
        options: dict[str, Any],
        appearance: FileAttributes,
        on_ready: Callable[[FuseSession], None],
        on_end: Callable[[], None],
    ) -> None:
        """``on_ready`` is called with libfuse's loop when the kernel has accepted the mount.

        The loop must not be used after ``on_end`` has returned. Raises RuntimeError with libfuse's
        error code if mounting fails.
        """
        self._operations = operations
        operations.caller_thread = lambda: int(mfusepy.fuse_get_context()[2])
        operations.caller_user = lambda: int(mfusepy.fuse_get_context()[0])
        self._on_ready = on_ready
        self._on_end = on_end
        self._pinned_threads = PinnedThreadStates()
        self._error_numbers = ErrorNumbers()
        self._uid = os.getuid() if appearance.uid is None else appearance.uid
        self._gid = os.getgid() if appearance.gid is None else appearance.gid
        self._modes = _modes_by_kind(appearance.umask)
        super().__init__(
            operations, mountpoint, encoding=sys.getfilesystemencoding(), foreground=True, **options
        )

    def _wrapper(self, func: Callable[..., int | None], *args: Any) -> int:
        self._pinned_threads.pin()
        try:
            return func(*args) or 0
        except BaseException as error:  # ctypes would ignore the exception, and return 0
            return -self._error_numbers.errno_of(error, func.__name__)

    def _init(self, conn: Any, config: Any) -> None:
        info = conn.contents
        info.max_background = request_limits.MAX_BACKGROUND_REQUESTS
        info.congestion_threshold = request_limits.MAX_BACKGROUND_REQUESTS
        info.want |= info.capable & _CAP_SPLICE_WRITE
        info.want &= ~_CAP_READDIRPLUS_AUTO
        session = FuseSession(mfusepy._libfuse.fuse_get_context().contents.fuse)
        if config and session.name_cache_seconds:
            for timeout in ("entry_timeout", "attr_timeout", "negative_timeout"):
                setattr(config.contents, timeout, session.name_cache_seconds)
        self._on_ready(session)

    def destroy(self, _private_data: Any) -> None:
        self._on_end()
        self._operations.destroy()

    def fgetattr(self, path: bytes | None, buf: Any, fip: Any) -> None:
        if path is None:
            node = self._operations.fgetattr(fip.contents.fh)
        else:
            node = self._operations.getattr(os.fsdecode(path))
        self._fill_constant(buf.contents)
        self._fill_stat(buf.contents, node)

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int, *more: Any) -> int:
        # ``ls -l`` requests two other attributes of each file: so no path is looked up for them,
        # and no exception raised
        if not name.startswith(_XATTR_PREFIX):
            return -errno.ENODATA
        return int(super().getxattr(path, name, value, size, *more))

    def readdir_fuse_3(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any, _flags: int
    ) -> None:
        page = self._listing_page(offset, fip)
        attributes = mfusepy.c_stat()
        self._fill_constant(attributes)
        # Offsets count from 1: with 0, libfuse 3.14 ignores that the entries have all attributes.
        mtime = None
        for place, (name, node) in page:
            if node.mtime != mtime:  # it is often the same as that of the previous file
                mtime = node.mtime
                _fill_times(attributes, mtime)
            self._fill_node(attributes, node)
            # Without a size, the entry has a name and a kind only: the kernel requests the rest.
            flags = 0 if node.size is None else _FILL_DIR_PLUS
            if filler(buf, name, attributes, place + 1, flags):
                return

    def readdir_fuse_2(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any
    ) -> None:
        attributes = mfusepy.c_stat()
        for place, (name, node) in self._listing_page(offset, fip):
            self._fill_stat(attributes, node)
            if filler(buf, name, attributes, place + 1):
                return

    def _listing_page(self, offset: int, fip: Any) -> Iterator[tuple[int, tuple[bytes, Node]]]:
        entries = self._operations.readdir(fip.contents.fh, first=offset == 0)
        return enumerate(itertools.islice(entries, offset, None), offset)

    def open(self, path: bytes, fip: Any) -> None:
        info = fip.contents
        info.fh, keep_cache, direct = self._operations.open(os.fsdecode(path), info.flags)
        info.keep_cache = keep_cache
        info.direct_io = direct

    def read(self, _path: bytes | None, buf: Any, size: int, offset: int, fip: Any) -> int:
        content = self._operations.read(fip.contents.fh, offset, size)
        ctypes.memmove(buf, content, len(content))
        return len(content)

    def read_buf(self, _path: bytes | None, out: Any, size: int, offset: int, fip: Any) -> None:
        extent = self._operations.read_buf(fip.contents.fh, offset, size)
        ctypes.cast(out, _PointerPointer)[0] = _make_bufvec(extent)

    def _fill_constant(self, attributes: Any) -> None:
        attributes.st_nlink = 1
        attributes.st_uid = self._uid
        attributes.st_gid = self._gid
        attributes.st_blksize = _STAT_BLOCK_BYTES

    def _fill_stat(self, attributes: Any, node: Node) -> None:
        self._fill_node(attributes, node)
        _fill_times(attributes, node.mtime)

    def _fill_node(self, attributes: Any, node: Node) -> None:
        attributes.st_mode = self._modes[node.kind]
        attributes.st_ino = node.ino
        size = node.size or 0
        attributes.st_size = size
        # Also for files that are not cached: tar --sparse reads a file without blocks as zeros.
        attributes.st_blocks = (size + 511) // 512


def mount_options(fsname: str, *, allow_other: bool) -> dict[str, Any]:
    """Return libfuse's ``-o`` options.

    ``fsname`` should contain a colon, by which programs recognize a remote file system.
    """
    # with libfuse 2, the TTLs cannot be changed after mounting, and names cannot be dropped
    is_libfuse_3 = LIBFUSE_VERSION[0] >= 3
    timeout = _KERNEL_CACHE_SECONDS if is_libfuse_3 else _FALLBACK_CACHE_SECONDS
    negative = _KERNEL_NEGATIVE_CACHE_SECONDS if is_libfuse_3 else _FALLBACK_CACHE_SECONDS
    options: dict[str, Any] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "default_permissions": True,
        "allow_other": allow_other,
        "fsname": fsname.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": FUSE_SUBTYPE,
        "use_ino": True,
        "attr_timeout": timeout,
        "entry_timeout": timeout,
        "negative_timeout": negative,
    }
    if is_libfuse_3:
        options["max_idle_threads"] = request_limits.MAX_IDLE_THREADS
    if LIBFUSE_VERSION >= (3, 12):  # before, the number of threads had no bound
        options["max_threads"] = request_limits.MAX_THREADS
    return options


def _modes_by_kind(umask: int) -> dict[NodeKind, int]:
    """Return the mode of each kind of node, less ``umask``; a link's mode is fixed."""
    return {
        NodeKind.DIRECTORY: stat.S_IFDIR | _FOLDER_MODE & ~umask,
        NodeKind.FILE: stat.S_IFREG | _FILE_MODE & ~umask,
        NodeKind.LINK: stat.S_IFLNK | _LINK_MODE,
    }


def _fill_times(attributes: Any, mtime: float) -> None:
    seconds = int(mtime // 1)
    nanoseconds = int((mtime - seconds) * _NANOSECONDS_PER_SECOND)
    for time in (attributes.st_mtimespec, attributes.st_ctimespec, attributes.st_atimespec):
        time.tv_sec = seconds
        time.tv_nsec = nanoseconds


def _make_bufvec(extent: Extent) -> int:
    """Return the address of a buffer that describes ``extent``. libfuse frees it."""
    address: int = _calloc(1, ctypes.sizeof(_FuseBufvec))
    buffer = _FuseBufvec.from_address(address)
    buffer.count = 1
    if extent.length:
        buffer.flags = _FD_BUFFER_FLAGS
        buffer.size = extent.length
        buffer.fd = extent.fd
        buffer.pos = extent.offset
    return address
