"""Receive the body of a small file: write it to a file, hash it, and report progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from onefs.cache.reservations import Reservation
from onefs.cache.sparse import disk_size
from onefs.cache.verify import ContentVerdict, check_content, new_hash
from onefs.download.answer_times import AnswerTimes
from onefs.download.hosts import Hosts
from onefs.download.progress import Transfer
from onefs.download.sources.interface import BULK_CHUNK_BYTES, Body, ByteRequest, WrongSize
from onefs.errors import DeadlineExceeded, OnefsError, ServerError
from onefs.lowlevel.files import open_new_file, write_all
from onefs.model import Dataset, Replica

#: number of bytes between two reports of progress; this number of bytes is also reserved on the
#: disk for a file of unknown size
PROGRESS_STEP_BYTES = 512 * 1024

#: time in seconds in which the speed is measured if fewer bytes than a step arrive; how much of a
#: pause counts; and the seconds for which a measured speed counts
_MEASURED_SECONDS = 2.0
_MAX_PAUSE_SECONDS = 1.0
_SPEED_TTL_SECONDS = 60.0


class FetchAheadEnded(Exception):
    """A download that began before any reader waited for it has ended without the file.

    ``reason`` is its error, or None if the file is not fetched ahead now. A reader that waits for
    the download meanwhile downloads the file itself.
    """

    def __init__(self, reason: OnefsError | None) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Ahead:
    """The one replica that a file is fetched ahead from, and the check for each chunk."""

    replica: Replica
    #: called with the length of each chunk; returns False if the download must end
    may_go_on: Callable[[int], bool]


@dataclass
class Download:
    """The state of one download, and the digests of wrong bodies that replicas have sent."""

    dataset: Dataset
    #: the file that bodies are written to
    path: Path
    #: progress of the download, for other threads
    transfer: Transfer
    #: disk space that is reserved for the download
    reservation: Reservation
    #: None if a reader waits for the file
    ahead: Ahead | None
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


class LinkSpeed:
    """Measures how fast the bodies of small files arrive, all of them together. Thread-safe.

    Only the time in which a body is arriving counts, and of each pause at most one second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: the number of bodies that are arriving, and when the last chunk or body began
        self._body_count = 0
        self._last_at = 0.0
        #: the bytes that arrived since the last measurement, and in how many seconds
        self._bytes, self._seconds = 0, 0.0
        #: the bytes per second, and when they were measured
        self._measured: tuple[float, float] | None = None

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure a body that arrives in the ``with`` block, with :meth:`count` for each chunk."""
        with self._lock:
            self._count(0)
            self._body_count += 1
        try:
            yield
        finally:
            with self._lock:
                self._body_count -= 1

    def count(self, size: int) -> None:
        """Count a chunk of ``size`` bytes that has arrived."""
        with self._lock:
            self._count(size)

    def bytes_in(self, seconds: float) -> int | None:
        """Return how many bytes arrive in some seconds; None if this is unknown."""
        measured = self._measured
        if measured is None or self._clock() > measured[1] + _SPEED_TTL_SECONDS:
            return None
        return int(measured[0] * seconds)

    def _count(self, size: int) -> None:
        now = self._clock()
        if self._body_count:
            self._seconds += min(now - self._last_at, _MAX_PAUSE_SECONDS)
            self._bytes += size
        self._last_at = now
        if self._seconds >= _MEASURED_SECONDS or self._bytes >= PROGRESS_STEP_BYTES:
            self._measured = self._bytes / max(self._seconds, 1e-3), now
            self._bytes, self._seconds = 0, 0.0


class BodyReceiver:
    """Receives the bodies of small files. Thread-safe.

    ``stall`` is the longest time in seconds that a file is fetched ahead for no reader. ``stopped``
    is set when onefs is being stopped.
    """

    def __init__(self, hosts: Hosts, stall: float, stopped: threading.Event) -> None:
        self._hosts = hosts
        self._stall = stall
        self._stopped = stopped
        #: how fast bodies arrive
        self.speed = LinkSpeed()
        #: how long the file servers take to answer
        self.answer_times = AnswerTimes()
        #: when any download for a reader last reported progress (``time.monotonic``)
        self.last_progress_at = time.monotonic()

    def receive(self, download: Download, replica: Replica, stall: float) -> ContentVerdict:
        """Write the body that ``replica`` sends to a file, and return whether it is good.

        Waits at most ``stall`` seconds for the headers, and for each next byte. Raises the error of
        the file server, WrongSize, CacheError or CacheFull. A download ahead that no reader waits
        for raises FetchAheadEnded if it is in the way of reads.
        """
        dataset, transfer = download.dataset, download.transfer
        transfer.done_bytes, transfer.url = 0, replica.url
        digest = new_hash(dataset)
        request = ByteRequest(replica.url, stall, size=dataset.size)
        asked_at = time.monotonic()
        with self._hosts.source.open(request) as body, self.speed.measure():
            self.answer_times.note(replica.url, time.monotonic() - asked_at)
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

    def _chunks(self, download: Download, body: Body, stall: float) -> Iterator[bytes]:
        """Yield the chunks of a body.

        Raises DeadlineExceeded if too few bytes arrive in ``stall`` seconds. Raises WrongSize for
        more bytes than in the database.
        """
        transfer, size = download.transfer, download.dataset.size
        reported_bytes, due = 0, time.monotonic() + stall
        for chunk in body.iter_chunks(BULK_CHUNK_BYTES):
            download.reservation.ensure_space(disk_size(transfer.done_bytes + len(chunk)))
            yield chunk
            # counted after the caller has written the chunk
            transfer.done_bytes += len(chunk)
            self._hosts.count_bytes(transfer.url, len(chunk))
            self.speed.count(len(chunk))
            self._check_ahead(download, len(chunk))
            if transfer.done_bytes - reported_bytes >= PROGRESS_STEP_BYTES:
                reported_bytes, due = transfer.done_bytes, time.monotonic() + stall
                self._note_progress(transfer)
            elif time.monotonic() > due or self._is_too_slow(transfer):
                raise DeadlineExceeded(
                    f"{body.label}: the file server sent too few bytes in {stall:g} s: try again "
                    "later"
                )
            if size is not None and transfer.done_bytes > size:
                reason = f"the database says {size} bytes, the file has more"
                raise WrongSize(reason, transfer.done_bytes)

    def _check_ahead(self, download: Download, size: int) -> None:
        """End a download that began ahead if no reader waits for it, and it is in the way of reads.

        ``size`` is the length of the chunk that has just arrived.
        """
        transfer, ahead = download.transfer, download.ahead
        if ahead is None:
            return
        may_go_on = ahead.may_go_on(size) and not self._stopped.is_set()
        if transfer.is_ahead and not may_go_on:
            raise FetchAheadEnded(None)

    def _is_too_slow(self, transfer: Transfer) -> bool:
        """Whether a file takes too long to be fetched ahead."""
        # a reader in another process, which waits for the dataset's lock, sees no progress
        return transfer.is_ahead and time.monotonic() > transfer.started_at + self._stall

    def _note_progress(self, transfer: Transfer) -> None:
        transfer.last_progress_at = time.monotonic()
        if not transfer.is_ahead:
            self.last_progress_at = transfer.last_progress_at
            self._hosts.note_progress(transfer.url)
