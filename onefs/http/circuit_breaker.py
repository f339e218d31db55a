"""Circuit breaker: while a server does not answer, requests to it fail at once.

A probe (a test request) finds out whether the server answers again.
``docs/decisions/0001-circuit-breaker.md`` compares this circuit breaker with pybreaker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onefs.errors import OnefsError, Stopping

log = logging.getLogger(__name__)

#: seconds after which another probe can start, even if the running probe has not ended
MAX_PROBE_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Probe:
    """A request that shows whether a server answers."""

    #: returns if the server answers; raises Stopping to end all attempts, or another OnefsError if
    #: the server does not answer
    send: Callable[[], None]
    #: called after an answer, while the lock of the circuit is held; must close the circuit
    on_answer: Callable[[], object]
    #: seconds to wait before each attempt; the number of items is the number of attempts
    delays: Iterable[float] = (0.0,)


class CircuitBreaker:
    """The circuit to one server or file. Thread-safe.

    The circuit is open from a failure until the next answer. One probe (a test request) runs at a
    time, for at most MAX_PROBE_SECONDS, on its own thread.

    The condition ``changed`` is notified when the circuit closes or a probe ends. Several circuits
    may share this condition, so that a thread can wait for any of these circuits.
    """

    def __init__(
        self, changed: threading.Condition | None = None, *, is_open: bool = False
    ) -> None:
        self._changed = changed or threading.Condition()
        self._is_open = is_open
        self._is_stopped = False
        #: the running probe, and when another probe may start at the latest (``time.monotonic``)
        self._probe: Probe | None = None
        self._probe_expires_at = 0.0
        self._last_probe_ended_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open, because the server did not answer the last request."""
        return self._is_open

    @property
    def is_probing(self) -> bool:
        """Whether a probe is running, or waits to be sent."""
        return self._probe is not None and time.monotonic() < self._probe_expires_at

    def open(self) -> bool:
        """Open the circuit, so that requests fail. Return True if the circuit was closed."""
        with self._changed:
            was_closed, self._is_open = not self._is_open, True
            return was_closed

    def close(self) -> bool:
        """Close the circuit, so that requests are sent. Return True if the circuit was open."""
        with self._changed:
            was_open, self._is_open = self._is_open, False
            self._changed.notify_all()
            return was_open

    def stop(self) -> None:
        """Start no more probes, and end a probe that waits for its next attempt."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def start_probe(self, probe: Probe, pause_seconds: float = 0.0) -> None:
        """Send ``probe`` in the background, until the server answers or the attempts end.

        Do nothing in these cases: another probe is running, a probe has ended less than
        ``pause_seconds`` ago, or :meth:`stop` was called.
        """
        with self._changed:
            is_paused = time.monotonic() < self._last_probe_ended_at + pause_seconds
            if self._is_stopped or self.is_probing or is_paused:
                return
            self._probe = probe
            self._probe_expires_at = time.monotonic() + MAX_PROBE_SECONDS
            thread = threading.Thread(
                target=self._run_probe, args=(probe,), name="onefs-probe", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no thread can be started; a later call tries again
                self._end_probe(probe)

    def _run_probe(self, probe: Probe) -> None:
        has_answered = False
        try:
            has_answered = any(self._attempt(probe, delay) for delay in probe.delays)
        except Stopping as error:
            log.debug("no more test requests to the server: %s", error)
        finally:
            # under one lock, so that a waiting thread sees both the end of the probe and its result
            with self._changed:
                self._end_probe(probe)
                if has_answered:
                    probe.on_answer()

    def _attempt(self, probe: Probe, delay: float) -> bool:
        """Send ``probe`` after ``delay`` seconds. Return True if the server answered.

        Raises Stopping after :meth:`stop`, or if another probe has been started.
        """
        with self._changed:
            if probe is self._probe:
                self._probe_expires_at = time.monotonic() + delay + MAX_PROBE_SECONDS
            self._changed.wait_for(lambda: self._is_stopped, delay)
            if self._is_stopped or probe is not self._probe:
                raise Stopping("onefs is being stopped, or another test request has been started")
        try:
            probe.send()
        except Stopping:
            raise
        except OnefsError as error:
            log.debug("a test request to the server failed: %s", error)
        except Exception:  # an unexpected error must not end the attempts
            log.exception("a test request to the server failed")
        else:
            return True
        return False

    def _end_probe(self, probe: Probe) -> None:
        """Record that ``probe`` has ended, so that another probe can start."""
        if probe is self._probe:
            self._probe = None
            self._last_probe_ended_at = time.monotonic()
        self._changed.notify_all()
