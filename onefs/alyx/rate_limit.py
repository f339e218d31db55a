"""One budget of requests for each Alyx, shared by all threads and processes of a user.

Alyx allows 550 requests in any minute to a user and answers 429 beyond. So all who ask draw from
one bucket, kept in a small file under a lock: :data:`BURST_REQUESTS` requests at once, then
:data:`RATE` a second, which is at most 540 in any minute. Who is in no hurry leaves the last
:data:`RESERVED_REQUESTS` to the others, which makes at most 400 in any minute. A 429 empties the
bucket and tells everybody until when not to ask.
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

BURST_REQUESTS = 180.0
REQUESTS_PER_SECOND = 6.0
RESERVED_REQUESTS = 140.0

#: seconds that a lock is waited for: who holds it longer has been stopped, not slowed
_LOCK_WAIT_SECONDS = 0.2
#: how far away a server may put its "not before", in seconds: what is further away was not written
#: by us, or the clock was set
_MAX_PAUSE_SECONDS = 3600.0
#: files of servers that nobody has asked for this long, in seconds, are removed
_UNUSED_FILE_SECONDS = 30 * 86400.0
_STATE_FORMAT = struct.Struct("<8sddd")
_MAGIC = b"onefsb1\n"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How much may be asked."""

    burst: float = BURST_REQUESTS
    #: requests a second
    rate: float = REQUESTS_PER_SECOND
    #: what is left to those in a hurry
    reserve: float = RESERVED_REQUESTS


@dataclass(frozen=True, slots=True)
class _BucketState:
    """What the file holds; times in seconds since the epoch."""

    level: float
    at: float
    not_before: float


class RateLimiter:
    """The bucket of one server. Thread-safe, and safe beside other processes.

    A file that cannot be read or written is no obstacle: the budget is then this process's own.
    """

    def __init__(
        self,
        path: Path,
        limits: RateLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits or RateLimits()
        self._clock = clock
        self._lock = Lock()
        self._last_state = _BucketState(self._limits.burst, clock(), 0.0)
        self._file: int | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_unused_files(path, clock())
            self._file = open_lock_file(path)
        except OSError as error:
            log.info(
                "%s cannot be used, requests are counted here only: %s",
                path,
                reason_of(error, path),
            )

    @classmethod
    def of_server(cls, url: str) -> RateLimiter:
        """The budget of the Alyx at ``url``, for this user."""
        return cls(Path(platformdirs.user_state_dir("onefs")) / "budgets" / host_key(url))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                close_lock_file(self._file)
            self._file = None

    def permit(self, low_priority_seconds: float = 0.0) -> RateLimitPermit:
        """What one request passes. For ``modest_for`` seconds it leaves the reserve alone."""
        return RateLimitPermit(self, self._clock() + low_priority_seconds, self._clock)

    def try_acquire(self, *, low_priority: bool) -> float:
        """Take one request: 0 when it may go out, else the seconds after which to ask again."""
        floor = self._limits.reserve if low_priority else 0.0
        with self._hold_locks():
            state = self._read_state()
            wait = state.not_before - state.at
            if wait <= 0:
                wait = (floor + 1.0 - state.level) / self._limits.rate
            if wait <= 0:
                self._write_state(_BucketState(state.level - 1.0, state.at, state.not_before))
            elif state.not_before <= state.at < self._stored_state().at:
                self._write_state(state)  # the clock was set back: count from now on
        return max(0.0, wait)

    def report_throttled(self, seconds: float) -> None:
        """The server has said 429: nobody asks for so many seconds, and then slowly."""
        with self._hold_locks():
            state = self._read_state()
            until = max(state.not_before, state.at + min(seconds, _MAX_PAUSE_SECONDS - 1.0))
            self._write_state(_BucketState(0.0, max(state.at, until), until))

    def pause_seconds(self) -> float:
        """Seconds until the server may be asked at all, 0 when it may be now."""
        with self._lock:
            state = self._read_state()
        return max(0.0, state.not_before - state.at)

    def _read_state(self) -> _BucketState:
        """The state as of now: what is stored, and what has been filled up since."""
        state = self._stored_state()
        now = self._clock()
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
        except (OSError, struct.error):  # new, or not ours: begin with a full bucket
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
            log.warning("the budget of requests cannot be written: %s", reason_of(error))

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


class RateLimitPermit:
    """What one request passes, as often as it is sent (see ``onefs.http.transport.Gate``)."""

    __slots__ = ("_clock", "_low_priority_until", "_rate_limiter")

    def __init__(
        self, rate_limiter: RateLimiter, low_priority_until: float, clock: Callable[[], float]
    ) -> None:
        self._rate_limiter = rate_limiter
        self._low_priority_until = low_priority_until
        self._clock = clock

    def try_acquire(self) -> float:
        """0 when the request may go out, else seconds after which to ask again."""
        return self._rate_limiter.try_acquire(low_priority=self._clock() < self._low_priority_until)

    def report_throttled(self, seconds: float) -> None:
        """The server has answered 429."""
        self._rate_limiter.report_throttled(seconds)


def _remove_unused_files(ours: Path, now: float) -> None:
    """Remove the files of other servers that are no longer asked."""
    for path in ours.parent.iterdir():
        try:
            if path != ours and now - path.stat().st_mtime > _UNUSED_FILE_SECONDS:
                path.unlink()
        except OSError:  # another process was first
            continue
