"""The criteria of ``scripts/bench jobs``: one row for each promise."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scripts.benchmarks.contenders import RCLONE_MODES
from scripts.benchmarks.copies import CURL_MD5, GET
from scripts.benchmarks.programs import MOVED, READ
from scripts.benchmarks.read_criteria import Criterion, at_least, at_most
from scripts.benchmarks.results import Case, Results

#: MB of a MiB, which may be moved beside what is read
_MIB = 1.048576
#: what is moved beside what the program reads, as a factor
_SURPLUS = 1.25
#: of programs that read less than a block
_LEAST = {"head -c 10": 0.5 * _MIB}


def judge(results: Results) -> list[Criterion]:
    """Every promise for which there are measurements. The median counts."""
    return [*_copies(results.cases), *_programs(results.cases), *_downloads(results.cases)]


def _copies(cases: dict[str, Case]) -> Iterator[Criterion]:
    far = cases.get("copy-far")
    for mode in RCLONE_MODES:
        if far is not None and f"rclone {mode}" in far.values:
            text = f"`cp -r` of a cold session, 100 ms, times the speed of rclone, cache {mode}"
            yield at_least(text, 3, far.speed("onefs", f"rclone {mode}"))
    sparse = cases.get("sparse")
    if sparse is not None:
        yield at_most(sparse.title, 1.02, sparse.spread("onefs"))


def _programs(cases: dict[str, Case]) -> Iterator[Criterion]:
    for key, case in cases.items():
        if key.startswith("program-") and MOVED in case.values:
            name = case.title.partition(" (of ")[0]
            read = case.spread(READ).median
            limit = _LEAST.get(name, _SURPLUS * read + _MIB)
            text = f"MB moved by {name}, which reads {read:.3g} MB"
            yield at_most(text, math.ceil(limit * 1000) / 1000, case.spread(MOVED))


def _downloads(cases: dict[str, Case]) -> Iterator[Criterion]:
    for key, baseline, limit in (
        ("get-large", "curl, then md5sum", 1.15),
        ("get-small", CURL_MD5, 1.3),
    ):
        case = cases.get(key)
        if case is not None:
            text = f"`onefs get`: {case.title}, times the time of {baseline}"
            yield at_most(text, limit, case.ratio(GET, baseline))
