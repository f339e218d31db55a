"""Construction of a mount's service from the settings of the mount command.

``onefs.mount.daemon`` runs this module as ``python -m onefs.cli.serve_mount`` in the daemon.
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
from onefs.cache_tables.worker import export_in_child
from onefs.cli import load_tables
from onefs.cli.demo_process import DemoOptions, DemoProcess
from onefs.config.cache_options import CacheOptions
from onefs.config.credentials import DataCredentials
from onefs.config.file_attributes import FileAttributes
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.errors import DeadlineExceeded, OnefsError, Throttled, Unreachable, UsageError
from onefs.mount import daemon
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.loop import PathInvalidations
from onefs.mount.mount_registry import (
    DISK,
    OFFLINE,
    READY,
    REFUSED,
    Download,
    MountStatus,
    SourceStatus,
)
from onefs.mount.serve import Service
from onefs.public_tables import TablesInBackground
from onefs.tree.inode32 import INODES_FILENAME, Inode32Tree, InodeNumbers
from onefs.tree.nodes import Tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountSettings:
    """The content of ``DaemonConfig.settings``: JSON values from which the service is built.

    Saved tokens and passwords are not included, because the daemon reads the credential store.
    """

    #: name of the database: its host, or ``demo-<hash>``
    database: str
    #: fields of Settings; see :func:`settings_to_json`
    settings: dict[str, Any]
    #: fields of Deadlines, in seconds
    deadlines: dict[str, float]
    #: whether no server may be asked
    offline: bool = False
    #: secrets from the mount command's environment, which are not in the daemon's environment
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    #: fields of DemoOptions for the embedded servers, whose addresses and logins are then used;
    #: None means a real server
    demo: dict[str, Any] | None = None
    #: whether to load the server's cache tables before the mount is ready
    sync: bool = False
    #: a token that could not be saved; '' means that the saved token is used
    token: str = field(default="", repr=False)


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Return the fields of settings as JSON values, without the values of ``sources``."""
    folders = {"cache_dir": str(settings.cache_dir), "state_dir": str(settings.state_dir)}
    return asdict(replace(settings, sources={})) | folders


def _settings_from_json(values: dict[str, Any]) -> Settings:
    # JSON has no tuples: they have become lists
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values["cache_options"].items()
    }
    if options["qc"] is not None:  # JSON has no enumerations: it has become a number
        from onefs.qc import QC

        options["qc"] = QC(options["qc"])
    fields: dict[str, Any] = {
        **values,
        "cache_dir": Path(values["cache_dir"]),
        "state_dir": Path(values["state_dir"]),
        "data_hosts": tuple(values["data_hosts"]),
        "cache_options": CacheOptions(**options),
        "file_attributes": FileAttributes(**values["file_attributes"]),
    }
    return Settings(**fields)


def build_service(config: DaemonConfig) -> Service:
    """Build the service for one mount.

    If the server is unreachable, the mount serves the catalogue. Raises OnefsError if there is
    nothing to serve.
    """
    mount = MountSettings(**config.settings)
    settings = _settings_from_json(mount.settings)
    demo = None if mount.demo is None or mount.offline else DemoOptions(**mount.demo)
    with ExitStack() as undo:
        connection_info = None
        if demo is not None:
            servers = DemoProcess(demo, str(settings.state_dir))
            undo.callback(servers.close)
            connection_info = servers.connection_info
        access = _open_access(config, mount, settings, connection_info)
        undo.callback(access.close)
        access.open_all()
        if demo is not None and demo.data:
            # the folder with the data may have changed while it was not mounted
            access.catalogue.invalidate(())
        if mount.offline or access.without_alyx.has_alyx:
            _check_server(access, mount.offline)
        elif not access.without_alyx.tag:  # a release is loaded by a command
            tables = TablesInBackground(access, lambda: _publish(access, mount.database))
            undo.callback(tables.close)
            tables.start(mount.deadlines["metadata"])
        if mount.sync and access.without_alyx.has_alyx:
            _load_tables(access, mount.database)
        tree: Tree = access.tree
        if settings.file_attributes.inode32:
            numbers = InodeNumbers(settings.state_dir / INODES_FILENAME)
            undo.callback(numbers.close)
            tree = Inode32Tree(tree, numbers)
        close = undo.pop_all().close
    open_files, options = access.tree.open_files, settings.cache_options
    has_siblings = not (mount.offline or options.no_siblings)
    return Service(
        tree,
        lambda: _status(access),
        access.wake_waiters,
        close,
        access.url,
        PathInvalidations(open_files.invalidations, open_files.note_invalidated),
        access.tree.drop_caches,
        options.indexers,
        access.tree.siblings(options.small_file) if has_siblings else None,
    )


def _open_access(
    config: DaemonConfig,
    mount: MountSettings,
    settings: Settings,
    connection_info: dict[str, str] | None,
) -> Access:
    """Open the database that the settings name.

    If ``connection_info`` is not None, open the embedded laboratory whose addresses and logins are
    in ``connection_info``.
    """
    login = GivenLogin(token=Secret(mount.token)) if mount.token else None
    if connection_info is not None:
        settings = replace(
            settings,
            url=connection_info["alyx_url"],
            username=connection_info["username"],
            data_url=connection_info["data_url"],
        )
        secret = Secret(connection_info["data_password"])
        data = DataCredentials(connection_info["data_username"], secret, "embedded laboratory")
        login = GivenLogin(Secret(connection_info["password"]), data, embedded=True)
    return Access(
        settings,
        mount.database,
        login=login,
        environ={**os.environ, **mount.environment},
        deadlines=Deadlines(**mount.deadlines),
        offline=mount.offline,
        as_of=config.as_of,
        flat=config.flat,
        worst_qc=settings.cache_options.qc,
    )


def _check_server(access: Access, offline: bool) -> None:
    """Check that the mount has something to show.

    Raises UsageError for an offline mount with an empty catalogue. Raises Unreachable if the server
    is unreachable and the catalogue is empty. Raises Alyx's error if Alyx refuses the request.
    """
    if offline:
        if access.catalogue.is_empty():
            raise UsageError(
                "the catalogue is empty, so there is nothing to show offline: mount the database "
                "once without --offline"
            )
        log.info("mounted offline: no server is asked")
        return
    try:
        access.catalogue.check_server()
    except (Unreachable, DeadlineExceeded, Throttled) as error:
        if access.catalogue.is_empty():
            raise Unreachable(
                f"{error}; the catalogue is empty, so there is nothing to show"
            ) from error
        log.warning("the mount shows what is in the catalogue, because of an error: %s", error)


def _load_tables(access: Access, database: str) -> None:
    """Load the server's cache tables, and export tables in ONE's format.

    Errors are logged, so that the mount starts without new tables.
    """
    try:
        built = load_tables.load_from_server(access, lambda text: log.warning("%s", text))
    except OnefsError as error:
        log.warning("the mount starts without new cache tables, because of an error: %s", error)
        return
    if built is not None:
        log.info("%d sessions and %d datasets loaded", built.sessions, built.datasets)
    _publish(access, database)


def _publish(access: Access, database: str) -> None:
    """Export tables in ONE's format. Errors are logged."""
    settings = access.settings
    try:
        load_tables.publish(settings.state_dir, settings.cache_dir, database, export_in_child)
    except OnefsError as error:
        log.warning("the tables for ONE-api cannot be written: %s", error)


def _status(access: Access) -> MountStatus:
    refusal = access.catalogue.availability.refusal
    state = REFUSED if refusal else READY
    instead = access.without_alyx
    loading = str(instead.error()) if instead.loading else ""
    disks = (
        SourceStatus(DISK, str(folder), files=files, away=away)
        for folder, files, away in access.content.disk_files.notes.usage()
    )
    servers = (
        SourceStatus(kind, name, size)
        for (kind, name), size in sorted(access.content.bytes_by_server().items())
    )
    return MountStatus(
        folders=_check_folders(access),
        troubles=tuple(filter(None, (refusal, loading))),
        state=OFFLINE if access.catalogue.offline else state,
        cache_bytes=access.content.total_bytes(),
        fetched=access.content.quota.spent_bytes(),
        fetch_limit=access.content.quota.limit,
        sources=(*disks, *servers),
        downloads=tuple(
            Download(each.path, each.done_bytes, each.size or 0, round(each.bytes_per_second()))
            for each in access.content.transfers()
        ),
    )


def _check_folders(access: Access) -> tuple[str, ...]:
    """Create the cache folder and the state folder (of the catalogue) again if they were deleted.

    Return one sentence for each problem with these folders.
    """
    sentences = []
    for check in (access.content.check_folder, access.database.folder_status):
        try:
            sentences.append(check())
        except OnefsError as error:
            sentences.append(str(error))
    return tuple(filter(None, sentences))


if __name__ == "__main__":
    sys.exit(daemon.run(build_service))
