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

from onefs.errors import OnefsError, Stopping
from onefs.urls import host_of

log = logging.getLogger(__name__)

#: seconds that a reader waits for a probe
PROBE_WAIT_SECONDS = 3.0
#: seconds between two probes; nothing is probed while nothing is read
PROBE_PAUSE_SECONDS = 1.0
#: silent files that are remembered
MOST_FILES = 4096
#: files of one host of which it is remembered when their bytes last came
_LATEST = 2


@dataclass
class _Silence:
    """A file or a host that let a deadline expire, until a probe succeeds."""

    probing: bool = False
    next_probe: float = 0.0


class Silences:
    """What does not answer. Thread-safe.

    ``probe`` asks for a byte of a URL, and raises an OnefsError when its server does not answer.
    A host that delivered bytes of another file within ``lately`` seconds is not silent.
    """

    def __init__(self, probe: Callable[[str], None], lately: float) -> None:
        self._probe = probe
        self._lately = lately
        self._changed = threading.Condition()
        self._files: LRUCache[str, _Silence] = LRUCache(MOST_FILES)
        self._hosts: dict[str, _Silence] = {}
        #: by host: when bytes of its latest files came
        self._came: dict[str, dict[str, float]] = {}
        self._closed = False

    def close(self) -> None:
        """Wake the readers that wait for a probe, with Stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def moved(self, url: str) -> None:
        """Note that bytes have come."""
        host = host_of(url)
        with self._changed:
            came = self._came.setdefault(host, {})
            came[url] = time.monotonic()
            if len(came) > _LATEST:
                del came[min(came, key=lambda each: came[each])]
            self._end(url, host)

    def overdue(self, url: str) -> None:
        """Note that a deadline has expired on this URL."""
        host = host_of(url)
        with self._changed:
            self._files[url] = _Silence()
            others = [at for each, at in self._came.get(host, {}).items() if each != url]
            if max(others, default=float("-inf")) > time.monotonic() - self._lately:
                log.info("%s does not come, though %s answers", url.rpartition("/")[2], host)
            elif host not in self._hosts:
                self._hosts[host] = _Silence()
                log.warning("%s does not answer: reads from it wait until it does, or fail", host)

    def may_ask(self, url: str) -> bool:
        """Whether a request makes sense now; if not, a probe is begun when it is time for one."""
        with self._changed:
            return self._may_ask(url)

    def wait(self, urls: Iterable[str]) -> bool:
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
                free = [url for url in wanted if self._may_ask(url)]  # begins each probe
                if free:
                    return True
                gates = [self._gate(url) for url in wanted]
                left = end - time.monotonic()
                if left <= 0 or not any(gate is not None and gate.probing for gate in gates):
                    return False
                self._changed.wait(left)

    def _gate(self, url: str) -> _Silence | None:
        """What stands between us and a URL: the silence of the file first, then of its host."""
        return self._files.get(url) or self._hosts.get(host_of(url))

    def _may_ask(self, url: str) -> bool:
        gate = self._gate(url)
        if gate is None:
            return True
        if not gate.probing and time.monotonic() >= gate.next_probe and not self._closed:
            gate.probing = True
            thread = threading.Thread(
                target=self._run_probe, args=(gate, url), name="onefs-probe", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads just now: with a later read
                self._stay(gate)
        return False

    def _run_probe(self, gate: _Silence, url: str) -> None:
        answered = False
        try:
            self._probe(url)
            answered = True
        except OnefsError as error:
            log.debug("a probe of %s failed: %s", host_of(url), error)
        finally:  # whatever ends the probe, another one may begin
            with self._changed:
                self._stay(gate)
                if answered:
                    self._end(url, host_of(url))
                self._changed.notify_all()

    def _stay(self, gate: _Silence) -> None:
        gate.probing = False
        gate.next_probe = time.monotonic() + PROBE_PAUSE_SECONDS

    def _end(self, url: str, host: str) -> None:
        if self._files.pop(url, None) is not None:
            self._changed.notify_all()
        if self._hosts.pop(host, None) is not None:
            log.info("%s answers again", host)
            self._changed.notify_all()
