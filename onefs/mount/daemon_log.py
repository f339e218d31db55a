"""The daemon's log file: bounded, and with what libraries print in it too."""

from __future__ import annotations

import logging
import logging.handlers
import os
import threading
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from onefs.config.secret import RedactedFormatter

log = logging.getLogger(__name__)

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: bytes; with one older file, the log takes twice that at most
_MAX_LOG_BYTES = 4 * 1024 * 1024


class _DaemonLogHandler(logging.handlers.RotatingFileHandler):
    """Readable by its owner only, and takes standard output and error along when it turns.

    Where its folder was deleted and made anew it is begun again; not on another disk.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            if self.stream is not None and self._is_deleted(self.stream):
                self.stream.close()
                self.stream = self._open()
        super().emit(record)

    def _is_deleted(self, stream: TextIOWrapper) -> bool:
        """Whether the file was deleted, and can be begun again in its folder. Raises OSError."""
        here = os.fstat(stream.fileno())
        folder = os.stat(os.path.dirname(self.baseFilename))
        return not here.st_nlink and folder.st_dev == here.st_dev

    def _open(self) -> TextIOWrapper:
        opened = super()._open()
        os.fchmod(opened.fileno(), 0o600)
        for stream in (1, 2):
            os.dup2(opened.fileno(), stream)
        return opened


def set_up_logging(log_file: str | None, level: str) -> None:
    """Log to ``log_file`` (0600), or to standard error when it is None."""
    handler: logging.Handler
    if log_file is None:
        handler = logging.StreamHandler()
    else:
        create_log_file(log_file)
        handler = _DaemonLogHandler(
            log_file, maxBytes=_MAX_LOG_BYTES, backupCount=1, encoding="utf-8"
        )
    handler.setFormatter(RedactedFormatter(_LOG_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # else they would be printed as they are
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_exception


def _log_thread_exception(ended: threading.ExceptHookArgs) -> None:
    """Log what a thread has died of."""
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "unknown"
        log.error("thread %s has died", name, exc_info=ended.exc_value)


def create_log_file(log_file: str | os.PathLike[str]) -> None:
    """Make the log file, readable by its owner only, unless it is there."""
    Path(log_file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
