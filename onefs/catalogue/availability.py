"""Whether Alyx answers: noticed once, said once, and looked for again without anybody's doing.

While it is away nobody waits for it: what is not known fails at once, but for one try every
two seconds that waits for less than one. Besides that a small request goes out now and then, so
that coming back is noticed on a mount that nobody uses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from onefs.catalogue.ttl import FAILURE_PAUSE_SECONDS
from onefs.errors import AlyxCredentials, DeadlineExceeded, OnefsError, Stopping, Unreachable

log = logging.getLogger(__name__)

#: seconds that a caller waits for a server that has been away
AWAY_WAIT_SECONDS = 0.8
#: seconds between two looks: the first pause, doubled up to the longest
FIRST_PROBE_PAUSE_SECONDS = 5.0
MAX_PROBE_PAUSE_SECONDS = 60.0


class ServerAvailability:
    """Whether one server is there. Thread-safe.

    ``probe`` returns when the server answers, whatever it says, and raises an OnefsError when it
    does not. With ``never`` nobody asks: the user wants to be offline.
    """

    def __init__(
        self,
        url: str,
        probe: Callable[[], None],
        clock: Callable[[], float],
        *,
        always_offline: bool = False,
    ) -> None:
        self._url = url
        self._probe = probe
        self._clock = clock
        #: whether no server is ever asked
        self.always_offline = always_offline
        self._lock = threading.Lock()
        self._offline = always_offline
        #: the sentence of the server's refusal, '' where it does not refuse us
        self.refusal = ""
        self._failed_at = 0.0
        self._is_probing = False
        self._closed = threading.Event()
        #: called with each change, in whatever thread noticed it
        self.on_change: Callable[[bool], None] = lambda offline: None

    @property
    def offline(self) -> bool:
        """Whether the server was away when it was last asked."""
        return self._offline

    def close(self) -> None:
        """End the look-out."""
        self._closed.set()

    def can_ask(self) -> bool:
        """Whether a request makes sense now."""
        if not self._offline:
            return True
        return not self.always_offline and self._clock() - self._failed_at > FAILURE_PAUSE_SECONDS

    def clear_failure(self) -> None:
        """Let the next request go out at once, though the last one has just failed."""
        with self._lock:
            self._failed_at = float("-inf")

    def wait_seconds(self, deadline: float, what: str) -> float:
        """Seconds to wait for ``what``. Raises Unreachable when nobody is to be asked."""
        if not self._offline:
            return deadline
        if self.can_ask():
            return min(AWAY_WAIT_SECONDS, deadline)
        raise self.unavailable_error(what)

    def unavailable_error(self, what: str) -> Unreachable:
        """The error of who asks for what is not known."""
        if self.always_offline:
            return Unreachable(f"{what} is not in the catalogue, and the mount is offline")
        return Unreachable(f"{what} is not in the catalogue, and {self._url} is away")

    def record_failure(self, error: OnefsError) -> None:
        """A request has failed. One that was too slow may be the query's fault: look again."""
        if isinstance(error, AlyxCredentials):
            self._record_refusal(error)
        elif isinstance(error, Unreachable):
            self._record_unreachable(error)
        elif isinstance(error, DeadlineExceeded) and not self._offline:
            self._start_probing(0.0)

    def _record_refusal(self, error: AlyxCredentials) -> None:
        """The server is there and refuses us: said once, until it answers again."""
        with self._lock:
            before, self.refusal = self.refusal, str(error)
        if not before:
            log.warning("%s (what is known is still served)", error)

    def record_success(self) -> None:
        """A request has been answered."""
        self.refusal = ""
        if not self._offline or self.always_offline:
            return
        with self._lock:
            before, self._offline = self._offline, False
        if before:
            log.info("%s answers again", self._url)
            self.on_change(False)

    def _record_unreachable(self, error: OnefsError) -> None:
        if not self.always_offline:
            self._mark_offline(error)
            self._start_probing(FIRST_PROBE_PAUSE_SECONDS)

    def _mark_offline(self, error: OnefsError) -> None:
        with self._lock:
            before, self._offline = self._offline, True
            self._failed_at = self._clock()
        if not before:
            log.warning("%s is away, what is known is still served: %s", self._url, error)
            self.on_change(True)

    def _start_probing(self, delay: float) -> None:
        with self._lock:
            if self._is_probing or self.always_offline or self._closed.is_set():
                return
            self._is_probing = True
        look = threading.Thread(
            target=self._run_probes, args=(delay,), name="onefs-probe", daemon=True
        )
        try:
            look.start()
        except RuntimeError:  # no more threads just now: with the next request that fails
            self._end_probing()

    def _run_probes(self, delay: float) -> None:
        try:
            answers = self._probe_until_answered(delay)
        finally:  # whatever ends it, the next request that fails begins another
            self._end_probing()
        if answers:
            self.record_success()

    def _end_probing(self) -> None:
        with self._lock:
            self._is_probing = False

    def _probe_until_answered(self, delay: float) -> bool:
        """Whether the server answers in the end; False when this is being stopped."""
        while not self._closed.wait(delay):
            try:
                self._probe()
            except Stopping:
                return False
            except OnefsError as error:
                self._mark_offline(error)
            except Exception:  # nothing may end the look-out of a mount that is not used
                log.exception("asking whether %s answers has failed", self._url)
            else:
                return True
            delay = min(max(delay * 2, FIRST_PROBE_PAUSE_SECONDS), MAX_PROBE_PAUSE_SECONDS)
        return False
