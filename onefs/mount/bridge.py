"""libfuse's callbacks, spoken through mfusepy: the only module that knows C types.

mfusepy's own methods are kept where they are good. Replaced are those where its answer is slower
or less than libfuse 3 can give: readdirplus, ``read_buf`` with a descriptor, ``getattr`` without
a dict, ``open`` with ``keep_cache``, and the translation of errors.

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

from onefs.appearance import Appearance
from onefs.mount import limits
from onefs.mount.files import Extent
from onefs.mount.library import PinnedThreads, load
from onefs.mount.mounts import SUBTYPE
from onefs.mount.operations import XATTRS, ErrorNumbers, Operations
from onefs.tree.nodes import Kind, Node

mfusepy: Any = load()

#: (major, minor) of libfuse
VERSION: tuple[int, int] = (mfusepy.fuse_version_major, mfusepy.fuse_version_minor)

#: the owner may write, for the sake of copies: the mount itself is read-only
_FOLDER_MODE, _FILE_MODE, _LINK_MODE = 0o755, 0o644, 0o777
#: what a buffered reader asks for at a time: the kernel's read-ahead window
_BLKSIZE = 128 * 1024
#: seconds for which the kernel may answer by itself: what is there, and what is not
_KERNEL_TIMEOUT = 60
_NEGATIVE_TIMEOUT = 2
#: the same for both, where the kernel cannot be told to drop names: a refresh waits for it
_SHORT_TIMEOUT = 1
#: FUSE_NOTIFY_INC_EPOCH, a ``struct fuse_out_header``: its length, the code, and no request. From
#: protocol 7.44 (Linux 6.16) on, all names that the kernel has of the mount expire with it
_EXPIRE_NAMES = struct.pack("=IiQ", 16, 8, 0)
#: when this variable is set, the kernel is taken for an older one; for tests
_OLD_KERNEL = "ONEFS_TEST_OLD_KERNEL"
_NANOSECONDS = 1_000_000_000
_OURS = XATTRS.encode()
#: FUSE_FILL_DIR_PLUS: the entry carries all that ``stat`` needs
_FILL_DIR_PLUS = 2
#: FUSE_CAP_SPLICE_WRITE: replies go from the descriptor to the kernel without a copy
_SPLICE_WRITE = 1 << 7
#: FUSE_CAP_READDIRPLUS_AUTO: the kernel guesses whether a listing should bring attributes, and
#: then asks for those of most files one by one; the tree has them at hand, so it always should
_READDIRPLUS_AUTO = 1 << 14
#: FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY: a descriptor, at ``pos``, all of it
_FROM_DESCRIPTOR = 2 | 4 | 8


class _Buffer(ctypes.Structure):
    """``struct fuse_bufvec`` with its one ``struct fuse_buf``.

    In C the buffers stand inside the structure; mfusepy 3.1 declares a pointer there. ``spare``
    covers the member that libfuse 3.17 added.
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
_CAN_INVALIDATE = (3, 2)

_calloc = ctypes.CDLL(None).calloc
_calloc.restype = ctypes.c_void_p
_calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
_PointerPointer = ctypes.POINTER(ctypes.c_void_p)


# libfuse 2 gets the plain ``read``.
Operations.read_buf.libfuse_ignore = VERSION[0] < 3  # type: ignore[attr-defined]


_SESSION_FUNCTIONS = (
    "fuse_exit",
    "fuse_get_session",
    "fuse_session_exited",
    *(("fuse_session_fd",) if VERSION[0] >= 3 else ()),
)


class Running:
    """libfuse's loop while it runs."""

    def __init__(self, fuse: int) -> None:
        self._library: Any = mfusepy._libfuse
        for function in _SESSION_FUNCTIONS:
            getattr(self._library, function).argtypes = (ctypes.c_void_p,)
        self._library.fuse_get_session.restype = ctypes.c_void_p
        self._fuse = fuse
        self._session: int = self._library.fuse_get_session(fuse)
        #: seconds after which the kernel has dropped the names that it does not drop when told
        self.names_last = 0 if self.expire_names() else _SHORT_TIMEOUT
        #: an old libfuse cannot make the kernel forget
        self.can_forget = VERSION >= _CAN_INVALIDATE
        if self.can_forget:
            self._library.fuse_invalidate_path.argtypes = (ctypes.c_void_p, ctypes.c_char_p)

    def exit(self) -> None:
        """Let it end; it notices when it is interrupted."""
        self._library.fuse_exit(self._fuse)

    def forget(self, path: str) -> None:
        """Make the kernel forget what it has of a path. Not from an operation on that path.

        What libfuse answers is of no use: a path that the kernel does not know needs none of it.
        """
        self._library.fuse_invalidate_path(self._fuse, os.fsencode(path))

    def expire_names(self) -> bool:
        """Make the kernel look up all names again, also those of what is not there.

        False where the kernel cannot: it is older, or libfuse is.
        """
        if VERSION[0] < 3 or os.environ.get(_OLD_KERNEL):
            return False
        with suppress(OSError):
            os.write(self._library.fuse_session_fd(self._session), _EXPIRE_NAMES)
            return True
        return False

    def exited(self) -> bool:
        """Whether it is to end, or the kernel has let go of the mount."""
        return bool(self._library.fuse_session_exited(self._session))


class Fuse(mfusepy.FUSE):  # type: ignore[misc]
    """One mount. The constructor runs it and returns when it is unmounted."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: str,
        options: dict[str, Any],
        appearance: Appearance,
        on_ready: Callable[[Running], None],
        on_end: Callable[[], None],
    ) -> None:
        """``on_ready`` is called once the kernel knows the mount, with libfuse's loop.

        That must not be used any more after ``on_end`` has returned. Raises RuntimeError, with
        libfuse's own number, when the mount fails.
        """
        self._ours = operations
        operations.reader = lambda: int(mfusepy.fuse_get_context()[2])
        operations.user = lambda: int(mfusepy.fuse_get_context()[0])
        self._on_ready = on_ready
        self._on_end = on_end
        self._pinned = PinnedThreads()
        self._errors = ErrorNumbers()
        self._uid = os.getuid() if appearance.uid is None else appearance.uid
        self._gid = os.getgid() if appearance.gid is None else appearance.gid
        self._modes = _modes(appearance.umask)
        super().__init__(
            operations,
            mountpoint,
            encoding=sys.getfilesystemencoding(),
            foreground=True,
            **options,
        )

    def _wrapper(self, func: Callable[..., int | None], *args: Any) -> int:
        self._pinned.pin()
        try:
            return func(*args) or 0
        except BaseException as error:  # what leaves a ctypes callback is lost, and answers 0
            return -self._errors.errno_of(error, func.__name__)

    def _init(self, conn: Any, config: Any) -> None:
        info = conn.contents
        info.max_background = limits.MAX_BACKGROUND
        info.congestion_threshold = limits.MAX_BACKGROUND
        info.want |= info.capable & _SPLICE_WRITE
        info.want &= ~_READDIRPLUS_AUTO
        running = Running(mfusepy._libfuse.fuse_get_context().contents.fuse)
        if config and running.names_last:
            for timeout in ("entry_timeout", "attr_timeout", "negative_timeout"):
                setattr(config.contents, timeout, running.names_last)
        self._on_ready(running)

    def destroy(self, _private_data: Any) -> None:
        self._on_end()
        self._ours.destroy()

    def fgetattr(self, path: bytes | None, buf: Any, fip: Any) -> None:
        if path is None:
            node = self._ours.fgetattr(fip.contents.fh)
        else:
            node = self._ours.getattr(os.fsdecode(path))
        attributes = buf.contents
        self._fill_constant(attributes)
        self._fill(attributes, node)

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int, *more: Any) -> int:
        # ``ls -l`` asks two of others' for each file: no path is looked at, no exception raised
        if not name.startswith(_OURS):
            return -errno.ENODATA
        return int(super().getxattr(path, name, value, size, *more))

    def readdir_fuse_3(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any, _flags: int
    ) -> None:
        page = self._page(offset, fip)
        attributes = mfusepy.c_stat()
        self._fill_constant(attributes)
        # Offsets count from 1: with 0, libfuse 3.14 forgets that the entries are complete.
        mtime = None
        for place, (name, node) in page:
            if node.mtime != mtime:  # most often that of the file before
                mtime = node.mtime
                _fill_times(attributes, mtime)
            self._fill_what(attributes, node)
            # Without a size, the entry has a name and a kind only: the kernel asks for the rest.
            flags = 0 if node.size is None else _FILL_DIR_PLUS
            if filler(buf, name, attributes, place + 1, flags):
                return

    def readdir_fuse_2(
        self, _path: bytes | None, buf: Any, filler: Any, offset: int, fip: Any
    ) -> None:
        attributes = mfusepy.c_stat()
        for place, (name, node) in self._page(offset, fip):
            self._fill(attributes, node)
            if filler(buf, name, attributes, place + 1):
                return

    def _page(self, offset: int, fip: Any) -> Iterator[tuple[int, tuple[bytes, Node]]]:
        entries = self._ours.readdir(fip.contents.fh, first=offset == 0)
        return enumerate(itertools.islice(entries, offset, None), offset)

    def open(self, path: bytes, fip: Any) -> None:
        info = fip.contents
        info.fh, keep_cache, direct = self._ours.open(os.fsdecode(path), info.flags)
        info.keep_cache = keep_cache
        info.direct_io = direct

    def read(self, _path: bytes | None, buf: Any, size: int, offset: int, fip: Any) -> int:
        content = self._ours.read(fip.contents.fh, offset, size)
        ctypes.memmove(buf, content, len(content))
        return len(content)

    def read_buf(self, _path: bytes | None, out: Any, size: int, offset: int, fip: Any) -> None:
        extent = self._ours.read_buf(fip.contents.fh, offset, size)
        ctypes.cast(out, _PointerPointer)[0] = _buffer(extent)

    def _fill_constant(self, attributes: Any) -> None:
        attributes.st_nlink = 1
        attributes.st_uid = self._uid
        attributes.st_gid = self._gid
        attributes.st_blksize = _BLKSIZE

    def _fill(self, attributes: Any, node: Node) -> None:
        self._fill_what(attributes, node)
        _fill_times(attributes, node.mtime)

    def _fill_what(self, attributes: Any, node: Node) -> None:
        attributes.st_mode = self._modes[node.kind]
        attributes.st_ino = node.ino
        size = node.size or 0
        attributes.st_size = size
        # Also for what is not cached: tar --sparse takes a file without blocks for a hole.
        attributes.st_blocks = (size + 511) // 512


def mount_options(fsname: str, *, allow_other: bool) -> dict[str, Any]:
    """What is given to libfuse as ``-o``. ``fsname`` should hold a colon, the sign of a remote."""
    # libfuse 2 takes no other value once it is mounted, and knows no way to drop names
    settable = VERSION[0] >= 3
    timeout = _KERNEL_TIMEOUT if settable else _SHORT_TIMEOUT
    options: dict[str, Any] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "default_permissions": True,
        "allow_other": allow_other,
        "fsname": fsname.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": SUBTYPE,
        "use_ino": True,
        "attr_timeout": timeout,
        "entry_timeout": timeout,
        "negative_timeout": _NEGATIVE_TIMEOUT if settable else _SHORT_TIMEOUT,
    }
    if VERSION[0] >= 3:
        options["max_idle_threads"] = limits.IDLE_THREADS
    if VERSION >= (3, 12):  # before, the number of threads had no bound
        options["max_threads"] = limits.MAX_THREADS
    return options


def _modes(umask: int) -> dict[Kind, int]:
    """Return the modes of all kinds of entry, less ``umask``; links have no modes of their own."""
    return {
        Kind.DIRECTORY: stat.S_IFDIR | _FOLDER_MODE & ~umask,
        Kind.FILE: stat.S_IFREG | _FILE_MODE & ~umask,
        Kind.LINK: stat.S_IFLNK | _LINK_MODE,
    }


def _fill_times(attributes: Any, mtime: float) -> None:
    seconds = int(mtime // 1)
    nanoseconds = int((mtime - seconds) * _NANOSECONDS)
    for time in (attributes.st_mtimespec, attributes.st_ctimespec, attributes.st_atimespec):
        time.tv_sec = seconds
        time.tv_nsec = nanoseconds


def _buffer(extent: Extent) -> int:
    """The address of a buffer that stands for ``extent``. libfuse frees it."""
    address: int = _calloc(1, ctypes.sizeof(_Buffer))
    buffer = _Buffer.from_address(address)
    buffer.count = 1
    if extent.length:
        buffer.flags = _FROM_DESCRIPTOR
        buffer.size = extent.length
        buffer.fd = extent.fd
        buffer.pos = extent.offset
    return address
