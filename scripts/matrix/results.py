"""Results of the matrix: read from what a row has left, kept in JSON, shown as a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

#: outcomes of a row; NOT_FOUND: this machine has no such Python
PASSED, FAILED, NOT_FINISHED = "passed", "failed", "not finished in time"
NOT_FOUND, NEEDS_ROOT = "not found", "not run: needs root"

_COLUMNS = (
    "row", "outcome", "tests", "system", "python", "libfuse", "kernel",
    "passed", "skipped", "failed", "minutes", "date", "commit",
)  # fmt: skip


@dataclass
class Result:
    """What one row came to. Counts are 0, and versions are empty, if no test was run."""

    row: str
    tests: str
    commit: str
    outcome: str = NOT_FOUND
    minutes: float = 0.0
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))
    system: str = ""
    python: str = ""
    libfuse: str = ""
    kernel: str = ""
    passed: int = 0
    skipped: int = 0
    failed: int = 0
    #: names of the tests that failed
    failures: list[str] = field(default_factory=list)

    def read(self, folder: Path) -> None:
        """Read versions and counts from a row's folder. A row without a passed test has failed."""
        versions, report = folder / "versions.json", folder / "junit.xml"
        if versions.exists():
            vars(self).update(json.loads(versions.read_text()))
        if report.exists():
            self._count(ElementTree.parse(report).iter("testcase"))
        if self.outcome == PASSED and (self.failed or not self.passed):
            self.outcome = FAILED

    def line(self) -> str:
        """Return the result in one line."""
        counts = f"{self.passed} passed, {self.skipped} skipped, {self.failed} failed"
        return f"== {self.row}: {self.outcome}; {counts}; {self.minutes} minutes"

    def _count(self, cases: Iterable[ElementTree.Element]) -> None:
        for case in cases:
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed += 1
                self.failures.append(f"{case.get('classname')}::{case.get('name')}")
            elif case.find("skipped") is not None:
                self.skipped += 1
            else:
                self.passed += 1


def save(results: Iterable[Result], folder: Path) -> None:
    """Write ``matrix.json`` and ``matrix.md``, which keep the rows that are not in ``results``."""
    kept = folder / "matrix.json"
    rows = [Result(**row) for row in json.loads(kept.read_text())] if kept.exists() else []
    by_name = {row.row: row for row in [*rows, *results]}
    # the rows of Pythons come first
    ordered = [by_name[name] for name in sorted(by_name, key=lambda n: (n[:6] != "python", n))]
    kept.write_text(json.dumps([asdict(row) for row in ordered], indent=1) + "\n")
    (folder / "matrix.md").write_text("\n".join(_page(ordered)) + "\n")


def _page(rows: list[Result]) -> Iterator[str]:
    yield "# Systems on which the tests pass"
    yield ""
    yield "Made by `scripts/test --full matrix`: the tests that are not marked `long`, in other"
    yield "environments than that of `scripts/test`. Each row was run on its date, at its commit;"
    yield "`debian13` is Debian 13 in a folder, on this kernel; `scripts/demo` ran first."
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---" * len(_COLUMNS) + "|"
    for row in rows:
        yield f"| {' | '.join(str(getattr(row, column)) for column in _COLUMNS)} |"
    failures = [f"- `{row.row}` failed: `{name}`" for row in rows for name in row.failures]
    if failures:
        yield ""
        yield from failures
