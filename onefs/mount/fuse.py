"""Callbacks for libfuse, made with mfusepy. Only this module uses libfuse's C types.

Most of mfusepy's methods are used unchanged. A method is replaced here if mfusepy's method is slow
or lacks a feature of libfuse 3. The replacements provide readdirplus, ``read_buf`` with a
descriptor, ``getattr`` without a dict, ``open`` with ``keep_cache``, and an errno for each error.

Importing this module loads libfuse. Raises :class:`onefs.errors.MountError` if libfuse is not
installed.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from onefs.config.file_attributes import FileAttributes
from onefs.lowlevel.mountinfo import FUSE_SUBTYPE
from onefs.mount import request_limits
from onefs.mount.file_handle import Extent
from onefs.mount.libfuse import PinnedThreadStates, load_mfusepy
from onefs.mount.operations import ErrorNumbers, Operations
from onefs.tree.nodes import XATTR_PREFIX, ListedEntry, Node, NodeKind

mfusepy: Any = load_mfusepy()

#: the version of libfuse: (major, minor)
LIBFUSE_VERSION: tuple[int, int] = (mfusepy.fuse_version_major, mfusepy.fuse_version_minor)

#: the modes of folders, files and links. The mount is read-only, but the modes allow the owner to
#: write, so that copies of the files are writable.
_FOLDER_MODE, _FILE_MODE, _LINK_MODE = 0o755, 0o644, 0o777
#: size in bytes of the reads of programs that use buffers (``st_blksize``). It is equal to the
#: kernel's default read-ahead window.
_STAT_BLOCK_BYTES = 128 * 1024
#: seconds for which the kernel caches names and attributes, and names that do not exist
_KERNEL_CACHE_SECONDS = 60
_KERNEL_NEGATIVE_CACHE_SECONDS = 2
#: seconds that replace the two values above if the kernel cannot be told to drop names. In this
#: case, a refresh waits for this time.
_FALLBACK_CACHE_SECONDS = 1
#: the message FUSE_NOTIFY_INC_EPOCH, which makes all names of the mount expire in the kernel. It is
#: a ``struct fuse_out_header``: the length 16, the code 8, and 0 because it answers no request. It
#: needs protocol 7.44 (Linux 6.16) or later.
_INC_EPOCH_MESSAGE = struct.pack("=IiQ", 16, 8, 0)
#: for tests: if this environment variable is set, the kernel is treated as too old for the message
_OLD_KERNEL_VARIABLE = "ONEFS_TEST_OLD_KERNEL"
#: most ``struct stat`` that are kept
_MAX_KEPT_STATS = 4096
_NANOSECONDS_PER_SECOND = 1_000_000_000
_XATTR_PREFIX = XATTR_PREFIX.encode()
#: FUSE_FILL_DIR_PLUS: the entry of a listing contains all attributes
_FILL_DIR_PLUS = 2
#: FUSE_CAP_SPLICE_WRITE: bytes move from the descriptor to the kernel without being copied
_CAP_SPLICE_WRITE = 1 << 7
#: FUSE_CAP_READDIRPLUS_AUTO: the kernel guesses whether a listing should contain attributes, and
#: often requests the attributes of each file separately. It is switched off, so that every listing
#: contains attributes.
_CAP_READDIRPLUS_AUTO = 1 << 14
#: FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY: the buffer is a descriptor, libfuse reads
#: from ``pos``, and libfuse repeats short reads until it has all bytes
_FD_BUFFER_FLAGS = 2 | 4 | 8


#: the C type ``struct fuse_bufvec``, containing one ``struct fuse_buf``: count, idx, off; size,
#: flags, mem, fd, pos, and a member that was added in libfuse 3.17. In C, the buffer is part of the
#: structure, but mfusepy 3.1 declares a pointer.
_BUFVEC = struct.Struct("@NNNNiPiqN")

#: the first version of libfuse that has the function fuse_invalidate_path
_INVALIDATE_MIN_VERSION = (3, 2)

# functions of a PyDLL keep the GIL, which another request may be waiting for
_libc = ctypes.PyDLL(None)
_malloc, _memcpy = _libc.malloc, _libc.memcpy
_malloc.restype, _malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
_memcpy.restype, _memcpy.argtypes = None, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
_PointerPointer = ctypes.POINTER(ctypes.c_void_p)


# libfuse 2 calls ``read`` instead of ``read_buf``.
Operations.read_buf.libfuse_ignore = LIBFUSE_VERSION[0] < 3  # type: ignore[attr-defined]


_SESSION_FUNCTIONS = (
    "fuse_exit",
    "fuse_get_session",
    "fuse_session_exited",
    *(("fuse_session_fd",) if LIBFUSE_VERSION[0] >= 3 else ()),
)


class FuseSession:
    """The running loop of libfuse, which receives the kernel's requests."""

    def __init__(self, fuse_pointer: int) -> None:
        self._library: Any = mfusepy._libfuse
        for function in _SESSION_FUNCTIONS:
            getattr(self._library, function).argtypes = (ctypes.c_void_p,)
        self._library.fuse_get_session.restype = ctypes.c_void_p
        self._fuse = fuse_pointer
        self._session: int = self._library.fuse_get_session(fuse_pointer)
        #: 0 if the kernel can be told to drop names. Otherwise, the number of seconds for which the
        #: kernel caches names.
        self.name_cache_seconds = 0 if self.expire_names() else _FALLBACK_CACHE_SECONDS
        #: whether libfuse can invalidate the kernel's caches of a path
        self.can_invalidate = LIBFUSE_VERSION >= _INVALIDATE_MIN_VERSION
        if self.can_invalidate:
            self._library.fuse_invalidate_path.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

    def exit(self) -> None:
        """Request the loop's end, and return at once.

        The loop ends when a signal interrupts the loop's wait for a request.
        """
        self._library.fuse_exit(self._fuse)

    def invalidate_path(self, path: str) -> None:
        """Make the kernel drop the attributes and pages that it has cached for ``path``.

        An operation on ``path`` must not call this method: the operation would wait for itself.
        """
        # the return code is an error for each path that the kernel has not cached, so ignore it
        self._library.fuse_invalidate_path(self._fuse, os.fsencode(path))

    def expire_names(self) -> bool:
        """Make the kernel look up all names again, including names that did not exist.

        Return False if the kernel or libfuse is too old.
        """
        if LIBFUSE_VERSION[0] < 3 or os.environ.get(_OLD_KERNEL_VARIABLE):
            return False
        with suppress(OSError):
            os.write(self._library.fuse_session_fd(self._session), _INC_EPOCH_MESSAGE)
            return True
        return False

    def has_exited(self) -> bool:
        """Whether the end of the loop was requested, or the kernel has ended the mount."""
        return bool(self._library.fuse_session_exited(self._session))


class Fuse(mfusepy.FUSE):  # type: ignore[misc]
    """One mount. The constructor mounts, serves requests, and returns after the unmount."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: str,
        options: dict[str, Any],
        appearance: FileAttributes,
        on_ready: Callable[[FuseSession], None],
        on_end: Callable[[], None],
    ) -> None:
        """Mount, and serve requests until the mount is unmounted.

        - ``options``: the result of :func:`mount_options`
        - ``appearance``: the user and the group of all files, and the umask for their modes
        - ``on_ready``: called with libfuse's loop when the kernel has accepted the mount
        - ``on_end``: called when the mount ends; the loop must not be used after its return

        Raises RuntimeError, with libfuse's error code, if mounting fails.
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
        #: the last ``struct stat`` for each inode number, and the node that it was made from
        self._stats: dict[int, tuple[Node, Any]] = {}
        super().__init__(
            operations, mountpoint, encoding=sys.getfilesystemencoding(), foreground=True, **options
        )

    def _wrapper(self, func: Callable[..., int | None], *args: Any) -> int:
        self._pinned_threads.pin()
        try:
            return func(*args) or 0
        except BaseException as error:  # if it were raised, ctypes would ignore it and return 0
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
            node = self._operations.getattr(path.decode(self.encoding, self.errors))
        buf[0] = self._stat_of(node)

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int, *more: Any) -> int:
        # For each file, ``ls -l`` requests two attributes that onefs does not have. To be fast,
        # these requests look up no path and raise no exception.
        if not name.startswith(_XATTR_PREFIX):
            return -errno.ENODATA
        return int(super().getxattr(path, name, value, size, *more))

    def readdir_fuse_3(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any, _flags: int
    ) -> None:
        page = self._listing_page(offset, fip)
        attributes = mfusepy.c_stat()
        self._fill_constant(attributes)
        # Offsets begin at 1: with offset 0, libfuse 3.14 ignores the attributes of the entries.
        times = _times_of(attributes)
        mtime = None
        for place, (name, kind, ino, size, entry_mtime) in page:
            if entry_mtime != mtime:  # it is often equal to the mtime of the previous file
                mtime = entry_mtime
                _fill_times(times, mtime)
            self._fill_values(attributes, kind, ino, size)
            # If the size is unknown, the entry has only a name and a kind. The kernel requests the
            # attributes later.
            flags = 0 if size is None else _FILL_DIR_PLUS
            if filler(buf, name, attributes, place + 1, flags):
                return

    def readdir_fuse_2(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any
    ) -> None:
        attributes = mfusepy.c_stat()
        for place, (name, kind, ino, size, mtime) in self._listing_page(offset, fip):
            self._fill_values(attributes, kind, ino, size)
            _fill_times(_times_of(attributes), mtime)
            if filler(buf, name, attributes, place + 1):
                return

    def _listing_page(self, offset: int, fip: Any) -> Iterator[tuple[int, ListedEntry]]:
        entries = self._operations.readdir(fip.contents.fh, first=offset == 0)
        return enumerate(itertools.islice(entries, offset, None), offset)

    def open(self, path: bytes, fip: Any) -> None:
        info = fip.contents
        decoded = path.decode(self.encoding, self.errors)
        info.fh, keep_cache, direct = self._operations.open(decoded, info.flags)
        if keep_cache:  # libfuse has set both to 0
            info.keep_cache = 1
        if direct:
            info.direct_io = 1

    def release(self, path: bytes | None, fip: Any) -> None:
        self._operations.release(None, fip.contents.fh)

    def read(self, _path: bytes | None, buf: Any, size: int, offset: int, fip: Any) -> int:
        content = self._operations.read(fip.contents.fh, offset, size)
        ctypes.memmove(buf, content, len(content))
        return len(content)

    def read_buf(self, _path: bytes | None, out: Any, size: int, offset: int, fip: Any) -> None:
        extent = self._operations.read_buf(fip.contents.fh, offset, size)
        ctypes.cast(out, _PointerPointer)[0] = _make_bufvec(extent)

    def _stat_of(self, node: Node) -> Any:
        """Return the ``struct stat`` of a node."""
        # the tree often returns the same node again, and filling a structure takes ctypes long
        known = self._stats.get(node.ino)
        if known is not None and known[0] is node:
            return known[1]
        attributes = mfusepy.c_stat()
        self._fill_constant(attributes)
        self._fill_stat(attributes, node)
        if len(self._stats) >= _MAX_KEPT_STATS:
            self._stats.clear()
        self._stats[node.ino] = node, attributes
        return attributes

    def _fill_constant(self, attributes: Any) -> None:
        attributes.st_nlink = 1
        attributes.st_uid = self._uid
        attributes.st_gid = self._gid
        attributes.st_blksize = _STAT_BLOCK_BYTES

    def _fill_stat(self, attributes: Any, node: Node) -> None:
        self._fill_node(attributes, node)
        _fill_times(_times_of(attributes), node.mtime)

    def _fill_node(self, attributes: Any, node: Node) -> None:
        self._fill_values(attributes, node.kind, node.ino, node.size)

    def _fill_values(self, attributes: Any, kind: NodeKind, ino: int, size: int | None) -> None:
        attributes.st_mode = self._modes[kind]
        attributes.st_ino = ino
        size = size or 0
        attributes.st_size = size
        # Files that are not cached have blocks, too, because tar --sparse does not read a file
        # without blocks: it stores zeros.
        attributes.st_blocks = (size + 511) // 512


def mount_options(fsname: str, *, allow_other: bool) -> dict[str, Any]:
    """Return the ``-o`` options for libfuse.

    ``fsname`` should contain a colon, because programs recognize a remote file system by the colon.
    """
    # with libfuse 2, cache times cannot be changed after mounting, and names cannot be dropped
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
    if LIBFUSE_VERSION >= (3, 12):  # older versions do not limit the number of threads
        options["max_threads"] = request_limits.MAX_THREADS
    return options


def _modes_by_kind(umask: int) -> dict[NodeKind, int]:
    """Return the file mode (``st_mode``) for each kind of entry, without the bits in ``umask``.

    ``umask`` does not change the mode of links.
    """
    return {
        NodeKind.DIRECTORY: stat.S_IFDIR | _FOLDER_MODE & ~umask,
        NodeKind.FILE: stat.S_IFREG | _FILE_MODE & ~umask,
        NodeKind.LINK: stat.S_IFLNK | _LINK_MODE,
    }


def _times_of(attributes: Any) -> tuple[Any, ...]:
    """Return the times in a ``struct stat``, to be set by :func:`_fill_times`."""
    return attributes.st_mtimespec, attributes.st_ctimespec, attributes.st_atimespec


def _fill_times(times: Iterable[Any], mtime: float) -> None:
    seconds = int(mtime // 1)
    nanoseconds = int((mtime - seconds) * _NANOSECONDS_PER_SECOND)
    for time in times:
        time.tv_sec = seconds
        time.tv_nsec = nanoseconds


def _make_bufvec(extent: Extent) -> int:
    """Return the address of a new buffer that describes ``extent``. libfuse frees the buffer."""
    flags, fd, data = 0, 0, 0
    if extent.data:
        data = _copy(extent.data)
    elif extent.length:
        flags, fd = _FD_BUFFER_FLAGS, extent.fd
    return _copy(_BUFVEC.pack(1, 0, 0, extent.length, flags, data, fd, extent.offset, 0))


def _copy(content: bytes) -> int:
    address: int | None = _malloc(len(content))
    if address is None:
        raise MemoryError
    _memcpy(address, content, len(content))
    return address
