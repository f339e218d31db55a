"""The rule for siblings: which small files of a session are fetched ahead for one process.

Siblings are the files that a program probably reads next, because it reads the files of a folder
one after another. No I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from posixpath import dirname

from onefs.tree.nodes import Node, NodeKind

#: number of files that a process must read in listing order before files are fetched ahead for it
FIRST_READS = 3
#: most files that are fetched ahead for one process and that it has not read yet
MAX_WINDOW_FILES = 8
#: most bytes of these files
MAX_WINDOW_BYTES = 32 << 20
#: number of folders in a row with unread siblings after which no more are fetched for the process
MAX_WASTED_FOLDERS = 2
#: largest number of files in a session for which siblings are fetched
MAX_SESSION_FILES = 2_000

Entries = Sequence[tuple[str, Node]]


@dataclass(frozen=True, slots=True)
class Sibling:
    """A file that can be fetched ahead."""

    #: from the root of the mount
    path: str
    #: in bytes
    size: int


class SessionFiles:
    """The files of one session that can be fetched ahead, in the orders in which programs read.

    All orders go through the folders depth first:

    - as ``readdir`` lists names, which is also their alphabetical order
    - as ``readdir``, but with the files of a folder before its subfolders, as ``os.walk``
    - by inode number, as ``cp -r`` reads
    """

    def __init__(self, folders: Mapping[str, Entries], top: str, max_size: int) -> None:
        """``folders`` has the entries of each folder by path. ``top`` is the session's folder.

        Files with more than ``max_size`` bytes are left out.
        """
        arrangements: tuple[Callable[[Entries], Entries], ...] = (
            lambda entries: entries,
            lambda entries: sorted(entries, key=lambda e: e[1].kind is NodeKind.DIRECTORY),
            lambda entries: sorted(entries, key=lambda e: e[1].ino),
        )
        self.orders = [
            [each for each in _depth_first(folders, top, arrange) if 0 < each.size <= max_size]
            for arrange in arrangements
        ]
        self._positions = [
            {each.path: index for index, each in enumerate(order)} for order in self.orders
        ]

    def __contains__(self, path: str) -> bool:
        return path in self._positions[0]

    def files_after(self, order: int, path: str) -> Iterator[Sibling]:
        """Yield the files after ``path`` in one of the orders."""
        files = self.orders[order]
        for index in range(self._positions[order][path] + 1, len(files)):
            yield files[index]


def _depth_first(
    folders: Mapping[str, Entries], folder: str, arrange: Callable[[Entries], Entries]
) -> Iterator[Sibling]:
    for name, node in arrange(folders.get(folder, ())):
        path = f"{folder}/{name}"
        if node.kind is NodeKind.DIRECTORY:
            yield from _depth_first(folders, path, arrange)
        elif node.kind is NodeKind.FILE:
            yield Sibling(path, node.size or 0)


#: the session of a process before its files are known
_NO_FILES = SessionFiles({}, "", 0)


class SiblingWalk:
    """The last reads of one process, and the siblings that are fetched ahead for it.

    Not thread-safe. The caller reports what the process reads, fetches the files that
    :meth:`take_next` returns, and reports those that were not fetched.
    """

    def __init__(self) -> None:
        #: whether siblings were useless for this process: no more are fetched
        self.has_ended = False
        #: paths and sizes of the files that are fetched ahead, or being fetched, and not read
        self.unread: dict[str, int] = {}
        #: most files that may be unread; 0 if the process does not read in listing order
        self.window = 0
        self._files = _NO_FILES
        #: the orders of ``_files`` in which the process may be reading
        self._orders: list[int] = []
        #: the last files that were read, oldest first
        self._recent: deque[str] = deque(maxlen=FIRST_READS)
        #: files of the session that were read
        self._read: set[str] = set()
        #: files of the session that need not be fetched, or could not be fetched
        self._skipped: set[str] = set()
        self._failed_folders: set[str] = set()
        #: whether the process has gone on to the next folder of the session
        self._crosses_folders = False
        #: how many folders in a row were left with unread siblings
        self._wasted_folders = 0
        #: whether siblings were fetched since ``_wasted_folders`` was changed
        self._has_fetched = False
        #: the last folder whose session could not be learned
        self._unlearnable_folder = ""

    def note_cold_read(self, path: str) -> None:
        """Record that the process reads a small file that is not cached."""
        if self.has_ended or path in self._read:
            return
        if path in self.unread:  # it is being fetched now
            self.note_hit(path)
            return
        if self._is_session_known() and path not in self._files:
            self._leave_session()
        elif self.window and not self._continue_to(path):
            self.window = 0
        self._note_read(path)
        if not self.window:
            self._start_if_ordered()

    def forget_reads(self) -> bool:
        """Forget which files were read last, unless siblings are being fetched. Return whether."""
        if self.window or self.unread:
            return False
        self._recent.clear()
        return True

    def note_hit(self, path: str) -> None:
        """Record that the process reads a file that was fetched ahead for it."""
        if self.unread.pop(path, None) is None or path not in self._files:
            return
        if self.window:
            self._continue_to(path)
        self.window = min(MAX_WINDOW_FILES, self.window * 2)
        self._note_read(path)

    @property
    def last_read(self) -> str:
        """The file that was read last; '' if it is unknown."""
        return self._recent[-1] if self._recent else ""

    def note_failure(self, path: str) -> None:
        """Record that a file could not be read or fetched ahead.

        No more siblings are fetched from its folder.
        """
        if not self._is_session_known():
            self._failed_folders.clear()
        self._failed_folders.add(dirname(path))
        self.unread.pop(path, None)
        self._recent.clear()
        self.window = 0

    def note_refused(self, path: str) -> None:
        """Record that a file may not be fetched now. It is the next one that is tried later."""
        self.unread.pop(path, None)

    def note_skipped(self, path: str) -> None:
        """Record that a file was not fetched, because it is cached or being downloaded."""
        self.unread.pop(path, None)
        self._skipped.add(path)

    def unknown_folder(self) -> str:
        """Return the folder whose session must be learned with :meth:`learn` first, or ''."""
        if self.has_ended or len(self._recent) < FIRST_READS or not self._is_one_folder():
            return ""
        folder = dirname(self._recent[-1])
        is_known = self._is_session_known() or folder == self._unlearnable_folder
        return "" if is_known else folder

    def learn(self, folder: str, files: SessionFiles) -> None:
        """Set the files of the session that contains ``folder``."""
        if self._is_session_known() or not self._recent or dirname(self._recent[-1]) != folder:
            return  # the process has gone on meanwhile
        if self._recent[-1] not in files:
            self._unlearnable_folder = folder
            return
        self._files = files
        self._start_if_ordered()

    def has_room(self) -> bool:
        """Whether one more file may be unread."""
        return not self.has_ended and len(self.unread) < self.window

    def take_next(self, budget: int) -> Sibling | None:
        """Return the next file to fetch ahead, or None.

        The file counts as unread from now on. All unread files have at most ``budget`` bytes.
        """
        if not self.has_room():
            return None
        last = self._recent[-1]
        for file in self._files.files_after(self._orders[0], last):
            is_near = self._crosses_folders or dirname(file.path) == dirname(last)
            if not is_near or self._is_done(file.path):
                continue
            if sum(self.unread.values()) + file.size > min(budget, MAX_WINDOW_BYTES):
                return None
            self.unread[file.path] = file.size
            self._has_fetched = True
            return file
        return None

    def _is_session_known(self) -> bool:
        return self._files is not _NO_FILES

    def _note_read(self, path: str) -> None:
        self._recent.append(path)
        if not self._is_session_known():  # do not remember files of all sessions
            self._read = set(self._recent)
        self._read.add(path)

    def _leave_session(self) -> None:
        self._files, self.window = _NO_FILES, 0
        self._recent.clear()
        self._skipped.clear()
        self._failed_folders.clear()

    def _is_one_folder(self) -> bool:
        """Whether the last files that were read are in one folder."""
        return len({dirname(path) for path in self._recent}) == 1

    def _is_done(self, path: str) -> bool:
        """Whether a file need not be fetched, so that it may be missing in the order of reads."""
        return (
            path in self._read
            or path in self.unread
            or path in self._skipped
            or dirname(path) in self._failed_folders
        )

    def _start_if_ordered(self) -> None:
        """Open the window if the last files were read in listing order."""
        reads = list(self._recent)
        if len(reads) < FIRST_READS or not all(path in self._files for path in reads):
            return
        if not (self._crosses_folders or self._is_one_folder()):
            return
        if dirname(reads[-1]) in self._failed_folders:
            return
        orders = [
            order
            for order in range(len(self._files.orders))
            if all(self._follows(order, *pair) for pair in pairwise(reads))
        ]
        if orders:
            self._judge_last_folder()
            self._orders, self.window = orders, 1

    def _judge_last_folder(self) -> None:
        """Note whether all siblings were read in the folders that the process has left."""
        folder = dirname(self._recent[-1])
        wasted = [path for path in self.unread if dirname(path) != folder]
        if wasted:
            self._wasted_folders += 1
            self._crosses_folders = self._has_fetched = False
            for path in wasted:
                del self.unread[path]
        elif self._has_fetched and not self.unread:
            self._wasted_folders, self._has_fetched = 0, False
        self.has_ended = self._wasted_folders >= MAX_WASTED_FOLDERS

    def _continue_to(self, path: str) -> bool:
        """Whether ``path`` is the next file in the order in which the process reads."""
        last = self._recent[-1]
        orders = [order for order in self._orders if self._follows(order, last, path)]
        if orders:
            self._orders = orders
            self._crosses_folders = self._crosses_folders or dirname(path) != dirname(last)
        return bool(orders)

    def _follows(self, order: int, path: str, after: str) -> bool:
        """Whether ``after`` is the next file after ``path``, in its folder or in the session."""
        is_near = dirname(path) == dirname(after)
        for file in self._files.files_after(order, path):
            if file.path == after:
                return True
            is_skipped = is_near and dirname(file.path) != dirname(path)
            if not is_skipped and not self._is_done(file.path):
                return False
        return False
