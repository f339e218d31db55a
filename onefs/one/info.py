"""Datasets with their metadata, as ``list(eid, details=True)`` and ``load`` return them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, overload

from onefs.printable import plural, printable


class DatasetInfo(NamedTuple):
    """One dataset: a row of a :class:`SessionDataInfo`."""

    #: the content: an array, table, dict or other value. The Path if the file was not read. None if
    #: the dataset was not loaded
    data: Any
    #: the dataset's UUID in Alyx
    dataset_id: str
    #: path of the file in the cache, also if the file is not cached
    local_path: str
    dataset_type: str
    #: URL of the file on the file server; '' if only cache tables list the dataset, and Alyx is
    #: unreachable
    url: str
    #: the session's UUID in Alyx
    eid: str
    #: size of the file in bytes; None if Alyx has no size
    size: int | None
    #: md5 (or sha1) of the file in hex; '' if Alyx has no hash
    md5: str
    #: the folder in the session; '' for the session's own folder
    collection: str
    #: the revision; '' for the original
    revision: str

    @property
    def data_url(self) -> str:
        """The same value as ``url``, under the name that ONE's tutorial uses."""
        return self.url


@dataclass(eq=False, slots=True, repr=False)
class SessionDataInfo:
    """A table of datasets. Each field is a column: a list with one item for each dataset.

    The columns are the fields of :class:`.DatasetInfo`.

    - ``info['data']`` is a column.
    - ``info[0]`` is a row (a DatasetInfo). Iteration gives all rows.
    - ``info[1:3]`` is a SessionDataInfo with two of the datasets.
    - ``len(info)`` is the number of datasets.
    """

    data: list[Any] = field(default_factory=list)
    dataset_id: list[str] = field(default_factory=list)
    local_path: list[str] = field(default_factory=list)
    dataset_type: list[str] = field(default_factory=list)
    url: list[str] = field(default_factory=list)
    eid: list[str] = field(default_factory=list)
    size: list[int | None] = field(default_factory=list)
    md5: list[str] = field(default_factory=list)
    collection: list[str] = field(default_factory=list)
    revision: list[str] = field(default_factory=list)

    @classmethod
    def from_rows(cls, rows: Iterable[DatasetInfo]) -> SessionDataInfo:
        """Return a table that contains the given rows.

        Args:
            rows: The rows, in the order of the table.
        """
        columns = zip(*rows, strict=True)
        return cls(*map(list, columns))

    @property
    def data_url(self) -> list[str]:
        """The column ``url`` of this table, under the name that ONE's tutorial uses."""
        return self.url

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        return [column.name for column in fields(self)]

    def append(self, other: SessionDataInfo) -> None:
        """Append the datasets of another table to this table.

        Args:
            other: The other table. It is not changed.
        """
        for name in self.keys():
            self[name].extend(other[name])

    def __len__(self) -> int:
        return len(self.dataset_id)

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int) -> DatasetInfo: ...
    @overload
    def __getitem__(self, key: slice) -> SessionDataInfo: ...

    def __getitem__(self, key: str | int | slice) -> list[Any] | DatasetInfo | SessionDataInfo:
        if isinstance(key, str):
            if key not in (*self.keys(), "data_url"):
                raise KeyError(f"there is no field {key!r}, only {', '.join(self.keys())}")
            column: list[Any] = getattr(self, key)
            return column
        columns = [self[name] for name in self.keys()]
        if isinstance(key, slice):
            return SessionDataInfo(*(column[key] for column in columns))
        return DatasetInfo(*(column[key] for column in columns))

    def __iter__(self) -> Iterator[DatasetInfo]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"<SessionDataInfo: {len(self)} {plural(len(self), 'dataset')}>"

    def __str__(self) -> str:
        """Return one line for each dataset."""
        if not len(self):
            return "(no datasets)"
        table = [_cells(row) for row in self]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        )


def _cells(row: DatasetInfo) -> list[str]:
    folder = "/".join(filter(None, (row.collection, row.revision and f"#{row.revision}#")))
    size = "? bytes" if row.size is None else f"{row.size} bytes"
    cells = [row.dataset_type, folder or ".", size, summarize(row.data), row.url]
    return list(map(printable, cells))


def summarize(data: Any) -> str:
    """Return the dtype and shape of an array or table, or the type's name of any other value.

    Return '' for None.
    """
    if data is None:
        return ""
    shape = getattr(data, "shape", None)
    if shape is None:
        return type(data).__name__
    return f"{getattr(data, 'dtype', type(data).__name__)} {tuple(shape)}"
