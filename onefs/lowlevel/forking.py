"""Fork safety for SQLite connections, file locks, thread locks and network connections.

A child made by ``fork`` has one thread, and a copy of all memory and descriptors. A lock that
another thread held stays locked in the child for ever. If parent and child use the same SQLite
connection, the file is damaged. A lock on a file lasts until both processes have closed its
descriptor. Therefore each object with such state registers with :func:`register_fork_aware`. Before
a fork, this module pauses the registered objects. After the fork, it resumes the objects in the
parent. In the child, the objects drop their state, and create new state on first use. When
``subprocess`` starts a program, the objects are paused only if it was given ``preexec_fn``.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from onefs.lowlevel.files import Opener, open_private

#: longest time that a fork waits for all registered objects together
FORK_WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.002
#: packages that onefs imports on first use
_LAZILY_IMPORTED = frozenset(
    ("onefs", "certifi", "keyring", "numpy", "pandas", "pyarrow", "requests", "urllib3")
)


class ForkAware:
    """An object with state that two processes must not share.

    Each fork calls the three methods, which must not raise errors. ``before_fork`` must return
    before the time ``end``.
    """

    def before_fork(self, end: float) -> None:
        """Pause this object. Wait until its work in progress has ended, at most until ``end``.

        ``end`` is a time of ``time.monotonic``.
        """

    def after_fork_in_parent(self) -> None:
        """Resume this object."""

    def after_fork_in_child(self) -> None:
        """Drop the parent's state. Do not acquire a lock that was created before the fork."""


_registered: set[weakref.ref[ForkAware]] = set()
#: descriptor, name and serial number of each open lock file
_lock_files: set[tuple[int, str, int]] = set()
_lock_file_by_descriptor: dict[int, tuple[int, str, int]] = {}
_serials = itertools.count()
#: a number that increases at the beginning and at the end of each fork
_fork_generation = 0
#: held during a fork, so that forks run one at a time
_fork_lock = threading.Lock()
_thread_state = threading.local()


def register_fork_aware(member: ForkAware) -> None:
    """Register ``member``, so that its methods are called at each fork (see ForkAware).

    The registration ends when no other reference to ``member`` exists.
    """
    _registered.add(weakref.ref(member, _registered.discard))


def open_lock_file(
    path: str | os.PathLike[str],
    opener: Opener = open_private,
    flags: int = os.O_RDWR | os.O_CREAT,
) -> int:
    """Open a lock file with ``opener`` and return its descriptor. Raises OSError.

    Close the descriptor with :func:`close_lock_file`. A forked child's copy is closed
    automatically.
    """
    name = os.path.basename(os.fspath(path))
    while True:
        before = _fork_generation
        descriptor = opener(path, flags)
        entry = (descriptor, name, next(_serials))
        _lock_file_by_descriptor[descriptor] = entry
        _lock_files.add(entry)
        if before == _fork_generation:
            return descriptor
        # a child forked since then may have the descriptor without its entry, and would keep the
        # locks
        close_lock_file(descriptor)
        flags &= ~os.O_EXCL


def close_lock_file(descriptor: int) -> None:
    """Close a lock file. This frees the locks on the file.

    Does nothing in a child that was forked after the file was opened.
    """
    entry = _lock_file_by_descriptor.get(descriptor)
    if entry is None:
        return
    os.close(descriptor)
    # after the close, because a child that is forked in between must find the entry
    _lock_files.discard(entry)


@contextmanager
def hold_lock_file(path: str | os.PathLike[str], opener: Opener = open_private) -> Iterator[int]:
    """Open a lock file, yield its descriptor, and close it at the end. Raises OSError.

    A missing file is created. The end of the ``with`` block also frees the caller's locks on the
    file.
    """
    descriptor = open_lock_file(path, opener)
    try:
        yield descriptor
    finally:
        close_lock_file(descriptor)


def _before_fork() -> None:
    global _fork_generation
    _fork_generation += 1
    _thread_state.members = members = [
        member for ref in _registered.copy() if (member := ref()) is not None
    ]
    _thread_state.turn = False
    if not members:
        return
    end = time.monotonic() + FORK_WAIT_SECONDS
    _thread_state.turn = _fork_lock.acquire(timeout=FORK_WAIT_SECONDS)
    while _is_import_running() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    for member in members:
        with suppress(Exception):
            member.before_fork(end)


def _after_fork_in_parent() -> None:
    global _fork_generation
    _fork_generation += 1
    for member in _thread_state.__dict__.pop("members", ()):
        with suppress(Exception):
            member.after_fork_in_parent()
    if _thread_state.__dict__.pop("turn", False):
        _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    _thread_state.__dict__.clear()
    _close_inherited_lock_files()
    for ref in _registered.copy():
        member = ref()
        with suppress(Exception):
            if member is not None:
                member.after_fork_in_child()


def _close_inherited_lock_files() -> None:
    """Close the parent's lock files without unlocking them.

    If the child unlocked a file, the parent would lose its lock, too.
    """
    for descriptor, name, _ in _lock_files:
        with suppress(OSError):
            if _is_open_as(descriptor, name):
                os.close(descriptor)
    _lock_files.clear()
    _lock_file_by_descriptor.clear()


def _is_open_as(descriptor: int, name: str) -> bool:
    """Whether ``descriptor`` is still open, and is a file with the name ``name``.

    After a lock file is closed, its descriptor may be that of another file.
    """
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return not os.path.isdir("/proc/self/fd")
    return os.path.basename(target.removesuffix(" (deleted)")) == name


def _is_import_running() -> bool:
    """Whether a thread is importing a package of _LAZILY_IMPORTED."""
    # a child forked now would lack this thread, and wait for ever for the end of the import
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] in _LAZILY_IMPORTED:
            spec = getattr(module, "__spec__", None)
            if getattr(spec, "_initializing", False):
                return True
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
