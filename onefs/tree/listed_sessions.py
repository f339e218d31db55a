"""The listed entries of sessions' folders, kept in memory in a compact form.

A program that walks a large laboratory lists more datasets than the catalogue keeps in memory. To
list a folder, only the names and the values of ``stat`` are needed. Here they need about 40 bytes
for each file, so that the next walk reads nothing from SQLite.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from cachetools import LRUCache

from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.listing import ListingVersion
from onefs.model import Session
from onefs.tree.layout import Folders
from onefs.tree.nodes import ListedEntry, NodeKind

#: most entries that are kept; a folder counts like _ENTRIES_PER_FOLDER more entries
MAX_ENTRIES = 600_000
#: seconds for which the version of a listing is used again: a program lists the folders of one
#: session shortly after each other
VERSION_SECONDS = 0.1
_ENTRIES_PER_FOLDER = 4
#: number of sets of names that are kept once, although several sessions have them
_MAX_SHARED_NAMES = 512
#: number of names that are kept once, although several sessions have them
_MAX_SHARED_PAIRS = 16_384
#: inode number, size and modification time of an entry
_NUMBERS = struct.Struct("=qqd")
_UNKNOWN_SIZE = -1

#: the name and the kind of each entry of a folder
_Names = tuple[tuple[bytes, NodeKind], ...]


@dataclass(frozen=True, slots=True)
class ListedState:
    """What decides the entries of a session's folders. Each value is compared by identity.

    - ``version``: of the listing of the session's datasets
    - ``accepted``: the files whose bytes the user has accepted (``Content.accepted_state``)
    - ``sizes``: the sizes that file servers gave (``SizeLookup.state``)
    """

    version: ListingVersion
    accepted: object
    sizes: object


@dataclass(frozen=True, slots=True)
class _ListedSession:
    state: ListedState
    has_all_sizes: bool
    entry_count: int
    #: for each folder, the index of its first entry, and the names and kinds of its entries
    folders: Mapping[Folders, tuple[int, _Names]]
    #: for each entry, the bytes of _NUMBERS
    numbers: bytes

    def is_current(self, now: ListedState) -> bool:
        """Whether the entries are equal to the entries in the state ``now``."""
        return (
            self.state.version is now.version
            and self.state.accepted is now.accepted
            and (self.has_all_sizes or self.state.sizes is now.sizes)
        )


class ListedSessions:
    """The listed entries of sessions' folders in the full tree, by eid. Thread-safe.

    The least recently used session is removed first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: LRUCache[str, _ListedSession] = LRUCache(
            MAX_ENTRIES, getsizeof=lambda listed: listed.entry_count
        )
        #: the session whose version was asked for last: its eid, the catalogue's changes at that
        #: time, until when the version is used (``time.monotonic``), and the version
        self._last: tuple[str, int, float, ListingVersion] | None = None

    def version_of(self, session: Session, catalogue: Catalogue) -> ListingVersion:
        """Return the version of the listing of a session's datasets.

        Raises the errors of :meth:`Catalogue.datasets_version`.
        """
        changes = catalogue.changes  # before the version, which may change meanwhile
        last = self._last
        if last is not None:
            eid, last_changes, until, version = last
            if eid == session.eid and last_changes == changes and time.monotonic() < until:
                return version
        version = catalogue.datasets_version(session)
        self._last = session.eid, changes, time.monotonic() + VERSION_SECONDS, version
        return version

    def has_folder(self, eid: str, folders: Folders, state: Callable[[], ListedState]) -> bool:
        """Whether the session is known to have the folder in the state that ``state`` returns."""
        with self._lock:
            listed = self._sessions.get(eid)
        # the state is not asked for the name of a file
        return listed is not None and folders in listed.folders and listed.is_current(state())

    def entries(self, eid: str, folders: Folders, state: ListedState) -> list[ListedEntry] | None:
        """Return the entries of a folder. Return None if they are not known for this state."""
        with self._lock:
            listed = self._sessions.get(eid)
        if listed is None or not listed.is_current(state) or folders not in listed.folders:
            return None
        first, names = listed.folders[folders]
        begin = first * _NUMBERS.size
        numbers = memoryview(listed.numbers)[begin : begin + len(names) * _NUMBERS.size]
        return [
            (name, kind, ino, None if size == _UNKNOWN_SIZE else size, mtime)
            for (name, kind), (ino, size, mtime) in zip(
                names, _NUMBERS.iter_unpack(numbers), strict=True
            )
        ]

    def put(
        self, eid: str, state: ListedState, folders: Mapping[Folders, Sequence[ListedEntry]]
    ) -> None:
        """Keep the entries of all folders of a session."""
        entries = [entry for in_folder in folders.values() for entry in in_folder]
        count = len(entries) + _ENTRIES_PER_FOLDER * len(folders)
        if count > MAX_ENTRIES:
            return
        names = tuple(
            (path, tuple(_shared(each[:2]) for each in in_folder))
            for path, in_folder in folders.items()
        )
        listed = _ListedSession(
            state,
            all(size is not None for _, _, _, size, _ in entries),
            count,
            _names_by_folder(names),
            b"".join(
                _NUMBERS.pack(ino, _UNKNOWN_SIZE if size is None else size, mtime)
                for _, _, ino, size, mtime in entries
            ),
        )
        with self._lock:
            self._sessions[eid] = listed


@lru_cache(maxsize=_MAX_SHARED_PAIRS)
def _shared(name_and_kind: tuple[bytes, NodeKind]) -> tuple[bytes, NodeKind]:
    """Return the pair, as the same object each time."""
    return name_and_kind


# the sessions of an experiment often have the same names, which are then in memory once
@lru_cache(maxsize=_MAX_SHARED_NAMES)
def _names_by_folder(
    names: tuple[tuple[Folders, _Names], ...],
) -> Mapping[Folders, tuple[int, _Names]]:
    """Return the index of the first entry, and the names, of each folder."""
    by_folder = {}
    first = 0
    for folder, in_folder in names:
        by_folder[folder] = first, in_folder
        first += len(in_folder)
    return by_folder
