"""Write cache tables for tests, in the present format or in older formats."""

from __future__ import annotations

import datetime
import json
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

#: the folder with cache tables of 2021, which have 26 sessions and 693 datasets
OLD = Path(__file__).parents[1] / "data" / "tables"

CREATED = "2023-11-14 20:00"
#: the same time as CREATED, in seconds since the epoch
CREATED_AT = 1699992000.0


def uuid(number: int) -> str:
    """Return a UUID as text. Different numbers give different UUIDs."""
    return str(UUID(int=0x1234 << 112 | number))


def halves(text: str) -> tuple[int, int]:
    """Return a UUID in the format of 2021: its 16 bytes as two little-endian int64."""
    low, high = struct.unpack("<qq", UUID(text).bytes)
    return low, high


def session(number: int, /, **changes: Any) -> dict[str, Any]:
    """Return the row of a session in the present format."""
    row = {
        "id": uuid(number),
        "lab": "labone",
        "subject": "mouse",
        "date": datetime.date(2020, 1, number),
        "number": 1,
        "task_protocol": "",
        "projects": "",
    }
    return {**row, **changes}


def dataset(of: int, number: int, path: str = "alf/a.b.npy", /, **changes: Any) -> dict[str, Any]:
    """Return the row of a dataset in the present format. ``of`` is the number of its session."""
    row = {
        "eid": uuid(of),
        "id": uuid(1000 + number),
        "file_size": 100 + number,
        "hash": f"{number:032x}",
        "default_revision": True,
        "qc": "NOT_SET",
        "exists": True,
        "rel_path": path,
    }
    return {**row, **changes}


def write(
    folder: Path,
    sessions: list[dict[str, Any]],
    datasets: list[dict[str, Any]],
    created: str = CREATED,
    origin: str = "alyx",
    **note: Any,
) -> Path:
    """Write both tables, with ONE's metadata, into ``folder``. Return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"date_created": created, "origin": origin, **note}
    for name, rows, like in (
        ("sessions", sessions, session(1)),
        ("datasets", datasets, dataset(1, 1)),
    ):
        table = pa.Table.from_pylist(rows or [like])
        write_one(folder / f"{name}.pqt", table if rows else table.slice(0, 0), said)
    return folder


def write_one(path: Path, table: pa.Table, note: dict[str, Any] | None) -> Path:
    """Write one table to ``path``. If ``note`` is None, the table has no ONE metadata."""
    found = {"one_metadata": json.dumps(note)} if note is not None else None
    pq.write_table(table.replace_schema_metadata(found), path)
    return path
