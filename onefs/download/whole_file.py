"""Small-file downloader: fetches a whole file with one request, and verifies it before use.

Only one download of a file runs at a time, even if several threads or processes read the file.
Between processes, a lock for each dataset ensures this. Readers wait as long as bytes arrive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from onefs.cache.files import disk_errors, remove_if_possible, sync_file
from onefs.cache.folder import Place
from onefs.cache.fsync_queue import FsyncQueue
from onefs.cache.in_place import adopt_in_place, has_candidate
from onefs.cache.mismatches import REQUIRED_SIZE_MISMATCHES, UnconfirmedMismatch
from onefs.cache.records import CacheEntry
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.reservations import DiskSpace
from onefs.cache.sparse import counted_size, disk_size
from onefs.cache.store import Store
from onefs.cache.verify import ContentVerdict
from onefs.download.body import (
    PROGRESS_STEP_BYTES,
    Ahead,
    BodyReceiver,
    Download,
    FetchAheadEnded,
)
from onefs.download.head import fetch_size
from onefs.download.hosts import CircuitOpen, Hosts, failure_ttl
from onefs.download.progress import Transfer, Transfers, content_key
from onefs.download.replicas import MAX_ROUNDS, REPLICA_ERRORS, Replicas
from onefs.download.sources.interface import WrongSize
from onefs.errors import (
    BadContent,
    CacheFull,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    copy_error,
    strip_tracebacks,
)
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight, result_of, wait_until_done
from onefs.model import Dataset, Replica

log = logging.getLogger(__name__)

#: largest number of downloads at the same time; further downloads are queued
MAX_DOWNLOADS = 16
#: largest number of datasets whose last failure is kept
MAX_FAILURES = 65536

#: seconds after which a replica is retried if its body has a wrong digest
MISMATCH_RETRY_SECONDS = 0.5


class _Outcome(NamedTuple):
    """A verified file."""

    path: Path
    #: whether its record says that it was used just now
    is_used: bool


class SmallFileDownloader:
    """Downloads whole files into one cache folder. Thread-safe.

    ``stall`` is the number of seconds without new bytes after which readers stop waiting.
    ``on_invalidated`` is called with each dataset whose content contradicts the database.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        space: DiskSpace,
        stall: float,
        on_invalidated: Callable[[Dataset], None],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._space = space
        self._stall = stall
        self._on_invalidated = on_invalidated
        self._fsync_queue = FsyncQueue(store)
        self._single_flight: SingleFlight[_Outcome] = SingleFlight("onefs-fetch", MAX_DOWNLOADS)
        self._transfers = Transfers()
        self._failures: NegativeCache[Dataset] = NegativeCache(MAX_FAILURES, failure_ttl)
        self._stopped = threading.Event()
        self._bodies = BodyReceiver(hosts, stall, self._stopped)

    def close(self) -> None:
        """End the downloads, and wake the waiting threads. In these threads, Stopping is raised."""
        self._stopped.set()
        self._single_flight.close()
        self._fsync_queue.close()

    def transfers(self) -> list[Transfer]:
        """Return the progress of each running download."""
        return self._transfers.running()

    def recent_failure(self, dataset: Dataset) -> OnefsError | None:
        """Return the error of a dataset's last download if the download failed a few seconds ago.

        Return None if the last download succeeded, or failed longer ago.
        """
        return self._failures.get(dataset)

    def fetch(
        self, dataset: Dataset, place: Place, before_retry: Callable[[], None] = lambda: None
    ) -> Path:
        """Return the path of a dataset's verified file. Download the file if it is not cached.

        ``before_retry`` is called before bytes that were fetched ahead are fetched again.
        Waits as long as bytes of the file arrive. A queued download waits as long as bytes of other
        downloads arrive. Raises DeadlineExceeded if no bytes arrive for ``stall`` seconds. Also
        raises BadContent, Unreachable, DataServerCredentials, ServerError, Throttled, CacheError or
        Stopping.
        """
        self._failures.raise_failure(dataset)
        try:
            outcome = self._wait_for_download(dataset, place, before_retry)
        except CircuitOpen:
            self._hosts.wait_for_probe(dataset.replicas)
            outcome = self._wait_for_download(dataset, place, before_retry)
        if not outcome.is_used:
            self.note_use(dataset)
        return outcome.path

    def begin(self, dataset: Dataset, place: Place) -> None:
        """Begin the download of a file that :meth:`fetch` is about to be called for.

        Do nothing if the last download failed a few seconds ago. Raises Stopping or Busy.
        """
        if self._failures.get(dataset) is None:
            self._single_flight.start(
                content_key(dataset), partial(self._run_download, dataset, place)
            )

    def note_use(self, dataset: Dataset) -> None:
        """Record that a program uses a file that was not cached when the program asked for it."""
        if self._store.records.note_first_use(dataset.id):
            self.sync_soon(dataset)

    def sync_soon(self, dataset: Dataset) -> None:
        """Sync a cached file to disk in the background."""
        self._fsync_queue.add(dataset)

    def can_fetch_ahead(self, dataset: Dataset) -> bool:
        """Whether a file server of the dataset may be asked for files that no reader waits for."""
        return self.replica_to_fetch_ahead(dataset) is not None

    def replica_to_fetch_ahead(self, dataset: Dataset) -> Replica | None:
        """Return the replica from which a file may be fetched that no reader waits for, or None."""
        # without locks on the disk, a download ahead would hold the thread lock of other files
        shared = self._store.shared
        return self._hosts.replica_to_fetch_ahead(dataset.replicas) if shared else None

    def is_slow(self, replica: Replica) -> bool:
        """Whether the server of a replica takes long to answer: the processors have time."""
        return self._bodies.answer_times.is_slow(replica.url)

    def is_any_answer_slow(self) -> bool:
        """Whether a file server takes long to answer."""
        return self._bodies.answer_times.is_any_slow()

    def bytes_ahead(self) -> int | None:
        """Return how many bytes may be fetched ahead and unread, so that they arrive soon.

        Return None if the speed of the link is unknown.
        """
        # all that is fetched ahead shares the link: a reader of the last file waits for all of it
        return self._bodies.speed.bytes_in(self._stall / 4)

    def fetch_ahead(self, dataset: Dataset, place: Place, may_go_on: Callable[[int], bool]) -> bool:
        """Download a dataset's file that no reader waits for, in the calling thread.

        One replica is tried once, or the next one if its server refuses or lacks the file. Nothing
        is evicted. ``may_go_on`` is called with the length of each chunk, and returns False to end
        the download. Return False if the file is not downloaded, because it is cached, is being
        downloaded, or because there is no room for it. Raises the errors of :meth:`fetch`. Of a
        failure, a read knows only that a server refuses or lacks the file, and tries other servers
        first.

        A reader that asks for the file meanwhile waits for this download. If it fails, the reader
        downloads the file itself.
        """
        self._failures.raise_failure(dataset)
        if not self.can_fetch_ahead(dataset):
            return False
        try:
            outcome = self._single_flight.run_if_idle(
                content_key(dataset), lambda: self._run_ahead(dataset, place, may_go_on)
            )
        except FetchAheadEnded as end:
            if end.reason is None:
                return False
            raise end.reason from None
        return outcome is not None

    def _run_ahead(
        self, dataset: Dataset, place: Place, may_go_on: Callable[[int], bool]
    ) -> _Outcome:
        has_lock = False
        try:
            # no wait for the dataset's lock: another process that holds it fetches the file
            with disk_errors(self._store.root), self._store.locks.hold(dataset.id, 0.0):
                has_lock = True
                entry, _ = self._store.look_up(dataset)
                if entry is not None or has_candidate(self._store, dataset, place):
                    raise FetchAheadEnded(None)
                path = self._download_ahead(dataset, place, may_go_on)
        except OnefsError as error:
            is_locked = isinstance(error, DeadlineExceeded) and not has_lock
            if is_locked or isinstance(error, CacheFull):
                raise FetchAheadEnded(None) from error
            raise FetchAheadEnded(error) from error
        self.sync_soon(dataset)
        return _Outcome(path, is_used=False)

    def _download_ahead(
        self, dataset: Dataset, place: Place, may_go_on: Callable[[int], bool]
    ) -> Path:
        """Download from the first replica that may be used and does not fail.

        Raises FetchAheadEnded with the error of the last replica, or with None if none may be used.
        Raises DeadlineExceeded of the first one, because a reader may wait already.
        """
        untried, failure = list(dataset.replicas), FetchAheadEnded(None)
        while replica := self._hosts.replica_to_fetch_ahead(untried):
            untried.remove(replica)
            try:
                return self._download(dataset, place, Ahead(replica, may_go_on))
            except REPLICA_ERRORS as error:
                self._hosts.pause_ahead(replica.url, error)
                if isinstance(error, DeadlineExceeded):
                    raise
                self._hosts.note_failure(replica.url, error)
                failure = FetchAheadEnded(error)
        raise failure

    def _wait_for_download(
        self, dataset: Dataset, place: Place, before_retry: Callable[[], None]
    ) -> _Outcome:
        """Wait for the download of the dataset, and return its file.

        If no download of the dataset is running, start a download.
        """
        started_at = time.monotonic()
        waiting_since: float | None = None
        with self._transfers.count_reader(dataset):
            while True:
                future = self._single_flight.start(
                    content_key(dataset),
                    partial(self._run_download, dataset, place, waiting_since),
                )
                while not wait_until_done(future, min(0.5, self._stall)):
                    self._check_progress(dataset, started_at)
                try:
                    return result_of(future)
                except FetchAheadEnded:  # the second wait and the first together are one wait
                    waiting_since = started_at
                    before_retry()

    def size_of(self, dataset: Dataset, deadline: float) -> int:
        """Ask the file servers for the size of a dataset's file, and return the size in bytes.

        The wait for each replica's headers or next byte is at most ``deadline`` seconds. Raises the
        error of the last replica if all replicas fail.
        """
        self._hosts.wait_for_probe(dataset.replicas)
        last_error: OnefsError | None = None
        for replica in self._hosts.order_replicas(dataset.replicas):
            try:
                return fetch_size(dataset, replica.url, deadline, self._hosts.source)
            except OnefsError as error:
                last_error = strip_tracebacks(error)
                self._hosts.note_failure(replica.url, last_error)
                if isinstance(error, Throttled):
                    self._hosts.note_throttled(replica.url, error.retry_after)
        raise copy_error(last_error or ServerError(f"no file server has {dataset.name}"))

    def _check_progress(self, dataset: Dataset, started_at: float) -> None:
        """Raise an error if no bytes have arrived for ``stall`` seconds.

        This is the most recent error among all replicas. If there is none, it is DeadlineExceeded.
        """
        transfer = self._transfers.of(dataset)
        last_progress_at = (
            self._bodies.last_progress_at if transfer is None else transfer.last_progress_at
        )
        if time.monotonic() - max(last_progress_at, started_at) > self._stall:
            if transfer is not None and transfer.url:
                self._hosts.note_timeout(transfer.url)
                if transfer.last_error is not None:
                    raise copy_error(transfer.last_error)
            raise DeadlineExceeded(
                f"no data of the file {dataset.name} has arrived for {self._stall:g} s: check the "
                "network, and try again"
            )

    def _run_download(
        self, dataset: Dataset, place: Place, waiting_since: float | None = None
    ) -> _Outcome:
        """Find or download a dataset's file for readers, and return it.

        ``waiting_since`` is when the first reader began to wait, if that was before this download.
        """
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset.id, 3600.0, lambda: not self._stopped.is_set()),
            ):
                outcome = self._find_or_download(dataset, place, waiting_since)
        except OnefsError as error:
            is_unconfirmed = isinstance(error, UnconfirmedMismatch)
            if not is_unconfirmed:  # an UnconfirmedMismatch is already in the log
                # the reader gets the error too; this line is for the log of the mount
                log.info("%s: %s", "/".join(place), error)
            self._failures.add(dataset, error)
            if isinstance(error, BadContent) and not is_unconfirmed:
                self._on_invalidated(dataset)
            raise
        if not self._store.syncs_at_once:
            self._fsync_queue.add(dataset)
        return outcome

    def _find_or_download(
        self, dataset: Dataset, place: Place, waiting_since: float | None
    ) -> _Outcome:
        """Return the dataset's file. Download the file if it is not cached.

        Raises BadContent if the file was rejected.
        """
        # another process may have cached the file during the wait for the dataset's lock
        record = self._store.record_of(dataset)
        entry, must_hash = self._store.judge(dataset, record)
        if entry is not None and not must_hash:
            if entry.state == "bad":
                raise BadContent(entry.reason)
            return _Outcome(self._store.root / entry.path, is_used=False)
        known = (
            (self._rehash(dataset, entry) if entry else None)
            or adopt_in_place(self._store, dataset, place)
            or (self._store.reinstate(dataset, place) if record else None)
        )
        if known is not None:
            return _Outcome(known, is_used=False)
        has_record = record is not None
        path = self._download(
            dataset, place, waiting_since=waiting_since, has_no_record=not has_record
        )
        return _Outcome(path, is_used=True)

    def _rehash(self, dataset: Dataset, entry: CacheEntry) -> Path | None:
        """Hash a cached file whose ctime has changed. Return its path if its bytes are still right.

        Otherwise return None. A file with wrong bytes is removed.
        """
        return reinstate_or_remove(self._store, dataset, entry, hash_entry(self._store, entry))

    def _download(
        self,
        dataset: Dataset,
        place: Place,
        ahead: Ahead | None = None,
        *,
        waiting_since: float | None = None,
        has_no_record: bool = False,
    ) -> Path:
        had_mismatches = self._store.mismatches.check(dataset)
        self._store.note_fetch(dataset)
        path = self._store.download_path(dataset)
        if waiting_since is not None:
            waiting_since = max(waiting_since, self._bodies.last_progress_at)
        transfer = self._transfers.begin(dataset, place, waiting_since, is_ahead=ahead is not None)
        size = disk_size(dataset.size if dataset.size is not None else PROGRESS_STEP_BYTES)
        try:
            with self._space.reservation(size, size, may_evict=ahead is None) as reservation:
                download = Download(dataset, path, transfer, reservation, ahead)
                if ahead is None:
                    verdict = self._download_from_replicas(download)
                else:
                    # so short that a reader that waits for this can try all replicas after it
                    stall = self._stall / (len(dataset.replicas) + 1)
                    verdict = self._bodies.receive(download, ahead.replica, stall)
                if not verdict.is_good and ahead is not None:
                    raise BadContent(verdict.reason)
                if not verdict.is_good:
                    raise BadContent(self._reject(download, verdict.reason))
                if durable := self._store.syncs_at_once:
                    sync_file(path)
                published = self._store.publish(
                    dataset,
                    place,
                    path,
                    verdict,
                    durable=durable,
                    digest=download.digest,
                    is_unused=transfer.is_ahead,
                    has_no_record=has_no_record,
                )
                if had_mismatches:
                    self._store.mismatches.clear(dataset.id)
                reservation.note_written(disk_size(transfer.done_bytes))
                return published
        except BaseException:
            remove_if_possible(path)
            raise
        finally:
            self._transfers.end(dataset)

    def _reject(self, download: Download, evidence: str) -> str:
        """Reject the dataset, because all replicas are wrong. Return the reason.

        Raises UnconfirmedMismatch if another download must first give the same result.
        """
        dataset = download.dataset
        needed = 1 if download.is_confirmed else REQUIRED_SIZE_MISMATCHES
        reason = self._store.mismatches.note_mismatch(dataset, evidence, evidence, needed)
        rejected_path = None
        if download.digest:
            rejected_path = self._store.rejected_path(dataset)
            self._store.usage.adjust(-counted_size(rejected_path))
            download.reservation.note_written(counted_size(download.path))
            sync_file(download.path)  # the user may accept these bytes later (``onefs accept``)
            download.path.replace(rejected_path)
        self._store.reject(dataset, reason, rejected_path, download.digest)
        return reason

    def _download_from_replicas(self, download: Download) -> ContentVerdict:
        """Download from one replica after another, until a replica sends a good body.

        Return a bad verdict if all replicas are wrong. Raises the error of a replica that could not
        be fetched.
        """
        replicas = Replicas(self._hosts, download.dataset)
        waiting = replicas.next_untried(download.dataset.replicas)
        # replicas for which a retry is useful are tried again
        for attempt in range(1, MAX_ROUNDS + 1):
            delays: dict[Replica, float] = {}
            began = time.monotonic()
            for tried, replica in enumerate(waiting):
                since = max(began, download.transfer.last_progress_at)
                spent = time.monotonic() - since if tried else 0.0
                stall = self._hosts.stall_timeout(waiting, replica, spent)
                verdict, delay = self._try_replica(download, replicas, replica, attempt, stall)
                if verdict is not None:
                    return verdict
                if delay is not None:
                    delays[replica] = delay
            if not delays:
                break
            waiting = list(delays)
            if self._stopped.wait(min(delays.values())):
                raise Stopping("onefs is being stopped")
        if not replicas.mismatches:
            # no replica could be fetched
            raise replicas.final_error()
        if replicas.unanswered_error is not None:
            # a replica whose server did not answer, or asked for a pause, may be right
            raise replicas.unanswered_error
        download.is_confirmed = (
            download.dataset.size is not None
            and download.repeating_urls.issuperset(replicas.mismatches)
        )
        return ContentVerdict("bad", replicas.evidence())

    def _try_replica(
        self,
        download: Download,
        replicas: Replicas,
        replica: Replica,
        attempt: int,
        stall: float,
    ) -> tuple[ContentVerdict | None, float | None]:
        """Download from one replica. Return a verdict and the seconds until a retry.

        The verdict is None if the body is not good. The seconds are None if a retry is useless.
        """
        download.digest = ""  # the file is about to be overwritten
        try:
            verdict = self._bodies.receive(download, replica, stall)
        except WrongSize as error:
            replicas.note_mismatch(replica, str(error))
            return None, None
        except REPLICA_ERRORS as error:
            download.transfer.last_error = error
            return None, replicas.note_failure(replica, error, attempt)
        if verdict.is_good:
            return verdict, None
        replicas.note_mismatch(replica, verdict.reason)
        # a replica whose body has a wrong digest is retried once
        is_first = download.note_mismatch(replica)
        is_useless = self._hosts.is_longer_than_stall(MISMATCH_RETRY_SECONDS)
        return None, MISMATCH_RETRY_SECONDS if is_first and not is_useless else None
