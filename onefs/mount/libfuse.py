"""libfuse: which one is used, and what has to be set before it runs.

Nothing else in onefs imports ``mfusepy``: it picks its library while it is being imported, so the
choice must come first.
"""

from __future__ import annotations

import ctypes
import os
import threading
from shutil import which
from types import ModuleType

from onefs.errors import MountError, reason_of

#: libfuse 3 first: mfusepy by itself takes libfuse 2 when both are there, which has neither
#: readdirplus nor more than one directory entry format. 3.17 changed the library's number to 4.
_LIBFUSE_NAMES = ("libfuse3.so.4", "libfuse3.so.3", "libfuse.so.2")
_INSTALL_HINT = "install fuse3: sudo apt-get install fuse3"
_FUSE_DEVICE = "/dev/fuse"

_MIB = 1 << 20
#: glibc's mallopt: (parameter, value). libfuse allocates and frees a buffer a request; giving that
#: memory back to the kernel each time costs two to four times the speed of a read. 32 MiB is the
#: largest threshold that glibc takes. Two arenas are enough, since callbacks hold the GIL, and
#: keep the padding from being paid once a thread.
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
    """Raise :class:`MountError`, saying what to do, unless this user can mount here."""
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
    """mfusepy, over libfuse 3 where there is one. Raises :class:`MountError` when there is none.

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
    """Set this process up for libfuse: the allocator and the size of its threads' stacks."""
    os.environ.setdefault("FUSE_THREAD_STACK", str(_THREAD_STACK_BYTES))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    for parameter, value in _MALLOPT_SETTINGS:
        mallopt(parameter, value)


class PinnedThreadStates:
    """Keeps the Python state of each libfuse thread for as long as the thread lives.

    A callback on a thread that Python did not start builds a thread state and frees it when it
    returns. One more reference for each thread, taken once, makes 4 KiB random reads 1.6 times
    as fast. It is given back when the thread ends. The thread that makes this object is left
    alone: it is Python's own.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._local.pinned = True
        self._state_key = ctypes.c_uint()
        _libc.pthread_key_create(ctypes.byref(self._state_key), _thread_end_destructor)
        _libc.pthread_key_create(ctypes.byref(_cleared_state_key), _delete_thread_state)

    def pin(self) -> None:
        """Keep the calling thread's state. Cheap when it already is."""
        if hasattr(self._local, "pinned"):
            return
        self._local.pinned = True
        ctypes.pythonapi.PyGILState_Ensure()
        state = ctypes.c_void_p(_current_thread_state())
        _libc.pthread_setspecific(self._state_key, state)


def _clear_thread_state(state: int) -> None:
    """Empty the state of a thread that ends: a destructor of thread-local storage.

    The C library has emptied Python's own slot by now (POSIX: each value is set to NULL, then
    its destructor runs), so this very callback runs in a new state, and the old one is nobody's.
    From Python 3.12 on, to delete any state empties the slot of the thread that does it, and this
    callback could not return. So that is left to a destructor that runs after it and is no Python.
    """
    if state != _current_thread_state():
        ctypes.pythonapi.PyThreadState_Clear(ctypes.c_void_p(state))
        _libc.pthread_setspecific(_cleared_state_key, ctypes.c_void_p(state))


_libc = ctypes.CDLL(None)
#: for as long as the process lives, since the C library has its bare address
_thread_end_destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_clear_thread_state)
#: where a thread has its state once that is cleared
_cleared_state_key = ctypes.c_uint()
#: needs no GIL
_delete_thread_state = ctypes.cast(ctypes.pythonapi.PyThreadState_Delete, ctypes.c_void_p)
_current_thread_state = ctypes.pythonapi.PyThreadState_Get
_current_thread_state.restype = ctypes.c_void_p


def _find_library() -> str | None:
    """The libfuse to load, None when the environment already names one."""
    if os.environ.get("FUSE_LIBRARY_PATH") or os.environ.get("FUSE_LIBRARY_NAME"):
        return None
    for name in _LIBFUSE_NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise MountError(f"libfuse is not installed: {_INSTALL_HINT}.")
