"""The results as JSON, as Markdown and as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.plot import draw
from scripts.benchmarks.read_criteria import (
    Criterion,
    judge,
    to_json,
    to_markdown,
)
from scripts.benchmarks.results import Case, Results, Spread

_HOW = """\
Made by `scripts/bench read`: one machine, one run, the contenders in turn within each repetition.
A ratio is taken within a repetition; what is given is the median, with the lowest and the highest
value. onefs runs as it comes: checksums, verification and the disk cache are on. All read from one
nginx on the loopback; its slow variant is the same behind a proxy that adds 20 ms to each request
and to each new connection, and limits a connection to 50 MB/s. It was run as root: then onefs
widens the read-ahead of its own mount to 384 KiB; the other mounts keep the kernel's 128.
Before each cold read of whole files, what was written is synced, and a file's pages fill the
memory, as on a machine that is long up: a virtual one gives memory that nobody uses back to its
host, and gets it again at a tenth of the speed of writing to it. Before a file is read again from
the kernel's pages, free memory is brought together; the same in memory that is free in single pages
only stands beside it. A disk's pages are had by the megabyte, those of FUSE (of this kernel) one by
one: so the latter costs every FUSE file system a third of its speed.
"""


def write(results: Results, folder: Path, *, complete: bool) -> None:
    """``read.json``, ``read.md`` and ``read.png`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    loads = [load for case in results.cases.values() for load in case.loads]
    machine = describe(loads)
    judgements = judge(results)
    whole = {
        "machine": machine,
        "complete_run": complete,
        "criteria": to_json(judgements),
        "cases": {key: case.to_json() for key, case in results.cases.items()},
    }
    (folder / "read.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    (folder / "read.md").write_text(_markdown(results, machine, judgements), "utf-8")
    draw(results, folder / "read.png")


def _markdown(results: Results, machine: dict[str, Any], judgements: list[Criterion]) -> str:
    lines = ["# Reading, measured", "", _HOW, *machine_lines(machine)]
    lines += ["![Speeds against the baselines](read.png)", "", *to_markdown(judgements)]
    lines += ["", "## All cases", ""]
    for case in results.cases.values():
        lines += [*_case(case), ""]
    return "\n".join(lines)


def _case(case: Case) -> list[str]:
    columns = _columns(case)
    lines = [f"### {case.title}", ""]
    lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in case.values:
        lines.append(f"| {name} | {' | '.join(cell(name) for cell in columns.values())} |")
    lines += [f"\n{name} failed: {why}" for name, why in case.failures.items()]
    if case.loads:
        loads = ", ".join(f"{load:.1f}" for load in case.loads)
        lines += ["", f"Load average before each repetition: {loads}."]
    return lines


def _columns(case: Case) -> dict[str, Callable[[str], str]]:
    """What a case's table says of each contender."""
    columns: dict[str, Callable[[str], str]] = {
        f"{case.unit} (lowest to highest)": lambda name: str(case.spread(name))
    }
    if case.unit == "s" and case.size:
        columns["MB/s"] = lambda name: f"{case.size / 1e6 / case.spread(name).median:.0f}"
    if case.unit == "s" and case.baseline in case.values:
        columns[f"times the speed of {case.baseline}"] = lambda name: (
            "1" if name == case.baseline else str(case.speed(name))
        )
    if case.cpu:
        columns["CPU s of its process"] = lambda name: _spent(case.cpu, name)
        columns["of the machine"] = lambda name: _spent(case.busy, name)
    columns["runs"] = lambda name: str(len(case.values[name]))
    return columns


def _spent(seconds: dict[str, list[float]], name: str) -> str:
    return str(Spread.of(seconds[name])) if name in seconds else ""
