"""One run of blocks from the file servers to the disk: requests, retries, other copies."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Set
from contextlib import AbstractContextManager

from onefs.blocks.block_file import BLOCK_SIZE
from onefs.blocks.partial_file import PartialFile
from onefs.blocks.scheduler import BlockRequest, Scheduler
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
    Stopping,
)
from onefs.http import Stream
from onefs.lowlevel.fallocate import punch_hole
from onefs.lowlevel.files import write_all
from onefs.model import Replica

log = logging.getLogger(__name__)

#: how often the version that was begun with is asked for again
MAX_VERSION_RETRIES = 3
#: told of the blocks that a run has brought
BlocksArrived = Callable[[BlockRequest, range], None]


class Fetcher:
    """Does runs. Thread-safe.

    ``stall`` is the number of seconds within which each block of a run has to come.
    ``condemn`` rejects a file that cannot be what the database describes, ``drop`` gives up blocks
    that are worth nothing, because the file changed on the server; both are told why.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        room: DiskSpace,
        stall: float,
        condemn: Callable[[PartialFile, str], None],
        drop: Callable[[PartialFile, str], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._space = room
        self._stall = stall
        self._reject = condemn
        self._drop = drop

    def fetch(self, run: BlockRequest, scheduler: Scheduler, arrived: BlocksArrived) -> None:
        """Bring the blocks of a run that nobody else brings. Raises what ended it early."""
        with disk_errors(self._store.root):
            first, last = run.partial.claim(run.first, run.last)
            scheduler.narrow(run, first, last)
            if first == last:
                return
            self._store.note_fetch(run.partial.dataset)
            claimed = set(range(first, last))
            try:
                self._fetch_reserved(run, scheduler, arrived, claimed)
            finally:
                run.partial.release_claims(claimed)

    def _fetch_reserved(
        self,
        run: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        claimed: set[int],
    ) -> None:
        block_size = run.partial.block_file.header.block_size
        size, least = len(claimed) * block_size, block_size if run.urgent else 0
        with self._space.reservation(size, least) as reservation:
            if not reservation.granted_bytes:  # who has come to wait for it asks again, urgently
                return
            if reservation.granted_bytes < size:
                run.partial.release_claims(block for block in claimed if block != run.first)
                claimed.intersection_update({run.first})
                scheduler.narrow(run, run.first, run.first + 1)
            claims = _ClaimedBlocks(run, scheduler, arrived, claimed, reservation)
            try:
                self._fetch_from_replicas(run, claims)
            except RemoteFileChanged as error:
                self._drop(run.partial, "has changed on the server")
                log.warning("%s: %s; begun anew", "/".join(run.partial.place), error)
                raise
            finally:
                claims.punch_incomplete()

    def _fetch_from_replicas(self, run: BlockRequest, claims: _ClaimedBlocks) -> None:
        """Every copy in turn, round and round while that can help."""
        attempt = 0
        doubted = self._store.mismatches.check(run.partial.dataset)
        copies = Replicas(self._hosts, run.partial.dataset)
        waiting = copies.next_untried(self._usable_replicas(run.partial, copies.gone_urls))
        while claims.remaining:
            again: dict[Replica, float] = {}
            before = claims.written_bytes
            for copy in waiting:
                try:
                    while claims.remaining:
                        patience = self._hosts.stall_timeout(len(waiting))
                        self._request_with_version_retries(
                            run, copy, claims, copies.gone_urls, patience
                        )
                    if doubted:
                        self._store.mismatches.clear_size_mismatch(run.partial.dataset)
                    return
                except REPLICA_ERRORS as error:
                    run.last_error = error
                    attempt = 0 if claims.written_bytes > before else attempt
                    delay = copies.note_failure(copy, error, attempt + 1)
                    if delay is not None:
                        again[copy] = delay
            attempt += 1
            allowed = self._usable_replicas(run.partial, copies.gone_urls)
            # what we fetch may have got a copy of its own meanwhile, or lost it
            waiting = [copy for copy in again if copy in allowed]
            pause = min((again[copy] for copy in waiting), default=0.0)
            waiting = waiting or copies.next_untried(allowed)
            if not waiting:
                raise self._final_error(run.partial, copies, claims.written_bytes)
            if run.cancel_event.wait(pause):
                raise Stopping(f"{run.partial.dataset.name} is not wanted any more")

    def _final_error(self, partial: PartialFile, copies: Replicas, written: int) -> OnefsError:
        """What the failure of every copy comes to. Raises Unconfirmed."""
        if not copies.mismatches or written:
            return copies.final_error()
        if copies.unanswered_error is not None:
            return copies.unanswered_error
        evidence = copies.evidence()
        reason = self._store.mismatches.note_mismatch(partial.dataset, evidence, evidence)
        self._reject(partial, reason)
        return BadContent(reason)

    def _usable_replicas(self, partial: PartialFile, gone: Set[str]) -> list[Replica]:
        """The copies that may serve: without an md5 nothing would prove a mixture, and only the
        one that was begun may. Where that is ``gone``, or none of the dataset's any more, the
        others: who answers shows that the file has moved.
        """
        copies = [copy for copy in partial.dataset.replicas if copy.url not in gone]
        sources = partial.block_file.header.sources
        if partial.dataset.md5 or not sources:
            return copies
        return [copy for copy in copies if copy.url in sources] or copies

    def _request_with_version_retries(
        self, run: BlockRequest, copy: Replica, claims: _ClaimedBlocks, gone: Set[str], stall: float
    ) -> None:
        """One request, sent again while a server answers with another version of the file.

        Servers that share a load may name the same bytes differently. Where none has the version
        that was begun with, the file is to be proved before more of it is read. Raises Changed
        where that is of no use: no md5, or the bytes differ.
        """
        for tries_left in range(MAX_VERSION_RETRIES, -1, -1):
            try:
                self._request_once(run, copy, claims, gone, stall)
                return
            except VersionMismatch:
                if not tries_left and not self._has_same_block(run, copy, stall):
                    raise
        self._mark_mixed_versions(run)
        self._request_once(run, copy, claims, gone, stall)

    def _has_same_block(self, run: BlockRequest, copy: Replica, stall: float) -> bool:
        """Whether what a copy has now may be the file that was begun: compares one block.

        That saves fetching the rest of a file that has changed; the md5 proves what is the same.
        """
        blocks = run.partial.block_file
        if not run.partial.dataset.md5:
            return False
        present = (n for n, record in enumerate(blocks.records(0, blocks.block_count)) if record)
        block = next(present, None)
        if block is None:
            return True
        start, end = blocks.span(block)
        checksum, position = 0, 0
        with self._hosts.stream(copy.url, {"Range": f"bytes={start}-{end - 1}"}, stall) as stream:
            run.attach_stream(stream)
            position = parse_range_response(stream, blocks.header.size, start, end, "").start
            for chunk in stream.iter_chunks():
                self._hosts.count_bytes(len(chunk))
                part = memoryview(chunk)[max(0, start - position) : max(0, end - position)]
                checksum = zlib.crc32(part, checksum)
                position += len(chunk)
                if position >= end:
                    break
        return position >= end and blocks.has_checksum(block, checksum)

    def _mark_mixed_versions(self, run: BlockRequest) -> None:
        partial = run.partial
        with self._dataset_lock(run):
            partial.mark_mixed_versions()
        log.warning(
            "%s: its servers name several versions of it: it is fetched whole, and verified before "
            "more of it is read",
            "/".join(partial.place),
        )
        with partial.demand.condition:
            partial.demand.notify_waiters()

    def _dataset_lock(self, run: BlockRequest) -> AbstractContextManager[None]:
        """The dataset's lock, waited for while the run is wanted."""
        return self._store.locks.hold(
            run.partial.dataset.id, self._stall, lambda: not run.cancel_event.is_set()
        )

    def _request_once(
        self, run: BlockRequest, copy: Replica, claims: _ClaimedBlocks, gone: Set[str], stall: float
    ) -> None:
        """One request: from the first block that is still missing to the end of the run."""
        blocks = run.partial.block_file
        start, end = blocks.span(min(claims.remaining))[0], blocks.span(run.last - 1)[1]
        validator = blocks.header.sources.get(copy.url, "")
        if run.partial.has_mixed_versions():
            validator = ""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if validator:
            headers["If-Range"] = validator
        with self._hosts.stream(copy.url, headers, stall) as stream:
            run.attach_stream(stream)
            body = parse_range_response(stream, blocks.header.size, start, end, validator)
            self._record_source(run, copy, stream, gone)
            if not body.is_partial:
                claims.claim_whole_file()
            self._write_body(run, copy, stream, claims, body.start, body.end, stall)

    def _write_body(
        self,
        run: BlockRequest,
        copy: Replica,
        stream: Stream,
        claims: _ClaimedBlocks,
        position: int,
        end: int,
        stall: float,
    ) -> None:
        url = safe_url(stream.url)
        due = time.monotonic() + stall
        for chunk in stream.iter_chunks(lambda: BLOCK_SIZE if run.urgent else BULK_CHUNK_BYTES):
            self._hosts.count_bytes(len(chunk))
            came = claims.write(position, memoryview(chunk)[: end - position])
            position += len(chunk)
            now = time.monotonic()
            if came:
                self._hosts.note_progress(copy.url)
                due = now + stall
            elif now > due:
                raise DeadlineExceeded(f"{url}: less than a block came in {stall:g} s")
            if not claims.remaining and (position < end or stream.length is None):
                return
            if run.cancel_event.is_set():
                raise Stopping(f"{run.partial.dataset.name} is not wanted any more")
        # the loop's last turn, without a chunk, is what lets the connection be used again
        if position < end:
            raise ServerError(f"{url}: the answer ended {end - position} bytes early")

    def _record_source(
        self, run: BlockRequest, copy: Replica, stream: Stream, gone: Set[str]
    ) -> None:
        """Remember which version of a copy our blocks come from.

        Raises Changed when they are worth nothing beside those that this copy has; but nothing is
        given up for what is only fetched ahead, or while the copy that was begun may serve.
        """
        partial, blocks = run.partial, run.partial.block_file
        if copy.url in blocks.header.sources or partial.has_mixed_versions():
            return
        found = validator_of(stream.headers)
        with self._dataset_lock(run):
            counts = blocks.record_source(copy.url, found, alone=not partial.dataset.md5)
        if counts is None:
            why = f"{safe_url(stream.url)}: another copy was begun, and no md5 could prove both"
            moved = copy in self._usable_replicas(partial, gone)
            raise (
                RemoteFileChanged(why) if moved and run.urgent else ServerError(why, stream.status)
            )
        if counts != found and counts and found:
            raise VersionMismatch(f"{safe_url(stream.url)}: the file on the server has changed")


class _ClaimedBlocks:
    """The blocks that a run still has to bring, and what has been written of the next ones."""

    def __init__(
        self,
        run: BlockRequest,
        scheduler: Scheduler,
        arrived: BlocksArrived,
        blocks: set[int],
        reservation: Reservation,
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._on_blocks_arrived = arrived
        self.remaining = blocks
        self._reservation = reservation
        #: bytes of the blocks that came
        self.written_bytes = 0
        #: where bytes stand that were written and belong to no block that is there
        self._incomplete = (0, 0)
        #: of the bytes of the block that is not complete yet
        self._checksum = 0

    def claim_whole_file(self) -> None:
        """The whole file comes: claim all that nobody else fetches."""
        self.punch_incomplete()
        self.remaining.update(self._run.partial.claim_all_absent())
        self._scheduler.widen(self._run, sorted(self.remaining))

    def punch_incomplete(self) -> None:
        """Give back the disk space of blocks that were begun and will not be finished."""
        start, end = self._incomplete
        if start < end:
            punch_hole(self._run.partial.block_file.data_fd, start, end - start)
        self._incomplete = (0, 0)

    def write(self, position: int, data: memoryview) -> bool:
        """Bytes that stand at ``position``; whether a block was completed by them."""
        blocks = self._run.partial.block_file
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
        """Bytes of claimed blocks, written in one go: then each block's checksum."""
        blocks = self._run.partial.block_file
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
        blocks = self._run.partial.block_file
        came = range(first, first + len(checksums))
        size = blocks.span(came[-1])[1] - blocks.span(first)[0]
        # the record first: what fails before it leaves the claims to whoever gives them up
        self._run.partial.mark_present(first, checksums)
        self.remaining.difference_update(came)
        self._incomplete = (blocks.span(came[-1])[1], self._incomplete[1])
        self.written_bytes += size
        self._reservation.note_written(disk_size(size))
        self._on_blocks_arrived(self._run, came)
