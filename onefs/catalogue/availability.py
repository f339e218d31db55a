"""Whether Alyx answers: an outage is logged once, and its end is noticed without a request.

During an outage a request for what is not in the catalogue fails at once, except for one every two
seconds, which waits for less than one. Probes in the background notice the end of the outage, also
on a mount that no program uses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from onefs.catalogue.ttl import FAILURE_PAUSE_SECONDS
from onefs.errors import AlyxCredentials, DeadlineExceeded, OnefsError, Stopping, Unreachable
from onefs.http.circuit_breaker import CircuitBreaker, Probe

log = logging.getLogger(__name__)

#: seconds that a caller waits for a server that has been away
AWAY_WAIT_SECONDS = 0.8
#: seconds between two probes: the first pause, doubled up to the longest
FIRST_PROBE_PAUSE_SECONDS = 5.0
MAX_PROBE_PAUSE_SECONDS = 60.0


class ServerAvailability:
    """Whether one server answers. Thread-safe.

    ``probe`` returns when the server answers, whatever the answer is, and raises an OnefsError when
    it does not. With ``always_offline`` the server is never asked: the user wants to be offline.
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
        self._circuit = CircuitBreaker(is_open=always_offline)
        self._lock = threading.Lock()
        #: the message of the server's refusal; '' where it does not refuse our credentials
        self.refusal = ""
        self._failed_at = 0.0
        #: called with each change of ``offline``, in whatever thread noticed it
        self.on_change: Callable[[bool], None] = lambda offline: None

    @property
    def offline(self) -> bool:
        """Whether the server did not answer when it was last asked."""
        return self._circuit.is_open

    def close(self) -> None:
        """Send no more probes."""
        self._circuit.stop()

    def can_ask(self) -> bool:
        """Whether a request makes sense now."""
        if not self.offline:
            return True
        return not self.always_offline and self._clock() - self._failed_at > FAILURE_PAUSE_SECONDS

    def clear_failure(self) -> None:
        """Let the next request be sent at once, though the last one has just failed."""
        self._failed_at = float("-inf")

    def wait_seconds(self, deadline: float, what: str) -> float:
        """Seconds to wait for ``what``, at most ``deadline``. Raises Unreachable when the server is
        not to be asked now."""
        if not self.offline:
            return deadline
        if self.can_ask():
            return min(AWAY_WAIT_SECONDS, deadline)
        raise self.unavailable_error(what)

    def unavailable_error(self, what: str) -> Unreachable:
        """The error of a request for ``what``, which is not in the catalogue, during an outage."""
        if self.always_offline:
            return Unreachable(f"{what} is not in the catalogue, and the mount is offline")
        return Unreachable(f"{what} is not in the catalogue, and {self._url} is away")

    def record_failure(self, error: OnefsError) -> None:
        """Note that a request has failed. After a deadline only a probe tells whether the server is
        unreachable, or the query was slow."""
        if isinstance(error, AlyxCredentials):
            self._record_refusal(error)
        elif isinstance(error, Unreachable) and not self.always_offline:
            self._mark_offline(error)
            self._start_probing(FIRST_PROBE_PAUSE_SECONDS)
        elif isinstance(error, DeadlineExceeded) and not self.offline:
            self._start_probing(0.0)

    def record_success(self) -> None:
        """Note that a request has been answered."""
        self.refusal = ""
        if self.offline and not self.always_offline and self._circuit.close():
            log.info("%s answers again", self._url)
            self.on_change(False)

    def _record_refusal(self, error: AlyxCredentials) -> None:
        """Note that the server refuses our credentials; logged once, until it answers again."""
        with self._lock:
            before, self.refusal = self.refusal, str(error)
        if not before:
            log.warning("%s (what is known is still served)", error)

    def _mark_offline(self, error: OnefsError) -> None:
        self._failed_at = self._clock()
        if self._circuit.open():
            log.warning("%s is away, what is known is still served: %s", self._url, error)
            self.on_change(True)

    def _start_probing(self, first_delay: float) -> None:
        self._circuit.start_probe(Probe(self._run_probe, self.record_success, _delays(first_delay)))

    def _run_probe(self) -> None:
        try:
            self._probe()
        except Stopping:
            raise
        except OnefsError as error:
            self._mark_offline(error)
            raise


def _delays(delay: float) -> Iterator[float]:
    """Seconds before each probe, the first one given."""
    while True:
        yield delay
        delay = min(max(delay * 2, FIRST_PROBE_PAUSE_SECONDS), MAX_PROBE_PAUSE_SECONDS)
