"""What is mounted: put together in the daemon, from what the mount command decided.

Run as ``python -m onefs.cli.serve_mount`` by ``onefs.mount.daemon``.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onefs.access import Access, Deadlines, GivenLogin
from onefs.cache_tables.worker import build_in_child, export_in_child
from onefs.catalogue.sync import (
    SYNC_DEADLINE_SECONDS,
    fetch_dataset_types,
    fetch_labs_and_subjects,
    sync_from_server,
)
from onefs.cli import publish_tables
from onefs.cli.demo_process import DemoOptions, DemoProcess
from onefs.config.cache_options import CacheOptions
from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.errors import DeadlineExceeded, OnefsError, Throttled, Unreachable, UsageError
from onefs.mount import daemon
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.loop import PathInvalidations
from onefs.mount.mount_registry import (
    OFFLINE,
    READY,
    REFUSED,
    Download,
    MountStatus,
)
from onefs.mount.serve import Service
from onefs.tree.inode32 import INODES_FILENAME, Inode32Tree, InodeNumbers
from onefs.tree.nodes import Tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountSettings:
    """What the daemon's settings hold (``DaemonConfig.settings``): JSON values.

    Kept tokens and passwords are not in it: the daemon reads the credential store by itself.
    """

    #: which laboratory this is: a host, or ``demo-<hash>``
    database: str
    cache_dir: str
    state_dir: str
    url: str = ""
    username: str = ""
    profile: str = ""
    data_url: str = ""
    data_username: str = ""
    data_hosts: tuple[str, ...] = ()
    deadline: float = 10.0
    stall: float = 60.0
    #: ask no server
    offline: bool = False
    #: the fields of Storing; {} for its defaults
    cache_options: dict[str, Any] = field(default_factory=dict)
    #: the variables of the mount command's environment that the daemon's own lacks: secrets
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    #: DemoOptions of the embedded servers to run, which then say where they are
    demo: dict[str, Any] | None = None
    #: load the server's cache tables before the mount answers
    sync: bool = False
    #: the day whose revisions are shown; '' for all
    as_of: str = ""
    #: show default datasets without their folders
    flat: bool = False
    #: inode numbers that 32-bit programs can hold
    inode32: bool = False
    #: the login that could not be saved; '' for the one that is kept
    token: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def build_service(config: DaemonConfig) -> Service:
    """The service of one mount. Raises OnefsError when there is nothing to serve.

    A server that cannot be reached is no obstacle when the catalogue holds something.
    """
    found = MountSettings(**config.settings)
    with ExitStack() as undo:
        ready = None
        if found.demo is not None and not found.offline:
            embedded = DemoProcess(DemoOptions(**found.demo), found.state_dir)
            undo.callback(embedded.close)
            ready = embedded.connection_info
        access = _open_access(found, ready)
        undo.callback(access.close)
        access.open_all()
        if found.demo is not None and found.demo.get("data") and not found.offline:
            access.catalogue.invalidate(())  # the folder may have changed while it was not mounted
        _check_server(access, found.offline)
        if found.sync:
            _load_tables(access, found)
        tree = _mounted_tree(access, found, undo)
        close = undo.pop_all().close
    opened = access.tree.open_files
    return Service(
        tree,
        lambda: _status(access),
        access.wake_waiters,
        close,
        access.url,
        PathInvalidations(opened.invalidations, opened.note_invalidated),
        access.tree.drop_caches,
        _cache_options(found.cache_options).indexers,
    )


def _mounted_tree(access: Access, found: MountSettings, undo: ExitStack) -> Tree:
    """Return the tree that is shown, with inode numbers as the settings want them."""
    if not found.inode32:
        return access.tree
    numbers = InodeNumbers(Path(found.state_dir) / INODES_FILENAME)
    undo.callback(numbers.close)
    return Inode32Tree(access.tree, numbers)


def _open_access(found: MountSettings, ready: dict[str, str] | None) -> Access:
    """The laboratory of the settings, or the embedded one that has said where it is."""
    settings = Settings(
        url=found.url,
        username=found.username,
        profile=found.profile,
        cache_dir=Path(found.cache_dir),
        state_dir=Path(found.state_dir),
        data_url=found.data_url,
        data_username=found.data_username,
        data_hosts=tuple(found.data_hosts),
        cache_options=_cache_options(found.cache_options),
    )
    login = GivenLogin(token=Secret(found.token)) if found.token else None
    if ready is not None:
        settings = replace(
            settings,
            url=ready["alyx_url"],
            username=ready["username"],
            data_url=ready["data_url"],
        )
        secret = Secret(ready["data_password"])
        data = DataCredentials(ready["data_username"], secret, "embedded laboratory")
        login = GivenLogin(Secret(ready["password"]), data, embedded=True)
    deadlines = Deadlines(found.deadline, found.stall)
    return Access(
        settings,
        found.database,
        login=login,
        environ={**os.environ, **found.environment},
        deadlines=deadlines,
        offline=found.offline,
        as_of=found.as_of,
        flat=found.flat,
    )


def _cache_options(found: dict[str, Any]) -> CacheOptions:
    # what was a tuple has become a list on the way through JSON
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
    }
    return CacheOptions(**values)


def _check_server(access: Access, offline: bool) -> None:
    if offline:
        if access.catalogue.is_empty():
            raise UsageError("nothing of this database is known yet: mount it once with a server")
        log.info("mounted offline: no server is asked")
        return
    try:
        access.catalogue.check_server()
    except (Unreachable, DeadlineExceeded, Throttled) as error:
        if access.catalogue.is_empty():
            raise Unreachable(f"{error}; nothing of it is cached") from error
        log.warning("mounting what is known already: %s", error)


def _load_tables(access: Access, found: MountSettings) -> None:
    """Load the server's cache tables in a process of their own. The mount goes on without them."""
    alyx = access.alyx.low_priority(deadline=SYNC_DEADLINE_SECONDS)
    state_dir = Path(found.state_dir)
    try:
        built = sync_from_server(alyx, state_dir, builder=build_in_child)
    except OnefsError as error:
        log.warning("mounting without new cache tables: %s", error)
        return
    trouble = fetch_labs_and_subjects(alyx, access.database)
    if trouble is not None:
        log.warning("labs and subjects are asked for when needed: %s", trouble)
    trouble = fetch_dataset_types(alyx, access.database)
    if trouble is not None:
        log.warning("offline, types are what was known of names of files: %s", trouble)
    if built is not None:
        log.info("%d sessions and %d datasets loaded", built.sessions, built.datasets)
    try:
        publish_tables.publish(state_dir, Path(found.cache_dir), found.database, export_in_child)
    except OnefsError as error:
        log.warning("no new tables for ONE-api: %s", error)


def _status(access: Access) -> MountStatus:
    refusal = access.catalogue.availability.refusal
    state = REFUSED if refusal else READY
    return MountStatus(
        folders=_check_folders(access),
        troubles=(refusal,) if refusal else (),
        state=OFFLINE if access.catalogue.offline else state,
        cache_bytes=access.content.total_bytes(),
        fetched=access.content.quota.spent_bytes(),
        fetch_limit=access.content.quota.limit,
        downloads=tuple(
            Download(each.path, each.done_bytes, each.size or 0, round(each.bytes_per_second()))
            for each in access.content.transfers()
        ),
    )


def _check_folders(access: Access) -> tuple[str, ...]:
    """Report on the cache and the state folder, and make a deleted one anew."""
    found = []
    for look in (access.content.check_folder, access.database.folder_status):
        try:
            found.append(look())
        except OnefsError as error:
            found.append(str(error))
    return tuple(sentence for sentence in found if sentence)


if __name__ == "__main__":
    sys.exit(daemon.run(build_service))
