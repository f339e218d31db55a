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
from onefs.appearance import Appearance
from onefs.errors import MountError, OnefsError, reason_of
from onefs.mount import library, mounts, places, readahead
from onefs.mount.config import DaemonConfig
from onefs.mount.loop import MountLoop, Switches
from onefs.mount.operations import Operations
from onefs.mount.records import READY, REFUSED, MountInfo, Record, Status, telling
from onefs.mount.refresher import Refresher
from onefs.mount.troubles import Troubles
from onefs.tree.nodes import Tree

#: seconds for the kernel to take the mount
_MOUNT_TIMEOUT = 10.0
#: seconds that operations have to return when the mount ends
_GRACE = 5.0
#: seconds between two looks at the state
_TICK = 1.0
#: seconds until kernel and libfuse have agreed on everything
_SETTLED = 0.1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: descriptors: each libfuse thread keeps a pipe to splice through, and each open file one
_DESCRIPTORS = 65536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What is mounted, and how to end it."""

    tree: Tree
    #: what ``onefs status`` shows; asked by it and once a second, so it is cheap. An OSError or
    #: OnefsError is logged, and what it said before stands
    status: Callable[[], Status]
    #: wakes all that waits with :class:`onefs.errors.Stopping`; nothing waits afterwards
    stop: Callable[[], None]
    #: lets go of everything, after the last operation has returned
    close: Callable[[], None]
    #: the server, where it has no address before it is built; '' where the configuration has it
    url: str = ""
    #: paths of the tree that have become another file
    switches: Switches | None = None
    #: drops what is kept in memory, so that the next look finds what is new; waits for nothing
    drop_cached: Callable[[], None] = lambda: None
    #: names of programs that get EACCES for bytes that would have to be fetched
    indexers: tuple[str, ...] = ()


#: makes the service in the process that serves it; raises an OnefsError when it cannot
Build = Callable[[DaemonConfig], Service]


def serve(config: DaemonConfig, build: Build, ready: Callable[[], None] = lambda: None) -> None:
    """Mount and serve until a signal or an unmount. Main thread only.

    ``ready`` is called once the kernel has the mount. Raises what ``build`` raises, and
    :class:`onefs.errors.MountError` when it cannot be mounted. When operations still run some
    seconds after the end, the whole process ends at once.
    """
    library.check_fuse()
    if config.allow_other:
        places.check_allow_other()
    library.tune()
    _allow_descriptors()
    ending = threading.Event()
    with _signals_call(_interrupt):  # nothing of what is built looks at an event
        service = build(config)
        with _signals_call(lambda *_: ending.set()):
            try:
                _mount(config, service, ending, ready)
            finally:
                service.close()


def _mount(
    config: DaemonConfig, service: Service, ending: threading.Event, ready: Callable[[], None]
) -> None:
    refresher = Refresher(service.drop_cached)
    operations = Operations(service.tree, service.indexers, refresher)
    loop = MountLoop(
        operations,
        config.mountpoint,
        fsname=config.fsname,
        allow_other=config.allow_other,
        ended=ending.set,
        appearance=Appearance(config.umask, config.uid, config.gid),
        switches=service.switches,
        refresher=refresher,
    )
    looks = _Looks(lambda: _with_troubles(service.status(), operations.troubles))
    info = _describe(config, service, looks.now())
    operations.status = lambda: telling(replace(info, status=looks.now()))
    loop.start(_MOUNT_TIMEOUT)
    try:
        log.info("mounted %s at %s", config.fsname, config.mountpoint)
        _watch(info, looks, loop, ending, ready)
    finally:
        log.info("unmounting %s", config.mountpoint)
        service.stop()
        if not loop.stop(_GRACE):
            _leave_at_once(config.mountpoint)


def _watch(
    info: MountInfo,
    looks: _Looks,
    loop: MountLoop,
    ending: threading.Event,
    ready: Callable[[], None],
) -> None:
    record = Record(info)
    try:
        ready()
        if not ending.wait(_SETTLED):
            readahead.widen(info.mountpoint)
        while not ending.wait(_TICK) and not loop.unmounted():
            record.update(looks.now())
    finally:
        record.remove()


def _with_troubles(status: Status, troubles: Troubles) -> Status:
    """What a service says of itself, and what has stood in the way of reading files."""
    refused = status.state == READY and troubles.refused()
    return replace(
        status,
        state=REFUSED if refused else status.state,
        troubles=(*status.troubles, *troubles.sentences()),
    )


class _Looks:
    """What a service says of itself; while it cannot tell, what it said last."""

    def __init__(self, ask: Callable[[], Status]) -> None:
        self._ask = ask
        self._last = Status()
        self._told = False

    def now(self) -> Status:
        """No trouble with a number that is shown may end the mount: it is logged once."""
        try:
            self._last = self._ask()
        except (OSError, OnefsError) as error:
            if not self._told:
                log.warning("what the mount is doing cannot be told: %s", reason_of(error))
            self._told = True
        else:
            self._told = False
        return self._last


def _describe(config: DaemonConfig, service: Service, status: Status) -> MountInfo:
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


def _leave_at_once(mountpoint: str) -> None:
    """End although operations are still running: they wait for something that ignores ``stop``."""
    log.error("operations still run %g s after the end: leaving without them", _GRACE)
    try:
        mounts.repair(mountpoint)
    except MountError as error:
        log.error("%s", error)
    logging.shutdown()
    os._exit(1)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """End what runs in the main thread, with the exit code of a shell's command."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def _signals_call(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let the usual signals call ``handler``. libfuse leaves those alone that have one."""
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def _allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
