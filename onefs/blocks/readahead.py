"""How far ahead of a reader to fetch: decided from where it has read. No I/O, no threads."""

from __future__ import annotations

#: bytes that a reader reads in order before anything is fetched ahead of it: a header and a slice
#: of a large array must cost their own blocks only
MIN_SEQUENTIAL_BYTES = 3 << 20
#: bytes ahead of a reader, at most
MAX_READAHEAD_BYTES = 64 << 20
#: bytes of one request, at most
MAX_REQUEST_BYTES = 8 << 20
#: reads this far from where one is expected still count as in order: the kernel's read-ahead
#: arrives on several threads at once
SEQUENTIAL_SLACK_BYTES = 1 << 20


class ReadaheadWindow:
    """One place in a file where somebody reads; ``size`` and ``block`` are in bytes.

    The window is as long as what has been read in order so far, between nothing and
    MAX_READAHEAD_BYTES: who turns away has never made us fetch more than was read.
    """

    def __init__(self, size: int, block: int, farthest: int = MAX_READAHEAD_BYTES) -> None:
        self._size = size
        self._block_size = block
        self._max_readahead = farthest
        #: where the reader began to read in order, and how far it has come
        self.sequential_start = 0
        self.position = 0
        #: up to this block, it not included, requests have been planned
        self.planned_until = 0

    def is_sequential(self, offset: int, length: int) -> bool:
        """Whether a read goes on where this window stands."""
        return (
            self.position - SEQUENTIAL_SLACK_BYTES - length
            <= offset
            <= self.position + SEQUENTIAL_SLACK_BYTES
            and self.position > self.sequential_start
        )

    def advance(self, offset: int, length: int) -> None:
        """Somebody reads here now."""
        if not self.is_sequential(offset, length):
            self.sequential_start = offset
            self.planned_until = 0
            self.position = offset + length
        self.position = max(self.position, offset + length)

    def wanted_range(self) -> tuple[int, int]:
        """The blocks that are wanted beforehand: the first, and the one after the last."""
        read = self.position - self.sequential_start
        ahead = min(read, self._max_readahead) if read >= MIN_SEQUENTIAL_BYTES else 0
        end = min(self._size, self.position + ahead)
        return self.position // self._block_size, -(-end // self._block_size) if ahead else 0

    def plan_requests(self) -> list[tuple[int, int]]:
        """The requests to make now, in blocks ``(first, last + 1)``, beyond those made before.

        Requests are a quarter of the window long, so that several run at once, and only whole
        ones are planned, except at the end of the file.
        """
        first, end = self.wanted_range()
        step = max(1, min(MAX_REQUEST_BYTES // self._block_size, (end - first) // 4))
        at = max(self.planned_until, first)
        runs = []
        while at < end and (at + step <= end or end * self._block_size >= self._size):
            runs.append((at, min(at + step, end)))
            at += step
        self.planned_until = max(self.planned_until, min(at, end))
        return runs
