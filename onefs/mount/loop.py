"""libfuse's loop in a thread of its own, and its end.

libfuse's signal handlers wait for all callbacks before they end the loop, and Python's handlers run
only while the main thread is not inside libfuse. So the loop has its own thread, and the main
thread can wake waiting callbacks.
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

#: interrupts the loop's wait; without a handler in Python, it would end the process
_WAKE_SIGNAL = signal.SIGUSR1
_POLL_SECONDS = 0.02
#: seconds in addition to the kernel's TTL, for replies that were on their way when the wait began
_NAME_EXPIRY_MARGIN_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PathInvalidations:
    """Paths whose file or content has changed, for the invalidation of the kernel's caches."""

    #: absolute paths in the tree
    paths: SimpleQueue[str]
    #: called with each path when the kernel's caches of it are invalid
    on_invalidated: Callable[[str], None]


class MountLoop:
    """Runs one mount. Created and stopped in the main thread."""

    def __init__(
        self,
        operations: Operations,
        config: DaemonConfig,
        *,
        on_end: Callable[[], None],
        invalidations: PathInvalidations | None = None,
        refresher: Refresher | None = None,
    ) -> None:
        """``on_end`` is called, in the loop's thread, when the mount has ended for any reason.

        The kernel's caches are invalidated for the paths in ``invalidations``, and for all names
        when ``refresher`` demands it.
        """
        self._operations = operations
        self._config = config
        self._on_end = on_end
        self._invalidations = invalidations
        self._refresher = refresher
        self._has_mounted_or_failed = threading.Event()
        #: valid while the mount lives; used under one of the two locks
        self._session: FuseSession | None = None
        self._is_mounted = False
        #: whether libfuse is about to be freed
        self._is_freed = False
        self._lock = threading.Lock()
        #: held during an invalidation, which waits for reads of the same path: so the main thread
        #: must never need it
        self._invalidation_lock = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse-loop", daemon=True)

    def start(self, timeout: float) -> None:
        """Mount, and return when the kernel has accepted the mount.

        Raises :class:`MountError` if that fails or takes longer than ``timeout`` seconds.
        """
        signal.signal(_WAKE_SIGNAL, _ignore_signal)
        self._thread.start()
        in_time = self._has_mounted_or_failed.wait(timeout)
        if self._is_mounted:
            return
        mountpoint = self._config.mountpoint
        if not in_time:
            raise MountError(f"{mountpoint}: libfuse did not mount within {timeout:g} s.")
        reason = str(self._failure or "it was unmounted at once")
        if isinstance(self._failure, RuntimeError):
            reason = f"libfuse gave up with code {reason}"
        raise MountError(f"{mountpoint} could not be mounted: {reason}.")

    def stop(self, grace: float) -> bool:
        """Unmount; return whether all callbacks have ended within ``grace`` seconds."""
        deadline = time.monotonic() + grace
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._lock:
                if self._session is not None:
                    self._session.exit()
            self._interrupt()
            self._thread.join(_POLL_SECONDS)
        return not self._thread.is_alive()

    def is_unmounted(self) -> bool:
        """Whether the kernel has ended the mount, even if callbacks still run.

        libfuse waits for all of them before ``on_end`` is called.
        """
        with self._lock:
            return self._is_freed or (self._session is not None and self._session.has_exited())

    def _interrupt(self) -> None:
        # The loop checks its flag only when a signal ends its wait. A signal just before the wait
        # has no effect, hence the repetition in stop().
        identity = self._thread.ident
        if identity is not None and self._thread.is_alive():
            signal.pthread_kill(identity, _WAKE_SIGNAL)

    def _run(self) -> None:
        try:
            self._mount()
        except BaseException as error:
            self._failure = error
            if self._is_mounted:  # libfuse reports an error after a successful stop, too
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
        # in separate threads: an operation on the same path would wait for itself
        if self._invalidations is not None and session.can_invalidate:
            _start_thread(self._invalidate_paths, self._invalidations, name="fuse-forget")
        if self._refresher is not None:
            _start_thread(self._refresher.run, self._expire_names, name="fuse-refresh")

    def _on_session_freed(self) -> None:
        with self._lock:
            self._session = None
            self._is_freed = True
        # Without a time limit: libfuse is freed when this returns. The main thread ends the process
        # without waiting for this thread when its grace period is over.
        with self._invalidation_lock:
            pass

    def _invalidate_paths(self, invalidations: PathInvalidations) -> None:
        while True:
            path = invalidations.paths.get()  # may block forever: this is a daemon thread
            with self._invalidation_lock:
                with self._lock:
                    session = self._session
                if session is None:
                    return
                session.invalidate_path(path)
            invalidations.on_invalidated(path)

    def _expire_names(self) -> bool:
        """Return True when the kernel has dropped all names, False if the mount has ended."""
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
