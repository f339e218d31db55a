"""The Alyx and file server inside onefs, run as a child process of the mount's daemon."""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from onefs.errors import MountError
from onefs.lowlevel.child_process import start_child

log = logging.getLogger(__name__)

#: seconds in which the servers must become ready. They first list all folders of a laboratory, and
#: on a slow disk this takes minutes. The wait ends at once if the servers die.
READY_TIMEOUT_SECONDS = 900.0
#: maximum number of lines that the MountError quotes from standard error when the servers die
_MAX_ERROR_LINES = 20


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of ``onefs mount --demo`` for the Alyx and file server inside onefs.

    Names and units are those of ``onefs demo serve``.
    """

    #: folder to serve; None means the synthetic laboratory
    data: str | None = None
    #: limit for each data connection, in bytes per second; None means no limit
    rate: int | None = None
    #: delay before each answer, in milliseconds
    latency_ms: float = 0.0


class DemoProcess:
    """The child process with the embedded Alyx server and file server, until :meth:`close`.

    ``connection_info`` holds the servers' addresses and logins. The servers' lines on standard
    error are logged. The constructor raises MountError, with the reason, if the servers end, or if
    they are not ready within ``timeout`` seconds.
    """

    def __init__(
        self, options: DemoOptions, state_dir: str, timeout: float = READY_TIMEOUT_SECONDS
    ) -> None:
        # the servers end when their standard input is closed, so they also end if this process dies
        self._process = start_child(
            "onefs.demo",
            *_command_arguments(options, state_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        #: the servers' lines on standard error until they are ready; None after that. These lines
        #: are logged later, except the lines that the MountError quotes.
        self._early: list[str] | None = []
        self._lock = threading.Lock()
        # read from the start, because a large folder can cause more warnings than a pipe can hold
        self._log_thread = threading.Thread(
            target=self._copy_stderr_to_log, name="onefs-embedded", daemon=True
        )
        self._log_thread.start()
        try:
            self.connection_info = self._read_connection_info(timeout)
        except BaseException:
            self.close()
            raise
        finally:
            self._log_early_lines()

    def close(self) -> None:
        """End the servers. Never raises."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # a process in a system call may end later
                self._process.wait(3)

    def _copy_stderr_to_log(self) -> None:
        """Log each line that the servers write on standard error.

        Lines from before the servers are ready are logged later.
        """
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for raw in pipe:
                line = raw.decode(errors="replace").rstrip()
                with self._lock:
                    if self._early is None:
                        _log(line)
                    else:
                        self._early.append(line)

    def _read_connection_info(self, timeout: float) -> dict[str, str]:
        line = _read_first_line(self._process, timeout)
        if line:
            info: dict[str, Any] = json.loads(line)
            return {name: str(value) for name, value in info.items()}
        reason = ""
        if self._process.poll() is not None:
            self._log_thread.join(1)  # this thread ends at the end of the pipe
            with self._lock:
                lines = self._early or []
                self._early, last = lines[:-_MAX_ERROR_LINES], lines[-_MAX_ERROR_LINES:]
            reason = "\n".join(last).strip()
        reason = reason or f"no answer within {timeout:g} s"
        raise MountError(f"the embedded laboratory could not be started: {reason}")

    def _log_early_lines(self) -> None:
        with self._lock:
            early, self._early = self._early or [], None
            for line in early:
                _log(line)


def _log(line: str) -> None:
    log.warning("the embedded laboratory printed: %s", line)


def _read_first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Return the first line that ``process`` writes on standard output.

    Return b'' if no complete line comes within ``timeout`` seconds, or if the output ends.
    """
    assert process.stdout is not None
    end = time.monotonic() + timeout
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                return b""
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                return b""
            line += chunk
    return line


def _command_arguments(options: DemoOptions, state_dir: str) -> list[str]:
    flags = {
        "--data": options.data and os.path.abspath(options.data),
        "--rate": options.rate,
        "--latency": options.latency_ms or None,
        "--state-dir": os.path.abspath(state_dir),
    }
    arguments = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
    return [*arguments, "--until-stdin-closes"]
