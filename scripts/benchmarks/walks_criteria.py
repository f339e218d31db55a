"""The criteria of ``scripts/bench walks``: one row for each promise."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.benchmarks.read_criteria import Criterion, at_most
from scripts.benchmarks.results import Results

SMALL_LAB, LARGE_LAB = "the small lab", "the large lab"
BARE = "a bare mfusepy tree"
PLUS = "the same with attributes in its listings"
#: beginning of the names of cases of a first walk
ONCE = "synced"


def judge(results: Results) -> list[Criterion]:
    """Every promise for which there are measurements. The median counts."""
    return list(_judge(results))


def _judge(results: Results) -> Iterator[Criterion]:
    cases = results.cases
    for key, walk in (("find", "`find`"), ("ls", "`ls -lR`")):
        if (case := cases.get(f"growth-{key}")) is not None:
            yield at_most(f"{case.title}: times its time", 4.5, case.ratio(LARGE_LAB))
        for kind, when, limit in (("again", "warm", 1.8), (ONCE, "after sync", 2.2)):
            case = cases.get(f"{kind}-{key}")
            for bare in (BARE, PLUS):
                if case is not None and {"onefs", bare} <= case.values.keys():
                    text = f"{walk} of the largest lab, {when}, times the time of {bare}"
                    yield at_most(text, limit, case.ratio("onefs", bare))
    if (case := cases.get("alyx")) is not None:
        yield at_most(case.title, 1.3, case.spread("onefs"))
