"""What is known of the file servers: which answer, which ask to wait, which copies failed.

After an expired deadline a file, or its whole server, is not asked again until a probe succeeds
(see ``silence``): the second reader of a dead server does not wait as long as the first.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
#: seconds for which a file that could not be had is not asked for again
FAILURE_TTL_SECONDS = 5.0
#: the same after trouble with our own disk
DISK_FAILURE_TTL_SECONDS = 0.5
#: seconds for which a replica that failed is tried last, and how many such replicas are remembered
FAILED_REPLICA_TTL_SECONDS = 60.0
MAX_FAILED_REPLICAS = 4096
#: seconds that a probe may take
PROBE_TIMEOUT_SECONDS = 5.0
#: seconds for which a server that asks to wait is believed, however long it says
MAX_RETRY_AFTER_SECONDS = 600.0


#: what no host's name holds
_INVALID_HOST_CHARACTERS = re.compile(r"[\x00-\x20\x7f%\\]")


class CircuitOpen(DeadlineExceeded):
    """A file or its server is known not to answer, and was not asked."""


@dataclass
class _HostState:
    #: when bytes last came from it
    last_progress_at: float = field(default_factory=time.monotonic)
    #: it wants no request before this moment of the monotonic clock
    throttled_until: float = 0.0


def failure_ttl(error: OnefsError) -> float:
    """Seconds for which a failure is the answer for everybody who asks for the same file again."""
    if isinstance(error, CircuitOpen | UnconfirmedMismatch):  # each has a pause of its own
        return 0.0
    return DISK_FAILURE_TTL_SECONDS if isinstance(error, CacheError) else FAILURE_TTL_SECONDS


def no_replica_error(dataset: Dataset) -> OnefsError:
    """The error of who wants the bytes of a dataset without any copy."""
    if dataset.from_tables:
        return Unreachable(f"only cache tables know {dataset.name}, and Alyx has not said where")
    return ServerError(f"{dataset.name} stands on no file server")


def _check_url(url: str) -> None:
    """Raise ServerError for an address of the database that no request can be sent to."""
    try:
        origin(url)
        host = urlsplit(url).hostname or ""
        if ":" not in host:
            host.encode("idna")
        if not _INVALID_HOST_CHARACTERS.search(host):
            return
        reason = f"{safe_url(url)} names no host"
    except (UsageError, UnicodeError) as error:
        reason = str(error)
    # a status as a server would give it: to ask again is useless
    raise ServerError(f"the database has no usable address: {reason}"[:300], 400)


class Hosts:
    """What is known of the file servers. Thread-safe.

    ``preferred`` has names or patterns of repositories, in the order in which their copies are
    tried; copies of others come after them, as the database lists them. ``count`` is told of the
    bytes that come.
    """

    def __init__(
        self,
        transport: Transport,
        auth: HostAuth,
        stall: float,
        preferred: Sequence[str] = (),
        count: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._transport = transport
        self._auth = auth
        self._stall = stall
        self.count_bytes = count
        self._preferred = tuple(preferred)
        self._lock = threading.Lock()
        self._hosts: dict[str, _HostState] = {}
        self._failed_replicas: NegativeCache[str] = NegativeCache(
            MAX_FAILED_REPLICAS, lambda error: FAILED_REPLICA_TTL_SECONDS
        )
        self._circuits = HostCircuits(self._probe, recent_seconds=stall)

    def close(self) -> None:
        """Wake the readers that wait for a probe, with Stopping."""
        self._circuits.close()

    def order_replicas(self, copies: Sequence[Replica]) -> list[Replica]:
        """The copies to try, in order, without those on servers that do not answer, or that have
        asked to wait for longer than anybody here would.

        Raises Throttled or Silent when that leaves none of several.
        """
        free = [copy for copy in copies if self._seconds_throttled(copy.url) <= 0]
        if copies and not free:
            wait = min(self._seconds_throttled(copy.url) for copy in copies)
            raise Throttled(f"{host_of(copies[0].url)} asks to wait: free in {wait:.0f} s", wait)
        ranked = sorted(free, key=self._rank)
        usable = [copy for copy in ranked if self._circuits.can_request(copy.url)]
        if ranked and not usable:
            raise _circuit_open_error(ranked)
        return usable

    def wait_for_probe(self, copies: Sequence[Replica]) -> None:
        """Wait until a probe shows that one of these copies can be asked, but not for long.

        For readers that met Silent. Raises Silent when no copy can be asked, and Stopping.
        """
        if copies and not self._circuits.wait_for_probe(copy.url for copy in copies):
            raise _circuit_open_error(copies)

    def stall_timeout(self, copies: int) -> float:
        """Seconds without progress for one of several copies, so that the next gets its turn."""
        return self._stall if copies == 1 else self._stall / (copies + 1)

    def stream(self, url: str, headers: dict[str, str], patience: float) -> Stream:
        """A request for bytes, with the credentials of its host.

        Raises ServerError for an address that is none, and what the transport raises.
        """
        _check_url(url)
        return self._transport.stream(
            url,
            headers=headers,
            auth=self._auth,
            connect_timeout=min(CONNECT_TIMEOUT_SECONDS, patience / 2),
            stall_timeout=patience,
        )

    def is_longer_than_stall(self, delay: float) -> bool:
        """Whether readers will have given up before a pause of so many seconds ends."""
        return delay > self._stall

    def note_throttled(self, url: str, seconds: float) -> None:
        """A server asks to wait. When that is too long to be waited for, nobody asks it before."""
        if self.is_longer_than_stall(seconds):
            with self._lock:
                self._state_of(url).throttled_until = time.monotonic() + min(
                    seconds, MAX_RETRY_AFTER_SECONDS
                )

    def note_failure(self, url: str, error: OnefsError) -> None:
        """Note that a replica could not be fetched: for a minute the others are tried first."""
        self._failed_replicas.add(url, error)

    def note_progress(self, url: str) -> None:
        """Bytes have come."""
        with self._lock:
            self._state_of(url).last_progress_at = time.monotonic()
        self._circuits.note_progress(url)

    def last_progress_at(self, url: str) -> float:
        """When bytes last came from the server of ``url``, or when we first heard of it."""
        with self._lock:
            return self._state_of(url).last_progress_at

    def note_timeout(self, url: str) -> None:
        """A deadline expired on this URL: it is not asked until a probe succeeds."""
        self._circuits.note_timeout(url)

    def _rank(self, copy: Replica) -> tuple[bool, int]:
        ranks = (
            rank
            for rank, pattern in enumerate(self._preferred)
            if fnmatchcase(copy.repository, pattern)
        )
        has_failed = self._failed_replicas.get(copy.url) is not None
        return has_failed, next(ranks, len(self._preferred))

    def _seconds_throttled(self, url: str) -> float:
        with self._lock:
            return self._state_of(url).throttled_until - time.monotonic()

    def _probe(self, url: str) -> None:
        """Ask for one byte. Raises an OnefsError when the server does not answer."""
        with (
            suppress(DataServerCredentials),  # that is an answer
            self._transport.stream(
                url,
                headers={"Range": "bytes=0-0"},
                auth=self._auth,
                connect_timeout=PROBE_TIMEOUT_SECONDS,
                stall_timeout=PROBE_TIMEOUT_SECONDS,
            ),
        ):
            pass

    def _state_of(self, url: str) -> _HostState:
        return self._hosts.setdefault(host_of(url), _HostState())


def _circuit_open_error(copies: Sequence[Replica]) -> CircuitOpen:
    return CircuitOpen(
        f"{host_of(copies[0].url)} has not answered in time; it is asked again in a moment, and "
        "files are fetched as soon as it answers"
    )
