"""The file servers: the order of replicas, requests with credentials, and servers that must wait.

After an expired deadline a file, or its whole server, is not requested again until a probe succeeds
(see ``host_circuits``): the second reader of a dead server waits less than the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from onefs.cache.mismatches import UnconfirmedMismatch
from onefs.config.urls import host_of, origin, safe_url
from onefs.download.host_circuits import HostCircuits
from onefs.errors import (
    CacheError,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.http import HostAuth, Stream, Transport
from onefs.lowlevel.negative_cache import NegativeCache
from onefs.model import Dataset, Replica

CONNECT_TIMEOUT_SECONDS = 10.0
#: seconds for which a file that could not be fetched is not requested again
FAILURE_TTL_SECONDS = 5.0
#: the same after an error of the local disk
DISK_FAILURE_TTL_SECONDS = 0.5
#: seconds for which a replica that failed is tried last, and how many such replicas are remembered
FAILED_REPLICA_TTL_SECONDS = 60.0
MAX_FAILED_REPLICAS = 4096
#: seconds that a probe may take to connect, and to answer
PROBE_TIMEOUT_SECONDS = 5.0
#: longest pause in seconds for a server that asks to wait
MAX_RETRY_AFTER_SECONDS = 600.0
#: characters that no host name contains
_INVALID_HOST_CHARACTERS = re.compile(r"[\x00-\x20\x7f%\\]")


class CircuitOpen(DeadlineExceeded):
    """A file or its server did not answer lately, and was not requested."""


def failure_ttl(error: OnefsError) -> float:
    """Seconds for which an error is the answer to further requests for the same file."""
    if isinstance(error, CircuitOpen | UnconfirmedMismatch):  # each has its own pause
        return 0.0
    return DISK_FAILURE_TTL_SECONDS if isinstance(error, CacheError) else FAILURE_TTL_SECONDS


def no_replica_error(dataset: Dataset) -> OnefsError:
    """The error of a request for the bytes of a dataset without replicas."""
    if dataset.from_tables:
        return Unreachable(
            f"{dataset.name} is known from cache tables only, and Alyx has not sent its address"
        )
    return ServerError(f"no file server has {dataset.name}")


def _check_url(url: str) -> None:
    """Raise ServerError for an address that no request can be sent to."""
    try:
        origin(url)
        host = urlsplit(url).hostname or ""
        if ":" not in host:
            host.encode("idna")
        if not _INVALID_HOST_CHARACTERS.search(host):
            return
        reason = f"{safe_url(url)} has no valid host name"
    except (UsageError, UnicodeError) as error:
        reason = str(error)
    # the status of a server that rejects a request: a retry is useless
    raise ServerError(f"the database has no usable address: {reason}"[:300], 400)


class Hosts:
    """The state of the file servers, and requests to them. Thread-safe.

    ``stall`` is the number of seconds that readers wait without progress. ``preferred`` has names
    or patterns of repositories, in the order in which their replicas are tried; others come after
    them, in the order of the database. ``count_bytes`` is called with the number of bytes of each
    chunk that arrives.
    """

    def __init__(
        self,
        transport: Transport,
        auth: HostAuth,
        stall: float,
        preferred: Sequence[str] = (),
        count_bytes: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._transport = transport
        self._auth = auth
        self._stall = stall
        self.count_bytes = count_bytes
        self._preferred = tuple(preferred)
        #: by host: when bytes last arrived, and the end of its pause (``time.monotonic``)
        self._last_progress_at: dict[str, float] = {}
        self._throttled_until: dict[str, float] = {}
        self._failed_replicas: NegativeCache[str] = NegativeCache(
            MAX_FAILED_REPLICAS, lambda error: FAILED_REPLICA_TTL_SECONDS
        )
        self._circuits = HostCircuits(self._probe, recent_seconds=stall)

    def close(self) -> None:
        """Wake the readers that wait for a probe, with Stopping."""
        self._circuits.close()

    def order_replicas(self, replicas: Sequence[Replica]) -> list[Replica]:
        """The replicas to try, in order, without those on servers that do not answer, or that asked
        to wait for longer than readers do.

        Raises Throttled or CircuitOpen when there are replicas, and none of them is left.
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

    def wait_for_probe(self, replicas: Sequence[Replica]) -> None:
        """Wait a few seconds until a probe shows that one of the replicas can be requested.

        For readers that got CircuitOpen. Raises CircuitOpen when no replica can be requested, and
        Stopping.
        """
        if replicas and not self._circuits.wait_for_probe(replica.url for replica in replicas):
            raise _circuit_open_error(replicas)

    def stall_timeout(self, replica_count: int) -> float:
        """Seconds to wait without progress for one of several replicas, so that each is tried."""
        return self._stall if replica_count == 1 else self._stall / (replica_count + 1)

    def stream(self, url: str, headers: dict[str, str], stall: float) -> Stream:
        """A request for bytes, with the credentials of its host; ``stall`` is its timeout.

        Raises ServerError for an invalid address, and what the transport raises.
        """
        _check_url(url)
        return self._transport.stream(
            url,
            headers=headers,
            auth=self._auth,
            connect_timeout=min(CONNECT_TIMEOUT_SECONDS, stall / 2),
            stall_timeout=stall,
        )

    def is_longer_than_stall(self, delay: float) -> bool:
        """Whether readers give up before a pause of ``delay`` seconds ends."""
        return delay > self._stall

    def note_throttled(self, url: str, seconds: float) -> None:
        """Pause requests to a server that asked to wait, if readers do not wait ``seconds``."""
        if self.is_longer_than_stall(seconds):
            pause = min(seconds, MAX_RETRY_AFTER_SECONDS)
            self._throttled_until[host_of(url)] = time.monotonic() + pause

    def note_failure(self, url: str, error: OnefsError) -> None:
        """Note that a replica could not be fetched: for a minute the others are tried first."""
        self._failed_replicas.add(url, error)

    def note_progress(self, url: str) -> None:
        """Note that bytes of ``url`` arrived."""
        self._last_progress_at[host_of(url)] = time.monotonic()
        self._circuits.note_progress(url)

    def last_progress_at(self, url: str) -> float:
        """When bytes last arrived from the server of ``url``; at first, the time of this call."""
        return self._last_progress_at.setdefault(host_of(url), time.monotonic())

    def note_timeout(self, url: str) -> None:
        """Note that a deadline expired: ``url`` is not requested until a probe succeeds."""
        self._circuits.note_timeout(url)

    def _rank(self, replica: Replica) -> tuple[bool, int]:
        ranks = (
            rank
            for rank, pattern in enumerate(self._preferred)
            if fnmatchcase(replica.repository, pattern)
        )
        has_failed = self._failed_replicas.get(replica.url) is not None
        return has_failed, next(ranks, len(self._preferred))

    def _seconds_throttled(self, url: str) -> float:
        return self._throttled_until.get(host_of(url), 0.0) - time.monotonic()

    def _probe(self, url: str) -> None:
        """Request one byte. Raises an OnefsError when the server does not answer."""
        with (
            suppress(DataServerCredentials),  # a refusal is an answer
            self._transport.stream(
                url,
                headers={"Range": "bytes=0-0"},
                auth=self._auth,
                connect_timeout=PROBE_TIMEOUT_SECONDS,
                stall_timeout=PROBE_TIMEOUT_SECONDS,
            ),
        ):
            pass


def _circuit_open_error(replicas: Sequence[Replica]) -> CircuitOpen:
    return CircuitOpen(
        f"{host_of(replicas[0].url)} has not answered in time; it is tried again in a moment, and "
        "files are fetched as soon as it answers"
    )
