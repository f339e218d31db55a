"""Programs that a benchmark starts: all of them ended by their id, every wait bounded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

#: the checkout that is measured
ROOT = Path(__file__).resolve().parents[2]
#: seconds for one command; httpdirfs needs a minute for a large file
TIMEOUT_SECONDS = 600.0

Command = Sequence[str | Path]


class BenchmarkFailed(Exception):
    """A program did not do what the benchmark needs of it."""


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Return when ``condition`` holds. Raises Failed after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise BenchmarkFailed(f"not within {timeout:g} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody answers on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended when the block is left; what it says goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


@contextmanager
def embedded_servers(*options: str | Path) -> Iterator[dict[str, str]]:
    """The embedded servers in a process of their own, until the block is left: what they say."""
    command = [sys.executable, "-m", "onefs.demo", "--until-stdin-closes", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def run(command: Command, *, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises Failed with its complaint unless it exits with 0."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment} if environment is not None else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BenchmarkFailed(
            f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}"
        )
    return done.stdout


def timed(command: Command, given: str = "") -> float:
    """Seconds that a program takes from start to end, its output thrown away.

    Raises Failed with its complaint unless it exits with 0.
    """
    began = time.perf_counter()
    done = subprocess.run(
        command,
        input=given.encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip() or done.returncode
        raise BenchmarkFailed(f"{' '.join(map(str, command))}: {complaint}")
    return seconds


def timed_together(commands: Sequence[Command]) -> float:
    """Seconds until the last of several programs has ended that were started together."""
    began = time.perf_counter()
    started = [subprocess.Popen(each, stdin=subprocess.DEVNULL) for each in commands]
    try:
        codes = [each.wait(TIMEOUT_SECONDS) for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait(15)
    seconds = time.perf_counter() - began
    if any(codes):
        raise BenchmarkFailed(f"a reader failed: {codes}")
    return seconds
