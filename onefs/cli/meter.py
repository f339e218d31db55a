"""How far a long command is, in one line on the terminal; nothing where there is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

#: seconds between two lines
_EVERY = 0.2
_WIDTH = 24


class Meter:
    """One line on standard error, rewritten in place, and gone at the end of the block."""

    def __init__(self) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown and self._next:
            click.echo("\r\033[K", nl=False, err=True)

    def show(self, what: str, done: float, total: float, unit: str) -> None:
        """``done`` of ``total`` (0: nobody knows of how many)."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY
        text = f"{what} {done:,.0f}"
        if total:
            full = int(_WIDTH * min(1.0, done / total))
            text = f"{what} [{'#' * full}{'.' * (_WIDTH - full)}] {done:,.0f} of {total:,.0f}"
        click.echo(f"\r\033[K{text} {unit}", nl=False, err=True)
