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

from onefs.cache.files import disk_errors, remove_if_possible, sync_file
from onefs.cache.folder import Place
from onefs.cache.fsync_queue import FsyncQueue
from onefs.cache.in_place import adopt_in_place
from onefs.cache.mismatches import REQUIRED_SIZE_MISMATCHES, UnconfirmedMismatch
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.reservations import DiskSpace, Reservation
from onefs.cache.sparse import counted_size, disk_size
from onefs.cache.store import Store
from onefs.cache.verify import (
    ContentVerdict,
    check_content,
    check_size,
    new_hash,
)
from onefs.config.urls import safe_url
from onefs.download.hosts import (
    CircuitOpen,
    Hosts,
    failure_ttl,
)
from onefs.download.progress import Transfer
from onefs.download.replicas import MAX_ROUNDS, REPLICA_ERRORS, Replicas
from onefs.download.responses import BULK_CHUNK_BYTES, WrongSize, check_status, total_size
from onefs.errors import (
    BadContent,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    copy_error,
)
from onefs.http import Stream
from onefs.lowlevel.files import open_new_file, write_all
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight, result_of
from onefs.model import Dataset, Replica

log = logging.getLogger(__name__)

#: bytes between two reports of progress; also reserved for a file of unknown size
_PROGRESS_STEP_BYTES = 512 * 1024

#: downloads at once; the rest queue
MAX_DOWNLOADS = 16
#: datasets whose last failure is remembered
MAX_FAILURES = 65536

#: seconds until a copy whose bytes have a wrong hash is asked once more
MISMATCH_RETRY_SECONDS = 0.5

#: bytes of an answer that may be a sentence in the place of a file
MAX_ERROR_TEXT_BYTES = 1 << 16

#: which bytes are fetched: a dataset's id, size and md5, since an id may get others at any time
ContentKey = tuple[str, int | None, str]


@dataclass
class _DownloadResult:
    """What came of asking the copies of one dataset."""

    verdict: ContentVerdict = field(default_factory=lambda: ContentVerdict("bad"))
    #: of the bytes that are on disk; '' when there are none, or not all
    digest: str = ""
    #: each copy gave the same wrong bytes twice
    is_confirmed: bool = False
    #: of the last wrong bytes of each copy, by URL
    digests: dict[str, str] = field(default_factory=dict)
    #: URLs of the copies that gave the same wrong bytes twice
    repeating_urls: set[str] = field(default_factory=set)

    def note_mismatch(self, copy: Replica, digest: str) -> bool:
        """Note the wrong bytes that are on disk now; whether the copy gave none before."""
        known = self.digests.get(copy.url)
        self.digest = self.digests[copy.url] = digest
        if known == digest:
            self.repeating_urls.add(copy.url)
        return known is None


class SmallFileDownloader:
    """Downloads for one store. Thread-safe.

    ``stall`` is the number of seconds without any progress after which waiting ends.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        room: DiskSpace,
        stall: float,
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._space = room
        self._stall = stall
        self._on_invalidated = on_invalidated
        self._fsync_queue = FsyncQueue(store)
        self._single_flight: SingleFlight[Path] = SingleFlight("onefs-fetch", MAX_DOWNLOADS)
        self._lock = threading.Lock()
        self._transfers: dict[ContentKey, Transfer] = {}
        self._failures: NegativeCache[Dataset] = NegativeCache(MAX_FAILURES, failure_ttl)
        self._last_progress_at = time.monotonic()
        self._stopped = threading.Event()

    def close(self) -> None:
        """Wake who waits, with Stopping, and let downloads end."""
        self._stopped.set()
        self._single_flight.close()
        self._fsync_queue.close()

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        with self._lock:
            return list(self._transfers.values())

    def recent_failure(self, dataset: Dataset) -> OnefsError | None:
        """Why the last download of a dataset failed, for a few seconds after it did."""
        return self._failures.get(dataset)

    def fetch(self, dataset: Dataset, place: Place) -> Path:
        """The verified file of a dataset, downloading it if need be.

        Waits while bytes come, or while others' do before its turn: DeadlineExceeded after
        ``stall`` seconds without any. Raises BadContent, Unreachable, DataServerCredentials,
        ServerError, CacheError or Stopping.
        """
        self._failures.raise_failure(dataset)
        try:
            return self._wait_for_download(dataset, place)
        except CircuitOpen:
            self._hosts.wait_for_probe(dataset.replicas)
            return self._wait_for_download(dataset, place)

    def _wait_for_download(self, dataset: Dataset, place: Place) -> Path:
        """Wait for the download that is under way, or a new one."""
        asked = time.monotonic()
        future = self._single_flight.start(
            _content_key(dataset), lambda: self._run_download(dataset, place)
        )
        while not futures.wait([future], timeout=min(0.5, self._stall)).done:
            self._check_progress(dataset, asked)
        return result_of(future)

    def size_of(self, dataset: Dataset, deadline: float) -> int:
        """The size that a file server gives for a dataset, for which it sends no bytes."""
        self._hosts.wait_for_probe(dataset.replicas)
        trouble: OnefsError | None = None
        for copy in self._hosts.order_replicas(dataset.replicas):
            try:
                with self._hosts.stream(copy.url, {"Range": "bytes=0-0"}, deadline) as stream:
                    size = total_size(stream)
                    if stream.status == 200 and size <= MAX_ERROR_TEXT_BYTES and dataset.md5:
                        _check_digest(dataset, stream)
                    return size
            except OnefsError as error:
                trouble = error
                if isinstance(error, Throttled):
                    self._hosts.note_throttled(copy.url, error.retry_after)
        raise trouble or ServerError(f"{dataset.name} stands on no file server")

    def _check_progress(self, dataset: Dataset, asked: float) -> None:
        with self._lock:
            transfer = self._transfers.get(_content_key(dataset))
        moved = transfer.last_progress_at if transfer is not None else self._last_progress_at
        if time.monotonic() - max(moved, asked) > self._stall:
            if transfer is not None and transfer.url:
                self._hosts.note_timeout(transfer.url)
                if transfer.last_error is not None:
                    raise copy_error(transfer.last_error)
            raise DeadlineExceeded(f"{dataset.name}: nothing has come for {self._stall:g} s")

    def _run_download(self, dataset: Dataset, place: Place) -> Path:
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset.id, 3600.0, self._is_wanted),
            ):
                path = self._find_or_download(dataset, place)
        except OnefsError as error:
            bad = isinstance(error, BadContent) and not isinstance(error, UnconfirmedMismatch)
            if not isinstance(error, UnconfirmedMismatch):  # those are in the log already
                # the error is raised where the file is wanted; the line is for a mount's log
                log.info("%s: %s", "/".join(place), error)
            self._failures.add(dataset, error)
            if bad:
                self._on_invalidated(dataset)
            raise
        self._fsync_queue.add(dataset)
        return path

    def _is_wanted(self) -> bool:
        return not self._stopped.is_set()

    def _find_or_download(self, dataset: Dataset, place: Place) -> Path:
        """Another process may have done it all meanwhile."""
        entry = self._store.valid_entry(dataset)
        if entry is not None and entry.state == "bad":
            raise BadContent(entry.reason)
        if entry is not None:
            return self._store.root / entry.path
        return (
            self._rehash(dataset)
            or adopt_in_place(self._store, dataset, place)
            or self._store.reinstate(dataset, place)
            or self._download(dataset, place)
        )

    def _rehash(self, dataset: Dataset) -> Path | None:
        """The file that is there, if its bytes are still good though its ctime is another."""
        entry, doubted = self._store.look_up(dataset)
        if entry is None or not doubted:
            return None
        return reinstate_or_remove(self._store, dataset, entry, hash_entry(self._store, entry))

    def _download(self, dataset: Dataset, place: Place) -> Path:
        doubted = self._store.mismatches.check(dataset)
        self._store.note_fetch(dataset)
        partial = self._store.download_path(dataset)
        transfer = Transfer("/".join(place), dataset.size)
        with self._lock:
            self._transfers[_content_key(dataset)] = transfer
        size = disk_size(dataset.size if dataset.size is not None else _PROGRESS_STEP_BYTES)
        try:
            with self._space.reservation(size, size) as room:
                found = self._download_from_replicas(dataset, partial, transfer, room)
                if not found.verdict.is_good:
                    raise BadContent(self._reject(dataset, found, partial, room))
                path = self._store.publish(
                    dataset, place, partial, found.verdict, digest=found.digest
                )
                if doubted:
                    self._store.mismatches.clear(dataset.id)
                room.note_written(disk_size(transfer.done_bytes))
                return path
        except BaseException:
            remove_if_possible(partial)
            raise
        finally:
            with self._lock:
                del self._transfers[_content_key(dataset)]

    def _reject(
        self, dataset: Dataset, found: _DownloadResult, partial: Path, room: Reservation
    ) -> str:
        """Remember a verdict, and keep whole bytes that are wrong, for who wants to accept them.

        Returns the reason. Raises Unconfirmed when this was not seen often enough.
        """
        evidence = found.verdict.reason
        needed = 1 if found.is_confirmed else REQUIRED_SIZE_MISMATCHES
        reason = self._store.mismatches.note_mismatch(dataset, evidence, evidence, needed)
        kept = None
        if found.digest:
            kept = self._store.rejected_path(dataset)
            self._store.usage.adjust(-counted_size(kept))
            room.note_written(counted_size(partial))
            sync_file(partial)  # somebody may want just these bytes
            partial.replace(kept)
        self._store.reject(dataset, reason, kept, found.digest)
        return reason

    def _download_from_replicas(
        self, dataset: Dataset, partial: Path, transfer: Transfer, room: Reservation
    ) -> _DownloadResult:
        """What came of the first copy that is good, else of all.

        Every copy in turn, round and round while that can help. One whose bytes have a wrong hash
        is asked once more. Raises the last copy's trouble when none could be had.
        """
        found = _DownloadResult()
        copies = Replicas(self._hosts, dataset)
        waiting = copies.next_untried(dataset.replicas)
        for attempt in range(1, MAX_ROUNDS + 1):
            again: dict[Replica, float] = {}
            for copy in waiting:
                found.digest = ""  # what is on disk is about to be written over
                try:
                    patience = self._hosts.stall_timeout(len(waiting))
                    verdict, digest = self._receive_body(
                        dataset, copy, partial, transfer, room, patience
                    )
                    if verdict.is_good:
                        return _DownloadResult(verdict, digest)
                    copies.note_mismatch(copy, verdict.reason)
                    if found.note_mismatch(copy, digest) and not self._hosts.is_longer_than_stall(
                        MISMATCH_RETRY_SECONDS
                    ):
                        again[copy] = MISMATCH_RETRY_SECONDS
                except WrongSize as error:
                    copies.note_mismatch(copy, str(error))
                except REPLICA_ERRORS as error:
                    transfer.last_error = error
                    delay = copies.note_failure(copy, error, attempt)
                    if delay is not None:
                        again[copy] = delay
            if not again:
                break
            waiting = list(again)
            if self._stopped.wait(min(again.values())):
                raise Stopping("onefs is being stopped")
        if not copies.mismatches:
            raise copies.final_error()
        if copies.unanswered_error is not None:
            raise copies.unanswered_error
        found.verdict = ContentVerdict("bad", copies.evidence())
        found.is_confirmed = dataset.size is not None and found.repeating_urls.issuperset(
            copies.mismatches
        )
        return found

    def _receive_body(
        self,
        dataset: Dataset,
        copy: Replica,
        partial: Path,
        transfer: Transfer,
        room: Reservation,
        stall: float,
    ) -> tuple[ContentVerdict, str]:
        digest = new_hash(dataset)
        transfer.done_bytes = 0
        transfer.url = copy.url
        url = safe_url(copy.url)
        marked = 0
        with self._hosts.stream(copy.url, {}, stall) as stream:
            check_status(stream, 200)
            if stream.length is not None and dataset.size not in (None, stream.length):
                raise WrongSize(check_size(dataset, stream.length).reason, stream.length)
            due = time.monotonic() + stall
            with open_new_file(partial) as file:
                for chunk in stream.iter_chunks(lambda: BULK_CHUNK_BYTES):
                    room.ensure_space(disk_size(transfer.done_bytes + len(chunk)))
                    write_all(file, memoryview(chunk), transfer.done_bytes)
                    digest.update(chunk)
                    transfer.done_bytes += len(chunk)
                    self._hosts.count_bytes(len(chunk))
                    if transfer.done_bytes - marked >= _PROGRESS_STEP_BYTES:
                        marked = transfer.done_bytes
                        due = time.monotonic() + stall
                        self._hosts.note_progress(copy.url)
                        transfer.last_progress_at = self._last_progress_at = time.monotonic()
                    elif time.monotonic() > due:
                        raise DeadlineExceeded(f"{url}: too few bytes came in {stall:g} s")
                    if dataset.size is not None and transfer.done_bytes > dataset.size:
                        why = f"the database says {dataset.size} bytes, the file has more"
                        raise WrongSize(why, transfer.done_bytes)
            if stream.length is None and transfer.done_bytes < (dataset.size or 0):
                raise ServerError(f"{url}: the answer broke off after {transfer.done_bytes} bytes")
        self._hosts.note_progress(copy.url)
        transfer.last_progress_at = self._last_progress_at = time.monotonic()
        return check_content(dataset, transfer.done_bytes, digest.hexdigest()), digest.hexdigest()


def _check_digest(dataset: Dataset, stream: Stream) -> None:
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


def _content_key(dataset: Dataset) -> ContentKey:
    return dataset.id, dataset.size, dataset.md5
