"""One budget of requests for each Alyx, shared by all threads and processes of a user.

Alyx allows 550 requests in any minute to a user and answers 429 beyond. So all who ask draw from
one bucket, kept in a small file under a lock: :data:`BURST` requests at once, then
:data:`RATE` a second, which is at most 540 in any minute. Who is in no hurry leaves the last
:data:`RESERVE` to the others, which makes at most 400 in any minute. A 429 empties the bucket and
tells everybody until when not to ask.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import platformdirs

from onefs.errors import reason_of
from onefs.forking import close_lock_file, open_lock_file
from onefs.urls import host_key

log = logging.getLogger(__name__)

BURST = 180.0
RATE = 6.0
RESERVE = 140.0

#: seconds that a lock is waited for: who holds it longer has been stopped, not slowed
_PATIENCE = 0.2
#: how far away a server may put its "not before", in seconds: what is further away was not written
#: by us, or the clock was set
_FARTHEST = 3600.0
#: files of servers that nobody has asked for this long, in seconds, are removed
_FORGOTTEN = 30 * 86400.0
_STATE = struct.Struct("<8sddd")
_MAGIC = b"onefsb1\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be asked."""

    burst: float = BURST
    #: requests a second
    rate: float = RATE
    #: what is left to those in a hurry
    reserve: float = RESERVE


@dataclass(frozen=True, slots=True)
class _State:
    """What the file holds; times in seconds since the epoch."""

    level: float
    at: float
    not_before: float


class Budget:
    """The bucket of one server. Thread-safe, and safe beside other processes.

    A file that cannot be read or written is no obstacle: the budget is then this process's own.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        self._lock = Lock()
        self._known = _State(self._limits.burst, clock(), 0.0)
        self._file: int | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _tidy(path, clock())
            self._file = open_lock_file(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            log.info(
                "%s cannot be used, requests are counted here only: %s",
                path,
                reason_of(error, path),
            )

    @classmethod
    def of(cls, url: str) -> Budget:
        """The budget of the Alyx at ``url``, for this user."""
        return cls(Path(platformdirs.user_state_dir("onefs")) / "budgets" / host_key(url))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                close_lock_file(self._file)
            self._file = None

    def gate(self, modest_for: float = 0.0) -> Gate:
        """What one request passes. For ``modest_for`` seconds it leaves the reserve alone."""
        return Gate(self, self._clock() + modest_for, self._clock)

    def take(self, *, modest: bool) -> float:
        """Take one request: 0 when it may go out, else the seconds after which to ask again."""
        floor = self._limits.reserve if modest else 0.0
        with self._lock:
            locked = self._hold()
            try:
                state = self._read()
                wait = state.not_before - state.at
                if wait <= 0:
                    wait = (floor + 1.0 - state.level) / self._limits.rate
                if wait <= 0:
                    self._write(_State(state.level - 1.0, state.at, state.not_before))
                elif state.not_before <= state.at < self._stored().at:
                    self._write(state)  # the clock was set back: count from now on
            finally:
                self._let_go(locked)
        return max(0.0, wait)

    def refused(self, seconds: float) -> None:
        """The server has said 429: nobody asks for so many seconds, and then slowly."""
        with self._lock:
            locked = self._hold()
            try:
                state = self._read()
                until = max(state.not_before, state.at + min(seconds, _FARTHEST - 1.0))
                self._write(_State(0.0, max(state.at, until), until))
            finally:
                self._let_go(locked)

    def waits(self) -> float:
        """Seconds until the server may be asked at all, 0 when it may be now."""
        with self._lock:
            state = self._read()
        return max(0.0, state.not_before - state.at)

    def _read(self) -> _State:
        """The state as of now: what is stored, and what has been filled up since."""
        state = self._stored()
        now = self._clock()
        not_before = state.not_before if state.not_before - now < _FARTHEST else 0.0
        start = state.at if state.at <= now or not_before > now else now
        level = state.level + max(0.0, now - start) * self._limits.rate
        return _State(min(level, self._limits.burst), now, not_before)

    def _stored(self) -> _State:
        if self._file is None:
            return self._known
        try:
            raw = os.pread(self._file, _STATE.size, 0)
            magic, level, at, not_before = _STATE.unpack(raw)
        except (OSError, struct.error):  # new, or not ours: begin with a full bucket
            return self._known
        return _State(level, at, not_before) if magic == _MAGIC else self._known

    def _write(self, state: _State) -> None:
        self._known = state
        if self._file is None:
            return
        try:
            os.pwrite(self._file, _STATE.pack(_MAGIC, state.level, state.at, state.not_before), 0)
        except OSError as error:
            log.warning("the budget of requests cannot be written: %s", reason_of(error))

    def _hold(self) -> bool:
        """Keep other processes out; False when one of them does not let go."""
        if self._file is None:
            return False
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.001)
            except OSError:  # a file system without locks
                return False
            else:
                return True

    def _let_go(self, locked: bool) -> None:
        if locked and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class Gate:
    """What one request passes, as often as it is sent (see ``onefs.http.transport.Gate``)."""

    __slots__ = ("_budget", "_clock", "_modest_until")

    def __init__(self, budget: Budget, modest_until: float, clock: Callable[[], float]) -> None:
        self._budget = budget
        self._modest_until = modest_until
        self._clock = clock

    def take(self) -> float:
        """0 when the request may go out, else seconds after which to ask again."""
        return self._budget.take(modest=self._clock() < self._modest_until)

    def refused(self, seconds: float) -> None:
        """The server has answered 429."""
        self._budget.refused(seconds)


def _tidy(ours: Path, now: float) -> None:
    """Remove the files of other servers that are no longer asked."""
    for path in ours.parent.iterdir():
        try:
            if path != ours and now - path.stat().st_mtime > _FORGOTTEN:
                path.unlink()
        except OSError:  # another process was first
            continue
