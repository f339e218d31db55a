"""Which paths of the cache tables are of a dataset that is searched for.

The tables have no dataset types. What the catalogue has learnt of a name wherever Alyx listed it
goes first; then Alyx's patterns for names, where a sync or a list of the types has brought them
(``type_patterns``); of other names ALF's own form tells the type: ``spikes.times.npy`` and
``_ibl_spikes.times.npy`` are ``spikes.times``. A type that is told by a name may be wrong, since
Alyx may give files another, so what shows the types has to say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from onefs import alf
from onefs.catalogue.storage.database import DatasetConditions
from onefs.catalogue.storage.type_patterns import TypePatterns, candidate_types


class FetchRows(Protocol):
    """Reads rows of the catalogue."""

    def __call__(self, statement: str, *values: object) -> list[tuple[Any, ...]]: ...


def path_rows_having(
    having: DatasetConditions,
    paths: Iterable[tuple[int, str]],
    rows: FetchRows,
    patterns: TypePatterns,
) -> list[set[int]]:
    """For each of ``having``, the rows of the paths (of the tables) that it may be."""
    by_name: dict[str, list[int]] = {}
    for row, path in paths:
        by_name.setdefault(path.rpartition("/")[2], []).append(row)
    found = []
    for column, value in having:
        names = {value} if column == "name" else _names_of_type(value, by_name, rows, patterns)
        found.append({row for name in names & by_name.keys() for row in by_name[name]})
    return found


def guess_types(names: Iterable[str], rows: FetchRows, patterns: TypePatterns) -> dict[str, str]:
    """The type that files of each name likely have: what Alyx said of most files of that name."""
    wanted = sorted(set(names))
    said = rows(
        "SELECT name, dataset_type FROM datasets WHERE dataset_type != ''"
        " AND name IN (SELECT value FROM json_each(?)) GROUP BY 1, 2 ORDER BY count(*)",
        json.dumps(wanted),
    )
    by_name = {name: patterns.type_of(name) or alf.dataset_type(name) for name in wanted}
    return by_name | {str(name): str(dataset_type) for name, dataset_type in said}


def _names_of_type(
    dataset_type: str, names: Iterable[str], rows: FetchRows, patterns: TypePatterns
) -> set[str]:
    """The names that files of a type have, as far as can be told."""
    sure = rows("SELECT DISTINCT name FROM datasets WHERE dataset_type = ?", dataset_type)
    found = {str(name) for (name,) in sure}
    likely = [
        name
        for name in names
        if name not in found and _is_name_of_type(name, dataset_type, patterns)
    ]
    others = rows(
        "SELECT DISTINCT name FROM datasets WHERE name IN (SELECT value FROM json_each(?))",
        json.dumps(likely),
    )
    return found | (set(likely) - {str(name) for (name,) in others})


def _is_name_of_type(name: str, dataset_type: str, patterns: TypePatterns) -> bool:
    """Whether a name is of a type by Alyx's patterns, else by ALF's form, with its namespace or
    without."""
    told = patterns.type_of(name)
    return dataset_type == told if told else dataset_type in candidate_types(name)[:2]
