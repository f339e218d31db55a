"""The embedded laboratory as a child of the mount's daemon."""

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

#: seconds for the servers to answer. All folders of a laboratory are listed first, which takes
#: minutes where they are many and their disk is slow; servers that die end the wait at once.
READY_TIMEOUT_SECONDS = 900.0
#: lines of what servers said last that are in the error when they die
_MAX_ERROR_LINES = 20


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the embedded servers are asked for; see ``onefs demo serve`` for units."""

    data: str | None = None
    rate: int | None = None
    latency_ms: float = 0.0


class DemoProcess:
    """Both servers in a process of their own, from construction to :meth:`close`.

    They end when their standard input does, so that they cannot outlive this process, however it
    dies. ``ready`` is what they said when they answered: addresses and logins. Raises MountError
    with their own sentence when they cannot be started within ``timeout`` seconds.
    """

    def __init__(
        self, options: DemoOptions, state_dir: str, timeout: float = READY_TIMEOUT_SECONDS
    ) -> None:
        self._process = start_child(
            "onefs.demo",
            *_command_arguments(options, state_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        #: what the servers said before they were ready: the log's lines, or why they failed
        self._early: list[str] | None = []
        self._lock = threading.Lock()
        # from the start: a large folder can have more warnings than a pipe holds
        self._log_thread = threading.Thread(
            target=self._copy_stderr_to_log, name="onefs-embedded", daemon=True
        )
        self._log_thread.start()
        try:
            self.connection_info = self._read_connection_info(timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End them. Never raises."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # the kernel may keep it a while
                self._process.wait(3)

    def _copy_stderr_to_log(self) -> None:
        """Put what the servers say into our log; unread, they would block on a full pipe."""
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
            found: dict[str, Any] = json.loads(line)
            with self._lock:
                early, self._early = self._early or [], None
                for each in early:
                    _log(each)
            return {name: str(value) for name, value in found.items()}
        reason = ""
        if self._process.poll() is not None:
            self._log_thread.join(1)  # its end of the pipe is all that is left
            reason = "\n".join((self._early or [])[-_MAX_ERROR_LINES:]).strip()
        reason = reason or f"no answer within {timeout:g} s"
        raise MountError(f"the embedded laboratory could not be started: {reason}")


def _log(line: str) -> None:
    log.warning("embedded laboratory: %s", line)


def _read_first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """The first line on standard output, b'' when there is none in time."""
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
    given = {
        "--data": options.data and os.path.abspath(options.data),
        "--rate": options.rate,
        "--latency": options.latency_ms or None,
        "--state-dir": os.path.abspath(state_dir),
    }
    asked = [f"{flag}={value}" for flag, value in given.items() if value is not None]
    return [*asked, "--until-stdin-closes"]
