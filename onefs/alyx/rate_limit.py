"""The rate limiter of an Alyx: a token bucket shared by all threads and processes of a user.

Alyx allows a user 550 requests in any minute and answers 429 beyond. The bucket, in a small file
under a lock, allows :data:`BURST_REQUESTS` at once, then :data:`REQUESTS_PER_SECOND`, which is at
most 540 in any minute. Requests of low priority leave the last :data:`RESERVED_REQUESTS` alone,
which is at most 400 in any minute. A 429 empties the bucket and pauses all processes.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import platformdirs

from onefs.config.urls import host_key
from onefs.errors import reason_of
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import lock_file, unlock_file

log = logging.getLogger(__name__)

#: requests that can be sent at once, and the part of them that low priority leaves alone
BURST_REQUESTS = 180.0
REQUESTS_PER_SECOND = 6.0
RESERVED_REQUESTS = 140.0

#: seconds to wait for the lock: a process that holds it longer is stopped, not slow
_LOCK_WAIT_SECONDS = 0.2
#: longest pause in seconds after a 429; a longer one in the file is invalid, or the clock was set
_MAX_PAUSE_SECONDS = 3600.0
#: seconds without a request after which the file of a server is removed
_UNUSED_FILE_SECONDS = 30 * 86400.0
_STATE_FORMAT = struct.Struct("<8sddd")
_MAGIC = b"onefsb1\n"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The parameters of the bucket, in requests."""

    burst: float = BURST_REQUESTS
    #: requests a second
    rate: float = REQUESTS_PER_SECOND
    #: requests that low priority leaves alone
    reserve: float = RESERVED_REQUESTS


@dataclass(frozen=True, slots=True)
class _BucketState:
    """The content of the file; times in seconds since the epoch."""

    #: requests that can be sent
    level: float
    #: when ``level`` was right
    at: float
    #: end of the pause after a 429
    not_before: float


class RateLimiter:
    """The bucket of one server. Thread-safe, and shared with other processes.

    If the file cannot be read or written, the bucket is this process's own.
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
                "%s cannot be used, requests are counted in this process only: %s",
                path,
                reason_of(error, path),
            )

    @classmethod
    def of_server(cls, url: str) -> RateLimiter:
        """The rate limiter of the Alyx at ``url``, for this user."""
        return cls(Path(platformdirs.user_state_dir("onefs")) / "budgets" / host_key(url))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                close_lock_file(self._file)
            self._file = None

    def permit(self, low_priority_seconds: float = 0.0) -> RateLimitPermit:
        """The permit of one request, of low priority for ``low_priority_seconds`` from now."""
        return RateLimitPermit(self, self.clock() + low_priority_seconds)

    def try_acquire(self, *, low_priority: bool) -> float:
        """Take one request: 0 when it may be sent, else the seconds after which to try again."""
        floor = self._limits.reserve if low_priority else 0.0
        with self._hold_locks():
            state = self._read_state()
            wait = state.not_before - state.at
            if wait <= 0:
                wait = (floor + 1.0 - state.level) / self._limits.rate
            if wait <= 0:
                self._write_state(_BucketState(state.level - 1.0, state.at, state.not_before))
            elif state.not_before <= state.at < self._stored_state().at:
                self._write_state(state)  # the clock was set back: count from its new time
        return max(0.0, wait)

    def report_throttled(self, seconds: float) -> None:
        """Pause all processes after a 429, for ``seconds``, and empty the bucket."""
        with self._hold_locks():
            state = self._read_state()
            until = max(state.not_before, state.at + min(seconds, _MAX_PAUSE_SECONDS - 1.0))
            self._write_state(_BucketState(0.0, max(state.at, until), until))

    def pause_seconds(self) -> float:
        """Seconds until the pause after a 429 ends; 0 when there is none."""
        with self._lock:
            state = self._read_state()
        return max(0.0, state.not_before - state.at)

    def _read_state(self) -> _BucketState:
        """The state now: the stored one, refilled since."""
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
        except (OSError, struct.error):  # new, or of another program: start with a full bucket
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
            log.warning("the count of requests cannot be written: %s", reason_of(error))

    @contextmanager
    def _hold_locks(self) -> Iterator[None]:
        """Exclude other threads, and other processes unless one of them keeps the file locked."""
        with self._lock:
            if self._file is not None:
                lock_file(self._file, _LOCK_WAIT_SECONDS)
            try:
                yield
            finally:
                if self._file is not None:
                    unlock_file(self._file)


@dataclass(frozen=True, slots=True)
class RateLimitPermit:
    """The permit of one request, retries included (a ``transport.RequestPermit``)."""

    rate_limiter: RateLimiter
    #: end of the low priority, by the limiter's clock
    low_priority_until: float

    def try_acquire(self) -> float:
        """0 when the request may be sent, else the seconds after which to try again."""
        low_priority = self.rate_limiter.clock() < self.low_priority_until
        return self.rate_limiter.try_acquire(low_priority=low_priority)

    def report_throttled(self, seconds: float) -> None:
        """Pause all processes after a 429."""
        self.rate_limiter.report_throttled(seconds)


def _remove_unused_files(ours: Path, now: float) -> None:
    """Remove the files of servers that are no longer used."""
    for path in ours.parent.iterdir():
        try:
            if path != ours and now - path.stat().st_mtime > _UNUSED_FILE_SECONDS:
                path.unlink()
        except OSError:  # another process removed it
            continue
