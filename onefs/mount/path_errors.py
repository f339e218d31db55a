"""Store the error of the last operation on each path, because programs show only an errno.

The message is the path's attribute ``user.onefs.error`` until an operation on the path succeeds.
``onefs status`` also shows errors that concern more than one file: a full disk, the limit
``--max-fetch``, or a login that the file server refuses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cachetools import FIFOCache

from onefs.errors import (
    CacheFull,
    DataServerCredentials,
    FetchLimit,
    NotFound,
    OnefsError,
    ReadOnly,
    Stopping,
)

#: largest number of paths for which an error is stored
_MAX_REMEMBERED_PATHS = 1024
#: errors that are not stored, because the errno says enough or because the user cannot resolve them
_UNREPORTED_ERRORS = (NotFound, ReadOnly, Stopping)
#: errors that concern the whole mount
_MOUNT_WIDE_ERRORS: tuple[type[OnefsError], ...] = (CacheFull, FetchLimit, DataServerCredentials)
#: seconds for which an error of the whole mount is shown, if the error has no expiry time itself
_MOUNT_WIDE_TTL_SECONDS = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _MountWideError:
    """An error that concerns the whole mount. The times are in seconds since the epoch."""

    message: str
    #: time at which the error first occurred
    since: float
    #: time after which the error is no longer shown
    until: float


class PathErrors:
    """The last error of each path. Thread-safe. The method :meth:`has_any` is fast."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: the message for each of the paths that failed last
        self._by_path: FIFOCache[str, str] = FIFOCache(_MAX_REMEMBERED_PATHS)
        self._mount_wide: dict[type[OnefsError], _MountWideError] = {}

    def note_failure(self, path: str, error: Exception) -> None:
        """Store the error that an operation on ``path`` has raised.

        Only errors of ``onefs.errors`` are stored, but not NotFound, ReadOnly and Stopping.
        """
        if not isinstance(error, OnefsError) or isinstance(error, _UNREPORTED_ERRORS):
            return
        with self._lock:
            self._by_path[path] = str(error)
            is_new = self._note_mount_wide(error)
        # other errors of the whole mount are logged where they are raised
        if is_new and isinstance(error, FetchLimit):
            log.warning("%s: %s", path, error)

    def clear(self, path: str) -> None:
        """Drop the error of ``path``, because an operation on ``path`` has succeeded."""
        if self.has_any():
            with self._lock:
                self._by_path.pop(path, None)

    def note_fetched(self, path: str) -> None:
        """Drop the errors that are over, because bytes of ``path`` were downloaded and stored.

        These are the error of ``path``, and all errors of the whole mount except that of the
        limit --max-fetch.
        """
        self.clear(path)
        # the error for --max-fetch is kept until it expires, because other files may still exceed
        # the limit
        if self._mount_wide:
            with self._lock:
                self._mount_wide = {k: v for k, v in self._mount_wide.items() if k is FetchLimit}

    @contextmanager
    def record_outcome(self, path: str) -> Iterator[None]:
        """Run the ``with`` block, an operation on ``path``, and store the error that it raises.

        The error is raised again. If the block succeeds, the stored error of ``path`` is dropped.
        """
        try:
            yield
        except Exception as error:
            self.note_failure(path, error)
            raise
        self.clear(path)

    def has_any(self) -> bool:
        """Whether an error is stored for any path."""
        return bool(self._by_path)

    def error_of(self, path: str) -> str:
        """Return the stored error message for ``path``. Return '' if there is none."""
        return self._by_path.get(path, "")

    def is_login_refused(self) -> bool:
        """Whether the file server has refused the login since the last successful download."""
        return DataServerCredentials in self._mount_wide

    def mount_wide_messages(self) -> tuple[str, ...]:
        """Return a message for each error of the whole mount that has not expired.

        A message begins with the time at which the error first occurred.
        """
        now = self._clock()
        with self._lock:
            self._mount_wide = {k: v for k, v in self._mount_wide.items() if v.until >= now}
            return tuple(
                f"since {time.strftime('%H:%M', time.localtime(each.since))}: {each.message}"
                for each in self._mount_wide.values()
            )

    def _note_mount_wide(self, error: OnefsError) -> bool:
        """Store an error if the error concerns the whole mount. The caller must hold the lock.

        Return True if the error was stored and is new.
        """
        kind = next((kind for kind in _MOUNT_WIDE_ERRORS if isinstance(error, kind)), None)
        if kind is None:
            return False
        now = self._clock()
        before = self._mount_wide.get(kind)
        # an error is new if no error of its kind is stored, or if the stored error has expired
        is_new = before is None or before.until < now
        since = now if before is None or is_new else before.since
        until = getattr(error, "until", 0.0) or now + _MOUNT_WIDE_TTL_SECONDS
        self._mount_wide[kind] = _MountWideError(str(error), since, until)
        return is_new
