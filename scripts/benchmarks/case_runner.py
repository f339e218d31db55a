"""A benchmark that is made of cases: ``--only`` chooses some of them, and all go to one page."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from scripts.benchmarks import case_report
from scripts.benchmarks.case_report import Page
from scripts.benchmarks.interruption import end_cleanly
from scripts.benchmarks.processes import ROOT, BenchmarkFailed
from scripts.benchmarks.results import Results


class Run(Protocol):
    """The state that the cases of one run share."""

    @property
    def results(self) -> Results: ...


R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class CaseBenchmark(Generic[R]):
    """``scripts/bench NAME``."""

    page: Page
    cases: Mapping[str, Callable[[R], None]]
    #: makes all that the cases share, in an empty folder; True for little of it
    prepare: Callable[[Path, bool], AbstractContextManager[R]]

    def main(self, description: str | None, arguments: list[str]) -> int:
        """The exit code: 1 when a case could not be measured."""
        given = self._parse(description, arguments)
        names = given.only.split(",") if given.only else list(self.cases)
        complete = not given.only and not given.quick
        end_cleanly()
        failed = False
        with (
            tempfile.TemporaryDirectory(prefix="onefs-bench-") as work,
            self.prepare(Path(work), given.quick) as bench,
        ):
            if given.only and not given.quick:
                bench.results.keep(given.out / f"{self.page.name}.json")
            for name in names:
                failed = not self._measure(name, bench) or failed
                case_report.write(self.page, bench.results, given.out, complete=complete)
        return int(failed)

    def _parse(self, description: str | None, arguments: list[str]) -> argparse.Namespace:
        name = f"scripts/bench {self.page.name}"
        parser = argparse.ArgumentParser(prog=name, description=description)
        parser.add_argument("--quick", action="store_true", help="small files, few repetitions")
        parser.add_argument("--only", metavar="CASE,...", help=f"of {', '.join(self.cases)}")
        parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measured")
        given = parser.parse_args(arguments)
        wanted = given.only.split(",") if given.only else []
        unknown = [each for each in wanted if each not in self.cases]
        if unknown:
            parser.error(f"no such case: {', '.join(unknown)}")
        return given

    def _measure(self, name: str, bench: R) -> bool:
        """Measure a case; False if that failed."""
        began = time.monotonic()
        try:
            self.cases[name](bench)
        except (BenchmarkFailed, OSError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            return False
        finally:
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return True
