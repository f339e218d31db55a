"""libfuse: choice of the library, and process settings that are needed before it runs.

No other module imports ``mfusepy``: it chooses its library while it is being imported, so the
choice must be made before.
"""

from __future__ import annotations

import ctypes
import os
import threading
from shutil import which
from types import ModuleType

from onefs.errors import MountError, reason_of

#: libfuse 3 first: if both are installed, mfusepy by itself chooses libfuse 2, which lacks
#: readdirplus. libfuse 3.17 changed the library's number to 4.
_LIBFUSE_NAMES = ("libfuse3.so.4", "libfuse3.so.3", "libfuse.so.2")
_INSTALL_HINT = "install fuse3: sudo apt-get install fuse3"
_FUSE_DEVICE = "/dev/fuse"

_MIB = 1 << 20
#: glibc's mallopt: (parameter, value). libfuse allocates and frees a buffer for each request;
#: returning that memory to the kernel each time makes reads two to four times slower. 32 MiB is the
#: largest threshold that glibc accepts. Two arenas are enough, since callbacks hold the GIL; with
#: more, each thread would have its own padding.
_MALLOPT_SETTINGS = (
    (-3, 32 * _MIB),  # M_MMAP_THRESHOLD
    (-1, 512 * _MIB),  # M_TRIM_THRESHOLD
    (-2, 16 * _MIB),  # M_TOP_PAD
    (-8, 2),  # M_ARENA_MAX
)
#: bytes of stack of a libfuse thread (its default is ``ulimit -s``, 8 MiB, which several hundred
#: threads multiply into more address space than batch systems allow)
_THREAD_STACK_BYTES = 1 * _MIB


def check_can_mount(device: str = _FUSE_DEVICE) -> None:
    """Raise :class:`MountError`, with advice, unless this user can mount on this machine."""
    _find_library()
    if not os.path.exists(device):
        raise MountError(
            f"There is no {device}: load the kernel's fuse module (sudo modprobe fuse), or start "
            f"the container with --device {device} --cap-add SYS_ADMIN."
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise MountError(
            f"{device} cannot be opened by this user: an administrator has to allow it "
            f"(chmod 0666 {device}, or add you to the group that owns it)."
        )
    if os.geteuid() != 0 and not which("fusermount3") and not which("fusermount"):
        raise MountError(
            f"There is no fusermount3, which mounts for ordinary users: {_INSTALL_HINT}."
        )


def load_mfusepy() -> ModuleType:
    """Import mfusepy, with libfuse 3 if it is installed. Raises :class:`MountError` without one.

    ``FUSE_LIBRARY_PATH`` or ``FUSE_LIBRARY_NAME`` in the environment override the choice.
    """
    name = _find_library()
    if name is not None:
        os.environ["FUSE_LIBRARY_PATH"] = name
    try:
        import mfusepy
    except (OSError, AttributeError) as error:
        raise MountError(
            f"libfuse cannot be used ({reason_of(error)}): {_INSTALL_HINT}."
        ) from error
    module: ModuleType = mfusepy
    return module


def tune_process() -> None:
    """Set memory allocator and thread stack size of this process for libfuse."""
    os.environ.setdefault("FUSE_THREAD_STACK", str(_THREAD_STACK_BYTES))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    for parameter, value in _MALLOPT_SETTINGS:
        mallopt(parameter, value)


class PinnedThreadStates:
    """Keeps the Python thread state of each libfuse thread until the thread ends.

    A callback on a thread that Python did not start creates a thread state, and frees it when it
    returns. One more reference per thread, taken once and released when the thread ends, makes
    4 KiB random reads 1.6 times as fast. The thread that creates this object is excluded: it was
    started by Python.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._local.pinned = True
        self._state_key = ctypes.c_uint()
        _libc.pthread_key_create(ctypes.byref(self._state_key), _thread_end_destructor)
        _libc.pthread_key_create(ctypes.byref(_cleared_state_key), _delete_thread_state)

    def pin(self) -> None:
        """Keep the calling thread's state. Cheap if it is kept already."""
        if hasattr(self._local, "pinned"):
            return
        self._local.pinned = True
        ctypes.pythonapi.PyGILState_Ensure()
        state = ctypes.c_void_p(_current_thread_state())
        _libc.pthread_setspecific(self._state_key, state)


def _clear_thread_state(state: int) -> None:
    """Clear the state of an ending thread; called as a destructor of thread-local storage.

    The C library has already cleared Python's own slot (POSIX: each value is set to NULL, then its
    destructor runs), so this callback runs in a new state, and the old one is unused. It is not
    deleted here: from Python 3.12 on, deleting any state clears the slot of the deleting thread,
    and this callback could not return. A second destructor, which is not Python, deletes it.
    """
    if state != _current_thread_state():
        ctypes.pythonapi.PyThreadState_Clear(ctypes.c_void_p(state))
        _libc.pthread_setspecific(_cleared_state_key, ctypes.c_void_p(state))


_libc = ctypes.CDLL(None)
#: never freed: the C library has its address
_thread_end_destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_clear_thread_state)
#: the slot of a thread's state after it was cleared
_cleared_state_key = ctypes.c_uint()
#: needs no GIL
_delete_thread_state = ctypes.cast(ctypes.pythonapi.PyThreadState_Delete, ctypes.c_void_p)
_current_thread_state = ctypes.pythonapi.PyThreadState_Get
_current_thread_state.restype = ctypes.c_void_p


def _find_library() -> str | None:
    """Return the name of the libfuse to load; None if the environment names one."""
    if os.environ.get("FUSE_LIBRARY_PATH") or os.environ.get("FUSE_LIBRARY_NAME"):
        return None
    for name in _LIBFUSE_NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise MountError(f"libfuse is not installed: {_INSTALL_HINT}.")
