"""The rate limiter for an Alyx: a token bucket that all threads and processes of a user share.

Alyx allows a user 550 requests in any minute, and answers 429 to further requests. The bucket is
stored in a small file with a lock. The bucket allows :data:`BURST_REQUESTS` requests at once, and
then :data:`REQUESTS_PER_SECOND`. This is at most 540 requests in any minute. Requests of low
priority do not use the last :data:`RESERVED_REQUESTS` in the bucket. So at most 400 requests of low
priority are sent in any minute. A 429 empties the bucket and pauses all processes.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import platformdirs

from onefs.config.urls import host_key
from onefs.errors import reason_of
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import lock_file, unlock_file

log = logging.getLogger(__name__)

#: number of requests that can be sent at once. Requests of low priority leave RESERVED_REQUESTS of
#: these requests to other requests
BURST_REQUESTS = 180.0
REQUESTS_PER_SECOND = 6.0
RESERVED_REQUESTS = 140.0

#: seconds to wait for the lock of the file. A process that holds the lock longer is suspended
_LOCK_WAIT_SECONDS = 0.2
#: longest pause in seconds after a 429; a longer pause in the file is ignored, because the file is
#: invalid or the clock was set back
_MAX_PAUSE_SECONDS = 3600.0
#: seconds without a request to a server, after which the file of the server is removed
_UNUSED_FILE_SECONDS = 30 * 86400.0
_STATE_FORMAT = struct.Struct("<8sddd")
_MAGIC = b"onefsb1\n"


class RateLimits(NamedTuple):
    """The limits of a token bucket.

    The limits are the size of the bucket, the speed of refilling, and the number of requests that
    are reserved for normal priority.
    """

    #: requests that can be sent at once
    burst: float = BURST_REQUESTS
    #: requests per second
    rate: float = REQUESTS_PER_SECOND
    #: requests in the bucket that are not used by requests of low priority
    reserve: float = RESERVED_REQUESTS


class _BucketState(NamedTuple):
    """The content of the bucket's file. Times are in seconds since the epoch."""

    #: number of requests in the bucket at the time ``at``
    level: float
    #: the time for which ``level`` is valid
    at: float
    #: the end of the pause after a 429
    not_before: float


class RateLimiter:
    """The token bucket of one server, shared with other processes of the user. Thread-safe.

    If the file that stores the bucket cannot be used, this process has its own bucket.
    """

    def __init__(
        self,
        path: Path,
        limits: RateLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits or RateLimits()
        self.clock = clock
        self._lock = Lock()
        self._last_state = _BucketState(self._limits.burst, clock(), 0.0)
        self._file: int | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_unused_files(path, clock())
            self._file = open_lock_file(path)
        except OSError as error:
            log.info(
                "the file %s, which counts the requests of all processes, cannot be used (%s): "
                "this process counts only its own requests",
                path,
                reason_of(error, path),
            )

    @classmethod
    def of_server(cls, url: str) -> RateLimiter:
        """Return the rate limiter of this user for the Alyx at ``url``."""
        return cls(Path(platformdirs.user_state_dir("onefs")) / "budgets" / host_key(url))

    def close(self) -> None:
        """Close the file that stores the token bucket."""
        with self._lock:
            if self._file is not None:
                close_lock_file(self._file)
            self._file = None

    def permit(self, low_priority_seconds: float = 0.0) -> RateLimitPermit:
        """Return a permit for one request.

        The request has low priority for ``low_priority_seconds``, and normal priority afterwards.
        """
        return RateLimitPermit(self, self.clock() + low_priority_seconds)

    def try_acquire(self, *, low_priority: bool) -> float:
        """Take one request from the bucket and return 0, if a request may be sent now.

        Otherwise take nothing, and return the number of seconds to wait before the next try.
        """
        floor = self._limits.reserve if low_priority else 0.0
        with self._hold_locks():
            state = self._read_state()
            wait = state.not_before - state.at
            if wait <= 0:
                wait = (floor + 1.0 - state.level) / self._limits.rate
            if wait <= 0:
                self._write_state(_BucketState(state.level - 1.0, state.at, state.not_before))
            elif state.not_before <= state.at < self._stored_state().at:
                self._write_state(state)  # the clock was set back, so refill from its new time on
        return max(0.0, wait)

    def report_throttled(self, seconds: float) -> None:
        """Empty the bucket, and pause all processes for ``seconds`` after a 429."""
        with self._hold_locks():
            state = self._read_state()
            until = max(state.not_before, state.at + min(seconds, _MAX_PAUSE_SECONDS - 1.0))
            self._write_state(_BucketState(0.0, max(state.at, until), until))

    def pause_seconds(self) -> float:
        """Return the seconds until the pause after a 429 ends, or 0 if there is no pause."""
        with self._lock:
            state = self._read_state()
        return max(0.0, state.not_before - state.at)

    def _read_state(self) -> _BucketState:
        """Return the bucket's state now: the stored state, refilled for the time since it was
        stored."""
        state = self._stored_state()
        now = self.clock()
        not_before = state.not_before if state.not_before - now < _MAX_PAUSE_SECONDS else 0.0
        start = state.at if state.at <= now or not_before > now else now
        level = state.level + max(0.0, now - start) * self._limits.rate
        return _BucketState(min(level, self._limits.burst), now, not_before)

    def _stored_state(self) -> _BucketState:
        if self._file is None:
            return self._last_state
        try:
            raw = os.pread(self._file, _STATE_FORMAT.size, 0)
            magic, level, at, not_before = _STATE_FORMAT.unpack(raw)
        except (OSError, struct.error):  # the file is new or invalid
            return self._last_state
        return _BucketState(level, at, not_before) if magic == _MAGIC else self._last_state

    def _write_state(self, state: _BucketState) -> None:
        self._last_state = state
        if self._file is None:
            return
        try:
            os.pwrite(
                self._file, _STATE_FORMAT.pack(_MAGIC, state.level, state.at, state.not_before), 0
            )
        except OSError as error:
            log.warning(
                "the number of recent requests cannot be stored for other processes: %s",
                reason_of(error),
            )

    @contextmanager
    def _hold_locks(self) -> Iterator[None]:
        """Hold the lock of this process and the lock of the file inside the ``with`` block."""
        with self._lock:
            if self._file is not None:
                # if another process keeps the file locked for too long, continue without the file
                # lock
                lock_file(self._file, _LOCK_WAIT_SECONDS)
            try:
                yield
            finally:
                if self._file is not None:
                    unlock_file(self._file)


class RateLimitPermit(NamedTuple):
    """The permit for one request and its retries. Implements ``transport.RequestPermit``."""

    rate_limiter: RateLimiter
    #: when the low priority ends, by the clock of the rate limiter
    low_priority_until: float

    def try_acquire(self) -> float:
        """Take one request from the bucket and return 0, if the request may be sent now.

        Otherwise return the number of seconds to wait before the next try.
        """
        low_priority = self.rate_limiter.clock() < self.low_priority_until
        return self.rate_limiter.try_acquire(low_priority=low_priority)

    def report_throttled(self, seconds: float) -> None:
        """Empty the bucket, and pause all processes for ``seconds`` after a 429."""
        self.rate_limiter.report_throttled(seconds)


def _remove_unused_files(ours: Path, now: float) -> None:
    """Remove the files of rate limiters that were not used for 30 days. The file ``ours`` is never
    removed."""
    for path in ours.parent.iterdir():
        try:
            if path != ours and now - path.stat().st_mtime > _UNUSED_FILE_SECONDS:
                path.unlink()
        except OSError:  # another process removed the file
            continue
