"""Refresh of one mount on demand: caches of its daemon and of the kernel in memory are dropped.

``onefs refresh`` reads the number in :data:`REFRESH_XATTR` of the mount's root, and then reads
:data:`REFRESHED_XATTR` until it is at least that number. The kernel caches neither attribute.
Reading them does not wait: an operation that waits for the kernel to drop names could wait for
itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from onefs.errors import OnefsError, reason_of
from onefs.tree.nodes import XATTR_PREFIX

log = logging.getLogger(__name__)

#: extended attribute of the root: reading it begins a refresh, and returns its number
REFRESH_XATTR = f"{XATTR_PREFIX}refresh"
#: extended attribute of the root: the number of the last complete refresh
REFRESHED_XATTR = f"{XATTR_PREFIX}refreshed"


class Refresher:
    """Refreshes of one mount, in a separate thread. Thread-safe.

    Requests during a refresh share the next one.
    """

    def __init__(self, drop_caches: Callable[[], None]) -> None:
        """``drop_caches`` drops the daemon's caches in memory."""
        self._drop_caches = drop_caches
        self._changed = threading.Condition()
        self._requested = 0
        self._completed = 0

    def xattr_value(self, name: str) -> str | None:
        """Return the value of one of the two attributes; None for any other name."""
        if name == REFRESH_XATTR:
            return str(self._request_refresh())
        return str(self._completed) if name == REFRESHED_XATTR else None

    def run(self, expire_names: Callable[[], bool]) -> None:
        """Serve requests until the mount has ended.

        ``expire_names`` makes the kernel drop all names; it returns False if the mount has ended.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requested > self._completed)
                number = self._requested
            try:
                self._drop_caches()
            except (OSError, OnefsError) as error:
                # the kernel's names are dropped in any case; the daemon's caches expire soon
                log.warning("some caches in memory could not be dropped: %s", reason_of(error))
            if not expire_names():
                return
            self._completed = number

    def _request_refresh(self) -> int:
        with self._changed:
            self._requested += 1
            self._changed.notify()
            return self._requested
