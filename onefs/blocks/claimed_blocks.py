"""The claimed blocks of one request, locked so that no other request fetches these blocks.

This module writes arriving bytes to disk, and records complete blocks. If the request ends before a
block is complete, the disk space of this block is freed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from onefs.blocks.requests import BlockRequest
from onefs.blocks.scheduler import Scheduler
from onefs.cache.reservations import Reservation
from onefs.cache.sparse import disk_size
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.files import write_all

#: called with a request and the blocks of the request that have just arrived
BlocksArrived = Callable[[BlockRequest, range], None]


class ClaimedBlocks:
    """Writes the blocks of one request to disk, and knows which blocks are still missing.

    The blocks are locked: only this request fetches them.
    """

    def __init__(
        self,
        request: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        blocks: set[int],
        reservation: Reservation,
    ) -> None:
        self.request = request
        self._scheduler = scheduler
        self._on_blocks_arrived = arrived
        #: claimed blocks that have not arrived yet
        self.remaining = blocks
        self._reservation = reservation
        #: number of bytes in the blocks that have arrived
        self.written_bytes = 0
        #: the range of written bytes (start and end offset) that is in blocks not complete yet
        self._incomplete = (0, 0)
        #: crc32 of the bytes of the incomplete block that were written so far
        self._checksum = 0

    def claim_whole_file(self) -> None:
        """Claim (lock for this request) all absent blocks, because the server sends the whole file.

        Blocks that another request or another process has locked are not claimed.
        """
        self.punch_incomplete()
        self.remaining.update(self.request.partial.claim_all_absent())
        self._scheduler.widen(self.request, sorted(self.remaining))

    def punch_incomplete(self) -> None:
        """Free the disk space of the blocks that were begun and will not be completed."""
        start, end = self._incomplete
        if start < end:
            punch_hole(self.request.partial.block_file.data_fd, start, end - start)
        self._incomplete = (0, 0)

    def write(self, position: int, data: memoryview) -> bool:
        """Write the parts of ``data`` that belong to missing blocks of this request.

        ``position`` is the offset of ``data`` in the file. Return True if ``data`` contains the
        last byte of any block.
        """
        size = self.request.partial.block_file.header.block_size
        at, end = position, position + len(data)
        while at < end:
            block = at // size
            ours = block in self.remaining
            while block * size < end and (block in self.remaining) == ours:
                block += 1
            stop = min(end, block * size)
            if ours:
                self._write(at, data[at - position : stop - position])
            at = stop
        is_file_end = end == self.request.partial.block_file.header.size
        return end // size > position // size or is_file_end

    def _write(self, position: int, data: memoryview) -> None:
        """Write ``data``, and record each block that is now complete.

        ``position`` is the offset of ``data`` in the file.
        """
        # all bytes belong to blocks of this request that have not arrived yet
        blocks = self.request.partial.block_file
        first, end = position // blocks.header.block_size, position + len(data)
        block_start = blocks.span(first)[0]
        stop = blocks.span((end - 1) // blocks.header.block_size)[1]
        self._reservation.ensure_space(disk_size(stop - block_start))
        self._incomplete = (block_start, end)
        write_all(blocks.data_fd, data, position)
        checksums: list[int] = []
        at, size = position, blocks.header.block_size
        while at < end:
            start = at // size * size
            stop = min(start + size, blocks.header.size)
            part = data[at - position : stop - position]
            self._checksum = zlib.crc32(part, 0 if at == start else self._checksum)
            at += len(part)
            if at < stop:
                break
            checksums.append(self._checksum)
        if checksums:
            self._complete_blocks(first, checksums)

    def _complete_blocks(self, first: int, checksums: list[int]) -> None:
        blocks = self.request.partial.block_file
        arrived = range(first, first + len(checksums))
        size = blocks.span(arrived[-1])[1] - blocks.span(first)[0]
        # the record is written first: if that fails, the caller still releases the claims
        self.request.partial.mark_present(first, checksums)
        self.remaining.difference_update(arrived)
        self._incomplete = (blocks.span(arrived[-1])[1], self._incomplete[1])
        self.written_bytes += size
        self._reservation.note_written(disk_size(size))
        self._on_blocks_arrived(self.request, arrived)
