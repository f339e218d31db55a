"""Run libfuse's loop in a separate thread, and end the loop.

The loop has a separate thread so that the main thread can handle signals and wake waiting
callbacks. libfuse's own signal handlers would wait for all callbacks before they end the loop.
Python's signal handlers do not run while the main thread is inside libfuse.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from onefs.config.file_attributes import FileAttributes
from onefs.errors import MountError, reason_of
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.operations import Operations
from onefs.mount.refresher import Refresher

if TYPE_CHECKING:
    from onefs.mount.fuse import FuseSession

#: signal that interrupts the loop's wait. This signal needs a handler, because a signal without a
#: handler would end the process.
_WAKE_SIGNAL = signal.SIGUSR1
_POLL_SECONDS = 0.02
#: seconds added to the time for which the kernel caches names. Replies that libfuse had already
#: sent when the wait began may arrive at the kernel in this time.
_NAME_EXPIRY_MARGIN_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PathInvalidations:
    """The paths at which a file has changed, so that the kernel's caches must be invalidated."""

    #: absolute paths in the tree
    paths: SimpleQueue[str]
    #: called with each path after the kernel's caches of this path were invalidated
    on_invalidated: Callable[[str], None]


class MountLoop:
    """Run one mount. The main thread must create, start and stop this object."""

    def __init__(
        self,
        operations: Operations,
        config: DaemonConfig,
        *,
        on_end: Callable[[], None],
        invalidations: PathInvalidations | None = None,
        refresher: Refresher | None = None,
    ) -> None:
        """Prepare the mount. The method :meth:`start` mounts.

        - ``on_end``: called in the loop's thread when the mount has ended for any reason
        - ``invalidations``: the paths for which the kernel's caches are invalidated
        - ``refresher``: makes the kernel drop all names at each refresh
        """
        self._operations = operations
        self._config = config
        self._on_end = on_end
        self._invalidations = invalidations
        self._refresher = refresher
        self._has_mounted_or_failed = threading.Event()
        #: libfuse's loop; None before the kernel accepts the mount, and after the mount's end. It
        #: is used only while one of the two locks is held.
        self._session: FuseSession | None = None
        self._is_mounted = False
        #: whether the mount has ended, so that libfuse frees the loop
        self._is_freed = False
        self._lock = threading.Lock()
        #: held during an invalidation. An invalidation waits for reads of the same path, so the
        #: main thread must never wait for this lock.
        self._invalidation_lock = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse-loop", daemon=True)

    def start(self, timeout: float) -> None:
        """Mount the tree. Return when the kernel has accepted the mount.

        Raises :class:`MountError` if mounting fails or takes longer than ``timeout`` seconds.
        """
        signal.signal(_WAKE_SIGNAL, _ignore_signal)
        self._thread.start()
        in_time = self._has_mounted_or_failed.wait(timeout)
        if self._is_mounted:
            return
        mountpoint = self._config.mountpoint
        if not in_time:
            raise MountError(f"{mountpoint}: libfuse did not mount within {timeout:g} s.")
        reason = str(self._failure or "the mount point was unmounted at once")
        if isinstance(self._failure, RuntimeError):
            reason = f"libfuse failed with code {reason}"
        raise MountError(f"{mountpoint} could not be mounted: {reason}.")

    def stop(self, grace: float) -> bool:
        """Unmount the tree, and wait at most ``grace`` seconds for running callbacks.

        Return True if all callbacks have ended in this time, False otherwise.
        """
        deadline = time.monotonic() + grace
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._lock:
                if self._session is not None:
                    self._session.exit()
            self._interrupt()
            self._thread.join(_POLL_SECONDS)
        return not self._thread.is_alive()

    def is_unmounted(self) -> bool:
        """Whether the mount has ended. Callbacks may still be running.

        libfuse calls ``on_end`` later, when all callbacks have ended.
        """
        with self._lock:
            return self._is_freed or (self._session is not None and self._session.has_exited())

    def _interrupt(self) -> None:
        # The loop checks whether it must end only when a signal interrupts its wait. A signal that
        # arrives just before the wait has no effect, so stop() sends the signal repeatedly.
        identity = self._thread.ident
        if identity is not None and self._thread.is_alive():
            signal.pthread_kill(identity, _WAKE_SIGNAL)

    def _run(self) -> None:
        try:
            self._mount()
        except BaseException as error:
            self._failure = error
            if self._is_mounted:  # libfuse reports an error even after a successful stop
                log.info("libfuse ended: %s", reason_of(error))
        finally:
            self._has_mounted_or_failed.set()
            self._on_end()

    def _mount(self) -> None:
        from onefs.mount.fuse import Fuse, mount_options

        config = self._config
        Fuse(
            self._operations,
            config.mountpoint,
            mount_options(config.fsname, allow_other=config.allow_other),
            FileAttributes(config.umask, config.uid, config.gid),
            self._on_session_ready,
            self._on_session_freed,
        )

    def _on_session_ready(self, session: FuseSession) -> None:
        with self._lock:
            self._session = session
        self._is_mounted = True
        self._has_mounted_or_failed.set()
        # in separate threads, because invalidating a path during an operation on the same path
        # would wait forever
        if self._invalidations is not None and session.can_invalidate:
            _start_thread(self._invalidate_paths, self._invalidations, name="fuse-forget")
        if self._refresher is not None:
            _start_thread(self._refresher.run, self._expire_names, name="fuse-refresh")

    def _on_session_freed(self) -> None:
        with self._lock:
            self._session = None
            self._is_freed = True
        # Wait for a running invalidation without a time limit, because libfuse frees the loop when
        # this method returns. The main thread does not wait for this thread longer than the grace
        # period, and then ends the process.
        with self._invalidation_lock:
            pass

    def _invalidate_paths(self, invalidations: PathInvalidations) -> None:
        while True:
            path = invalidations.paths.get()  # may block forever, because this is a daemon thread
            with self._invalidation_lock:
                with self._lock:
                    session = self._session
                if session is None:
                    return
                session.invalidate_path(path)
            invalidations.on_invalidated(path)

    def _expire_names(self) -> bool:
        """Make the kernel drop all names, and wait until the names are dropped.

        Return False if the mount has ended, True otherwise.
        """
        with self._lock:
            session = self._session
            have_expired = session is not None and session.expire_names()
        if session is None:
            return False
        if not have_expired:
            time.sleep(session.name_cache_seconds + _NAME_EXPIRY_MARGIN_SECONDS)
        return True


def _start_thread(work: Callable[..., None], argument: Any, *, name: str) -> None:
    threading.Thread(target=work, args=(argument,), name=name, daemon=True).start()


def _ignore_signal(_number: int, _frame: Any) -> None:
    pass
