"""A sync: cache tables into the state folder, whole or not at all.

The new file is made in a folder beside the old one and takes its name in one step, so that mounts
read the old one until then and the new one afterwards; nothing that they write is locked. A sync
that is killed leaves that folder behind, which the next one removes.
"""

from __future__ import annotations

import errno
import fcntl
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
from onefs.cache_tables import source
from onefs.cache_tables.build import BuildResult, build
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.catalogue.storage.database import DATASET_TYPES_KEY
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.errors import (
    Busy,
    CacheError,
    CacheFull,
    NotFound,
    OnefsError,
    ServerError,
    UsageError,
    reason_of,
)
from onefs.lowlevel.files import fsync_folder
from onefs.lowlevel.forking import hold_lock_file
from onefs.lowlevel.paths import absolute
from onefs.lowlevel.sqlite_file import hold_replacement_lock

log = logging.getLogger(__name__)

#: the folder in which new tables are made
_WORK_FOLDER_NAME = "tables.part"
_LOCK_FILE_NAME = "tables.lock"
#: seconds that Alyx has for one answer to a sync: nobody's `ls` waits for it
SYNC_DEADLINE_SECONDS = 60.0


class TablesBuilder(Protocol):
    """Makes the file, as :func:`onefs.cache_tables.build.build` does."""

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
    """What a sync tells of itself: how much of how much. Says nothing unless overridden."""

    def report_bytes(self, done: int, total: int) -> None:
        """Bytes of the archive; ``total`` is 0 when the server does not say."""

    def report_rows(self, done: int, total: int) -> None:
        """Rows of the datasets table."""


def sync_from_files(
    given: Path,
    state_dir: Path,
    progress: SyncProgress | None = None,
    builder: TablesBuilder = build,
) -> BuildResult:
    """Load the tables in a folder, of an archive, or in a file. Asks no server.

    Raises UsageError naming the file that is no table, or that is of another database than the
    tables that are there; Busy while another sync runs; CacheError for the disk.
    """
    progress = progress or SyncProgress()
    with _open_work_folder(state_dir) as work:
        pair = source.find_tables(given, work)
        facts = {"source": absolute(given), "info": ""}
        built = builder(
            *pair,
            work / TABLES_FILE_NAME,
            facts,
            origin=_current_origin(state_dir),
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
    """Load the server's tables; None when those that are there are the same.

    Raises NotFound when the server has none, ServerError naming its archive when that is damaged
    or no archive of tables, Busy while another sync runs, CacheError for the disk, and what asking
    Alyx raises.
    """
    progress = progress or SyncProgress()
    info = alyx.cache_info()
    if info is None:
        raise NotFound(f"{alyx.url} has no cache tables")
    facts = {"source": alyx.url, "info": source.canonical_info(info)}
    with _open_work_folder(state_dir) as work:
        if _is_up_to_date(state_dir, facts):
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


def _with_archive_url(sentence: str, work: Path, url: str) -> str:
    """A sentence about files that were downloaded, with the archive's URL for their paths."""
    archive = f"{url}/{source.ARCHIVE_FILE_NAME}"
    return sentence.replace(str(work / source.ARCHIVE_FILE_NAME), archive).replace(
        str(work), archive
    )


def fetch_labs_and_subjects(
    alyx: AlyxClient, database: OverlayDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch what tables lack and every walk needs: labs, repositories, and subjects.

    A subject that the tables do not name has no numbered session. Gives what stood in the way, if
    anything: then it is asked for when it is needed.
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
    """Fetch the dataset types, whose patterns tell types from names while Alyx is away.

    Gives what stood in the way, if anything: then those that are kept stay.
    """
    try:
        found = alyx.table_rows("dataset-types", "name")
        database.store_answer(DATASET_TYPES_KEY, json.dumps(found), clock())
    except OnefsError as error:
        return error
    return None


@contextmanager
def _open_work_folder(state_dir: Path) -> Iterator[Path]:
    """An empty folder to make tables in, for one sync at a time; gone afterwards."""
    work = state_dir / _WORK_FOLDER_NAME
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with hold_lock_file(state_dir / _LOCK_FILE_NAME) as lock:
            _lock_or_raise(lock, state_dir)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700)
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OnefsError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheFull(f"the disk of {state_dir} is full") from error
        raise CacheError(
            f"the state folder {state_dir} cannot be used: {reason_of(error, state_dir)}"
        ) from error


def _lock_or_raise(lock: int, state_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"another sync into {state_dir} is running: wait until it ends") from None
    except OSError as error:  # a disk without locks: as well as it goes
        log.warning(
            "%s has no locks (%s): do not sync twice at the same time",
            state_dir,
            reason_of(error, state_dir),
        )


def _publish_tables(work: Path, state_dir: Path) -> None:
    """Put the new file in the place of the old one."""
    target = state_dir / TABLES_FILE_NAME
    with hold_replacement_lock(target):
        os.replace(work / TABLES_FILE_NAME, target)
    fsync_folder(state_dir)


def _current_origin(state_dir: Path) -> str:
    tables = TablesReader(state_dir / TABLES_FILE_NAME)
    try:
        return tables.fact("origin")
    finally:
        tables.close()


def _is_up_to_date(state_dir: Path, facts: dict[str, str]) -> bool:
    tables = TablesReader(state_dir / TABLES_FILE_NAME)
    try:
        return all(tables.fact(key) == value for key, value in facts.items())
    finally:
        tables.close()
