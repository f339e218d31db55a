"""How far a long command is, in one line on the terminal; nothing where there is none."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType

import click

from onefs.printable import printable

#: seconds between two lines
_REDRAW_SECONDS = 0.2
_BAR_CHARACTERS = 24


class ProgressLine:
    """One line on standard error, rewritten in place, and gone at the end of the block.

    With ``after`` it first appears that many seconds after the beginning, also while the command
    waits. Thread-safe.
    """

    def __init__(self, delay_seconds: float = 0.0) -> None:
        self._is_enabled = sys.stderr is not None and sys.stderr.isatty()
        self._delay_seconds = delay_seconds
        self._next_draw = time.monotonic() + delay_seconds
        self._is_drawn = False
        self._text = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._redraw_periodically, name="onefs-meter", daemon=True
        )

    def __enter__(self) -> ProgressLine:
        if self._is_enabled and self._delay_seconds:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        with self._lock:
            self._is_enabled = False
            if self._is_drawn:
                click.echo("\r\033[K", nl=False, err=True)

    def show(self, what: str, done: float, total: float, unit: str) -> None:
        """``done`` of ``total`` (0: nobody knows of how many)."""
        text = f"{what} {done:,.0f}"
        if total:
            full = int(_BAR_CHARACTERS * min(1.0, done / total))
            text = (
                f"{what} [{'#' * full}{'.' * (_BAR_CHARACTERS - full)}] {done:,.0f} of {total:,.0f}"
            )
        self._text = f"{text} {unit}"
        self._draw()

    def _redraw_periodically(self) -> None:
        while not self._stop.wait(_REDRAW_SECONDS):
            self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._is_enabled or not self._text or now < self._next_draw:
                return
            self._next_draw = now + _REDRAW_SECONDS
            self._is_drawn = True
            columns = shutil.get_terminal_size().columns
            click.echo(f"\r\033[K{printable(self._text)[: columns - 1]}", nl=False, err=True)
