"""Loading of the server's cache tables, and export of these tables in ONE's format.

The export writes to the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from onefs.access import Access
from onefs.cache import one_tables
from onefs.cache_tables.build import BuildResult
from onefs.cache_tables.parquet_export import (
    EXPORT_FORMAT_VERSION,
    ExportResult,
    export,
    is_complete,
)
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.sync import (
    SYNC_DEADLINE_SECONDS,
    SyncProgress,
    fetch_dataset_types,
    fetch_labs_and_subjects,
    sync_from_server,
)

log = logging.getLogger(__name__)


def load_from_server(
    access: Access, warn: Callable[[str], None], progress: SyncProgress | None = None
) -> BuildResult | None:
    """Load the server's cache tables, labs, subjects and dataset types. Return what was loaded.

    Return None if the catalogue already has the server's current tables. ``warn`` is called with a
    sentence if labs, subjects or dataset types cannot be listed. Raises what
    :func:`onefs.catalogue.sync.sync_from_server` raises.
    """
    alyx = access.alyx.low_priority(deadline=SYNC_DEADLINE_SECONDS)
    built = sync_from_server(alyx, access.settings.state_dir, progress, build_in_child)
    error = fetch_labs_and_subjects(alyx, access.database)
    if error is not None:
        warn(
            f"labs and subjects cannot be loaded now ({error}): onefs requests labs and subjects "
            "when a command needs them"
        )
    error = fetch_dataset_types(alyx, access.database)
    if error is not None:
        warn(
            f"dataset types cannot be loaded now ({error}): while Alyx is unreachable, onefs "
            "guesses dataset types from file names"
        )
    return built


def publish(
    state_dir: Path,
    cache_dir: Path,
    database: str,
    exporter: Callable[[Path, Path], ExportResult] = export,
    *,
    overwrite: bool = False,
) -> ExportResult | None:
    """Write the tables of the most recent sync to the cache folder in ONE's format.

    Raises what :func:`onefs.cache.one_tables.write_tables` raises. Return None and write nothing:

    - if there are no tables.
    - if the tables have only the datasets of a release (a tag in Alyx).
    - if the cache folder already has the same tables, and ``overwrite`` is false.
    """
    facts = _read_facts(state_dir)
    # ONE would treat the tables of a release tag as the whole database
    if not facts or not is_complete(facts):
        return None
    source = hashlib.sha1(
        json.dumps([EXPORT_FORMAT_VERSION, facts], sort_keys=True).encode()
    ).hexdigest()
    if not overwrite and one_tables.source_of(cache_dir) == source:
        return None
    with one_tables.write_tables(cache_dir, database, source, float(facts["created"])) as folder:
        result = exporter(state_dir / TABLES_FILE_NAME, folder)
    for what, count in result.left_out.items():
        log.info("ONE's tables in the folder %s: %d %s are left out", cache_dir, count, what)
    return result


def _read_facts(state_dir: Path) -> dict[str, str]:
    with closing(TablesReader(state_dir / TABLES_FILE_NAME)) as tables:
        return tables.facts()
