"""What a fork must not split: SQLite connections, locks of files, locks of threads, connections.

A child made by ``fork`` has one thread, and a copy of all memory and descriptors: locks that
another thread held stay locked in it for ever, a SQLite connection that both have damages the file,
and a lock of the OFD or flock kind lives as long as either has its descriptor. So what is split
registers itself here (:class:`ForkAware`), and hooks pause it before the fork, resume it in the
parent, and drop it in the child, where all is made anew when it is next used. ``subprocess`` runs
no such hooks, unless it is given a ``preexec_fn``.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from onefs.lowlevel.files import open_private

#: seconds that a fork waits for all members together
FORK_WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.002
#: packages that onefs imports when they are first needed
_LAZILY_IMPORTED = frozenset(
    ("onefs", "certifi", "keyring", "numpy", "pandas", "pyarrow", "requests", "urllib3")
)


class ForkAware:
    """Something that a fork must not split. The hooks must not raise, nor wait on their own."""

    def before_fork(self, end: float) -> None:
        """Pause, waiting until ``end`` (of ``time.monotonic``) at most."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Drop what is the parent's, touching no lock that was made before the fork."""


_registered: set[weakref.ref[ForkAware]] = set()
#: descriptor, name and serial number of each file that is open for locks
_lock_files: set[tuple[int, str, int]] = set()
_lock_file_by_descriptor: dict[int, tuple[int, str, int]] = {}
_serials = itertools.count()
#: another value after each beginning and end of a fork
_fork_generation = 0
#: one fork at a time
_fork_lock = threading.Lock()
_thread_state = threading.local()


def register_fork_aware(member: ForkAware) -> None:
    """Have a member's hooks called, for as long as it lives."""
    _registered.add(weakref.ref(member, _registered.discard))


def open_lock_file(
    path: str | os.PathLike[str],
    flags: int,
    opener: Callable[[str | os.PathLike[str], int], int] = open_private,
) -> int:
    """A descriptor for locks, which no child keeps; :func:`close_lock_file` ends it.

    ``opener`` opens the file. Raises OSError.
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
        # a child may have a copy that it does not know of, and would hold every lock on it
        close_lock_file(descriptor)
        flags &= ~os.O_EXCL


def close_lock_file(descriptor: int) -> None:
    """Close it, and so free its locks; a no-op in a child that was forked meanwhile."""
    entry = _lock_file_by_descriptor.get(descriptor)
    if entry is None:
        return
    os.close(descriptor)
    # afterwards: a child that is forked between the two must know of it
    _lock_files.discard(entry)


@contextmanager
def hold_lock_file(
    path: str | os.PathLike[str],
    opener: Callable[[str | os.PathLike[str], int], int] = open_private,
) -> Iterator[int]:
    """The descriptor of a file for locks, made if need be. Raises OSError."""
    descriptor = open_lock_file(path, os.O_RDWR | os.O_CREAT, opener)
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
    """Close the parent's lock files. They are not unlocked: that would unlock them for it, too."""
    for descriptor, name, _ in _lock_files:
        with suppress(OSError):
            if _is_open_as(descriptor, name):
                os.close(descriptor)
    _lock_files.clear()
    _lock_file_by_descriptor.clear()


def _is_open_as(descriptor: int, name: str) -> bool:
    """Whether the descriptor is still this file's, and not of one that was opened after it."""
    try:
        found = os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return not os.path.isdir("/proc/self/fd")
    return os.path.basename(found.removesuffix(" (deleted)")) == name


def _is_import_running() -> bool:
    """Whether a thread is importing a module of ours: a child would wait for it for ever."""
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
