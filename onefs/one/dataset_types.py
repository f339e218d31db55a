"""Descriptions of dataset types and revisions, and the type of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from onefs import alf
from onefs.access import Access
from onefs.alyx.parsing import Row
from onefs.cache_tables.reader import split_path
from onefs.errors import NotFound, Unreachable, UsageError
from onefs.one.alf_errors import alf_error
from onefs.one.dataset_listing import session_records
from onefs.one.dataset_records import DatasetRecord
from onefs.one.resolver import SessionResolver

#: Alyx's dataset type of files that have no other
_NO_TYPE = "unknown"


def parse_dataset_id(name: object) -> str:
    """Return the UUID of a dataset as text. Return '' if ``name`` is a file name.

    ``name`` is a text, a UUID, or the two integers of 64 bits that old versions of ONE have used
    for a UUID. Raises UsageError for another value.
    """
    if isinstance(name, UUID):
        return str(name)
    if isinstance(name, str):
        text = name.strip().lower()
        return text if alf.is_uuid(text) else ""
    try:
        import numpy as np

        return str(UUID(bytes=np.asarray(name, dtype=np.int64).tobytes()))
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{ascii(name)[:80]} is no dataset: give its UUID or the name of its file"
        ) from error


def find_record(
    access: Access, resolver: SessionResolver, dataset_id: str, *, offline: bool = False
) -> DatasetRecord:
    """Return the record of the dataset with a UUID. With ``offline``, only known ones are found.

    Raises the error ``object_not_found`` if there is none, and ``multiple_objects`` if two datasets
    have this UUID.
    """
    try:
        session = resolver.any_session(access.queries.session_of_dataset(dataset_id))
    except (NotFound, Unreachable) as error:
        if isinstance(error, Unreachable) and not offline:
            raise
        where = " among the known ones" if offline else ""
        raise alf_error("object_not_found", f"there is no dataset {dataset_id}{where}") from error
    found = [each for each in session_records(resolver, session) if each.id == dataset_id]
    if not found:
        raise alf_error("object_not_found", f"the dataset {dataset_id} is on no server")
    if len(found) > 1:
        raise alf_error("multiple_objects", f"{len(found)} datasets have the id {dataset_id}")
    return found[0]


def type_of_dataset(access: Access, resolver: SessionResolver, name: object) -> str:
    """Return the dataset type of a dataset, which is named by its UUID or its file name.

    The type for a file name is the one that most datasets with this name have. Raises UsageError if
    ``name`` is not a dataset, or if its type is not known.
    """
    dataset_id = parse_dataset_id(name)
    if dataset_id:
        record = find_record(access, resolver, dataset_id)
        (dataset,) = access.catalogue.with_types([record.dataset])
        return dataset.dataset_type
    file_name = split_path(str(name)).name
    dataset_type = access.database.guess_types([file_name]).get(file_name, "")
    rows = access.queries.list_table("dataset-types")
    if dataset_type == _NO_TYPE or all(row.get("name") != dataset_type for row in rows):
        raise UsageError(f"{ascii(name)[:80]} is no dataset: no dataset type is known for it")
    return dataset_type


def describe_type(
    rows: Iterable[Row], name: object, access: Access, resolver: SessionResolver
) -> dict[str, Any]:
    """Return the row of a dataset type, which is named by itself or by a dataset.

    Raises NotFound if there is no such type.
    """
    row_by_name = {row.get("name"): row for row in rows}
    if name not in row_by_name:
        name = type_of_dataset(access, resolver, name)
    if name not in row_by_name:
        raise NotFound(f"there is no dataset type {ascii(name)[:80]}")
    return dict(row_by_name[name])
