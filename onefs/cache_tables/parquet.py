"""Read ONE's cache tables from Parquet files, in the current format and in older formats.

=====================  ==============================  ============================================
content                current                         older
=====================  ==============================  ============================================
ids                    ``id``, ``eid``: UUIDs as text  ``id_0, id_1``: pairs of little-endian int64
                                                       that are the UUID's bytes (until 2022)
a session's projects   ``projects``, comma-joined      ``project``, one name or ``None``
a dataset's path       relative to its session         also ``session_path``, in which the number
                                                       may be ``1`` instead of ``001``
``file_size``          unsigned, null                  floating, null or NaN
default_revision, qc   present                         absent: read as default and NOT_SET, see
                                                       ``stated_columns``
``rel_path``           ``alf/#2020-01-01#/a.npy``      ``alf/#nan#/a.npy`` (made with pandas 3) or
                                                       ``alf/#None#/a.npy``, if there is no revision
=====================  ==============================  ============================================

Files are read in batches, so that memory does not grow with the size of the file. pyarrow is
imported when the first file is opened.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from onefs.cache_tables.columns import (
    column_values,
    convert_column,
    digest_column,
    integer_column,
    to_integer,
    uuid_column,
)
from onefs.dates import parse_timestamp
from onefs.errors import UsageError, reason_of

#: number of rows that are in memory at the same time
ROWS_PER_BATCH = 32768
#: read-ahead in bytes per column. Without this limit, pyarrow would read whole columns.
_READ_AHEAD_BYTES = 1 << 18

#: number of rows in the largest table that is read. A limit is needed, because the number of rows
#: in a damaged file may be wrong.
_MAX_ROWS = 100_000_000

T = TypeVar("T")

#: columns that are missing in older tables
_OPTIONAL_COLUMNS = ("default_revision", "qc")

_NO_REVISION = re.compile(r"(?:^|(?<=/))#(?:nan|None|NaT|<NA>)#/")


class SessionTableRow(NamedTuple):
    """A row of the sessions table. A missing value is None or ''."""

    eid: bytes | None
    lab: str
    subject: str
    #: ``yyyy-mm-dd``
    date: str
    number: int | None
    task_protocol: str
    projects: str


class DatasetTableRow(NamedTuple):
    """A row of the datasets table. A missing value is None, but a missing path is ''."""

    eid: bytes | None
    id: bytes | None
    #: path relative to the session's folder
    path: str
    #: path of the session's folder on the file server, ``lab/Subjects/subject/date/number``; None
    #: in newer tables, which do not have this column
    stored: str | None
    #: size in bytes
    size: int | None
    #: md5 (16 bytes) or sha1 (20 bytes)
    digest: bytes | None
    default: bool
    qc: str | None
    exists: bool


class ParquetTable:
    """A Parquet file that contains one cache table.

    Raises UsageError, with the name of the file, if the file is not a cache table. Also raises
    UsageError if pyarrow is not installed.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        parquet = _import_parquet()
        try:
            self._file = parquet.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)
            names = set(self._file.schema_arrow.names)
            self._one_metadata = _read_one_metadata(self._file.schema_arrow.metadata or {})
        except _parquet_errors() as error:
            raise self._unusable_error(
                f"the file cannot be read as Parquet ({_short_message(error)})"
            ) from error
        missing = [name for name in columns if not {name, f"{name}_0"} & names]
        if missing:
            self.close()
            raise self._unusable_error(f"the table has no column {', '.join(missing)}")
        self._column_names = names
        self._unstated_columns = {name for name in _OPTIONAL_COLUMNS if name not in names}

    @property
    def date_created(self) -> str:
        """The time at which the table was made, as text in the table's metadata.

        Raises UsageError if the metadata do not contain a valid time.
        """
        text = self._one_metadata.get("date_created")
        if not isinstance(text, str) or parse_timestamp(text) is None:
            raise self._unusable_error("the table does not say when it was made (date_created)")
        return text

    @property
    def origin(self) -> str:
        """The name of the database from which the table was made. '' if the name is missing."""
        origin = self._one_metadata.get("origin") or ""
        return ",".join(sorted(map(str, origin))) if isinstance(origin, list) else str(origin)

    @property
    def stated_columns(self) -> list[str]:
        """The names of the columns that had a value in each row read so far.

        Only the columns default_revision and qc are considered.
        """
        return [name for name in _OPTIONAL_COLUMNS if name not in self._unstated_columns]

    @property
    def is_partial(self) -> bool:
        """Whether the table has only the datasets of a release (a tag in Alyx), not all."""
        return bool(self._one_metadata.get("database_tags"))

    @property
    def row_count(self) -> int:
        """The number of rows in the table."""
        return int(self._file.metadata.num_rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sessions(self) -> Iterator[list[SessionTableRow]]:
        """Yield the rows of a sessions table, in batches.

        Raises UsageError if the file is damaged.
        """
        return self._translated_errors(self._sessions())

    def datasets(self) -> Iterator[list[DatasetTableRow]]:
        """Yield the rows of a datasets table, in batches.

        Raises UsageError if the file is damaged.
        """
        return self._translated_errors(self._datasets())

    def _translated_errors(self, batches: Iterator[list[T]]) -> Iterator[list[T]]:
        """Yield the batches of rows. Turn pyarrow's errors for damaged files into UsageError.

        A value that cannot be converted is also treated as damage.
        """
        try:
            yield from batches
        except _parquet_errors() as error:
            raise self._unusable_error(f"the file is damaged ({_short_message(error)})") from error

    def _sessions(self) -> Iterator[list[SessionTableRow]]:
        projects = "projects" if "projects" in self._column_names else "project"
        for batch in self._batches("lab", "subject", "date", "number", "task_protocol", projects):
            yield [
                SessionTableRow(
                    eid,
                    _text_or_empty(lab),
                    _text_or_empty(subject),
                    str(date or "")[:10],
                    to_integer(number),
                    _text_or_empty(protocol),
                    "" if project == "None" else _text_or_empty(project),
                )
                for eid, lab, subject, date, number, protocol, project in zip(
                    uuid_column(batch, "id"),
                    column_values(batch, "lab"),
                    column_values(batch, "subject"),
                    column_values(batch, "date"),
                    column_values(batch, "number"),
                    column_values(batch, "task_protocol"),
                    column_values(batch, projects),
                    strict=True,
                )
            ]

    def _datasets(self) -> Iterator[list[DatasetTableRow]]:
        names = ("rel_path", "session_path", "file_size", "hash", "default_revision", "qc")
        for batch in self._batches(*names, "exists"):
            self._unstated_columns |= {
                name for name in self.stated_columns if batch.column(name).null_count
            }
            columns = (
                uuid_column(batch, "eid"),
                uuid_column(batch, "id"),
                convert_column(
                    batch, "rel_path", lambda path: strip_empty_revision(_text_or_empty(path))
                ),
                convert_column(
                    batch, "session_path", lambda stored: _text_or_empty(stored) or None
                ),
                integer_column(batch, "file_size"),
                digest_column(batch, "hash"),
                convert_column(batch, "default_revision", _is_not_false),
                convert_column(
                    batch, "qc", lambda qc: None if not qc or qc == "NOT_SET" else str(qc)
                ),
                convert_column(batch, "exists", _is_not_false),
            )
            yield list(map(DatasetTableRow._make, zip(*columns, strict=True)))

    def _batches(self, *names: str) -> Iterator[Any]:
        of_ids = ("id", "id_0", "id_1", "eid", "eid_0", "eid_1")
        columns = [name for name in (*of_ids, *names) if name in self._column_names]
        if self.row_count > _MAX_ROWS:
            raise self._unusable_error(
                f"the table has {self.row_count} rows, more than {_MAX_ROWS}"
            )
        return iter(self._file.iter_batches(ROWS_PER_BATCH, columns=columns, use_threads=False))

    def _unusable_error(self, reason: str) -> UsageError:
        return UsageError(f"{self.path} is no cache table of ONE: {reason}")


def strip_empty_revision(path: str) -> str:
    """Return a ``rel_path`` without the folder that is written for a missing revision.

    This folder is ``#nan#``, ``#None#``, ``#NaT#`` or ``#<NA>#``.
    """
    return _NO_REVISION.sub("", path) if "#" in path else path


def check_pyarrow() -> None:
    """Raise UsageError, with the command that installs pyarrow, if pyarrow is not installed."""
    _import_parquet()


def _import_parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            "cache tables need pyarrow, which is not installed: run `pip install 'onefs[tables]'`"
        ) from error


def _parquet_errors() -> tuple[type[BaseException], ...]:
    """Return the types of the exceptions that pyarrow raises for a damaged file."""
    arrow = importlib.import_module("pyarrow").ArrowException
    return (arrow, OSError, UnicodeDecodeError, ValueError, OverflowError)


def _read_one_metadata(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Return ONE's metadata in the file. Return {} if the metadata are missing or damaged."""
    try:
        one_metadata = json.loads(metadata.get(b"one_metadata", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return one_metadata if isinstance(one_metadata, dict) else {}


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_not_false(value: object) -> bool:
    return value is not False


def _short_message(error: BaseException) -> str:
    return (reason_of(error).splitlines() or [type(error).__name__])[0][:120]
