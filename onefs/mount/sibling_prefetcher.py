"""Sibling prefetcher: fetches the next small files of a folder before a program reads them.

:mod:`onefs.mount.sibling_walk` has the rule that chooses the files. The files are fetched by a few
threads of their own, so that no read waits for a thread that fetches a sibling.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from onefs.errors import OnefsError, reason_of
from onefs.mount.callers import caller_of
from onefs.mount.sibling_walk import (
    MAX_SESSION_FILES,
    MAX_WINDOW_FILES,
    Entries,
    SessionFiles,
    Sibling,
    SiblingWalk,
)
from onefs.tree.nodes import Node, NodeKind

#: most files that are fetched ahead at the same time, for all processes together
MAX_FETCHES = MAX_WINDOW_FILES
#: most processes whose reads are remembered
_MAX_PROCESSES = 64

log = logging.getLogger(__name__)


class SiblingSource(Protocol):
    """Fetches siblings. Implemented by :class:`onefs.tree.siblings.Siblings`."""

    #: size in bytes of the largest file that is fetched as a whole
    max_size: int

    def session_folder(self, folder: str) -> str:
        """Return the path of the session that contains ``folder``; '' if there is none."""

    def budget(self, unread: int, reading: str) -> int:
        """Return how many bytes may be fetched ahead and unread, of which ``unread`` are so now.

        ``reading`` is the path of the file that the program reads.
        """

    def fetch(self, path: str) -> bool | None:
        """Fetch a file. Return False if it is not fetched, for example because it is cached.

        Return None if neither this file nor one after it may be fetched now.
        """


class SiblingPrefetcher:
    """Watches what each process reads, and fetches siblings for it. Thread-safe.

    - ``source``: fetches the siblings; None if none are to be fetched
    - ``children``: returns the entries of a folder, as the mount shows them
    - ``caller_thread``: returns the id of the thread that requested the running operation
    - ``waits_for_others``: whether a program waits for another file than that at a path now
    """

    def __init__(
        self,
        source: SiblingSource | None = None,
        children: Callable[[str], Entries] = lambda path: (),
        caller_thread: Callable[[], int] = lambda: 0,
        waits_for_others: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._source = source
        self._children = children
        self._caller_thread = caller_thread
        self._waits_for_others = waits_for_others
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(MAX_FETCHES, "onefs-sibling")
        #: by pid; the process that has read last is the last
        self._walks: dict[int, SiblingWalk] = {}
        #: the walks whose session is being listed
        self._learning: set[SiblingWalk] = set()
        #: the unread files of all processes
        self._unread: frozenset[str] = frozenset()
        self._fetch_count = 0

    def close(self) -> None:
        """Start no more fetches."""
        self._source = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    def note_open(self, path: str) -> None:
        """Record that the calling process opens a file."""
        if path in self._unread:  # most files are not
            self._update(lambda walk: walk.note_hit(path))

    def note_cold_read(self, path: str, size: int) -> None:
        """Record that the calling process reads a file of ``size`` bytes that is not cached."""
        source = self._source
        if source is None or size > source.max_size:
            return
        # with many readers at once, nothing is fetched ahead, and each read should cost little
        if self._waits_for_others(path) and self._forget_reads():
            return
        self._update(lambda walk: walk.note_cold_read(path))

    def note_failure(self, path: str) -> None:
        """Record that a read of the calling process has failed."""
        if self._source is not None:
            self._update(lambda walk: walk.note_failure(path))

    def _update(self, change: Callable[[SiblingWalk], None]) -> None:
        process = caller_of(self._caller_thread()).process
        if process is None:
            return
        with self._lock:
            known = self._walks.pop(process, None)
            walk = self._walks[process] = SiblingWalk() if known is None else known
            if len(self._walks) > _MAX_PROCESSES:
                del self._walks[next(iter(self._walks))]
            before = set(walk.unread)
            change(walk)
            if before != walk.unread.keys():
                self._collect_unread()
            has_work = walk.unknown_folder() or walk.has_room()
        if has_work and not self._waits_for_others(walk.last_read):
            self._submit(self._advance, walk)

    def _forget_reads(self) -> bool:
        """Forget the last reads of the calling process. Return False if siblings are fetched."""
        process = caller_of(self._caller_thread()).process
        with self._lock:
            walk = None if process is None else self._walks.get(process)
            return walk is None or walk.forget_reads()

    def _submit(self, work: Callable[[SiblingWalk], None], walk: SiblingWalk) -> None:
        with suppress(RuntimeError):  # the pool is closed, or no thread can be started
            self._pool.submit(work, walk)

    def _advance(self, walk: SiblingWalk) -> None:
        """Fetch files for a process as long as its window allows."""
        self._learn_session(walk)
        while (file := self._take_next(walk)) is not None:
            self._submit(self._advance, walk)  # another thread fetches the next file
            if self._fetch(walk, file.path):
                return

    def _learn_session(self, walk: SiblingWalk) -> None:
        source = self._source
        with self._lock:
            folder = walk.unknown_folder()
            if source is None or not folder or walk in self._learning:
                return
            self._learning.add(walk)
        try:
            files = self._session_files(source, folder)
            with self._lock:
                walk.learn(folder, files)
        except (OnefsError, OSError) as error:
            log.debug("no siblings in %s: %s", folder, reason_of(error))
        finally:
            with self._lock:
                self._learning.discard(walk)

    def _session_files(self, source: SiblingSource, folder: str) -> SessionFiles:
        top = source.session_folder(folder)
        folders: dict[str, Entries] = {}
        pending = [top] if top else []
        count = 0
        while pending and count <= MAX_SESSION_FILES:
            path = pending.pop()
            entries = folders[path] = self._children(path)
            count += len(entries)
            pending += [f"{path}/{name}" for name, node in entries if _is_folder(node)]
        return SessionFiles({} if pending else folders, top, source.max_size)

    def _take_next(self, walk: SiblingWalk) -> Sibling | None:
        source = self._source
        with self._lock:
            if source is None or not walk.has_room():
                return None
            unread, reading = sum(walk.unread.values()), walk.last_read
        if self._waits_for_others(reading):
            return None
        try:
            budget = source.budget(unread, reading)
        except (OnefsError, OSError) as error:  # such as a cache folder that cannot be used
            log.debug("no siblings are fetched: %s", reason_of(error))
            return None
        with self._lock:
            if self._fetch_count >= MAX_FETCHES:
                return None
            file = walk.take_next(budget)
            if file is not None:
                self._fetch_count += 1
                self._collect_unread()
            return file

    def _fetch(self, walk: SiblingWalk, path: str) -> bool:
        """Fetch a file. Return False if this failed or was not necessary, so that the next file
        is to be fetched."""
        source = self._source
        is_fetched: bool | None = False
        has_failed = False
        try:
            is_fetched = None if source is None else source.fetch(path)
        except (OnefsError, OSError) as error:
            log.debug("the sibling %s is not fetched: %s", path, reason_of(error))
            has_failed = True
        finally:
            with self._lock:
                self._fetch_count -= 1
                if has_failed:
                    walk.note_failure(path)
                elif is_fetched is None:
                    walk.note_refused(path)
                elif not is_fetched:
                    walk.note_skipped(path)
                self._collect_unread()
        return is_fetched is not False

    def _collect_unread(self) -> None:
        walks = self._walks.values()
        self._unread = frozenset(path for walk in walks for path in walk.unread)


#: a prefetcher that fetches nothing
NO_SIBLINGS = SiblingPrefetcher()


def _is_folder(node: Node) -> bool:
    return node.kind is NodeKind.DIRECTORY
