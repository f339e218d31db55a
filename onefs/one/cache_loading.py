"""``load_cache``: loading of ONE's cache tables, of the whole database or of one release."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from onefs import public_tables, releases
from onefs.access import Access
from onefs.cache.one_tables import TABLE_NAMES
from onefs.cache_tables.reader import TABLES_FILE_NAME
from onefs.cache_tables.worker import build_in_child, export_in_child
from onefs.catalogue.sync import SYNC_DEADLINE_SECONDS, sync_from_files, sync_from_server
from onefs.errors import CacheError, UsageError, reason_of


def load_tables(access: Access, tables_dir: str | os.PathLike[str] | None) -> None:
    """Load the tables in a folder, or else the newest tables of the server.

    Raises what :func:`onefs.catalogue.sync.sync_from_files` and
    :func:`onefs.catalogue.sync.sync_from_server` raise.
    """
    if tables_dir is not None:
        sync_from_files(Path(tables_dir), access.settings.state_dir, builder=build_in_child)
    elif access.settings.public:
        public_tables.load_tables(access)
    else:
        alyx = access.alyx.low_priority(deadline=SYNC_DEADLINE_SECONDS)
        sync_from_server(alyx, access.settings.state_dir, builder=build_in_child)
    access.database.tables.check_file_at_next_use()


def save_tables(access: Access, folder: Path, *, replace: bool) -> None:
    """Write ONE's cache tables to a folder.

    Raises UsageError if no tables were loaded, or if the folder has tables and ``replace`` is
    False, and CacheError if the tables cannot be written.
    """
    loaded = access.settings.state_dir / TABLES_FILE_NAME
    if not loaded.exists():
        raise UsageError("no cache tables are loaded: call load_cache() first")
    if not replace and any((folder / name).exists() for name in TABLE_NAMES):
        raise UsageError(f"{folder} has cache tables already: clobber=True replaces them")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"{folder}: the tables for ONE cannot be made: {reason_of(error, folder)}"
        ) from error
    export_in_child(loaded, folder)


def load_release(access: Access, tag: str, *, offline: bool) -> None:
    """Load the tables of a release. With ``offline``, nothing is requested if they are loaded.

    Raises NotFound if there is no such release, and what :func:`onefs.releases.load` raises.
    """
    if not offline or tag not in releases.loaded_releases(access.settings):
        releases.load(access, tag)


def loaded_at(access: Access) -> datetime | None:
    """Return the time at which the tables were loaded, or None if there are no tables."""
    try:
        status = os.stat(access.settings.state_dir / TABLES_FILE_NAME)
    except FileNotFoundError:
        return None
    return datetime.fromtimestamp(status.st_mtime)
