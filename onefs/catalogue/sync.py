"""Sync: loads ONE's cache tables as a new SQLite file into the catalogue's folder (state folder).

The new file is made in a work folder, and then replaces the old file by a rename. Mounts read the
old file until the rename, and the new file after the rename. A sync holds no lock on files that
mounts write. If a sync is killed, its work folder remains, and the next sync removes this folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from onefs.alyx.client import AlyxClient
from onefs.cache.files import disk_errors
from onefs.cache_tables import source
from onefs.cache_tables.build import BuildResult, build
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.cache_tables.source import TablesServer
from onefs.catalogue.change_journal import note_sync
from onefs.catalogue.storage.catalogue_file import DATASET_TYPES_KEY
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.errors import (
    Busy,
    NotFound,
    OnefsError,
    ServerError,
    UsageError,
)
from onefs.lowlevel.files import fsync_folder
from onefs.lowlevel.forking import hold_lock_file
from onefs.lowlevel.locks import lock_file
from onefs.lowlevel.paths import absolute
from onefs.lowlevel.sqlite_file import hold_replacement_lock

log = logging.getLogger(__name__)

#: the work folder in which new tables are made
_WORK_FOLDER_NAME = "tables.part"
_LOCK_FILE_NAME = "tables.lock"
#: deadline in seconds for one request of a sync: long, since no reader waits for the answer
SYNC_DEADLINE_SECONDS = 60.0


class TablesBuilder(Protocol):
    """A function that makes an SQLite file from cache tables.

    The arguments are those of :func:`onefs.cache_tables.build.build`.
    """

    def __call__(
        self,
        sessions: Path,
        datasets: Path,
        target: Path,
        facts: dict[str, str],
        *,
        origin: str = "",
        sessions_only: bool = False,
        progress: Callable[[int, int], None],
    ) -> BuildResult: ...


class SyncProgress:
    """The progress of a sync.

    The methods do nothing here. A subclass overrides them to show the progress.
    """

    def report_bytes(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` bytes of the archive are downloaded.

        ``total`` is 0 if the size of the archive is unknown.
        """

    def report_rows(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` rows of the datasets table are loaded."""


def sync_from_files(
    path: Path,
    state_dir: Path,
    progress: SyncProgress | None = None,
    builder: TablesBuilder = build,
) -> BuildResult:
    """Load cache tables from ``path``, which is a folder, an archive, or one of the two tables.

    No request is sent. Raises:

    - UsageError, with the file's name, for a file that is no cache table, or that belongs to
      another database than the tables in use.
    - Busy while another sync runs.
    - CacheError if the disk fails.
    """
    progress = progress or SyncProgress()
    with _open_work_folder(state_dir) as work:
        pair = source.find_tables(path, work)
        facts = {"source": absolute(path), "info": ""}
        built = builder(
            *pair,
            work / TABLES_FILE_NAME,
            facts,
            origin=_current_facts(state_dir).get("origin", ""),
            progress=progress.report_rows,
        )
        _publish_tables(work, state_dir)
    return built


def sync_from_server(
    server: TablesServer,
    state_dir: Path,
    progress: SyncProgress | None = None,
    builder: TablesBuilder = build,
    *,
    sessions_first: bool = False,
) -> BuildResult | None:
    """Load the server's cache tables. Return None if the same tables are already loaded.

    ``sessions_first``: if there are no tables yet, the sessions can be read before the datasets are
    loaded. Raises the errors of the requests. Also raises:

    - NotFound if the server has no tables.
    - ServerError, with the archive's name, if the archive is damaged or contains no tables.
    - Busy while another sync runs.
    - CacheError if the disk fails.
    """
    progress = progress or SyncProgress()
    info = server.cache_info()
    if info is None:
        raise NotFound(f"{server.url} has no cache tables")
    # ``info`` is the server's description of its tables, and identifies these tables
    facts = {"source": server.url, "info": json.dumps(info, sort_keys=True)}
    with _open_work_folder(state_dir) as work:
        present = _current_facts(state_dir)
        if facts.items() <= present.items() and "stage" not in present:
            return None
        archive = work / source.ARCHIVE_FILE_NAME
        source.download_archive(server, archive, progress.report_bytes)
        try:
            pair = source.unpack_archive(archive, work)
            archive.unlink()
            target = work / TABLES_FILE_NAME
            if sessions_first and (not present or "stage" in present):
                builder(*pair, target, facts, sessions_only=True, progress=progress.report_rows)
                _publish_tables(work, state_dir)
            built = builder(*pair, target, facts, progress=progress.report_rows)
        except UsageError as error:
            raise ServerError(_with_archive_url(str(error), work, server.url)) from error
        _publish_tables(work, state_dir)
    return built


def _with_archive_url(message: str, work: Path, url: str) -> str:
    """Return the message, with the archive's URL in place of paths in the work folder."""
    archive = f"{url}/{source.ARCHIVE_FILE_NAME}"
    return message.replace(str(work / source.ARCHIVE_FILE_NAME), archive).replace(
        str(work), archive
    )


def fetch_labs_and_subjects(
    alyx: AlyxClient, database: OverlayDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch and store the labs, repositories and subjects, because cache tables lack some of them.

    A subject that is not in the tables gets an empty listing of sessions. If a request fails,
    return its error.
    """
    database.tables.check_file_at_next_use()
    try:
        labs = alyx.labs()
        database.store_labs(labs, clock())
        database.store_repositories(alyx.repositories(), clock())
        subjects = alyx.subjects_by_lab()
        for lab in labs:
            database.store_subjects(lab, subjects.get(lab, []), clock())
            database.mark_subjects_without_sessions(lab)
    # listings that were not fetched are requested when they are needed
    except OnefsError as error:
        return error
    return None


def fetch_dataset_types(
    alyx: AlyxClient, database: OverlayDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch and store Alyx's dataset types, with their patterns for file names.

    If the request fails, return its error, and keep the stored types.
    """
    try:
        rows = alyx.table_rows("dataset-types", "name")
        database.store_answer(DATASET_TYPES_KEY, json.dumps(rows), clock())
    except OnefsError as error:
        return error
    return None


@contextmanager
def _open_work_folder(state_dir: Path) -> Iterator[Path]:
    """Make an empty work folder for the ``with`` block, and remove the folder afterwards.

    Raises Busy while another sync runs.
    """
    work = state_dir / _WORK_FOLDER_NAME
    with disk_errors(state_dir, "the state folder"):
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold_lock_file(state_dir / _LOCK_FILE_NAME) as lock:
            advice = f"do not sync into {state_dir} twice at the same time"
            if not lock_file(lock, advice=advice):
                raise Busy(f"another sync into {state_dir} is running: wait until it ends")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700)
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)


def _publish_tables(work: Path, state_dir: Path) -> None:
    """Replace the tables in use by the new tables, and note what changes."""
    target = state_dir / TABLES_FILE_NAME
    note_sync(state_dir, target, work / TABLES_FILE_NAME)
    with hold_replacement_lock(target):
        os.replace(work / TABLES_FILE_NAME, target)
    fsync_folder(state_dir)


def _current_facts(state_dir: Path) -> dict[str, str]:
    """Return the named values that describe the tables in use, such as their source.

    Return {} if there are no tables.
    """
    tables = TablesReader(state_dir / TABLES_FILE_NAME)
    try:
        return tables.facts()
    finally:
        tables.close()
