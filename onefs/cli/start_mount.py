"""Start of a mount, in the background or in the foreground."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from onefs.access import Deadlines
from onefs.cache.folder_check import check_usable_as_cache
from onefs.cache.permissions import check_cache_and_state_folders, check_folder
from onefs.cli.demo_process import DemoOptions
from onefs.cli.serve_mount import MountSettings, build_service, settings_to_json
from onefs.config.settings import Settings
from onefs.download.disk import check_outside_disk
from onefs.errors import UsageError
from onefs.lowlevel.bounded_calls import BoundedCalls, StandsStill
from onefs.mount import (
    daemon,
    daemon_log,
    libfuse,
    mount_registry,
    mountpoints,
)
from onefs.mount.daemon_config import DaemonConfig
from onefs.tree.user_folders import user_folders_root

#: environment variables that a mount may need later, but that no child process may inherit
_SECRET_VARIABLES = (
    *("ONEFS_TOKEN", "ONEFS_DATA_PASSWORD"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """The arguments of one ``onefs mount`` command."""

    #: the mount point as the user typed it
    mountpoint: str
    #: settings that name the server and the folders
    settings: Settings
    #: name of the database: its host, or ``demo-<hash>``
    database: str
    #: options for the embedded laboratory; None means a real server
    demo: DemoOptions | None
    #: whether this process serves the mount, until a signal or an unmount
    foreground: bool
    #: whether other users of the machine may read the mount
    allow_other: bool
    #: the lowest level of messages that are logged
    log_level: str
    #: whether no server may be asked
    offline: bool = False
    #: whether to load the server's cache tables before the mount is ready
    sync: bool = False
    #: the day (2021-07-05) as of which files are shown; '' means that all revisions are shown
    as_of: str = ""
    #: whether default datasets are shown in their session's folder, without collections
    flat: bool = False
    #: a token that could not be saved; '' means that the saved token is used
    token: str = field(default="", repr=False)


def start(request: MountRequest, timeout: float) -> None:
    """Start a mount. Return when it is ready, or for a mount in the foreground, when it has ended.

    ``timeout`` is the longest wait for a mount in the background, in seconds. Raises MountError,
    and the errors of checking the folders and the server.
    """
    settings = request.settings
    libfuse.check_can_mount()
    own = user_folders_root(request.database)
    if not settings.cache_options.trust_cache_dir:  # check before the log is written there
        check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
        check_folder(own, "data")
    check_usable_as_cache(settings.cache_dir, settings.state_dir)
    folders = (settings.cache_dir, settings.state_dir, settings.log_file, own)
    served = (request.demo.data,) if request.demo is not None and request.demo.data else ()
    mountpoints.check_outside_mountpoint(request.mountpoint, *folders, *served)
    for disk in settings.cache_options.disks:
        _check_disk(request.mountpoint, disk, folders)
    place = mountpoints.resolve_mountpoint(request.mountpoint)
    with ExitStack() as claim:
        claim.enter_context(
            mount_registry.claim_mountpoint(place, state_dir=str(settings.state_dir))
        )
        # a mount point that is created here is removed after a failure, and after a mount in the
        # foreground
        prepared = mountpoints.prepare_mountpoint(request.mountpoint)
        try:
            _serve(request, prepared, timeout, claim.close)
        except BaseException:
            _remove_created_folder(prepared)
            raise
    if request.foreground:
        _remove_created_folder(prepared)


def _check_disk(mountpoint: str, disk: str, folders: Iterable[Path | None]) -> None:
    """Check that a disk is no file, and not in the mount, and that no folder of onefs is on it.

    Raises UsageError. A disk that does not answer, or is not mounted, is checked no further.
    """
    calls = BoundedCalls("onefs-disk", Deadlines.from_environment().metadata)
    with suppress(StandsStill):
        real = Path(calls.call(partial(os.path.realpath, disk)))
        for folder in filter(None, folders):
            check_outside_disk(folder, real)
        calls.call(partial(mountpoints.check_outside_mountpoint, mountpoint, disk))
        if calls.call(partial(os.path.isfile, disk)):
            raise UsageError(f"{disk} is a file: --source names the folder that has the labs")


def _serve(
    request: MountRequest,
    place: mountpoints.PreparedMountpoint,
    timeout: float,
    on_ready: Callable[[], None],
) -> None:
    """Start the mount in the background, or run it in the foreground until it ends.

    In the foreground, ``on_ready`` is called when the mount is ready.
    """
    config = _daemon_config(request, place)
    if request.foreground:
        daemon_log.set_up_logging(None, request.log_level)
        daemon.serve(config, build_service, on_ready)
    else:
        daemon.start(config, module="onefs.cli.serve_mount", timeout=timeout)


def _remove_created_folder(place: mountpoints.PreparedMountpoint) -> None:
    if place.made:
        with suppress(OSError):  # the folder is removed already, or is not empty
            os.rmdir(place.path)


def _daemon_config(request: MountRequest, place: mountpoints.PreparedMountpoint) -> DaemonConfig:
    settings = request.settings
    look = settings.file_attributes
    mount = MountSettings(
        database=request.database,
        settings=settings_to_json(settings),
        deadlines=asdict(Deadlines.from_environment()),
        offline=request.offline,
        environment={name: os.environ[name] for name in _SECRET_VARIABLES if name in os.environ},
        demo=asdict(request.demo) if request.demo else None,
        sync=request.sync,
        token=request.token,
    )
    return DaemonConfig(
        mountpoint=place.path,
        fsname=f"onefs:{request.database}",
        log_file=None if request.foreground else str(settings.log_file),
        log_level=request.log_level,
        allow_other=request.allow_other,
        made=place.made,
        url=settings.url,
        profile=settings.profile or None,
        username=settings.username,
        cache_dir=str(settings.cache_dir),
        state_dir=str(settings.state_dir),
        cache_limit=settings.cache_options.cache_size,
        umask=look.umask,
        uid=look.uid,
        gid=look.gid,
        as_of=request.as_of,
        flat=request.flat,
        settings=asdict(mount),
    )
