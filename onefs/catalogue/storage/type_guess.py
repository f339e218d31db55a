"""Dataset types guessed from file names, for datasets that are only in cache tables.

The tables have no dataset types. Three sources can give the type of a file name. The first source
that knows a type is used:

1. the datasets with this name that Alyx has listed: the type that most of these datasets have,
2. Alyx's patterns for names (``type_patterns``), if a sync has stored the patterns,
3. the ALF name: the type of ``spikes.times.npy`` and ``_ibl_spikes.times.npy`` is ``spikes.times``.

A guess may be wrong, because Alyx may give a file another type. Therefore a program that shows a
guessed type must say that the type is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from onefs import alf
from onefs.catalogue.storage.database import DatasetConditions
from onefs.catalogue.storage.type_patterns import TypePatterns, candidate_types


class FetchRows(Protocol):
    """A function that reads rows of the catalogue."""

    def __call__(self, statement: str, *values: object) -> list[tuple[Any, ...]]: ...


def path_rows_having(
    having: DatasetConditions,
    paths: Iterable[tuple[int, str]],
    rows: FetchRows,
    patterns: TypePatterns,
) -> list[set[int]]:
    """Return, for each condition in ``having``, the row numbers of the paths that may fulfil it.

    A condition is a column (the file's name or the dataset type) and a value. ``paths`` are the row
    numbers and paths of datasets in the cache tables. ``rows`` reads the catalogue.
    """
    by_name: dict[str, list[int]] = {}
    for row, path in paths:
        by_name.setdefault(path.rpartition("/")[2], []).append(row)
    row_sets = []
    for column, value in having:
        # a path fulfils a condition by its file name, or by the type guessed from it
        names = {value} if column == "name" else _names_of_type(value, by_name, rows, patterns)
        row_sets.append({row for name in names & by_name.keys() for row in by_name[name]})
    return row_sets


def guess_types(names: Iterable[str], rows: FetchRows, patterns: TypePatterns) -> dict[str, str]:
    """Return the likely dataset type of each name, by name.

    The module's docstring describes the three sources of a type. ``rows`` reads the catalogue.
    """
    wanted = sorted(set(names))
    listed = rows(
        "SELECT name, dataset_type FROM datasets WHERE dataset_type != ''"
        " AND name IN (SELECT value FROM json_each(?)) GROUP BY 1, 2 ORDER BY count(*)",
        json.dumps(wanted),
    )
    by_name = {name: patterns.type_of(name) or alf.dataset_type(name) for name in wanted}
    return by_name | {str(name): str(dataset_type) for name, dataset_type in listed}


def _names_of_type(
    dataset_type: str, names: Iterable[str], rows: FetchRows, patterns: TypePatterns
) -> set[str]:
    """Return the file names that datasets of this type are likely to have.

    The names come from the catalogue, and from ``names``.
    """
    listed = rows("SELECT DISTINCT name FROM datasets WHERE dataset_type = ?", dataset_type)
    certain = {str(name) for (name,) in listed}
    likely = [
        name
        for name in names
        if name not in certain and _is_name_of_type(name, dataset_type, patterns)
    ]
    others = rows(
        "SELECT DISTINCT name FROM datasets WHERE name IN (SELECT value FROM json_each(?))",
        json.dumps(likely),
    )
    return certain | (set(likely) - {str(name) for (name,) in others})


def _is_name_of_type(name: str, dataset_type: str, patterns: TypePatterns) -> bool:
    """Whether a file with this name probably has this dataset type."""
    # Alyx's pattern decides; if no pattern matches, the ALF name decides, with or without its
    # namespace
    matched = patterns.type_of(name)
    return dataset_type == matched if matched else dataset_type in candidate_types(name)[:2]
