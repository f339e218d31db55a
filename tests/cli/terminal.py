"""A command that runs at a pseudo-terminal, with its output and its input."""

from __future__ import annotations

import os
import pty
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType

#: the onefs command of the code under test
ONEFS = (sys.executable, "-c", "from onefs.cli import main; main()")
#: seconds in which an expected text must be shown
TIMEOUT_SECONDS = 90.0


class Terminal:
    """A command at a pseudo-terminal, which a test reads and types into.

    Usage: ``with Terminal(["setup"], environ) as terminal: terminal.answer("URL", "https://...")``
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        command: Sequence[str] = ONEFS,
    ) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environ),
            start_new_session=True,
            # tests that are run in the background may ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait(60)
        os.close(self._master)

    def expect(self, text: str) -> None:
        """Wait until ``text`` is shown after the previously expected text."""
        end = time.monotonic() + TIMEOUT_SECONDS
        while (found := self.shown.find(text, self._seen)) < 0:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{text!r} was not shown: {self.shown!r}")
        self._seen = found + len(text)

    def answer(self, question: str, typed: str) -> None:
        """Wait for a question and the colon after it. Then type an answer."""
        self.expect(question)
        self.expect(": ")
        self.type(typed + "\n")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Send the signal of Ctrl-C (SIGINT) to the process, and wait until the process ends.

        The signal is sent because typing Ctrl-C has no effect: the terminal is not the process's
        controlling terminal. It is sent again if the process does not end within 5 s, because
        readline can miss a signal that comes just before readline waits.
        """
        for _ in range(10):
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
                return

    def exit_code(self) -> int:
        """Read the output to its end, and return the exit code."""
        end = time.monotonic() + TIMEOUT_SECONDS
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(max(1.0, end - time.monotonic()))

    def _read(self, timeout: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            if timeout <= 0 or not selector.select(timeout):
                return False
        try:
            data = os.read(self._master, 4096)
        except OSError:  # EIO: the other side of the pseudo-terminal is closed
            return False
        # replace in the whole text, because the two characters of a line's end may come separately
        self.shown = (self.shown + data.decode(errors="replace")).replace("\r\n", "\n")
        return bool(data)


def run(
    arguments: Sequence[str], environ: Mapping[str, str], **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal, and wait until it ends."""
    return subprocess.run(
        [*ONEFS, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**environ, **more},
        check=False,
    )
