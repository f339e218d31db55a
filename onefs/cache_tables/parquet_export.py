"""Export the SQLite file of a sync as ONE's cache tables, ``sessions.pqt`` and ``datasets.pqt``.

The exported files always have the format of a current Alyx, even if the synced tables had an older
format. Ids are text and are sorted, because ONE would sort unsorted ids at each load. ``rel_path``
is the dataset's path in a mount, inside the folder of the session. qc is an ordered category.

Rows that ONE could not find, or could not distinguish, are left out. These are sessions whose lab
or subject is not the name of a folder, sessions with an invalid date or a number above 65535,
sessions that share a folder, and datasets that share a path. If exactly one of the datasets that
share a path is marked as the revision to use (``default_revision``), this dataset is exported.

If the synced tables do not contain a size, the size is taken from the catalogue in the same folder.
The catalogue has sizes from Alyx or from a file server (``onefs sync --sizes``). If the catalogue
does not have the size either, the size is null. ONE-api fails for a null in a pandas column of
integers (``boolean value of NA is ambiguous``). So if any size is null, the metadata declare the
column as floats. Then ONE only warns that the size is unknown, and loads the file.
"""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from onefs import alf
from onefs.cache_tables.columns import uuid_text_array
from onefs.cache_tables.reader import open_tables, split_path, uuid_text
from onefs.cache_tables.source import DATASETS_FILE_NAME, SESSIONS_FILE_NAME
from onefs.dates import parse_timestamp
from onefs.errors import CacheError, CacheFull, reason_of
from onefs.model import Dataset
from onefs.qc import QC

#: version of the exported format. It must be changed when the export of the same tables changes.
EXPORT_FORMAT_VERSION = 2
#: number of rows that are in memory at the same time, and number of rows in a row group. A batch
#: can have more rows, because all rows of a session are in the same batch.
ROWS_PER_BATCH = 32768
#: number of distinct paths that are kept in memory
_MAX_REMEMBERED_PATHS = 200_000
#: the oldest version of ONE-api that can read this format
_MIN_API_VERSION = "2.10"
_QC_NAMES = tuple(QC.__members__)
_QC_CODES = {name: code for code, name in enumerate(_QC_NAMES)}
_MAX_NUMBER = (1 << 16) - 1

#: the types of a column: (type in pyarrow, type in pandas, type in numpy)
_TEXT = ("string", "unicode", "object")
#: a column of UUIDs: the values have 16 bytes, and are written as text
_UUID = ("uuid", "unicode", "object")
_BOOL = ("bool_", "bool", "bool")
_CATEGORY = ("", "categorical", "int8")
_SESSION_COLUMNS = {
    "id": _UUID,
    "lab": _TEXT,
    "subject": _TEXT,
    "date": ("date32", "date", "object"),
    "number": ("uint16", "uint16", "uint16"),
    "task_protocol": _TEXT,
    "projects": _TEXT,
}
_DATASET_COLUMNS = {
    "eid": _UUID,
    "id": _UUID,
    "file_size": ("uint64", "uint64", "UInt64"),
    "hash": _TEXT,
    "default_revision": _BOOL,
    "qc": _CATEGORY,
    "exists": _BOOL,
    "rel_path": _TEXT,
}
_NULLABLE_SIZE = ("uint64", "uint64", "float64")

#: selects the sizes of a dataset in the catalogue. Sizes that were stored with a hash come first.
_SELECT_KNOWN_SIZES = """
    SELECT size, md5 FROM probed_sizes WHERE id = :id
    UNION ALL SELECT coalesce(size, probed), md5 FROM datasets
        WHERE id = :id AND coalesce(size, probed) IS NOT NULL
    ORDER BY md5 DESC
"""

ColumnTypes = Mapping[str, tuple[str, str, str]]
RowBatch = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The numbers of rows that were written, and that were left out."""

    sessions: int
    datasets: int
    #: the number of rows that were left out, for each reason
    left_out: dict[str, int] = field(default_factory=dict)


def export(source: Path, folder: Path) -> ExportResult:
    """Export the SQLite file ``source`` of a sync as ONE's two cache tables into ``folder``.

    The new files are on the disk at the end. Raises CacheFull if the disk is full, and CacheError
    for other errors of the disk or of SQLite. Raises ImportError if pyarrow is not installed.
    """
    try:
        connection, facts = open_tables(source)
        with closing(connection), closing(_open_catalogue_beside(source)) as catalogue:
            # streams the rows: memory does not grow with the number of datasets
            return _Exporter(connection, facts, folder, catalogue).run()
    except (sqlite3.Error, OSError) as error:
        if "full" in str(error) or "No space" in str(error):
            raise CacheFull(f"the disk of {folder} is full") from error
        raise CacheError(
            f"{folder}: the tables for ONE cannot be made: {reason_of(error, folder)}"
        ) from error


class _ExportedPath(NamedTuple):
    """A dataset's path in a mount, relative to its session's folder."""

    text: str
    #: the paths of the folders that contain the dataset
    folders: tuple[str, ...]


class _Exporter:
    """Exports one SQLite file as two Parquet files."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        facts: Mapping[str, str],
        folder: Path,
        catalogue: sqlite3.Connection,
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._folder = folder
        self._one_metadata = {
            "date_created": _format_date_created(facts),
            "origin": facts.get("origin", ""),
            "min_api_version": _MIN_API_VERSION,
        }
        self._path_of_row = lru_cache(_MAX_REMEMBERED_PATHS)(self._load_path)
        self._left_out: Counter[str] = Counter()
        self._excluded_eids: set[bytes] = set()

    def run(self) -> ExportResult:
        """Write the sessions. Then write the datasets of the sessions that were written."""
        sessions = self._write_parquet(
            SESSIONS_FILE_NAME, _SESSION_COLUMNS, ["id"], self._sessions()
        )
        columns = _DATASET_COLUMNS
        if self._has_unknown_sizes():
            columns = {**columns, "file_size": _NULLABLE_SIZE}
        datasets = self._write_parquet(DATASETS_FILE_NAME, columns, ["eid", "id"], self._datasets())
        return ExportResult(sessions, datasets, dict(self._left_out))

    def _sessions(self) -> Iterator[RowBatch]:
        query = (
            "SELECT eid, lab, subject, date, number, task_protocol, projects FROM sessions"
            " ORDER BY eid"
        )
        sharing = self._sessions_sharing_folder()
        for eid, lab, subject, day, number, *rest in self._connection.execute(query):
            start_date = date.fromisoformat(day) if alf.is_calendar_day(day) else None
            is_named = alf.lab_folder(lab) == lab and alf.subject_folder(subject) == subject
            if eid in sharing:
                self._exclude_session("sessions that share a folder", eid)
            elif start_date is None or not is_named or number > _MAX_NUMBER:
                self._exclude_session("sessions that ONE has no path for", eid)
            else:
                yield [(eid, lab, subject, start_date, number, *rest)]

    def _datasets(self) -> Iterator[RowBatch]:
        """Yield the datasets, one batch for each session."""
        # CROSS makes SQLite read the sessions first: otherwise it would sort all datasets
        query = (
            "SELECT eid, id, path, size, digest, is_default, qc FROM sessions"
            " CROSS JOIN datasets ON session = sessions.row ORDER BY eid, id"
        )
        codes = _QC_CODES.get
        for eid, rows in groupby(self._connection.execute(query), itemgetter(0)):
            if eid in self._excluded_eids:
                continue
            yield [
                (
                    eid,
                    id_,
                    size if size is not None else self._known_size(id_, digest),
                    digest.hex() if digest is not None else None,
                    default == 1,
                    codes(qc, 0),
                    True,
                    path,
                )
                for path, (_, id_, _, size, digest, default, qc) in self._with_unique_paths(
                    list(rows)
                )
            ]

    def _with_unique_paths(self, rows: RowBatch) -> Iterable[tuple[str, tuple[Any, ...]]]:
        """Return the rows of a session's datasets that can be exported, each with its path.

        Rows whose path is not unique are left out.
        """
        paths = [self._path_of_row(row[2]) for row in rows]
        texts = [path.text for path in paths]
        folders = set[str]().union(*[path.folders for path in paths])
        if len(set(texts)) == len(texts) and folders.isdisjoint(texts):
            return zip(texts, rows, strict=True)
        counts = Counter(texts)
        defaults = Counter(text for text, row in zip(texts, rows, strict=True) if row[5])
        # of several rows with the same path, the only one marked as the revision to use
        # (``default_revision``) is kept. A row is left out if its path is the path of a folder too
        unique = [
            (text, row)
            for text, row in zip(texts, rows, strict=True)
            if text not in folders and (counts[text] == 1 or (row[5] and defaults[text] == 1))
        ]
        self._left_out["datasets that share a path"] += len(rows) - len(unique)
        return unique

    def _load_path(self, row: int) -> _ExportedPath:
        query = "SELECT path FROM paths WHERE row = ?"
        return _exported_path(self._connection.execute(query, (row,)).fetchone()[0])

    def _sessions_sharing_folder(self) -> set[bytes]:
        """Return the eids of the sessions that have the same folder as another session."""
        query = (
            "SELECT eid FROM sessions JOIN (SELECT lab, subject, date, number FROM sessions"
            " GROUP BY 1, 2, 3, 4 HAVING count(*) > 1) USING (lab, subject, date, number)"
        )
        return {row[0] for row in self._connection.execute(query)}

    def _has_unknown_sizes(self) -> bool:
        query = "SELECT id, digest FROM datasets WHERE size IS NULL"
        return any(self._known_size(*row) is None for row in self._connection.execute(query))

    def _known_size(self, id_: bytes, digest: bytes | None) -> int | None:
        """Return a dataset's size in bytes from the catalogue, or None if it is unknown.

        A size that was stored with a hash other than ``digest`` is ignored, because the content may
        have changed.
        """
        md5s = {"", digest.hex() if digest is not None else ""}
        for size, md5 in self._catalogue.execute(_SELECT_KNOWN_SIZES, {"id": uuid_text(id_)}):
            # a size that was stored with another hash may be the size of other content
            if md5 in md5s:
                return int(size)
        return None

    def _exclude_session(self, what: str, eid: bytes) -> None:
        self._left_out[what] += 1
        self._excluded_eids.add(eid)

    def _write_parquet(
        self, name: str, columns: ColumnTypes, index: list[str], rows: Iterator[RowBatch]
    ) -> int:
        """Write a Parquet file with the metadata of pandas and ONE. Return the number of rows."""
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
        schema = _arrow_schema(arrow, columns, index, self._one_metadata)
        # no dictionary for ids and hashes: their values are not repeated, so that a dictionary
        # would only need time and space
        repeated = [name for name in columns if name not in (index[-1], "hash")]
        count = 0
        path = self._folder / name
        with (
            path.open("wb") as file,
            parquet.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=repeated
            ) as writer,
        ):
            for batch in _batches(rows):
                writer.write_table(
                    _arrow_table(arrow, columns, schema, batch), row_group_size=len(batch)
                )
                count += len(batch)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        return count


def _open_catalogue_beside(source: Path) -> sqlite3.Connection:
    """Open the catalogue in the folder of ``source``. Return the connection.

    If there is no catalogue, open an empty one in memory.
    """
    path = source.with_name("catalogue.sqlite")
    connection = sqlite3.connect(path if path.exists() else ":memory:", timeout=10)
    wanted = {"probed_sizes", "datasets"}
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    if not wanted <= {name for (name,) in connection.execute(query)}:
        connection.close()
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE probed_sizes (id, md5, size)")
        connection.execute("CREATE TABLE datasets (id, md5, size, probed)")
    return connection


def is_complete(facts: Mapping[str, str]) -> bool:
    """Whether cache tables contain the whole database. ``facts`` are the metadata of the tables.

    Return False if the tables contain only the datasets of a release (a tag in Alyx).
    """
    return facts.get("created") != "1.0"


def _batches(rows: Iterator[RowBatch]) -> Iterator[RowBatch]:
    batch: RowBatch = []
    for some in rows:
        batch += some
        if len(batch) >= ROWS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _arrow_table(arrow: Any, columns: ColumnTypes, schema: Any, batch: RowBatch) -> Any:
    arrays = []
    for kind, kept, values in zip(columns.values(), schema, zip(*batch, strict=True), strict=True):
        if kind == _UUID:
            arrays.append(uuid_text_array(arrow, values))
        elif kind == _CATEGORY:
            codes = arrow.array(values, arrow.int8())
            arrays.append(
                arrow.DictionaryArray.from_arrays(codes, arrow.array(_QC_NAMES), ordered=True)
            )
        else:
            arrays.append(arrow.array(values, kept.type))
    return arrow.Table.from_arrays(arrays, schema=schema)


def _arrow_schema(
    arrow: Any, columns: ColumnTypes, index: list[str], one_metadata: Mapping[str, str]
) -> Any:
    category = arrow.dictionary(arrow.int8(), arrow.string(), ordered=True)
    own = {"": category, "uuid": arrow.string()}
    fields = [
        arrow.field(name, own[kind] if kind in own else getattr(arrow, kind)())
        for name, (kind, _, _) in columns.items()
    ]
    column_metadata = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": pandas_type,
            "numpy_type": numpy_type,
            "metadata": None if kind else {"num_categories": len(_QC_NAMES), "ordered": True},
        }
        for name, (kind, pandas_type, numpy_type) in columns.items()
    ]
    pandas = {"index_columns": index, "column_indexes": [], "columns": column_metadata}
    return arrow.schema(
        fields, metadata={"pandas": json.dumps(pandas), "one_metadata": json.dumps(one_metadata)}
    )


def _exported_path(path: str) -> _ExportedPath:
    """Convert a dataset's path in the cache tables into its path in a mount."""
    collection, revision, name = split_path(path)
    dataset = Dataset("", "", name, collection=collection, revision=revision)
    folders = alf.dataset_folder(dataset)
    text = "/".join((*folders, alf.dataset_file(dataset)))
    return _ExportedPath(text, tuple("/".join(folders[: n + 1]) for n in range(len(folders))))


def _format_date_created(facts: Mapping[str, str]) -> str:
    """Return the time at which the tables were made, as text in UTC without a time zone."""
    seconds = parse_timestamp(facts["date_created"]) or 1.0
    # ONE compares this text with a text from the server, which has no time zone
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")
