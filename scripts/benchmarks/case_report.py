"""The results as JSON, as Markdown and as a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.machine import describe
from scripts.benchmarks.machine import lines as machine_lines
from scripts.benchmarks.plot import draw
from scripts.benchmarks.read_criteria import Criterion, to_json, to_markdown
from scripts.benchmarks.results import TIMES, Case, Results, Spread


@dataclass(frozen=True)
class Page:
    """The texts of a page, without its figures."""

    #: of the subcommand and of the files
    name: str
    title: str
    #: what was done
    how: str
    judge: Callable[[Results], list[Criterion]]


def write(page: Page, results: Results, folder: Path, *, complete: bool) -> None:
    """``NAME.json``, ``NAME.md`` and ``NAME.png`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    loads = [load for case in results.cases.values() for load in case.loads]
    machine = describe(loads)
    judgements = page.judge(results)
    whole = {
        "machine": machine,
        "complete_run": complete,
        "criteria": to_json(judgements),
        "cases": {key: case.to_json() for key, case in results.cases.items()},
    }
    (folder / f"{page.name}.json").write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    text = _markdown(page, results, machine, judgements, complete=complete)
    (folder / f"{page.name}.md").write_text(text, "utf-8")
    draw(results, folder / f"{page.name}.png")


def _markdown(
    page: Page,
    results: Results,
    machine: dict[str, Any],
    judgements: list[Criterion],
    *,
    complete: bool,
) -> str:
    lines = [f"# {page.title}", "", page.how]
    if not complete:
        lines += ["This is no complete run: cases may be of different times.", ""]
    lines += [*machine_lines(machine), f"![The medians]({page.name}.png)", ""]
    lines += to_markdown(judgements)
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
    if case.when:
        lines += ["", f"Measured at {case.when}."]
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
    if case.unit in TIMES and case.baseline in case.values:
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
