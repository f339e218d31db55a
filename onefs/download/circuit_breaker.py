"""Which files and file servers let a deadline expire, and when they are asked again.

A read whose deadline expires tells of one file that it does not come. Its server is taken to be
silent too unless bytes of another file came from it lately. What is silent is asked again by a
probe, a small request for the file that is wanted now: so a file that stalls is never the probe
for its neighbours. Their readers wait for the probe, but not for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachetools import LRUCache

from onefs.config.urls import host_of
from onefs.errors import OnefsError, Stopping

log = logging.getLogger(__name__)

#: seconds that a reader waits for a probe
PROBE_WAIT_SECONDS = 3.0
#: seconds between two probes; nothing is probed while nothing is read
PROBE_PAUSE_SECONDS = 1.0
#: silent files that are remembered
MAX_OPEN_FILES = 4096
#: files of one host of which it is remembered when their bytes last came
_FILES_PER_HOST = 2


@dataclass
class _OpenCircuit:
    """A file or a host that let a deadline expire, until a probe succeeds."""

    is_probing: bool = False
    next_probe_at: float = 0.0


class HostCircuitBreaker:
    """What does not answer. Thread-safe.

    ``probe`` asks for a byte of a URL, and raises an OnefsError when its server does not answer.
    A host that delivered bytes of another file within ``lately`` seconds is not silent.
    """

    def __init__(self, probe: Callable[[str], None], lately: float) -> None:
        self._probe = probe
        self._recent_seconds = lately
        self._changed = threading.Condition()
        self._files: LRUCache[str, _OpenCircuit] = LRUCache(MAX_OPEN_FILES)
        self._hosts: dict[str, _OpenCircuit] = {}
        #: by host: when bytes of its latest files came
        self._progress_by_host: dict[str, dict[str, float]] = {}
        self._closed = False

    def close(self) -> None:
        """Wake the readers that wait for a probe, with Stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def note_progress(self, url: str) -> None:
        """Note that bytes have come."""
        host = host_of(url)
        with self._changed:
            came = self._progress_by_host.setdefault(host, {})
            came[url] = time.monotonic()
            if len(came) > _FILES_PER_HOST:
                del came[min(came, key=lambda each: came[each])]
            self._close_circuit(url, host)

    def note_timeout(self, url: str) -> None:
        """Note that a deadline has expired on this URL."""
        host = host_of(url)
        with self._changed:
            self._files[url] = _OpenCircuit()
            others = [
                at for each, at in self._progress_by_host.get(host, {}).items() if each != url
            ]
            if max(others, default=float("-inf")) > time.monotonic() - self._recent_seconds:
                log.info("%s does not come, though %s answers", url.rpartition("/")[2], host)
            elif host not in self._hosts:
                self._hosts[host] = _OpenCircuit()
                log.warning("%s does not answer: reads from it wait until it does, or fail", host)

    def can_request(self, url: str) -> bool:
        """Whether a request makes sense now; if not, a probe is begun when it is time for one."""
        with self._changed:
            return self._can_request(url)

    def wait_for_probe(self, urls: Iterable[str]) -> bool:
        """Wait for the probes of these URLs; whether one of them may be asked now.

        Waits at most PROBE_WAIT_SECONDS, and not at all when a probe has failed just now. Raises
        Stopping.
        """
        wanted = list(urls)
        end = time.monotonic() + PROBE_WAIT_SECONDS
        with self._changed:
            while True:
                if self._closed:
                    raise Stopping("onefs is being stopped")
                free = [url for url in wanted if self._can_request(url)]  # begins each probe
                if free:
                    return True
                gates = [self._open_circuit(url) for url in wanted]
                left = end - time.monotonic()
                if left <= 0 or not any(gate is not None and gate.is_probing for gate in gates):
                    return False
                self._changed.wait(left)

    def _open_circuit(self, url: str) -> _OpenCircuit | None:
        """What stands between us and a URL: the silence of the file first, then of its host."""
        return self._files.get(url) or self._hosts.get(host_of(url))

    def _can_request(self, url: str) -> bool:
        gate = self._open_circuit(url)
        if gate is None:
            return True
        if not gate.is_probing and time.monotonic() >= gate.next_probe_at and not self._closed:
            gate.is_probing = True
            thread = threading.Thread(
                target=self._run_probe, args=(gate, url), name="onefs-probe", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads just now: with a later read
                self._schedule_next_probe(gate)
        return False

    def _run_probe(self, gate: _OpenCircuit, url: str) -> None:
        answered = False
        try:
            self._probe(url)
            answered = True
        except OnefsError as error:
            log.debug("a probe of %s failed: %s", host_of(url), error)
        finally:  # whatever ends the probe, another one may begin
            with self._changed:
                self._schedule_next_probe(gate)
                if answered:
                    self._close_circuit(url, host_of(url))
                self._changed.notify_all()

    def _schedule_next_probe(self, gate: _OpenCircuit) -> None:
        gate.is_probing = False
        gate.next_probe_at = time.monotonic() + PROBE_PAUSE_SECONDS

    def _close_circuit(self, url: str, host: str) -> None:
        if self._files.pop(url, None) is not None:
            self._changed.notify_all()
        if self._hosts.pop(host, None) is not None:
            log.info("%s answers again", host)
            self._changed.notify_all()
