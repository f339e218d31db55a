"""Warnings of the layers below, as sentences on standard error; none that an error repeats."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from onefs.cli.options import say

#: seconds for which a warning is held back, in which the error that it is about may be reported
HOLD_SECONDS = 1.0


class DeferredWarnings(logging.Handler):
    """Prints each warning once, after a moment, unless it says what a reported error says.

    Within ``with Notices():`` it stands in for the handler of last resort, which is used where no
    log is set up.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        """Drop the warnings that say what ``error`` says, which is printed."""
        with self._guard:
            self._seen_texts.add(error)
            self._pending_texts = [
                text for text in self._pending_texts if error not in text and text not in error
            ]

    def flush(self) -> None:
        """Print what is held back."""
        with self._guard:
            held, self._pending_texts = self._pending_texts, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for text in held:
            say(f"onefs: {text}", err=True)


def suppress_warnings_about(error: object) -> None:
    """Tell the notices of this command that an error is printed."""
    if isinstance(logging.lastResort, DeferredWarnings):
        logging.lastResort.suppress(str(error))
