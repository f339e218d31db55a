"""ONE's own tables put into the cache folder, after a sync."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

from onefs.cache import one_tables
from onefs.cache_tables.export import (
    EXPORT_FORMAT_VERSION,
    ExportResult,
    export,
    is_complete,
)
from onefs.cache_tables.reader import TABLES_FILE_NAME, TablesReader

log = logging.getLogger(__name__)


def publish(
    state_dir: Path,
    cache_dir: Path,
    database: str,
    exporter: Callable[[Path, Path], ExportResult] = export,
    *,
    overwrite: bool = False,
) -> ExportResult | None:
    """Write the tables that the last sync has loaded into the cache folder, as ONE's.

    None when they are there already (unless ``anew``), and for the tables of a release tag: ONE
    would take them for the whole database. Raises what making them raises (``content.one_tables``).
    """
    facts = _read_facts(state_dir)
    if not facts or not is_complete(facts):
        return None
    source = hashlib.sha1(
        json.dumps([EXPORT_FORMAT_VERSION, facts], sort_keys=True).encode()
    ).hexdigest()
    if not overwrite and one_tables.source_of(cache_dir) == source:
        return None
    with one_tables.write_tables(cache_dir, database, source, float(facts["created"])) as folder:
        done = exporter(state_dir / TABLES_FILE_NAME, folder)
    for what, count in done.left_out.items():
        log.info("ONE's tables in %s: %d %s are left out", cache_dir, count, what)
    return done


def _read_facts(state_dir: Path) -> dict[str, str]:
    tables = TablesReader(state_dir / TABLES_FILE_NAME)
    try:
        return tables.facts()
    finally:
        tables.close()
