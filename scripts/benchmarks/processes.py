"""Programs that a benchmark starts: all of them ended by their id, every wait bounded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from scripts.benchmarks.interruption import held

# modules are compiled once, as where onefs is installed, and not at each start
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: the checkout that is measured
ROOT = Path(__file__).resolve().parents[2]
#: seconds for one command; httpdirfs needs a minute for a large file
TIMEOUT_SECONDS = 600.0

Command = Sequence[str | Path]
#: options of Popen for a process group of its own; a session would also change its share of the
#: processors
_OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)


def module_command(module: str, *arguments: str | Path) -> list[str | Path]:
    """The command of a module of the benchmarks, in any working directory."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variable = f"PYTHONPATH={os.pathsep.join(path)}"
    return ["env", variable, sys.executable, "-m", f"scripts.benchmarks.{module}", *arguments]


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
def started(command: Command, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, all of which is killed when the block fails.

    So a benchmark that is ended leaves no reader that keeps a mount busy, and the keyboard's
    SIGINT reaches the benchmark alone. ``options`` are those of Popen.
    """
    with ExitStack() as stack:
        with held():  # nothing is between the start and the promise to end it
            process = subprocess.Popen(command, **_OWN_GROUP, **options)
            stack.callback(_end_group, process)
        yield process


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program and of those that it started."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    if process.returncode is None:  # not waited for, so the number is still its own
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


@contextmanager
def running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended when the block is left; what it says goes to ``log``."""
    with (
        log.open("ab") as output,
        started(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)


@contextmanager
def embedded_servers(*options: str | Path) -> Iterator[dict[str, str]]:
    """The embedded servers in a process of their own, until the block is left: what they say."""
    command = [sys.executable, "-m", "onefs.demo", "--until-stdin-closes", *options]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(30)


def run(command: Command, *, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises Failed with its complaint unless it exits with 0."""
    full = {**os.environ, **environment} if environment is not None else None
    pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
    with started(command, env=full, stdin=devnull, stdout=pipe, stderr=pipe) as process:
        output, complaint = process.communicate(timeout=TIMEOUT_SECONDS)
    _raise_if_failed(command, process.returncode, complaint)
    return output.decode(errors="replace")


def timed(
    command: Command, given: str = "", *, environment: Mapping[str, str] | None = None
) -> float:
    """Seconds that a program takes from start to end, its output thrown away.

    Raises Failed with its complaint unless it exits with 0.
    """
    full = {**os.environ, **environment} if environment is not None else None
    pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
    began = time.perf_counter()
    with started(command, env=full, stdin=pipe, stdout=devnull, stderr=pipe) as process:
        _, complaint = process.communicate(given.encode(), TIMEOUT_SECONDS)
        seconds = time.perf_counter() - began
    _raise_if_failed(command, process.returncode, complaint)
    return seconds


def timed_together(commands: Sequence[Command]) -> float:
    """Seconds until the last of several programs has ended that were started together."""
    began = time.perf_counter()
    with ExitStack() as stack:
        readers = [
            stack.enter_context(started(each, stdin=subprocess.DEVNULL)) for each in commands
        ]
        codes = [each.wait(TIMEOUT_SECONDS) for each in readers]
        seconds = time.perf_counter() - began
    if any(codes):
        raise BenchmarkFailed(f"a reader failed: {codes}")
    return seconds


def _raise_if_failed(command: Command, code: int, complaint: bytes) -> None:
    if code:
        said = complaint.decode(errors="replace").strip() or code
        raise BenchmarkFailed(f"{' '.join(map(str, command))}: {said}")
