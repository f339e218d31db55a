"""Fetching of one block request: HTTP requests, retries, other replicas, writing to disk."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Set
from contextlib import AbstractContextManager

from onefs.blocks.block_file import BLOCK_SIZE
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.requests import BlockRequest
from onefs.blocks.scheduler import Scheduler
from onefs.cache.files import disk_errors
from onefs.cache.reservations import DiskSpace, Reservation
from onefs.cache.sparse import disk_size
from onefs.cache.store import Store
from onefs.config.urls import safe_url
from onefs.download.hosts import Hosts
from onefs.download.replicas import REPLICA_ERRORS, Replicas
from onefs.download.responses import (
    BULK_CHUNK_BYTES,
    RemoteFileChanged,
    VersionMismatch,
    parse_range_response,
    validator_of,
)
from onefs.errors import (
    BadContent,
    DeadlineExceeded,
    OnefsError,
    ServerError,
)
from onefs.http import Stream
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.files import write_all
from onefs.model import Replica

log = logging.getLogger(__name__)

#: retries of a request whose answer is of another version of the file than the present blocks
MAX_VERSION_RETRIES = 3
#: called with the blocks of a request that have arrived
BlocksArrived = Callable[[BlockRequest, range], None]


class Fetcher:
    """Carries out block requests. Thread-safe.

    ``stall`` is the number of seconds within which each block must arrive. ``reject`` marks a file
    that cannot agree with the database as bad; ``drop`` removes the blocks of a file that changed
    on the server. Both are called with the reason.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        space: DiskSpace,
        stall: float,
        reject: Callable[[PartialFile, str], None],
        drop: Callable[[PartialFile, str], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._space = space
        self._stall = stall
        self._reject = reject
        self._drop = drop

    def fetch(self, request: BlockRequest, scheduler: Scheduler, arrived: BlocksArrived) -> None:
        """Fetch the blocks of a request that no other process fetches.

        Raises the error that ended it early.
        """
        with disk_errors(self._store.root):
            first, last = request.partial.claim(request.first, request.last)
            scheduler.narrow(request, first, last)
            if first == last:
                return
            self._store.note_fetch(request.partial.dataset)
            claimed = set(range(first, last))
            try:
                self._fetch_reserved(request, scheduler, arrived, claimed)
            finally:
                request.partial.release_claims(claimed)

    def _fetch_reserved(
        self,
        request: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        claimed: set[int],
    ) -> None:
        block_size = request.partial.block_file.header.block_size
        size, least = len(claimed) * block_size, block_size if request.urgent else 0
        with self._space.reservation(size, least) as reservation:
            if not reservation.granted_bytes:  # a reader that waits now requests it urgently
                return
            if reservation.granted_bytes < size:
                request.partial.release_claims(block for block in claimed if block != request.first)
                claimed.intersection_update({request.first})
                scheduler.narrow(request, request.first, request.first + 1)
            claims = _ClaimedBlocks(request, scheduler, arrived, claimed, reservation)
            try:
                self._fetch_from_replicas(request, claims)
            except RemoteFileChanged as error:
                self._drop(request.partial, "has changed on the server")
                log.warning("%s: %s; begun anew", "/".join(request.partial.place), error)
                raise
            finally:
                claims.punch_incomplete()

    def _fetch_from_replicas(self, request: BlockRequest, claims: _ClaimedBlocks) -> None:
        """Try each replica in turn, in several rounds while that can help."""
        attempt = 0
        is_suspect = self._store.mismatches.check(request.partial.dataset)
        replicas = Replicas(self._hosts, request.partial.dataset)
        waiting = replicas.next_untried(self._usable_replicas(request.partial, replicas.gone_urls))
        while claims.remaining:
            retries: dict[Replica, float] = {}
            before = claims.written_bytes
            for replica in waiting:
                try:
                    while claims.remaining:
                        stall = self._hosts.stall_timeout(len(waiting))
                        self._request_with_version_retries(
                            request, replica, claims, replicas.gone_urls, stall
                        )
                    if is_suspect:
                        self._store.mismatches.clear_size_mismatch(request.partial.dataset)
                    return
                except REPLICA_ERRORS as error:
                    request.last_error = error
                    attempt = 0 if claims.written_bytes > before else attempt
                    delay = replicas.note_failure(replica, error, attempt + 1)
                    if delay is not None:
                        retries[replica] = delay
            attempt += 1
            allowed = self._usable_replicas(request.partial, replicas.gone_urls)
            # the first blocks decide which replicas may be mixed
            waiting = [replica for replica in retries if replica in allowed]
            pause = min((retries[replica] for replica in waiting), default=0.0)
            waiting = waiting or replicas.next_untried(allowed)
            if not waiting:
                raise self._final_error(request.partial, replicas, claims.written_bytes)
            request.cancel_event.wait(pause)
            request.raise_if_cancelled()

    def _final_error(self, partial: PartialFile, replicas: Replicas, written: int) -> OnefsError:
        """The error of a request that failed on every replica. Raises UnconfirmedMismatch."""
        if not replicas.mismatches or written:
            return replicas.final_error()
        if replicas.unanswered_error is not None:
            return replicas.unanswered_error
        evidence = replicas.evidence()
        reason = self._store.mismatches.note_mismatch(partial.dataset, evidence, evidence)
        self._reject(partial, reason)
        return BadContent(reason)

    def _usable_replicas(self, partial: PartialFile, gone: Set[str]) -> list[Replica]:
        """The replicas that may be used.

        Without an md5 a mixture of replicas could not be verified: then only the replica that the
        present blocks came from is used. If that is ``gone``, the file has moved: then the others.
        """
        replicas = [replica for replica in partial.dataset.replicas if replica.url not in gone]
        sources = partial.block_file.header.sources
        if partial.dataset.md5 or not sources:
            return replicas
        return [replica for replica in replicas if replica.url in sources] or replicas

    def _request_with_version_retries(
        self,
        request: BlockRequest,
        replica: Replica,
        claims: _ClaimedBlocks,
        gone: Set[str],
        stall: float,
    ) -> None:
        """Send one request, again while a server answers with another version of the file.

        Load-balanced servers may have different validators for the same bytes. If no server has
        the version of the present blocks, the whole file must be verified before more of it is
        read. Raises VersionMismatch if that is impossible: there is no md5, or the bytes differ.
        """
        for tries_left in range(MAX_VERSION_RETRIES, -1, -1):
            try:
                self._request_once(request, replica, claims, gone, stall)
                return
            except VersionMismatch:
                if not tries_left and not self._has_same_block(request, replica, stall):
                    raise
        self._mark_mixed_versions(request)
        self._request_once(request, replica, claims, gone, stall)

    def _has_same_block(self, request: BlockRequest, replica: Replica, stall: float) -> bool:
        """Whether a replica may still have the same file: compares one present block.

        A file that has changed is then not fetched to its end; the md5 verifies one that has not.
        """
        blocks = request.partial.block_file
        if not request.partial.dataset.md5:
            return False
        present = (n for n, record in enumerate(blocks.records(0, blocks.block_count)) if record)
        block = next(present, None)
        if block is None:
            return True
        start, end = blocks.span(block)
        checksum, position = 0, 0
        with self._hosts.stream(
            replica.url, {"Range": f"bytes={start}-{end - 1}"}, stall
        ) as stream:
            request.attach_stream(stream)
            position = parse_range_response(stream, blocks.header.size, start, end, "").start
            for chunk in stream.iter_chunks():
                self._hosts.count_bytes(len(chunk))
                part = memoryview(chunk)[max(0, start - position) : max(0, end - position)]
                checksum = zlib.crc32(part, checksum)
                position += len(chunk)
                if position >= end:
                    break
        return position >= end and blocks.has_checksum(block, checksum)

    def _mark_mixed_versions(self, request: BlockRequest) -> None:
        partial = request.partial
        with self._dataset_lock(request):
            partial.mark_mixed_versions()
        log.warning(
            "%s: its servers name several versions of it: it is fetched whole, and verified before "
            "more of it is read",
            "/".join(partial.place),
        )
        with partial.demand.condition:
            partial.demand.notify_waiters()

    def _dataset_lock(self, request: BlockRequest) -> AbstractContextManager[None]:
        """The dataset's lock, waited for until the request is cancelled."""
        return self._store.locks.hold(
            request.partial.dataset.id, self._stall, lambda: not request.cancel_event.is_set()
        )

    def _request_once(
        self,
        request: BlockRequest,
        replica: Replica,
        claims: _ClaimedBlocks,
        gone: Set[str],
        stall: float,
    ) -> None:
        """Send one request: from the first missing block to the end of the block request."""
        blocks = request.partial.block_file
        start, end = blocks.span(min(claims.remaining))[0], blocks.span(request.last - 1)[1]
        validator = blocks.header.sources.get(replica.url, "")
        if request.partial.has_mixed_versions():
            validator = ""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if validator:
            headers["If-Range"] = validator
        with self._hosts.stream(replica.url, headers, stall) as stream:
            request.attach_stream(stream)
            body = parse_range_response(stream, blocks.header.size, start, end, validator)
            self._record_source(request, replica, stream, gone)
            if not body.is_partial:
                claims.claim_whole_file()
            self._write_body(request, replica, stream, claims, body.start, body.end, stall)

    def _write_body(
        self,
        request: BlockRequest,
        replica: Replica,
        stream: Stream,
        claims: _ClaimedBlocks,
        position: int,
        end: int,
        stall: float,
    ) -> None:
        url = safe_url(stream.url)
        due = time.monotonic() + stall
        for chunk in stream.iter_chunks(lambda: BLOCK_SIZE if request.urgent else BULK_CHUNK_BYTES):
            self._hosts.count_bytes(len(chunk))
            arrived = claims.write(position, memoryview(chunk)[: end - position])
            position += len(chunk)
            now = time.monotonic()
            if arrived:
                self._hosts.note_progress(replica.url)
                due = now + stall
            elif now > due:
                raise DeadlineExceeded(f"{url}: less than a block came in {stall:g} s")
            if not claims.remaining and (position < end or stream.length is None):
                return
            request.raise_if_cancelled()
        # the loop must end without a chunk, so that the connection can be used again
        if position < end:
            raise ServerError(f"{url}: the answer ended {end - position} bytes early")

    def _record_source(
        self, request: BlockRequest, replica: Replica, stream: Stream, gone: Set[str]
    ) -> None:
        """Record the version of a replica that blocks come from.

        Raises VersionMismatch if the present blocks are of another version, RemoteFileChanged if
        they are of no use beside this replica's, and ServerError instead of that for read-ahead or
        while the replica of the present blocks may be used.
        """
        partial, blocks = request.partial, request.partial.block_file
        if replica.url in blocks.header.sources or partial.has_mixed_versions():
            return
        validator = validator_of(stream.headers)
        with self._dataset_lock(request):
            recorded = blocks.record_source(replica.url, validator, alone=not partial.dataset.md5)
        if recorded is None:
            url = safe_url(stream.url)
            why = f"{url}: another replica was begun, and no md5 could verify a mixture"
            moved = replica in self._usable_replicas(partial, gone)
            raise (
                RemoteFileChanged(why)
                if moved and request.urgent
                else ServerError(why, stream.status)
            )
        if recorded != validator and recorded and validator:
            raise VersionMismatch(f"{safe_url(stream.url)}: the file on the server has changed")


class _ClaimedBlocks:
    """The blocks that a request still has to fetch, and the bytes written so far."""

    def __init__(
        self,
        request: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        blocks: set[int],
        reservation: Reservation,
    ) -> None:
        self._request = request
        self._scheduler = scheduler
        self._on_blocks_arrived = arrived
        self.remaining = blocks
        self._reservation = reservation
        #: bytes of the blocks that arrived
        self.written_bytes = 0
        #: range of bytes that were written, and whose blocks are not complete yet
        self._incomplete = (0, 0)
        #: crc32 of the incomplete block so far
        self._checksum = 0

    def claim_whole_file(self) -> None:
        """Claim all absent blocks that are not claimed already, since the whole file arrives."""
        self.punch_incomplete()
        self.remaining.update(self._request.partial.claim_all_absent())
        self._scheduler.widen(self._request, sorted(self.remaining))

    def punch_incomplete(self) -> None:
        """Free the disk space of blocks that will not be completed."""
        start, end = self._incomplete
        if start < end:
            punch_hole(self._request.partial.block_file.data_fd, start, end - start)
        self._incomplete = (0, 0)

    def write(self, position: int, data: memoryview) -> bool:
        """Write those bytes at ``position`` whose blocks are claimed; whether a block ended."""
        blocks = self._request.partial.block_file
        at, end = position, position + len(data)
        while at < end:
            block = at // blocks.header.block_size
            ours = block in self.remaining
            stop = at
            while stop < end and (block in self.remaining) == ours:
                stop = min(end, blocks.span(block)[1])
                block += 1
            if ours:
                self._write(at, data[at - position : stop - position])
            at = stop
        size = blocks.header.block_size
        return end // size > position // size or end == blocks.header.size

    def _write(self, position: int, data: memoryview) -> None:
        """Write bytes of claimed blocks at once, and record each block that is complete."""
        blocks = self._request.partial.block_file
        first, end = position // blocks.header.block_size, position + len(data)
        begun = blocks.span(first)[0]
        stop = blocks.span((end - 1) // blocks.header.block_size)[1]
        self._reservation.ensure_space(disk_size(stop - begun))
        self._incomplete = (begun, end)
        write_all(blocks.data_fd, data, position)
        checksums: list[int] = []
        at = position
        while at < end:
            start, stop = blocks.span(first + len(checksums))
            part = data[at - position : stop - position]
            self._checksum = zlib.crc32(part, 0 if at == start else self._checksum)
            at += len(part)
            if at < stop:
                break
            checksums.append(self._checksum)
        if checksums:
            self._complete_blocks(first, checksums)

    def _complete_blocks(self, first: int, checksums: list[int]) -> None:
        blocks = self._request.partial.block_file
        arrived = range(first, first + len(checksums))
        size = blocks.span(arrived[-1])[1] - blocks.span(first)[0]
        # the record first: if that fails, the claims are still released by the caller
        self._request.partial.mark_present(first, checksums)
        self.remaining.difference_update(arrived)
        self._incomplete = (blocks.span(arrived[-1])[1], self._incomplete[1])
        self.written_bytes += size
        self._reservation.note_written(disk_size(size))
        self._on_blocks_arrived(self._request, arrived)
