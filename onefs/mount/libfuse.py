"""Choose the libfuse library, and change the process settings that libfuse needs.

No other module imports ``mfusepy``. The import of ``mfusepy`` loads libfuse, so libfuse must be
chosen before the import.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from shutil import which
from types import ModuleType

from onefs.errors import MountError, reason_of
from onefs.lowlevel.memory import keep_free_memory

#: file names of libfuse, the preferred name first. libfuse 3 is preferred because libfuse 2 lacks
#: readdirplus. If both are installed, mfusepy would choose libfuse 2. libfuse 3.17 and later have
#: the number 4 in the file name.
_LIBFUSE_NAMES = ("libfuse3.so.4", "libfuse3.so.3", "libfuse.so.2")
_INSTALL_HINT = "install fuse3: sudo apt-get install fuse3"
_FUSE_DEVICE = "/dev/fuse"

#: arguments of ``gc.set_threshold``: how many new objects cause a search for cycles among them, and
#: how many such searches cause a search among older objects
_GC_THRESHOLDS = (50_000, 20, 20)
#: size in bytes of the stack of a libfuse thread. The default is ``ulimit -s`` (8 MiB). With this
#: default, several hundred threads would need more address space than batch systems allow.
_THREAD_STACK_BYTES = 1 << 20


def check_can_mount(device: str = _FUSE_DEVICE) -> None:
    """Raise :class:`MountError` if this user cannot mount on this machine.

    The message says what to do. ``device`` is the path of the FUSE device.
    """
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
    """Import and return mfusepy, with libfuse 3 if libfuse 3 is installed, otherwise libfuse 2.

    The environment variables ``FUSE_LIBRARY_PATH`` and ``FUSE_LIBRARY_NAME`` select another
    library. Raises :class:`MountError` if no libfuse can be loaded.
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
    """Change this process's settings so that libfuse's threads are fast and need little memory."""
    # Listings consist of many small objects without cycles. With Python's default thresholds, a
    # walk of a large laboratory spends a quarter of its time in searches for cycles among them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    # the stack size of libfuse's threads
    os.environ.setdefault("FUSE_THREAD_STACK", str(_THREAD_STACK_BYTES))
    keep_free_memory()


class PinnedThreadStates:
    """Keep the Python thread state of each libfuse thread until the thread ends.

    Then no request needs a new state, so random reads of 4 KiB are 1.6 times as fast.
    """

    # Python did not start the libfuse threads. Without this class, each callback in such a thread
    # would create a thread state, and free it when the callback returns. This class takes one more
    # reference to the state, and releases the reference when the thread ends.
    def __init__(self) -> None:
        self._local = threading.local()
        # Python started this thread, so its state is left alone
        self._local.pinned = True
        self._state_key = ctypes.c_uint()
        _libc.pthread_key_create(ctypes.byref(self._state_key), _thread_end_destructor)
        _libc.pthread_key_create(ctypes.byref(_cleared_state_key), _delete_thread_state)

    def pin(self) -> None:
        """Keep the Python thread state of the calling thread until the thread ends.

        Debuggers and coverage then see the thread, as they see the threads that Python starts.
        Further calls in the same thread do nothing, and are fast.
        """
        if hasattr(self._local, "pinned"):
            return
        self._local.pinned = True
        if trace := threading.gettrace():
            sys.settrace(trace)
        ctypes.pythonapi.PyGILState_Ensure()
        state = ctypes.c_void_p(_current_thread_state())
        _libc.pthread_setspecific(self._state_key, state)


def _clear_thread_state(state: int) -> None:
    """Clear ``state``, the old Python thread state of an ending thread.

    The C library calls this function as a destructor of thread-local storage.
    """
    # POSIX sets the stored value to NULL before this destructor runs. So Python no longer finds
    # ``state``, and runs this function with a new thread state. ``state`` is not deleted here: from
    # Python 3.12 on, this would make Python forget the new state, and this function could not
    # return. A second destructor, which is not Python code, deletes ``state``.
    if state != _current_thread_state():
        ctypes.pythonapi.PyThreadState_Clear(ctypes.c_void_p(state))
        _libc.pthread_setspecific(_cleared_state_key, ctypes.c_void_p(state))


_libc = ctypes.CDLL(None)
#: this object must never be freed, because the C library keeps its address
_thread_end_destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_clear_thread_state)
#: key of the slot that contains the thread state after the state was cleared
_cleared_state_key = ctypes.c_uint()
#: the second destructor: a C function that can run without the GIL
_delete_thread_state = ctypes.cast(ctypes.pythonapi.PyThreadState_Delete, ctypes.c_void_p)
_current_thread_state = ctypes.pythonapi.PyThreadState_Get
_current_thread_state.restype = ctypes.c_void_p


def _find_library() -> str | None:
    """Return the file name of libfuse 3, or of libfuse 2 if libfuse 3 is not installed.

    Return None if an environment variable selects the library. Raises :class:`MountError` if
    libfuse is not installed.
    """
    if os.environ.get("FUSE_LIBRARY_PATH") or os.environ.get("FUSE_LIBRARY_NAME"):
        # mfusepy then loads the library in the variable
        return None
    for name in _LIBFUSE_NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise MountError(f"libfuse is not installed: {_INSTALL_HINT}.")
