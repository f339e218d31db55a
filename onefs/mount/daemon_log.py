"""Write the daemon's log file, which has a size limit and also contains output of libraries."""

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
#: largest size of a log file in bytes. One older log file is kept, so that both files together have
#: at most twice this size.
_MAX_LOG_BYTES = 4 * 1024 * 1024


class _DaemonLogHandler(logging.handlers.RotatingFileHandler):
    """A handler that writes the log file. Standard output and error go to the same file.

    Only the owner can read the file. If the file was deleted, the next message creates a new file.
    """

    def emit(self, record: logging.LogRecord) -> None:
        # create no file while the folder is absent, or while the folder's disk is not mounted
        with suppress(OSError):
            if self.stream is not None and self._is_deleted(self.stream):
                self.stream.close()
                self.stream = self._open()
        super().emit(record)

    def _is_deleted(self, stream: TextIOWrapper) -> bool:
        """Whether the log file was deleted, and its folder is still on the deleted file's disk.

        ``stream`` is the open log file. Raises OSError if the folder does not exist.
        """
        file = os.fstat(stream.fileno())
        folder = os.stat(os.path.dirname(self.baseFilename))
        return not file.st_nlink and folder.st_dev == file.st_dev

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        os.fchmod(stream.fileno(), 0o600)
        for output in (1, 2):
            os.dup2(stream.fileno(), output)
        return stream


def set_up_logging(log_file: str | None, level: str) -> None:
    """Log to ``log_file`` (mode 0600), or to standard error if ``log_file`` is None.

    Messages below ``level`` are not logged. Python's warnings are logged, too.
    """
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
    # log Python's warnings: if they were printed, secrets in them would not be redacted
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_exception


def _log_thread_exception(ended: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread."""
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = ended.thread.name if ended.thread is not None else "unknown"
        log.error("thread %s has died", name, exc_info=ended.exc_value)


def create_log_file(log_file: str | os.PathLike[str]) -> None:
    """Create the log file (mode 0600) and its folder (mode 0700) if they do not exist.

    Raises OSError.
    """
    Path(log_file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
