"""The embedded laboratory as two servers, Alyx and a file server, on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onefs.demo import flatiron, rest
from onefs.demo.bucket import PublicBucket
from onefs.demo.http_server import AccessRecord, Listener, RequestLog, observed, open_log
from onefs.demo.logins import make_login
from onefs.demo.public_servers import PublicServers, bucket_files
from onefs.demo.records import Login, Source
from onefs.errors import UsageError
from onefs.lowlevel.signal_event import SignalEvent

#: the exit code of a process that is stopped before it serves. See docs/COMMANDS.md
_EXIT_INTERRUPTED = 130
#: longest time in seconds until a signal that arrives just before a wait is handled
_SIGNAL_CHECK_SECONDS = 0.5


class Servers:
    """The two servers of a laboratory. In a ``with`` block, they run until the end of the block.

    - ``alyx``, ``data``: the listeners; each can be stopped, and started again on the same port
    - ``rate``: the limit in bytes per second for each connection to the file server
    - ``latency_ms``: the delay of each request in milliseconds
    - ``throttle``: how many requests each user may send per minute before Alyx returns 429
    - ``requests``: the last ``keep`` requests
    - ``access_log``: the file to which all requests are appended
    """

    def __init__(
        self,
        source: Source,
        login: Login | None = None,
        *,
        rate: int | None = None,
        latency_ms: float = 0,
        throttle: int | None = None,
        alyx_port: int = 0,
        data_port: int = 0,
        access_log: Path | None = None,
        keep: int = 50_000,
    ) -> None:
        self.login = login or Login()
        self.alyx = Listener(alyx_port)
        try:
            self.data = Listener(data_port)
            self._log = open_log(access_log)
        except BaseException:
            self.alyx.stop()
            raise
        self._request_log = RequestLog(keep, self._log)
        alyx_app = rest.create_app(
            source,
            self.login,
            data_url=self.data.url,
            bucket_url=f"{self.data.url}/aws",
            throttle=throttle,
        )
        bucket = PublicBucket(source)
        data_app = flatiron.create_app(source, self.login, rate=rate, bucket=bucket)
        report, latency = self._request_log.add, latency_ms / 1000
        self._alyx_app = observed(alyx_app, "alyx", report, latency)
        self._data_app = observed(data_app, "data", report, latency)

    @property
    def alyx_url(self) -> str:
        """Return the address of Alyx, without a slash at the end."""
        return self.alyx.url

    @property
    def data_url(self) -> str:
        """Return the address of the file server, without a slash at the end."""
        return self.data.url

    @property
    def requests(self) -> list[AccessRecord]:
        """Return a new list of the requests in memory, oldest first."""
        return self._request_log.snapshot()

    def clear_requests(self) -> None:
        """Remove the requests from memory. They stay in the access log."""
        self._request_log.clear()

    def connection_info(self) -> dict[str, str]:
        """Return the addresses and passwords that a client needs."""
        return {
            "alyx_url": self.alyx_url,
            "data_url": self.data_url,
            "username": self.login.username,
            "password": self.login.password,
            "data_username": self.login.data_username,
            "data_password": self.login.data_password,
        }

    def start(self) -> None:
        """Start both servers. After ``stop`` they start again on the same ports."""
        self.data.start(self._data_app)
        self.alyx.start(self._alyx_app)

    def stop(self) -> None:
        """Close both ports and every connection."""
        self.alyx.stop()
        self.data.stop()

    def __enter__(self) -> Servers:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        if self._log is not None:
            self._log.close()


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of ``onefs demo serve``. docs/COMMANDS.md has their meaning and units."""

    data: Path | None = None
    port: int = 0
    sessions: int | None = None
    datasets: int | None = None
    rate: int | None = None
    latency_ms: float = 0
    access_log: Path | None = None
    state_dir: Path | None = None
    until_stdin_closes: bool = False
    as_public: bool = False


def make_source(options: ServeOptions) -> Source:
    """Return the laboratory that the options select.

    - With ``data``: a folder laboratory.
    - With ``sessions`` or ``datasets``: a scaled laboratory.
    - With none of these: the synthetic laboratory.

    Raises UsageError if ``data`` is given together with ``sessions`` or ``datasets``.
    """
    grown = options.sessions is not None or options.datasets is not None
    if options.data is not None:
        if grown:
            raise UsageError(
                "--sessions and --datasets do not work with --data: leave out --data, or these two "
                "options"
            )
        from onefs.demo.folder_laboratory import FolderLaboratory

        return FolderLaboratory(options.data, options.state_dir)
    if grown:
        from onefs.demo.scaled_laboratory import ScaledLaboratory

        return ScaledLaboratory(options.sessions or 1000, options.datasets or 40)
    from onefs.demo.synthetic import SyntheticLaboratory

    return SyntheticLaboratory()


def run(options: ServeOptions) -> None:
    """Serve a laboratory until SIGINT or SIGTERM arrives.

    One line of JSON is printed to stdout as soon as both servers answer. If ``until_stdin_closes``
    is set, the end of stdin also stops the servers. Raises OnefsError if the servers cannot be
    started.
    """
    stop, begun = SignalEvent(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        if not begun.is_set():
            # exit at once, because a scan of a large folder may take minutes and nothing is
            # served yet
            os._exit(_EXIT_INTERRUPTED)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if options.until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(end,), daemon=True).start()
    source = make_source(options)
    begun.set()
    with _make_servers(source, options) as servers:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(servers.connection_info()), flush=True)
        # a signal that arrives just before a wait is handled only after the wait
        while not stop.wait(_SIGNAL_CHECK_SECONDS):
            pass


def _make_servers(source: Source, options: ServeOptions) -> Servers | PublicServers:
    second_port = options.port and options.port + 1
    if options.as_public:
        return PublicServers(
            PublicBucket(source, extra=bucket_files(source)),
            source,
            rate=options.rate,
            latency_ms=options.latency_ms,
            bucket_port=options.port,
            data_port=second_port,
            access_log=options.access_log,
            keep=0,
        )
    return Servers(
        source,
        make_login(options.data, options.state_dir),
        rate=options.rate,
        latency_ms=options.latency_ms,
        alyx_port=options.port,
        data_port=second_port,
        access_log=options.access_log,
        keep=0,
    )


def _watch_stdin(end: Callable[[], None]) -> None:
    """Wait for the end of stdin, then call ``end``. Stdin ends when the parent process ends."""
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    end()
