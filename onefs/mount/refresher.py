"""Refresh of one mount on demand: what its daemon and the kernel keep in memory is dropped.

``onefs refresh`` reads :data:`REFRESH_XATTR` of the mount's root, a number, and then
:data:`REFRESHED_XATTR` until that is no smaller. The kernel keeps neither, and neither waits: an
operation that waited for the kernel to drop names could wait for itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from onefs.errors import OnefsError, reason_of

log = logging.getLogger(__name__)

#: extended attribute of the root: reading it begins a refresh, and gives its number
REFRESH_XATTR = "user.onefs.refresh"
#: extended attribute of the root: the number of the last refresh that is complete
REFRESHED_XATTR = "user.onefs.refreshed"


class Refresher:
    """Refreshes of one mount, on a thread of their own. Thread-safe.

    Requests that come while one runs share the next one.
    """

    def __init__(self, drop_caches: Callable[[], None]) -> None:
        """``drop_caches`` drops what the daemon keeps in memory."""
        self._drop_caches = drop_caches
        self._changed = threading.Condition()
        self._requested = 0
        self._completed = 0

    def xattr_value(self, name: str) -> str | None:
        """The value of an attribute of the root; None for one of another name."""
        if name == REFRESH_XATTR:
            return str(self._request_refresh())
        return str(self._completed) if name == REFRESHED_XATTR else None

    def run(self, expire_names: Callable[[], bool]) -> None:
        """Serve requests until ``drop_names``, which makes the kernel drop its names, says False:
        the mount has ended."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._requested > self._completed)
                number = self._requested
            try:
                self._drop_caches()
            except (OSError, OnefsError) as error:
                # the kernel's names are dropped all the same; the catalogue is read again soon
                log.warning(
                    "not all that the mount keeps in memory was dropped: %s", reason_of(error)
                )
            if not expire_names():
                return
            self._completed = number

    def _request_refresh(self) -> int:
        with self._changed:
            self._requested += 1
            self._changed.notify()
            return self._requested
