"""Small files: fetched whole with one request, verified before their first byte is served.

However many threads ask, one download runs; between processes the dataset's lock sees to that.
Readers wait for as long as bytes keep coming, and no longer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

from cachetools import TTLCache

from onefs.content.answers import WrongSize, expect, total_size
from onefs.content.blocks import BLOCK_SIZE
from onefs.content.copies import ROUNDS, Copies
from onefs.content.doubts import SIGHTINGS, Unconfirmed
from onefs.content.durable import Syncer
from onefs.content.fetch import OF_A_COPY, PIECE
from onefs.content.files import disk_errors, remove, sync
from onefs.content.holes import counted, disk_size
from onefs.content.hosts import FAILURE_PAUSE, Hosts, Silent, failure_pause
from onefs.content.rehash import conclude, rehash
from onefs.content.room import Reservation, Room
from onefs.content.store import Place, Store
from onefs.content.transfer import Transfer
from onefs.content.verify import Verdict, judge, judge_size, new_hash
from onefs.descriptors import created, write_all
from onefs.errors import (
    BadContent,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    again,
)
from onefs.flights import Flights, outcome
from onefs.http import Stream
from onefs.model import Copy, Dataset
from onefs.urls import safe_url

log = logging.getLogger(__name__)

#: downloads at once; the rest queue
WORKERS = 16

#: seconds until a copy whose bytes have a wrong hash is asked once more
SECOND_LOOK = 0.5

#: bytes of an answer that may be a sentence in the place of a file
SENTENCE_SIZE = 1 << 16

#: which bytes are fetched: a dataset's id, size and md5, since an id may get others at any time
Bytes = tuple[str, int | None, str]


@dataclass
class _Found:
    """What came of asking the copies of one dataset."""

    verdict: Verdict = field(default_factory=lambda: Verdict("bad"))
    #: of the bytes that are on disk; '' when there are none, or not all
    digest: str = ""
    #: each copy gave the same wrong bytes twice
    confirmed: bool = False
    #: of the last wrong bytes of each copy, by URL
    digests: dict[str, str] = field(default_factory=dict)
    #: URLs of the copies that gave the same wrong bytes twice
    repeated: set[str] = field(default_factory=set)

    def note(self, copy: Copy, digest: str) -> bool:
        """Note the wrong bytes that are on disk now; whether the copy gave none before."""
        known = self.digests.get(copy.url)
        self.digest = self.digests[copy.url] = digest
        if known == digest:
            self.repeated.add(copy.url)
        return known is None


class WholeFetcher:
    """Downloads for one store. Thread-safe.

    ``stall`` is the number of seconds without any progress after which waiting ends.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        room: Room,
        stall: float,
        on_bad: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._room = room
        self._stall = stall
        self._on_bad = on_bad
        self._syncer = Syncer(store)
        self._flights: Flights[Path] = Flights("onefs-fetch", WORKERS)
        self._guard = threading.Lock()
        self._transfers: dict[Bytes, Transfer] = {}
        self._failures: TTLCache[Dataset, tuple[OnefsError, float]] = TTLCache(65536, FAILURE_PAUSE)
        self._moved = time.monotonic()
        self._stopped = threading.Event()

    def close(self) -> None:
        """Wake who waits, with Stopping, and let downloads end."""
        self._stopped.set()
        self._flights.close()
        self._syncer.close()

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        with self._guard:
            return list(self._transfers.values())

    def failure(self, dataset: Dataset) -> OnefsError | None:
        """Why the last download of a dataset failed, for a few seconds after it did."""
        with self._guard:
            found = self._failures.get(dataset)
        return found[0] if found is not None and time.monotonic() < found[1] else None

    def wait(self, dataset: Dataset, place: Place) -> Path:
        """The verified file of a dataset, downloading it if need be.

        Waits while bytes come, or while others' do before its turn: DeadlineExceeded after
        ``stall`` seconds without any. Raises BadContent, Unreachable, DataServerCredentials,
        ServerError, CacheError or Stopping.
        """
        failed = self.failure(dataset)
        if failed is not None:
            raise again(failed)
        try:
            return self._join(dataset, place)
        except Silent:
            self._hosts.await_probe(dataset.copies)
            return self._join(dataset, place)

    def _join(self, dataset: Dataset, place: Place) -> Path:
        """Wait for the download that is under way, or a new one."""
        asked = time.monotonic()
        future = self._flights.start(_bytes_of(dataset), lambda: self._run(dataset, place))
        while not futures.wait([future], timeout=min(0.5, self._stall)).done:
            self._check_progress(dataset, asked)
        return outcome(future)

    def size_of(self, dataset: Dataset, deadline: float) -> int:
        """The size that a file server gives for a dataset, for which it sends no bytes."""
        self._hosts.await_probe(dataset.copies)
        trouble: OnefsError | None = None
        for copy in self._hosts.order(dataset.copies):
            try:
                with self._hosts.stream(copy.url, {"Range": "bytes=0-0"}, deadline) as stream:
                    size = total_size(stream)
                    if stream.status == 200 and size <= SENTENCE_SIZE and dataset.md5:
                        _prove(dataset, stream)
                    return size
            except OnefsError as error:
                trouble = error
                if isinstance(error, Throttled):
                    self._hosts.throttled(copy.url, error.retry_after)
        raise trouble or ServerError(f"{dataset.name} stands on no file server")

    def _check_progress(self, dataset: Dataset, asked: float) -> None:
        with self._guard:
            transfer = self._transfers.get(_bytes_of(dataset))
        moved = transfer.moved if transfer is not None else self._moved
        if time.monotonic() - max(moved, asked) > self._stall:
            if transfer is not None and transfer.url:
                self._hosts.overdue(transfer.url)
                if transfer.trouble is not None:
                    raise again(transfer.trouble)
            raise DeadlineExceeded(f"{dataset.name}: nothing has come for {self._stall:g} s")

    def _run(self, dataset: Dataset, place: Place) -> Path:
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset.id, 3600.0, self._is_wanted),
            ):
                path = self._ensure(dataset, place)
        except OnefsError as error:
            bad = isinstance(error, BadContent) and not isinstance(error, Unconfirmed)
            if not isinstance(error, Unconfirmed):  # those are in the log already
                # the error is raised where the file is wanted; the line is for a mount's log
                log.info("%s: %s", "/".join(place), error)
            with self._guard:
                self._failures[dataset] = (error, time.monotonic() + failure_pause(error))
            if bad:
                self._on_bad(dataset)
            raise
        self._syncer.add(dataset)
        return path

    def _is_wanted(self) -> bool:
        return not self._stopped.is_set()

    def _ensure(self, dataset: Dataset, place: Place) -> Path:
        """Another process may have done it all meanwhile."""
        entry = self._store.recorded(dataset)
        if entry is not None and entry.state == "bad":
            raise BadContent(entry.reason)
        if entry is not None:
            return self._store.root / entry.path
        return (
            self._prove_again(dataset)
            or self._store.adopt(dataset, place)
            or self._store.vindicate(dataset, place)
            or self._download(dataset, place)
        )

    def _prove_again(self, dataset: Dataset) -> Path | None:
        """The file that is there, if its bytes are still good though its ctime is another."""
        entry, doubted = self._store.look(dataset)
        if entry is None or not doubted:
            return None
        return conclude(self._store, dataset, entry, rehash(self._store, entry))

    def _download(self, dataset: Dataset, place: Place) -> Path:
        doubted = self._store.doubts.check(dataset)
        self._store.fetches(dataset)
        partial = self._store.partial(dataset)
        transfer = Transfer("/".join(place), dataset.size)
        with self._guard:
            self._transfers[_bytes_of(dataset)] = transfer
        size = disk_size(dataset.size if dataset.size is not None else BLOCK_SIZE)
        try:
            with self._room.reserved(size, size) as room:
                found = self._from_any_copy(dataset, partial, transfer, room)
                if not found.verdict.good:
                    raise BadContent(self._reject(dataset, found, partial, room))
                path = self._store.publish(
                    dataset, place, partial, found.verdict, digest=found.digest
                )
                if doubted:
                    self._store.doubts.clear(dataset.id)
                room.wrote(disk_size(transfer.done))
                return path
        except BaseException:
            remove(partial)
            raise
        finally:
            with self._guard:
                del self._transfers[_bytes_of(dataset)]

    def _reject(self, dataset: Dataset, found: _Found, partial: Path, room: Reservation) -> str:
        """Remember a verdict, and keep whole bytes that are wrong, for who wants to accept them.

        Returns the reason. Raises Unconfirmed when this was not seen often enough.
        """
        evidence = found.verdict.reason
        needed = 1 if found.confirmed else SIGHTINGS
        reason = self._store.doubts.confirm(dataset, evidence, evidence, needed)
        kept = None
        if found.digest:
            kept = self._store.rejected(dataset)
            self._store.ledger.change(-counted(kept))
            room.wrote(counted(partial))
            sync(partial)  # somebody may want just these bytes
            partial.replace(kept)
        self._store.condemn(dataset, reason, kept, found.digest)
        return reason

    def _from_any_copy(
        self, dataset: Dataset, partial: Path, transfer: Transfer, room: Reservation
    ) -> _Found:
        """What came of the first copy that is good, else of all.

        Every copy in turn, round and round while that can help. One whose bytes have a wrong hash
        is asked once more. Raises the last copy's trouble when none could be had.
        """
        found = _Found()
        copies = Copies(self._hosts, dataset)
        waiting = copies.next(dataset.copies)
        for attempt in range(1, ROUNDS + 1):
            again: dict[Copy, float] = {}
            for copy in waiting:
                found.digest = ""  # what is on disk is about to be written over
                try:
                    patience = self._hosts.patience(len(waiting))
                    verdict, digest = self._receive(
                        dataset, copy, partial, transfer, room, patience
                    )
                    if verdict.good:
                        return _Found(verdict, digest)
                    copies.contradicted(copy, verdict.reason)
                    if found.note(copy, digest) and not self._hosts.is_too_long(SECOND_LOOK):
                        again[copy] = SECOND_LOOK
                except WrongSize as error:
                    copies.contradicted(copy, str(error))
                except OF_A_COPY as error:
                    transfer.trouble = error
                    delay = copies.failed(copy, error, attempt)
                    if delay is not None:
                        again[copy] = delay
            if not again:
                break
            waiting = list(again)
            if self._stopped.wait(min(again.values())):
                raise Stopping("onefs is being stopped")
        if not copies.wrong:
            raise copies.failure()
        if copies.unheard is not None:
            raise copies.unheard
        found.verdict = Verdict("bad", copies.evidence())
        found.confirmed = dataset.size is not None and found.repeated.issuperset(copies.wrong)
        return found

    def _receive(
        self,
        dataset: Dataset,
        copy: Copy,
        partial: Path,
        transfer: Transfer,
        room: Reservation,
        stall: float,
    ) -> tuple[Verdict, str]:
        digest = new_hash(dataset)
        transfer.done = 0
        transfer.url = copy.url
        url = safe_url(copy.url)
        marked = 0
        with self._hosts.stream(copy.url, {}, stall) as stream:
            expect(stream, 200)
            if stream.length is not None and dataset.size not in (None, stream.length):
                raise WrongSize(judge_size(dataset, stream.length).reason, stream.length)
            due = time.monotonic() + stall
            with created(partial) as file:
                for chunk in stream.iter_chunks(lambda: PIECE):
                    room.cover(disk_size(transfer.done + len(chunk)))
                    write_all(file, memoryview(chunk), transfer.done)
                    digest.update(chunk)
                    transfer.done += len(chunk)
                    self._hosts.count(len(chunk))
                    if transfer.done - marked >= BLOCK_SIZE:
                        marked = transfer.done
                        due = time.monotonic() + stall
                        self._hosts.moved(copy.url)
                        transfer.moved = self._moved = time.monotonic()
                    elif time.monotonic() > due:
                        raise DeadlineExceeded(f"{url}: too few bytes came in {stall:g} s")
                    if dataset.size is not None and transfer.done > dataset.size:
                        why = f"the database says {dataset.size} bytes, the file has more"
                        raise WrongSize(why, transfer.done)
            if stream.length is None and transfer.done < (dataset.size or 0):
                raise ServerError(f"{url}: the answer broke off after {transfer.done} bytes")
        self._hosts.moved(copy.url)
        transfer.moved = self._moved = time.monotonic()
        return judge(dataset, transfer.done, digest.hexdigest()), digest.hexdigest()


def _prove(dataset: Dataset, stream: Stream) -> None:
    """Raise ServerError unless the bytes that came, though one was asked for, are the dataset's.

    A server in trouble sends a sentence, whose length would be kept as the size of the file.
    """
    digest = new_hash(dataset)
    for chunk in stream.iter_chunks():
        digest.update(chunk)
    if digest.hexdigest() != dataset.md5:
        raise ServerError(
            f"{safe_url(stream.url)}: the file server sends something else than the file", 200
        )


def _bytes_of(dataset: Dataset) -> Bytes:
    return dataset.id, dataset.size, dataset.md5
