"""The file server that every contender reads from: an nginx of our own on the loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.processes import free_port, listens, running, wait_until

_CONFIGURATION = """
daemon off;
{user}
worker_processes 2;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ worker_connections 512; }}
http {{
    log_format counted '$request_method $status $bytes_sent $body_bytes_sent $uri';
    access_log {work}/access.log counted;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; {limit} }}
}}
"""
#: seconds without a new line after which the log is taken to be complete
_QUIET_SECONDS = 0.6


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the access log."""

    method: str
    status: int
    #: bytes handed to the network, headers included, also of an answer that was broken off
    sent: int
    #: the same without the headers
    body: int
    path: str


class Origin:
    """nginx over the folder ``root``; see :func:`serve`."""

    def __init__(self, port: int, root: Path, log: Path) -> None:
        self.port = port
        self.root = root
        self._log = log

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def mark(self) -> int:
        """A place in the log, for :meth:`requests`."""
        self._settle()
        return self._log.stat().st_size

    def requests(self, mark: int) -> list[Request]:
        """The requests that ended after ``mark``, once no more of them end."""
        self._settle()
        lines = self._log.read_bytes()[mark:].decode().splitlines()
        found = []
        for line in lines:
            method, status, sent, body, path = line.split(" ", 4)
            found.append(Request(method, int(status), int(sent), int(body), path))
        return found

    def _settle(self) -> None:
        size, since = -1, time.monotonic()
        while time.monotonic() - since < _QUIET_SECONDS:
            now = self._log.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.05)


@contextmanager
def serve(work: Path, rate: int = 0) -> Iterator[Origin]:
    """An nginx that serves the folder ``work/www`` until the block is left.

    ``rate`` limits each connection, in bytes a second.
    """
    root = work / "www"
    root.mkdir(parents=True)
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    configuration = work / "nginx.conf"
    limit = f"limit_rate {rate};" if rate else ""
    configuration.write_text(
        _CONFIGURATION.format(work=work, port=port, root=root, user=user, limit=limit)
    )
    command: list[str | Path] = ["nginx", "-c", configuration, "-p", work, "-e", work / "error.log"]
    with running(command, work / "output.log"):
        wait_until(lambda: listens(port), 10, "nginx answers")
        yield Origin(port, root, work / "access.log")
