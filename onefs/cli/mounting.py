"""From what the mount command was asked to a mount that answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field

from onefs.access import Deadlines
from onefs.adoption import check_may_cache
from onefs.cli.embedded import DemoOptions
from onefs.cli.serve_mount import MountSettings, build
from onefs.mount import daemon, library, logs, places, records
from onefs.mount.config import DaemonConfig
from onefs.settings import Settings
from onefs.tree.own_folders import own_folder
from onefs.trust import check_folder, check_folders

#: what a mount may need for as long as it lives, and no child process may inherit
_SECRETS = ("ONEFS_TOKEN", "ONEFS_DATA_PASSWORD")


@dataclass(frozen=True, slots=True)
class Wish:
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


def start(wish: Wish, timeout: float) -> None:
    """Mount, and return when the mount answers (in the foreground: when it has ended).

    Raises what stands in the way. A folder that was made for the mount is gone again then, and
    after a mount in the foreground.
    """
    settings = wish.settings
    library.check_fuse()
    own = own_folder(wish.database)
    if not settings.storing.trust_cache_dir:  # before the log is written
        check_folders(settings.cache_dir, settings.state_dir)
        check_folder(own, "data")
    check_may_cache(settings.cache_dir, settings.state_dir)
    folders = (settings.cache_dir, settings.state_dir, settings.log_file, own)
    served = (wish.demo.data,) if wish.demo is not None and wish.demo.data else ()
    places.check_places(wish.mountpoint, *folders, *served)
    place = places.resolve(wish.mountpoint)
    with ExitStack() as claim:
        claim.enter_context(records.claimed(place, state_dir=str(settings.state_dir)))
        ready = places.prepare(wish.mountpoint)
        try:
            _serve(wish, ready, timeout, claim.close)
        except BaseException:
            _unmake(ready)
            raise
    if wish.foreground:
        _unmake(ready)


def _serve(wish: Wish, place: places.Mountpoint, timeout: float, ready: Callable[[], None]) -> None:
    """In the foreground ``ready`` is called when it is mounted."""
    config = _config(wish, place)
    if wish.foreground:
        logs.set_up(None, wish.log_level)
        daemon.serve(config, build, ready)
    else:
        daemon.start(config, module="onefs.cli.serve_mount", timeout=timeout)


def _unmake(place: places.Mountpoint) -> None:
    if place.made:
        with suppress(OSError):  # gone already, or somebody has put something there
            os.rmdir(place.path)


def _config(wish: Wish, place: places.Mountpoint) -> DaemonConfig:
    settings = wish.settings
    look = settings.appearance
    limits = Deadlines.of_environment()
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
        storing=asdict(settings.storing),
        environment={name: os.environ[name] for name in _SECRETS if name in os.environ},
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
        cache_limit=settings.storing.cache_size,
        umask=look.umask,
        uid=look.uid,
        gid=look.gid,
        as_of=wish.as_of,
        flat=wish.flat,
        settings=found.to_json(),
    )
