"""The listed entries of sessions' folders, kept in memory in a compact form.

A program that walks a large laboratory lists more datasets than the catalogue keeps in memory. To
list a folder, only the names and the values of ``stat`` are needed. Here they need 24 bytes and the
name for each file, so that the next walk reads nothing from SQLite.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache

from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.listing import ListingVersion
from onefs.model import Session
from onefs.tree.layout import Folders
from onefs.tree.nodes import ListedEntry, NodeKind

#: most bytes of memory for all entries
MAX_BYTES = 64 << 20
#: bytes that a session and a folder need besides the folder's path and the packed entries
_SESSION_BYTES = 700
_FOLDER_BYTES = 120

_COUNT = struct.Struct("=I")
#: inode number, size and modification time of an entry
_NUMBERS = struct.Struct("=qqd")
#: sizes that are none: of a file whose size is unknown, and of a folder
_UNKNOWN_SIZE, _FOLDER = -1, -2


class ListedState(NamedTuple):
    """The objects on which the entries of a session's folders depend, compared by identity.

    - ``version``: of the listing of the session's datasets
    - ``date``: the session's date
    - ``accepted``: the files whose bytes the user has accepted (``Content.accepted_state``)
    - ``sizes``: the sizes that file servers gave (``SizeLookup.state``)
    """

    version: ListingVersion
    date: str
    accepted: object
    sizes: object


@dataclass(frozen=True, slots=True)
class ListedSession:
    """The listed entries of all folders of one session."""

    state: ListedState
    has_all_sizes: bool
    #: by the folder's path: the number of its entries, _NUMBERS of each entry, and the names
    _packed: Mapping[str, bytes]

    def is_current(self, now: ListedState) -> bool:
        """Whether the entries are equal to the entries in the state ``now``."""
        return (
            self.state.version is now.version
            and self.state.date == now.date
            and self.state.accepted is now.accepted
            and (self.has_all_sizes or self.state.sizes is now.sizes)
        )

    def has_folder(self, folders: Folders) -> bool:
        """Whether the session has the folder."""
        return "/".join(folders) in self._packed

    def entries(self, folders: Folders) -> Iterator[ListedEntry]:
        """Return the entries of a folder; none if the session does not have the folder."""
        packed = self._packed.get("/".join(folders), _COUNT.pack(0))
        (count,) = _COUNT.unpack_from(packed)
        end = _COUNT.size + count * _NUMBERS.size
        numbers = _NUMBERS.iter_unpack(memoryview(packed)[_COUNT.size : end])
        # b"".split gives one name, for which there are no numbers
        for (ino, size, mtime), name in zip(numbers, packed[end:].split(b"/"), strict=False):
            if size == _FOLDER:
                yield name, NodeKind.DIRECTORY, ino, 0, mtime
            else:
                yield name, NodeKind.FILE, ino, None if size == _UNKNOWN_SIZE else size, mtime

    def changed_files(
        self, now: Mapping[Folders, Sequence[ListedEntry]]
    ) -> Iterator[tuple[Folders, ListedEntry]]:
        """Yield the path and the former entry of each file with another inode, size or mtime now.

        ``now`` are the present entries of all folders. An unknown size agrees with every size.
        """
        for folders, entries in now.items():
            before = {entry[0]: entry for entry in self.entries(folders)}
            for name, kind, ino, size, mtime in entries:
                former = before.get(name)
                if former is None or not kind is former[1] is NodeKind.FILE:
                    continue
                has_size_changed = None not in (size, former[3]) and size != former[3]
                if has_size_changed or (ino, mtime) != (former[2], former[4]):
                    yield (*folders, os.fsdecode(name)), former

    def byte_count(self) -> int:
        """Return the bytes of memory that the entries need."""
        folders = sum(
            _FOLDER_BYTES + len(path) + len(packed) for path, packed in self._packed.items()
        )
        return _SESSION_BYTES + folders


class ListedSessions:
    """The listed entries of sessions' folders in the full tree, by eid. Thread-safe.

    The least recently used session is removed first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: LRUCache[str, ListedSession] = LRUCache(
            MAX_BYTES, getsizeof=ListedSession.byte_count
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
        self._last = session.eid, changes, catalogue.unchanged_until(version), version
        return version

    def has_folder(self, eid: str, folders: Folders, state: Callable[[], ListedState]) -> bool:
        """Whether the session is known to have the folder in the state that ``state`` returns."""
        listed = self._get(eid)
        # the state is not asked for the name of a file
        return listed is not None and listed.has_folder(folders) and listed.is_current(state())

    def entries(self, eid: str, folders: Folders, state: ListedState) -> list[ListedEntry] | None:
        """Return the entries of a folder. Return None if they are not known for this state."""
        listed = self._get(eid)
        if listed is None or not listed.is_current(state) or not listed.has_folder(folders):
            return None
        return list(listed.entries(folders))

    def outdated(self, eid: str, version: ListingVersion) -> ListedSession | None:
        """Return the entries of a session if they are from another version of its listing."""
        listed = self._get(eid)
        return None if listed is None or listed.state.version is version else listed

    def put(
        self, eid: str, state: ListedState, folders: Mapping[Folders, Sequence[ListedEntry]]
    ) -> None:
        """Keep the entries of all folders of a session, instead of its former entries."""
        listed = ListedSession(
            state,
            all(size is not None for entries in folders.values() for *_, size, _ in entries),
            {"/".join(path): _pack(entries) for path, entries in folders.items()},
        )
        with self._lock:
            self._sessions.pop(eid, None)
            if listed.byte_count() <= MAX_BYTES:
                self._sessions[eid] = listed

    def _get(self, eid: str) -> ListedSession | None:
        with self._lock:
            return self._sessions.get(eid)


def _pack(entries: Sequence[ListedEntry]) -> bytes:
    numbers = (
        _NUMBERS.pack(
            ino,
            _FOLDER if kind is NodeKind.DIRECTORY else _UNKNOWN_SIZE if size is None else size,
            mtime,
        )
        for _, kind, ino, size, mtime in entries
    )
    # a name has no slash
    return _COUNT.pack(len(entries)) + b"".join(numbers) + b"/".join(name for name, *_ in entries)
