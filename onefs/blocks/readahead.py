"""Read-ahead windows decide which blocks are fetched before they are read.

A window starts small, and grows with the bytes that were read sequentially. All windows of one open
file share a budget, so that few bytes are fetched that are never read, also if a program reads many
parts of a file. This module does no I/O, and starts no threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

#: most windows of one open file, since several threads may read at different offsets
MAX_WINDOWS = 16
#: longest read-ahead, in bytes
MAX_READAHEAD_BYTES = 64 << 20
#: longest request, in bytes
MAX_REQUEST_BYTES = 8 << 20
#: shortest request for read-ahead, in bytes, except at the end of a window or of the file. Each
#: request costs as much processor time as a MiB of the file
MIN_REQUEST_BYTES = 512 << 10
#: number of times that requests are planned while the bytes that were read ahead are read
PLANS_PER_WINDOW = 16
#: a read that begins within this many bytes of the expected position still counts as sequential,
#: because the kernel's own read-ahead arrives on several threads at once
SEQUENTIAL_SLACK_BYTES = 1 << 20
#: most ranges that a window remembers because they were skipped and may be read late
MAX_GAPS = 16
#: bytes that the kernel's own read-ahead may request although the program does not read them
KERNEL_READAHEAD_BYTES = 256 << 10
#: bytes that may be fetched without being read are FREE_BYTES, and one of UNREAD_SHARE bytes that
#: are read
FREE_BYTES = 320 << 10
UNREAD_SHARE = 4
#: bytes that each jump costs of the budget: those of the kernel's own read-ahead (before and after
#: a page fault), and the rest of the first and of the last block
JUMP_BYTES = 448 << 10
#: most bytes that jumps and skipped bytes may take from the budget of later reads
MAX_DEBT_BYTES = 1 << 20


class Readahead:
    """The read-ahead of one open file: its windows, and the budget that they share.

    ``size`` is the size of the file in bytes. ``max_bytes`` returns the longest window in bytes.
    ``lock`` guards the windows. Only :meth:`wanted_ranges` takes the lock itself. It is not held
    while :meth:`ReadaheadWindow.find_limit` is called.
    """

    def __init__(self, size: int, block_size: int, max_bytes: Callable[[], int]) -> None:
        self.size = size
        self.block_size = block_size
        self.max_bytes = max_bytes
        #: whether the whole file is fetched: then no budget limits the windows
        self.is_whole = False
        self.lock = threading.Lock()
        #: the windows, the least recently used first
        self.windows: list[ReadaheadWindow] = []
        #: the budget without that of the windows, less the costs of jumps
        self._left = FREE_BYTES

    def advance(self, offset: int, length: int) -> ReadaheadWindow:
        """Return the window of a read, moved to the end of the read.

        A read that does not continue a window starts a window.
        """
        window = next((w for w in reversed(self.windows) if w.is_sequential(offset, length)), None)
        if window is None:
            window = self._start_window(offset, length)
            self._limit_debt()
            return window
        is_skip = offset > window.position
        window.advance(offset, length)
        if is_skip:
            self._limit_debt()
        if window is not self.windows[-1]:
            self.windows.remove(window)
            self.windows.append(window)
        return window

    def _start_window(self, offset: int, length: int) -> ReadaheadWindow:
        if self.windows:
            self._left -= JUMP_BYTES
        if len(self.windows) >= MAX_WINDOWS:
            ended = self.windows.pop(0)
            self._left += ended.earned_bytes() - ended.unread_bytes()
        window = ReadaheadWindow(self, offset, length)
        self.windows.append(window)
        return window

    def _limit_debt(self) -> None:
        """Forget debt beyond MAX_DEBT_BYTES.

        So a sequential read after many jumps, or after a read that skips much, is read ahead soon.
        """
        earned = sum(window.earned_bytes() for window in self.windows)
        self._left = max(self._left, -MAX_DEBT_BYTES - earned)

    def wanted_ranges(self) -> list[tuple[int, int]]:
        """Return the block ranges that are to be read ahead. Takes the lock."""
        with self.lock:
            return [window.wanted_range() for window in self.windows]

    def budget_of(self, window: ReadaheadWindow) -> int:
        """Return how many bytes ``window`` may have fetched that are not read yet."""
        if self.is_whole:
            return self.size
        earned = sum(each.earned_bytes() for each in self.windows)
        unread = sum(each.unread_bytes() for each in self.windows if each is not window)
        return self._left + earned - unread


class ReadaheadWindow:
    """The read-ahead of one sequential read, which begins with a read of ``length`` bytes."""

    def __init__(self, readahead: Readahead, offset: int, length: int) -> None:
        self.readahead = readahead
        self._start = offset
        #: the offset that the sequential read has reached (bytes)
        self.position = offset + length
        self._first_end = self.position
        #: whether the first read of the window was the only read
        self.is_new = True
        #: longest read-ahead, which depends on the space that is free when the window is not new;
        #: None if it is not known yet
        self._max_bytes: int | None = None
        #: where the last read began (bytes)
        self._read_start = offset
        #: bytes between the start and the position that were not read
        self._skipped = 0
        #: the ranges of these bytes that were skipped last
        self._gaps: list[tuple[int, int]] = []
        #: requests were planned for the blocks before this block
        self.planned_until = 0
        #: requests are planned when the position has come here (bytes)
        self._next_plan_at = 0

    def is_sequential(self, offset: int, length: int) -> bool:
        """Whether a read continues where the last read of this window ended, or close to that
        offset, or in bytes that this window has requested."""
        slack = SEQUENTIAL_SLACK_BYTES
        end = max(self.position + slack, self.planned_until * self.readahead.block_size)
        return self.position - slack - length <= offset <= end

    def advance(self, offset: int, length: int) -> None:
        """Move the window to the end of a read that is sequential."""
        if offset > self.position:
            self._skipped += offset - self.position
            self._gaps = [*self._gaps[1 - MAX_GAPS :], (self.position, offset)]
        elif offset < self.position and self._gaps:
            self._fill_gaps(offset, offset + length)
        self._read_start = offset
        self.position = max(self.position, offset + length)
        if self.is_new and self.position > self._first_end:
            self.is_new = False

    def find_limit(self) -> None:
        """Find out how long the read-ahead of a sequential read may be, once.

        This may wait until other processes have counted the space that is free.
        """
        if not self.is_new and self._max_bytes is None:
            self._max_bytes = self.readahead.max_bytes()

    def note_lost(self, block: int, end: int) -> None:
        """Plan the requests again from a ``block`` that is neither there nor requested.

        A read that ends at ``end`` needs it. If it was planned, it was evicted before this read, or
        there was no space for it. Without a new plan, each of the next reads would wait for a
        request of its own.
        """
        # blocks before the position may never have been planned
        if block < self.planned_until and end == self.position:
            self.planned_until = block
            self._next_plan_at = 0

    def _fill_gaps(self, start: int, end: int) -> None:
        """Count the skipped bytes of a range as read."""
        left: list[tuple[int, int]] = []
        for first, last in self._gaps:
            self._skipped -= max(0, min(last, end) - max(first, start))
            parts = (first, min(last, start)), (max(first, end), last)
            left += [part for part in parts if part[0] < part[1]]
        self._gaps = left

    def earned_bytes(self) -> int:
        """Return what this window adds to the budget, which is negative if it has skipped much."""
        return self._read_bytes() // UNREAD_SHARE - self._skipped

    def unread_bytes(self) -> int:
        """Return the number of bytes that were requested after the position."""
        return max(0, self.planned_until * self.readahead.block_size - self.position)

    def wanted_range(self) -> tuple[int, int]:
        """Return the blocks to read ahead: the first block, and the block after the last block.

        The second number is 0 if nothing is to be read ahead. Blocks that were skipped are wanted
        too, since the requests for them may arrive later.
        """
        block_size, size = self.readahead.block_size, self.readahead.size
        first = (self.position - min(self._skipped, SEQUENTIAL_SLACK_BYTES)) // block_size
        if self._max_bytes is None:  # a single read is not sequential yet
            return first, 0
        # at most as long as the bytes read so far: the window doubles while the budget is enough
        read = self._read_bytes() - KERNEL_READAHEAD_BYTES
        ahead = min(read, self._max_bytes, self.readahead.budget_of(self))
        end = min(size, self.position + max(0, ahead))
        # blocks that are to be read ahead as a whole, so that not more is fetched
        last = -(-end // block_size) if end == size else end // block_size
        last = max(last, self.planned_until)
        return first, last if last > first else 0

    def has_requests(self) -> bool:
        """Whether :meth:`plan_requests` would return a request.

        The answer is computed only a few times for each request, not at each read.
        """
        if self.position < self._next_plan_at:
            return False
        requests, _ = self._next_requests()
        if not requests:
            self._next_plan_at = self.position + self.unread_bytes() // PLANS_PER_WINDOW
        return bool(requests)

    def plan_requests(self) -> list[tuple[int, int]]:
        """Return the block ranges to request next for read-ahead.

        Each range is its first block and the block after its last block.
        """
        requests, self.planned_until = self._next_requests()
        return requests

    def _next_requests(self) -> tuple[list[tuple[int, int]], int]:
        """Return the next requests, and the block before which all requests are planned then."""
        block_size = self.readahead.block_size
        first, end = self.position // block_size, self.wanted_range()[1]
        if end <= first:
            return [], self.planned_until
        window = (end - first) * block_size
        # a third of the window, so that several requests run at once
        longest = max(window // 3, MIN_REQUEST_BYTES)
        step = max(1, min(longest, MAX_REQUEST_BYTES) // block_size)
        is_end = end * block_size >= self.readahead.size
        # the last read is requested together with the blocks after it, if it was not requested yet
        at = max(self.planned_until, min(first, self._read_start // block_size))
        # a shorter request is planned only if no other request is left, or at the end of the file
        is_short_allowed = self.planned_until <= first or is_end
        requests = []
        while at < end and (at + step <= end or is_short_allowed):
            requests.append((at, min(at + step, end)))
            at += step
        return requests, max(self.planned_until, min(at, end))

    def _read_bytes(self) -> int:
        return self.position - self._start - self._skipped
