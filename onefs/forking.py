"""What a fork must not split: SQLite connections, locks of files, locks of threads, connections.

A child made by ``fork`` has one thread, and a copy of all memory and descriptors: locks that
another thread held stay locked in it for ever, a SQLite connection that both have damages the file,
and a lock of the OFD or flock kind lives as long as either has its descriptor. So what is split
registers itself here (:class:`Member`), and hooks pause it before the fork, resume it in the
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

#: seconds that a fork waits for all members together
PAUSE_SECONDS = 1.0
_POLL = 0.002
#: packages that onefs imports when they are first needed
_IMPORTED_LATE = frozenset(
    ("onefs", "certifi", "keyring", "numpy", "pandas", "pyarrow", "requests", "urllib3")
)


class Member:
    """Something that a fork must not split. The hooks must not raise, nor wait on their own."""

    def before_fork(self, end: float) -> None:
        """Pause, waiting until ``end`` (of ``time.monotonic``) at most."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Drop what is the parent's, touching no lock that was made before the fork."""


_members: set[weakref.ref[Member]] = set()
#: descriptor, name and serial number of each file that is open for locks
_lock_files: set[tuple[int, str, int]] = set()
_entries: dict[int, tuple[int, str, int]] = {}
_serials = itertools.count()
#: another value after each beginning and end of a fork
_forks = 0
#: one fork at a time
_turn = threading.Lock()
_mine = threading.local()


def register(member: Member) -> None:
    """Have a member's hooks called, for as long as it lives."""
    _members.add(weakref.ref(member, _members.discard))


def _private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file for its owner only, and no symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def open_lock_file(
    path: str | os.PathLike[str],
    flags: int,
    opener: Callable[[str | os.PathLike[str], int], int] = _private,
) -> int:
    """A descriptor for locks, which no child keeps; :func:`close_lock_file` ends it.

    ``opener`` opens the file. Raises OSError.
    """
    name = os.path.basename(os.fspath(path))
    while True:
        before = _forks
        descriptor = opener(path, flags)
        entry = (descriptor, name, next(_serials))
        _entries[descriptor] = entry
        _lock_files.add(entry)
        if before == _forks:
            return descriptor
        # a child may have a copy that it does not know of, and would hold every lock on it
        close_lock_file(descriptor)
        flags &= ~os.O_EXCL


def close_lock_file(descriptor: int) -> None:
    """Close it, and so free its locks; a no-op in a child that was forked meanwhile."""
    entry = _entries.get(descriptor)
    if entry is None:
        return
    os.close(descriptor)
    # afterwards: a child that is forked between the two must know of it
    _lock_files.discard(entry)


@contextmanager
def lock_file(
    path: str | os.PathLike[str],
    opener: Callable[[str | os.PathLike[str], int], int] = _private,
) -> Iterator[int]:
    """The descriptor of a file for locks, made if need be. Raises OSError."""
    descriptor = open_lock_file(path, os.O_RDWR | os.O_CREAT, opener)
    try:
        yield descriptor
    finally:
        close_lock_file(descriptor)


def _before() -> None:
    global _forks
    _forks += 1
    _mine.members = members = [member for ref in _members.copy() if (member := ref()) is not None]
    _mine.turn = False
    if not members:
        return
    end = time.monotonic() + PAUSE_SECONDS
    _mine.turn = _turn.acquire(timeout=PAUSE_SECONDS)
    while _is_importing() and time.monotonic() < end:
        time.sleep(_POLL)
    for member in members:
        with suppress(Exception):
            member.before_fork(end)


def _after_in_parent() -> None:
    global _forks
    _forks += 1
    for member in _mine.__dict__.pop("members", ()):
        with suppress(Exception):
            member.after_fork_in_parent()
    if _mine.__dict__.pop("turn", False):
        _turn.release()


def _after_in_child() -> None:
    global _turn
    _turn = threading.Lock()
    _mine.__dict__.clear()
    _close_inherited()
    for ref in _members.copy():
        member = ref()
        with suppress(Exception):
            if member is not None:
                member.after_fork_in_child()


def _close_inherited() -> None:
    """Close the parent's lock files. They are not unlocked: that would unlock them for it, too."""
    for descriptor, name, _ in _lock_files:
        with suppress(OSError):
            if _is_named(descriptor, name):
                os.close(descriptor)
    _lock_files.clear()
    _entries.clear()


def _is_named(descriptor: int, name: str) -> bool:
    """Whether the descriptor is still this file's, and not of one that was opened after it."""
    try:
        found = os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return not os.path.isdir("/proc/self/fd")
    return os.path.basename(found.removesuffix(" (deleted)")) == name


def _is_importing() -> bool:
    """Whether a thread is importing a module of ours: a child would wait for it for ever."""
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] in _IMPORTED_LATE:
            spec = getattr(module, "__spec__", None)
            if getattr(spec, "_initializing", False):
                return True
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
