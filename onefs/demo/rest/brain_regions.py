"""The tree of brain regions, and the sessions and probes that were recorded in a region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onefs.demo.rest import query_values
from onefs.demo.rest.database import DemoDatabase, Row
from onefs.demo.rest.errors import failure
from onefs.integers import parse_whole_number

#: the filters that select regions by number or text
FILTERS = ("atlas_acronym", "atlas_name", "atlas_id")
#: the id of the region above the root. Queries for ancestors or descendants do not return it
VOID = 0
#: the provenance of the trajectories whose channels are used
_ALIGNED = "Ephys aligned histology track"


def insertions_in(db: DemoDatabase, name: str, value: str) -> frozenset[str]:
    """Return the ids of the inserted probes that recorded in the regions that a filter selects.

    ``name`` is the filter, such as ``atlas_acronym``. ``value`` is the filter's text. Regions
    inside the selected regions are included. Raises ApiError for a value that Alyx refuses.
    """
    keys = _below(db, _named(db, name, value))
    if not keys:
        return frozenset()
    probes = {
        row["id"]: row.get("probe_insertion")
        for row in db.table("trajectories")
        if row.get("provenance") == _ALIGNED
    }
    recorded = (
        probes.get(row.get("trajectory_estimate"))
        for row in db.table("channels")
        if row.get("brain_region") in keys
    )
    return frozenset(probe for probe in recorded if probe is not None)


def sessions_in(db: DemoDatabase, name: str, value: str) -> frozenset[str]:
    """Return the eids of the sessions whose probes :func:`insertions_in` returns."""
    insertions = (db.row("insertions", probe) or {} for probe in insertions_in(db, name, value))
    return frozenset(str(row.get("session")) for row in insertions)


def descendants(db: DemoDatabase, text: str) -> frozenset[int]:
    """Return the ids of a region, given by id or acronym, and of all regions below it."""
    return _below(db, [_one(db, text)["id"]])


def ancestors(db: DemoDatabase, text: str) -> frozenset[int]:
    """Return the ids of a region, given by id or acronym, and of all regions above it."""
    parents = {row["id"]: row.get("parent") for row in db.table("brain-regions")}
    keys = []
    above = _one(db, text)["id"]
    while above is not None and above not in keys:
        keys.append(above)
        above = parents.get(above)
    return frozenset(keys)


def _one(db: DemoDatabase, text: str) -> Row:
    number = parse_whole_number(text)
    column, value = ("acronym", text) if number is None else ("id", number)
    for row in db.table("brain-regions"):
        if row[column] == value:
            return row
    raise failure("BrainRegion matching query does not exist.")


def _named(db: DemoDatabase, name: str, value: str) -> list[int]:
    """Return the ids of the regions that a filter selects, without the regions below them.

    ``name`` is the filter, such as ``atlas_acronym``. ``value`` is the filter's text.
    """
    rows = db.table("brain-regions")
    if name == "atlas_id":
        wanted = query_values.number(name, value)
        return [row["id"] for row in rows if row["id"] == wanted]
    text = query_values.text(name, value).casefold()
    if name == "atlas_acronym":
        return [row["id"] for row in rows if row["acronym"].casefold() == text]
    return [row["id"] for row in rows if text in row["name"].casefold()]


def _below(db: DemoDatabase, named: Iterable[int]) -> frozenset[int]:
    """Return the ids ``named`` and the ids of all regions below these regions."""
    parents: Mapping[int, int | None] = {
        row["id"]: row.get("parent") for row in db.table("brain-regions")
    }
    keys = set(named)
    size = -1
    while len(keys) > size:
        size = len(keys)
        keys |= {each for each, parent in parents.items() if parent in keys}
    return frozenset(keys)
