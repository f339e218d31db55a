"""The state of the file servers, the order of replicas, and requests with credentials.

After an expired deadline, the file, or every file on its server, is not requested again until a
probe succeeds (see ``host_circuits``). Therefore the second reader of an unreachable server waits
less than the first reader.
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
#: seconds to wait before a file that could not be fetched is requested again
FAILURE_TTL_SECONDS = 5.0
#: seconds to wait before a file is requested again after an error of the local disk
DISK_FAILURE_TTL_SECONDS = 0.5
#: seconds during which a failed replica is tried last, and largest number of failed replicas
FAILED_REPLICA_TTL_SECONDS = 60.0
MAX_FAILED_REPLICAS = 4096
#: seconds that connecting may take for a probe, and also seconds that the answer may take
PROBE_TIMEOUT_SECONDS = 5.0
#: longest pause in seconds of requests to a server that asks to wait
MAX_RETRY_AFTER_SECONDS = 600.0
#: characters that are not allowed in a host name
_INVALID_HOST_CHARACTERS = re.compile(r"[\x00-\x20\x7f%\\]")


class CircuitOpen(DeadlineExceeded):
    """No request was sent, because the file or its server has recently not answered in time."""


def failure_ttl(error: OnefsError) -> float:
    """Return for how many seconds ``error`` is raised again instead of a request for the file."""
    if isinstance(error, CircuitOpen | UnconfirmedMismatch):  # both errors have their own pause
        return 0.0
    return DISK_FAILURE_TTL_SECONDS if isinstance(error, CacheError) else FAILURE_TTL_SECONDS


def no_replica_error(dataset: Dataset) -> OnefsError:
    """Return the error for a request for the bytes of a dataset without replicas."""
    if dataset.from_tables:
        return Unreachable(
            f"{dataset.name} is known from cache tables only, and Alyx has not sent its address"
        )
    return ServerError(f"no file server has {dataset.name}")


def _check_url(url: str) -> None:
    """Raise ServerError if no request can be sent to ``url``, because ``url`` is invalid."""
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
    # status 400, as from a server that rejects a request, so that there is no retry
    raise ServerError(f"the database has no usable address: {reason}"[:300], 400)


class Hosts:
    """Holds the state of the file servers, and sends requests to the servers. Thread-safe.

    ``stall`` is the number of seconds that readers wait without progress. ``preferred`` contains
    names or patterns of repositories, in the order in which their replicas are tried. Replicas in
    all other repositories are tried afterwards, in the order of the database. ``count_bytes`` is
    called with the number of bytes of each chunk that arrives.
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
        #: by host: when bytes last arrived, and when the pause ends (``time.monotonic``)
        self._last_progress_at: dict[str, float] = {}
        self._throttled_until: dict[str, float] = {}
        self._failed_replicas: NegativeCache[str] = NegativeCache(
            MAX_FAILED_REPLICAS, lambda error: FAILED_REPLICA_TTL_SECONDS
        )
        self._circuits = HostCircuits(self._probe, recent_seconds=stall)

    def close(self) -> None:
        """Wake the readers that wait for a probe. They raise Stopping."""
        self._circuits.close()

    def order_replicas(self, replicas: Sequence[Replica]) -> list[Replica]:
        """Return the replicas that can be requested now, in the order in which to try them.

        A replica is left out if its server does not answer, or if the server asked to wait longer
        than readers wait. Raises Throttled or CircuitOpen if all replicas are left out.
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

        Readers call this after CircuitOpen. Raises CircuitOpen if no replica can be requested, and
        Stopping after :meth:`close`.
        """
        if replicas and not self._circuits.wait_for_probe(replica.url for replica in replicas):
            raise _circuit_open_error(replicas)

    def stall_timeout(self, replica_count: int) -> float:
        """Return the seconds to wait without progress for one of ``replica_count`` replicas.

        The time is so short that all replicas are tried before readers give up.
        """
        return self._stall if replica_count == 1 else self._stall / (replica_count + 1)

    def stream(self, url: str, headers: dict[str, str], stall: float) -> Stream:
        """Return a stream of the bytes at ``url``, requested with the credentials for its host.

        ``stall`` is the number of seconds to wait for the headers, or for the next byte. Raises
        ServerError for an invalid address, and what the transport raises.
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
        """Pause requests to the server of ``url``, which asked to wait ``seconds``.

        Do nothing if the wait is short enough for readers.
        """
        if self.is_longer_than_stall(seconds):
            pause = min(seconds, MAX_RETRY_AFTER_SECONDS)
            self._throttled_until[host_of(url)] = time.monotonic() + pause

    def note_failure(self, url: str, error: OnefsError) -> None:
        """Record that a replica could not be fetched, so that it is tried last for a minute."""
        self._failed_replicas.add(url, error)

    def note_progress(self, url: str) -> None:
        """Record that bytes of ``url`` arrived."""
        self._last_progress_at[host_of(url)] = time.monotonic()
        self._circuits.note_progress(url)

    def last_progress_at(self, url: str) -> float:
        """Return when bytes last arrived from the server of ``url`` (``time.monotonic``).

        If no bytes have arrived yet, return the time of the first call for this server.
        """
        return self._last_progress_at.setdefault(host_of(url), time.monotonic())

    def note_timeout(self, url: str) -> None:
        """Record that a deadline expired. ``url`` is not requested until a probe succeeds."""
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
        """Request one byte. Raises an OnefsError if the server does not answer."""
        with (
            suppress(DataServerCredentials),  # the server answers, although it refuses
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
