"""Serving a mount in this process, until a signal or an unmount ends it."""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import NoReturn

from onefs import __version__
from onefs.config.file_attributes import FileAttributes
from onefs.errors import MountError, OnefsError, reason_of
from onefs.mount import (
    kernel_mounts,
    kernel_readahead,
    libfuse,
    mountpoints,
)
from onefs.mount.daemon_config import DaemonConfig
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
from onefs.tree.nodes import Tree

#: seconds for the kernel to take the mount
_MOUNT_TIMEOUT_SECONDS = 10.0
#: seconds that operations have to return when the mount ends
_STOP_GRACE_SECONDS = 5.0
#: seconds between two looks at the state
_STATUS_INTERVAL_SECONDS = 1.0
#: seconds until kernel and libfuse have agreed on everything
_SETTLE_SECONDS = 0.1
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: descriptors: each libfuse thread keeps a pipe to splice through, and each open file one
_DESCRIPTOR_LIMIT = 65536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What is mounted, and how to end it."""

    tree: Tree
    #: what ``onefs status`` shows; asked by it and once a second, so it is cheap. An OSError or
    #: OnefsError is logged, and what it said before stands
    status: Callable[[], MountStatus]
    #: wakes all that waits with :class:`onefs.errors.Stopping`; nothing waits afterwards
    stop: Callable[[], None]
    #: lets go of everything, after the last operation has returned
    close: Callable[[], None]
    #: the server, where it has no address before it is built; '' where the configuration has it
    url: str = ""
    #: paths of the tree that have become another file
    invalidations: PathInvalidations | None = None
    #: drops what is kept in memory, so that the next look finds what is new; waits for nothing
    drop_caches: Callable[[], None] = lambda: None
    #: names of programs that get EACCES for bytes that would have to be fetched
    indexers: tuple[str, ...] = ()


#: makes the service in the process that serves it; raises an OnefsError when it cannot
ServiceBuilder = Callable[[DaemonConfig], Service]


def serve(
    config: DaemonConfig, build: ServiceBuilder, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Mount and serve until a signal or an unmount. Main thread only.

    ``ready`` is called once the kernel has the mount. Raises what ``build`` raises, and
    :class:`onefs.errors.MountError` when it cannot be mounted. When operations still run some
    seconds after the end, the whole process ends at once.
    """
    libfuse.check_can_mount()
    if config.allow_other:
        mountpoints.check_allow_other()
    libfuse.tune_process()
    _raise_descriptor_limit()
    ending = threading.Event()
    with _signals_handled_by(_raise_interrupt):  # nothing of what is built looks at an event
        service = build(config)
        with _signals_handled_by(lambda *_: ending.set()):
            try:
                _serve_mount(config, service, ending, on_ready)
            finally:
                service.close()


def _serve_mount(
    config: DaemonConfig, service: Service, ending: threading.Event, on_ready: Callable[[], None]
) -> None:
    refresher = Refresher(service.drop_caches)
    operations = Operations(service.tree, service.indexers, refresher)
    loop = MountLoop(
        operations,
        config.mountpoint,
        fsname=config.fsname,
        allow_other=config.allow_other,
        on_end=ending.set,
        appearance=FileAttributes(config.umask, config.uid, config.gid),
        invalidations=service.invalidations,
        refresher=refresher,
    )
    looks = _StatusReader(lambda: _with_path_errors(service.status(), operations.path_errors))
    info = _describe_mount(config, service, looks.read_or_last())
    operations.status = lambda: encode_status(replace(info, status=looks.read_or_last()))
    loop.start(_MOUNT_TIMEOUT_SECONDS)
    try:
        log.info("mounted %s at %s", config.fsname, config.mountpoint)
        _watch_mount(info, looks, loop, ending, on_ready)
    finally:
        log.info("unmounting %s", config.mountpoint)
        service.stop()
        if not loop.stop(_STOP_GRACE_SECONDS):
            _exit_at_once(config.mountpoint)


def _watch_mount(
    info: MountInfo,
    status_reader: _StatusReader,
    loop: MountLoop,
    ending: threading.Event,
    on_ready: Callable[[], None],
) -> None:
    record = MountRecord(info)
    try:
        on_ready()
        if not ending.wait(_SETTLE_SECONDS):
            kernel_readahead.widen_readahead(info.mountpoint)
        while not ending.wait(_STATUS_INTERVAL_SECONDS) and not loop.is_unmounted():
            record.update(status_reader.read_or_last())
    finally:
        record.remove()


def _with_path_errors(status: MountStatus, path_errors: PathErrors) -> MountStatus:
    """What a service says of itself, and what has stood in the way of reading files."""
    refused = status.state == READY and path_errors.is_login_refused()
    return replace(
        status,
        state=REFUSED if refused else status.state,
        troubles=(*status.troubles, *path_errors.mount_wide_messages()),
    )


class _StatusReader:
    """What a service says of itself; while it cannot tell, what it said last."""

    def __init__(self, read_status: Callable[[], MountStatus]) -> None:
        self._read_status = read_status
        self._last_status = MountStatus()
        self._is_failure_logged = False

    def read_or_last(self) -> MountStatus:
        """No trouble with a number that is shown may end the mount: it is logged once."""
        try:
            self._last_status = self._read_status()
        except (OSError, OnefsError) as error:
            if not self._is_failure_logged:
                log.warning("what the mount is doing cannot be told: %s", reason_of(error))
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
    """End although operations are still running: they wait for something that ignores ``stop``."""
    log.error("operations still run %g s after the end: leaving without them", _STOP_GRACE_SECONDS)
    try:
        kernel_mounts.remove_stale_mount(mountpoint)
    except MountError as error:
        log.error("%s", error)
    logging.shutdown()
    os._exit(1)


def _raise_interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """End what runs in the main thread, with the exit code of a shell's command."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def _signals_handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let the usual signals call ``handler``. libfuse leaves those alone that have one."""
    before = {number: signal.signal(number, handler) for number in _END_SIGNALS}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTOR_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTOR_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
