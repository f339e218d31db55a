"""How far ahead of a reader to fetch: decided from where it has read. No I/O, no threads."""

from __future__ import annotations

#: bytes that a reader reads in order before anything is fetched ahead of it: a header and a slice
#: of a large array must cost their own blocks only
PATIENCE = 3 << 20
#: bytes ahead of a reader, at most
FARTHEST = 64 << 20
#: bytes of one request, at most
LONGEST_RUN = 8 << 20
#: reads this far from where one is expected still count as in order: the kernel's read-ahead
#: arrives on several threads at once
SLACK = 1 << 20


class Window:
    """One place in a file where somebody reads; ``size`` and ``block`` are in bytes.

    The window is as long as what has been read in order so far, between nothing and FARTHEST: who
    turns away has never made us fetch more than was read.
    """

    def __init__(self, size: int, block: int, farthest: int = FARTHEST) -> None:
        self._size = size
        self._block = block
        self._farthest = farthest
        #: where the reader began to read in order, and how far it has come
        self.start = 0
        self.position = 0
        #: up to this block, it not included, requests have been planned
        self.planned = 0

    def follows(self, offset: int, length: int) -> bool:
        """Whether a read goes on where this window stands."""
        return (
            self.position - SLACK - length <= offset <= self.position + SLACK
            and self.position > self.start
        )

    def moved(self, offset: int, length: int) -> None:
        """Somebody reads here now."""
        if not self.follows(offset, length):
            self.start = offset
            self.planned = 0
            self.position = offset + length
        self.position = max(self.position, offset + length)

    def wanted(self) -> tuple[int, int]:
        """The blocks that are wanted beforehand: the first, and the one after the last."""
        read = self.position - self.start
        ahead = min(read, self._farthest) if read >= PATIENCE else 0
        end = min(self._size, self.position + ahead)
        return self.position // self._block, -(-end // self._block) if ahead else 0

    def plan(self) -> list[tuple[int, int]]:
        """The requests to make now, in blocks ``(first, last + 1)``, beyond those made before.

        Requests are a quarter of the window long, so that several run at once, and only whole
        ones are planned, except at the end of the file.
        """
        first, end = self.wanted()
        step = max(1, min(LONGEST_RUN // self._block, (end - first) // 4))
        at = max(self.planned, first)
        runs = []
        while at < end and (at + step <= end or end * self._block >= self._size):
            runs.append((at, min(at + step, end)))
            at += step
        self.planned = max(self.planned, min(at, end))
        return runs
