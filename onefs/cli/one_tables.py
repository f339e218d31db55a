"""ONE's own tables put into the cache folder, after a sync."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

from onefs.content import one_tables
from onefs.metadata.tables import NAME, Tables
from onefs.metadata.tables_export import FORMAT, Exported, export, is_complete

log = logging.getLogger(__name__)


def put(
    state_dir: Path,
    cache_dir: Path,
    database: str,
    exporter: Callable[[Path, Path], Exported] = export,
    *,
    anew: bool = False,
) -> Exported | None:
    """Write the tables that the last sync has loaded into the cache folder, as ONE's.

    None when they are there already (unless ``anew``), and for the tables of a release tag: ONE
    would take them for the whole database. Raises what making them raises (``content.one_tables``).
    """
    facts = _facts(state_dir)
    if not facts or not is_complete(facts):
        return None
    source = hashlib.sha1(json.dumps([FORMAT, facts], sort_keys=True).encode()).hexdigest()
    if not anew and one_tables.made_from(cache_dir) == source:
        return None
    with one_tables.making(cache_dir, database, source, float(facts["created"])) as folder:
        done = exporter(state_dir / NAME, folder)
    for what, count in done.left_out.items():
        log.info("ONE's tables in %s: %d %s are left out", cache_dir, count, what)
    return done


def _facts(state_dir: Path) -> dict[str, str]:
    tables = Tables(state_dir / NAME)
    try:
        return tables.facts()
    finally:
        tables.close()
