"""Records of datasets, as ONE-api's verbs list them: rows, DataFrames, and dicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from onefs.errors import MissingLibrary
from onefs.model import Dataset
from onefs.search.vocabulary import QC_OUTCOMES

if TYPE_CHECKING:
    from onefs.cache.folder import Place

#: the columns of a DataFrame from Alyx's answers
_COLUMNS = ("file_size", "hash", "exists", "rel_path", "default_revision", "qc")
#: the columns of a DataFrame from cache tables
_TABLE_COLUMNS = ("file_size", "hash", "default_revision", "qc", "exists", "rel_path")


class DatasetRecord(NamedTuple):
    """A dataset in a listing. Records are sorted as ONE-api sorts them: by eid and id."""

    eid: str
    #: the dataset's UUID in the database
    id: str
    #: the path below the session's folder, as the database has it
    rel_path: str
    dataset: Dataset
    #: the path in the tree, from the lab on
    place: Place

    @property
    def path_without_revision(self) -> str:
        """The path without the folder of the revision, which is the same for all revisions."""
        collection, name = self.dataset.collection, self.dataset.name
        return f"{collection}/{name}" if collection else name

    def value(self, column: str) -> Any:
        """Return the value in one of the columns of a DataFrame."""
        if column == "file_size":
            return self.dataset.size
        if column == "hash":
            return self.dataset.md5
        if column == "default_revision":
            return self.dataset.default
        if column == "qc":
            return self.dataset.qc
        return self.rel_path if column == "rel_path" else True


def make_record(dataset: Dataset, place: Place) -> DatasetRecord:
    """Return the record of a dataset whose path in the tree is ``place``."""
    return DatasetRecord(dataset.eid, dataset.uuid, rel_path(dataset), dataset, place)


def rel_path(dataset: Dataset) -> str:
    """Return the path of a dataset below its session, as ONE-api has it."""
    revision = f"#{dataset.revision}#" if dataset.revision else ""
    return "/".join(filter(None, (dataset.collection, revision, dataset.name)))


def to_frame(
    records: Sequence[DatasetRecord], *, as_table: bool, keep_eid: bool, name: str = "details"
) -> Any:
    """Return a DataFrame of records, as ONE-api has it, with text ids.

    - ``as_table``: whether columns and types are those of cache tables, not of Alyx's answers.
    - ``keep_eid``: whether the index has eids and ids, not only ids.
    - ``name``: what needs pandas, for the error message.

    Raises MissingLibrary if pandas is not installed.
    """
    pandas = import_pandas(name)
    columns = {
        column: _column(pandas, column, [each.value(column) for each in records], as_table)
        for column in (_TABLE_COLUMNS if as_table else _COLUMNS)
    }
    ids = [each.id for each in records]
    if keep_eid:
        eids = [each.eid for each in records]
        index = pandas.MultiIndex.from_arrays([eids, ids], names=["eid", "id"])
    else:
        index = pandas.Index(ids, name="id", dtype=object)
    return pandas.DataFrame(columns).set_index(index)


def _column(pandas: Any, column: str, values: list[Any], as_table: bool) -> Any:
    if column == "file_size":
        return pandas.array(values, dtype="UInt64")
    if column == "qc":
        return pandas.Categorical(values, categories=list(QC_OUTCOMES), ordered=True)
    if column in ("exists", "default_revision"):
        return pandas.array(values, dtype="bool")
    # texts of cache tables have pandas' own type for texts
    return pandas.Series(values, dtype=None if as_table and values else object)


def to_series(record: DatasetRecord, *, as_table: bool = True) -> Any:
    """Return a pandas Series of a record (see :func:`to_frame`)."""
    frame = to_frame([record], as_table=as_table, keep_eid=True)
    return frame.iloc[0]


def to_bunches(records: Iterable[DatasetRecord]) -> list[dict[str, Any]]:
    """Return the records as dicts whose keys are also attributes."""
    from onefs.one.bunch import Bunch

    return [
        Bunch(
            eid=each.eid,
            id=each.id,
            **{column: each.value(column) for column in _COLUMNS},
            revision=each.dataset.revision,
        )
        for each in records
    ]


def import_pandas(name: str) -> Any:
    """Return the module pandas. Raises MissingLibrary if it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MissingLibrary(
            f'{name} is a table, for which pandas is needed: pip install "onefs[pandas]"'
        ) from error
    return pandas
