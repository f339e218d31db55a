"""What listings and walks are held against: one line for each promise that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scripts.benchmarks.read_criteria import Criterion, at_least, at_most
from scripts.benchmarks.results import Spread

#: rows of a lab's 1,000 sessions: each folder's own listing comes in one request
_LISTINGS = ("the mount", "a lab", "a subject", "a date", "a session")


def judge(results: dict[str, Any]) -> list[Criterion]:
    """Every promise for which there are measurements by now."""
    return [
        *_from_tables(results.get("tables", {})),
        *_first(results.get("first walks", {})),
        *_comparisons(results),
    ]


def _from_tables(found: dict[str, Any]) -> Iterator[Criterion]:
    load, ready = found.get("load"), found.get("ready")
    if load is not None:
        size = f"{load['datasets']:,} datasets from tables"
        yield at_least(f"{size}: rows a second", 50_000, _one(load["rows_a_second"]))
        yield at_most(f"{size}: MB of the process", 400, _one(load["peak_MB"]))
    if ready is not None:
        more = _one(round(ready["big"] - ready["small"], 2))
        yield at_most("Mounting on them, s more than on a small catalogue", 1, more)
    for key, what in (("find", "a full `find`"), ("ls_lR", "`ls -lR` of a lab")):
        if key in found:
            part = "" if found[key]["ended"] else f" (its first {found[key]['lines']:,} lines)"
            text = f"MB of the daemon during {what}{part}, less 300 B an inode"
            yield at_most(text, 150, _one(found[key]["ours_at_most_MB"]))


def _first(walks: dict[str, Any]) -> Iterator[Criterion]:
    for folder in _LISTINGS:
        row = walks.get(f"ls of {folder}")
        if row is not None:
            yield at_most(f"Cold `ls` of {folder}: requests", 1, _one(row["requests"]))
    if "find of a lab" in walks:
        names = [*(f"ls of {folder}" for folder in _LISTINGS[1:]), "find of a lab"]
        asked = sum(walks[name]["requests"] for name in names)
        text = "`find` of a lab of 1,000 sessions of 40 datasets: requests"
        yield at_most(text, 60, _one(asked))
    if walks:
        again = sum(row["requests again"] for row in walks.values())
        yield at_most("All these walks again: requests", 0, _one(again))


def _comparisons(results: dict[str, Any]) -> Iterator[Criterion]:
    for walk, limit in (("ls -lR", 0.5), ("find", 2)):
        ratio = results.get("kernel cold", {}).get(walk, {}).get("ratio")
        if ratio is not None:
            text = f"`{walk}` of 10,000 files, kernel cold, times bindfs's time"
            yield at_most(text, limit, Spread(ratio["median"], ratio["low"], ratio["high"]))


def _one(value: float) -> Spread:
    return Spread(value, value, value)
