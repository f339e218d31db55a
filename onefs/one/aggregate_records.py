"""Aggregates, the datasets of no session, as ONE-api's verbs list them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from onefs import alf
from onefs.catalogue.catalogue import Catalogue
from onefs.errors import UsageError
from onefs.one.alf_errors import alf_error
from onefs.one.dataset_filter import DatasetFilter
from onefs.one.dataset_records import DatasetRecord, make_record, to_frame
from onefs.tree.layout import datasets_by_path, session_layout


def aggregate_records(
    catalogue: Catalogue,
    relation: str,
    identifier: str | None,
    selection: DatasetFilter,
    *,
    assert_unique: bool,
) -> list[DatasetRecord]:
    """Return the matching aggregates over a relation, such as ``subjects``, sorted by id.

    ``identifier`` is a regular expression for a part of what follows the relation in the path, such
    as ``mainenlab/clns0730``. With ``assert_unique``, raises Ambiguous if several datasets match.
    Raises UsageError for an invalid argument.
    """
    if not isinstance(relation, str):
        raise UsageError(f"the argument relation is {type(relation).__name__}: give a text")
    try:
        wanted = re.compile("" if identifier is None else identifier)
    except (re.error, TypeError) as error:
        raise UsageError(f"the argument identifier is no regular expression: {error}") from error
    of_relation = [
        each
        for each in catalogue.aggregates().value
        if _relation(each.collection) == relation.casefold()
    ]
    # the whole relation, because two datasets with one path have different names in the tree
    records = [
        make_record(dataset, (alf.AGGREGATES, *path))
        for path, dataset in datasets_by_path(session_layout(of_relation))
        if wanted.search(_identifier(dataset.collection))
    ]
    in_folder = [
        each._replace(rel_path=f"{alf.AGGREGATES}/{each.rel_path}")
        for each in sorted(records, key=attrgetter("id"))
    ]
    return selection.unique(in_folder) if assert_unique else selection.latest(in_folder)


def require_one(records: Sequence[DatasetRecord], relation: str, identifier: str) -> DatasetRecord:
    """Return the only record. Raises the error ``object_not_found`` if there is none."""
    if not records:
        raise alf_error(
            "object_not_found", f"there is no such aggregate of {relation}/{identifier}"
        )
    return records[0]


def to_aggregates_frame(records: Sequence[DatasetRecord]) -> Any:
    """Return a DataFrame of aggregates. Raises MissingLibrary if pandas is not installed."""
    frame = to_frame(records, as_table=False, keep_eid=False, name="list_aggregates")
    collections = [each.dataset.collection for each in records]
    frame["relation"] = list(map(_relation, collections))
    frame["identifier"] = list(map(_identifier, collections))
    frame["revision"] = [each.dataset.revision for each in records]
    return frame


def _relation(collection: str) -> str:
    return collection.partition("/")[0].casefold()


def _identifier(collection: str) -> str:
    return collection.partition("/")[2]
