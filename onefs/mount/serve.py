"""Serve a mount in this process, until a signal or an unmount ends the mount."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import NoReturn

from onefs import __version__
from onefs.errors import MountError, OnefsError, reason_of
from onefs.lowlevel.signal_event import SignalEvent
from onefs.mount import libfuse, mountpoints
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.kernel_readahead import KernelReadahead
from onefs.mount.loop import MountLoop, PathInvalidations
from onefs.mount.mount_registry import (
    READY,
    REFUSED,
    MountInfo,
    MountRecord,
    MountStatus,
    encode_status,
)
from onefs.mount.operations import Operations
from onefs.mount.path_errors import PathErrors
from onefs.mount.refresher import Refresher
from onefs.mount.sibling_prefetcher import SiblingSource
from onefs.mount.unmount import remove_stale_mount
from onefs.tree.nodes import Tree

#: longest time in seconds until the kernel has accepted the mount
_MOUNT_TIMEOUT_SECONDS = 10.0
#: longest time in seconds to wait for running operations when the mount ends
_STOP_GRACE_SECONDS = 5.0
#: seconds between two updates of the status
_STATUS_INTERVAL_SECONDS = 1.0
#: the process is idle if it used less processor time than this number of seconds since then
_IDLE_PROCESSOR_SECONDS = 0.1
#: seconds after which the kernel and libfuse have negotiated the read-ahead window
_SETTLE_SECONDS = 0.1
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: largest number of descriptors of this process. Each libfuse thread needs a pipe for splicing, and
#: each open file needs a descriptor.
_DESCRIPTOR_LIMIT = 65536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """A tree that can be mounted, and the functions that the mount calls."""

    tree: Tree
    #: returns the status for ``onefs status``. This function must be fast, because the mount
    #: calls it every second. If the function raises OSError or OnefsError, the error is logged and
    #: the last status is shown.
    status: Callable[[], MountStatus]
    #: makes all waiting operations fail with :class:`onefs.errors.Stopping`. After this call,
    #: operations do not wait any more.
    stop: Callable[[], None]
    #: releases all resources; called after the last operation has ended
    close: Callable[[], None]
    #: the server's address, if only the built service knows it; '' means that the address in the
    #: configuration is used
    url: str = ""
    #: paths of the tree whose file or content has changed
    invalidations: PathInvalidations | None = None
    #: drops caches in memory, so that the next operation finds new data; it never waits
    drop_caches: Callable[[], None] = lambda: None
    #: names of programs that get the error EACCES when they read bytes that are not cached
    indexers: tuple[str, ...] = ()
    #: fetches files that a program probably reads next; None if none are to be fetched
    siblings: SiblingSource | None = None


#: a function that builds the service, called in the process that serves the mount. Raises an
#: OnefsError if the service cannot be built.
ServiceBuilder = Callable[[DaemonConfig], Service]


def serve(
    config: DaemonConfig, build: ServiceBuilder, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Build the service, mount its tree, and serve until a signal or an unmount ends the mount.

    Only the main thread may call this function. ``on_ready`` is called when the kernel has accepted
    the mount. Raises the errors of ``build``, and :class:`onefs.errors.MountError` if mounting
    fails. If operations still run 5 seconds after the end of the mount, the whole process exits.
    """
    libfuse.check_can_mount()
    if config.allow_other:
        mountpoints.check_allow_other()
    libfuse.tune_process()
    _raise_descriptor_limit()
    ending = SignalEvent()
    # signals raise an exception here, because ``build`` does not check the event ``ending``
    with _signals_handled_by(_raise_interrupt):
        service = build(config)
        with _signals_handled_by(lambda *_: ending.set()):
            try:
                _serve_mount(config, service, ending, on_ready)
            finally:
                service.close()


def _serve_mount(
    config: DaemonConfig, service: Service, ending: SignalEvent, on_ready: Callable[[], None]
) -> None:
    refresher = Refresher(service.drop_caches)
    operations = Operations(service.tree, service.indexers, refresher, service.siblings)
    loop = MountLoop(
        operations,
        config,
        on_end=ending.set,
        invalidations=service.invalidations,
        refresher=refresher,
    )
    reader = _StatusReader(lambda: _with_path_errors(service.status(), operations.path_errors))
    info = _describe_mount(config, service, reader.read_or_last())
    operations.status = lambda: encode_status(replace(info, status=reader.read_or_last()))
    loop.start(_MOUNT_TIMEOUT_SECONDS)
    try:
        log.info("mounted the database %s at the mount point %s", config.fsname, config.mountpoint)
        _watch_mount(info, reader, loop, ending, on_ready, operations.kernel_readahead)
    finally:
        log.info("unmounting the mount point %s", config.mountpoint)
        operations.siblings.close()
        service.stop()
        if not loop.stop(_STOP_GRACE_SECONDS):
            _exit_at_once(config.mountpoint)


def _watch_mount(
    info: MountInfo,
    status_reader: _StatusReader,
    loop: MountLoop,
    ending: SignalEvent,
    on_ready: Callable[[], None],
    readahead: KernelReadahead,
) -> None:
    record, garbage = MountRecord(info), IdleGarbageCollector()
    try:
        on_ready()
        if not ending.wait(_SETTLE_SECONDS):
            readahead.attach(info.mountpoint)
        while not ending.wait(_STATUS_INTERVAL_SECONDS) and not loop.is_unmounted():
            record.update(status_reader.read_or_last())
            garbage.collect_if_idle()
    finally:
        record.remove()


class IdleGarbageCollector:
    """Searches for garbage while the process does nothing.

    Errors and their frames refer to each other, and may hold large buffers. While nothing is read,
    no new objects cause this search (see libfuse.tune_process). During reads, all of them would
    wait for it.
    """

    def __init__(self) -> None:
        self._used_seconds = time.process_time()

    def collect_if_idle(self) -> bool:
        """Search for garbage if little processor time was used since the last call.

        Return whether garbage was searched for.
        """
        before, self._used_seconds = self._used_seconds, time.process_time()
        is_idle = self._used_seconds - before < _IDLE_PROCESSOR_SECONDS
        if is_idle:
            gc.collect(1)
        return is_idle


def _with_path_errors(status: MountStatus, path_errors: PathErrors) -> MountStatus:
    """Return ``status`` with the errors of the whole mount in ``path_errors`` added.

    The state READY becomes REFUSED if the file server refuses the login.
    """
    refused = status.state == READY and path_errors.is_login_refused()
    return replace(
        status,
        state=REFUSED if refused else status.state,
        troubles=(*status.troubles, *path_errors.mount_wide_messages()),
    )


class _StatusReader:
    """A reader of a service's status. It keeps the last status in case a later reading fails."""

    def __init__(self, read_status: Callable[[], MountStatus]) -> None:
        self._read_status = read_status
        self._last_status = MountStatus()
        self._is_failure_logged = False

    def read_or_last(self) -> MountStatus:
        """Return the present status, or the last status if the present status cannot be read."""
        try:
            self._last_status = self._read_status()
        except (OSError, OnefsError) as error:
            # after the first error, log further errors only after a successful reading
            if not self._is_failure_logged:
                log.warning("the mount's status cannot be determined: %s", reason_of(error))
            self._is_failure_logged = True
        else:
            self._is_failure_logged = False
        return self._last_status


def _describe_mount(config: DaemonConfig, service: Service, status: MountStatus) -> MountInfo:
    return MountInfo(
        mountpoint=config.mountpoint,
        pid=os.getpid(),
        url=service.url or config.url,
        profile=config.profile,
        username=config.username,
        cache_dir=config.cache_dir,
        state_dir=config.state_dir,
        cache_limit=config.cache_limit,
        since=time.time(),
        status=status,
        log_file=config.log_file,
        made=config.made,
        as_of=config.as_of,
        flat=config.flat,
        version=__version__,
    )


def _exit_at_once(mountpoint: str) -> None:
    """Remove the mount and end the process immediately, while operations are still running.

    These operations are blocked in code that ``Service.stop`` cannot interrupt.
    """
    log.error(
        "file operations still run %g s after the unmount: the process exits", _STOP_GRACE_SECONDS
    )
    try:
        remove_stale_mount(mountpoint)
    except MountError as error:
        log.error("%s", error)
    logging.shutdown()
    os._exit(1)


def _raise_interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt for SIGINT, and SystemExit for other signals.

    The exit code is 128 plus the signal's number, as in shells.
    """
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def _signals_handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call ``handler`` for the signals that end a mount (_END_SIGNALS), in the ``with`` block."""
    # the mount begins inside the block, and libfuse does not replace existing signal handlers
    before = {number: signal.signal(number, handler) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTOR_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTOR_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
