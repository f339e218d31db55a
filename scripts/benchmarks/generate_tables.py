"""ONE cache tables of any size, in the present format, made batch by batch.

usage: made_tables.py FOLDER SESSIONS DATASETS_OF_EACH
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

#: sessions of one lab, and of one subject
PER_LAB = 1000
PER_SUBJECT = 50
_FIRST_DAY = date(2019, 1, 7)
_OBJECTS = ("spikes", "clusters", "templates", "channels", "trials", "wheel", "licks", "eye")
_ATTRIBUTES = ("times", "amps", "depths", "clusters", "intervals", "choice", "rawInd", "position")
_FOLDERS = ("alf", "alf/probe00", "alf/probe01", "raw_behavior_data", "raw_ephys_data/probe00")


def write(
    folder: Path,
    sessions: int,
    datasets: int,
    *,
    labs: Sequence[int] = (),
    row_group: int = 1 << 20,
) -> None:
    """Write ``sessions.pqt`` and ``datasets.pqt``: as pandas does, sorted by eid and id.

    ``labs`` are the sessions of each lab, in sum ``sessions``; else each has :data:`PER_LAB`.
    """
    places = [lab for lab, count in enumerate(labs) for _ in range(count)]
    places = places or [number // PER_LAB for number in range(sessions)]
    folder.mkdir(parents=True, exist_ok=True)
    created = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    note = {"one_metadata": json.dumps({"date_created": created, "origin": "alyx"})}
    eids = sorted(str(UUID(bytes=hashlib.md5(b"s%d" % i).digest())) for i in range(sessions))
    pq.write_table(_sessions(eids, places).replace_schema_metadata(note), folder / "sessions.pqt")
    schema = _DATASETS.with_metadata(note)
    with pq.ParquetWriter(folder / "datasets.pqt", schema) as writer:
        held: list[pa.RecordBatch] = []
        for batch in _datasets(eids, datasets):
            held.append(batch)
            if sum(each.num_rows for each in held) >= row_group:
                writer.write_table(pa.Table.from_batches(held, schema), row_group)
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), row_group)


_QC = pa.dictionary(pa.int8(), pa.string(), ordered=True)
_DATASETS = pa.schema(
    [
        ("eid", pa.string()),
        ("id", pa.string()),
        ("file_size", pa.uint64()),
        ("hash", pa.string()),
        ("default_revision", pa.bool_()),
        ("qc", _QC),
        ("exists", pa.bool_()),
        ("rel_path", pa.string()),
    ]
)


def _sessions(eids: list[str], labs: list[int]) -> pa.Table:
    numbers = range(len(eids))
    return pa.table(
        {
            "id": eids,
            "lab": [f"lab{lab:03d}" for lab in labs],
            "subject": [f"S{i // PER_SUBJECT:05d}" for i in numbers],
            "date": pa.array(
                [_FIRST_DAY + timedelta(days=i % PER_SUBJECT) for i in numbers], pa.date32()
            ),
            "number": pa.array([1] * len(eids), pa.uint16()),
            "task_protocol": ["_iblrig_tasks_ephysChoiceWorld6.4.2"] * len(eids),
            "projects": ["ibl_neuropixel_brainwide_01"] * len(eids),
        }
    )


def _datasets(eids: list[str], each: int) -> Iterator[pa.RecordBatch]:
    chance = random.Random(0)
    paths = [_path(i) for i in range(each)]
    for start in range(0, len(eids), 1000):
        some = eids[start : start + 1000]
        count = len(some) * each
        raw = chance.randbytes(32 * count)
        ids = (str(UUID(bytes=raw[32 * i : 32 * i + 16])) for i in range(count))
        columns: dict[str, Any] = {
            "eid": [eid for eid in some for _ in range(each)],
            "id": list(ids),
            "file_size": pa.array((chance.randrange(1 << 28) for _ in range(count)), pa.uint64()),
            "hash": [raw[32 * i + 16 : 32 * i + 32].hex() for i in range(count)],
            "default_revision": [True] * count,
            "qc": pa.DictionaryArray.from_arrays(
                pa.array([0] * count, pa.int8()), pa.array(["NOT_SET", "PASS"]), ordered=True
            ),
            "exists": [True] * count,
            "rel_path": paths * len(some),
        }
        yield pa.RecordBatch.from_pydict(columns, schema=_DATASETS)


def _path(index: int) -> str:
    rest, attribute = divmod(index, len(_ATTRIBUTES))
    thing = rest % len(_OBJECTS)
    folder = index % len(_FOLDERS)
    extra = f".{index:03d}" if index >= len(_ATTRIBUTES) * len(_OBJECTS) else ""
    return f"{_FOLDERS[folder]}/{_OBJECTS[thing]}.{_ATTRIBUTES[attribute]}{extra}.npy"


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
