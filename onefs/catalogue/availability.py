"""Availability of Alyx: logs an outage once, and notices the end of the outage in the background.

If a request during an outage fails, no request is sent for two seconds. During this pause, each
look-up of a listing that is not in the catalogue fails at once. After the pause, the next look-up
asks Alyx, but waits at most 0.8 seconds. Test requests in the background (probes) notice the end of
the outage even if no program uses the mount.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from onefs.catalogue.ttl import FAILURE_PAUSE_SECONDS
from onefs.errors import AlyxCredentials, DeadlineExceeded, OnefsError, Stopping, Unreachable
from onefs.http.circuit_breaker import CircuitBreaker, Probe

log = logging.getLogger(__name__)

#: seconds that a caller waits for a server that did not answer the last request
AWAY_WAIT_SECONDS = 0.8
#: seconds between two probes: the first pause and the longest pause; each pause is twice as long as
#: the pause before it
FIRST_PROBE_PAUSE_SECONDS = 5.0
MAX_PROBE_PAUSE_SECONDS = 60.0


class ServerAvailability:
    """The state of one server: reachable or unreachable. Thread-safe.

    ``probe`` sends a request, and raises an OnefsError if no answer arrives. An HTTP error is also
    an answer. With ``always_offline``, no request is sent. With ``no_server``, there is no server
    at all, and this function makes the error that says so.
    """

    def __init__(
        self,
        url: str,
        probe: Callable[[], None],
        clock: Callable[[], float],
        *,
        always_offline: bool = False,
        no_server: Callable[[], Unreachable] | None = None,
    ) -> None:
        self._url = url
        self._probe = probe
        self._clock = clock
        #: whether the server is never asked
        self.always_offline = always_offline or no_server is not None
        self._no_server = no_server
        self._circuit = CircuitBreaker(is_open=self.always_offline)
        self._lock = threading.Lock()
        #: the error message if the server refuses our credentials; otherwise ''
        self.refusal = ""
        self._failed_at = 0.0
        #: called with the new value of ``offline`` at each change, in the thread that noticed the
        #: change
        self.on_change: Callable[[bool], None] = lambda offline: None

    @property
    def offline(self) -> bool:
        """Whether the server was unreachable at the last request or probe.

        With ``always_offline``, the value is always True.
        """
        return self._circuit.is_open

    @property
    def has_server(self) -> bool:
        """Whether there is an Alyx: the public database and a release have none."""
        return self._no_server is None

    def close(self) -> None:
        """Send no more probes."""
        self._circuit.stop()

    def can_ask(self) -> bool:
        """Whether a request may be sent now.

        In an outage, this is False for 2 seconds after each failed request. With
        ``always_offline``, this is always False.
        """
        if not self.offline:
            return True
        return not self.always_offline and self._clock() - self._failed_at > FAILURE_PAUSE_SECONDS

    def clear_failure(self) -> None:
        """Allow a request at once, without the pause that follows a failed request."""
        self._failed_at = float("-inf")

    def wait_seconds(self, deadline: float, what: str) -> float:
        """Return the seconds that a request may wait for its answer, at most ``deadline``.

        ``what`` is the name of the wanted listing, for the error message. Raises Unreachable if no
        request may be sent now.
        """
        if not self.offline:
            return deadline
        if self.can_ask():
            return min(AWAY_WAIT_SECONDS, deadline)
        raise self.unavailable_error(what)

    def unavailable_error(self, what: str) -> Unreachable:
        """Return the error for a request during an outage.

        ``what`` names the listing that is not in the catalogue.
        """
        if self._no_server is not None:
            error = self._no_server()
            return type(error)(f"{what} is not in the catalogue: {error}")
        if self.always_offline:
            return Unreachable(f"{what} is not in the catalogue, and onefs is in offline mode")
        return Unreachable(f"{what} is not in the catalogue, and {self._url} is unreachable")

    def record_failure(self, error: OnefsError) -> None:
        """Record that a request has failed with ``error``.

        After Unreachable, the server counts as unreachable. After DeadlineExceeded, a probe checks
        the server.
        """
        if isinstance(error, AlyxCredentials):
            self._record_refusal(error)
        elif isinstance(error, Unreachable) and not self.always_offline:
            self._mark_offline(error)
            self._start_probing(FIRST_PROBE_PAUSE_SECONDS)
        elif isinstance(error, DeadlineExceeded) and not self.offline:
            self._start_probing(0.0)

    def record_success(self) -> None:
        """Record that a request has been answered. This ends an outage."""
        self.refusal = ""
        if self.offline and not self.always_offline and self._circuit.close():
            log.info("the server %s answers again", self._url)
            self.on_change(False)

    def _record_refusal(self, error: AlyxCredentials) -> None:
        """Record that the server refuses our credentials.

        Only the first refusal is logged. After an answered request, the next refusal is logged
        again.
        """
        with self._lock:
            before, self.refusal = self.refusal, str(error)
        if not before:
            log.warning("onefs shows what is in the catalogue, because of an error: %s", error)

    def _mark_offline(self, error: OnefsError) -> None:
        self._failed_at = self._clock()
        if self._circuit.open():
            log.warning(
                "the server %s is unreachable (%s); onefs shows what is in the catalogue",
                self._url,
                error,
            )
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
    """Yield the seconds to wait before each probe. ``delay`` is the wait before the first probe."""
    while True:
        yield delay
        delay = min(max(delay * 2, FIRST_PROBE_PAUSE_SECONDS), MAX_PROBE_PAUSE_SECONDS)
