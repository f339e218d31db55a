"""Circuit breaker: requests fail at once while a server does not answer, until a probe succeeds.

``docs/decisions/0001-circuit-breaker.md`` compares it with pybreaker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from onefs.errors import OnefsError, Stopping

log = logging.getLogger(__name__)

#: seconds after which a probe that has not ended no longer prevents another one
MAX_PROBE_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class Probe:
    """A request that shows whether a server answers."""

    #: returns after an answer; raises an OnefsError without one, and Stopping to end the attempts
    send: Callable[[], None]
    #: called after an answer, under the lock of the circuit, which it closes
    on_answer: Callable[[], object]
    #: seconds before each attempt
    delays: Iterable[float] = (0.0,)


class CircuitBreaker:
    """The circuit to one server or file: open from a failure until an answer. Thread-safe.

    A probe runs on a thread of its own, one at a time. However it ends, and even if it never ends,
    another one can start: no probe leaves the circuit stuck. ``changed`` guards the state and is
    notified of each change; circuits may share one, so that a thread can wait for any of them.
    """

    def __init__(
        self, changed: threading.Condition | None = None, *, is_open: bool = False
    ) -> None:
        self._changed = changed or threading.Condition()
        self._is_open = is_open
        self._is_stopped = False
        #: the probe under way, and when it is given up (``time.monotonic``)
        self._probe: Probe | None = None
        self._probe_expires_at = 0.0
        self._last_probe_ended_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the server did not answer when it was last asked."""
        return self._is_open

    @property
    def is_probing(self) -> bool:
        """Whether a probe is under way, or about to be sent."""
        return self._probe is not None and time.monotonic() < self._probe_expires_at

    def open(self) -> bool:
        """Let requests fail until an answer; whether the circuit was closed before."""
        with self._changed:
            was_closed, self._is_open = not self._is_open, True
            return was_closed

    def close(self) -> bool:
        """Let requests pass again; whether the circuit was open before."""
        with self._changed:
            was_open, self._is_open = self._is_open, False
            self._changed.notify_all()
            return was_open

    def stop(self) -> None:
        """Start no more probes, and end the one that waits for its turn."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def start_probe(self, probe: Probe, pause_seconds: float = 0.0) -> None:
        """Send ``probe`` in the background until it is answered.

        No-op while another probe is under way, and for ``pause_seconds`` after one has ended.
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
            except RuntimeError:  # no more threads for now: a later call tries again
                self._end_probe(probe)

    def _run_probe(self, probe: Probe) -> None:
        has_answered = False
        try:
            has_answered = any(self._attempt(probe, delay) for delay in probe.delays)
        except Stopping as error:
            log.debug("no more probes: %s", error)
        finally:
            # in one step: a waiting thread sees the end of the probe and its result
            with self._changed:
                self._end_probe(probe)
                if has_answered:
                    probe.on_answer()

    def _attempt(self, probe: Probe, delay: float) -> bool:
        """Send ``probe`` after ``delay`` seconds; whether it was answered. Raises Stopping."""
        with self._changed:
            if probe is self._probe:
                self._probe_expires_at = time.monotonic() + delay + MAX_PROBE_SECONDS
            self._changed.wait_for(lambda: self._is_stopped, delay)
            if self._is_stopped or probe is not self._probe:
                raise Stopping("onefs is being stopped, or another probe has been started")
        try:
            probe.send()
        except Stopping:
            raise
        except OnefsError as error:
            log.debug("a probe failed: %s", error)
        except Exception:  # an unforeseen error must not end the probes of an unused mount
            log.exception("a probe failed")
        else:
            return True
        return False

    def _end_probe(self, probe: Probe) -> None:
        """Let another probe start."""
        if probe is self._probe:
            self._probe = None
            self._last_probe_ended_at = time.monotonic()
        self._changed.notify_all()
