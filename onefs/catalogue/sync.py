"""Sync: loads cache tables into the state folder, atomically.

The new file is made in a work folder and replaces the old one by a rename, so that mounts read the
old one until then and the new one afterwards; no file that they write is locked. A sync that is
killed leaves the work folder, which the next sync removes.
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
#: deadline in seconds of one request of a sync, for which no reader waits
SYNC_DEADLINE_SECONDS = 60.0


class TablesBuilder(Protocol):
    """Builds the SQLite file, as :func:`onefs.cache_tables.build.build` does."""

    def __call__(
        self,
        sessions: Path,
        datasets: Path,
        target: Path,
        facts: dict[str, str],
        *,
        origin: str = "",
        progress: Callable[[int, int], None],
    ) -> BuildResult: ...


class SyncProgress:
    """The progress of a sync. Does nothing unless overridden."""

    def report_bytes(self, done: int, total: int) -> None:
        """Called with the bytes of the archive; ``total`` is 0 if it is unknown."""

    def report_rows(self, done: int, total: int) -> None:
        """Called with the rows of the datasets table."""


def sync_from_files(
    path: Path,
    state_dir: Path,
    progress: SyncProgress | None = None,
    builder: TablesBuilder = build,
) -> BuildResult:
    """Load the tables in a folder or an archive, or of which ``path`` is one. Asks no server.

    Raises UsageError naming the file that is not a cache table, or that is from another database
    than the tables in use; Busy while another sync runs; CacheError for the disk.
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
    alyx: AlyxClient,
    state_dir: Path,
    progress: SyncProgress | None = None,
    builder: TablesBuilder = build,
) -> BuildResult | None:
    """Load the server's tables; None if the tables in use are the same.

    Raises NotFound if the server has none, ServerError naming its archive if it is damaged or not
    an archive of tables, Busy while another sync runs, CacheError for the disk, and the errors of
    the request.
    """
    progress = progress or SyncProgress()
    info = alyx.cache_info()
    if info is None:
        raise NotFound(f"{alyx.url} has no cache tables")
    # the server's description of its tables, which identifies them
    facts = {"source": alyx.url, "info": json.dumps(info, sort_keys=True)}
    with _open_work_folder(state_dir) as work:
        if facts.items() <= _current_facts(state_dir).items():
            return None
        archive = work / source.ARCHIVE_FILE_NAME
        source.download_archive(alyx, archive, progress.report_bytes)
        try:
            pair = source.unpack_archive(archive, work)
            archive.unlink()
            built = builder(*pair, work / TABLES_FILE_NAME, facts, progress=progress.report_rows)
        except UsageError as error:
            raise ServerError(_with_archive_url(str(error), work, alyx.url)) from error
        _publish_tables(work, state_dir)
    return built


def _with_archive_url(message: str, work: Path, url: str) -> str:
    """A message about downloaded files, with the archive's URL in place of their paths."""
    archive = f"{url}/{source.ARCHIVE_FILE_NAME}"
    return message.replace(str(work / source.ARCHIVE_FILE_NAME), archive).replace(
        str(work), archive
    )


def fetch_labs_and_subjects(
    alyx: AlyxClient, database: OverlayDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch the labs, repositories and subjects, which tables lack and every walk needs.

    Subjects that are not in the tables have no numbered sessions, and are marked so. Returns the
    error if a request fails; the rest is then requested when it is needed.
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
    except OnefsError as error:
        return error
    return None


def fetch_dataset_types(
    alyx: AlyxClient, database: OverlayDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch the dataset types, whose patterns imply the types of names in cache tables.

    Returns the error if the request fails; the stored types then stay.
    """
    try:
        rows = alyx.table_rows("dataset-types", "name")
        database.store_answer(DATASET_TYPES_KEY, json.dumps(rows), clock())
    except OnefsError as error:
        return error
    return None


@contextmanager
def _open_work_folder(state_dir: Path) -> Iterator[Path]:
    """An empty work folder, for one sync at a time; it is removed afterwards."""
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
    """Replace the tables in use by the new ones."""
    target = state_dir / TABLES_FILE_NAME
    with hold_replacement_lock(target):
        os.replace(work / TABLES_FILE_NAME, target)
    fsync_folder(state_dir)


def _current_facts(state_dir: Path) -> dict[str, str]:
    """The facts of the tables in use; {} without any."""
    tables = TablesReader(state_dir / TABLES_FILE_NAME)
    try:
        return tables.facts()
    finally:
        tables.close()
