"""Which file servers answer. One that let a deadline expire is not asked again until it does.

So the second reader of a dead server does not wait as long as the first: it gets an error at
once, and a small request of our own finds out when the server is back.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from cachetools import TTLCache

from onefs.errors import (
    CacheError,
    DataServerCredentials,
    DeadlineExceeded,
    OnefsError,
    ServerError,
    Stopping,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.http import HostAuth, Stream, Transport
from onefs.model import Copy, Dataset
from onefs.urls import host_of, origin, safe_url

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
#: seconds for which a file that could not be had is not asked for again
FAILURE_PAUSE = 5.0
#: the same after trouble with our own disk
DISK_PAUSE = 0.5
#: seconds for which a copy that failed is tried last
FAILED = 60.0
#: seconds that a probe may take
PROBE_DEADLINE = 5.0
#: seconds between two probes; nobody probes while nobody reads
PROBE_PAUSE = 1.0
#: seconds for which a server that asks to wait is believed, however long it says
LONGEST_WISH = 600.0


#: what no host's name holds
_NO_HOST = re.compile(r"[\x00-\x20\x7f%\\]")


class Silent(DeadlineExceeded):
    """A server is known not to answer, and was not asked."""


@dataclass
class _Host:
    #: when bytes last came from it
    moved: float = field(default_factory=time.monotonic)
    #: the URL that did not answer; '' when all is well
    silent: str = ""
    #: it wants no request before this moment of the monotonic clock
    free_at: float = 0.0
    probing: bool = False
    next_probe: float = 0.0


def failure_pause(error: OnefsError) -> float:
    """Seconds for which a failure is the answer for everybody who asks for the same file again."""
    if isinstance(error, Silent):  # costs nobody anything, and may end at any moment
        return 0.0
    return DISK_PAUSE if isinstance(error, CacheError) else FAILURE_PAUSE


def stands_nowhere(dataset: Dataset) -> OnefsError:
    """The error of who wants the bytes of a dataset without any copy."""
    if dataset.from_tables:
        return Unreachable(f"only cache tables know {dataset.name}, and Alyx has not said where")
    return ServerError(f"{dataset.name} stands on no file server")


def _check(url: str) -> None:
    """Raise ServerError for an address of the database that no request can be sent to."""
    try:
        origin(url)
        host = urlsplit(url).hostname or ""
        if ":" not in host:
            host.encode("idna")
        if not _NO_HOST.search(host):
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
        self.count = count
        self._preferred = tuple(preferred)
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._failed: TTLCache[str, bool] = TTLCache(4096, FAILED)

    def order(self, copies: Sequence[Copy]) -> list[Copy]:
        """The copies to try, in order, without those on servers that do not answer, or that have
        asked to wait for longer than anybody here would.

        Raises Throttled or Silent when that leaves none of several.
        """
        free = [copy for copy in copies if self._free_in(copy.url) <= 0]
        if copies and not free:
            wait = min(self._free_in(copy.url) for copy in copies)
            raise Throttled(f"{host_of(copies[0].url)} asks to wait: free in {wait:.0f} s", wait)
        ranked = sorted(free, key=self._order)
        usable = [copy for copy in ranked if self._answers(copy.url)]
        if ranked and not usable:
            host = host_of(ranked[0].url)
            raise Silent(
                f"{host} has not answered in time; it is asked again in a moment, and files are "
                "fetched as soon as it answers"
            )
        return usable

    def patience(self, copies: int) -> float:
        """Seconds without progress for one of several copies, so that the next gets its turn."""
        return self._stall if copies == 1 else self._stall / (copies + 1)

    def stream(self, url: str, headers: dict[str, str], patience: float) -> Stream:
        """A request for bytes, with the credentials of its host.

        Raises ServerError for an address that is none, and what the transport raises.
        """
        _check(url)
        return self._transport.stream(
            url,
            headers=headers,
            auth=self._auth,
            connect_timeout=min(CONNECT_TIMEOUT, patience / 2),
            stall_timeout=patience,
        )

    def is_too_long(self, delay: float) -> bool:
        """Whether readers will have given up before a pause of so many seconds ends."""
        return delay > self._stall

    def throttled(self, url: str, seconds: float) -> None:
        """A server asks to wait. When that is too long to be waited for, nobody asks it before."""
        if self.is_too_long(seconds):
            with self._lock:
                self._host(url).free_at = time.monotonic() + min(seconds, LONGEST_WISH)

    def failed(self, url: str) -> None:
        """A copy could not be had: others are tried before it for a while."""
        with self._lock:
            self._failed[url] = True

    def moved(self, url: str) -> None:
        """Bytes have come."""
        with self._lock:
            host = self._host(url)
            host.moved = time.monotonic()
            host.silent = ""

    def last_moved(self, url: str) -> float:
        """When bytes last came from the server of ``url``, or when we first heard of it."""
        with self._lock:
            return self._host(url).moved

    def overdue(self, url: str) -> None:
        """A deadline expired on this URL: its server is not asked until a probe succeeds."""
        with self._lock:
            host = self._host(url)
            if not host.silent:
                log.warning("%s does not answer: reads from it fail until it does", host_of(url))
            host.silent = url
            host.next_probe = time.monotonic() + PROBE_PAUSE

    def _order(self, copy: Copy) -> tuple[bool, int]:
        ranks = (
            rank
            for rank, pattern in enumerate(self._preferred)
            if fnmatchcase(copy.repository, pattern)
        )
        with self._lock:
            return copy.url in self._failed, next(ranks, len(self._preferred))

    def _free_in(self, url: str) -> float:
        with self._lock:
            return self._host(url).free_at - time.monotonic()

    def _answers(self, url: str) -> bool:
        with self._lock:
            host = self._host(url)
            if not host.silent:
                return True
            if not host.probing and time.monotonic() >= host.next_probe:
                host.probing = True
                # with the file that is wanted now: the one that fell silent may be its own trouble
                threading.Thread(
                    target=self._probe, args=(host, url), name="onefs-probe", daemon=True
                ).start()
            return False

    def _probe(self, host: _Host, url: str) -> None:
        answered = False
        try:
            with self._transport.stream(
                url,
                headers={"Range": "bytes=0-0"},
                auth=self._auth,
                connect_timeout=PROBE_DEADLINE,
                stall_timeout=PROBE_DEADLINE,
            ):
                answered = True
        except DataServerCredentials:
            answered = True
        except Stopping:
            return
        except OnefsError:
            pass
        with self._lock:
            host.probing = False
            host.next_probe = time.monotonic() + PROBE_PAUSE
            if answered:
                log.info("%s answers again", host_of(url))
                host.silent = ""

    def _host(self, url: str) -> _Host:
        return self._hosts.setdefault(host_of(url), _Host())
