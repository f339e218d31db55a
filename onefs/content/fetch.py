"""One run of blocks from the file servers to the disk: requests, retries, other copies."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Set
from contextlib import AbstractContextManager

from onefs.content.answers import Changed, OtherVersion, WrongSize, judge_range, validator_of
from onefs.content.blocks import BLOCK_SIZE
from onefs.content.copies import Copies
from onefs.content.files import disk_errors
from onefs.content.holes import disk_size, punch
from onefs.content.hosts import Hosts
from onefs.content.partial import Partial
from onefs.content.room import Reservation, Room
from onefs.content.scheduler import Run, Scheduler
from onefs.content.store import Store
from onefs.descriptors import write_all
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    Unreachable,
)
from onefs.http import Stream
from onefs.model import Copy
from onefs.urls import safe_url

log = logging.getLogger(__name__)

#: bytes taken from the socket and written to the disk at once, where nobody waits for them: each
#: piece costs its thread several turns in the queue for the interpreter
PIECE = 4 * BLOCK_SIZE
#: how often the version that was begun with is asked for again
VERSION_TRIES = 3
#: the troubles of one copy, after which another may do
OF_A_COPY = (
    Unreachable,
    DeadlineExceeded,
    ServerError,
    DataServerCredentials,
    Throttled,
    WrongSize,
)


#: told of the blocks that a run has brought
Arrived = Callable[[Run, range], None]


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
        room: Room,
        stall: float,
        condemn: Callable[[Partial, str], None],
        drop: Callable[[Partial, str], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._room = room
        self._stall = stall
        self._condemn = condemn
        self._drop = drop

    def fetch(self, run: Run, scheduler: Scheduler, arrived: Arrived) -> None:
        """Bring the blocks of a run that nobody else brings. Raises what ended it early."""
        with disk_errors(self._store.root):
            first, last = run.partial.claim(run.first, run.last)
            scheduler.narrow(run, first, last)
            if first == last:
                return
            self._store.fetches(run.partial.dataset)
            claimed = set(range(first, last))
            try:
                self._with_room(run, scheduler, arrived, claimed)
            finally:
                run.partial.release(claimed)

    def _with_room(
        self,
        run: Run,
        scheduler: Scheduler,
        arrived: Arrived,
        claimed: set[int],
    ) -> None:
        block_size = run.partial.blocks.about.block_size
        size, least = len(claimed) * block_size, block_size if run.urgent else 0
        with self._room.reserved(size, least) as reservation:
            if not reservation.granted:  # who has come to wait for it asks again, urgently
                return
            if reservation.granted < size:
                run.partial.release(block for block in claimed if block != run.first)
                claimed.intersection_update({run.first})
                scheduler.narrow(run, run.first, run.first + 1)
            claims = _Claims(run, scheduler, arrived, claimed, reservation)
            try:
                self._from_any_copy(run, claims)
            except Changed as error:
                self._drop(run.partial, "has changed on the server")
                log.warning("%s: %s; begun anew", "/".join(run.partial.place), error)
                raise
            finally:
                claims.clean()

    def _from_any_copy(self, run: Run, claims: _Claims) -> None:
        """Every copy in turn, round and round while that can help."""
        attempt = 0
        doubted = self._store.doubts.check(run.partial.dataset)
        copies = Copies(self._hosts, run.partial.dataset)
        waiting = copies.next(self._candidates(run.partial, copies.gone))
        while claims.blocks:
            again: dict[Copy, float] = {}
            before = claims.written
            for copy in waiting:
                try:
                    while claims.blocks:
                        patience = self._hosts.patience(len(waiting))
                        self._insist(run, copy, claims, copies.gone, patience)
                    if doubted:
                        self._store.doubts.relieve(run.partial.dataset)
                    return
                except OF_A_COPY as error:
                    run.trouble = error
                    attempt = 0 if claims.written > before else attempt
                    delay = copies.failed(copy, error, attempt + 1)
                    if delay is not None:
                        again[copy] = delay
            attempt += 1
            allowed = self._candidates(run.partial, copies.gone)
            # what we fetch may have got a copy of its own meanwhile, or lost it
            waiting = [copy for copy in again if copy in allowed]
            pause = min((again[copy] for copy in waiting), default=0.0)
            waiting = waiting or copies.next(allowed)
            if not waiting:
                raise self._final(run.partial, copies, claims.written)
            if run.stop.wait(pause):
                raise Stopping(f"{run.partial.dataset.name} is not wanted any more")

    def _final(self, partial: Partial, copies: Copies, written: int) -> OnefsError:
        """What the failure of every copy comes to. Raises Unconfirmed."""
        if not copies.wrong or written:
            return copies.failure()
        if copies.unheard is not None:
            return copies.unheard
        evidence = copies.evidence()
        reason = self._store.doubts.confirm(partial.dataset, evidence, evidence)
        self._condemn(partial, reason)
        return BadContent(reason)

    def _candidates(self, partial: Partial, gone: Set[str]) -> list[Copy]:
        """The copies that may serve: without an md5 nothing would prove a mixture, and only the
        one that was begun may. Where that is ``gone``, or none of the dataset's any more, the
        others: who answers shows that the file has moved.
        """
        copies = [copy for copy in partial.dataset.copies if copy.url not in gone]
        sources = partial.blocks.about.sources
        if partial.dataset.md5 or not sources:
            return copies
        return [copy for copy in copies if copy.url in sources] or copies

    def _insist(self, run: Run, copy: Copy, claims: _Claims, gone: Set[str], stall: float) -> None:
        """One request, sent again while a server answers with another version of the file.

        Servers that share a load may name the same bytes differently. Where none has the version
        that was begun with, the file is to be proved before more of it is read. Raises Changed
        where that is of no use: no md5, or the bytes differ.
        """
        for tries_left in range(VERSION_TRIES, -1, -1):
            try:
                self._receive(run, copy, claims, gone, stall)
                return
            except OtherVersion:
                if not tries_left and not self._may_be_the_same(run, copy, stall):
                    raise
        self._prove_first(run)
        self._receive(run, copy, claims, gone, stall)

    def _may_be_the_same(self, run: Run, copy: Copy, stall: float) -> bool:
        """Whether what a copy has now may be the file that was begun: compares one block.

        That saves fetching the rest of a file that has changed; the md5 proves what is the same.
        """
        blocks = run.partial.blocks
        if not run.partial.dataset.md5:
            return False
        present = (n for n, record in enumerate(blocks.records(0, blocks.count)) if record)
        block = next(present, None)
        if block is None:
            return True
        start, end = blocks.span(block)
        checksum, position = 0, 0
        with self._hosts.stream(copy.url, {"Range": f"bytes={start}-{end - 1}"}, stall) as stream:
            run.attach(stream)
            position = judge_range(stream, blocks.about.size, start, end, "").start
            for chunk in stream.iter_chunks():
                self._hosts.count(len(chunk))
                part = memoryview(chunk)[max(0, start - position) : max(0, end - position)]
                checksum = zlib.crc32(part, checksum)
                position += len(chunk)
                if position >= end:
                    break
        return position >= end and blocks.has_checksum(block, checksum)

    def _prove_first(self, run: Run) -> None:
        partial = run.partial
        with self._locked(run):
            partial.prove_first()
        log.warning(
            "%s: its servers name several versions of it: it is fetched whole, and verified before "
            "more of it is read",
            "/".join(partial.place),
        )
        with partial.demand.condition:
            partial.demand.changed()

    def _locked(self, run: Run) -> AbstractContextManager[None]:
        """The dataset's lock, waited for while the run is wanted."""
        return self._store.locks.hold(
            run.partial.dataset.id, self._stall, lambda: not run.stop.is_set()
        )

    def _receive(self, run: Run, copy: Copy, claims: _Claims, gone: Set[str], stall: float) -> None:
        """One request: from the first block that is still missing to the end of the run."""
        blocks = run.partial.blocks
        start, end = blocks.span(min(claims.blocks))[0], blocks.span(run.last - 1)[1]
        validator = blocks.about.sources.get(copy.url, "")
        if run.partial.is_to_be_proved():
            validator = ""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if validator:
            headers["If-Range"] = validator
        with self._hosts.stream(copy.url, headers, stall) as stream:
            run.attach(stream)
            body = judge_range(stream, blocks.about.size, start, end, validator)
            self._name_source(run, copy, stream, gone)
            if not body.ranged:
                claims.widen()
            self._write(run, copy, stream, claims, body.start, body.end, stall)

    def _write(
        self,
        run: Run,
        copy: Copy,
        stream: Stream,
        claims: _Claims,
        position: int,
        end: int,
        stall: float,
    ) -> None:
        url = safe_url(stream.url)
        due = time.monotonic() + stall
        for chunk in stream.iter_chunks(lambda: BLOCK_SIZE if run.urgent else PIECE):
            self._hosts.count(len(chunk))
            came = claims.feed(position, memoryview(chunk)[: end - position])
            position += len(chunk)
            now = time.monotonic()
            if came:
                self._hosts.moved(copy.url)
                due = now + stall
            elif now > due:
                raise DeadlineExceeded(f"{url}: less than a block came in {stall:g} s")
            if not claims.blocks and (position < end or stream.length is None):
                return
            if run.stop.is_set():
                raise Stopping(f"{run.partial.dataset.name} is not wanted any more")
        # the loop's last turn, without a chunk, is what lets the connection be used again
        if position < end:
            raise ServerError(f"{url}: the answer ended {end - position} bytes early")

    def _name_source(self, run: Run, copy: Copy, stream: Stream, gone: Set[str]) -> None:
        """Remember which version of a copy our blocks come from.

        Raises Changed when they are worth nothing beside those that this copy has; but nothing is
        given up for what is only fetched ahead, or while the copy that was begun may serve.
        """
        partial, blocks = run.partial, run.partial.blocks
        if copy.url in blocks.about.sources or partial.is_to_be_proved():
            return
        found = validator_of(stream.headers)
        with self._locked(run):
            counts = blocks.name_source(copy.url, found, alone=not partial.dataset.md5)
        if counts is None:
            why = f"{safe_url(stream.url)}: another copy was begun, and no md5 could prove both"
            moved = copy in self._candidates(partial, gone)
            raise Changed(why) if moved and run.urgent else ServerError(why, stream.status)
        if counts != found and counts and found:
            raise OtherVersion(f"{safe_url(stream.url)}: the file on the server has changed")


class _Claims:
    """The blocks that a run still has to bring, and what has been written of the next ones."""

    def __init__(
        self,
        run: Run,
        scheduler: Scheduler,
        arrived: Arrived,
        blocks: set[int],
        reservation: Reservation,
    ) -> None:
        self._run = run
        self._scheduler = scheduler
        self._arrived = arrived
        self.blocks = blocks
        self._reservation = reservation
        #: bytes of the blocks that came
        self.written = 0
        #: where bytes stand that were written and belong to no block that is there
        self._loose = (0, 0)
        #: of the bytes of the block that is not complete yet
        self._checksum = 0

    def widen(self) -> None:
        """The whole file comes: claim all that nobody else fetches."""
        self.clean()
        self.blocks.update(self._run.partial.claim_scattered())
        self._scheduler.widen(self._run, sorted(self.blocks))

    def clean(self) -> None:
        """Give back the disk space of blocks that were begun and will not be finished."""
        start, end = self._loose
        if start < end:
            punch(self._run.partial.blocks.data, start, end - start)
        self._loose = (0, 0)

    def feed(self, position: int, data: memoryview) -> bool:
        """Bytes that stand at ``position``; whether a block was completed by them."""
        blocks = self._run.partial.blocks
        at, end = position, position + len(data)
        while at < end:
            block = at // blocks.about.block_size
            ours = block in self.blocks
            stop = at
            while stop < end and (block in self.blocks) == ours:
                stop = min(end, blocks.span(block)[1])
                block += 1
            if ours:
                self._write(at, data[at - position : stop - position])
            at = stop
        size = blocks.about.block_size
        return end // size > position // size or end == blocks.about.size

    def _write(self, position: int, data: memoryview) -> None:
        """Bytes of claimed blocks, written in one go: then each block's checksum."""
        blocks = self._run.partial.blocks
        first, end = position // blocks.about.block_size, position + len(data)
        begun = blocks.span(first)[0]
        stop = blocks.span((end - 1) // blocks.about.block_size)[1]
        self._reservation.cover(disk_size(stop - begun))
        self._loose = (begun, end)
        write_all(blocks.data, data, position)
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
            self._finish(first, checksums)

    def _finish(self, first: int, checksums: list[int]) -> None:
        blocks = self._run.partial.blocks
        came = range(first, first + len(checksums))
        size = blocks.span(came[-1])[1] - blocks.span(first)[0]
        # the record first: what fails before it leaves the claims to whoever gives them up
        self._run.partial.arrived(first, checksums)
        self.blocks.difference_update(came)
        self._loose = (blocks.span(came[-1])[1], self._loose[1])
        self.written += size
        self._reservation.wrote(disk_size(size))
        self._arrived(self._run, came)
