"""The error of the last operation on each path, as programs only show an errno.

The message is the attribute ``user.onefs.error`` of the path until an operation on it succeeds.
Errors that concern more than one file (a full disk, ``--max-fetch``, a server's refusal) are also
shown by ``onefs status``.
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

#: paths whose error is stored
_MAX_REMEMBERED_PATHS = 1024
#: errors whose errno is enough, or which the user cannot resolve
_UNREPORTED_ERRORS = (NotFound, ReadOnly, Stopping)
#: errors that concern the whole mount
_MOUNT_WIDE_ERRORS: tuple[type[OnefsError], ...] = (CacheFull, FetchLimit, DataServerCredentials)
#: seconds for which an error of the whole mount is shown, unless a download has succeeded since
_MOUNT_WIDE_TTL_SECONDS = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _MountWideError:
    """An error of the whole mount; times in seconds since the epoch."""

    error: OnefsError
    #: when it first occurred
    since: float
    #: when it is no longer shown
    until: float


class PathErrors:
    """The last error of each path. Thread-safe; :meth:`has_any` is cheap."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: messages; of the paths that failed last
        self._by_path: FIFOCache[str, str] = FIFOCache(_MAX_REMEMBERED_PATHS)
        self._mount_wide: dict[type[OnefsError], _MountWideError] = {}

    def note_failure(self, path: str, error: Exception) -> None:
        """Store the error of an operation on ``path``."""
        if not isinstance(error, OnefsError) or isinstance(error, _UNREPORTED_ERRORS):
            return
        with self._lock:
            self._by_path[path] = str(error)
            is_new = self._note_mount_wide(error)
        if is_new and isinstance(error, FetchLimit):  # the others are logged where they are raised
            log.warning("%s: %s", path, error)

    def clear(self, path: str) -> None:
        """Drop the error of ``path``: an operation on it has succeeded."""
        if self.has_any():
            with self._lock:
                self._by_path.pop(path, None)

    def note_fetched(self, path: str) -> None:
        """Drop the errors that are resolved as bytes of ``path`` were downloaded and stored.

        Only the one of --max-fetch remains: other files may still exceed it, and it expires.
        """
        self.clear(path)
        if self._mount_wide:
            with self._lock:
                self._mount_wide = {k: v for k, v in self._mount_wide.items() if k is FetchLimit}

    @contextmanager
    def record_outcome(self, path: str) -> Iterator[None]:
        """Store the error of the block, an operation on ``path``, or drop it if that succeeds."""
        try:
            yield
        except Exception as error:
            self.note_failure(path, error)
            raise
        self.clear(path)

    def has_any(self) -> bool:
        """Whether any path has an error."""
        return bool(self._by_path)

    def error_of(self, path: str) -> str:
        """Return the message of the error of ``path``; '' without one."""
        return self._by_path.get(path, "")

    def is_login_refused(self) -> bool:
        """Whether the file server has refused the login, and accepted none since."""
        return DataServerCredentials in self._mount_wide

    def mount_wide_messages(self) -> tuple[str, ...]:
        """Return a message for each present error of the whole mount, with its first time."""
        now = self._clock()
        with self._lock:
            self._mount_wide = {k: v for k, v in self._mount_wide.items() if v.until >= now}
            return tuple(
                f"since {time.strftime('%H:%M', time.localtime(each.since))}: {each.error}"
                for each in self._mount_wide.values()
            )

    def _note_mount_wide(self, error: OnefsError) -> bool:
        """Store an error if it concerns the whole mount. Returns whether that is new."""
        kind = next((kind for kind in _MOUNT_WIDE_ERRORS if isinstance(error, kind)), None)
        if kind is None:
            return False
        now = self._clock()
        before = self._mount_wide.get(kind)
        is_new = before is None or before.until < now
        since = now if before is None or is_new else before.since
        until = getattr(error, "until", 0.0) or now + _MOUNT_WIDE_TTL_SECONDS
        self._mount_wide[kind] = _MountWideError(error.with_traceback(None), since, until)
        return is_new
