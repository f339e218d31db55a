"""From what the mount command was asked to a mount that answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field

from onefs.access import Deadlines
from onefs.cache.folder_check import check_usable_as_cache
from onefs.cache.permissions import check_cache_and_state_folders, check_folder
from onefs.cli.demo_process import DemoOptions
from onefs.cli.serve_mount import MountSettings, build_service
from onefs.config.settings import Settings
from onefs.mount import (
    daemon,
    daemon_log,
    libfuse,
    mount_registry,
    mountpoints,
)
from onefs.mount.daemon_config import DaemonConfig
from onefs.tree.user_folders import user_folders_root

#: what a mount may need for as long as it lives, and no child process may inherit
_SECRET_VARIABLES = ("ONEFS_TOKEN", "ONEFS_DATA_PASSWORD")


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One mount, as asked for."""

    mountpoint: str
    settings: Settings
    #: which laboratory it is: its host, or ``demo-<hash>``
    database: str
    #: the embedded laboratory's options, or None for a real server
    demo: DemoOptions | None
    foreground: bool
    allow_other: bool
    log_level: str
    offline: bool = False
    #: load the server's cache tables first
    sync: bool = False
    #: the day whose revisions are shown; '' for all
    as_of: str = ""
    #: show default datasets without their folders
    flat: bool = False
    #: the login that could not be saved; '' for the one that is kept
    token: str = field(default="", repr=False)


def start(wish: MountRequest, timeout: float) -> None:
    """Mount, and return when the mount answers (in the foreground: when it has ended).

    Raises what stands in the way. A folder that was made for the mount is gone again then, and
    after a mount in the foreground.
    """
    settings = wish.settings
    libfuse.check_can_mount()
    own = user_folders_root(wish.database)
    if not settings.cache_options.trust_cache_dir:  # before the log is written
        check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
        check_folder(own, "data")
    check_usable_as_cache(settings.cache_dir, settings.state_dir)
    folders = (settings.cache_dir, settings.state_dir, settings.log_file, own)
    served = (wish.demo.data,) if wish.demo is not None and wish.demo.data else ()
    mountpoints.check_outside_mountpoint(wish.mountpoint, *folders, *served)
    place = mountpoints.resolve_mountpoint(wish.mountpoint)
    with ExitStack() as claim:
        claim.enter_context(
            mount_registry.claim_mountpoint(place, state_dir=str(settings.state_dir))
        )
        ready = mountpoints.prepare_mountpoint(wish.mountpoint)
        try:
            _serve(wish, ready, timeout, claim.close)
        except BaseException:
            _remove_created_folder(ready)
            raise
    if wish.foreground:
        _remove_created_folder(ready)


def _serve(
    wish: MountRequest,
    place: mountpoints.PreparedMountpoint,
    timeout: float,
    on_ready: Callable[[], None],
) -> None:
    """In the foreground ``ready`` is called when it is mounted."""
    config = _daemon_config(wish, place)
    if wish.foreground:
        daemon_log.set_up_logging(None, wish.log_level)
        daemon.serve(config, build_service, on_ready)
    else:
        daemon.start(config, module="onefs.cli.serve_mount", timeout=timeout)


def _remove_created_folder(place: mountpoints.PreparedMountpoint) -> None:
    if place.made:
        with suppress(OSError):  # gone already, or somebody has put something there
            os.rmdir(place.path)


def _daemon_config(wish: MountRequest, place: mountpoints.PreparedMountpoint) -> DaemonConfig:
    settings = wish.settings
    look = settings.file_attributes
    limits = Deadlines.from_environment()
    found = MountSettings(
        database=wish.database,
        url=settings.url,
        username=settings.username,
        profile=settings.profile,
        cache_dir=str(settings.cache_dir),
        state_dir=str(settings.state_dir),
        data_url=settings.data_url,
        data_username=settings.data_username,
        data_hosts=settings.data_hosts,
        deadline=limits.metadata,
        stall=limits.stall,
        offline=wish.offline,
        cache_options=asdict(settings.cache_options),
        environment={name: os.environ[name] for name in _SECRET_VARIABLES if name in os.environ},
        demo=asdict(wish.demo) if wish.demo else None,
        sync=wish.sync,
        as_of=wish.as_of,
        flat=wish.flat,
        inode32=look.inode32,
        token=wish.token,
    )
    return DaemonConfig(
        mountpoint=place.path,
        fsname=f"onefs:{wish.database}",
        log_file=None if wish.foreground else str(settings.log_file),
        log_level=wish.log_level,
        allow_other=wish.allow_other,
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
        as_of=wish.as_of,
        flat=wish.flat,
        settings=found.to_json(),
    )
