"""A slow network: a TCP proxy that adds latency and limits the rate of each connection.

A new connection waits one latency, as its handshake would; then each piece of a request is passed
on one latency after it came. Answers pass at the rate of the connection. The bytes of answers go
from socket to socket inside the kernel (splice), so that the proxy takes little of the machine.

Run as ``python -m scripts.benchmarks.proxy PORT TARGET_PORT LATENCY_SECONDS BYTES_A_SECOND``.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.benchmarks.processes import free_port, listens, module_command, running, wait_until

#: bytes passed on at once
_CHUNK_BYTES = 256 << 10
#: seconds by which a connection that was held up may catch up
_CATCH_UP_SECONDS = 0.02
_F_SETPIPE_SZ = 1031


def serve(port: int, target: int, latency: float, rate: float) -> None:
    """Pass connections on for ever."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            work = threading.Thread(
                target=_connection, args=(client, target, latency, rate), daemon=True
            )
            work.start()


@contextmanager
def slow(target: int, work: Path, latency: float, rate: float) -> Iterator[int]:
    """The port of a proxy in a process of its own, until the block is left."""
    port = free_port()
    numbers = [str(each) for each in (port, target, latency, rate)]
    with running(module_command("proxy", *numbers), work / "proxy.log"):
        wait_until(lambda: listens(port), 10, "the proxy answers")
        yield port


def _connection(client: socket.socket, target: int, latency: float, rate: float) -> None:
    with client, suppress(OSError):
        time.sleep(latency)
        with socket.create_connection(("127.0.0.1", target)) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asking = threading.Thread(
                target=_forward_requests, args=(client, server, latency), daemon=True
            )
            asking.start()
            try:
                _copy_at_rate(server, client, rate)
            finally:
                for each in (client, server):
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                asking.join()


def _forward_requests(client: socket.socket, server: socket.socket, latency: float) -> None:
    with suppress(OSError):
        while data := client.recv(65536):
            time.sleep(latency)
            server.sendall(data)
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _copy_at_rate(source: socket.socket, sink: socket.socket, rate: float) -> None:
    out, into = os.pipe()
    try:
        fcntl.fcntl(into, _F_SETPIPE_SZ, 1 << 20)
        due = time.monotonic()
        while count := os.splice(source.fileno(), into, _CHUNK_BYTES):
            left = count
            while left:
                left -= os.splice(out, sink.fileno(), left)
            now = time.monotonic()
            due = max(due, now - _CATCH_UP_SECONDS) + count / rate
            if due > now:
                time.sleep(due - now)
    finally:
        os.close(out)
        os.close(into)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
