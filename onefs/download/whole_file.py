"""Small-file downloader: fetches a whole file with one request, and verifies it before use.

Only one download of a file runs at a time, even if several threads or processes read the file.
Between processes, a lock for each dataset ensures this. Readers wait as long as bytes arrive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onefs.cache.files import disk_errors, remove_if_possible, sync_file
from onefs.cache.folder import Place
from onefs.cache.fsync_queue import FsyncQueue
from onefs.cache.in_place import adopt_in_place
from onefs.cache.mismatches import REQUIRED_SIZE_MISMATCHES, UnconfirmedMismatch
from onefs.cache.records import CacheEntry
from onefs.cache.rehash import hash_entry, reinstate_or_remove
from onefs.cache.reservations import DiskSpace, Reservation
from onefs.cache.sparse import counted_size, disk_size
from onefs.cache.store import Store
from onefs.cache.verify import (
    ContentVerdict,
    check_content,
    new_hash,
)
from onefs.download.head import fetch_size
from onefs.download.hosts import (
    CircuitOpen,
    Hosts,
    failure_ttl,
)
from onefs.download.progress import Transfer
from onefs.download.replicas import MAX_ROUNDS, REPLICA_ERRORS, Replicas
from onefs.download.sources.interface import BULK_CHUNK_BYTES, Body, ByteRequest, WrongSize
from onefs.errors import (
    BadContent,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    copy_error,
)
from onefs.lowlevel.files import open_new_file, write_all
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.lowlevel.single_flight import SingleFlight, result_of, wait_until_done
from onefs.model import Dataset, Replica

log = logging.getLogger(__name__)

#: number of bytes between two reports of progress; this number of bytes is also reserved on the
#: disk for a file of unknown size
_PROGRESS_STEP_BYTES = 512 * 1024

#: largest number of downloads at the same time; further downloads are queued
MAX_DOWNLOADS = 16
#: largest number of datasets whose last failure is kept
MAX_FAILURES = 65536

#: seconds after which a replica is retried if its body has a wrong digest
MISMATCH_RETRY_SECONDS = 0.5

#: identifies content: a dataset's id, size and md5; the id is not enough, because the size and md5
#: in the database can change at any time
ContentKey = tuple[str, int | None, str]


@dataclass
class _Download:
    """The state of one download, and the digests of wrong bodies that replicas have sent."""

    dataset: Dataset
    #: the file that bodies are written to
    path: Path
    #: progress of the download, for other threads
    transfer: Transfer
    #: disk space that is reserved for the download
    reservation: Reservation
    #: digest of the body in ``path``; '' if there is no complete body
    digest: str = ""
    #: by URL of a replica: digest of the last wrong body that the replica sent
    wrong_digests: dict[str, str] = field(default_factory=dict)
    #: URLs of replicas that sent the same wrong bytes twice
    repeating_urls: set[str] = field(default_factory=set)
    #: whether each wrong replica sent the same wrong bytes twice, and the database has a size
    is_confirmed: bool = False

    def note_mismatch(self, replica: Replica) -> bool:
        """Record that ``replica`` sent the body in ``path``, and that this body is wrong.

        Return True if this is the first wrong body of ``replica`` in this download.
        """
        previous = self.wrong_digests.get(replica.url)
        self.wrong_digests[replica.url] = self.digest
        if previous == self.digest:
            self.repeating_urls.add(replica.url)
        return previous is None


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
        self._single_flight: SingleFlight[Path] = SingleFlight("onefs-fetch", MAX_DOWNLOADS)
        self._lock = threading.Lock()
        self._transfers: dict[ContentKey, Transfer] = {}
        self._failures: NegativeCache[Dataset] = NegativeCache(MAX_FAILURES, failure_ttl)
        #: when any download last reported progress (``time.monotonic``)
        self.last_progress_at = time.monotonic()
        self._stopped = threading.Event()

    def close(self) -> None:
        """End the downloads, and wake the waiting threads. In these threads, Stopping is raised."""
        self._stopped.set()
        self._single_flight.close()
        self._fsync_queue.close()

    def transfers(self) -> list[Transfer]:
        """Return the progress of each running download."""
        with self._lock:
            return list(self._transfers.values())

    def recent_failure(self, dataset: Dataset) -> OnefsError | None:
        """Return the error of a dataset's last download if the download failed a few seconds ago.

        Return None if the last download succeeded, or failed longer ago.
        """
        return self._failures.get(dataset)

    def fetch(self, dataset: Dataset, place: Place) -> Path:
        """Return the path of a dataset's verified file. Download the file if it is not cached.

        Waits as long as bytes of the file arrive. A queued download waits as long as bytes of other
        downloads arrive. Raises DeadlineExceeded if no bytes arrive for ``stall`` seconds. Also
        raises BadContent, Unreachable, DataServerCredentials, ServerError, Throttled, CacheError or
        Stopping.
        """
        self._failures.raise_failure(dataset)
        try:
            return self._wait_for_download(dataset, place)
        except CircuitOpen:
            self._hosts.wait_for_probe(dataset.replicas)
            return self._wait_for_download(dataset, place)

    def _wait_for_download(self, dataset: Dataset, place: Place) -> Path:
        """Wait for the download of the dataset, and return the path of the file.

        If no download of the dataset is running, start a download.
        """
        started_at = time.monotonic()
        future = self._single_flight.start(
            _content_key(dataset), lambda: self._run_download(dataset, place)
        )
        while not wait_until_done(future, min(0.5, self._stall)):
            self._check_progress(dataset, started_at)
        return result_of(future)

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
                last_error = error
                self._hosts.note_failure(replica.url, error)
                if isinstance(error, Throttled):
                    self._hosts.note_throttled(replica.url, error.retry_after)
        raise last_error or ServerError(f"no file server has {dataset.name}")

    def _check_progress(self, dataset: Dataset, started_at: float) -> None:
        """Raise an error if no bytes have arrived for ``stall`` seconds.

        This is the most recent error among all replicas. If there is none, it is DeadlineExceeded.
        """
        with self._lock:
            transfer = self._transfers.get(_content_key(dataset))
        last_progress_at = self.last_progress_at if transfer is None else transfer.last_progress_at
        if time.monotonic() - max(last_progress_at, started_at) > self._stall:
            if transfer is not None and transfer.url:
                self._hosts.note_timeout(transfer.url)
                if transfer.last_error is not None:
                    raise copy_error(transfer.last_error)
            raise DeadlineExceeded(
                f"no data of the file {dataset.name} has arrived for {self._stall:g} s: check the "
                "network, and try again"
            )

    def _run_download(self, dataset: Dataset, place: Place) -> Path:
        try:
            with (
                disk_errors(self._store.root),
                self._store.locks.hold(dataset.id, 3600.0, lambda: not self._stopped.is_set()),
            ):
                path = self._find_or_download(dataset, place)
        except OnefsError as error:
            is_unconfirmed = isinstance(error, UnconfirmedMismatch)
            if not is_unconfirmed:  # an UnconfirmedMismatch is already in the log
                # the reader gets the error too; this line is for the log of the mount
                log.info("%s: %s", "/".join(place), error)
            self._failures.add(dataset, error)
            if isinstance(error, BadContent) and not is_unconfirmed:
                self._on_invalidated(dataset)
            raise
        self._fsync_queue.add(dataset)
        return path

    def _find_or_download(self, dataset: Dataset, place: Place) -> Path:
        """Return the path of the dataset's file. Download the file if it is not cached.

        Raises BadContent if the file was rejected.
        """
        # another process may have cached the file during the wait for the dataset's lock
        entry, must_hash = self._store.look_up(dataset)
        if entry is not None and not must_hash:
            if entry.state == "bad":
                raise BadContent(entry.reason)
            return self._store.root / entry.path
        return (
            (entry and self._rehash(dataset, entry))
            or adopt_in_place(self._store, dataset, place)
            or self._store.reinstate(dataset, place)
            or self._download(dataset, place)
        )

    def _rehash(self, dataset: Dataset, entry: CacheEntry) -> Path | None:
        """Hash a cached file whose ctime has changed. Return its path if its bytes are still right.

        Otherwise return None. A file with wrong bytes is removed.
        """
        return reinstate_or_remove(self._store, dataset, entry, hash_entry(self._store, entry))

    def _download(self, dataset: Dataset, place: Place) -> Path:
        had_mismatches = self._store.mismatches.check(dataset)
        self._store.note_fetch(dataset)
        path = self._store.download_path(dataset)
        transfer = Transfer("/".join(place), dataset.size)
        with self._lock:
            self._transfers[_content_key(dataset)] = transfer
        size = disk_size(dataset.size if dataset.size is not None else _PROGRESS_STEP_BYTES)
        try:
            with self._space.reservation(size, size) as reservation:
                download = _Download(dataset, path, transfer, reservation)
                verdict = self._download_from_replicas(download)
                if not verdict.is_good:
                    raise BadContent(self._reject(download, verdict.reason))
                published = self._store.publish(
                    dataset, place, path, verdict, digest=download.digest
                )
                if had_mismatches:
                    self._store.mismatches.clear(dataset.id)
                reservation.note_written(disk_size(transfer.done_bytes))
                return published
        except BaseException:
            remove_if_possible(path)
            raise
        finally:
            with self._lock:
                del self._transfers[_content_key(dataset)]

    def _reject(self, download: _Download, evidence: str) -> str:
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

    def _download_from_replicas(self, download: _Download) -> ContentVerdict:
        """Download from one replica after another, until a replica sends a good body.

        Return a bad verdict if all replicas are wrong. Raises the error of a replica that could not
        be fetched.
        """
        replicas = Replicas(self._hosts, download.dataset)
        waiting = replicas.next_untried(download.dataset.replicas)
        # replicas for which a retry is useful are tried again
        for attempt in range(1, MAX_ROUNDS + 1):
            delays: dict[Replica, float] = {}
            stall = self._hosts.stall_timeout(len(waiting))
            for replica in waiting:
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
        download: _Download,
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
            verdict = self._receive_body(download, replica, stall)
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

    def _receive_body(self, download: _Download, replica: Replica, stall: float) -> ContentVerdict:
        dataset, transfer = download.dataset, download.transfer
        transfer.done_bytes, transfer.url = 0, replica.url
        digest = new_hash(dataset)
        request = ByteRequest(replica.url, stall, size=dataset.size)
        with self._hosts.source.open(request) as body:
            with open_new_file(download.path) as file:
                for chunk in self._chunks(download, body, stall):
                    write_all(file, memoryview(chunk), transfer.done_bytes)
                    digest.update(chunk)
            if body.length is None and transfer.done_bytes < (dataset.size or 0):
                raise ServerError(
                    f"{body.label}: the answer ended early, after {transfer.done_bytes} bytes"
                )
        self._note_progress(transfer)
        download.digest = digest.hexdigest()
        return check_content(dataset, transfer.done_bytes, download.digest)

    def _chunks(self, download: _Download, body: Body, stall: float) -> Iterator[bytes]:
        """Yield the chunks of a body.

        Raises DeadlineExceeded if too few bytes arrive in ``stall`` seconds. Raises WrongSize for
        more bytes than in the database.
        """
        transfer, size = download.transfer, download.dataset.size
        reported_bytes, due = 0, time.monotonic() + stall
        for chunk in body.iter_chunks(lambda: BULK_CHUNK_BYTES):
            download.reservation.ensure_space(disk_size(transfer.done_bytes + len(chunk)))
            yield chunk
            # counted after the caller has written the chunk
            transfer.done_bytes += len(chunk)
            self._hosts.count_bytes(transfer.url, len(chunk))
            if transfer.done_bytes - reported_bytes >= _PROGRESS_STEP_BYTES:
                reported_bytes, due = transfer.done_bytes, time.monotonic() + stall
                self._note_progress(transfer)
            elif time.monotonic() > due:
                raise DeadlineExceeded(
                    f"{body.label}: the file server sent too few bytes in {stall:g} s: try again "
                    "later"
                )
            if size is not None and transfer.done_bytes > size:
                reason = f"the database says {size} bytes, the file has more"
                raise WrongSize(reason, transfer.done_bytes)

    def _note_progress(self, transfer: Transfer) -> None:
        self._hosts.note_progress(transfer.url)
        transfer.last_progress_at = self.last_progress_at = time.monotonic()


def _content_key(dataset: Dataset) -> ContentKey:
    return dataset.id, dataset.size, dataset.md5
