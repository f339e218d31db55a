"""Logged warnings, printed on standard error. A warning that repeats a printed error is dropped."""

from __future__ import annotations

import logging
import threading

from onefs.cli.output import say

#: seconds by which a warning is delayed, so that an error with the same text can replace it
HOLD_SECONDS = 1.0


class DeferredWarnings(logging.Handler):
    """Prints each warning once, after a delay. Thread-safe.

    Delayed warnings that repeat an error of the command are dropped. Inside a ``with`` block of
    this object, it replaces ``logging.lastResort``, Python's handler if no log is set up.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._guard = threading.Lock()
        self._seen_texts: set[str] = set()
        self._pending_texts: list[str] = []
        self._timer: threading.Timer | None = None

    def __enter__(self) -> DeferredWarnings:
        self._previous_handler, logging.lastResort = logging.lastResort, self
        return self

    def __exit__(self, *_: object) -> None:
        logging.lastResort = self._previous_handler
        self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        with self._guard:
            if text in self._seen_texts:
                return
            self._seen_texts.add(text)
            self._pending_texts.append(text)
            if self._timer is None:
                self._timer = threading.Timer(HOLD_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def suppress(self, error: str) -> None:
        """Drop each delayed warning that contains ``error``, or is contained in ``error``.

        The caller prints ``error``.
        """
        with self._guard:
            self._seen_texts.add(error)
            self._pending_texts = [
                text for text in self._pending_texts if error not in text and text not in error
            ]

    def flush(self) -> None:
        """Print the delayed warnings now."""
        with self._guard:
            texts, self._pending_texts = self._pending_texts, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for text in texts:
            say(f"onefs: {text}", err=True)


def suppress_warnings_about(error: object) -> None:
    """Drop this command's delayed warnings that repeat ``error``.

    The caller prints ``error``. For "repeat" see :meth:`DeferredWarnings.suppress`.
    """
    if isinstance(logging.lastResort, DeferredWarnings):
        logging.lastResort.suppress(str(error))
