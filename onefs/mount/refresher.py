"""Refresh a mount on request: drop the caches that its daemon and the kernel have in memory.

``onefs refresh`` reads the attribute :data:`REFRESH_XATTR` of the mount's root. This read begins a
refresh and returns the number of the refresh. Then ``onefs refresh`` reads the attribute
:data:`REFRESHED_XATTR` repeatedly, until its value is at least this number. The kernel caches
neither attribute.

Reading an attribute never waits for a refresh. An operation that waits until the kernel has dropped
names could wait for itself forever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from onefs.errors import OnefsError, reason_of
from onefs.tree.nodes import XATTR_PREFIX

log = logging.getLogger(__name__)

#: extended attribute of the root. Reading this attribute begins a refresh, and returns the number
#: of the refresh.
REFRESH_XATTR = f"{XATTR_PREFIX}refresh"
#: extended attribute of the root. Its value is the number of the last complete refresh.
REFRESHED_XATTR = f"{XATTR_PREFIX}refreshed"


class Refresher:
    """Refresh one mount, in a separate thread. Thread-safe.

    All requests that arrive during a refresh are served together by the next refresh.
    """

    def __init__(self, drop_caches: Callable[[], None]) -> None:
        """Store ``drop_caches``, the function that drops the daemon's caches in memory."""
        self._drop_caches = drop_caches
        self._changed = threading.Condition()
        self._requested = 0
        self._completed = 0

    def xattr_value(self, name: str) -> str | None:
        """Return the value of the attribute ``name``. If it is REFRESH_XATTR, begin a refresh.

        Return None if ``name`` is neither REFRESH_XATTR nor REFRESHED_XATTR.
        """
        if name == REFRESH_XATTR:
            return str(self._request_refresh())
        return str(self._completed) if name == REFRESHED_XATTR else None

    def run(self, expire_names: Callable[[], bool]) -> None:
        """Serve requests for refreshes until the mount has ended.

        ``expire_names`` must make the kernel drop all names, and must return False if the mount has
        ended.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requested > self._completed)
                number = self._requested
            try:
                self._drop_caches()
            except (OSError, OnefsError) as error:
                # drop the kernel's names even so, because the daemon's caches expire soon anyway
                log.warning("some caches in memory could not be dropped: %s", reason_of(error))
            if not expire_names():
                return
            self._completed = number

    def _request_refresh(self) -> int:
        with self._changed:
            self._requested += 1
            self._changed.notify()
            return self._requested
