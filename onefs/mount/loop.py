"""A mount while it runs: libfuse's loop in a thread of its own, and how to end it.

libfuse's own signal handlers end the loop but wait for every callback first, and Python's run
only in a main thread that is not inside libfuse. So the loop has its thread, and the main thread
stays free to wake what waits.
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
from onefs.mount.operations import Operations
from onefs.mount.refresher import Refresher

if TYPE_CHECKING:
    from onefs.mount.fuse import FuseSession

#: interrupts the loop's wait; Python must have a handler for it, or it would end the process
_WAKE_SIGNAL = signal.SIGUSR1
_POLL_SECONDS = 0.02
#: seconds beyond the kernel's own, for an answer on its way when names began to be dropped
_NAME_EXPIRY_MARGIN_SECONDS = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PathInvalidations:
    """Paths that have become another file, and whom to tell when the kernel has forgotten them."""

    paths: SimpleQueue[str]
    on_invalidated: Callable[[str], None]


class MountLoop:
    """Runs one mount. Made and stopped in the main thread."""

    def __init__(
        self,
        operations: Operations,
        mountpoint: str,
        *,
        fsname: str,
        allow_other: bool,
        on_end: Callable[[], None],
        appearance: FileAttributes | None = None,
        invalidations: PathInvalidations | None = None,
        refresher: Refresher | None = None,
    ) -> None:
        """``appearance`` says how files look; None: as by default.

        ``ended`` is called, in the loop's thread, once it is unmounted by whomever.

        The kernel is made to forget what it has of the paths that come through ``switches``, and
        all names when ``refresher`` says so.
        """
        self._operations = operations
        self._mountpoint = mountpoint
        self._fsname = fsname
        self._allow_other = allow_other
        self._on_end = on_end
        self._appearance = appearance or FileAttributes()
        self._invalidations = invalidations
        self._refresher = refresher
        self._has_mounted_or_failed = threading.Event()
        #: libfuse's own, valid while the mount lives; used under one of the two locks
        self._session: FuseSession | None = None
        self._is_mounted = False
        #: libfuse is about to be freed
        self._is_freed = False
        self._lock = threading.Lock()
        #: held while the kernel is made to forget: that waits for reads of the same path, and so
        #: the main thread must never need it
        self._invalidation_lock = threading.Lock()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse-loop", daemon=True)

    def start(self, timeout: float) -> None:
        """Mount, and return when the kernel has taken it.

        Raises :class:`MountError` when that fails or takes longer than ``timeout`` seconds.
        """
        signal.signal(_WAKE_SIGNAL, _ignore_signal)
        self._thread.start()
        in_time = self._has_mounted_or_failed.wait(timeout)
        if self._is_mounted:
            return
        if not in_time:
            raise MountError(f"{self._mountpoint}: libfuse did not mount within {timeout:g} s.")
        raise MountError(f"{self._mountpoint} could not be mounted: {self._failure_reason()}.")

    def stop(self, grace: float) -> bool:
        """Unmount, and wait ``grace`` seconds for callbacks that run. False: some still do."""
        deadline = time.monotonic() + grace
        while self._thread.is_alive() and time.monotonic() < deadline:
            with self._lock:
                if self._session is not None:
                    self._session.exit()
            self._interrupt()
            self._thread.join(_POLL_SECONDS)
        return not self._thread.is_alive()

    def is_unmounted(self) -> bool:
        """Whether the kernel has let go of the mount, though callbacks may still wait.

        libfuse waits for all of them before ``ended`` is called.
        """
        with self._lock:
            return self._is_freed or (self._session is not None and self._session.has_exited())

    def _interrupt(self) -> None:
        # The loop looks at its flag only when a signal ends its wait. One that comes just before
        # the wait is lost, hence the repetition in stop().
        identity = self._thread.ident
        if identity is not None and self._thread.is_alive():
            signal.pthread_kill(identity, _WAKE_SIGNAL)

    def _run(self) -> None:
        try:
            self._mount()
        except BaseException as error:
            self._failure = error
            if self._is_mounted:  # also after a stop that went well: libfuse counts it as an error
                log.info("libfuse ended: %s", reason_of(error))
        finally:
            self._has_mounted_or_failed.set()
            self._on_end()

    def _mount(self) -> None:
        from onefs.mount.fuse import Fuse, mount_options

        options = mount_options(self._fsname, allow_other=self._allow_other)
        Fuse(
            self._operations,
            self._mountpoint,
            options,
            self._appearance,
            self._on_session_ready,
            self._on_session_freed,
        )

    def _on_session_ready(self, session: FuseSession) -> None:
        with self._lock:
            self._session = session
        self._is_mounted = True
        self._has_mounted_or_failed.set()
        # threads of their own: an operation on the very path would wait for itself
        if self._invalidations is not None and session.can_invalidate:
            _start_thread(self._invalidate_paths, self._invalidations, name="fuse-forget")
        if self._refresher is not None:
            _start_thread(self._refresher.run, self._expire_names, name="fuse-refresh")

    def _on_session_freed(self) -> None:
        with self._lock:
            self._session = None
            self._is_freed = True
        # Without a time limit: libfuse is freed when this returns. The main thread sees that the
        # mount is gone, and leaves without this thread when its grace is over.
        with self._invalidation_lock:
            pass

    def _invalidate_paths(self, invalidations: PathInvalidations) -> None:
        while True:
            path = invalidations.paths.get()  # for as long as the process lives: a daemon thread
            with self._invalidation_lock:
                with self._lock:
                    running = self._session
                if running is None:
                    return
                running.invalidate_path(path)
            invalidations.on_invalidated(path)

    def _expire_names(self) -> bool:
        """Return when the kernel has dropped all names. False: the mount has ended."""
        with self._lock:
            running = self._session
            told = running is not None and running.expire_names()
        if running is None:
            return False
        if not told:
            time.sleep(running.name_cache_seconds + _NAME_EXPIRY_MARGIN_SECONDS)
        return True

    def _failure_reason(self) -> str:
        if isinstance(self._failure, RuntimeError):
            return f"libfuse gave up with code {self._failure}"
        return str(self._failure or "it was unmounted at once")


def _start_thread(work: Callable[..., None], argument: Any, *, name: str) -> None:
    threading.Thread(target=work, args=(argument,), name=name, daemon=True).start()


def _ignore_signal(_number: int, _frame: Any) -> None:
    pass
