"""Circuit breakers for file servers: a circuit for each file or host that did not answer in time.

A read whose deadline expires opens the circuit of its file. The read also opens the circuit of the
host, but not if the host has just sent bytes of another file. While a circuit is open, only probes
are sent: small requests for the file that a reader wants. An answer to a probe closes the circuit.
A reader waits for a probe of its own file, for at most 3 seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

from cachetools import LRUCache

from onefs.download.server_names import server_of
from onefs.errors import Stopping
from onefs.http.circuit_breaker import CircuitBreaker, Probe

log = logging.getLogger(__name__)

#: seconds that a reader waits for a probe
PROBE_WAIT_SECONDS = 3.0
#: seconds between two probes; probes are sent only while files are being read
PROBE_PAUSE_SECONDS = 1.0
#: largest number of files with an open circuit; if there are more, the circuit that was used least
#: recently is closed
MAX_OPEN_FILES = 4096
#: number of files of each host for which the time of the latest bytes is kept
_FILES_PER_HOST = 2


class HostCircuits:
    """The open circuits of files and hosts. Thread-safe.

    ``probe`` requests one byte of a URL, and raises an OnefsError if the server does not answer. A
    timeout opens the circuit of the file, and the circuit of its host. The circuit of the host
    stays closed if other files of the host sent bytes in the last ``recent_seconds``.
    """

    def __init__(self, probe: Callable[[str], None], recent_seconds: float) -> None:
        self._probe = probe
        self._recent_seconds = recent_seconds
        self._changed = threading.Condition()
        self._files: LRUCache[str, CircuitBreaker] = LRUCache(MAX_OPEN_FILES)
        self._hosts: dict[str, CircuitBreaker] = {}
        #: by host and URL: when the latest bytes of the file arrived (``time.monotonic``)
        self._progress_by_host: dict[str, dict[str, float]] = {}
        self._is_closed = False

    def close(self) -> None:
        """Wake the readers that wait for a probe. In these readers, Stopping is raised."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def note_progress(self, url: str) -> None:
        """Record that bytes of ``url`` arrived, and close the circuits of the file and its host."""
        with self._changed:
            progress = self._progress_by_host.setdefault(server_of(url), {})
            progress[url] = time.monotonic()
            if len(progress) > _FILES_PER_HOST:
                del progress[min(progress, key=lambda each: progress[each])]
            self._close_circuits(url)

    def note_timeout(self, url: str) -> None:
        """Open the circuit of the file at ``url``, because its deadline has expired.

        Also open the circuit of the host, unless bytes of another file have just arrived from the
        host.
        """
        host = server_of(url)
        with self._changed:
            self._files[url] = CircuitBreaker(self._changed, is_open=True)
            progress = self._progress_by_host.get(host, {})
            others = [at for each, at in progress.items() if each != url]
            if max(others, default=float("-inf")) > time.monotonic() - self._recent_seconds:
                name = url.rpartition("/")[2]
                log.info(
                    "the file %s does not arrive, although the file server %s sends other files",
                    name,
                    host,
                )
            elif host not in self._hosts:
                self._hosts[host] = CircuitBreaker(self._changed, is_open=True)
                log.warning(
                    "the file server %s does not answer: reads of its files wait for an answer, or "
                    "fail",
                    host,
                )

    def is_open(self, url: str) -> bool:
        """Whether the circuit of the file at ``url`` or of its host is open. Start no probe."""
        with self._changed:
            return self._open_circuit(url) is not None

    def can_request(self, url: str) -> bool:
        """Whether the circuits of the file at ``url`` and of its host are closed.

        If a circuit is open, a probe is started, at most once a second.
        """
        with self._changed:
            circuit = self._open_circuit(url)
            if circuit is None:
                return True
            if not self._is_closed:
                probe = Probe(partial(self._probe, url), partial(self._close_circuits, url))
                circuit.start_probe(probe, PROBE_PAUSE_SECONDS)
            return False

    def wait_for_probe(self, urls: Iterable[str]) -> bool:
        """Start probes of these URLs, and wait until one of the URLs can be requested.

        Return False after PROBE_WAIT_SECONDS, or when no probe is running. Raises Stopping after
        :meth:`close`.
        """
        candidates = list(urls)
        end = time.monotonic() + PROBE_WAIT_SECONDS
        with self._changed:
            while True:
                if self._is_closed:
                    raise Stopping("onefs is being stopped")
                requestable = [url for url in candidates if self.can_request(url)]
                if requestable:  # checked for all URLs, so that each starts its own probe
                    return True
                circuits = [self._open_circuit(url) for url in candidates]
                left = end - time.monotonic()
                if left <= 0 or not any(circuit and circuit.is_probing for circuit in circuits):
                    return False
                self._changed.wait(left)

    def _open_circuit(self, url: str) -> CircuitBreaker | None:
        """Return the circuit of the file at ``url`` if it is open, otherwise the host's circuit.

        Return None if both circuits are closed.
        """
        return self._files.get(url) or self._hosts.get(server_of(url))

    def _close_circuits(self, url: str) -> None:
        host = server_of(url)
        file_circuit, host_circuit = self._files.pop(url, None), self._hosts.pop(host, None)
        if file_circuit is not None:
            file_circuit.close()
        if host_circuit is not None:
            host_circuit.close()
            log.info("the file server %s answers again", host)
