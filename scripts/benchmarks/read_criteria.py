"""What the measurements are held against: one line for each promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.benchmarks.results import Case, Results, Spread


@dataclass(frozen=True, slots=True)
class Criterion:
    """One promise, and what was measured."""

    text: str
    #: ``at least 0.9``
    wanted: str
    measured: Spread
    met: bool


def judge(results: Results) -> list[Criterion]:
    """Every promise for which there are measurements. The median counts."""
    found: list[Criterion] = []
    cases = results.cases

    def fast(key: str, baseline: str, limit: float, text: str) -> None:
        case = cases.get(key)
        if case is not None and baseline in case.values:
            found.append(at_least(text, limit, case.speed("onefs", baseline)))

    fast("sequential-plain", "curl", 0.9, "Cold sequential read, times curl's speed")
    fast("sequential-slow", "curl", 3.0, "The same, 20 ms and 50 MB/s a connection")
    for key, network in (("plain", "loopback"), ("slow", "20 ms and 50 MB/s")):
        case = cases.get(f"first-byte-{key}")
        if case is not None:
            text = f"First 64 KiB of a cold large file, {network}, times curl's time"
            found.append(at_most(text, 2.0, case.ratio("onefs")))
    for size, name in (("large", "500 MB"), ("medium", "17 MB")):
        found += _slices(cases, size, name)
    for readers in (1, 8):
        for baseline in ("bindfs", "bindfs multithreaded"):
            text = f"Complete file, cold pages, readers: {readers}; times {baseline}'s speed"
            fast(f"complete-{readers}", baseline, 0.85, text)
    text = "Complete file, warm pages, free memory in one piece, times the native file's speed"
    fast("complete-warm", "native", 0.7, text)
    for key, how, limit in (
        ("small-plain", "listing known", 0.8),
        ("small-plain-listing", "listing included", 0.8),
        ("small-slow", "20 ms and 50 MB/s, listing known", 1.0),
    ):
        text = f"Cold small files, {how}, times the speed of rclone, cache full"
        fast(key, "rclone full", limit, text)
        found += _requests(cases, key, how)
    return found + _opens(cases)


def _opens(cases: dict[str, Case]) -> list[Criterion]:
    found = []
    for key, baseline, limit, names in (
        ("open-dropped", "bindfs", 2.0, "names dropped"),
        ("open-known", "a bare mfusepy loop", 1.6, "names known"),
    ):
        case = cases.get(key)
        if case is not None and baseline in case.values:
            text = f"Open, read and close cached small files, {names}, times the time of {baseline}"
            found.append(at_most(text, limit, case.ratio("onefs", baseline)))
    return found


def _slices(cases: dict[str, Case], size: str, name: str) -> list[Criterion]:
    found = []
    for key, text, limit in (
        (f"slice-{size}", f"MB moved for header and 1 MiB of a cold {name} array, listing", 4.5),
        # 1 MiB that begins anywhere, the kernel's read-ahead after it, and the budget of ours
        (f"second-slice-{size}", f"MB moved for another 1 MiB of the {name} array", 2.15),
    ):
        case = cases.get(key)
        for way in ("fromfile", "memmap"):
            if case is not None and f"onefs, {way}" in case.values:
                found.append(at_most(f"{text} ({way})", limit, case.spread(f"onefs, {way}")))
    return found


def _requests(cases: dict[str, Case], key: str, how: str) -> list[Criterion]:
    case = cases.get(f"{key}-requests")
    if case is None:
        return []
    files = int(case.title.split()[2])
    gets, others = case.spread("onefs, GET"), case.spread("onefs, other than GET")
    text = f"Cold small files, {how}: requests"
    met = gets.low == gets.high == files and others.high == 0
    return [Criterion(text, f"{files} GET, no other", gets, met)]


def at_least(text: str, limit: float, measured: Spread) -> Criterion:
    """More is better."""
    return Criterion(text, f"at least {limit:g}", measured, measured.median >= limit)


def at_most(text: str, limit: float, measured: Spread) -> Criterion:
    """Less is better."""
    return Criterion(text, f"at most {limit:g}", measured, measured.median <= limit)


def to_json(judgements: Sequence[Criterion]) -> list[dict[str, Any]]:
    """All of them as JSON values."""
    return [
        {
            "text": each.text,
            "wanted": each.wanted,
            "measured": each.measured.to_json(),
            "met": each.met,
        }
        for each in judgements
    ]


def to_markdown(judgements: Sequence[Criterion]) -> list[str]:
    """All of them as a table in Markdown."""
    lines = ["## What was promised", ""]
    lines += ["| | wanted | measured (lowest to highest) | |", "|---|---|---|---|"]
    for each in judgements:
        verdict = "met" if each.met else "**missed**"
        lines.append(f"| {each.text} | {each.wanted} | {each.measured} | {verdict} |")
    return lines
