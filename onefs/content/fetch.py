"""Who downloads what, once: from a file server into the store.

A dataset is fetched whole, checked against the database's size and hash, and only then given its
name. However many threads ask, one download runs; between processes the dataset's lock sees to
that. Readers wait for as long as bytes keep coming, and no longer.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path

from cachetools import TTLCache

from onefs.content.lock import dataset_lock
from onefs.content.store import Place, Store, disk_errors, remove
from onefs.content.verify import CHUNK, Verdict, judge, judge_size, new_hash
from onefs.errors import (
    BadContent,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Unreachable,
)
from onefs.flights import Flights
from onefs.http import HostAuth, Stream, Transport, retry_delay
from onefs.model import Copy, Dataset

log = logging.getLogger(__name__)

#: downloads at once; the rest queue
WORKERS = 16
#: tries of one copy, when trying again can help
TRIES = 3
#: seconds for which a failure is the answer for everybody who asks for the same dataset again
FAILURE_PAUSE = 5.0


@dataclass(slots=True)
class Transfer:
    """One download under way, for whoever watches."""

    path: str
    size: int | None
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    #: when bytes last came
    moved: float = field(default_factory=time.monotonic)

    def rate(self) -> float:
        """Bytes a second since it began."""
        return self.done / max(time.monotonic() - self.began, 1e-3)


class Fetcher:
    """Downloads for one store. Thread-safe.

    ``stall`` is the number of seconds without any progress after which waiting ends.
    """

    def __init__(
        self, store: Store, transport: Transport, auth: HostAuth, lock: Path, stall: float
    ) -> None:
        self._store = store
        self._transport = transport
        self._auth = auth
        self._lock_file = lock
        self._stall = stall
        self._flights: Flights[Path] = Flights("onefs-fetch", WORKERS)
        self._guard = threading.Lock()
        self._transfers: dict[str, Transfer] = {}
        self._failures: TTLCache[Dataset, OnefsError] = TTLCache(65536, FAILURE_PAUSE)
        self._moved = time.monotonic()
        self._stopped = threading.Event()

    def close(self) -> None:
        """Wake who waits, with Stopping, and let downloads end."""
        self._stopped.set()
        self._flights.close()

    def transfers(self) -> list[Transfer]:
        """The downloads under way."""
        with self._guard:
            return list(self._transfers.values())

    def failure(self, dataset: Dataset) -> OnefsError | None:
        """Why the last download of a dataset failed, for a few seconds after it did."""
        with self._guard:
            return self._failures.get(dataset)

    def wait(self, dataset: Dataset, place: Place) -> Path:
        """The verified file of a dataset, downloading it if need be.

        Waits while bytes come, or while others' do before its turn: DeadlineExceeded after
        ``stall`` seconds without any. Raises BadContent, Unreachable, DataServerCredentials,
        ServerError, CacheError or Stopping.
        """
        failed = self.failure(dataset)
        if failed is not None:
            raise failed.with_traceback(None)  # it is raised many times: let none pile up
        asked = time.monotonic()
        future = self._flights.start(dataset.id, lambda: self._run(dataset, place))
        while not wait([future], timeout=min(0.5, self._stall)).done:
            self._check_progress(dataset, asked)
        return future.result()

    def size_of(self, dataset: Dataset, deadline: float) -> int:
        """The size that a file server gives for a dataset, for which it sends no bytes."""
        trouble: OnefsError | None = None
        for copy in dataset.copies:
            try:
                with self._open(copy, {"Range": "bytes=0-0"}, deadline) as stream:
                    return _total_size(stream)
            except OnefsError as error:
                trouble = error
        raise trouble or ServerError(f"{dataset.name} stands on no file server")

    def _check_progress(self, dataset: Dataset, asked: float) -> None:
        with self._guard:
            transfer = self._transfers.get(dataset.id)
        moved = transfer.moved if transfer is not None else self._moved
        if time.monotonic() - max(moved, asked) > self._stall:
            raise DeadlineExceeded(f"{dataset.name}: no byte has come for {self._stall:g} s")

    def _run(self, dataset: Dataset, place: Place) -> Path:
        try:
            with (
                disk_errors(self._store.root),
                dataset_lock(self._lock_file, dataset.id, 3600.0, self._is_wanted),
            ):
                return self._ensure(dataset, place)
        except OnefsError as error:
            log.warning("%s: %s", "/".join(place), error)
            with self._guard:
                self._failures[dataset] = error
            raise

    def _is_wanted(self) -> bool:
        return not self._stopped.is_set()

    def _ensure(self, dataset: Dataset, place: Place) -> Path:
        """Another process may have done it all meanwhile."""
        verdict = self._store.verdict(dataset)
        if verdict is not None and not verdict.good:
            raise BadContent(verdict.reason)
        return (
            self._store.known(dataset)
            or self._store.adopt(dataset, place)
            or self._download(dataset, place)
        )

    def _download(self, dataset: Dataset, place: Place) -> Path:
        partial = self._store.partial(dataset)
        transfer = Transfer("/".join(place), dataset.size)
        with self._guard:
            self._transfers[dataset.id] = transfer
        try:
            verdict = self._from_any_copy(dataset, partial, transfer)
            if not verdict.good:
                self._store.condemn(dataset, verdict.reason)
                raise BadContent(verdict.reason)
            return self._store.publish(dataset, place, partial, verdict)
        finally:
            with self._guard:
                del self._transfers[dataset.id]
            remove(partial)

    def _from_any_copy(self, dataset: Dataset, partial: Path, transfer: Transfer) -> Verdict:
        """The verdict on the first copy that is good, else on one that is bad.

        Raises the last copy's trouble when none could be had.
        """
        bad: Verdict | None = None
        trouble: OnefsError | None = None
        for copy in dataset.copies:
            try:
                verdict = self._from_copy(dataset, copy, partial, transfer)
            except (Unreachable, DeadlineExceeded, ServerError, DataServerCredentials) as error:
                trouble = error
                continue
            if verdict.good:
                return verdict
            bad = bad or verdict
        if bad is not None:
            return bad
        raise trouble or ServerError(f"{dataset.name} stands on no file server")

    def _from_copy(
        self, dataset: Dataset, copy: Copy, partial: Path, transfer: Transfer
    ) -> Verdict:
        """One copy, tried again where that can help."""
        attempt = 0
        while True:
            try:
                return self._receive(dataset, copy, partial, transfer)
            except (Unreachable, ServerError) as error:
                attempt += 1
                delay = retry_delay(error, attempt) if attempt < TRIES else None
                if delay is None or self._stopped.wait(delay):
                    raise

    def _receive(self, dataset: Dataset, copy: Copy, partial: Path, transfer: Transfer) -> Verdict:
        digest = new_hash(dataset)
        transfer.done = 0
        with self._open(copy, {}, self._stall) as stream:
            _expect(stream, 200)
            if stream.length is not None:
                verdict = judge_size(dataset, stream.length)
                if not verdict.good:
                    return verdict
            with partial.open("wb") as file:
                for chunk in stream.iter_chunks(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    self._note_progress(transfer, len(chunk))
                    if dataset.size is not None and transfer.done > dataset.size:
                        return judge_size(dataset, transfer.done)
        return judge(dataset, transfer.done, digest.hexdigest())

    def _note_progress(self, transfer: Transfer, count: int) -> None:
        transfer.done += count
        transfer.moved = self._moved = time.monotonic()

    def _open(self, copy: Copy, headers: dict[str, str], stall: float) -> Stream:
        return self._transport.stream(
            copy.url, headers=headers, auth=self._auth, stall_timeout=stall
        )


def _expect(stream: Stream, *statuses: int) -> None:
    """Raise unless the answer is a file: of these statuses, and no page for people."""
    if stream.status in (403, 407):
        raise DataServerCredentials(f"{stream.url}: the file server does not allow it to us")
    if stream.status not in statuses:
        raise ServerError(f"{stream.url}: the file server answers {stream.status}", stream.status)
    kind = stream.headers.get("Content-Type", "")
    if kind.startswith("text/html") and not stream.url.endswith((".html", ".htm")):
        raise ServerError(f"{stream.url}: the file server sends a page instead of a file", 200)


def _total_size(stream: Stream) -> int:
    """The size of the whole file, from an answer to a request for its first byte."""
    _expect(stream, 200, 206, 416)  # 416: an empty file has no first byte
    if stream.status == 200:
        total = str(stream.length)
    else:
        total = stream.headers.get("Content-Range", "").rpartition("/")[2]
    if not total.isdigit():
        raise ServerError(f"{stream.url}: the file server does not say how large it is")
    return int(total)
