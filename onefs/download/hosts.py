"""The state of the file servers, and the order of replicas.

If the deadline of a request expires, the file is not requested again until a probe succeeds (see
``host_circuits``). If the whole server is unreachable, this applies to all files on the server.
Therefore the second reader of an unreachable server waits less than the first reader.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial

from onefs.cache.mismatches import UnconfirmedMismatch
from onefs.config.urls import host_of
from onefs.download.first_requests import FirstRequests
from onefs.download.host_circuits import HostCircuits
from onefs.download.server_names import bucket_of, kind_of, server_of
from onefs.download.sources.interface import BUCKET_ERRORS, Source
from onefs.errors import (
    CacheError,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    copy_error,
)
from onefs.http import retry_delay
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.model import Dataset, Replica

#: seconds to wait before a file that could not be fetched is requested again
FAILURE_TTL_SECONDS = 5.0
#: seconds to wait before a file is requested again after an error of the local disk
DISK_FAILURE_TTL_SECONDS = 0.5
#: seconds during which a failed replica is tried last, and largest number of failed replicas
FAILED_REPLICA_TTL_SECONDS = 60.0
#: the same seconds for a replica whose server refuses or lacks the file
REFUSED_REPLICA_TTL_SECONDS = 3600.0
MAX_FAILED_REPLICAS = 4096
#: seconds during which the replicas in a bucket that cannot be read are tried last
UNUSABLE_BUCKET_TTL_SECONDS = 60.0
_MAX_UNUSABLE_BUCKETS = 256
#: statuses for a file that does not exist, so that a retry is useless
GONE_STATUSES = (404, 410)
#: seconds that a probe may take to connect, and seconds that it may wait for the next bytes
PROBE_TIMEOUT_SECONDS = 5.0
#: most seconds for which no request is sent to a server that asks for a pause
MAX_RETRY_AFTER_SECONDS = 600.0
#: least seconds for which nothing is fetched ahead from a server that failed while a file was
#: fetched ahead
AHEAD_PAUSE_SECONDS = 60.0


class CircuitOpen(DeadlineExceeded):
    """No request was sent, because the file or its server has just failed to answer in time."""


def failure_ttl(error: OnefsError) -> float:
    """Return for how many seconds the file is not requested again after ``error``.

    A read during these seconds raises the same error at once.
    """
    if isinstance(error, CircuitOpen | UnconfirmedMismatch):  # both errors have their own pause
        return 0.0
    return DISK_FAILURE_TTL_SECONDS if isinstance(error, CacheError) else FAILURE_TTL_SECONDS


def no_replica_error(dataset: Dataset) -> OnefsError:
    """Return the error for a read of a dataset that has no replicas."""
    if dataset.from_tables:
        return Unreachable(
            f"{dataset.name} is known only from the cache tables, and Alyx has not sent its URL: "
            "try again when Alyx can be reached"
        )
    return ServerError(f"no file server has {dataset.name}")


class Hosts:
    """Knows the state of the file servers, and which of them to ask. Thread-safe.

    - ``source``: sends the requests
    - ``stall``: seconds without new bytes after which readers give up
    - ``preferred``: names or patterns of the repositories to try first, in this order
    - ``count_bytes``: called with the number of bytes of each chunk that arrives
    """

    def __init__(
        self,
        source: Source,
        stall: float,
        preferred: Sequence[str] = (),
        count_bytes: Callable[[int], None] = lambda size: None,
    ) -> None:
        #: opens the bytes of replicas
        self.source = source
        self._stall = stall
        self._count_bytes = count_bytes
        self._lock = threading.Lock()
        self._bytes_by_server: dict[tuple[str, str], int] = {}
        self._preferred = tuple(preferred)
        #: by host: when bytes last arrived, and when the pause ends (``time.monotonic``)
        self._last_progress_at: dict[str, float] = {}
        self._throttled_until: dict[str, float] = {}
        #: by host: until when nothing is fetched ahead. This has no effect on reads
        self._ahead_paused_until: dict[str, float] = {}
        self._failed_replicas: NegativeCache[str] = NegativeCache(
            MAX_FAILED_REPLICAS, _failed_replica_ttl
        )
        #: by :func:`bucket_of`: why no file of a bucket can be read
        self._unusable_buckets: NegativeCache[str] = NegativeCache(
            _MAX_UNUSABLE_BUCKETS, lambda error: UNUSABLE_BUCKET_TTL_SECONDS
        )
        self.first_requests = FirstRequests()
        probe = partial(source.probe, seconds=PROBE_TIMEOUT_SECONDS)
        self._circuits = HostCircuits(probe, recent_seconds=stall)

    def close(self) -> None:
        """Wake the readers that wait for a probe. In these readers, Stopping is raised."""
        self._circuits.close()

    def order_replicas(self, replicas: Sequence[Replica]) -> list[Replica]:
        """Return the replicas that can be requested now, in the order in which to try them.

        A replica is left out if its server is unreachable, or asked for a pause longer than readers
        wait. Raises Throttled or CircuitOpen if all replicas are left out.
        """
        free = [replica for replica in replicas if self._seconds_throttled(replica.url) <= 0]
        if replicas and not free:
            wait = min(self._seconds_throttled(replica.url) for replica in replicas)
            host = host_of(replicas[0].url)
            raise Throttled(f"{host} asks to wait; try again in {wait:.0f} s", wait)
        ranked = sorted(free, key=self._rank)
        usable = [replica for replica in ranked if self._circuits.can_request(replica.url)]
        if ranked and not usable:
            raise _circuit_open_error(ranked)
        return usable

    def replica_to_fetch_ahead(self, replicas: Sequence[Replica]) -> Replica | None:
        """Return the first replica from which a file may be fetched ahead now, or None.

        Unlike :meth:`order_replicas`, this starts no probe.
        """
        now = time.monotonic()
        for replica in sorted(replicas, key=self._rank):
            is_paused = self._ahead_paused_until.get(server_of(replica.url), 0.0) > now
            is_throttled = self._seconds_throttled(replica.url) > 0
            if not (is_paused or is_throttled or self._circuits.is_open(replica.url)):
                return replica
        return None

    def pause_ahead(self, url: str, error: OnefsError) -> None:
        """Fetch nothing ahead from the server of ``url`` for some time after its failure ``error``.

        Reads go on as before. Other errors than failures of the server have no effect.
        """
        if isinstance(error, BUCKET_ERRORS):
            return
        is_down = isinstance(error, DeadlineExceeded | Throttled | Unreachable)
        if is_down or retry_delay(error, 1) is not None:
            asked = error.retry_after if isinstance(error, Throttled) else 0.0
            pause = min(max(asked, AHEAD_PAUSE_SECONDS), MAX_RETRY_AFTER_SECONDS)
            self._ahead_paused_until[server_of(url)] = time.monotonic() + pause

    def wait_for_probe(self, replicas: Sequence[Replica]) -> None:
        """Wait a few seconds until a probe shows that one of the replicas can be requested.

        Readers call this after CircuitOpen. Raises CircuitOpen if no replica can be requested, and
        Stopping after :meth:`close`.
        """
        if replicas and not self._circuits.wait_for_probe(replica.url for replica in replicas):
            raise _circuit_open_error(replicas)

    def stall_timeout(
        self, replicas: Sequence[Replica], replica: Replica | None = None, spent: float = 0.0
    ) -> float:
        """Return how many seconds to wait for new bytes from each of ``replicas``.

        That is so short that all can be tried before readers give up. Replicas that are refused do
        not count, except ``replica``, because they fail at once: ``spent`` is how many seconds that
        took.
        """
        count = sum(each == replica or not self._is_refused(each.url) for each in replicas)
        if count > 1:
            return self._stall / (count + 1)
        # the error of this replica has to come before readers give up, and raise the last error
        return self._stall if not spent else max(0.9 * (self._stall - spent), self._stall / 10)

    def is_longer_than_stall(self, delay: float) -> bool:
        """Whether a pause of ``delay`` seconds is longer than readers wait."""
        return delay > self._stall

    def note_throttled(self, url: str, seconds: float) -> None:
        """Pause requests to the server of ``url``, which asked for a pause of ``seconds``.

        Do nothing if the pause is short enough for readers to wait.
        """
        if self.is_longer_than_stall(seconds):
            pause = min(seconds, MAX_RETRY_AFTER_SECONDS)
            self._throttled_until[server_of(url)] = time.monotonic() + pause

    def count_bytes(self, url: str, size: int) -> None:
        """Count ``size`` bytes that have arrived from the server of ``url``."""
        server = kind_of(url), host_of(url)
        with self._lock:
            self._bytes_by_server[server] = self._bytes_by_server.get(server, 0) + size
        self._count_bytes(size)

    def bytes_by_server(self) -> dict[tuple[str, str], int]:
        """Return the bytes that have arrived, by the kind and the name of the server.

        The kinds are those of :func:`kind_of`.
        """
        with self._lock:
            return dict(self._bytes_by_server)

    def note_failure(self, url: str, error: OnefsError) -> None:
        """Record that a replica could not be fetched.

        For a minute, other replicas of this file are tried first. If the server refuses or lacks
        the file, this takes an hour. If the whole bucket cannot be read, this applies to all files
        in the bucket, for a minute.
        """
        bucket = bucket_of(url)
        if bucket and isinstance(error, BUCKET_ERRORS):
            self._unusable_buckets.add(bucket, error)
        else:
            self._failed_replicas.add(url, error)

    def raise_refusal(self, url: str) -> None:
        """Raise the error with which the server of ``url`` has refused this file, if it has.

        Also raise the error of its whole bucket.
        """
        error = self._last_failure(url)
        if error is not None and is_refusal(error):
            raise copy_error(error)

    def _is_refused(self, url: str) -> bool:
        error = self._last_failure(url)
        return error is not None and is_refusal(error)

    def note_progress(self, url: str) -> None:
        """Record that bytes of ``url`` arrived, and close the circuits of the file and its host."""
        self._last_progress_at[server_of(url)] = time.monotonic()
        self._circuits.note_progress(url)

    def last_progress_at(self, url: str) -> float:
        """Return when bytes last arrived from the server of ``url`` (``time.monotonic``).

        If no bytes have arrived yet, return the time of the first call for this server.
        """
        return self._last_progress_at.setdefault(server_of(url), time.monotonic())

    def note_timeout(self, url: str) -> None:
        """Record that the deadline of a request for ``url`` has expired.

        The file at ``url`` is not requested again until a probe succeeds.
        """
        self._circuits.note_timeout(url)

    def _rank(self, replica: Replica) -> tuple[bool, int]:
        ranks = (
            rank
            for rank, pattern in enumerate(self._preferred)
            if fnmatchcase(replica.repository, pattern)
        )
        has_failed = self._last_failure(replica.url) is not None
        return has_failed, next(ranks, len(self._preferred))

    def _last_failure(self, url: str) -> OnefsError | None:
        return self._unusable_buckets.get(bucket_of(url)) or self._failed_replicas.get(url)

    def _seconds_throttled(self, url: str) -> float:
        return self._throttled_until.get(server_of(url), 0.0) - time.monotonic()


def is_refusal(error: OnefsError) -> bool:
    """Whether a server does not have the file, or does not allow access.

    Also whether its bucket cannot be read.
    """
    is_absent = isinstance(error, ServerError) and error.status in GONE_STATUSES
    return is_absent or isinstance(error, (DataServerCredentials, *BUCKET_ERRORS))


def _failed_replica_ttl(error: OnefsError) -> float:
    return REFUSED_REPLICA_TTL_SECONDS if is_refusal(error) else FAILED_REPLICA_TTL_SECONDS


def _circuit_open_error(replicas: Sequence[Replica]) -> CircuitOpen:
    return CircuitOpen(
        f"the file server {host_of(replicas[0].url)} has not answered in time: try again in a "
        "moment"
    )
