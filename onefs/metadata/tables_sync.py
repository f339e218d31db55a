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

from onefs.descriptors import sync_folder
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
from onefs.forking import lock_file
from onefs.metadata import tables_source
from onefs.metadata.alyx import Alyx
from onefs.metadata.database import TYPES_KEY
from onefs.metadata.tabled import TabledDatabase
from onefs.metadata.tables import NAME, Tables
from onefs.metadata.tables_build import Built, build
from onefs.paths import absolute
from onefs.sqlite import replacing

log = logging.getLogger(__name__)

#: the folder in which new tables are made
_WORK = "tables.part"
_LOCK = "tables.lock"
#: seconds that Alyx has for one answer to a sync: nobody's `ls` waits for it
SYNC_DEADLINE = 60.0


class Builder(Protocol):
    """Makes the file, as :func:`onefs.metadata.tables_build.build` does."""

    def __call__(
        self,
        sessions: Path,
        datasets: Path,
        target: Path,
        facts: dict[str, str],
        *,
        origin: str = "",
        progress: Callable[[int, int], None],
    ) -> Built: ...


class Reports:
    """What a sync tells of itself: how much of how much. Says nothing unless overridden."""

    def bytes(self, done: int, total: int) -> None:
        """Bytes of the archive; ``total`` is 0 when the server does not say."""

    def rows(self, done: int, total: int) -> None:
        """Rows of the datasets table."""


def from_files(
    given: Path, state_dir: Path, reports: Reports | None = None, builder: Builder = build
) -> Built:
    """Load the tables in a folder, of an archive, or in a file. Asks no server.

    Raises UsageError naming the file that is no table, or that is of another database than the
    tables that are there; Busy while another sync runs; CacheError for the disk.
    """
    reports = reports or Reports()
    with _working(state_dir) as work:
        pair = tables_source.find(given, work)
        facts = {"source": absolute(given), "info": ""}
        built = builder(
            *pair,
            work / NAME,
            facts,
            origin=_origin(state_dir),
            progress=reports.rows,
        )
        _publish(work, state_dir)
    return built


def from_server(
    alyx: Alyx, state_dir: Path, reports: Reports | None = None, builder: Builder = build
) -> Built | None:
    """Load the server's tables; None when those that are there are the same.

    Raises NotFound when the server has none, ServerError naming its archive when that is damaged
    or no archive of tables, Busy while another sync runs, CacheError for the disk, and what asking
    Alyx raises.
    """
    reports = reports or Reports()
    info = alyx.cache_info()
    if info is None:
        raise NotFound(f"{alyx.url} has no cache tables")
    facts = {"source": alyx.url, "info": tables_source.identity(info)}
    with _working(state_dir) as work:
        if _is_there(state_dir, facts):
            return None
        archive = work / tables_source.ARCHIVE
        tables_source.download(alyx, archive, reports.bytes)
        try:
            pair = tables_source.unpack(archive, work)
            archive.unlink()
            built = builder(*pair, work / NAME, facts, progress=reports.rows)
        except UsageError as error:
            raise ServerError(_by_url(str(error), work, alyx.url)) from error
        _publish(work, state_dir)
    return built


def _by_url(sentence: str, work: Path, url: str) -> str:
    """A sentence about files that were downloaded, with the archive's URL for their paths."""
    archive = f"{url}/{tables_source.ARCHIVE}"
    return sentence.replace(str(work / tables_source.ARCHIVE), archive).replace(str(work), archive)


def complete(
    alyx: Alyx, database: TabledDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch what tables lack and every walk needs: labs, repositories, and subjects.

    A subject that the tables do not name has no numbered session. Gives what stood in the way, if
    anything: then it is asked for when it is needed.
    """
    database.tables.forget_look()
    try:
        labs = alyx.labs()
        database.store_labs(labs, clock())
        database.store_repositories(alyx.repositories(), clock())
        subjects = alyx.all_subjects()
        for lab in labs:
            database.store_subjects(lab, subjects.get(lab, []), clock())
            database.mark_bare_subjects(lab)
    except OnefsError as error:
        return error
    return None


def learn_types(
    alyx: Alyx, database: TabledDatabase, clock: Callable[[], float] = time.time
) -> OnefsError | None:
    """Fetch the dataset types, whose patterns tell types from names while Alyx is away.

    Gives what stood in the way, if anything: then those that are kept stay.
    """
    try:
        found = alyx.table("dataset-types", "name")
        database.store_answer(TYPES_KEY, json.dumps(found), clock())
    except OnefsError as error:
        return error
    return None


@contextmanager
def _working(state_dir: Path) -> Iterator[Path]:
    """An empty folder to make tables in, for one sync at a time; gone afterwards."""
    work = state_dir / _WORK
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock_file(state_dir / _LOCK) as lock:
            _take(lock, state_dir)
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


def _take(lock: int, state_dir: Path) -> None:
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


def _publish(work: Path, state_dir: Path) -> None:
    """Put the new file in the place of the old one."""
    target = state_dir / NAME
    with replacing(target):
        os.replace(work / NAME, target)
    sync_folder(state_dir)


def _origin(state_dir: Path) -> str:
    tables = Tables(state_dir / NAME)
    try:
        return tables.fact("origin")
    finally:
        tables.close()


def _is_there(state_dir: Path, facts: dict[str, str]) -> bool:
    tables = Tables(state_dir / NAME)
    try:
        return all(tables.fact(key) == value for key, value in facts.items())
    finally:
        tables.close()
