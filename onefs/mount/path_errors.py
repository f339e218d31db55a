"""What stood in the way of the last operation on each path, for users who only see an errno.

The sentence is shown as ``user.onefs.error`` of the path until an operation on it succeeds. What
concerns more than one file (a full disk, ``--max-fetch``, a server's refusal) is also shown by
``onefs status``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from onefs.errors import (
    CacheFull,
    DataServerCredentials,
    FetchLimit,
    NotFound,
    OnefsError,
    ReadOnly,
    Stopping,
)

#: paths that are remembered
_MAX_REMEMBERED_PATHS = 1024
#: what an errno says by itself, or nothing can be done about
_UNREPORTED_ERRORS = (NotFound, ReadOnly, Stopping)
#: what concerns the whole mount
_MOUNT_WIDE_ERRORS: tuple[type[OnefsError], ...] = (CacheFull, FetchLimit, DataServerCredentials)
#: seconds after which a trouble of the whole mount is shown no longer, if nothing was fetched since
_MOUNT_WIDE_TTL_SECONDS = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _MountWideError:
    """A trouble of the whole mount; times in seconds since the epoch."""

    error: OnefsError
    since: float
    until: float


class PathErrors:
    """The last failure of each path. Thread-safe; asking whether there is any costs nothing."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_path: OrderedDict[str, str] = OrderedDict()
        self._mount_wide: dict[type[OnefsError], _MountWideError] = {}

    def note_failure(self, path: str, error: Exception) -> None:
        """Remember why an operation on ``path`` has failed."""
        if not isinstance(error, OnefsError) or isinstance(error, _UNREPORTED_ERRORS):
            return
        with self._lock:
            self._by_path[path] = str(error)
            self._by_path.move_to_end(path)
            if len(self._by_path) > _MAX_REMEMBERED_PATHS:
                self._by_path.popitem(last=False)
            begins = self._note_mount_wide(error)
        if begins and isinstance(error, FetchLimit):  # the others are logged where they are met
            log.warning("%s: %s", path, error)

    def clear(self, path: str) -> None:
        """Forget the failure of ``path``: an operation on it has succeeded."""
        if self.has_any():
            with self._lock:
                self._by_path.pop(path, None)

    def note_fetched(self, path: str) -> None:
        """Bytes of ``path`` were fetched and stored: the disk has room and the server agrees.

        Other files may still be beyond --max-fetch, which ends by itself.
        """
        self.clear(path)
        if self._mount_wide:
            with self._lock:
                self._mount_wide = {k: v for k, v in self._mount_wide.items() if k is FetchLimit}

    @contextmanager
    def record_outcome(self, path: str) -> Iterator[None]:
        """Remember why the block, an operation on ``path``, fails, or forget it."""
        try:
            yield
        except Exception as error:
            self.note_failure(path, error)
            raise
        self.clear(path)

    def has_any(self) -> bool:
        """Whether an operation on some path has failed last."""
        return bool(self._by_path)

    def error_of(self, path: str) -> str:
        """The sentence of the last failure of ``path``, '' without one."""
        return self._by_path.get(path, "")

    def is_login_refused(self) -> bool:
        """Whether the file server has refused the login, as far as is known."""
        return DataServerCredentials in self._mount_wide

    def mount_wide_messages(self) -> tuple[str, ...]:
        """What stands in the way of the whole mount, each since when."""
        now = self._clock()
        with self._lock:
            for kind in [kind for kind, each in self._mount_wide.items() if each.until < now]:
                del self._mount_wide[kind]
            return tuple(
                f"since {time.strftime('%H:%M', time.localtime(each.since))}: {each.error}"
                for each in self._mount_wide.values()
            )

    def _note_mount_wide(self, error: OnefsError) -> bool:
        """Remember a trouble of the whole mount. Returns whether it begins now."""
        kind = next((kind for kind in _MOUNT_WIDE_ERRORS if isinstance(error, kind)), None)
        if kind is None:
            return False
        now = self._clock()
        before = self._mount_wide.get(kind)
        begins = before is None or before.until < now
        since = now if before is None or begins else before.since
        until = getattr(error, "until", 0.0) or now + _MOUNT_WIDE_TTL_SECONDS
        self._mount_wide[kind] = _MountWideError(error.with_traceback(None), since, until)
        return begins
