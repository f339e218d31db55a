"""Read-ahead windows decide which blocks are fetched before they are read.

This module does no I/O, and starts no threads.
"""

from __future__ import annotations

#: bytes that are read sequentially before read-ahead begins. A program that reads only a header and
#: a slice of a large array must not cause other blocks to be fetched
MIN_SEQUENTIAL_BYTES = 3 << 20
#: longest read-ahead, in bytes
MAX_READAHEAD_BYTES = 64 << 20
#: longest request, in bytes
MAX_REQUEST_BYTES = 8 << 20
#: a read that begins within this many bytes of the expected position still counts as sequential,
#: because the kernel's own read-ahead arrives on several threads at once
SEQUENTIAL_SLACK_BYTES = 1 << 20


class ReadaheadWindow:
    """The read-ahead of one reader in a file.

    ``size`` is the size of the file in bytes, and ``max_readahead`` is the longest window in bytes.
    The window is as long as the bytes that were read sequentially so far.
    """

    def __init__(self, size: int, block_size: int, max_readahead: int) -> None:
        self._size = size
        self._block_size = block_size
        self._max_readahead = max_readahead
        #: the offset at which the sequential read began, and the offset that it has reached (bytes)
        self.sequential_start = 0
        self.position = 0
        #: requests were planned for the blocks before this block
        self.planned_until = 0

    def is_sequential(self, offset: int, length: int) -> bool:
        """Whether a read continues where the last read of this window ended, or close to that
        offset."""
        return (
            self.position - SEQUENTIAL_SLACK_BYTES - length
            <= offset
            <= self.position + SEQUENTIAL_SLACK_BYTES
            and self.position > self.sequential_start
        )

    def advance(self, offset: int, length: int) -> None:
        """Move the window to the end of a read.

        A read that is not sequential starts a new sequential read.
        """
        if not self.is_sequential(offset, length):
            self.sequential_start = offset
            self.planned_until = 0
            self.position = offset + length
        self.position = max(self.position, offset + length)

    def wanted_range(self) -> tuple[int, int]:
        """Return the blocks to read ahead: the first block, and the block after the last block.

        The second number is 0 if nothing is to be read ahead.
        """
        read = self.position - self.sequential_start
        # at most as long as the bytes read so far: at most twice as many are fetched as are read
        ahead = min(read, self._max_readahead) if read >= MIN_SEQUENTIAL_BYTES else 0
        end = min(self._size, self.position + ahead)
        return self.position // self._block_size, -(-end // self._block_size) if ahead else 0

    def plan_requests(self) -> list[tuple[int, int]]:
        """Return the block ranges to request next for read-ahead.

        Each range is its first block and the block after its last block.
        """
        first, end = self.wanted_range()
        # at most a quarter of the window, so that several requests run at once
        step = max(1, min(MAX_REQUEST_BYTES // self._block_size, (end - first) // 4))
        at = max(self.planned_until, first)
        requests = []
        # a shorter request is planned only at the end of the file
        while at < end and (at + step <= end or end * self._block_size >= self._size):
            requests.append((at, min(at + step, end)))
            at += step
        self.planned_until = max(self.planned_until, min(at, end))
        return requests
